"""What the segmentation networks share: heads, deep supervision, and loading weights without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from math import prod
from typing import Any, ClassVar

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from custom_networks.attention.non_local import NonLocal
from custom_networks.blocks.mbtfe import Mbtfe
from custom_networks.blocks.resize import resize
from custom_networks.blocks.tokens.eva_transformer import EvaTransformer
from custom_networks.blocks.vision_transformer import VisionTransformer
from custom_networks.checks import per_level

# channels of the finest and of the widest level of a network on a GPU, as in nnU-Net
NARROWEST, WIDEST = 32, 320
# what takes in the whole input, beside norms without running statistics
GLOBAL = (NonLocal, Mbtfe, VisionTransformer, EvaTransformer, nn.GroupNorm)


class Segmenter(nn.Module):
    r"""Base of a network whose decoder gives one map per level, the finest on the input grid.

    In training with deep supervision the logits are :math:`(B, L, \mathrm{out\_channels}, *S)`, one entry per decoder
    level, the finest first, each resized to the input grid; otherwise those of the finest level alone.

    Args:
        in_channels: channels of the image.
        strides: down-sampling per axis of each step; ``size_divisor`` is their product.
        deep_supervision: whether the coarser decoder levels have heads.
    """

    least_voxels: ClassVar[int] = 4
    """Voxels per axis of a patch that the deepest network leaves on its coarsest grid."""
    fewest_steps: ClassVar[int] = 2
    """Steps that the network has in any case; those for which there are too few voxels halve nothing."""
    most_steps: ClassVar[int | None] = None
    """Steps of the deepest network, or ``None`` for as many as the patch allows."""

    def __init__(self, in_channels: int, strides: Sequence[tuple[int, ...]], deep_supervision: bool) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.deep_supervision = deep_supervision
        self.size_divisor = tuple(prod(steps) for steps in zip(*strides, strict=True))

    @classmethod
    def _argument(cls, arguments: Mapping[str, Any], name: str) -> Any:
        """Return an argument of the constructor, or its default."""
        return arguments.get(name, signature(cls).parameters[name].default)

    @classmethod
    def steps_of(cls, arguments: Mapping[str, Any], spatial_dims: int) -> list[tuple[int, ...]]:
        """Return the down-sampling per axis of each step, from the image on.

        Args:
            arguments: arguments of the constructor; one that is missing has its default.
            spatial_dims: 2 or 3.
        """
        levels = len(cls._argument(arguments, "features"))
        return per_level(cls._argument(arguments, "strides"), levels - 1, spatial_dims, "strides")

    @classmethod
    def step_arguments(
        cls, strides: Sequence[Sequence[int]], kernel_size: Sequence[Sequence[int]]
    ) -> dict[str, list[Any]]:
        """Return the arguments of the constructor for given steps.

        Args:
            strides: down-sampling per axis of each step.
            kernel_size: kernel per axis before each step and after the last.
        """
        return {"strides": [list(step) for step in strides], "kernel_size": [list(kernel) for kernel in kernel_size]}

    @classmethod
    def scaled_arguments(cls, steps: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the constructor for a network of full width that halves its input so many times.

        The width doubles with every step, from 32 channels to 320.

        Args:
            steps: how many times, 2 or more.
            arguments: arguments of the constructor; one that is missing has its default.

        Example:
            >>> from custom_networks.nets import AttentionUnet
            >>> AttentionUnet.scaled_arguments(4, {})
            {'features': [32, 64, 128, 256, 320], 'strides': [2, 2, 2, 2]}
        """
        return {"features": doubling(steps + 1), "strides": [2] * steps}

    @classmethod
    def patch_arguments(cls, patch_size: Sequence[int], arguments: Mapping[str, Any]) -> dict[str, list[int]]:
        """Return the arguments of the constructor that follow from the training patch.

        That is ``token_grid`` where the constructor takes one, the coarsest grid of the patch.

        Args:
            patch_size: voxels of the training patch per axis.
            arguments: arguments of the constructor; one that is missing has its default.

        Example:
            >>> from custom_networks.nets import AttentionUnet, Primus, TransUnet
            >>> TransUnet.patch_arguments((40, 56, 40), {"features": [16, 32, 64, 128], "strides": 2})
            {'token_grid': [5, 7, 5]}
            >>> Primus.patch_arguments((44, 56, 40), {})
            {'token_grid': [6, 7, 5]}
            >>> AttentionUnet.patch_arguments((40, 56, 40), {})
            {}
        """
        if "token_grid" not in signature(cls).parameters:
            return {}
        divisor = map(prod, zip(*cls.steps_of(arguments, len(patch_size)), strict=True))
        return {"token_grid": [-(-n // part) for n, part in zip(patch_size, divisor, strict=True)]}

    def coarsest_grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the voxels per axis of the coarsest grid that the network computes on.

        Args:
            size: voxels of the input per axis, divisible by ``size_divisor``.

        Example:
            >>> from custom_networks.nets import AttentionUnet
            >>> AttentionUnet(3, 1, 2, features=(4, 8, 16)).coarsest_grid((40, 56, 8))
            (10, 14, 2)
        """
        return tuple(n // part for n, part in zip(size, self.size_divisor, strict=True))

    def is_local(self) -> bool:
        """Return whether, in eval mode, the logits of a voxel depend on what is near it only, wherever it lies.

        A larger window then changes the logits near the borders of windows alone. Instance and group norms, whose
        statistics are those of the window, already make a network another one.

        Example:
            >>> from custom_networks.nets import AttentionUnet
            >>> AttentionUnet(3, attention=("gate",), norm="batch").is_local(), AttentionUnet(3).is_local()
            (True, False)
        """
        return not any(
            isinstance(module, GLOBAL) or getattr(module, "track_running_stats", True) is False
            for module in self.modules()
        )

    def add_heads(self, spatial_dims: int, features: Sequence[int], out_channels: int, kernel_size: int = 1) -> None:
        """Build the heads, the auxiliary ones only with deep supervision, and draw the weights of MONAI convolutions.

        Weights before a norm have no scale of their own: their size at the start decides only how far a step of the
        optimiser turns them. Those of every MONAI ``Convolution`` are drawn as by He et al. (2015), 2.4 times larger
        than torch does by default; the heads and all other convolutions keep what their own module drew.

        Args:
            spatial_dims: 2 or 3.
            features: channels of the decoder's maps, finest first.
            out_channels: number of classes.
            kernel_size: kernel of the finest head, odd; the auxiliary ones are pointwise.
        """
        conv = Conv[Conv.CONV, spatial_dims]
        self.head = conv(features[0], out_channels, kernel_size, padding=kernel_size // 2)
        self.add_auxiliary_heads(spatial_dims, features[:0:-1], out_channels)
        for module in self.modules():
            if isinstance(module, Convolution):
                nn.init.kaiming_normal_(module.conv.weight, mode="fan_in", nonlinearity="relu")

    def add_auxiliary_heads(self, spatial_dims: int, features: Sequence[int], out_channels: int) -> None:
        """Build the pointwise heads of the coarser levels, only with deep supervision.

        Args:
            spatial_dims: 2 or 3.
            features: channels of the decoder's maps but the finest, coarsest first.
            out_channels: number of classes.
        """
        conv = Conv[Conv.CONV, spatial_dims]
        self.auxiliary_heads = nn.ModuleList(
            conv(width, out_channels, 1) for width in features if self.deep_supervision
        )
        self.register_load_state_dict_pre_hook(_drop_auxiliary_heads)

    def logits(self, outputs: list[Tensor]) -> Tensor:
        """Return the logits, see the class.

        Args:
            outputs: the decoder's maps, the coarsest first, the last on the input grid.
        """
        return self.supervised(self.head(outputs[-1]), outputs)

    def supervised(self, logits: Tensor, outputs: list[Tensor]) -> Tensor:
        """Return the logits, in training with deep supervision with those of the coarser levels.

        Args:
            logits: those of the input grid.
            outputs: the decoder's maps, the coarsest first, of which each auxiliary head takes one.
        """
        if self.training and self.deep_supervision:
            stacked: list[Tensor] = []
            for i, head in enumerate(self.auxiliary_heads):
                stacked.append(resize(head(outputs[i]), list(logits.shape[2:])))
            stacked.append(logits)
            return torch.stack(stacked[::-1], dim=1)
        return logits


def doubling(levels: int) -> list[int]:
    """Return channels that double from 32 to 320 at most.

    Args:
        levels: how many.

    Example:
        >>> doubling(5)
        [32, 64, 128, 256, 320]
    """
    return [min(WIDEST, NARROWEST * 2**level) for level in range(levels)]


def _drop_auxiliary_heads(module: Segmenter, state_dict: dict, prefix: str, *_: object) -> None:
    """Let a net built without deep supervision load a checkpoint trained with it."""
    if not module.deep_supervision:
        for key in [k for k in state_dict if k.startswith(f"{prefix}auxiliary_heads.")]:
            del state_dict[key]

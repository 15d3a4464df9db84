"""Patch classifier with a plug-in attention after its convolutions (DiscriNet, made right)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Pool
from monai.networks.layers.utils import get_act_layer
from torch import Tensor, nn

from custom_networks.blocks.residual_attention import ResidualAttention
from custom_networks.checks import check_input, check_spatial_dims, per_level
from custom_networks.registry import build_attention

_STAGES = 2
_POOL = 2
# voxels per axis that the convolutions leave of the smallest patch
_LEAST = 2


class AttentionClassifier(nn.Module):
    r"""Classify a patch: two stages of two convolutions, an attention module, the mean over the voxels, two layers.

    .. math:: \mathrm{logits} = W_2\,\mathrm{act}\bigl(\mathrm{dropout}(W_1\,\overline{y})\bigr), \qquad
              y = t + \gamma\,\mathrm{attention}(t), \quad t = \mathrm{conv}_2^2(\mathrm{pool}(\mathrm{conv}_1^2(x)))

    with ``conv`` = convolution without padding, norm, activation, and the mean of y over its voxels::

        x (B, C, 28, 28, 28) -> 2 x conv 5x5x3 -> (B, f0, 20, 20, 24) -> max pool 2 -> (B, f0, 10, 10, 12)
                             -> 2 x conv 3x3x3 -> (B, f1, 6, 6, 8) -> attention -> mean -> (B, f1) -> hidden -> classes

    Differs from the source (DiscriNet): its head is tied to one patch size by flattening 128 x 4 x 4 x 4 values, which
    holds 81 % of its parameters and mixes the samples of a batch for any other size; here the head sees the mean over
    the voxels. The public network with attention throws the attention's result away and creates the module anew in
    every forward pass; here it is a registered residual branch. Biases before a norm are left out.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the patch.
        out_channels: number of classes.
        features: channels of the two stages.
        hidden_channels: width of the hidden layer of the head; ``None`` takes four times ``features[1]``.
        kernel_size: kernels of the convolutions, one integer for both stages, or one entry per stage (an integer, or
            one per axis); ``None`` takes 5x5x3 and 3x3x3.
        attention_module: name in :data:`custom_networks.registry.ATTENTION`, or ``None`` for the identity.
        attention_module_arguments: arguments of its class besides ``spatial_dims`` and ``in_channels``.
        act: MONAI activation.
        norm: MONAI norm of the convolutions.
        dropout: probability of dropping a value of the hidden layer.

    Shape:
        ``(B, in_channels, *S)`` to logits ``(B, out_channels)``. Every axis of ``S`` must be at least ``min_size``, 20
        voxels (16 along the last axis in 3D) for the default kernels. Any batch size, one included.

    Raises:
        ValueError: if an argument does not fit, or a patch is smaller than the convolutions need.

    Example:
        >>> net = AttentionClassifier(3, 1, 2, features=(8, 16), attention_module="cbam")
        >>> net(torch.zeros(1, 1, 28, 28, 28)).shape
        torch.Size([1, 2])

    Cost:
        With k0, k1 taps per kernel and an affine norm: ``k0(C f0 + f0^2) + 4f0 + k1(f0 f1 + f1^2) + 4f1`` for the
        convolutions, ``(f1+1)h + (h+1) out_channels`` for the head, and those of the attention and one for gamma.

    References:
        The public code of DiscriNet, which names no paper. M. Lin, Q. Chen, S. Yan, "Network In Network", ICLR 2014,
        arXiv:1312.4400 (the mean over the voxels before the head).
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 2,
        *,
        features: Sequence[int] = (64, 128),
        hidden_channels: int | None = None,
        kernel_size: int | Sequence[int | Sequence[int]] | None = None,
        attention_module: str | None = None,
        attention_module_arguments: Mapping[str, Any] | None = None,
        act: str | tuple = ("leakyrelu", {"negative_slope": 0.01}),
        norm: str | tuple = "batch",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        if len(features) != _STAGES:
            raise ValueError(
                f"features must have one entry for each of the {_STAGES} stages, got {tuple(features)}; use for "
                "example (64, 128)"
            )
        if kernel_size is None:
            kernel_size = ((5, 5, 3)[:spatial_dims], 3)
        first, second = per_level(kernel_size, _STAGES, spatial_dims, "kernel_size")
        hidden = 4 * features[1] if hidden_channels is None else hidden_channels

        def convolution(channels: int, out: int, kernel: Sequence[int]) -> Convolution:
            return Convolution(
                spatial_dims, channels, out, kernel_size=kernel, padding=0, act=act, norm=norm, bias=False
            )

        self.in_channels = in_channels
        # Two unpadded convolutions take 2(k - 1) voxels, the pooling halves, and two voxels must remain per axis.
        self.min_size = tuple(2 * (k0 - 1) + _POOL * 2 * k1 for k0, k1 in zip(first, second, strict=True))
        self.trunk = nn.Sequential(
            convolution(in_channels, features[0], first),
            convolution(features[0], features[0], first),
            Pool[Pool.MAX, spatial_dims](_POOL),
            convolution(features[0], features[1], second),
            convolution(features[1], features[1], second),
        )
        self.attention: nn.Module = nn.Identity()
        if attention_module is not None:
            branch = build_attention(attention_module, spatial_dims, features[1], attention_module_arguments or {})
            self.attention = ResidualAttention(branch)
        self.head = nn.Sequential(
            nn.Linear(features[1], hidden), nn.Dropout(dropout), get_act_layer(act), nn.Linear(hidden, out_channels)
        )
        for module in (*self.trunk.modules(), *self.head.modules()):
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    @classmethod
    def scaled_arguments(cls) -> dict[str, Any]:
        """Return the arguments of the constructor for a network of full width, which are the defaults of its stages.

        Example:
            >>> AttentionClassifier.scaled_arguments()
            {'features': [64, 128]}
        """
        return {"features": list(signature(cls).parameters["features"].default)}

    def _check_size(self, x: Tensor) -> None:
        check_input(x, self.in_channels, (1,) * len(self.min_size))
        size = tuple(int(s) for s in x.shape[2:])
        if any(s < m for s, m in zip(size, self.min_size, strict=True)):
            padded = tuple(max(s, m) for s, m in zip(size, self.min_size, strict=True))
            raise ValueError(f"spatial shape {size} must be at least {self.min_size}; pad to {padded}")

    def coarsest_grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the voxels per axis of the map that the attention gets.

        Args:
            size: voxels of the patch per axis, at least ``min_size``.

        Example:
            >>> AttentionClassifier(3, 1, 2, features=(8, 16)).coarsest_grid((28, 28, 28))
            (6, 6, 8)
        """
        return tuple(_LEAST + (n - least) // _POOL for n, least in zip(size, self.min_size, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, out_channels)``.

        Args:
            x: patches ``(B, in_channels, *S)``.
        """
        if not torch.jit.is_scripting() and not torch.compiler.is_compiling():
            self._check_size(x)
        return self.head(self.attention(self.trunk(x)).flatten(2).mean(-1))

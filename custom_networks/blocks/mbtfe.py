"""Multi-branch, multi-scale feature extraction (MBTFE)."""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Norm
from monai.networks.layers.utils import get_act_layer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from custom_networks.checks import check_spatial_dims

# Kernels of the branches' convolutions: receptive fields of 1, 3, 5 and 7 voxels.
BRANCHES = ((1,), (3,), (3, 3), (3, 3, 3))


class Mbtfe(nn.Module):
    r"""Four branches of growing receptive field, weighted by a softmax over the branches.

    .. math:: y = \sum_{k=1}^{4} w_k\, b_k(x), \qquad
              w = \mathrm{softmax}_4\Bigl(F_2\,\phi\bigl(F_1\,\mathrm{GAP}\textstyle\sum_k b_k(x)\bigr)\Bigr)

    with one weight per branch and sample, global average pooling GAP, linear :math:`F_1` (C to C/2) and :math:`F_2`
    (C/2 to 4), and :math:`\phi` the identity by default::

        x -+- 1 ------------- b1 (B, C, *S) -+
           +- 3 ------------- b2             +-> sum -> GAP -> F1 -> phi -> F2 -> softmax -> w (B, 4)
           +- 3 -> 3 -------- b3             +-> times w, sum -> y (B, C, *S)
           +- 3 -> 3 -> 3 --- b4            -+

    where each number is a convolution with that kernel on every axis, a norm and a PReLU with one slope per channel.

    Differs from the original: instance norm instead of batch norm, and no biases before it. The softmax runs over the
    four branches, as in the second version of the public code; the first took it over the channels, and its product
    weighted columns of the image where their number was that of the batch.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels C of the branches and the output, at least 2; ``None`` takes ``in_channels``.
        norm: MONAI norm.
        selector_act: MONAI activation :math:`\phi`, or ``None`` for the identity.
        checkpointing: in training, keep only the input for the backward pass and compute the branches again there.

    Shape:
        ``(B, in_channels, *S)`` to ``(B, C, *S)``, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, C is below 2, or ``checkpointing`` is asked for with batch norm,
            whose running statistics the second computation would update again.

    Example:
        >>> Mbtfe(3, 8)(torch.zeros(1, 8, 5, 4, 6)).shape
        torch.Size([1, 8, 5, 4, 6])

    Cost:
        Parameters with k = 3^spatial_dims and an affine norm: ``(1 + 3k) C_in C + 3k C^2 + 7 (3C)`` for the branches,
        ``(C + 1) C/2 + 4 (C/2 + 1)`` for the weights. Memory for the backward pass: about 22 maps, 1 with
        ``checkpointing`` at the price of a second forward pass.

    References:
        No paper is known; the block is known from public nnU-Net encoders. The selection of branches is that of X. Li
        et al., "Selective Kernel Networks", CVPR 2019, arXiv:1903.06586.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int | None = None,
        *,
        norm: str | tuple = ("instance", {"affine": True}),
        selector_act: str | tuple | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        width = in_channels if out_channels is None else out_channels
        if width < 2:
            name = "in_channels" if out_channels is None else "out_channels"
            raise ValueError(f"{name} must be at least 2, got {width}; use for example 8")
        self.branches = nn.ModuleList(
            nn.Sequential(
                *(
                    Convolution(
                        spatial_dims,
                        width if i else in_channels,
                        width,
                        kernel_size=kernel,
                        act=("prelu", {"num_parameters": width}),
                        norm=norm,
                        bias=False,
                    )
                    for i, kernel in enumerate(kernels)
                )
            )
            for kernels in BRANCHES
        )
        if checkpointing and any(isinstance(m, Norm[Norm.BATCH, spatial_dims]) for m in self.modules()):
            raise ValueError(
                "checkpointing must be off with batch norm, got True: the second forward pass would update the running "
                "statistics again; use instance norm or checkpointing=False"
            )
        self.checkpointing = checkpointing
        self.selector = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.Identity() if selector_act is None else get_act_layer(selector_act),
            nn.Linear(width // 2, len(BRANCHES)),
        )

    def fuse(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class, without checkpointing.

        Args:
            x: ``(B, in_channels, *S)``.
        """
        maps: list[Tensor] = []
        for branch in self.branches:
            maps.append(branch(x))
        pooled = maps[0].flatten(2).mean(-1)
        for branch_map in maps[1:]:
            pooled = pooled + branch_map.flatten(2).mean(-1)
        weights = self.selector(pooled).softmax(1).to(maps[0].dtype)
        column = [x.shape[0]] + [1] * (x.dim() - 1)
        y = weights[:, 0].view(column) * maps[0]
        for k in range(1, len(maps)):
            y = y + weights[:, k].view(column) * maps[k]
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, in_channels, *S)``.
        """
        if not torch.jit.is_scripting() and self.checkpointing and self.training:
            return checkpoint(self.fuse, x, use_reentrant=False)
        return self.fuse(x)

"""External attention: attention to a learned memory (Guo et al. 2021)."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from custom_networks.checks import check_spatial_dims


class ExternalAttention(nn.Module):
    r"""Give every voxel a mixture of S learned values, weights normalised over the voxels and then over the values.

    .. math:: y_n = M_v\, a_n, \qquad a_{ns} = \frac{p_{ns}}{\sum_{s'} p_{ns'}}, \qquad p = \mathrm{softmax}_n(M_k x_n)

    where n runs over voxels and s over the S slots of the memory::

        x (B, C, N) -> M_k -> (B, S, N) -> softmax over voxels, then divided by the sum over slots -> M_v -> y (B, C, N)

    The two norms are computed as one softmax over slots of the logits less their logsumexp over voxels, which cannot
    divide zero by zero.

    Differs from the paper: None. (The paper's network wraps the map in convolutions and a residual connection; that is
    left to the caller.) The values start with unit variance; started with a deviation of 1e-3, as in the implementation
    that the reference outputs come from, every voxel would get nearly the same, nearly zero, output.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        memory_size: slots S of the memory, at least 1.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3 or ``memory_size`` is below 1.

    Example:
        >>> ExternalAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``2CS``. Time 2·N·C·S with N voxels; extra memory 3S/C maps of the size of the input, the output not
        counted.

    References:
        M.-H. Guo, Z.-N. Liu, T.-J. Mu, S.-M. Hu, "Beyond Self-attention: External Attention using Two Linear Layers for
        Visual Tasks", IEEE TPAMI 2023, arXiv:2105.02358. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch.
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, memory_size: int = 64) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        if memory_size < 1:
            raise ValueError(f"memory_size must be at least 1, got {memory_size}; use for example 64")
        conv = Conv[Conv.CONV, spatial_dims]
        self.keys = conv(in_channels, memory_size, 1, bias=False)
        self.values = conv(memory_size, in_channels, 1, bias=False)
        nn.init.normal_(self.keys.weight, std=in_channels**-0.5)
        nn.init.normal_(self.values.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return self.values(self.attention_map(x))

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the weights of the slots ``(B, S, *spatial)``, which sum to one over the slots.

        Args:
            x: ``(B, C, *spatial)``.
        """
        logits = self.keys(x).flatten(2)
        weights = torch.softmax(logits - logits.logsumexp(2, keepdim=True), dim=1)
        return weights.unflatten(2, x.shape[2:])

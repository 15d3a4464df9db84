"""Double attention of A2-Nets: gather global features, then hand them out to the voxels (Chen et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_networks.checks import check_reduction, check_spatial_dims


class DoubleAttention(nn.Module):
    r"""Gather K global descriptors by attention over the voxels and give every voxel a mixture of them.

    .. math:: y_n = W_o \sum_k g_k\,\mathrm{softmax}_k(W_v x_n), \qquad
              g_k = \sum_n W_a x_n\,\mathrm{softmax}_n(W_b x_n)_k

    where n runs over voxels and k over the K descriptors of M channels each. The matrices have biases, which the
    formula leaves out. The weights of either mixture sum to one, so :math:`W_a` is applied to the gathered voxels and
    :math:`W_o` to the descriptors; the result is that of the formula::

        x (B, C, N) -+- W_b, softmax over voxels -> (B, K, N) -+
                     +-----------------------------------------+- * -> (B, C, K) -> W_a, W_o -> (B, C, K) -+
                     +- W_v, softmax over descriptors -> (B, K, N) ----------------------------------------+- * -> y

    Differs from the paper: None. (The paper adds the input to y in its networks; that is left to the caller.)

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        reduction: M = max(1, C // reduction), the width of a descriptor.
        key_reduction: K = max(1, C // key_reduction), the number of descriptors; ``None`` takes ``reduction``.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3 or a reduction is below 1.

    Example:
        >>> DoubleAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``(C+1)M + CK + (C+1)K + (M+1)C``. Time 4·N·C·K with N voxels; extra memory at most 4K/C maps of the
        size of the input, the output not counted.

    References:
        Y. Chen, Y. Kalantidis, J. Li, S. Yan, J. Feng, "A²-Nets: Double Attention Networks", NeurIPS 2018,
        arXiv:1810.11579. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch. That version takes both softmaxes over the batch.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, *, reduction: int = 4, key_reduction: int | None = None
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        features = check_reduction(in_channels, reduction)
        descriptors = (
            features if key_reduction is None else check_reduction(in_channels, key_reduction, "key_reduction")
        )
        self.values = nn.Linear(in_channels, features)
        self.gather = nn.Linear(in_channels, descriptors, bias=False)  # a bias would cancel in the softmax
        self.distribute = nn.Linear(in_channels, descriptors)
        self.out = nn.Linear(features, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        voxels = x.flatten(2)
        gathered = torch.matmul(self._gather(voxels), voxels.transpose(1, 2))
        descriptors = self.out(self.values(gathered)).transpose(1, 2)
        logits = torch.matmul(self.distribute.weight, voxels) + self.distribute.bias.unsqueeze(1)
        return torch.matmul(descriptors, torch.softmax(logits, dim=1)).unflatten(2, x.shape[2:])

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the weights of the descriptors ``(B, K, *spatial)``; each of the K maps sums to one over the voxels.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return self._gather(x.flatten(2)).unflatten(2, x.shape[2:])

    def _gather(self, voxels: Tensor) -> Tensor:
        """Return ``(B, K, N)``."""
        return torch.softmax(torch.matmul(self.gather.weight, voxels), dim=2)

"""Separable self-attention of MobileViT v2: attention to a single query (Mehta and Rastegari 2022)."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from custom_networks.checks import check_spatial_dims


class SeparableSelfAttention(nn.Module):
    r"""Multiply the values of every voxel by one context vector, a weighted mean of the keys over all voxels.

    .. math:: y_n = W_o\bigl(c \odot \mathrm{ReLU}(W_v x_n)\bigr), \qquad
              c = \sum_n \mathrm{softmax}_n(W_i x_n)\, W_k x_n

    where n runs over voxels and :math:`W_i` gives one number per voxel. The matrices have biases, which the formula
    leaves out. The weights sum to one, so :math:`W_k` is applied to the mean and not to the voxels; the result is that
    of the formula::

        x (B, C, *S) -+- W_i, softmax over voxels -> (B, 1, N) -+
                      +-----------------------------------------+- * -> (B, C) -> W_k -> c (B, C) -+
                      +- W_v, ReLU -> (B, C, *S) --------------------------------------------------+- * -> W_o -> y

    Differs from the paper: None. (The paper applies it to the voxels at the same place in every patch; here the whole
    map is one sequence.)

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3.

    Example:
        >>> SeparableSelfAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``3(C² + C) + C``. Time 2·N·C² with N voxels; extra memory is two maps of the size of the input, the
        output not counted.

    References:
        S. Mehta, M. Rastegari, "Separable Self-attention for Mobile Vision Transformers", TMLR 2023, arXiv:2206.02680.
        Reference outputs: https://github.com/xmu-xiaoma666/External-Attention-pytorch. That version lacks the ReLU.
    """

    def __init__(self, spatial_dims: int, in_channels: int) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        conv = Conv[Conv.CONV, spatial_dims]
        self.query = nn.Linear(in_channels, 1, bias=False)  # a bias would cancel in the softmax
        self.key = nn.Linear(in_channels, in_channels)
        self.value = conv(in_channels, in_channels, 1)
        self.act = nn.ReLU()
        self.out = conv(in_channels, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        voxels = x.flatten(2)
        mean = torch.matmul(voxels, self._weights(voxels).transpose(1, 2)).squeeze(2)
        context = self.key(mean).reshape([x.shape[0], x.shape[1]] + [1] * (x.dim() - 2))
        return self.out(context * self.act(self.value(x)))

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the weights of the voxels in the context ``(B, 1, *spatial)``, which sum to one.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return self._weights(x.flatten(2)).unflatten(2, x.shape[2:])

    def _weights(self, voxels: Tensor) -> Tensor:
        """Return ``(B, 1, N)``."""
        return torch.softmax(torch.matmul(self.query.weight, voxels), dim=2)

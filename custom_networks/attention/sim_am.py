"""SimAM: a gate per voxel and channel without parameters (Yang et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_networks.checks import check_spatial_dims


class SimAm(nn.Module):
    r"""Scale every value by a gate that grows with its distance from the mean of its channel.

    .. math:: y = \sigma(1 / e) \odot x, \qquad
              \frac{1}{e} = \frac{(x - \mu)^2}{4\,(\sigma^2 + \lambda)} + \frac12

    with the mean :math:`\mu` and the variance :math:`\sigma^2` of each channel over its N voxels. The energy e is the
    least loss of a linear classifier that tells one voxel from the others of its channel, so 1/e is its saliency.

    Differs from the paper: None. The variance divides by N - 1 as in the paper's listing (its text divides by N), and
    by 1 where there is a single voxel.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input; any number will do, as there are no parameters.
        energy_lambda: λ, positive; it matters where the variance is not much larger (the authors took 1e-4 for
            CIFAR and 0.1 for ImageNet).

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, or ``energy_lambda`` is not positive.

    Example:
        >>> SimAm(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters 0. Time NC; extra memory two maps of the input's size.

    References:
        L. Yang, R.-Y. Zhang, L. Li, X. Xie, "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural
        Networks", ICML 2021, PMLR 139; https://github.com/ZjjConan/SimAM. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch.
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, energy_lambda: float = 1e-4) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        if energy_lambda <= 0:
            raise ValueError(f"energy_lambda must be positive, got {energy_lambda}; use for example 1e-4")
        self.energy_lambda = energy_lambda

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        return x * self.attention_map(x)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the gate ``(B, C, *spatial)``, at least sigmoid(1/2) and at most 1.

        Args:
            x: ``(B, C, *spatial)``.
        """
        voxels = x.flatten(2)
        if x.dtype != torch.float64:
            voxels = voxels.float()  # in half precision the squares overflow
        n = voxels.shape[2]
        squares = (voxels - voxels.mean(2, keepdim=True)).square()
        variance = squares.sum(2, keepdim=True) / (n - 1 + 1 // n)  # n - 1, but 1 for one voxel, without a branch
        gate = torch.sigmoid(squares / (4 * (variance + self.energy_lambda)) + 0.5)
        return gate.reshape(x.shape).to(x.dtype)

"""Polarized self-attention: a channel gate and a voxel gate, each at full resolution (Liu et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_networks.checks import check_reduction, check_spatial_dims

MODES = ("parallel", "sequential")


class PolarizedSelfAttention(nn.Module):
    r"""Scale the input by a gate over channels and a gate over voxels, side by side or one after the other.

    .. math:: g_c = \sigma\Bigl(\mathrm{LN}\bigl(W_z \sum_n p_n W_v x_n\bigr)\Bigr),\quad
              p = \mathrm{softmax}_n(W_q x_n) \qquad
              g_s(n) = \sigma(q^\top U_v x_n),\quad q = \mathrm{softmax}_r(U_q \bar x)

    where n runs over voxels, r over the R channels of :math:`U_q` and :math:`\bar x` is the mean over all voxels. The
    matrices have biases, which the formula leaves out. In parallel :math:`y = (g_c + g_s) \odot x`; in sequence
    :math:`y = g_s \odot z` with :math:`z = g_c \odot x`, the voxel gate computed from z::

        x (B, C, *S) -+- W_q, softmax over voxels -> (B, 1, N) -+
                      +-----------------------------------------+- * -> (B, C) -> W_v, W_z, LN, sigmoid -> (B, C, 1...)
        x or z -------+- mean, U_q, softmax -> (B, R) -> * U_v -> (B, C) -+
                      +---------------------------------------------------+- * -> sigmoid -> (B, 1, *S)

    The weights of a mean sum to one, so the matrices are applied to the means and not to the voxels; the result is that
    of the formula.

    Differs from the paper: None. (The authors' code takes the softmax of the voxel gate over voxels, and its channel
    gate has no layer norm in parallel, a narrow hidden layer with layer norm and ReLU in sequence.)

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        mode: ``"parallel"`` or ``"sequential"``.
        reduction: R = max(1, C // reduction).

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, ``mode`` is none of the two or ``reduction`` is below 1.

    Example:
        >>> PolarizedSelfAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``C + 3(C+1)R + (R+1)C + 2C``. Time O(N·C + C·R) with N voxels; extra memory is one map of the
        size of the input (two in sequence).

    References:
        H. Liu, F. Liu, X. Fan, D. Huang, "Polarized Self-Attention: Towards High-quality Pixel-wise Regression", 2021,
        arXiv:2107.00782; https://github.com/DeLightCMU/PSA. Reference outputs:
        https://github.com/xmu-xiaoma666/External-Attention-pytorch.
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, mode: str = "parallel", reduction: int = 2) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {mode!r}; use 'parallel'")
        features = check_reduction(in_channels, reduction)
        self.parallel = mode == "parallel"
        self.channel_query = nn.Linear(in_channels, 1, bias=False)  # a bias would cancel in the softmax
        self.channel_value = nn.Linear(in_channels, features)
        self.channel_out = nn.Linear(features, in_channels)
        self.channel_norm = nn.LayerNorm(in_channels)
        self.spatial_query = nn.Linear(in_channels, features)
        self.spatial_value = nn.Linear(in_channels, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        gate = self._channel_gate(x)
        if self.parallel:
            return x * (gate + self._spatial_gate(x))
        x = x * gate
        return x * self._spatial_gate(x)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return ``(B, C, *spatial)``, by which the input is multiplied.

        The sum of the gates in parallel, between 0 and 2; their product in sequence, between 0 and 1.

        Args:
            x: ``(B, C, *spatial)``.
        """
        gate = self._channel_gate(x)
        return gate + self._spatial_gate(x) if self.parallel else gate * self._spatial_gate(x * gate)

    def _channel_gate(self, x: Tensor) -> Tensor:
        """Return ``(B, C, 1, ...)``."""
        voxels = x.flatten(2)
        weights = torch.softmax(torch.matmul(self.channel_query.weight, voxels), dim=2)
        mean = torch.matmul(voxels, weights.transpose(1, 2)).squeeze(2)
        gate = torch.sigmoid(self.channel_norm(self.channel_out(self.channel_value(mean))))
        return gate.reshape([x.shape[0], x.shape[1]] + [1] * (x.dim() - 2))

    def _spatial_gate(self, x: Tensor) -> Tensor:
        """Return ``(B, 1, *spatial)``."""
        voxels = x.flatten(2)
        query = torch.softmax(self.spatial_query(voxels.mean(2)), dim=1)
        direction = torch.matmul(query, self.spatial_value.weight)
        offset = torch.matmul(query, self.spatial_value.bias)
        logits = torch.matmul(direction.unsqueeze(1), voxels) + offset.reshape(-1, 1, 1)
        return torch.sigmoid(logits).unflatten(2, x.shape[2:])

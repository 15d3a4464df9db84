"""Attention without softmax, linear in the number of voxels (UFO-ViT, Song 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_networks.checks import check_heads, check_spatial_dims


class UfoAttention(nn.Module):
    r"""Read, with every voxel's query, a small matrix that sums keys times values over all voxels.

    .. math:: y_i = W_o\,\mathrm{concat}_h\bigl[X_h(S_h)^\top X_h(q_{hi})\bigr] + b_o, \qquad
              S_h = \frac{1}{\sqrt N}\sum_j k_{hj} v_{hj}^\top, \qquad
              X_h(a) = \frac{\gamma_h\,a}{\sqrt{\lVert a \rVert^2 + \varepsilon}}

    where X_h acts on a query and on each column of the matrix S_h, so that a number in the brackets is
    :math:`\gamma_h^2` times the cosine of the query and a column; H heads of width d, N voxels::

        x (B, C, *S) -+- query -> (B, H, N, d), X -----------------+
                      +- key ---> (B, H, N, d) -+                  |
                      +- value -> (B, H, N, d) -+- S (B, H, d, d), X -+-> (B, N, H d), output -> y (B, C, *S)

    Differs from the paper: eps keeps an input of zeros finite (0 / 0 without it), and the sum over the voxels is
    divided by the root of their number, which the norm cancels, so that half precision does not overflow. Gamma, one
    per head, starts at 1. (The implementation that the reference outputs come from divides the rows of S by their
    lengths; its products are no cosines. That columns are meant was read in a summary of the paper's formula, not in
    the paper itself.)

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        num_heads: number H of heads; divides C unless ``head_channels`` is given.
        head_channels: width d of a head; ``None`` takes C / H.
        eps: added to the squared lengths, at least 0.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, ``num_heads`` does not divide C (or is below 1),
            ``head_channels`` is below 1, or ``eps`` is negative.

    Example:
        >>> UfoAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``3(C+1)Hd + (Hd+1)C + H``. Time 2·N·H·d²; memory O(N), as there is no map of voxels by voxels: it is
        sensible on any grid that holds the features.

    References:
        J.-G. Song, "UFO-ViT: High Performance Linear Vision Transformer without Softmax", 2021, arXiv:2109.14382.
        Reference outputs: https://github.com/xmu-xiaoma666/External-Attention-pytorch.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        num_heads: int = 4,
        head_channels: int | None = None,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        if eps < 0:
            raise ValueError(f"eps must be at least 0, got {eps}; use for example 1e-6")
        self.heads = check_heads(in_channels, num_heads, head_channels)
        self.eps = eps
        inner_channels = self.heads[0] * self.heads[1]
        self.query = nn.Linear(in_channels, inner_channels)
        self.key = nn.Linear(in_channels, inner_channels)
        self.value = nn.Linear(in_channels, inner_channels)
        self.output = nn.Linear(inner_channels, in_channels)
        self.gamma = nn.Parameter(torch.ones(num_heads))

    def _split(self, tokens: Tensor) -> Tensor:
        """Return ``(B, N, H d)`` as ``(B, H, N, d)``."""
        return tokens.unflatten(2, self.heads).transpose(1, 2)

    def _normalise(self, a: Tensor, axis: int) -> Tensor:
        """Return ``X_h`` of ``a (B, H, rows, columns)``, a vector of which lies along ``axis``."""
        # The result does not depend on size, which keeps the squares in the range of half precision.
        size = a.detach().abs().amax(axis, keepdim=True).clamp(min=1.0)
        a = a / size
        length = torch.sqrt(a.pow(2).sum(axis, keepdim=True) + self.eps / size / size)
        return a * self.gamma.reshape(-1, 1, 1) / length

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        tokens = x.flatten(2).transpose(1, 2)
        keys, values = self._split(self.key(tokens)), self._split(self.value(tokens))
        summary = (keys * keys.shape[2] ** -0.5).transpose(2, 3) @ values
        y = self._normalise(self._split(self.query(tokens)), -1) @ self._normalise(summary, -2)
        y = self.output(y.transpose(1, 2).flatten(2))
        return y.transpose(1, 2).contiguous().unflatten(2, list(x.shape[2:]))

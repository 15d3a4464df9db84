"""Criss-cross attention along the axes through each voxel (CCNet, Huang et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from custom_networks.checks import check_reduction, check_spatial_dims


class CrissCrossAttention(nn.Module):
    r"""Add to every voxel a weighted mean over the voxels that share all its coordinates but one, several times.

    .. math:: x^{(r+1)}_i = x^{(r)}_i + \sum_{j \in P_i} \mathrm{softmax}_{j \in P_i}\bigl(q_i^\top k_j\bigr)\, v_j,
              \qquad y = x^{(R)}

    where :math:`P_i` is the union of the lines through voxel i along each axis, D + H + W - 2 voxels in 3D, itself
    counted once; queries, keys and values come from :math:`x^{(r)}` and the logits are *not* divided by the square
    root of their width. All R steps share their weights. One pass, with L the sum of the axes' lengths::

        x (B, C, *S) -+- query -> (B, *S, K) -+
                      +- key ---> (B, *S, K) -+- along each axis, softmax over all -> (B, *S, L) -+
                      +- value -> (B, *S, C) -----------------------------------------------------+-> + x

    In 2D two steps bring every pair of voxels together, in 3D three.

    Differs from the paper: there is no gamma, which the released code multiplies the sum by and starts at zero; the
    paper's formula has none, and where the module is inserted has its own. A volume has three lines per voxel (the
    journal version has a 3D form for videos; the authors' code for it counts the voxel itself twice, not once).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        reduction: K = max(1, C // reduction), the width of queries and keys.
        recurrence: number R of steps; the paper uses 2.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, or ``reduction`` or ``recurrence`` is below 1.

    Example:
        >>> CrissCrossAttention(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``(2C+1)K + (C+1)C``. Per step time N·L·(K+C) with N voxels, and in training N·L stored weights: 12
        MiB at 32x32x32, 192 MiB at 64x64x64, up to which it is sensible. ``attention_map`` stores R·N·L values.

    References:
        Z. Huang et al., "CCNet: Criss-Cross Attention for Semantic Segmentation", ICCV 2019, arXiv:1811.11721; TPAMI
        2023, doi:10.1109/TPAMI.2020.3007032; https://github.com/speedinghzl/CCNet.
    """

    def __init__(self, spatial_dims: int, in_channels: int, *, reduction: int = 8, recurrence: int = 2) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        if recurrence < 1:
            raise ValueError(f"recurrence must be at least 1, got {recurrence}; use for example 2")
        key_channels = check_reduction(in_channels, reduction)
        self.recurrence = recurrence
        self.query = nn.Linear(in_channels, key_channels)
        self.key = nn.Linear(in_channels, key_channels, bias=False)  # a bias would cancel in the softmax
        self.value = nn.Linear(in_channels, in_channels)

    def _weights(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the weights along each axis and their sum ``(B, *S, 1)`` of ``x (B, *S, C)``.

        The weights along an axis of length L are ``(B, *S, L)`` with that axis and the last spatial axis exchanged,
        and not yet divided by the sum, so that no other form of them is stored in training.
        """
        queries, keys = self.query(x), self.key(x)
        logits: list[Tensor] = []
        largest = torch.full_like(queries[..., :1], float("-inf")).detach()  # it cancels
        for axis in range(1, x.dim() - 1):
            line = queries.transpose(axis, -2) @ keys.transpose(axis, -2).transpose(-2, -1)
            if axis > 1:  # the voxel itself counts on the first axis only
                position = torch.arange(x.shape[axis], device=x.device)
                line = line.masked_fill(position.unsqueeze(0) == position.unsqueeze(1), float("-inf"))
            logits.append(line)
            largest = torch.maximum(largest, line.detach().amax(-1, keepdim=True).transpose(axis, -2))
        weights: list[Tensor] = []
        total = torch.zeros_like(largest)
        for i, line in enumerate(logits):
            weights.append(torch.exp(line - largest.transpose(i + 1, -2)))
            total = total + weights[i].sum(-1, keepdim=True).transpose(i + 1, -2)
        return weights, total

    def _step(self, x: Tensor, weights: list[Tensor], total: Tensor) -> Tensor:
        """Return ``x (B, *S, C)`` plus the weighted mean of the values."""
        values = self.value(x)
        mean = torch.zeros_like(values)
        for i, line in enumerate(weights):
            mean = mean + (line @ values.transpose(i + 1, -2)).transpose(i + 1, -2)
        return x + mean / total

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        y = x.movedim(1, -1)
        for _ in range(self.recurrence):
            weights, total = self._weights(y)
            y = self._step(y, weights, total)
        return y.movedim(-1, 1).contiguous()

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the softmax of every step ``(B, R, *S, L)``; L runs along the first axis, then the second, and so on.

        Args:
            x: ``(B, C, *spatial)``.
        """
        y = x.movedim(1, -1)
        maps: list[Tensor] = []
        for _ in range(self.recurrence):
            weights, total = self._weights(y)
            lines = [line.transpose(i + 1, -2) for i, line in enumerate(weights)]
            maps.append(torch.cat(lines, dim=-1) / total)
            y = self._step(y, weights, total)
        return torch.stack(maps, dim=1)

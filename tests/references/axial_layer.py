"""The gated axial layer as its formula reads, map by map: what the layer of the package is measured against."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DirectAxialAttention(nn.Module):
    """Attention along one axis of a volume, gated behind instance norms, with every map of logits in memory.

    The layout is that of the released code: an einsum for each part of the logits, one norm over the three of them
    stacked, their sum, a softmax, an einsum for each part of the output. The state is that of the layer of the package
    and, beside it, the shifts of the norm of the logits.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, *, axis: int, position_length: int = 64, num_heads: int = 8
    ) -> None:
        super().__init__()
        assert spatial_dims == 3
        self.axis = axis
        self.num_heads = num_heads
        width = in_channels // num_heads
        self.widths = [width // 2, width // 2, width]
        self.projection = nn.Conv3d(in_channels, 2 * in_channels, 1, bias=False)
        self.projection_norm = nn.ModuleDict({"norm": nn.InstanceNorm3d(2 * in_channels, affine=True)})
        self.logit_norm = nn.InstanceNorm3d(3 * num_heads, affine=True)
        self.output_norm = nn.ModuleDict({"norm": nn.InstanceNorm3d(2 * in_channels, affine=True)})
        self.table = nn.Parameter(torch.randn(2 * position_length - 1, 2 * width) * width**-0.5)
        self.gates = nn.Parameter(torch.tensor([0.1, 0.1, 1.0, 0.1]))

    def forward(self, x: Tensor) -> Tensor:
        lines = self.projection_norm["norm"](self.projection(x)).movedim(2 + self.axis, -1)
        heads = lines.flatten(2, -2).unflatten(1, (self.num_heads, -1))  # (B, g, 4c, M, L)
        query, key, value = heads.split(self.widths, dim=2)
        position = torch.arange(x.shape[2 + self.axis], device=x.device)
        reach = len(self.table) // 2
        relative = self.table[(position[:, None] - position).clamp(-reach, reach) + reach]
        query_table, key_table, value_table = relative.split(self.widths, dim=-1)
        parts = [
            torch.einsum("bgcmi,bgcmj->bgmij", query, key),
            torch.einsum("bgcmi,ijc->bgmij", query, query_table),
            torch.einsum("bgcmj,jic->bgmij", key, key_table),
        ]
        content, by_query, by_key = self.logit_norm(torch.cat(parts, dim=1)).chunk(3, dim=1)
        weights = torch.softmax(content + self.gates[0] * by_query + self.gates[1] * by_key, dim=-1)
        values = torch.einsum("bgmij,bgcmj->bgcmi", weights, value)
        positions = torch.einsum("bgmij,ijc->bgcmi", weights, value_table)
        y = torch.cat([part.flatten(1, 2) for part in (values, positions)], dim=1)
        y = y.unflatten(2, lines.shape[2:-1]).movedim(-1, 2 + self.axis)
        values, positions = self.output_norm["norm"](y).chunk(2, dim=1)
        return self.gates[2] * values + self.gates[3] * positions

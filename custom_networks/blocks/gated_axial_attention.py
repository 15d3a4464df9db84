"""Gated axial attention with relative positions, along one axis (Valanarasu et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from custom_networks.blocks.axial_norm import INSTANCE, axial_norm
from custom_networks.blocks.logit_norm import LogitNorm
from custom_networks.checks import check_spatial_dims, per_axis

FORMS = ("gated", "released", "ungated", "position_free")
INITIAL_GATES = (0.1, 0.1, 1.0, 0.1)  # of query, key, value and position, as released
# The fused kernels of CUDA put the rows, lines times heads, on a grid axis that ends here.
MAX_ROWS = 65535


class MeanPool(nn.Module):
    """Average pooling by strides, windows at the far border cut: ``(B, C, *S)`` to ``(B, C, *ceil(S / strides))``.

    Args:
        spatial_dims: 2 or 3.
        strides: one integer, or one per axis.

    Example:
        >>> MeanPool(2, (1, 2))(torch.zeros(1, 4, 5, 5)).shape
        torch.Size([1, 4, 5, 3])
    """

    def __init__(self, spatial_dims: int, strides: int | Sequence[int]) -> None:
        super().__init__()
        self.strides = list(per_axis(strides, spatial_dims, "strides"))
        self.shrinks = max(self.strides) > 1

    def forward(self, x: Tensor) -> Tensor:
        """Return the means.

        Args:
            x: ``(B, C, *S)``.
        """
        if not self.shrinks:
            return x
        if x.dim() == 4:
            return F.avg_pool2d(x, self.strides, ceil_mode=True)
        return F.avg_pool3d(x, self.strides, ceil_mode=True)


class GatedAxialAttention(nn.Module):
    r"""Attend along one axis with learned relative positions of queries, keys and values, each weighed by a gate.

    For every head and every line of L voxels along the axis, with tables R of vectors per relative distance:

    .. math:: \ell_{ij} &= \mathrm{norm}(q_i^\top k_j) + f_q\,\mathrm{norm}(q_i^\top R^q_{i-j})
                         + f_k\,\mathrm{norm}(k_j^\top R^k_{j-i}), \qquad P = \mathrm{softmax}_j(\ell) \\
              y_i &= f_v\,\mathrm{norm}\Bigl(\sum_j P_{ij} v_j\Bigr)
                   + f_r\,\mathrm{norm}\Bigl(\sum_j P_{ij} R^v_{i-j}\Bigr)

    The norms of the logits have one scale per head, see :class:`~custom_networks.blocks.logit_norm.LogitNorm`; there is
    no factor :math:`1/\sqrt d`. With g heads, c = C' / 2g features of queries and keys, M lines in every sample::

        x (B, C, *S) -> projection 1x1x1, norm (B, 2C', *S) -> lines: q, k (B M, g, L, c), v (B M, g, L, 2c)
        -> softmax (B M, g, L, L), a few lines at a time -> value and position parts (B, 2C', *S), norm
        -> gates, sum -> mean pooling -> (B, C', *ceil(S / strides))

    ``form`` is one of

    - "gated": as above;
    - "released": as the published code, the gates before the norms, :math:`\mathrm{norm}(f_q\,q_i^\top R^q_{i-j})`.
      A norm takes a factor out again: in training these gates act through the :math:`\epsilon` of the norms alone;
    - "ungated": all gates one;
    - "position_free": no tables, :math:`y_i = \mathrm{norm}(\sum_j P_{ij} v_j)`, by a fused kernel.

    A relative distance beyond the tables takes their last entry, so that any L will do; a shorter line reads their
    middle.

    Differs from the paper: the gates stand behind the norms, where they can act; instance norm by default; any length;
    the shift of the norm of the logits, which no softmax sees, is left out; a line of one voxel, which has nothing to
    attend to, is only pooled if C = C', and the parameters have gradients of zero (the published code would add the
    norms' shifts). "released", norm "batch" and lines of the length of the tables give the published code. Its logits'
    statistics come from c by c matrices, one tensor of logits stands for its seven, and the peak does not grow with the
    number of lines; all of this is exact.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        out_channels: channels C' of the output, even; ``None`` takes C.
        axis: spatial axis to attend along, 0 the first.
        position_length: length K of the lines that the tables are made for, in voxels; distances of K and more read the
            entry of K - 1.
        num_heads: heads; where they do not divide C' / 2, the largest number g that divides both.
        strides: pooling of the output, one integer, or one per axis.
        form: "gated", "released", "ungated" or "position_free".
        norm: MONAI norm, batch with running statistics or instance without.
        max_logits: logits computed at a time, which bounds the temporary memory: 4 bytes each, three times. A traced
            graph (compiled or exported) computes all of them at once.
        checkpointing: in training, compute the softmax a second time in the backward pass instead of storing it.

    Shape:
        ``(B, C, *S)`` to ``(B, C', *ceil(S / strides))``, any size.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> GatedAxialAttention(3, 16, axis=1, strides=(1, 2, 2))(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 3, 3])

    Cost:
        Parameters ``2CC' + 4C'`` for the projection and its norm, ``4C'`` and ``3g`` for the other norms if affine,
        ``(2K - 1) 2C'/g`` for the tables, 4 gates unless "ungated"; position-free ``2CC' + 4C' + 2C' + g``. With N
        voxels, the time is 5·N·L·C' for the maps; a training step stores one map, N·L·g values (192 MiB for a head at
        64x64x64), with ``checkpointing`` none.

    References:
        J. M. J. Valanarasu et al., "Medical Transformer: Gated Axial-Attention for Medical Image Segmentation", MICCAI
        2021, arXiv:2102.10662; H. Wang et al., "Axial-DeepLab", ECCV 2020, arXiv:2003.07853. Reference outputs:
        https://github.com/jeya-maria-jose/Medical-Transformer, ``AxialAttention``, ``AxialAttention_dynamic`` and
        ``AxialAttention_wopos``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int | None = None,
        *,
        axis: int,
        position_length: int = 64,
        num_heads: int = 8,
        strides: int | Sequence[int] = 1,
        form: str = "gated",
        norm: str | tuple = INSTANCE,
        max_logits: int = 2**22,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        out_channels = in_channels if out_channels is None else out_channels
        if out_channels < 2 or out_channels % 2:
            even = 2 * max(1, -(-out_channels // 2))
            raise ValueError(f"out_channels must be even and positive, got {out_channels}; use for example {even}")
        if not 0 <= axis < spatial_dims:
            raise ValueError(f"axis must lie between 0 and {spatial_dims - 1}, got {axis}; count the spatial axes only")
        if form not in FORMS:
            raise ValueError(f"form must be one of {FORMS}, got {form!r}; choose one")
        for name, value in {
            "position_length": position_length,
            "num_heads": num_heads,
            "max_logits": max_logits,
        }.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}; use for example 8")
        self.axis = axis
        self.keeps_channels = in_channels == out_channels
        self.num_heads = gcd(num_heads, out_channels // 2)
        width = out_channels // self.num_heads
        self.widths = [width // 2, width // 2, width]
        self.released = form == "released"
        self.max_logits = max_logits
        self.max_rows = MAX_ROWS
        self.checkpointing = checkpointing
        positions = form != "position_free"
        self.projection = Conv[Conv.CONV, spatial_dims](in_channels, 2 * out_channels, 1, bias=False)
        nn.init.normal_(self.projection.weight, std=in_channels**-0.5)
        self.projection_norm = axial_norm(norm, spatial_dims, 2 * out_channels)
        self.logit_norm = LogitNorm(self.num_heads, positions=positions, norm=norm)
        self.output_norm = axial_norm(norm, spatial_dims, 2 * out_channels if positions else out_channels)
        table = torch.randn(2 * position_length - 1, 2 * width) * width**-0.5
        self.table: nn.Parameter | None
        self.gates: nn.Parameter | None
        self.register_parameter("table", nn.Parameter(table) if positions else None)
        gates = torch.tensor(INITIAL_GATES)
        self.register_parameter("gates", nn.Parameter(gates) if form in ("gated", "released") else None)
        self.pool = MeanPool(spatial_dims, strides)

    def _relative(self, length: int) -> Tensor | None:
        """Return the tables at the distance i - j, ``(L, L, 4c)``."""
        table = self.table
        if table is None:
            return None
        position = torch.arange(length, device=table.device)
        reach = table.shape[0] // 2
        return F.embedding((position[:, None] - position).clamp(-reach, reach) + reach, table)

    def _operands(self, tokens: Tensor, relative: Tensor | None) -> Tensor:
        """Return what ``_attend`` takes, scaled queries, keys and values, ``(N, L, width)``.

        Args:
            tokens: queries, keys and values ``(B, lines, g, L, 4c)``.
            relative: see ``_relative``.
        """
        samples, lines = tokens.shape[:2]
        rows = tokens.flatten(0, 2).split(self.widths, dim=-1)
        query_table: Tensor | None = None
        key_table: Tensor | None = None
        if relative is not None:
            query_table, key_table, _ = relative.split(self.widths, dim=-1)
        every_gate = self.gates
        gates: Tensor | None = None
        if every_gate is not None:
            gates = every_gate[:2]
        inside = gates if self.released else None
        scale = self.logit_norm(rows[0], rows[1], query_table, key_table, inside, samples, lines)
        if gates is not None and not self.released:
            scale = torch.cat([scale[:, :1], scale[:, 1:] * gates[:, None]], dim=1)
        scale = scale[:, None, :, :, None, None]
        queries, keys, values = tokens.split(self.widths, dim=-1)
        if relative is None:
            missing = [0, self.widths[0]]
            parts = [F.pad(queries * scale[:, :, 0], missing), F.pad(keys, missing), values]
        else:
            parts = [queries * scale[:, :, 0], queries * scale[:, :, 1], keys, keys * scale[:, :, 2], values]
        return torch.cat(parts, dim=-1).flatten(0, 2)

    def _attend(self, operands: Tensor, relative: Tensor | None) -> Tensor:
        """Return the sums of the values and, beside them, those of the positions: ``(n, L, 2c)`` or ``(n, L, 4c)``.

        Args:
            operands: some rows of what ``_operands`` returns.
            relative: see ``_relative``.
        """
        if relative is None:  # queries, keys and values of one width, which the fused kernels require
            query, key, value = operands[:, None].chunk(3, dim=-1)
            return F.scaled_dot_product_attention(query, key, value, scale=1.0).squeeze(1)
        width = self.widths[0]
        query, position_query, key, position_key, value = operands.split(
            [width, width, width, width, 2 * width], dim=-1
        )
        query_table, key_table, value_table = relative.split(self.widths, dim=-1)
        logits = torch.bmm(query, key.transpose(1, 2))
        logits += torch.bmm(position_query.transpose(0, 1), query_table.transpose(1, 2)).transpose(0, 1)
        logits += torch.bmm(position_key.transpose(0, 1), key_table.transpose(1, 2)).permute(1, 2, 0)
        weights = torch.softmax(logits, dim=-1)
        positions = torch.bmm(weights.transpose(0, 1), value_table).transpose(0, 1)
        return torch.cat([torch.bmm(weights, value), positions], dim=-1)

    def _attend_in_parts(self, operands: Tensor, relative: Tensor | None) -> Tensor:
        """Return ``_attend`` of all rows, ``max_logits`` logits at a time."""
        length = operands.shape[1]
        rows = max(1, min(self.max_rows, self.max_logits // (length * length)))
        outputs: list[Tensor] = []
        for part in operands.split(rows):  # no slices: MONAI takes those of a tensor with metadata for samples
            if not torch.jit.is_scripting() and self.checkpointing and self.training and relative is not None:
                outputs.append(recompute(self._attend, part, relative, use_reentrant=False, preserve_rng_state=False))
            else:
                outputs.append(self._attend(part, relative))
        return torch.cat(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *S)``.
        """
        axis = self.axis + 2
        if x.shape[axis] == 1 and self.keeps_channels:
            if not torch.jit.is_scripting() and self.training:
                # distributed training waits for a gradient of every parameter: here they are zero
                x = x + 0 * torch.stack([parameter.sum() for parameter in self.parameters()]).sum()
            return self.pool(x)
        lines = self.projection_norm(self.projection(x)).movedim(axis, -1)
        tokens = lines.flatten(2, -2).unflatten(1, (self.num_heads, -1)).permute(0, 3, 1, 4, 2).contiguous()
        relative = self._relative(x.shape[axis])
        operands = self._operands(tokens, relative)
        if not torch.jit.is_scripting() and torch.compiler.is_compiling():
            y = self._attend(operands, relative)
        else:
            y = self._attend_in_parts(operands, relative)
        # Samples, lines, heads, voxels, (values and positions,) features: the heads' channels come together again.
        y = y.unflatten(0, tokens.shape[:3]).unflatten(4, (-1, self.widths[2])).permute(0, 4, 2, 5, 1, 3)
        y = y.flatten(1, 3).unflatten(2, lines.shape[2:-1]).movedim(-1, axis)
        gates = self.gates
        if gates is not None and self.released:
            y = y * gates[2:].repeat_interleave(y.shape[1] // 2).view([-1] + [1] * (y.dim() - 2))
        y = self.output_norm(y)
        if relative is not None:
            value, position = y.chunk(2, dim=1)
            if gates is not None and not self.released:
                value, position = gates[2] * value, gates[3] * position
            y = value + position
        return self.pool(y)

"""Norm of the logits of axial attention, from moments in closed form: no map of logits is needed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from custom_networks.blocks.window_norm import BATCH_NORMS, build_norm, move_average


def _over_sets(mean: Tensor, variance: Tensor, sets: int) -> tuple[Tensor, Tensor]:
    """Join the means and variances ``(N, g, ...)`` of equally many logits into those of each set ``(sets, 1, g)``."""
    mean = mean.unflatten(0, (sets, -1)).transpose(1, 2).flatten(2)
    variance = variance.unflatten(0, (sets, -1)).transpose(1, 2).flatten(2).mean(2)
    joined = mean.mean(2)
    between = (mean - joined[:, :, None]).square().mean(2)
    return joined[:, None], (variance + between)[:, None]


def pair_moments(queries: Tensor, keys: Tensor, sets: int) -> tuple[Tensor, Tensor]:
    r"""Return mean and variance of :math:`q_i^\top k_j` over the pairs of every sequence of a set.

    With means :math:`\bar q, \bar k` and covariances :math:`C_q, C_k` over one sequence, its logits have the mean
    :math:`\bar q^\top \bar k` and the variance :math:`\langle C_q, C_k + \bar k \bar k^\top\rangle + \bar q^\top C_k
    \bar q`; all terms are positive, so that no digits cancel.

    Args:
        queries: ``(N, g, L, c)``.
        keys: ``(N, g, L, c)``.
        sets: number of sets of successive sequences.

    Shape:
        Mean and variance ``(sets, 1, g)``.
    """
    length = queries.shape[2]
    q, k = queries.mean(2), keys.mean(2)
    centred_q, centred_k = queries - q[:, :, None], keys - k[:, :, None]
    gram_q = centred_q.transpose(2, 3) @ centred_q / length
    gram_k = centred_k.transpose(2, 3) @ centred_k / length
    variance = (gram_q * (gram_k + k[..., None] * k[:, :, None])).sum((2, 3))
    variance = variance + (gram_k * (q[..., None] * q[:, :, None])).sum((2, 3))
    return _over_sets((q * k).sum(2), variance, sets)


def table_moments(tokens: Tensor, table: Tensor, sets: int) -> tuple[Tensor, Tensor]:
    r"""Return mean and variance of :math:`x_i^\top E_{ij}` over the pairs of every sequence of a set.

    For one token the mean over j is :math:`x_i^\top \bar E_i` and the variance :math:`x_i^\top C_i x_i`, with the mean
    and the covariance of the table's row i.

    Args:
        tokens: x ``(N, g, L, c)``.
        table: E ``(L, L, c)``.
        sets: number of sets of successive sequences.

    Shape:
        Mean and variance ``(sets, 1, g)``.
    """
    average = table.mean(1)
    centred = table - average[:, None]
    gram = centred.transpose(1, 2) @ centred / table.shape[1]
    variance = (torch.einsum("ngic,icd->ngid", tokens, gram) * tokens).sum(3)
    return _over_sets((tokens * average).sum(3), variance, sets)


class LogitNorm(nn.Module):
    r"""Scale by which the parts of the logits are multiplied so that their sum is that of normalised parts.

    Part n of head h of the logits, :math:`s^1_{ij} = q_i^\top k_j,\ s^2_{ij} = q_i^\top R^q_{i-j},\ s^3_{ij} =
    k_j^\top R^k_{j-i}`, is normalised over all pairs (i, j) of all sequences of a set:

    .. math:: \mathrm{norm}(f s) = \gamma\,\frac{f s - f \mu}{\sqrt{f^2 \sigma^2 + \epsilon}} + \beta

    A set is a sample with instance norm: all lines of the sample along the axis. With batch norm it is the batch, or,
    where windows are folded into the batch, one window of all samples; in eval the running variance stands for
    :math:`f^2\sigma^2`. What does not depend on j cancels in the softmax, so that only :math:`\gamma f / \sqrt{f^2
    \sigma^2 + \epsilon}` remains: there is no :math:`\beta`, and the means serve the running statistics only, which
    are kept to exchange them with released weights. :math:`\mu` and :math:`\sigma` come from the means and covariances
    of queries, keys and tables over the line, c by c matrices.

    Differs from the paper: no shift :math:`\beta`, which has no effect there.

    Args:
        groups: heads g.
        positions: whether there are three parts, or the first alone.
        norm: MONAI norm: a batch norm with running statistics, or an instance norm without.

    Shape:
        Queries and keys ``(N, g, L, c)`` and tables ``(L, L, c)`` to the scales ``(sets, parts, g)``.

    Raises:
        ValueError: if the norm is another.

    Example:
        >>> norm, lines = LogitNorm(4, positions=False), torch.randn(10, 4, 6, 2)
        >>> norm(lines, lines, None, None, None, samples=5).shape
        torch.Size([5, 1, 4])

    Cost:
        Parameters ``parts · g`` if affine. Time N·g·L·c² instead of the N·g·L²·c of the logits; memory that of queries
        and keys.

    References:
        As :class:`~custom_networks.blocks.gated_axial_attention.GatedAxialAttention`.
    """

    __constants__ = ("batch", "eps", "momentum")

    def __init__(
        self, groups: int, *, positions: bool = True, norm: str | tuple = ("instance", {"affine": True})
    ) -> None:
        super().__init__()
        self.groups = groups
        logits = 3 * groups if positions else groups
        built: Any = build_norm(norm, 2, logits)
        self.batch = isinstance(built, BATCH_NORMS)
        self.eps, self.momentum = float(built.eps), float(built.momentum)
        self.weight: nn.Parameter | None
        self.register_parameter("weight", nn.Parameter(torch.ones(logits)) if built.affine else None)
        if self.batch:
            self.running_mean: Tensor
            self.running_var: Tensor
            self.num_batches_tracked: Tensor
            self.register_buffer("running_mean", torch.zeros(logits))
            self.register_buffer("running_var", torch.ones(logits))
            self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        query_table: Tensor | None,
        key_table: Tensor | None,
        gates: Tensor | None,
        samples: int,
        windows: int = 1,
    ) -> Tensor:
        """Return the scales, see the class.

        Args:
            queries: ``(N, g, L, c)``, the sequences of a sample one after the other.
            keys: ``(N, g, L, c)``.
            query_table: :math:`R^q_{i-j}` at (i, j), ``(L, L, c)``, or ``None`` without positions.
            key_table: :math:`R^k_{j-i}` at (j, i), ``(L, L, c)``, or ``None`` without positions.
            gates: factors f of the second and third part before the norm, ``(2,)``, or ``None`` for one.
            samples: number of samples in the batch, windows included.
            windows: windows of every sample, the slowest index of the batch.
        """
        if self.batch and not self.training:
            variance = self.running_var[None]
        else:
            sets = windows if self.batch else samples
            mean, variance = pair_moments(queries, keys, sets)
            if query_table is not None and key_table is not None:
                one, one_variance = table_moments(queries, query_table, sets)
                two, two_variance = table_moments(keys, key_table, sets)
                if gates is not None:
                    one, two = gates[0] * one, gates[1] * two
                    one_variance, two_variance = gates[0] ** 2 * one_variance, gates[1] ** 2 * two_variance
                mean = torch.cat([mean, one, two], dim=1)
                variance = torch.cat([variance, one_variance, two_variance], dim=1)
            mean, variance = mean.flatten(1), variance.flatten(1).clamp(min=0)
            if self.batch:
                pairs = queries.shape[0] // sets * queries.shape[2] * queries.shape[2]
                move_average(self.running_mean, mean, self.momentum)
                move_average(self.running_var, variance * pairs / max(pairs - 1, 1), self.momentum)
                self.num_batches_tracked.add_(sets)
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        scale = scale.unflatten(1, (-1, self.groups))
        if gates is not None:
            scale = scale * torch.cat([gates.new_ones(1), gates])[:, None]
        return scale

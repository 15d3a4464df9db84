"""Norm of the logits of axial attention, from moments in closed form: no map of logits is needed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from custom_networks.blocks.axial_norm import BATCH_NORMS, build_norm


def pair_moments(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return mean and variance of :math:`q_i^\top k_j` over all pairs (i, j) of every line.

    With means :math:`\bar q, \bar k` and covariances :math:`C_q, C_k` over the line, they are
    :math:`\bar q^\top \bar k` and :math:`\langle C_q, C_k + \bar k \bar k^\top\rangle + \langle C_k,
    \bar q \bar q^\top\rangle`; no term is negative, so that no digits cancel.

    Args:
        queries: ``(N, L, c)``.
        keys: ``(N, L, c)``.

    Shape:
        Mean and variance ``(N,)``.
    """
    q, k = queries.mean(1, keepdim=True), keys.mean(1, keepdim=True)
    centred_q, centred_k = queries - q, keys - k
    gram_q = torch.bmm(centred_q.transpose(1, 2), centred_q) / queries.shape[1]
    gram_k = torch.bmm(centred_k.transpose(1, 2), centred_k) / queries.shape[1]
    variance = gram_q * (gram_k + k.transpose(1, 2) * k) + gram_k * (q.transpose(1, 2) * q)
    return (q * k).sum((1, 2)), variance.sum((1, 2))


def table_moments(tokens: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return mean and variance of :math:`x_i^\top E_{ij}` over all pairs (i, j) of every line.

    Over j alone they are :math:`x_i^\top \bar E_i` and :math:`x_i^\top C_i x_i`, with mean and covariance of row i of
    the table.

    Args:
        tokens: x ``(N, L, c)``.
        table: E ``(L, L, c)``.

    Shape:
        Mean and variance ``(N,)``.
    """
    average = table.mean(1)
    centred = table - average[:, None]
    gram = torch.bmm(centred.transpose(1, 2), centred) / table.shape[1]
    within = (torch.bmm(tokens.transpose(0, 1), gram).transpose(0, 1) * tokens).sum(2).mean(1)
    means = (tokens * average).sum(2)
    mean = means.mean(1)
    return mean, within + (means - mean[:, None]).square().mean(1)


def _move_average(average: Tensor, newest: Tensor, momentum: float) -> None:
    """Move a running statistic in place: ``(1 - momentum) average + momentum newest``."""
    average.mul_(1 - momentum).add_(momentum * newest.detach().flatten().to(average.dtype))


class LogitNorm(nn.Module):
    r"""Scale by which the parts of the logits are multiplied so that their sum is that of normalised parts.

    Part n of head h of the logits, :math:`s^1_{ij} = q_i^\top k_j,\ s^2_{ij} = q_i^\top R^q_{i-j},\ s^3_{ij} =
    k_j^\top R^k_{j-i}`, is normalised over all pairs (i, j) of all sequences of a set:

    .. math:: \mathrm{norm}(f s) = \gamma\,\frac{f s - f \mu}{\sqrt{f^2 \sigma^2 + \epsilon}} + \beta

    A set is a sample with instance norm: all lines of the sample along the axis. With batch norm it is the batch; in
    eval the running variance stands for :math:`f^2\sigma^2`. What does not depend on j cancels in the softmax, so that
    only :math:`\gamma f / \sqrt{f^2 \sigma^2 + \epsilon}` remains: there is no :math:`\beta`, and the means serve the
    running statistics only, which are kept to exchange them with released weights. :math:`\mu` and :math:`\sigma` come
    from the means and covariances of queries, keys and tables over the line, c by c matrices.

    Differs from the paper: no shift :math:`\beta`, which has no effect there.

    Args:
        num_heads: heads g.
        positions: whether there are three parts, or the first alone.
        norm: MONAI norm: a batch norm with running statistics, or an instance norm without.

    Shape:
        Queries and keys ``(N, L, c)`` of N lines and heads and tables ``(L, L, c)`` to scales ``(sets, parts, g)``.

    Raises:
        ValueError: if the norm is another.

    Example:
        >>> norm, x = LogitNorm(4, positions=False), torch.randn(5 * 3 * 4, 6, 2)
        >>> norm(x, x, None, None, None, samples=5, lines=3).shape
        torch.Size([5, 1, 4])

    Cost:
        Parameters ``parts · g`` if affine. Time N·g·L·c² instead of the N·g·L²·c of the logits; memory that of queries
        and keys.

    References:
        As :class:`~custom_networks.blocks.gated_axial_attention.GatedAxialAttention`.
    """

    __constants__ = ("batch", "eps", "momentum")

    def __init__(
        self, num_heads: int, *, positions: bool = True, norm: str | tuple = ("instance", {"affine": True})
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        logits = 3 * num_heads if positions else num_heads
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
        lines: int,
    ) -> Tensor:
        """Return the scales, see the class.

        Args:
            queries: ``(N, L, c)``, N running over samples, lines and heads, the heads fastest.
            keys: ``(N, L, c)``.
            query_table: :math:`R^q_{i-j}` at (i, j), ``(L, L, c)``, or ``None`` without positions.
            key_table: :math:`R^k_{j-i}` at (j, i), ``(L, L, c)``, or ``None`` without positions.
            gates: factors f of the second and third part before the norm, ``(2,)``, or ``None`` for one.
            samples: number of samples in the batch.
            lines: number of lines of each sample.
        """
        if self.batch and not self.training:
            variance = self.running_var.unflatten(0, (1, -1, self.num_heads))
        else:
            mean, variance = pair_moments(queries, keys)
            mean, variance = mean[None], variance[None]
            if query_table is not None and key_table is not None:
                mean_q, variance_q = table_moments(queries, query_table)
                mean_k, variance_k = table_moments(keys, key_table)
                mean = torch.cat([mean, mean_q[None], mean_k[None]])
                variance = torch.cat([variance, variance_q[None], variance_k[None]])
            if gates is not None:
                factors = torch.cat([gates.new_ones(1), gates])[:, None]
                mean, variance = factors * mean, factors.square() * variance
            sets = [1, samples * lines] if self.batch else [samples, lines]
            means = mean.unflatten(1, [sets[0], sets[1], self.num_heads])
            mean = means.mean(2)
            between = (means - mean[:, :, None]).square().mean(2)
            variance = variance.unflatten(1, [sets[0], sets[1], self.num_heads]).mean(2) + between
            mean, variance = mean.transpose(0, 1), variance.transpose(0, 1).clamp(min=0)
            if self.batch:
                pairs = sets[1] * queries.shape[1] * queries.shape[1]
                unbiased = variance * pairs / max(pairs - 1, 1)
                _move_average(self.running_mean, mean, self.momentum)
                _move_average(self.running_var, unbiased, self.momentum)
                self.num_batches_tracked.add_(1)
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight.view(-1, self.num_heads)
        if gates is not None:
            scale = scale * torch.cat([gates.new_ones(1), gates])[:, None]
        return scale

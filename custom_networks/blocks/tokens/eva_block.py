"""Transformer block with a gated perceptron, norms inside both branches, and rotary positions (EVA-02)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom_networks.blocks.tokens.rotary_positions import turn_neighbours
from custom_networks.checks import check_heads


def check_path_rate(rate: float) -> None:
    """Refuse a probability of dropping whole branches that would leave nothing.

    Args:
        rate: the probability.

    Raises:
        ValueError: if it is negative, 1 or more.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout_path_rate must be at least 0 and below 1, got {rate}; use for example 0.2")


class StochasticDepth(nn.Module):
    r"""In training, drop a branch of a sample as a whole, and divide those that stay by how likely that is.

    .. math:: y_b = \frac{m_b}{1 - p}\,x_b, \qquad m_b \sim \mathrm{Bernoulli}(1 - p)

    for every sample b of the batch; the identity in evaluation.

    Differs from the paper: None.

    Args:
        rate: probability p of dropping, 0 or more and below 1.

    Shape:
        ``(B, ...)`` to the same shape.

    Raises:
        ValueError: if ``rate`` is out of its range.

    Example:
        >>> StochasticDepth(0.5).eval()(torch.ones(2, 1)).flatten()
        tensor([1., 1.])

    Cost:
        No parameters.

    References:
        G. Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016, arXiv:1603.09382.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        check_path_rate(rate)
        self.rate = float(rate)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, ...)``.
        """
        if not self.training or self.rate == 0.0:
            return x
        kept = torch.rand([x.shape[0]] + [1] * (x.dim() - 1), device=x.device) >= self.rate
        return x * kept.to(x.dtype) / (1 - self.rate)


class EvaAttention(nn.Module):
    r"""Multi-head self-attention of tokens on a grid, queries and keys turned by their positions.

    .. math:: y_i = W_o\,\mathrm{LN}\Bigl(\mathrm{concat}_h \sum_j \mathrm{softmax}_j\Bigl(
              \frac{(R_i q_{hi})^\top R_j k_{hj}}{\sqrt d}\Bigr) v_{hj}\Bigr) + b_o

    with H heads of width d, rotations :math:`R_i` of neighbouring features, see
    :func:`~custom_networks.blocks.tokens.rotary_positions.turn_neighbours`, none of the first ``num_registers`` tokens,
    which have no place, and no bias of the keys, which would cancel. The inner norm may be left out.

    Differs from the paper: None.

    Args:
        in_channels: channels C of the tokens.
        num_heads: heads H, a divisor of C.
        inner_norm: whether there is a norm of the heads' outputs.
        num_registers: tokens in front of those of the grid.

    Shape:
        Tokens ``(B, R + N, C)`` and the cosines and sines ``(N, P)`` of their angles, 2P at most d, to
        ``(B, R + N, C)``.

    Raises:
        ValueError: if ``num_heads`` does not divide C.

    Example:
        >>> angles = torch.zeros(24, 6)
        >>> EvaAttention(24, num_heads=2)(torch.zeros(1, 24, 24), angles.cos(), angles.sin()).shape
        torch.Size([1, 24, 24])

    Cost:
        Parameters ``4C^2 + 3C``, and ``2C`` with the inner norm; time 2·N²·C for the maps, which are not stored.

    References:
        Y. Fang et al., "EVA-02: A Visual Representation for Neon Genesis", 2023, arXiv:2303.11331. Reference outputs:
        timm, ``EvaAttention`` (Apache-2.0).
    """

    def __init__(
        self, in_channels: int, *, num_heads: int = 6, inner_norm: bool = True, num_registers: int = 0
    ) -> None:
        super().__init__()
        self.heads = check_heads(in_channels, num_heads, None)
        self.num_registers = num_registers
        self.q_proj = nn.Linear(in_channels, in_channels)
        self.k_proj = nn.Linear(in_channels, in_channels, bias=False)
        self.v_proj = nn.Linear(in_channels, in_channels)
        self.norm = nn.LayerNorm(in_channels) if inner_norm else nn.Identity()
        self.proj = nn.Linear(in_channels, in_channels)

    def _split(self, tokens: Tensor) -> Tensor:
        """Return ``(B, T, H d)`` as ``(B, H, T, d)``."""
        return tokens.unflatten(2, self.heads).transpose(1, 2)

    def _turn(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        if self.num_registers == 0:
            return turn_neighbours(x, cosine, sine)
        registers = x.narrow(2, 0, self.num_registers)
        tokens = x.narrow(2, self.num_registers, cosine.shape[0])
        return torch.cat([registers, turn_neighbours(tokens, cosine, sine)], dim=2)

    def _queries_keys(self, tokens: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        return (
            self._turn(self._split(self.q_proj(tokens)), cosine, sine),
            self._turn(self._split(self.k_proj(tokens)), cosine, sine),
        )

    def forward(self, tokens: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            tokens: ``(B, R + N, C)``.
            cosine: of the angles, ``(N, P)``.
            sine: of the angles, ``(N, P)``.
        """
        queries, keys = self._queries_keys(tokens, cosine, sine)
        y = F.scaled_dot_product_attention(queries, keys, self._split(self.v_proj(tokens)))
        return self.proj(self.norm(y.transpose(1, 2).flatten(2)))

    def weights(self, tokens: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Return the softmax maps ``(B, H, R + N, R + N)``, queries in rows.

        Args:
            tokens: ``(B, R + N, C)``.
            cosine: of the angles, ``(N, P)``.
            sine: of the angles, ``(N, P)``.
        """
        queries, keys = self._queries_keys(tokens, cosine, sine)
        return torch.softmax(queries @ keys.transpose(2, 3) * self.heads[1] ** -0.5, dim=-1)


class SwiGlu(nn.Module):
    r"""Two-layer perceptron with a gate and a norm between its layers.

    .. math:: y = W_2\,\mathrm{LN}\bigl(\mathrm{SiLU}(W_g x + b_g) \odot (W_x x + b_x)\bigr) + b_2

    Differs from the paper: None.

    Args:
        in_channels: channels C of the tokens.
        hidden_channels: inner width M.

    Shape:
        ``(..., C)`` to the same shape.

    Raises:
        ValueError: if ``hidden_channels`` is below 1.

    Example:
        >>> SwiGlu(24, 64)(torch.zeros(1, 5, 24)).shape
        torch.Size([1, 5, 24])

    Cost:
        Parameters ``3 C M + 4 M + C``.

    References:
        N. Shazeer, "GLU Variants Improve Transformer", 2020, arXiv:2002.05202. Reference outputs: timm, ``SwiGLU``.
    """

    def __init__(self, in_channels: int, hidden_channels: int) -> None:
        super().__init__()
        if hidden_channels < 1:
            raise ValueError(f"hidden_channels must be at least 1, got {hidden_channels}; use for example 8/3 of C")
        self.fc1_g = nn.Linear(in_channels, hidden_channels)
        self.fc1_x = nn.Linear(in_channels, hidden_channels)
        self.norm = nn.LayerNorm(hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(..., C)``.
        """
        return self.fc2(self.norm(F.silu(self.fc1_g(x)) * self.fc1_x(x)))


class EvaBlock(nn.Module):
    r"""Attention, then a gated perceptron, each behind a norm, scaled per channel and added.

    .. math:: h = x + \gamma_1 \odot A(\mathrm{LN}(x)), \qquad y = h + \gamma_2 \odot M(\mathrm{LN}(h))

    with :class:`EvaAttention` A, :class:`SwiGlu` M of inner width r C, r = ``mlp_ratio``, and learned
    :math:`\gamma` (LayerScale), which may be left out. In training, dropout acts on what both branches give, and
    :class:`StochasticDepth` leaves out whole branches.

    Differs from the paper: None.

    Args:
        in_channels: channels C of the tokens.
        num_heads: attention heads, a divisor of C.
        mlp_ratio: inner width of the perceptron over C, rounded down.
        layer_scale: first value of the scales of both branches, or ``None`` for no scales.
        inner_norm: whether the attention has a norm of its heads' outputs.
        num_registers: tokens in front of those of the grid, which have no place.
        dropout: probability of dropping a value of either branch.
        dropout_path_rate: probability of dropping either branch of a sample as a whole.

    Shape:
        As :class:`EvaAttention`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> angles = torch.zeros(24, 6)
        >>> EvaBlock(24, num_heads=2)(torch.zeros(1, 24, 24), angles.cos(), angles.sin()).shape
        torch.Size([1, 24, 24])

    Cost:
        Parameters with M = r C: ``4C^2 + 3C M + 8C + 4M``, ``2C`` more with the inner norm and ``2C`` more with
        scales; in full ``12C^2 + 68/3 C`` for r = 8/3.

    References:
        As :class:`EvaAttention`; LayerScale: H. Touvron et al., "Going Deeper with Image Transformers", ICCV 2021,
        arXiv:2103.17239. Reference outputs: timm, ``EvaBlock`` (Apache-2.0).
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_heads: int = 6,
        mlp_ratio: float = 8 / 3,
        layer_scale: float | None = 0.1,
        inner_norm: bool = True,
        num_registers: int = 0,
        dropout: float = 0.0,
        dropout_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = int(in_channels * mlp_ratio)
        if hidden < 1:
            raise ValueError(f"mlp_ratio must leave at least 1 channel, got {mlp_ratio}; use for example 8/3")
        self.gamma_1: Tensor | None
        self.gamma_2: Tensor | None
        for name in ("gamma_1", "gamma_2"):
            scale = None if layer_scale is None else nn.Parameter(torch.full((in_channels,), float(layer_scale)))
            self.register_parameter(name, scale)
        self.norm1 = nn.LayerNorm(in_channels)
        self.attn = EvaAttention(in_channels, num_heads=num_heads, inner_norm=inner_norm, num_registers=num_registers)
        self.norm2 = nn.LayerNorm(in_channels)
        self.mlp = SwiGlu(in_channels, hidden)
        self.dropout = nn.Dropout(dropout)
        self.drop_path = StochasticDepth(dropout_path_rate)

    def _branch(self, y: Tensor, scale: Tensor | None) -> Tensor:
        y = self.dropout(y)
        return self.drop_path(y if scale is None else scale * y)

    def forward(self, tokens: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            tokens: ``(B, R + N, C)``.
            cosine: of the angles, ``(N, P)``.
            sine: of the angles, ``(N, P)``.
        """
        tokens = tokens + self._branch(self.attn(self.norm1(tokens), cosine, sine), self.gamma_1)
        return tokens + self._branch(self.mlp(self.norm2(tokens)), self.gamma_2)

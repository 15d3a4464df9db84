"""Multi-head self-attention with rotary positions per axis (Su et al. 2021; Heo et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from custom_networks.attention.multi_head_self_attention import MultiHeadSelfAttention
from custom_networks.blocks.tokens.rotary_positions import rotary_angles, rotary_frequencies

BASE = 100.0


class RotarySelfAttention(MultiHeadSelfAttention):
    r"""Self-attention whose logits know how far apart two tokens are along each axis.

    Queries and keys are rotated before their dot product. With A axes, a head of width d is cut into
    :math:`P = A \lfloor d / 2A \rfloor` pairs and a rest that stays as it is; pair :math:`a F + f` of the token at grid
    position :math:`p`, :math:`F = P / A`, is turned by the angle :math:`p_a\, 100^{-f/F}`:

    .. math:: (u, w) \mapsto (u \cos\varphi - w \sin\varphi,\; u \sin\varphi + w \cos\varphi)

    where u is feature :math:`aF + f` of the head and w feature :math:`P + aF + f`. A dot product of two turned vectors
    depends on the difference of their positions only. Otherwise as
    :class:`~custom_networks.attention.multi_head_self_attention.MultiHeadSelfAttention`, whose arguments it takes.

    Differs from the papers: three axes instead of two; the base is the 100 of Heo et al., who found 10000 too slow for
    grids of a few dozen tokens.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if a head is narrower than two features per axis, or as for the parent.

    Example:
        >>> RotarySelfAttention(3, 32)(torch.zeros(1, 32, 4, 6, 5)).shape
        torch.Size([1, 32, 4, 6, 5])

    Cost:
        The parent's parameters and no more; two products per feature of queries and keys.

    References:
        J. Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, arXiv:2104.09864;
        B. Heo et al., "Rotary Position Embedding for Vision Transformer", ECCV 2024, arXiv:2403.13298.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        num_heads: int = 4,
        head_channels: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(spatial_dims, in_channels, num_heads=num_heads, head_channels=head_channels, dropout=dropout)
        count = self.heads[1] // (2 * spatial_dims)
        if count < 1:
            raise ValueError(
                f"rotary positions need heads of at least {2 * spatial_dims} channels, got {self.heads[1]}; "
                "use fewer heads"
            )
        self.frequencies: Tensor
        self.register_buffer("frequencies", rotary_frequencies(count, BASE), persistent=False)

    def _angles(self, size: list[int]) -> Tensor:
        """Return ``(N, P)``: the angle of every pair of every token, tokens in raster order."""
        return rotary_angles(self.frequencies, size)

    def _queries_keys(self, tokens: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
        angles = self._angles(size)
        cosine, sine = angles.cos(), angles.sin()
        return (
            _rotate(self._split(self.query(tokens)), cosine, sine),
            _rotate(self._split(self.key(tokens)), cosine, sine),
        )


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn the pairs (feature i, feature P + i) of ``(B, H, N, d)`` by angles ``(N, P)``; features from 2P on stay."""
    pairs = cosine.shape[1]
    u, w, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    turned = torch.cat([u * cosine - w * sine, u * sine + w * cosine], dim=-1)
    return torch.cat([turned.to(x.dtype), rest], dim=-1)

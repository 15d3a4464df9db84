"""Vision transformer encoder over the tokens of a grid of any size (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from custom_networks.attention.multi_head_self_attention import MultiHeadSelfAttention
from custom_networks.blocks.position_embedding import PositionEmbedding
from custom_networks.blocks.rotary_self_attention import RotarySelfAttention

POSITIONS = ("learned", "rotary", "none")


class TransformerLayer(nn.Module):
    r"""Pre-norm transformer layer: self-attention, then a two-layer perceptron, each with a residual.

    .. math:: h = x + \mathrm{MSA}(\mathrm{LN}(x)), \qquad
              y = h + W_2\,\mathrm{GELU}(W_1\,\mathrm{LN}(h) + b_1) + b_2

    with the exact GELU (error function), an inner width of r C, r = ``mlp_ratio``, and dropout after :math:`W_1` and
    :math:`W_2` in training only.

    Differs from the paper: None.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the tokens.
        num_heads: attention heads, a divisor of C.
        rotary: whether queries and keys are rotated by their position.
        mlp_ratio: inner width of the perceptron over C.
        norm_eps: what the norms add to the variance.
        dropout: probability of dropping a value of the perceptron.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if ``num_heads`` does not divide C, ``mlp_ratio`` is below 1, or a head is too narrow to be rotated.

    Example:
        >>> import torch
        >>> TransformerLayer(3, 16, num_heads=4)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``(4 + 2r) C^2 + (9 + r) C``, with r = 4 ``12C^2 + 13C``; time (4 + 2r)·N·C² + 2·N²·C with N tokens;
        memory O(N).

    References:
        A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929. Reference outputs:
        https://github.com/Beckschen/TransUNet, ``Block``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        num_heads: int = 12,
        rotary: bool = False,
        mlp_ratio: int = 4,
        norm_eps: float = 1e-6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if mlp_ratio < 1:
            raise ValueError(f"mlp_ratio must be at least 1, got {mlp_ratio}; use for example 4")
        attention = RotarySelfAttention if rotary else MultiHeadSelfAttention
        self.attention_norm = nn.LayerNorm(in_channels, eps=norm_eps)
        self.attention = attention(spatial_dims, in_channels, num_heads=num_heads)
        self.mlp_norm = nn.LayerNorm(in_channels, eps=norm_eps)
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, mlp_ratio * in_channels),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_ratio * in_channels, in_channels),
            nn.Dropout(dropout),
        )
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.normal_(module.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        x = x + self.attention(self.attention_norm(x.movedim(1, -1)).movedim(-1, 1))
        return x + self.mlp(self.mlp_norm(x.movedim(1, -1))).movedim(-1, 1)


class VisionTransformer(nn.Module):
    r"""Positions, transformer layers and a final norm, on a grid of tokens.

    ::

        tokens x (B, C, *S) -> + positions -> dropout -> num_layers x layer -> layer norm -> y (B, C, *S)

    Positions are a table of learned vectors (``"learned"``, see
    :class:`~custom_networks.blocks.position_embedding.PositionEmbedding`), rotations of queries and keys (``"rotary"``,
    see :class:`~custom_networks.blocks.rotary_self_attention.RotarySelfAttention`), or absent (``"none"``).

    Differs from the paper: no class token, as in TransUNet; the table follows the size of the grid.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the tokens.
        num_layers: number of layers, at least 1.
        num_heads: attention heads, a divisor of C.
        position_embedding: "learned", "rotary" or "none".
        token_grid: reference grid of the learned table in tokens: one integer, or one per axis.
        mlp_ratio: inner width of the perceptrons over C.
        norm_eps: what the norms add to the variance.
        dropout: probability of dropping a value after the positions and in the perceptrons, in training only.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> import torch
        >>> VisionTransformer(3, 24, num_layers=2)(torch.zeros(1, 24, 4, 6, 5)).shape
        torch.Size([1, 24, 4, 6, 5])

    Cost:
        Parameters of the layers, by default ``num_layers (12C^2 + 13C)``, and ``2C``, and for learned positions
        ``C prod(token_grid)``.

    References:
        As :class:`TransformerLayer`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        num_layers: int = 12,
        num_heads: int = 12,
        position_embedding: str = "learned",
        token_grid: int | Sequence[int] = 6,
        mlp_ratio: int = 4,
        norm_eps: float = 1e-6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}; leave the transformer out instead")
        if position_embedding not in POSITIONS:
            raise ValueError(f"position_embedding must be one of {POSITIONS}, got {position_embedding!r}; choose one")
        learned = position_embedding == "learned"
        self.positions = PositionEmbedding(spatial_dims, in_channels, token_grid) if learned else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(
            *(
                TransformerLayer(
                    spatial_dims,
                    in_channels,
                    num_heads=num_heads,
                    rotary=position_embedding == "rotary",
                    mlp_ratio=mlp_ratio,
                    norm_eps=norm_eps,
                    dropout=dropout,
                )
                for _ in range(num_layers)
            )
        )
        self.norm = nn.LayerNorm(in_channels, eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: tokens ``(B, C, *spatial)``.
        """
        x = self.layers(self.dropout(self.positions(x)))
        return self.norm(x.movedim(1, -1)).movedim(-1, 1).contiguous()

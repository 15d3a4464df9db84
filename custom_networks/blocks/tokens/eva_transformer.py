"""A transformer of EVA-02 blocks with learned and rotary positions, on a grid of any size."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from custom_networks.blocks.resize import resize
from custom_networks.blocks.tokens.eva_block import EvaBlock, check_path_rate
from custom_networks.blocks.tokens.rotary_positions import rotary_angles, rotary_frequencies
from custom_networks.checks import check_divides, check_spatial_dims, per_axis

BASE = 10000.0
STD, REGISTER_STD = 0.02, 1e-6


class EvaTransformer(nn.Module):
    r"""Registers, a learned table of positions, blocks with rotary positions, and a last norm.

    ::

        x (B, C, *S) -> tokens (B, N, C) -> [registers in front] -> + table -> dropout
          -> num_layers x block, queries and keys turned by their places -> norm -> [registers dropped] -> y (B, C, *S)

    The table has a row per register and one per token of a reference grid, from which it is resized linearly to the
    grid of x (see :class:`~custom_networks.blocks.position_embedding.PositionEmbedding`). Of the d features of a head,
    each of the A axes turns :math:`F = \lfloor d / 2A \rfloor` neighbouring pairs, pair f of axis a by the angle
    :math:`p_a\,10000^{-f/F}` of the token at position p; what is left over stays.

    Differs from the paper: the table is resized to any grid, and a head need not be divisible by the axes, so that
    networks of the released widths work in 2D, too.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the tokens.
        num_layers: number of blocks, at least 1.
        num_heads: attention heads, a divisor of C.
        token_grid: reference grid of the table in tokens: one integer, or one per axis.
        mlp_ratio: inner width of the perceptrons over C.
        layer_scale: first value of the scales of the branches, or ``None`` for no scales.
        inner_norm: whether the attentions have a norm of their heads' outputs.
        num_registers: learned tokens without a place in front of the others.
        dropout: probability of dropping a value after the positions and of the branches, in training only.
        dropout_path_rate: probability of dropping a whole branch of the last block, in training only; it grows linearly
            from 0 at the first.
        checkpointing: in training, compute every block again in the backward pass instead of keeping its values.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size.

    Raises:
        ValueError: if an argument is out of its range, or a head is too narrow to be turned.

    Example:
        >>> EvaTransformer(3, 24, num_layers=2, num_heads=2)(torch.zeros(1, 24, 4, 6, 5)).shape
        torch.Size([1, 24, 4, 6, 5])

    Cost:
        Parameters of the blocks, by default ``num_layers (12C^2 + 68/3 C)``, ``2C``, and
        ``C (prod(token_grid) + 2 num_registers)``; memory O(N), with ``checkpointing`` of one block and N·C per block.

    References:
        As :class:`~custom_networks.blocks.tokens.eva_block.EvaBlock`; registers: T. Darcet et al., "Vision
        Transformers Need Registers", ICLR 2024, arXiv:2309.16588. Reference outputs:
        https://github.com/MIC-DKFZ/dynamic-network-architectures, ``Eva`` (Apache-2.0).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        num_layers: int = 12,
        num_heads: int = 6,
        token_grid: int | Sequence[int] = 8,
        mlp_ratio: float = 8 / 3,
        layer_scale: float | None = 0.1,
        inner_norm: bool = True,
        num_registers: int = 0,
        dropout: float = 0.0,
        dropout_path_rate: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}; leave the transformer out instead")
        if num_registers < 0:
            raise ValueError(f"num_registers must be at least 0, got {num_registers}; use 0 for none")
        check_path_rate(dropout_path_rate)
        count = check_divides(in_channels, num_heads, "num_heads") // (2 * spatial_dims)
        if count < 1:
            raise ValueError(
                f"num_heads must leave at least {2 * spatial_dims} channels in a head to be turned by place, "
                f"got {num_heads} for {in_channels} channels; use fewer heads"
            )
        self.token_grid = list(per_axis(token_grid, spatial_dims, "token_grid"))
        self.num_registers = num_registers
        self.checkpointing = checkpointing
        self.registers = nn.Parameter(torch.zeros(1, num_registers, in_channels)) if num_registers else None
        self.pos_embed = nn.Parameter(torch.zeros(1, num_registers + prod(self.token_grid), in_channels))
        self.dropout = nn.Dropout(dropout)
        blocks = [
            EvaBlock(
                in_channels,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                layer_scale=layer_scale,
                inner_norm=inner_norm,
                num_registers=num_registers,
                dropout=dropout,
                dropout_path_rate=dropout_path_rate * layer / max(1, num_layers - 1),
            )
            for layer in range(num_layers)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(in_channels)
        self.frequencies: Tensor
        self.register_buffer("frequencies", rotary_frequencies(count, BASE), persistent=False)
        self._draw(blocks)

    def _draw(self, blocks: Sequence[EvaBlock]) -> None:
        """Draw the weights; what a block adds is the smaller, the later it comes."""
        nn.init.trunc_normal_(self.pos_embed, std=STD)
        if self.registers is not None:
            nn.init.normal_(self.registers, std=REGISTER_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            for layer, block in enumerate(blocks, start=1):
                block.attn.proj.weight.div_((2 * layer) ** 0.5)
                block.mlp.fc2.weight.div_((2 * layer) ** 0.5)

    def _tokens(self, x: Tensor) -> Tensor:
        """Return ``(B, R + N, C)``: registers and tokens with their learned positions."""
        tokens = x.flatten(2).transpose(1, 2)
        registers, count = self.registers, self.num_registers
        table = self.pos_embed.narrow(1, count, self.pos_embed.shape[1] - count)
        table = resize(table.transpose(1, 2).unflatten(2, self.token_grid), list(x.shape[2:]))
        table = table.flatten(2).transpose(1, 2)
        if registers is not None:
            tokens = torch.cat([registers.expand(x.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1)
            table = torch.cat([self.pos_embed.narrow(1, 0, count), table], dim=1)
        return self.dropout(tokens + table)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: tokens ``(B, C, *spatial)``.
        """
        size = list(x.shape[2:])
        tokens = self._tokens(x)
        angles = rotary_angles(self.frequencies, size)
        cosine, sine = angles.cos(), angles.sin()
        for block in self.blocks:
            if not torch.jit.is_scripting() and self.checkpointing and self.training:
                tokens = checkpoint(block, tokens, cosine, sine, use_reentrant=False)
            else:
                tokens = block(tokens, cosine, sine)
        tokens = self.norm(tokens)
        if self.num_registers > 0:
            tokens = tokens.narrow(1, self.num_registers, angles.shape[0])
        return tokens.transpose(1, 2).unflatten(2, size).contiguous()

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the softmax maps of the last block ``(B, H, N, N)``: queries in rows, voxels in raster order.

        What a token pays to registers is left out, so that with them a row sums to less than one.

        Args:
            x: tokens ``(B, C, *spatial)``.
        """
        tokens = self._tokens(x)
        angles = rotary_angles(self.frequencies, list(x.shape[2:]))
        cosine, sine = angles.cos(), angles.sin()
        for block in self.blocks[:-1]:
            tokens = block(tokens, cosine, sine)
        last: Any = self.blocks[-1]
        weights: Tensor = last.attn.weights(last.norm1(tokens), cosine, sine)
        return weights[:, :, self.num_registers :, self.num_registers :]

"""Residual block of axial attentions, one axis after the other (Wang et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from custom_networks.blocks.axial_norm import INSTANCE, axial_norm
from custom_networks.blocks.gated_axial_attention import GatedAxialAttention, MeanPool
from custom_networks.checks import check_spatial_dims, per_axis

EXPANSION = 2


class ConvolutionUnit(nn.Module):
    """Convolution without bias, and norm; weights drawn as by He et al. (2015).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd, one integer, or one per axis.
        strides: one integer, or one per axis.
        norm: MONAI norm, batch with running statistics or instance without.

    Example:
        >>> ConvolutionUnit(3, 2, 4, kernel_size=3, strides=2)(torch.zeros(1, 2, 5, 6, 7)).shape
        torch.Size([1, 4, 3, 3, 4])
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | Sequence[int] = 1,
        strides: int | Sequence[int] = 1,
        norm: str | tuple = INSTANCE,
    ) -> None:
        super().__init__()
        kernel = per_axis(kernel_size, spatial_dims, "kernel_size")
        steps = per_axis(strides, spatial_dims, "strides")
        padding = tuple(k // 2 for k in kernel)
        self.conv = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, kernel, steps, padding, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")
        self.norm = axial_norm(norm, spatial_dims, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``norm(conv(x))``.

        Args:
            x: ``(B, in_channels, *S)``.
        """
        return self.norm(self.conv(x))


class AxialBlock(nn.Module):
    r"""Bottleneck whose spatial operation is attention along every axis in turn.

    .. math:: y = \mathrm{relu}\bigl(P x + \mathrm{norm}\,W_2\,\mathrm{relu}\,A_3 A_2 A_1\,\mathrm{relu}\,
              \mathrm{norm}\,W_1 x\bigr)

    with pointwise :math:`W_1`, to half the output channels, and :math:`W_2`, attentions :math:`A_a` along axis a, the
    last of which pools by the strides, and :math:`P` the identity, or, where the shape changes, a pointwise convolution
    with the strides and a norm::

        x (B, C, *S) -> W1, norm, relu (B, C'/2, *S) -> axis 0 -> axis 1 -> axis 2, mean pool (B, C'/2, *S/strides)
          |          -> relu -> W2, norm (B, C', *S/strides) -> dropout -+
          +--------> P ------------------------------------------------- + -> relu -> y

    Differs from the paper: three axes (or two); the attention's differences, see
    :class:`~custom_networks.blocks.gated_axial_attention.GatedAxialAttention`; the unused convolution of the published
    position-free block is left out; the last norm starts with weights of zero, as in Axial-DeepLab, so that a network
    starts with its shortcuts alone; dropout is an addition.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        out_channels: channels C' of the output, a multiple of 4.
        strides: one integer, or one per axis.
        token_grid: tokens per axis of x that the tables are made for: one integer, or one per axis.
        num_heads: heads; where they do not divide C' / 4, the largest number that divides both.
        form: form of the attention, "gated", "released", "ungated" or "position_free".
        use_attention: whether there is attention; else the pooling alone stands in its place.
        norm: MONAI norm, batch with running statistics or instance without.
        dropout: probability of dropping a value of the branch before the sum.
        max_logits: logits of the attention computed at a time.
        checkpointing: in training, compute the softmaxes a second time in the backward pass instead of storing them.

    Shape:
        ``(B, C, *S)`` to ``(B, C', *ceil(S / strides))``, any size.

    Raises:
        ValueError: if ``out_channels`` is no multiple of 4, or as for the attention.

    Example:
        >>> AxialBlock(3, 8, 16, strides=(1, 2, 2))(torch.zeros(1, 8, 4, 6, 8)).shape
        torch.Size([1, 16, 4, 3, 4])

    Cost:
        With I = C'/2: ``CI + IC' + 2I + 2C'`` parameters, ``CC' + 2C'`` more where the shape changes, and those of the
        attentions, each I to I.

    References:
        As :class:`~custom_networks.blocks.gated_axial_attention.GatedAxialAttention`. Reference outputs:
        https://github.com/jeya-maria-jose/Medical-Transformer, ``AxialBlock`` and ``AxialBlock_wopos``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        strides: int | Sequence[int] = 1,
        token_grid: int | Sequence[int] = 64,
        num_heads: int = 8,
        form: str = "gated",
        use_attention: bool = True,
        norm: str | tuple = INSTANCE,
        dropout: float = 0.0,
        max_logits: int = 2**22,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        if out_channels < 1 or out_channels % (2 * EXPANSION):
            raise ValueError(
                f"out_channels must be a multiple of {2 * EXPANSION}, got {out_channels}; "
                f"use for example {2 * EXPANSION * max(1, -(-out_channels // (2 * EXPANSION)))}"
            )
        steps = per_axis(strides, spatial_dims, "strides")
        grid = per_axis(token_grid, spatial_dims, "token_grid")
        inner = out_channels // EXPANSION
        self.reduce = ConvolutionUnit(spatial_dims, in_channels, inner, norm=norm)
        self.axes = nn.ModuleList(
            GatedAxialAttention(
                spatial_dims,
                inner,
                axis=axis,
                position_length=grid[axis],
                num_heads=num_heads,
                strides=steps if axis == spatial_dims - 1 else 1,
                form=form,
                norm=norm,
                max_logits=max_logits,
                checkpointing=checkpointing,
            )
            for axis in range(spatial_dims)
            if use_attention
        )
        if not use_attention:
            self.axes.append(MeanPool(spatial_dims, steps))
        self.expand = ConvolutionUnit(spatial_dims, inner, out_channels, norm=norm)
        last: Any = self.expand.norm[0]
        if last.weight is not None:
            nn.init.zeros_(last.weight)
        self.dropout = nn.Dropout(dropout)
        changes = in_channels != out_channels or max(steps) > 1
        self.shortcut = (
            ConvolutionUnit(spatial_dims, in_channels, out_channels, strides=steps, norm=norm)
            if changes
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(B, C, *S)``.
        """
        y = torch.relu(self.reduce(x))
        for layer in self.axes:
            y = layer(y)
        y = self.dropout(self.expand(torch.relu(y)))
        return torch.relu(self.shortcut(x) + y)

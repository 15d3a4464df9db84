"""Slow references of the nnU-Net-style network and its blocks, in float64, from the formulas."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from tests.references import layers as references
from tests.references.layers import State, below


def strided(x: Tensor, weight: Tensor, strides: tuple[int, ...], groups: int = 1) -> Tensor:
    """Convolve, zeros outside, and keep every s-th voxel of each axis."""
    y = references.convolve(x, weight, groups=groups)
    return y[(..., *(slice(None, None, s) for s in strides))]


def dual_conv(x: Tensor, state: State, strides: tuple[int, ...], groups: int) -> Tensor:
    """Return the grouped convolution plus the pointwise one."""
    return strided(x, state["grouped.weight"], strides, groups) + strided(x, state["pointwise.weight"], strides)


def leaky(x: Tensor, slope: float | Tensor = 0.01) -> Tensor:
    """Return x where it is positive, slope times x elsewhere."""
    return torch.where(x > 0, x, slope * x)


def plain_norm(x: Tensor) -> Tensor:
    """Normalise per sample and channel."""
    axes = tuple(range(2, x.dim()))
    mean = x.mean(axes, keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean(axes, keepdim=True) + 1e-5).sqrt()


def block(x: Tensor, state: State, strides: tuple[int, ...] | None = None, dual_groups: int = 1) -> Tensor:
    """Return convolution (dense or dual), norm and leaky ReLU."""
    strides = strides or (1,) * (x.dim() - 2)
    if "conv.weight" in state:
        return leaky(references.normalise(strided(x, state["conv.weight"], strides), state, "adn.N"))
    return leaky(references.normalise(dual_conv(x, below(state, "0"), strides, dual_groups), state, "1.N"))


def branches(x: Tensor, state: State) -> list[Tensor]:
    """Return the maps of the four branches: each a chain of convolution, norm, PReLU."""
    maps = []
    column = (-1, *(1,) * (x.dim() - 2))
    for i in range(4):
        y = x
        for j in range(max(1, i)):
            name = f"branches.{i}.{j}"
            y = references.normalise(references.convolve(y, state[f"{name}.conv.weight"]), state, f"{name}.adn.N")
            y = leaky(y, state[f"{name}.adn.A.weight"].view(column))
        maps.append(y)
    return maps


def mbtfe(x: Tensor, state: State, phi=lambda v: v) -> Tensor:
    """y = sum_k w_k b_k, w = softmax(F2 phi(F1 GAP(sum_k b_k))), one weight per branch and sample."""
    maps = torch.stack(branches(x, state))  # (4, B, C, *S)
    pooled = maps.sum(0).flatten(2).mean(2)
    hidden = phi(pooled @ state["selector.0.weight"].T + state["selector.0.bias"])
    logits = hidden @ state["selector.2.weight"].T + state["selector.2.bias"]
    return torch.einsum("bk,kb...->b...", references.softmax(logits, 1), maps)


def spatial_mask(x: Tensor, state: State) -> Tensor:
    """y = sigmoid(K * [mean; max]) x."""
    pooled = torch.stack([x.mean(1), x.max(1).values], dim=1)
    y = references.convolve(pooled, state["conv.weight"]) + state["conv.bias"].view(-1, *(1,) * (x.dim() - 2))
    return x / (1 + (-y).exp())


def skip_gate(x: Tensor, other: Tensor, state: State) -> Tensor:
    """y = sigmoid(IN psi lrelu(IN W other + IN W x)) x."""
    added = leaky(sum(plain_norm(references.pointwise(y, state, "W.0")) for y in (x, other)))
    return x / (1 + (-plain_norm(references.pointwise(added, state, "psi.0"))).exp())


def transposed(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Write each voxel's own patch: a transposed convolution whose kernel is its stride."""
    kernel = weight.shape[2:]
    y = x.new_zeros(x.shape[0], weight.shape[1], *(s * k for s, k in zip(x.shape[2:], kernel, strict=True)))
    for cell in itertools.product(*map(range, x.shape[2:])):
        box = tuple(slice(c * k, (c + 1) * k) for c, k in zip(cell, kernel, strict=True))
        y[(..., *box)] = torch.einsum("bi,io...->bo...", x[(..., *cell)], weight)
    return y if bias is None else y + bias.view(-1, *(1,) * len(kernel))


def first(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Keep the first voxels of each axis."""
    return x[(..., *(slice(0, s) for s in size))]


def edge_aggregation(
    maps: list[Tensor], state: State, strides: list[tuple[int, ...]], dual_groups: int = 1
) -> list[Tensor]:
    """Mask, merge downwards, redistribute and gate, level by level."""
    masked = [spatial_mask(x, below(state, "mask")) for x in maps]
    merged = masked[0]
    for i, step in enumerate(strides):
        merged = torch.cat([block(merged, below(state, f"down.{i}"), step, dual_groups), masked[i + 1]], dim=1)
    gated = []
    for i, x in enumerate(maps):
        last = i == len(maps) - 1
        up = (
            block(merged, below(state, f"up.{i}"), dual_groups=dual_groups)
            if last
            else transposed(merged, state[f"up.{i}.weight"])
        )
        gated.append(skip_gate(x, first(up, x.shape[2:]), below(state, f"gates.{i}")))
    return gated


def mbtfe_unet(x: Tensor, state: State, strides: list[tuple[int, ...]], dual_groups: int = 1) -> list[Tensor]:
    """Return the logits of every decoder level on its own grid, finest first."""
    maps, y = [], x
    for level, step in enumerate([None, *strides]):
        stage = below(state, f"encoder.{level}")
        y = block(block(y, below(stage, "0"), step, dual_groups), below(stage, "1"), dual_groups=dual_groups)
        y = mbtfe(y, below(stage, "2")) if below(stage, "2") else y
        maps.append(y)
    aggregation = below(state, "edge_aggregation")
    if aggregation:
        count = sum(key.endswith("psi.0.weight") for key in aggregation)
        maps[:count] = edge_aggregation(maps[:count], aggregation, strides[: count - 1], dual_groups)
    logits = []
    for i, skip in enumerate(maps[-2::-1]):
        up = transposed(y, state[f"decoder.{i}.up.weight"], state[f"decoder.{i}.up.bias"])
        y = torch.cat([first(up, skip.shape[2:]), skip], dim=1)
        for j in range(2):
            y = block(y, below(state, f"decoder.{i}.convolutions.{j}"), dual_groups=dual_groups)
        name = "head" if i == len(strides) - 1 else f"auxiliary_heads.{i}"
        if f"{name}.weight" in state:
            logits.append(references.pointwise(y, state, name))
    return logits[::-1]

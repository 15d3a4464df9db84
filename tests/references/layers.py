"""Slow references from the papers' formulas: loops and einsum in float64, none of the package's code."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def below(state: State, prefix: str) -> State:
    """Return the entries under ``prefix.``, without it."""
    return {key.removeprefix(f"{prefix}."): value for key, value in state.items() if key.startswith(f"{prefix}.")}


def pointwise(x: Tensor, state: State, name: str) -> Tensor:
    """Convolve with a kernel of one voxel."""
    weight = state[f"{name}.weight"].flatten(1)
    y = torch.einsum("oc,bc...->bo...", weight, x)
    return y + state[f"{name}.bias"].view(-1, *(1,) * (x.dim() - 2)) if f"{name}.bias" in state else y


def softmax(x: Tensor, axis: int) -> Tensor:
    """Divide the exponentials by their sum along an axis."""
    return x.exp() / x.exp().sum(axis, keepdim=True)


def projected(x: Tensor, state: State, name: str, num_heads: int) -> Tensor:
    """Return ``(B, H, d, N)``: head h takes the h-th run of d rows of the projection of every voxel."""
    return torch.stack(pointwise(x.flatten(2), state, name).chunk(num_heads, dim=1), dim=1)


def normalise(x: Tensor, state: State, name: str) -> Tensor:
    """Normalise per sample and channel, or by the running statistics if the state has them; then scale and shift."""
    column = (-1, *(1,) * (x.dim() - 2))
    axes = tuple(range(2, x.dim()))
    if f"{name}.running_mean" in state:
        mean, variance = (state[f"{name}.running_{s}"].view(column) for s in ("mean", "var"))
    else:
        mean = x.mean(axes, keepdim=True)
        variance = ((x - mean) ** 2).mean(axes, keepdim=True)
    y = (x - mean) / (variance + 1e-5).sqrt()
    return y * state[f"{name}.weight"].view(column) + state[f"{name}.bias"].view(column)


def max_pool(x: Tensor, pool: tuple[int, ...]) -> Tensor:
    """Take the maximum of each window of ``min(pool, size)`` voxels."""
    size = x.shape[2:]
    window = [min(p, s) for p, s in zip(pool, size, strict=True)]
    y = x.new_empty(*x.shape[:2], *(s // w for s, w in zip(size, window, strict=True)))
    for cell in itertools.product(*map(range, y.shape[2:])):
        box = tuple(slice(c * w, (c + 1) * w) for c, w in zip(cell, window, strict=True))
        y[(..., *cell)] = x[(..., *box)].flatten(2).max(-1).values
    return y


def convolve(x: Tensor, weight: Tensor, dilation: int | tuple[int, ...] = 1, groups: int = 1) -> Tensor:
    """Convolve with an odd kernel, zeros outside: one shifted copy of the input per tap of the kernel."""
    size, kernel = x.shape[2:], weight.shape[2:]
    steps = (dilation,) * len(kernel) if isinstance(dilation, int) else dilation
    margin = [step * (k // 2) for step, k in zip(steps, kernel, strict=True)]
    padded = F.pad(x, [m for m in reversed(margin) for _ in range(2)])
    weights, y = weight.chunk(groups), 0
    for tap in itertools.product(*map(range, kernel)):
        box = tuple(slice(step * t, step * t + s) for step, t, s in zip(steps, tap, size, strict=True))
        parts = padded[(..., *box)].chunk(groups, dim=1)
        y = y + torch.cat(
            [torch.einsum("oi,bi...->bo...", w[(..., *tap)], part) for w, part in zip(weights, parts, strict=True)],
            dim=1,
        )
    return y


def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Interpolate linearly, axis by axis, voxel centres at (i + 1/2) / n."""
    for axis, n in enumerate(size, start=2):
        m = x.shape[axis]
        rows = []
        for i in range(n):
            position = max((i + 0.5) * m / n - 0.5, 0.0)
            low = min(math.floor(position), m - 1)
            high = min(low + 1, m - 1)
            rows.append(x.select(axis, low) * (1 - (position - low)) + x.select(axis, high) * (position - low))
        x = torch.stack(rows, dim=axis)
    return x


def patches(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve with a kernel equal to its stride: one matrix product per patch."""
    stride = weight.shape[2:]
    size = [s // k for s, k in zip(x.shape[2:], stride, strict=True)]
    y = x.new_empty(x.shape[0], weight.shape[0], *size)
    for cell in itertools.product(*map(range, size)):
        box = tuple(slice(c * k, (c + 1) * k) for c, k in zip(cell, stride, strict=True))
        y[(..., *cell)] = x[(..., *box)].flatten(1) @ weight.flatten(1).T
    return y


def non_local(x: Tensor, state: State, pool: tuple[int, ...]) -> Tensor:
    """z_i = x_i + norm(W sum_j softmax_j(theta_i . phi_j) g_j), phi and g pooled; logits not scaled."""
    theta = pointwise(x, state, "theta").flatten(2)
    phi = max_pool(pointwise(x, state, "phi"), pool).flatten(2)
    g = max_pool(pointwise(x, state, "g"), pool).flatten(2)
    similarity = torch.einsum("bkn,bkm->bnm", theta, phi).exp()
    y = torch.einsum("bnm,bvm->bvn", similarity / similarity.sum(-1, keepdim=True), g)
    y = pointwise(y.reshape(*g.shape[:2], *x.shape[2:]), state, "W.0")
    return x + (normalise(y, state, "W.1") if "W.1.weight" in state else y)


def gate_map(x: Tensor, gating: Tensor, state: State) -> Tensor:
    """alpha = resize(sigmoid(psi relu(theta(x) + resize(phi(g)))))."""
    theta = patches(x, state["theta.weight"])
    added = theta + resize(pointwise(gating, state, "phi"), theta.shape[2:])
    alpha = 1 / (1 + (-pointwise(added.clamp(min=0), state, "psi")).exp())
    return resize(alpha, x.shape[2:])


def attention_gate(x: Tensor, gating: Tensor, state: State) -> Tensor:
    """norm(W(alpha x))."""
    y = pointwise(gate_map(x, gating, state) * x, state, "W.0")
    return normalise(y, state, "W.1") if "W.1.weight" in state else y


def _unit(x: Tensor, state: State, name: str) -> Tensor:
    weight = state[f"{name}.conv.weight"]
    convolve = F.conv2d if x.dim() == 4 else F.conv3d
    y = convolve(x, weight, padding=tuple(k // 2 for k in weight.shape[2:]))
    return normalise(y, state, f"{name}.adn.N").clamp(min=0)


def attention_unet(x: Tensor, state: State, strides: list[tuple[int, ...]], non_local_pool: tuple[int, ...]) -> Tensor:
    """Return the logits of every decoder level on the input grid, finest first: ``(B, levels, C, *S)``."""
    size = x.shape[2:]
    maps = []
    for level in range(len(strides) + 1):
        first = 0 if level == 0 else 1  # entry 0 of the deeper stages is the pooling, which has no weights
        if level:
            x = max_pool(x, strides[level - 1])
        x = _unit(x, state, f"encoder.{level}.{first}")
        x = _unit(x, state, f"encoder.{level}.{first + 1}")
        block = below(state, f"encoder.{level}.{first + 2}")
        x = non_local(x, block, non_local_pool) if block else x
        maps.append(x)
    outputs = []
    for stage, skip in enumerate(maps[-2::-1]):
        name = f"decoder.{stage}"
        gate = below(state, f"{name}.gate")
        if gate:
            signal = _unit(x, state, f"{name}.gating") if f"{name}.gating.conv.weight" in state else x
            skip = attention_gate(skip, signal, gate)
        up = pointwise(resize(x, skip.shape[2:]), state, f"{name}.project")
        x = torch.cat([skip, up], dim=1)
        for i in range(2):
            x = _unit(x, state, f"{name}.convolutions.{i}")
        outputs.append(x)
    logits = [pointwise(x, state, "head")]
    for i, y in reversed(list(enumerate(outputs[:-1]))):
        if f"auxiliary_heads.{i}.weight" in state:
            logits.append(resize(pointwise(y, state, f"auxiliary_heads.{i}"), size))
    return torch.stack(logits, dim=1)

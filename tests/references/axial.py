"""Slow references of the axial networks from the papers' formulas, none of the package's code."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from tests.references.layers import State, below, convolve, max_pool, resize, softmax
from tests.references.transformer import numbered

MOMENTUM = 0.1
Steps = tuple[int, ...]


def normalise(x: Tensor, state: State, name: str, training: bool, eps: float = 1e-5) -> Tensor:
    """Batch norm if the state has running statistics, which a training step moves in place, else instance norm."""
    column = (-1, *(1,) * (x.dim() - 2))
    batch = f"{name}.running_mean" in state
    if batch and not training:
        mean, variance = (state[f"{name}.running_{s}"].view(column) for s in ("mean", "var"))
    else:
        axes = tuple(a for a in range(x.dim()) if a != 1 and (a or batch))
        mean = x.mean(axes, keepdim=True)
        variance = ((x - mean) ** 2).mean(axes, keepdim=True)
    if batch and training:
        count = x.numel() // x.shape[1]
        for kind, new in (("mean", mean), ("var", variance * count / (count - 1))):
            running = state[f"{name}.running_{kind}"]
            running.copy_((1 - MOMENTUM) * running + MOMENTUM * new.detach().flatten())
        state[f"{name}.num_batches_tracked"] += 1
    y = (x - mean) / (variance + eps).sqrt()
    if f"{name}.weight" in state:
        y = y * state[f"{name}.weight"].view(column)
    return y + state[f"{name}.bias"].view(column) if f"{name}.bias" in state else y


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve with a kernel of one voxel."""
    return torch.einsum("oc,bc...->bo...", weight.flatten(1), x)


def mean_pool(x: Tensor, strides: Steps) -> Tensor:
    """Take the mean of each window of ``strides`` voxels, of what there is of it at the far border."""
    y = x.new_empty(*x.shape[:2], *(-(-s // step) for s, step in zip(x.shape[2:], strides, strict=True)))
    for cell in itertools.product(*map(range, y.shape[2:])):
        box = tuple(slice(c * step, (c + 1) * step) for c, step in zip(cell, strides, strict=True))
        y[(..., *cell)] = x[(..., *box)].flatten(2).mean(-1)
    return y


def relative(table: Tensor, length: int) -> Tensor:
    """E[i, j] = R[i - j], the distance no larger than the table's."""
    reach = len(table) // 2
    rows = [[table[max(-reach, min(reach, i - j)) + reach] for j in range(length)] for i in range(length)]
    return torch.stack([torch.stack(row) for row in rows])


def axial_attention(
    x: Tensor, state: State, axis: int, num_heads: int, *, released: bool = False, training: bool = False
) -> Tensor:
    """Softmax attention along an axis from the maps of its logits; the parts are those that the state has."""
    qkv = normalise(pointwise(x, state["projection.weight"]), state, "projection_norm.norm", training)
    lines = qkv.movedim(2 + axis, -1).flatten(2, -2)  # (B, 2C, M, L)
    heads = lines.chunk(num_heads, dim=1)
    width = heads[0].shape[1] // 4
    q, k, v = (
        torch.stack([head[:, start:stop] for head in heads], dim=1)
        for start, stop in ((0, width), (width, 2 * width), (2 * width, 4 * width))
    )
    parts = [torch.einsum("bgcmi,bgcmj->bgmij", q, k)]
    gates = state.get("gates", torch.ones(4, dtype=x.dtype))
    if "table" in state:
        table = relative(state["table"], x.shape[2 + axis])
        r_q, r_k, r_v = table[..., :width], table[..., width : 2 * width], table[..., 2 * width :]
        parts.append(torch.einsum("bgcmi,ijc->bgmij", q, r_q))
        parts.append(torch.einsum("bgcmj,jic->bgmij", k, r_k))
    inside = (1, gates[0], gates[1]) if released else (1, 1, 1)
    outside = (1, 1, 1) if released else (1, gates[0], gates[1])
    maps = torch.cat([part * gate for part, gate in zip(parts, inside, strict=False)], dim=1)
    maps = normalise(maps, state, "logit_norm", training)
    maps = sum(part * gate for part, gate in zip(maps.chunk(len(parts), dim=1), outside, strict=False))
    weights = softmax(maps, -1)
    sums = [torch.einsum("bgmij,bgcmj->bgcmi", weights, v)]
    if "table" in state:
        sums.append(torch.einsum("bgmij,ijc->bgcmi", weights, r_v))
    inside, outside = ((gates[2], gates[3]), (1, 1)) if released else ((1, 1), (gates[2], gates[3]))
    size = [s for a, s in enumerate(x.shape[2:]) if a != axis]
    joined = torch.cat([part.flatten(1, 2) * gate for part, gate in zip(sums, inside, strict=False)], dim=1)
    joined = joined.unflatten(2, size).movedim(-1, 2 + axis)
    joined = normalise(joined, state, "output_norm.norm", training)
    return sum(part * gate for part, gate in zip(joined.chunk(len(sums), dim=1), outside, strict=False))


def unit(x: Tensor, state: State, name: str, training: bool, strides: Steps | None = None) -> Tensor:
    """norm(conv(x)), every ``strides``-th voxel, the first included."""
    y = convolve(x, state[f"{name}.conv.weight"])
    y = y[(..., *(slice(None, None, step) for step in strides or (1,) * (x.dim() - 2)))]
    return normalise(y, state, f"{name}.norm.norm", training)


def axial_block(
    x: Tensor, state: State, num_heads: int, strides: Steps, *, released: bool = False, training: bool = False
) -> Tensor:
    """relu(P x + norm W_2 relu A_3 A_2 A_1 relu norm W_1 x), an axis of one voxel or without weights left out."""
    y = unit(x, state, "reduce", training).clamp(min=0)
    heads = max(n for n in range(1, num_heads + 1) if num_heads % n == 0 and y.shape[1] // 2 % n == 0)
    for axis in range(x.dim() - 2):
        layer = below(state, f"axes.{axis}")
        if layer and y.shape[2 + axis] > 1:
            y = axial_attention(y, layer, axis, heads, released=released, training=training)
    y = unit(mean_pool(y, strides).clamp(min=0), state, "expand", training)
    shortcut = "shortcut.conv.weight" in state
    return ((unit(x, state, "shortcut", training, strides) if shortcut else x) + y).clamp(min=0)


def layer_names(state: State) -> State:
    """Give a published layer's weights our names; its sums of values and positions take turns, ours do not."""
    names = {"qkv_transform": "projection", "bn_qkv": "projection_norm.norm", "bn_output": "output_norm.norm"}
    names["bn_similarity"] = "logit_norm"
    gates = ("f_qr", "f_kr", "f_sv", "f_sve")
    found = {}
    for key, value in state.items():
        old, _, kind = key.partition(".")
        if old == "bn_output" and value.dim() and len(value) == len(state[f"bn_qkv.{kind}"]):
            value = torch.cat([value[0::2], value[1::2]])
        if key == "relative":
            found["table"] = value.T
        elif old in names and key != "bn_similarity.bias":
            found[f"{names[old]}.{kind}"] = value.unsqueeze(-1) if old == "qkv_transform" else value
    if gates[0] in state:
        found["gates"] = torch.stack([state[gate] for gate in gates])
    return found


def axial_branch(
    x: Tensor,
    state: State,
    strides: list[Steps],
    num_heads: int,
    *,
    pool: Steps | None = None,
    released: bool = False,
    training: bool = False,
) -> list[Tensor]:
    """Return the decoder's maps, coarsest first; blocks whose level has strides have them in its first one."""
    read = x
    for i in range(len(numbered(state, "reader"))):
        read = unit(read, state, f"reader.{i}", training, None if i else strides[0]).clamp(min=0)
    y = read if pool is None else max_pool(read, pool)
    for i in range(2):
        y = unit(y, state, f"stem.{i}", training).clamp(min=0)
    maps = [x]
    for level in range(len(strides)):
        for i, block in enumerate(numbered(state, f"stages.{level}")):
            steps = strides[level] if level and i == 0 else (1,) * len(strides[level])
            y = axial_block(y, block, num_heads, steps, released=released, training=training)
        maps.append(y)

    def up(y: Tensor, name: str, size: Steps, steps: Steps | None = None) -> Tensor:
        y = convolve(y, state[f"{name}.conv.weight"])[(..., *(slice(None, None, s) for s in steps or (1,) * len(size)))]
        y = y + state[f"{name}.conv.bias"].view(-1, *(1,) * len(size))
        if f"{name}.norm.norm.weight" in state:
            y = normalise(y, state, f"{name}.norm.norm", training)
        return resize(y, size)

    if "bottom.0.conv.weight" in state:
        y = y + up(y, "bottom.0", y.shape[2:], strides[-1]).clamp(min=0)
    outputs = []
    for i, skip in enumerate(maps[-2::-1]):
        y = up(y, f"decoder.{i}", skip.shape[2:]).clamp(min=0)
        y = y if skip is x else y + skip
        outputs.append(y)
    if "skip.0.conv.weight" in state:
        outputs[-1] = outputs[-1] + up(read, "skip.0", x.shape[2:])
    return outputs


def stacked_logits(outputs: list[Tensor], state: State) -> Tensor:
    """Return the logits of every map on the finest grid, finest first: ``(B, levels, C, *S)``."""
    size = outputs[-1].shape[2:]

    def head(y: Tensor, name: str) -> Tensor:
        return pointwise(y, state[f"{name}.weight"]) + state[f"{name}.bias"].view(-1, *(1,) * len(size))

    logits = [head(outputs[-1], "head")]
    for i, y in reversed(list(enumerate(outputs[:-1]))):
        if f"auxiliary_heads.{i}.weight" in state:
            logits.append(resize(head(y, f"auxiliary_heads.{i}"), size))
    return torch.stack(logits, dim=1)


def windows(x: Tensor, size: Steps) -> list[tuple[Steps, Tensor]]:
    """Return place and content of every window in raster order; beyond the border it repeats the last voxel."""
    found = []
    for place in itertools.product(*(range(0, s, w) for s, w in zip(x.shape[2:], size, strict=True))):
        window = x
        for axis, (start, length) in enumerate(zip(place, size, strict=True), start=2):
            index = [min(start + i, x.shape[axis] - 1) for i in range(length)]
            window = window.index_select(axis, torch.tensor(index))
        found.append((place, window))
    return found


def medical_transformer(
    x: Tensor,
    state: State,
    strides: list[Steps],
    num_heads: int,
    size: Steps,
    *,
    global_levels: int = 2,
    released: bool = False,
    training: bool = False,
    together: bool = False,
) -> Tensor:
    """Return the logits of every supervised map: one pass per window, one after the other, or one pass ``together``."""
    outputs: list[Tensor] = []
    fused = 0
    shared, local = below(state, "global_branch"), below(state, "local_branch")
    if shared:
        outputs = axial_branch(x, shared, strides[:global_levels], num_heads, released=released, training=training)
        fused = outputs.pop()
    if local:
        joined = x.new_empty(x.shape[0], state["fuse.conv.weight"].shape[1], *x.shape[2:])
        places, contents = zip(*windows(x, size), strict=True)
        passes = (torch.cat(contents),) if together else contents
        maps = [axial_branch(y, local, strides, num_heads, released=released, training=training)[-1] for y in passes]
        for place, y in zip(places, torch.cat(maps).chunk(len(places)), strict=True):
            box = tuple(slice(p, min(p + w, s)) for p, w, s in zip(place, size, x.shape[2:], strict=True))
            joined[(..., *box)] = y[(..., *(slice(b.stop - b.start) for b in box))]
        fused = fused + joined
    fused = convolve(fused, state["fuse.conv.weight"]) + state["fuse.conv.bias"].view(-1, *(1,) * len(size))
    if "fuse.adn.N.weight" in state:
        fused = normalise(fused, state, "fuse.adn.N", training)
    return stacked_logits([*outputs, fused.clamp(min=0)], state)

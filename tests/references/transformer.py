"""Slow references of the transformer family from the papers' formulas, none of the package's code."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from tests.references.layers import State, below, convolve, normalise, pointwise, projected, resize, softmax

Steps = tuple[int, ...]


def numbered(state: State, prefix: str) -> list[State]:
    """Return the entries under ``prefix.0.``, ``prefix.1.`` and so on, without the numbers that hold nothing."""
    places = {int(key.split(".")[0]) for key in below(state, prefix)}
    return [below(state, f"{prefix}.{place}") for place in sorted(places)]


def standardised(weight: Tensor) -> Tensor:
    """Shift and scale each output channel's weights to mean zero and variance one, 1e-5 added to the variance."""
    filters = []
    for w in weight:
        mean = w.sum() / w.numel()
        variance = ((w - mean) ** 2).sum() / w.numel()
        filters.append((w - mean) / (variance + 1e-5).sqrt())
    return torch.stack(filters)


def standardised_convolution(x: Tensor, weight: Tensor, strides: Steps) -> Tensor:
    """Convolve with the standardised weight and keep every ``strides``-th voxel, the first included."""
    return convolve(x, standardised(weight))[(..., *(slice(None, None, step) for step in strides))]


def group_norm(x: Tensor, state: State, name: str, norm_groups: int, epsilon: float) -> Tensor:
    """Normalise each run of channels of a sample; as many runs as divide both the channels and ``norm_groups``."""
    runs = max(n for n in range(1, norm_groups + 1) if x.shape[1] % n == 0 and norm_groups % n == 0)
    parts = []
    for part in x.chunk(runs, dim=1):
        axes = tuple(range(1, x.dim()))
        mean = part.mean(axes, keepdim=True)
        parts.append((part - mean) / (((part - mean) ** 2).mean(axes, keepdim=True) + epsilon).sqrt())
    column = (-1, *(1,) * (x.dim() - 2))
    return torch.cat(parts, dim=1) * state[f"{name}.weight"].view(column) + state[f"{name}.bias"].view(column)


def bottleneck_unit(x: Tensor, state: State, strides: Steps, norm_groups: int) -> Tensor:
    """relu(P x + GN W_3 relu GN W_2 relu GN W_1 x)."""
    ones = (1,) * len(strides)
    y = x
    for place, steps in ((0, ones), (3, strides), (6, ones)):
        y = standardised_convolution(y, state[f"residual.{place}.weight"], steps)
        y = group_norm(y, state, f"residual.{place + 1}", norm_groups, 1e-6)
        y = y if place == 6 else y.clamp(min=0)
    if "shortcut.0.weight" in state:
        x = standardised_convolution(x, state["shortcut.0.weight"], strides)
        x = group_norm(x, state, "shortcut.1", x.shape[1], 1e-5)
    return (x + y).clamp(min=0)


def centred_max_pool(x: Tensor, strides: Steps) -> Tensor:
    """Take the maximum around every ``strides``-th voxel, half a stride to both sides as far as the map reaches."""
    size = x.shape[2:]
    y = x.new_empty(*x.shape[:2], *(-(-s // step) for s, step in zip(size, strides, strict=True)))
    for cell in itertools.product(*map(range, y.shape[2:])):
        reach = [(c * step, step // 2) for c, step in zip(cell, strides, strict=True)]
        box = tuple(slice(max(centre - half, 0), centre + half + 1) for centre, half in reach)
        y[(..., *cell)] = x[(..., *box)].flatten(2).max(-1).values
    return y


def residual_trunk(x: Tensor, state: State, strides: list[Steps], norm_groups: int) -> list[Tensor]:
    """Return the maps, finest first: the root, then pooling and units, then levels whose first unit has strides."""
    for place in range(0, 3 * sum(f"root.{n}.weight" in state for n in range(0, 99, 3)), 3):
        x = standardised_convolution(x, state[f"root.{place}.weight"], (1,) * len(strides[0]) if place else strides[0])
        x = group_norm(x, state, f"root.{place + 1}", norm_groups, 1e-6).clamp(min=0)
    maps = [x]
    for level, steps in enumerate(strides[1:], start=1):
        x = centred_max_pool(maps[-1], steps) if level == 1 else maps[-1]
        for i, unit in enumerate(numbered(state, f"stages.{level - 1}")):
            x = bottleneck_unit(x, unit, steps if level > 1 and i == 0 else (1,) * len(steps), norm_groups)
        maps.append(x)
    return maps


def position_embedding(x: Tensor, state: State) -> Tensor:
    """x + the table on the grid of x."""
    return x + resize(state["table"], x.shape[2:])


def frequencies(count: int) -> list[float]:
    """100^(-f / F): how many radians a pair turns from one token to the next."""
    return [100.0 ** (-f / count) for f in range(count)]


def use_exact_frequencies(module: nn.Module) -> nn.Module:
    """Give the rotary attention inside a float64 module its frequencies in float64; they are stored in float32."""
    for name, buffer in module.named_buffers():
        if name.split(".")[-1] == "frequencies":
            exact = buffer.new_tensor(frequencies(len(buffer)))
            torch.testing.assert_close(buffer, exact, rtol=1e-6, atol=0)
            buffer.copy_(exact)
    return module


def turned(x: Tensor, size: Steps) -> Tensor:
    """Multiply the complex numbers in ``(B, H, d, N)`` by exp(i angle), each token by its own position's angles."""
    count = x.shape[2] // (2 * len(size))
    pairs = count * len(size)
    y = x.clone()
    for token, position in enumerate(itertools.product(*map(range, size))):
        for pair in range(pairs):
            angle = torch.tensor(position[pair // count] * frequencies(count)[pair % count], dtype=x.dtype)
            number = torch.complex(x[:, :, pair, token], x[:, :, pairs + pair, token])
            number = number * torch.polar(torch.ones_like(angle), angle)
            y[:, :, pair, token], y[:, :, pairs + pair, token] = number.real, number.imag
    return y


def attention_map(x: Tensor, state: State, num_heads: int, rotary: bool) -> Tensor:
    """A_hij = softmax_j(q_hi . k_hj / sqrt d), queries and keys turned if ``rotary``."""
    q, k = (projected(x, state, name, num_heads) for name in ("query", "key"))
    if rotary:
        q, k = turned(q, x.shape[2:]), turned(k, x.shape[2:])
    return softmax(torch.einsum("bhdi,bhdj->bhij", q, k) / q.shape[2] ** 0.5, -1)


def self_attention(x: Tensor, state: State, num_heads: int, rotary: bool) -> Tensor:
    """y_i = W_o concat_h sum_j A_hij v_hj + b_o."""
    v = projected(x, state, "value", num_heads)
    heads = torch.einsum("bhij,bhdj->bhdi", attention_map(x, state, num_heads, rotary), v)
    return pointwise(torch.cat(heads.unbind(1), dim=1), state, "output").reshape(x.shape)


def layer_norm(x: Tensor, state: State, name: str) -> Tensor:
    """Normalise every token over its channels."""
    column = (-1, *(1,) * (x.dim() - 2))
    mean = x.mean(1, keepdim=True)
    y = (x - mean) / (((x - mean) ** 2).mean(1, keepdim=True) + 1e-6).sqrt()
    return y * state[f"{name}.weight"].view(column) + state[f"{name}.bias"].view(column)


def perceptron(x: Tensor, state: State) -> Tensor:
    """W_2 GELU(W_1 x + b_1) + b_2 for every token."""
    inner = pointwise(x, state, "mlp.0")
    return pointwise(inner * (1 + torch.erf(inner / math.sqrt(2))) / 2, state, "mlp.3")


def transformer_layer(x: Tensor, state: State, num_heads: int, rotary: bool) -> Tensor:
    """h = x + MSA(LN(x)), y = h + MLP(LN(h))."""
    h = x + self_attention(layer_norm(x, state, "attention_norm"), below(state, "attention"), num_heads, rotary)
    return h + perceptron(layer_norm(h, state, "mlp_norm"), state)


def vision_transformer(x: Tensor, state: State, num_heads: int, rotary: bool) -> Tensor:
    """LN(layers(x + positions)), the positions only if the state has a table."""
    positions = below(state, "positions")
    x = position_embedding(x, positions) if positions else x
    for layer in numbered(state, "layers"):
        x = transformer_layer(x, layer, num_heads, rotary)
    return layer_norm(x, state, "norm")


def up_block(x: Tensor, size: Steps, skip: Tensor | None, state: State) -> Tensor:
    """Resize, append the skip, then twice convolution, norm and relu."""
    x = resize(x, size)
    x = x if skip is None else torch.cat([x, skip], dim=1)
    for i in range(2):
        x = convolve(x, state[f"convolutions.{i}.conv.weight"])
        x = normalise(x, state, f"convolutions.{i}.adn.N").clamp(min=0)
    return x

"""Slow references of Primus from its formulas: loops and complex numbers, none of the package's code."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from tests.references.layers import State, below, convolve, normalise, patches, pointwise, resize, softmax
from tests.references.transformer import Steps, numbered

BASE = 10000.0


def frequencies(count: int) -> list[float]:
    """10000^(-f / F): how many radians a pair turns from one token to the next."""
    return [BASE ** (-f / count) for f in range(count)]


def use_exact_frequencies(module: nn.Module) -> nn.Module:
    """Give a float64 module its frequencies in float64; they are stored in float32."""
    for name, buffer in module.named_buffers():
        if name.split(".")[-1] == "frequencies":
            exact = buffer.new_tensor(frequencies(len(buffer)))
            torch.testing.assert_close(buffer, exact, rtol=1e-6, atol=0)
            buffer.copy_(exact)
    return module


def turned(x: Tensor, size: Steps) -> Tensor:
    """Multiply the complex numbers (channel 2i, channel 2i + 1) of ``(B, H, N, d)`` by exp(i angle of the place)."""
    count = x.shape[-1] // (2 * len(size))
    y = x.clone()
    for token, position in enumerate(itertools.product(*map(range, size))):
        for axis, place in enumerate(position):
            for f, frequency in enumerate(frequencies(count)):
                i = 2 * (axis * count + f)
                number = torch.complex(x[:, :, token, i], x[:, :, token, i + 1])
                number = number * complex(math.cos(place * frequency), math.sin(place * frequency))
                y[:, :, token, i], y[:, :, token, i + 1] = number.real, number.imag
    return y


def linear(x: Tensor, state: State, name: str) -> Tensor:
    """W x + b for every token of ``(B, T, C)``; b may be missing."""
    y = torch.einsum("oc,btc->bto", state[f"{name}.weight"], x)
    return y + state[f"{name}.bias"] if f"{name}.bias" in state else y


def layer_norm(x: Tensor, state: State, name: str, epsilon: float = 1e-5, axis: int = -1) -> Tensor:
    """Normalise along the channels."""
    mean = x.mean(axis, keepdim=True)
    y = (x - mean) / (((x - mean) ** 2).mean(axis, keepdim=True) + epsilon).sqrt()
    shape = [1] * x.dim()
    shape[axis] = -1
    return y * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)


def attention_map(x: Tensor, state: State, num_heads: int, size: Steps, registers: int = 0) -> Tensor:
    """softmax_j(q_i . k_j / sqrt d) of tokens ``(B, R + N, C)``, all but the first R turned by their places."""
    q, k = (torch.stack(linear(x, state, f"{name}_proj").chunk(num_heads, dim=-1), dim=1) for name in "qk")
    q, k = (torch.cat([y[:, :, :registers], turned(y[:, :, registers:], size)], dim=2) for y in (q, k))
    return softmax(torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(q.shape[-1]), -1)


def attention(x: Tensor, state: State, num_heads: int, size: Steps, registers: int = 0) -> Tensor:
    """W_o LN(concat_h sum_j A_hij v_hj) + b_o, the norm only where the state has one."""
    v = torch.stack(linear(x, state, "v_proj").chunk(num_heads, dim=-1), dim=1)
    heads = torch.einsum("bhij,bhjd->bhid", attention_map(x, state, num_heads, size, registers), v)
    y = torch.cat(heads.unbind(1), dim=-1)
    return linear(layer_norm(y, state, "norm") if "norm.weight" in state else y, state, "proj")


def perceptron(x: Tensor, state: State) -> Tensor:
    """W_2 LN(SiLU(W_g x) * W_x x) + b_2."""
    gate = linear(x, state, "fc1_g")
    return linear(layer_norm(gate / (1 + (-gate).exp()) * linear(x, state, "fc1_x"), state, "norm"), state, "fc2")


def block(x: Tensor, state: State, num_heads: int, size: Steps, registers: int = 0) -> Tensor:
    """x + gamma_1 A(LN x), then + gamma_2 M(LN x); no gamma where the state has none."""
    y = attention(layer_norm(x, state, "norm1"), below(state, "attn"), num_heads, size, registers)
    x = x + state.get("gamma_1", 1) * y
    return x + state.get("gamma_2", 1) * perceptron(layer_norm(x, state, "norm2"), below(state, "mlp"))


def embedded(x: Tensor, state: State, grid: Steps) -> Tensor:
    """Return registers and tokens ``(B, R + N, C)`` with the table, of which the tokens' rows lie on ``grid``."""
    registers = state["registers"].shape[1] if "registers" in state else 0
    table = state["pos_embed"]
    rows = resize(table[:, registers:].transpose(1, 2).reshape(1, -1, *grid), x.shape[2:])
    tokens = (x + rows).flatten(2).transpose(1, 2)
    if not registers:
        return tokens
    first = (state["registers"] + table[:, :registers]).expand(len(x), -1, -1)
    return torch.cat([first, tokens], dim=1)


def transformer(x: Tensor, state: State, num_heads: int, grid: Steps) -> Tensor:
    """Table, blocks and norm on tokens ``(B, C, *S)``."""
    tokens, size = embedded(x, state, grid), x.shape[2:]
    registers = tokens.shape[1] - math.prod(size)
    for layer in numbered(state, "blocks"):
        tokens = block(tokens, layer, num_heads, size, registers)
    return layer_norm(tokens, state, "norm")[:, registers:].transpose(1, 2).reshape(x.shape)


def rectified(x: Tensor, slope: float) -> Tensor:
    """x where it is positive, slope times x elsewhere."""
    return torch.where(x > 0, x, slope * x)


def averaged(x: Tensor, strides: Steps) -> Tensor:
    """Take the mean of each window of ``strides`` voxels."""
    y = x.new_empty(*x.shape[:2], *(n // s for n, s in zip(x.shape[2:], strides, strict=True)))
    for cell in itertools.product(*map(range, y.shape[2:])):
        box = tuple(slice(c * s, (c + 1) * s) for c, s in zip(cell, strides, strict=True))
        y[(..., *cell)] = x[(..., *box)].flatten(2).mean(-1)
    return y


def biased(x: Tensor, state: State, name: str) -> Tensor:
    """Add the bias of a convolution, if it has one."""
    return x + state[f"{name}.bias"].view(-1, *(1,) * (x.dim() - 2)) if f"{name}.bias" in state else x


def residual_unit(x: Tensor, state: State, strides: Steps, slope: float) -> Tensor:
    """a(N W_2 a(N W_1 x) + S x)."""
    y = biased(convolve(x, state["conv1.conv.weight"]), state, "conv1.conv")
    y = y[(..., *(slice(None, None, step) for step in strides))]
    y = rectified(normalise(y, state, "conv1.norm"), slope)
    y = normalise(biased(convolve(y, state["conv2.conv.weight"]), state, "conv2.conv"), state, "conv2.norm")
    place = 0
    if max(strides) > 1:
        x, place = averaged(x, strides), 1
    if f"skip.{place}.conv.weight" in state:
        x = pointwise(x.flatten(2), state, f"skip.{place}.conv").unflatten(2, x.shape[2:])
        x = normalise(x, state, f"skip.{place}.norm")
    return rectified(y + x, slope)


def convolutional_tokens(x: Tensor, state: State, strides: list[Steps], slope: float) -> Tensor:
    """Return final(x_n) + sum_j s_j P_j(x_j), the sum where the state has projections."""
    ones = (1,) * len(strides[0])
    maps = [residual_unit(x, below(state, "stem.blocks.0"), ones, slope)]
    for steps, stage in zip(strides, numbered(state, "stages"), strict=True):
        x = maps[-1]
        for i, unit in enumerate(numbered(stage, "blocks")):
            x = residual_unit(x, unit, ones if i else steps, slope)
        maps.append(x)
    tokens = pointwise(x.flatten(2), state, "final_proj").unflatten(2, x.shape[2:])
    for j in range(len(strides)):
        if f"proj_to_tokens.{j}.weight" in state:
            projected = biased(patches(maps[j], state[f"proj_to_tokens.{j}.weight"]), state, f"proj_to_tokens.{j}")
            tokens = tokens + state[f"scale_proj_to_tokens.{j}"] * projected
    return tokens


def transposed(x: Tensor, state: State, name: str) -> Tensor:
    """Give every voxel a box of its own, as large as the kernel."""
    weight = state[f"{name}.weight"]
    kernel = weight.shape[2:]
    y = x.new_empty(len(x), weight.shape[1], *(n * k for n, k in zip(x.shape[2:], kernel, strict=True)))
    for tap in itertools.product(*map(range, kernel)):
        places = tuple(slice(t, None, k) for t, k in zip(tap, kernel, strict=True))
        y[(..., *places)] = torch.einsum("io,bi...->bo...", weight[(..., *tap)], x)
    return biased(y, state, name)


def decoder(x: Tensor, state: State) -> list[Tensor]:
    """GELU LN W_i, and the last W alone."""
    maps = []
    for step in numbered(state, "decode"):
        if "0.weight" in step:
            x = layer_norm(transposed(x, step, "0"), step, "1", 1e-6, axis=1)
            x = x * (1 + torch.erf(x / math.sqrt(2))) / 2
        else:
            x = transposed(x, {f"up.{key}": value for key, value in step.items()}, "up")
        maps.append(x)
    return maps


def primus(x: Tensor, state: State, num_heads: int, grid: Steps, strides: list[Steps], slope: float) -> list[Tensor]:
    """Return the maps of the decoder, the logits last."""
    down = below(state, "down_projection")
    if "proj.weight" in down:
        tokens = biased(patches(x, down["proj.weight"]), down, "proj")
    else:
        tokens = convolutional_tokens(x, down, strides, slope)
    eva = below(state, "eva")
    return decoder(transformer(tokens, eva, num_heads, grid) if eva else tokens, below(state, "up_projection"))

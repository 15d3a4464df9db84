"""What a module of the battery is: how to build it, what it eats and what it claims."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from custom_networks import attention

AXIS_PERMUTATION = "axis permutation"
ATTENTION_MAP = "attention map"
# What a class promises beyond its contract. The battery asks every class for both: what claims it must do it, and what
# does not must not. The first is that permuting the spatial axes of the input permutes those of the output.
PERMUTE_AXES: frozenset[type[nn.Module]] = frozenset(
    {
        attention.CrissCrossAttention,
        attention.DoubleAttention,
        attention.DualAttention,
        attention.Eca,
        attention.ExternalAttention,
        attention.MultiHeadSelfAttention,
        attention.NonLocal,
        attention.PolarizedSelfAttention,
        attention.SeparableSelfAttention,
        attention.ShuffleAttention,
        attention.SimAm,
        attention.SimplifiedSelfAttention,
        attention.SpatialGroupEnhance,
        attention.SqueezeExcitation,
        attention.UfoAttention,
    }
)
# Their mechanisms have no map: every other class has the method attention_map.
WITHOUT_MAP: frozenset[type[nn.Module]] = frozenset({attention.GlobalFilter, attention.UfoAttention})


@dataclass(frozen=True)
class Case:
    """One module and the shapes it eats.

    Args:
        name: readable test id.
        build: returns a fresh module; takes the keyword arguments of the class.
        kind: the class.
        shapes: ``(C, *spatial)`` of each input, the sizes distinct on every axis.
        out_channels: channels of the output.
        on_grid: whether the output lies on the grid of the first input; else it is one row per sample.
        claims: any of ``AXIS_PERMUTATION`` and ``ATTENTION_MAP``.
        multiples: what every axis must be a multiple of; empty if any size will do.
        is_net: whether it is a whole network, whose graph takes long to make.
        part_of: the network of ``tests/small_nets.py`` whose graph holds that of the module; empty if there is none.
    """

    name: str
    build: Callable[..., nn.Module]
    kind: type[nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    out_channels: int
    on_grid: bool = True
    claims: frozenset[str] = frozenset()
    multiples: tuple[int, ...] = ()
    is_net: bool = False
    part_of: str = ""

    @classmethod
    def of(cls, name: str, build: Callable[..., nn.Module], kind: type[nn.Module], *shapes: tuple, **rest) -> Case:
        claims = {AXIS_PERMUTATION: kind in PERMUTE_AXES, ATTENTION_MAP: kind not in WITHOUT_MAP}
        return cls(name, build, kind, shapes, claims=frozenset(c for c, claimed in claims.items() if claimed), **rest)

    @property
    def takes_dropout(self) -> bool:
        """Tell whether the class has the argument ``dropout``."""
        return "dropout" in inspect.signature(self.kind).parameters

    def module(self, **kwargs) -> nn.Module:
        """Return the module with every parameter drawn at random, zero-initialised ones included."""
        torch.manual_seed(0)
        module = self.build(**kwargs)
        for parameter in module.parameters():
            fan = max(1, parameter[0].numel()) if parameter.dim() > 1 else 4
            nn.init.normal_(parameter, std=fan**-0.5)
        return module.eval()

    def inputs(self, batch: int = 2) -> list[Tensor]:
        generator = torch.Generator().manual_seed(1)
        return [torch.randn(batch, *shape, generator=generator) for shape in self.shapes]

    def resized(self, grow: int) -> Case:
        """Return the case with every axis longer by ``grow`` times the size it must be a multiple of."""
        steps = self.multiples or (1,) * (len(self.shapes[0]) - 1)
        shapes = tuple((c, *(s + grow * m for s, m in zip(size, steps, strict=True))) for c, *size in self.shapes)
        return replace(self, shapes=shapes)


def close(got: Tensor, want: Tensor, what: str, tolerance: float = 1e-4) -> None:
    """Compare two tensors; ``what`` heads the error."""
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance, msg=lambda m: f"{what}\n{m}")

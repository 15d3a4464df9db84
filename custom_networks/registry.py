"""The plug-in attention modules by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from custom_networks import attention

ATTENTION: Mapping[str, type[nn.Module]] = MappingProxyType(
    {
        "axial_attention": attention.AxialAttention,
        "bam": attention.Bam,
        "cbam": attention.Cbam,
        "coordinate_attention": attention.CoordinateAttention,
        "criss_cross_attention": attention.CrissCrossAttention,
        "double_attention": attention.DoubleAttention,
        "dual_attention": attention.DualAttention,
        "eca": attention.Eca,
        "efficient_multi_head_self_attention": attention.EfficientMultiHeadSelfAttention,
        "external_attention": attention.ExternalAttention,
        "global_filter": attention.GlobalFilter,
        "multi_head_self_attention": attention.MultiHeadSelfAttention,
        "non_local": attention.NonLocal,
        "par_net_attention": attention.ParNetAttention,
        "polarized_self_attention": attention.PolarizedSelfAttention,
        "selective_kernel": attention.SelectiveKernel,
        "separable_self_attention": attention.SeparableSelfAttention,
        "shuffle_attention": attention.ShuffleAttention,
        "sim_am": attention.SimAm,
        "simplified_self_attention": attention.SimplifiedSelfAttention,
        "spatial_group_enhance": attention.SpatialGroupEnhance,
        "squeeze_excitation": attention.SqueezeExcitation,
        "triplet_attention": attention.TripletAttention,
        "ufo_attention": attention.UfoAttention,
    }
)
"""Immutable mapping from a snake_case name to an attention class, each buildable as ``cls(3, 16)``."""


def nearest(name: str, names: Iterable[str], count: int = 3) -> str:
    """Return the names most like ``name``, quoted, for an error message.

    Args:
        name: what was asked for.
        names: what there is.
        count: how many to offer.

    Example:
        >>> nearest("cbma", ["eca", "cbam"], 1)
        "'cbam'"
    """
    names = list(names)
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.0)
    return ", ".join(repr(candidate) for candidate in close)


def attention_class(name: str) -> type[nn.Module]:
    """Return the attention class of a name.

    Args:
        name: a key of ``ATTENTION``.

    Raises:
        ValueError: if there is no such name; the message offers the nearest ones.

    Example:
        >>> attention_class("non_local").__name__
        'NonLocal'
    """
    if name not in ATTENTION:
        raise ValueError(f"there is no attention module {name!r}; use for example {nearest(name, ATTENTION)}")
    return ATTENTION[name]


def build_attention(name: str, spatial_dims: int, in_channels: int, arguments: Mapping[str, Any]) -> nn.Module:
    """Build an attention module by its name.

    Args:
        name: a key of ``ATTENTION``.
        spatial_dims: 2 or 3.
        in_channels: channels of the map that it gets.
        arguments: the other arguments of its class by name.

    Raises:
        ValueError: if there is no such name, the class does not know an argument, or a value does not fit.

    Example:
        >>> build_attention("cbam", 3, 16, {"reduction": 4}).__class__.__name__
        'Cbam'
    """
    kind = attention_class(name)
    known = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = [argument for argument in arguments if argument not in known]
    if unknown:
        takes = ", ".join(known) or "no further argument"
        raise ValueError(f"attention module {name!r} does not know {', '.join(unknown)}; it takes {takes}")
    try:
        return kind(spatial_dims, in_channels, **arguments)
    except ValueError as error:  # it names in_channels, which here are not those of an image
        raise ValueError(f"attention module {name!r} on a map of {in_channels} channels: {error}") from error

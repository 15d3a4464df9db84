"""The plug-in attention modules by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from custom_networks.attention.non_local import NonLocal

ATTENTION: Mapping[str, type[nn.Module]] = MappingProxyType({"non_local": NonLocal})
"""Immutable mapping from a snake_case name to an attention class, each buildable as ``cls(3, 16)``."""

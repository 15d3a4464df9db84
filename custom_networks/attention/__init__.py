"""Plug-in attention modules: same shape in, same shape out."""

from custom_networks.attention.non_local import NonLocal

__all__ = ["NonLocal"]

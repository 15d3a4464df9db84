"""Attention networks for 3D medical images, and what their MONAI bundles call besides MONAI."""

from custom_networks.plug import plug

__all__ = ["plug"]
__version__ = "0.1.0"

"""Attention networks for 3D medical images, and what their MONAI bundles call besides MONAI."""

__version__ = "0.1.0"

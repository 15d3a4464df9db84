"""Attention networks for 3D medical images, and what their MONAI bundles call besides MONAI."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from custom_networks.plugging import plug

__all__ = ["plug"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import ``plug`` when it is asked for: commands that only say something answer without torch."""
    if name == "plug":
        from custom_networks import plugging

        return plugging.plug
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

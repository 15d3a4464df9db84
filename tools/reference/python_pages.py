"""The reference pages of what is used from Python, or named in a config: networks, their blocks, the workflow."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable
from typing import Any

import custom_networks
from custom_networks import blocks, nets, workflow
from tools.reference.docstrings import arguments, paragraph, prose, split

NETWORKS = """\
# Networks

A network takes an image `(B, in_channels, *spatial)` and returns raw logits, one channel per class; a segmentation on
the grid of the image, which must be divisible by its `size_divisor`. `plug` puts an attention module into a network of
any origin.
"""
BLOCKS = """\
# Blocks

What the [networks](networks.md) are made of, beside the [attention modules](attention.md), which keep the shape of
their input.
"""
WORKFLOW = """\
# Workflow

What the configs of a bundle name as `custom_networks.workflow.<name>`, beside the classes of MONAI. The
[architecture](../concepts/architecture.md) shows in which order.
"""


def networks() -> str:
    """Return the page of the networks and of ``plug``."""
    return _page(NETWORKS, [*(getattr(nets, name) for name in nets.__all__), custom_networks.plug])


def building_blocks() -> str:
    """Return the page of the blocks."""
    return _page(BLOCKS, [getattr(blocks, name) for name in blocks.__all__])


def workflow_parts() -> str:
    """Return the page of what the configs name."""
    return _page(WORKFLOW, [getattr(workflow, name) for name in workflow.__all__])


def _page(introduction: str, things: Iterable[Any]) -> str:
    return "\n".join([introduction, *(section(thing) for thing in things)])


def section(thing: Any) -> str:
    """Return what is said of a class or function in Markdown.

    Args:
        thing: with a docstring.
    """
    parts = split(thing)
    lines = [f"## {thing.__name__}", "", f"`{thing.__module__}.{thing.__name__}`", "", parts["summary"], ""]
    if "formula" in parts:
        lines += [parts["formula"], ""]
    if parts["text"]:
        lines += [parts["text"], ""]
    if parts["differences"]:
        lines += [f"**Differs from the paper.** {parts['differences']}", ""]
    described = arguments(parts.get("Args", ""))
    if described:
        lines += ["| argument | default | meaning |", "|---|---|---|"]
        parameters = inspect.signature(thing).parameters
        for name, text in described.items():
            lines.append(f"| `{name}` | {_default(parameters.get(name.lstrip('*')))} | {text} |")
        lines.append("")
    lines += [f"**{name}.** {prose(parts[name])}\n" for name in ("Shape", "Returns") if name in parts]
    if errors := arguments(parts.get("Raises", "")):
        lines += [f"**Raises.** {' '.join(f'`{name}` {text}' for name, text in errors.items())}", ""]
    if "Example" in parts:
        lines += ["```python", textwrap.dedent(parts["Example"]), "```", ""]
    lines += [f"**{name}.** {paragraph(parts[name])}\n" for name in ("Cost", "References") if name in parts]
    return "\n".join(lines)


def _default(parameter: inspect.Parameter | None) -> str:
    if parameter is None or parameter.default is inspect.Parameter.empty:
        return ""
    value = parameter.default
    if isinstance(value, float):
        return f"`{value:.4g}`"
    return f"`{value!r}`" if isinstance(value, (str, int, tuple, list, type(None))) else ""

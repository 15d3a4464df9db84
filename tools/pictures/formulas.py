r"""Draw the formulas of the documentation as SVG, so that its pages need no script from elsewhere.

A Markdown extension: ``$`x`$`` and fenced blocks called ``math``, which is how GitHub writes them too.
"""

from __future__ import annotations

import html
import io
import re
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markdown import Extension, Markdown  # type: ignore[import-untyped]
from markdown.inlinepatterns import InlineProcessor  # type: ignore[import-untyped]
from matplotlib.mathtext import math_to_image

INLINE = r"\$`([^`]+)`\$"
BEFORE_CODE = 200
# What matplotlib's mathtext writes in another way than LaTeX, or leaves out.
DIALECT = (
    (r"\\[bB]ig+l", r"\\left"),
    (r"\\[bB]ig+r", r"\\right"),
    (r"\\[bB]ig+(?=[^a-zA-Z])", ""),
    (r"\\t?frac(\d)(\d)", r"\\frac{\1}{\2}"),
    (r"\\frac\b", r"\\dfrac"),
    (r"\\[lr]Vert", r"\\Vert"),
    (r"\\sqrt (\w)", r"\\sqrt{\1}"),
    (r"\\textstyle", ""),
)


def drawing(source: str) -> str:
    """Return a formula as an SVG element in the colour of the text, read out as its source.

    Args:
        source: LaTeX without dollar signs.

    Raises:
        ValueError: if matplotlib cannot set it.
    """
    formula = " ".join(source.split())
    for pattern, replacement in DIALECT:
        formula = re.sub(pattern, replacement, formula)
    buffer = io.BytesIO()
    with mpl.rc_context({"mathtext.fontset": "stix", "svg.fonttype": "path", "savefig.facecolor": "none"}):
        depth = math_to_image(f"${formula}$", buffer, format="svg")
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(buffer.getvalue())
    name = "{http://www.w3.org/2000/svg}metadata"
    for metadata in root.findall(name):
        root.remove(metadata)
    root.set("role", "img")
    root.set("aria-label", source)
    # Tall brackets and fractions reach a little over the box that matplotlib reckons.
    root.set("style", f"fill: currentColor; overflow: visible; vertical-align: {-float(depth):.2f}pt")
    return ElementTree.tostring(root, encoding="unicode")


def fence(source: str, language: str, class_name: str, options: Any, md: Markdown, **_: Any) -> str:
    """Return a fenced formula as HTML; the signature is that of a custom fence of pymdownx.superfences.

    Args:
        source: LaTeX.
        language: the word after the fence.
        class_name: class of the element.
        options: of the fence.
        md: the running conversion.
    """
    style = "overflow-x: auto; padding: 0.5em 0"
    return f'<p class="{html.escape(class_name)}" style="{style}">{drawing(source)}</p>'


class _Inline(InlineProcessor):
    """Formulas between dollar sign and backtick."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:  # noqa: N802
        return self.md.htmlStash.store(drawing(m[1])), m.start(0), m.end(0)


class Formulas(Extension):
    """The Markdown extension."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Register the inline formulas.

        Args:
            md: the conversion to extend.
        """
        md.inlinePatterns.register(_Inline(INLINE, md), "formula", BEFORE_CODE)


def makeExtension(**options: Any) -> Formulas:  # noqa: N802
    """Return the extension; Markdown looks for this name.

    Args:
        **options: of the extension; it has none.
    """
    return Formulas(**options)

"""Formulas of the documentation are drawn in the page, without a script from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import markdown
import pytest

from tools.pictures.formulas import drawing, fence

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "attention.md"


def shapes(svg: str) -> list[str]:
    """Return the glyphs used and where, in order."""
    return re.findall(r'(?:xlink:href|transform)="([^"]*)"', svg)


def test_dialect_of_latex():
    """What mathtext writes otherwise is drawn as what it means."""
    assert shapes(drawing(r"\frac12")) == shapes(drawing(r"\dfrac{1}{2}"))
    assert shapes(drawing(r"\tfrac12")) == shapes(drawing(r"\dfrac{1}{2}"))
    assert shapes(drawing(r"a \Big/ b")) == shapes(drawing(r"a / b"))
    assert shapes(drawing(r"\sqrt d")) == shapes(drawing(r"\sqrt{d}"))
    assert shapes(drawing(r"\Bigl(\frac{a}{b}\Bigr)")) == shapes(drawing(r"\left(\dfrac{a}{b}\right)"))
    assert shapes(drawing(r"\lVert a \rVert")) == shapes(drawing(r"\Vert a \Vert"))
    assert shapes(drawing("a")) != shapes(drawing("b"))


def test_a_drawing_takes_the_colour_of_the_text_and_can_be_read_out():
    svg = ElementTree.fromstring(drawing(r"\bar x < 1"))
    assert svg.get("aria-label") == r"\bar x < 1"
    assert "currentColor" in svg.get("style")
    assert "#ffffff" not in drawing(r"\bar x < 1")
    with pytest.raises(ValueError, match="nosuchcommand"):
        drawing(r"\nosuchcommand")


def test_the_site_draws_every_formula_of_the_page():
    settings = (ROOT / "zensical.toml").read_text()
    assert '[project.markdown_extensions."tools.pictures.formulas"]' in settings
    assert 'name = "math"\nclass = "math"\nformat = "tools.pictures.formulas.fence"\n' in settings
    text = PAGE.read_text()
    inline, blocks = re.findall(r"\$`([^`]+)`\$", text), re.findall(r"```math\n(.*?)```", text, re.DOTALL)
    assert inline and blocks
    page = markdown.markdown(
        text,
        extensions=["pymdownx.superfences", "tools.pictures.formulas"],
        extension_configs={
            "pymdownx.superfences": {"custom_fences": [{"name": "math", "class": "math", "format": fence}]}
        },
    )
    assert page.count("<svg") == len(inline) + len(blocks)
    assert page.count('<p class="math"') == len(blocks)

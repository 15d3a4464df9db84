"""What a page says of a kept study is in that study."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from tests.synthetic import ROOT

NUMBER = re.compile(r"[-+]?\d+\.\d{3,}")
STUDY = re.compile(r"\]\((?:\.\./)?studies/(\w+)/comparison\.md\)")
SPOKEN_OF = [
    pytest.param(text, names, id=f"{page.stem}, {' and '.join(names)}")
    for page in sorted((ROOT / "docs").glob("**/*.md"))
    if "studies" not in page.parts and page.name != "results.md"
    for text in page.read_text().split("\n\n")
    if (names := STUDY.findall(text)) and NUMBER.search(text)
]


def values(text: str) -> set[Decimal]:
    """Return the figures of a text that have three decimals or more."""
    return {Decimal(number) for number in NUMBER.findall(text)}


def unfounded(text: str, source: str) -> list[str]:
    """Return the figures of a text that are none of a source, rounded to as many decimals, whatever the sign."""
    known = values(source)
    return [
        str(said)
        for said in sorted(values(text))
        if not any(abs(abs(value) - abs(said)) <= Decimal(5).scaleb(said.as_tuple().exponent - 1) for value in known)
    ]


def test_a_figure_that_is_not_in_the_source_is_found():
    assert unfounded("0.736 and +0.0023, 12.5", "| 0.7360 | -0.0023 |") == []
    assert unfounded("0.737 and 0.0024", "| 0.7360 | -0.0023 | 0.73750001") == ["0.0024", "0.737"]


def test_pages_speak_of_studies():
    assert len(SPOKEN_OF) >= 2


@pytest.mark.parametrize(("text", "names"), SPOKEN_OF)
def test_the_figures_beside_a_link_are_those_of_the_study(text, names):
    folders = [ROOT / "docs" / "studies" / name for name in names]
    assert unfounded(text, "".join((folder / "comparison.md").read_text() for folder in folders)) == []

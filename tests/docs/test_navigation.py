"""The navigation of the site has every page once."""

from __future__ import annotations

import tomllib
from typing import Any

from tests.synthetic import ROOT


def pages(entries: list[dict[str, Any]]) -> list[str]:
    """Return the pages of a navigation, in their order."""
    found = []
    for entry in entries:
        for target in entry.values():
            found += [target] if isinstance(target, str) else pages(target)
    return found


def test_every_page_is_in_the_navigation_once():
    navigation = pages(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    there = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    # what `tools study keep` copies is shown by results.md
    assert sorted(navigation) == sorted(page for page in there if not page.startswith("studies/"))

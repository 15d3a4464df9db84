"""What the attention of every bundle changes, side by side, on the page that tells when it pays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.recipes.bundle import Bundle
from tools.recipes.markdown import format_table
from tools.recipes.removal import Score, pair_differences, read_variants
from tools.recipes.removal_text import format_changes

HEADS = ["task", "network", "epochs", "metric", "with attention minus without"]


def tabulate_effects(bundles: Sequence[tuple[Bundle, Score]], folder: Path) -> list[str]:
    """Return the table of the removal tests, a row for each bundle whose test was run.

    Args:
        bundles: specifications, each with the score of its recipe.
        folder: where the bundles lie.
    """
    rows = []
    for bundle, score in bundles:
        names = (bundle.removal_profiles[0], bundle.removal_profiles[-1])
        plain, shipped = read_variants(folder / bundle.name, names)
        if changes := pair_differences(plain, shipped, score):
            epochs = str(bundle.profiles["removal"]["epochs"])
            rows.append([bundle.metadata["task"], bundle.network_name, epochs, score.name, format_changes(changes)])
    return format_table(HEADS, rows)

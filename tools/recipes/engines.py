"""The part of a bundle's README about engines and precisions, from a stored run file."""

from __future__ import annotations

import json
from pathlib import Path

from tools.recipes.markdown import format_table

RECORD = "docs/runs/engines.json"
TOLERANCE = 5e-4
"""Change of the score up to which a precision counts as the same."""


def describe_engines(folder: Path) -> str:
    """Return the scores of the shipped weights by engine and precision, and what they mean for ``amp``.

    Args:
        folder: the bundle's folder.
    """
    path = folder / RECORD
    if not path.is_file():
        return "Not measured yet."
    record = json.loads(path.read_text())
    scores: dict[str, dict[str, float]] = record["scores"]
    reference = scores["torch"]["float32"]
    rows = [
        [f"`{engine}`", precision, f"{score:.5f}", f"{score - reference:+.5f}"]
        for engine, by_precision in scores.items()
        for precision, score in by_precision.items()
    ]
    table = format_table(["engine", "precision", record["score"], "change"], rows)
    change = max(abs(score - reference) for by_precision in scores.values() for score in by_precision.values())
    verdict = (
        f"No engine and precision changes it by more than {TOLERANCE}."
        if change <= TOLERANCE
        else f"One changes it by {change:.5f}, more than {TOLERANCE}: set `amp` to false where that matters."
    )
    score = f"{record['score'][0].upper()}{record['score'][1:]}"
    cases = "held-back cases" if record.get("held_back", True) else "of the cases that they were trained on"
    return "\n".join(
        [
            f"{score} of the shipped weights on {record['cases']} {cases}:",
            "",
            *table,
            "",
            verdict,
        ]
    )

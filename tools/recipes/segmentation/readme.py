"""docs/README.md of a segmentation bundle, every number from a stored run file."""

from __future__ import annotations

import json
from pathlib import Path

from custom_networks.workflow.train.checkpoint_files import read_checkpoint
from tools.recipes.bundle import Bundle
from tools.recipes.engines import describe_engines
from tools.recipes.exports import describe_exports
from tools.recipes.gate_table import tabulate_gates
from tools.recipes.head_figures import describe_head_figures
from tools.recipes.markdown import (
    collect_fields,
    fill_template,
    join_paragraphs,
    keep_in_a_clone,
)
from tools.recipes.removal import read_costs, read_variants
from tools.recipes.removal_text import state_verdict, tabulate_removal, tabulate_single_seeds
from tools.recipes.segmentation.performance import SCORE, describe_performance
from tools.recipes.segmentation.whole_heads import describe_whole_heads


def describe_gates(bundle: Bundle, folder: Path) -> str:
    """Return what training has made of the gates of the shipped weights, or nothing for a network without gates.

    Args:
        bundle: the specification.
        folder: the bundle's folder, whose ``models/model.pt`` is read.
    """
    weights = folder / "models" / "model.pt"
    if bundle.network.get("form") not in ("gated", "released") or not weights.is_file():
        return ""
    return "\n".join(
        [
            "The gates of the shipped weights, in brackets the change from where they started:",
            "",
            tabulate_gates(read_checkpoint(weights), str(weights)),
            "",
            *keep_in_a_clone("```bash", f"python -m tools gates {bundle.name}", "```"),
        ]
    )


def describe_folds(bundle: Bundle) -> str:
    """Return what the folds of a bundle are, and on which its weights were trained.

    Args:
        bundle: the specification.
    """
    trained = (
        f"fold {bundle.weights_fold} validates, the other four train"
        if bundle.study is None
        else "the shipped weights were trained on all cases, see [Performance](#performance)"
    )
    return f"`configs/folds.json`, {bundle.folds_rule}; {trained}"


def render_readme(bundle: Bundle, folder: Path) -> str:
    """Return docs/README.md.

    Args:
        bundle: the specification.
        folder: the bundle's folder, whose ``docs/runs`` hold the numbers.
    """
    path = folder / "docs" / "runs" / "training.json"
    record = json.loads(path.read_text()) if path.is_file() else None
    variants = read_variants(folder, bundle.removal_profiles)
    singles = read_variants(folder, bundle.single_seed_profiles)
    costs = read_costs(folder)
    fields = {
        **collect_fields(bundle, record),
        "engines": describe_engines(folder),
        "exports": describe_exports(bundle, folder),
        "verdict": state_verdict(variants, SCORE),
        "mirror": bundle.knobs.get("mirror_axes") or "none (chirality matters)",
        "notes": "".join(f"\n- {note}" for note in bundle.notes),
        "folds": describe_folds(bundle),
        "whole_heads": describe_whole_heads(bundle),
        "performance": describe_performance(record, bundle),
        "head_figures": describe_head_figures(bundle, folder),
        "removal": join_paragraphs(
            tabulate_removal(bundle, variants, SCORE, costs),
            tabulate_single_seeds(bundle, variants, singles, SCORE, costs),
            describe_gates(bundle, folder),
        ),
    }
    return fill_template(Path(__file__).with_name("readme.md"), fields)

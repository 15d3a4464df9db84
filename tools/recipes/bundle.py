"""What one bundle adds to a recipe: its network, its knobs, its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from custom_networks.workflow.data.folds import ALL


@dataclass(frozen=True)
class Bundle:
    """Specification of one bundle.

    Args:
        name: folder name.
        changelog: version to what changed, the oldest first; every component of a version is at most 9.
        recipe: package under ``tools/recipes`` that it is rendered from.
        title: heading of its README.
        summary: one sentence about the network, for README and metadata.
        network_name: the network in a few words, for tables.
        network: class path and arguments of ``network_def``; ``in_channels`` and ``out_channels`` are added.
        knobs: values of the recipe's knobs.
        optimizer: arguments of AdamW besides the learning rate.
        warm_up: share of the steps in which the learning rate rises.
        metadata: keys of ``metadata.json`` that only this bundle knows.
        max_shape: largest training image in voxels after resampling.
        expected: what an input image must show, in words.
        profiles: file stem to flat override dictionary.
        notes: what its README says about its training and about no other bundle's, a sentence or more each.
        folds: case names of the five folds, or ``None`` for the rule of rank modulo five.
        folds_rule: what the folds are, and how the cases came into them, in words.
        study: the cross-validation under ``docs/studies`` whose figures are those of its README; the shipped weights
            are then of a training on all of its cases, else of fold 0.
        data_license: text of ``docs/data_license.txt``.
        weights_license: the licence in it, which the weights inherit, as Hugging Face names it.
        removal_profiles: profiles of the removal test, the one without attention first, the shipped one last.
        single_seed_profiles: profiles of the removal test that are run with one seed only.
        places: where in a whole head the structures lie, the knob of that name; without any the bundle has no
            ``inference_head.json``.
    """

    name: str
    changelog: Mapping[str, str]
    recipe: str
    title: str
    summary: str
    network_name: str
    network: Mapping[str, Any]
    knobs: Mapping[str, Any]
    metadata: Mapping[str, Any]
    max_shape: tuple[int, int, int]
    expected: str
    data_license: str
    weights_license: str
    removal_profiles: tuple[str, ...]
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    warm_up: float = 0.0
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    folds: tuple[tuple[str, ...], ...] | None = None
    folds_rule: str = ""
    study: str | None = None
    single_seed_profiles: tuple[str, ...] = ()
    places: tuple[Mapping[str, Any], ...] = ()

    @property
    def weights_fold(self) -> int | str:
        """The fold of the training of the shipped weights, "all" if it held no case back."""
        return self.knobs.get("fold", 0) if self.study is None else ALL

    @property
    def version(self) -> str:
        """The version of the bundle: the last in its changelog."""
        return list(self.changelog)[-1]

"""A profile of a bundle from a data set of one's own."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_networks.adapt.classification import classification_profile
from custom_networks.adapt.draft import as_json
from custom_networks.adapt.facts import read_facts
from custom_networks.adapt.machine import Machine
from custom_networks.adapt.minutes import fill_minutes
from custom_networks.adapt.network import as_config_value, build
from custom_networks.adapt.segmentation import segmentation_profile, shipped_steps
from custom_networks.bundle_folder import task_of
from custom_networks.files import read_json, write_text
from custom_networks.workflow.guard.knobs import wrong_knob

NEEDED = ("network_def", "amp", "batch_size", "epochs")
NEEDED_BY_TASK = {
    "segmentation": (*NEEDED, "fold", "foreground_ratio"),
    "classification": (*NEEDED, "label_names", "csv_file", "evaluation_split"),
}
"""Entries of train.json that a profile starts from."""


def read_config(folder: Path) -> dict[str, Any]:
    """Return the train.json of a bundle, whose entries are those that a profile starts from.

    Args:
        folder: the bundle's folder.

    Raises:
        ValueError: if an entry is missing or of another kind.
    """
    file = folder / "configs" / "train.json"
    config, needed = read_json(file), NEEDED_BY_TASK[task_of(folder)]
    if missing := [name for name in needed if name not in config]:
        raise ValueError(
            f"{file} has no entry {', '.join(missing)}, which adapt starts from; add it, or use another bundle"
        )
    definition = config["network_def"]
    if not isinstance(definition, Mapping) or "_target_" not in definition:
        raise ValueError(f"{file} has a network_def without a _target_; name the class of the network there")
    if wrong := wrong_knob({name: config[name] for name in needed}):
        raise ValueError(f"{file}: {wrong}")
    return config


def write_profile(
    root: Path,
    folder: Path,
    profile_file: Path,
    patterns: tuple[str | None, str | None],
    machine: Machine,
    minutes: float | None = None,
) -> dict[str, Any]:
    """Write the profile, and print why it says what it says.

    Args:
        root: folder of the data set.
        folder: the bundle's folder.
        profile_file: what to write.
        patterns: of the images and of the labels, if they were given.
        machine: what trains.
        minutes: what the training may take, ``None`` if nobody says.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if the files contradict each other, or the bundle cannot be adapted to them.
    """
    config = read_config(folder)
    if wrong := wrong_knob(dict(zip(("image_glob", "label_glob"), patterns, strict=True))):
        raise ValueError(wrong)
    folds: list[list[str]] | None = None
    if task_of(folder) == "classification":
        if any(patterns):
            raise ValueError(f"{folder.name} finds its images in {config['csv_file']}; leave out --images and --labels")
        draft = classification_profile(folder, config, root, machine)
    else:
        facts = read_facts(root, *patterns)
        draft, folds = segmentation_profile(folder, config, facts, machine)
    results = str(_results_folder(profile_file, root))
    profile = {"dataset_dir": str(root.resolve()), "output_dir": results, "ckpt_dir": results, **draft.profile}
    folds_file = profile_file.with_name(f"{profile_file.stem}_folds.json").resolve()
    if folds is not None:
        if folds_file.exists() and "rule" not in read_json(folds_file):
            raise ValueError(f"{folds_file} exists and holds no folds of adapt, which say their rule; rename --out")
        profile["folds_file"] = str(folds_file)
    build(folder, profile)
    rule = "all images of a patient in one fold: rank of the patient modulo 5"
    folds_text = None if folds is None else json.dumps({"rule": rule, "folds": folds}, indent=2) + "\n"
    if minutes is not None:
        small_first = task_of(folder) == "segmentation" and not machine.is_gpu
        enough = shipped_steps(folder, config) if small_first else None

        def smaller(max_voxels: int) -> Mapping[str, Any]:
            again, _ = segmentation_profile(folder, config, facts, machine, max_voxels)
            for knob in draft.profile.keys() - again.profile.keys():
                del profile[knob]
            draft.profile, draft.lines = again.profile, again.lines
            return again.profile

        cheaper = smaller if small_first else None
        fill_minutes(folder, config, profile, minutes, draft, enough=enough, folds=folds_text, smaller=cheaper)
    profile = as_config_value(profile)
    if folds_text is not None:
        write_text(folds_file, folds_text)
    earlier = ", in place of an earlier profile" * profile_file.exists()
    write_text(profile_file, as_json(profile))
    draft.say("results", str(profile_file.with_name(Path(results).name)), "output_dir and ckpt_dir")
    print(draft.as_table())
    print(f"written: {profile_file}" + (f", {folds_file.name}" if folds is not None else "") + earlier)
    words = [
        "--config_file",
        str(folder / "configs" / "train.json"),
        "--bundle_root",
        str(folder),
        "--args_file",
        str(profile_file),
    ]
    print(f"train: python -m monai.bundle run {shlex.join(words)}")
    return profile


def _results_folder(profile: Path, root: Path) -> Path:
    """Return a folder beside the profile, of its name, but not the data set's."""
    folder = profile.with_suffix("").resolve()
    return folder.with_name(f"{folder.name}_results") if folder == root.resolve() else folder

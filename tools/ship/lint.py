"""Everything that is wrong with a bundle, or with the overrides of a run, at once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from custom_networks.bundle_folder import TASKS, configured, find_bundle
from custom_networks.workflow.report.training_data import DESCRIPTION, read_training_data
from tools.recipes.exports import RECORD as EXPORTS
from tools.ship.lint_configs import (
    OPTIONAL_RUNS,
    RUNS,
    Problem,
    check_components,
    check_knobs,
    check_overrides,
    check_paths,
    check_references,
    combined,
    nearest,
    read,
    walk,
)
from tools.ship.metadata_schema import SCHEMA

METADATA = "configs/metadata.json"
FILES = (
    *("LICENSE", "configs/logging.conf", "docs/README.md", "docs/model_card.yml", "docs/data_license.txt"),
    *("models/model.pt", METADATA),
    *(f"configs/{name}.json" for name in ("train", "inference", "evaluate", "multi_gpu_train", "multi_gpu_evaluate")),
)
MAX_BYTES = 25 * 2**20  # of a file in the model zoo
# Ids that MONAI Label and monai.bundle's properties read or replace, by file.
READ_FROM_OUTSIDE = {
    "train": (
        *("bundle_root", "device", "dataset_dir", "network", "network_def", "run", "initialize", "train#trainer"),
        *("train#trainer#max_epochs", "train#dataset", "train#dataset#data", "train#inferer", "train#handlers"),
        *("validate#dataset#data", "validate#evaluator", "validate#handlers", "val_interval"),
    ),
    "inference": (
        *("bundle_root", "device", "dataset_dir", "network_def", "run", "initialize", "preprocessing", "inferer"),
        *("postprocessing", "dataset", "dataset#data", "evaluator"),
    ),
}
READ_FROM_OUTSIDE["inference_head"] = READ_FROM_OUTSIDE["inference"]


def lint(bundle: str, args_file: str | Sequence[str] | None = None, overrides: str | None = None) -> None:
    """Report every mistake in a bundle, each with its file, its id path and the nearest right name.

    Checked are files, the model zoo's rules on names and sizes, targets and their arguments, references, knobs that
    nothing uses, paths of one machine, equal networks and knobs in training and inference, patches that fit the
    network, metadata, profiles, and the names that MONAI Label reads; with overrides, those as well.

    Args:
        bundle: name or folder of the bundle.
        args_file: profiles that a run will be given.
        overrides: overrides that a run will be given, ``"epochs=1 train#dataset#cache_rate=0"``.

    Raises:
        ValueError: if anything is wrong; every problem is printed before.
    """
    folder = find_bundle(bundle)
    problems = [*bundle_problems(folder), *run_problems(folder, args_file, overrides)]
    for problem in problems:
        print(problem)
    if problems:
        raise ValueError(f"{folder.name} has {len(problems)} problem{'s' * (len(problems) > 1)}, listed above")
    print(f"{folder.name}: no problem found")


def bundle_problems(folder: Path) -> list[Problem]:
    """Return everything that is wrong with a bundle.

    Args:
        folder: the bundle's folder.
    """
    problems = _files(folder)
    configs = folder / "configs"
    missing = {problem.file for problem in problems}
    if not missing & {f"configs/{name}.json" for names in RUNS.values() for name in names}:
        runs = {}
        for run, names in _runs(configs).items():
            runs[run], placed = combined(configs, names)
            file = f"configs/{names[-1]}.json"
            own = read(configs / f"{names[-1]}.json")
            problems += placed + check_references(runs[run], own, file)
            problems += check_components(own, file) + check_paths(own, file)
        inferences = [run for run in runs if run.startswith("inference")]
        training = {run: config for run, config in runs.items() if run not in inferences}
        problems += check_knobs(training, "configs/train.json") + _outside(runs)
        for run in inferences:
            problems += check_knobs({run: runs[run]}, f"configs/{run}.json")
            problems += _agreement(runs["train"], runs[run], f"configs/{run}.json")
        wrong = _patch(runs["train"], folder, {}, "configs/train.json")
        # A profile's network is not looked at where the network that it changes is already wrong.
        problems += wrong + _profiles(folder, None if wrong else runs["train"])
        problems += _exports(folder) + _training_data(folder, runs["train"])
        if METADATA not in missing:
            problems += _metadata(folder, runs["train"])
    return sorted(set(problems))


def _runs(configs: Path) -> dict[str, tuple[str, ...]]:
    """Return the files of each run that the bundle has."""
    return RUNS | {run: names for run, names in OPTIONAL_RUNS.items() if (configs / f"{names[0]}.json").is_file()}


def run_problems(folder: Path, args_file: str | Sequence[str] | None, overrides: str | None) -> list[Problem]:
    """Return what is wrong with the overrides of a run.

    Args:
        folder: the bundle's folder.
        args_file: profiles.
        overrides: ``key=value`` pairs with blanks between them.

    Raises:
        ValueError: if a profile cannot be read, or a pair has no ``=``.
    """
    known = _known(folder)
    problems = []
    for file in [args_file] if isinstance(args_file, str) else args_file or []:
        problems += check_overrides(known, read(Path(file)), str(file))
    pairs = {}
    for pair in (overrides or "").split():
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(
                f"overrides must be key=value with blanks between them, got {pair}; write for example epochs=1"
            )
        pairs[key.lstrip("-")] = value
    return problems + check_overrides(known, pairs, "overrides")


def _known(folder: Path) -> dict[str, Any]:
    """Return every entry that some run of the bundle has."""
    configs = folder / "configs"
    known: dict[str, Any] = {}
    for run, names in _runs(configs).items():
        if run.startswith("inference"):
            known |= read(configs / f"{names[0]}.json")
    return known | combined(configs, RUNS["multi_gpu_evaluate"])[0]


def _files(folder: Path) -> list[Problem]:
    name = folder.name
    problems = [Problem(file, "", "is missing") for file in FILES if not (folder / file).is_file()]
    if not re.fullmatch(rf"[a-z0-9_]+_({'|'.join(TASKS)})", name) or "_v" in name:
        text = f"the name {name} must be lower case, end with _{' or _'.join(TASKS)} and not contain _v"
        problems.append(Problem(".", "", text))
    for path in folder.rglob("*"):
        file = path.relative_to(folder).as_posix()
        if path.is_file() and not file.startswith("eval/") and path.stat().st_size > MAX_BYTES:
            problems.append(
                Problem(file, "", f"is larger than {MAX_BYTES // 2**20} MiB, the most that the model zoo takes")
            )
        if path.suffix == ".pt" and file != "models/model.pt" and path.parent.name == "models":
            problems.append(
                Problem(file, "", "would be offered by MONAI Label beside model.pt; move it to another folder")
            )
    return problems


def _outside(runs: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Check the names that MONAI Label and monai.bundle read."""
    problems = []
    for run, names in READ_FROM_OUTSIDE.items():
        if run not in runs:
            continue
        file, ids = f"configs/{run}.json", [where for where, _ in walk(runs[run])]
        problems += [
            Problem(file, name, f"does not exist, but monai.bundle or MONAI Label reads it{nearest(name, ids)}")
            for name in names
            if name not in ids
        ]
        for where, value in walk(runs[run]):
            if isinstance(value, str) and re.search(r"@device\.", value):
                problems.append(Problem(file, where, "takes an attribute of @device, which MONAI Label makes a string"))
    for run in [run for run in runs if run.startswith("inference")]:
        targets = {
            name: [str(value.get("_target_")) for _, value in walk(runs[run].get(name, {})) if isinstance(value, dict)]
            for name in ("preprocessing", "postprocessing")
        }
        if "Orientationd" in targets["preprocessing"] and "Invertd" not in targets["postprocessing"]:
            text = "has no Invertd, so that results keep the orientation of the preprocessing"
            if any(target.endswith(("SaveImaged", "SaveMasksd")) for target in targets["postprocessing"]):
                problems.append(Problem(f"configs/{run}.json", "postprocessing", text))
    return problems


def _agreement(train: Mapping[str, Any], inference: Mapping[str, Any], file: str) -> list[Problem]:
    """Check that training and inference have the same network and the same knobs."""
    problems = []
    ours, theirs = ({**config.get("network_def", {}), "deep_supervision": False} for config in (train, inference))
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            text = f"is {theirs.get(key)!r}, in train.json {ours.get(key)!r}; the weights would not fit"
            problems.append(Problem(file, f"network_def#{key}", text))
    if inference.get("network_def", {}).get("deep_supervision"):
        problems.append(Problem(file, "network_def#deep_supervision", "must be false at inference"))
    for key in train.keys() & inference.keys() - {"network_def", "initialize", "run", "imports"}:
        expression = any(isinstance(config[key], str) and config[key].startswith("$") for config in (train, inference))
        if not isinstance(train[key], dict) and not expression and train[key] != inference[key]:
            problems.append(Problem(file, key, f"is {inference[key]!r}, in train.json {train[key]!r}"))
    return problems


def _network(config: Mapping[str, Any], folder: Path, overrides: Mapping[str, Any]) -> tuple[Any, ConfigParser]:
    """Return the network without memory for its weights."""
    parser = configured(json.loads(json.dumps(dict(config))), folder, [overrides])
    with torch.device("meta"):
        return parser.get_parsed_content("network_def"), parser


def _patch(config: Mapping[str, Any], folder: Path, overrides: Mapping[str, Any], file: str) -> list[Problem]:
    """Check that the network can be built, and that the patch fits it."""
    try:
        network, parser = _network(config, folder, overrides)
    except Exception as error:  # whatever a wrong argument raises, MONAI wraps it
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return [Problem(file, "network_def", f"cannot be built: {cause}")]
    patch, divisor = parser["patch_size"], getattr(network, "size_divisor", (1,))
    if all(size % step == 0 for size, step in zip(patch, divisor, strict=False)):
        return []
    fitting = [-(-size // step) * step for size, step in zip(patch, divisor, strict=True)]
    text = f"{patch} must be divisible by {list(divisor)}, the network's size_divisor; use {fitting}"
    return [Problem(file, "patch_size", text)]


def _profiles(folder: Path, train: Mapping[str, Any] | None) -> list[Problem]:
    """Check every profile, and the network that it makes of the one in ``train``."""
    problems, known = [], _known(folder)
    for path in sorted((folder / "configs" / "profiles").glob("*.json")):
        file, profile = f"configs/profiles/{path.name}", read(path)
        found = check_overrides(known, profile, file)
        found += [
            Problem(file, key, "is null, which MONAI drops from the later of two profiles; write $None")
            for key, value in profile.items()
            if value is None
        ]
        if train and not found and any(key == "patch_size" or key.startswith("network_def") for key in profile):
            found = _patch(train, folder, profile, file)
        problems += found
    return problems


def _exports(folder: Path) -> list[Problem]:
    """Check that the table of exports is that of the weights."""
    record, weights = folder / EXPORTS, folder / "models" / "model.pt"
    if not record.is_file() or not weights.is_file():
        return []
    if read(record).get("weights_sha256") == hashlib.sha256(weights.read_bytes()).hexdigest():
        return []
    return [Problem(EXPORTS, "weights_sha256", f"is of other weights; run python -m tools export {folder.name}")]


def _training_data(folder: Path, train: Mapping[str, Any]) -> list[Problem]:
    """Check that the training data are described, where a training does so, and that it is those of the weights."""
    file, weights = f"models/{DESCRIPTION}", folder / "models" / "model.pt"
    if "training_data" not in train or not weights.is_file():
        return []
    try:
        if read_training_data(weights) is not None:
            return []
        text = "is of other weights" if (folder / file).is_file() else "is missing"
    except ValueError as error:
        text = f"is none ({error})"
    return [Problem(file, "", f"{text}; run python -m tools bundles describe {folder.name}")]


def _metadata(folder: Path, train: Mapping[str, Any]) -> list[Problem]:
    """Check the metadata against the schema, the version's rules and the configs."""
    from jsonschema import Draft202012Validator

    metadata = read(folder / METADATA)
    problems = [
        Problem(METADATA, "#".join(map(str, error.path)), error.message)
        for error in Draft202012Validator(SCHEMA).iter_errors(metadata)
    ]
    if problems:
        return problems
    if metadata["version"] not in metadata["changelog"]:
        known = ", ".join(metadata["changelog"])
        problems.append(Problem(METADATA, "changelog", f"does not know version {metadata['version']}, only {known}"))
    labels, sides = list(train["label_names"]), metadata["network_data_format"]
    image, pred = sides["inputs"].get("image"), sides["outputs"].get("pred")
    if next(iter(sides["inputs"])) != "image" or next(iter(sides["outputs"])) != "pred":
        return [Problem(METADATA, "network_data_format", "must begin with image and pred, which MONAI Label reads")]
    wanted = {
        "inputs#image#num_channels": (image["num_channels"], train["in_channels"]),
        "inputs#image#spatial_shape": (image["spatial_shape"], train["patch_size"]),
        "outputs#pred#num_channels": (pred["num_channels"], len(labels)),
        "outputs#pred#channel_def": (list(pred["channel_def"].values()), labels),
    }
    return problems + [
        Problem(METADATA, f"network_data_format#{where}", f"is {found}, train.json says {expected}")
        for where, (found, expected) in wanted.items()
        if found != expected
    ]

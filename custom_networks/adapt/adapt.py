"""A profile of a bundle from a data set of one's own, or from an nnU-Net plans file."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from custom_networks.adapt.classification import classification_profile
from custom_networks.adapt.draft import as_json
from custom_networks.adapt.facts import read_facts
from custom_networks.adapt.network import as_config_value, build
from custom_networks.adapt.plans import adapt_plans
from custom_networks.adapt.segmentation import segmentation_profile
from custom_networks.bundle_folder import find_bundle, task_of
from custom_networks.files import read_json, write_text
from custom_networks.workflow.data.layouts.files import data_folder
from custom_networks.workflow.memory.bill import parse_bytes

GIVE_FOLDER = "give the folder that holds the images"


def adapt(
    dataset_dir: str | None = None,
    *,
    out: str,
    bundle: str | None = None,
    images: str | None = None,
    labels: str | None = None,
    memory: str = "8GB",
    plans: str | None = None,
    configuration: str = "3d_fullres",
    dataset_json: str | None = None,
) -> dict[str, Any]:
    """Write the profile that makes a bundle train, evaluate and segment a data set, and print why it says what it says.

    What is looked at: all headers, all labels, and the images where they are CT or nothing says what they are; one
    case at a time. Spacing and strides follow nnU-Net (see :mod:`custom_networks.adapt.choices`), patch and batch the
    memory (see :func:`custom_networks.adapt.network.fit`). Results go to a folder beside the profile, of its name
    without ``.json`` (with ``_results`` where that is the data set), so that the weights of the bundle stay what they
    are. All paths in the profile are absolute.

    With ``plans`` the profile is made from an nnU-Net v2 plans file, see
    :func:`custom_networks.adapt.plans.adapt_plans`.

    Args:
        dataset_dir: folder of the data set, in one of the layouts of ``docs/how-to/own-data.md``; for the classifier a
            folder of patches with ``labels.csv``.
        out: the profile to write, a JSON file.
        bundle: name, folder, zip or address of the bundle; in a packed bundle, this one if None.
        images: pattern under the folder for the images, such as ``"mr/*.nii.gz"``.
        labels: pattern for the labels; what the ``*`` of both stand for pairs them.
        memory: what a training may take, its step and the data in memory together, such as 8GB.
        plans: an nnU-Net v2 plans file, instead of a data set.
        configuration: key under ``configurations`` of the plans file, a 3D one.
        dataset_json: nnU-Net's dataset.json beside a plans file.

    Raises:
        FileNotFoundError: if a file or folder does not exist.
        ValueError: if the files contradict each other, or the bundle cannot be adapted to them.

    Example:
        ``custom_networks adapt data/mine --bundle hippocampus_mr_attention_unet_segmentation --out mine.json``
    """
    profile_file = Path(str(out))
    if profile_file.suffix != ".json" or profile_file.is_dir():
        raise ValueError(f"--out must be a JSON file, got {out}; use for example mine.json")
    if profile_file.exists() and "patch_size" not in read_json(profile_file):
        raise ValueError(f"{out} exists and is no profile, which has a patch_size; give another --out")
    if plans is not None:
        if dataset_dir is not None or images is not None or labels is not None:
            raise ValueError(f"a profile is made from a data set folder or from --plans {plans}; leave one out")
        return adapt_plans(str(plans), str(out), bundle, configuration, dataset_json)
    if dataset_json is not None:
        raise ValueError(f"--dataset_json {dataset_json} goes with --plans; leave it out, or give the plans file")
    if dataset_dir is None:
        raise ValueError("give a data set folder and --bundle with the bundle's name, or --plans with a plans file")
    folder, root = find_bundle(None if bundle is None else str(bundle)), data_folder(dataset_dir, GIVE_FOLDER)
    config, limit = read_json(folder / "configs" / "train.json"), parse_bytes(memory)
    folds: list[list[str]] | None = None
    if task_of(folder) == "classification":
        if images is not None or labels is not None:
            raise ValueError(f"{folder.name} finds its images in {config['csv_file']}; leave out --images and --labels")
        draft = classification_profile(folder, config, root, limit)
    else:
        facts = read_facts(root, images and str(images), labels and str(labels))
        draft, folds = segmentation_profile(folder, config, facts, limit)
    results = str(_results_folder(profile_file, root))
    profile = {"dataset_dir": str(root.resolve()), "output_dir": results, "ckpt_dir": results, **draft.profile}
    folds_file = profile_file.with_name(f"{profile_file.stem}_folds.json").resolve()
    if folds is not None:
        if folds_file.exists() and "rule" not in read_json(folds_file):
            raise ValueError(f"{folds_file} exists and holds no folds of adapt, which say their rule; rename --out")
        profile["folds_file"] = str(folds_file)
    build(folder, profile)
    profile = as_config_value(profile)
    if folds is not None:
        rule = "all images of a patient, as the names tell, in one fold: rank of the patient modulo 5"
        write_text(folds_file, json.dumps({"rule": rule, "folds": folds}, indent=2) + "\n")
    write_text(profile_file, as_json(profile))
    draft.say("results", str(profile_file.with_name(Path(results).name)), "output_dir and ckpt_dir")
    print(draft.as_table())
    print(f"written: {out}" + (f", {folds_file.name}" if folds is not None else ""))
    words = [
        "--config_file",
        str(folder / "configs" / "train.json"),
        "--bundle_root",
        str(folder),
        "--args_file",
        str(out),
    ]
    print(f"train: python -m monai.bundle run {shlex.join(words)}")
    return profile


def _results_folder(profile: Path, root: Path) -> Path:
    """Return a folder beside the profile, of its name, but not the data set's."""
    folder = profile.with_suffix("").resolve()
    return folder.with_name(f"{folder.name}_results") if folder == root.resolve() else folder

"""The commands ``check`` and ``adapt``: what was given is looked at before torch is imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_networks.bundle_folder import find_bundle
from custom_networks.files import data_folder, read_json

OF_DATA_SETS = ("dataset.json", "splits_final.json")
GIVE_FOLDER = "give the folder that holds the images"


def check(
    dataset_dir: str, *, profile: str | None = None, images: str | None = None, labels: str | None = None
) -> None:
    """Read every image and label of a folder once and print all problems, each after its file, or "ready".

    Before them stand how the cases were found, the voxels of each label value, and how many cases lack it.

    Args:
        dataset_dir: folder of the data set, in one of the layouts of ``docs/how-to/own-data.md``.
        profile: flat JSON file whose ``image_glob``, ``label_glob``, ``in_channels``, ``label_names``,
            ``label_values``, ``regions``, ``ignore_value``, ``fold`` and ``folds_file`` are what the data are held
            against; without it the first image says the number of channels, any class is taken, and no patient may be
            on both sides of a split that the folder gives.
        images: pattern under the folder for the images, such as ``"mr/*.nii.gz"``, in place of the profile's.
        labels: the same for the labels; what the ``*`` of both stand for pairs them.

    Raises:
        FileNotFoundError: if there is no such folder or nothing in it.
        ValueError: if there are problems, or the profile is no JSON object.
    """
    root = data_folder(dataset_dir, GIVE_FOLDER)
    file = None if profile is None else Path(str(profile))
    knobs = {} if file is None else read_json(file)
    from custom_networks.adapt.check import print_problems
    from custom_networks.adapt.network import from_config_value

    patterns = {"image_glob": images, "label_glob": labels}
    given = {knob: str(pattern) for knob, pattern in patterns.items() if pattern is not None}
    print_problems(root, {**from_config_value(knobs), **given}, file)


def _is_profile(content: Mapping[str, Any]) -> bool:
    """Tell a profile from a config, which defines a network or an evaluator."""
    return "patch_size" in content and not {"network_def", "bundle_root", "code_path", "run"} & set(content)


def adapt(
    dataset_dir: str | None = None,
    *,
    out: str,
    bundle: str | None = None,
    images: str | None = None,
    labels: str | None = None,
    device: str = "auto",
    memory: str = "auto",
    minutes: float | None = None,
    plans: str | None = None,
    configuration: str = "3d_fullres",
    dataset_json: str | None = None,
) -> dict[str, Any]:
    """Write the profile that makes a bundle train, evaluate and segment a data set, and print why it says what it says.

    What is looked at: all headers, all labels, and the images where they are CT or nothing says what they are; one
    case at a time. Spacing and strides follow nnU-Net (see :mod:`custom_networks.adapt.choices`); patch, batch and
    network follow the device: :mod:`custom_networks.adapt.cpu_plan` and :mod:`custom_networks.adapt.gpu_plan` have the
    rules. Results go to a folder beside the profile, of its name without ``.json`` (with ``_results`` where that is the
    data set), so that the weights of the bundle stay what they are. All paths in the profile are absolute.

    With ``plans`` the profile is made from an nnU-Net v2 plans file, see
    :func:`custom_networks.adapt.plans.adapt_plans`.

    Args:
        dataset_dir: folder of the data set, in one of the layouts of ``docs/how-to/own-data.md``; for the classifier a
            folder of patches with ``labels.csv``.
        out: the profile to write, a JSON file.
        bundle: name, folder, zip or address of the bundle; in a packed bundle, this one if None.
        images: pattern under the folder for the images, such as ``"mr/*.nii.gz"``.
        labels: pattern for the labels; what the ``*`` of both stand for pairs them.
        device: what the training runs on: cpu, cuda, or cuda:1 for the second GPU; auto for a GPU where there is one.
        memory: what a training may take of the device, on a CPU its step and the data in memory together, such as 8GB;
            auto for what is free. With it a plan can be made for a GPU that is elsewhere.
        minutes: what the training may take, with its validations; its steps are measured here, and the epochs chosen so
            that it ends in time. Without it, a number of steps that does not depend on the machine.
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
    if profile_file.exists() and not _is_profile(read_json(profile_file)):
        raise ValueError(f"{out} exists and is no profile of adapt, a flat file with a patch_size; give another --out")
    if profile_file.name in OF_DATA_SETS:
        raise ValueError(f"--out {out} is a name that a data set has; use for example mine.json")
    if plans is not None:
        if dataset_dir is not None or images is not None or labels is not None:
            raise ValueError(f"a profile is made from a data set folder or from --plans {plans}; leave one out")
        if (device, memory, minutes) != ("auto", "auto", None):
            raise ValueError(
                f"--plans {plans} says what patch and batch are; leave out --device, --memory and --minutes"
            )
        from custom_networks.adapt.plans import adapt_plans

        return adapt_plans(str(plans), str(out), bundle, configuration, dataset_json)
    if dataset_json is not None:
        raise ValueError(f"--dataset_json {dataset_json} goes with --plans; leave it out, or give the plans file")
    if dataset_dir is None:
        raise ValueError("give a data set folder and --bundle with the bundle's name, or --plans with a plans file")
    folder, root = find_bundle(None if bundle is None else str(bundle)), data_folder(dataset_dir, GIVE_FOLDER)
    patterns = (images and str(images), labels and str(labels))
    from custom_networks.adapt.adapt import write_profile
    from custom_networks.adapt.machine import check_minutes, find_machine

    machine = find_machine(str(device), str(memory))
    return write_profile(root, folder, profile_file, patterns, machine, check_minutes(minutes, machine))

"""Describe the data that the shipped weights of a bundle were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from custom_networks.bundle_folder import METADATA, TASKS, configured, find_bundle, task_of
from custom_networks.files import read_json
from custom_networks.workflow.report.training_data import describe as describe_cases
from custom_networks.workflow.report.training_data import read_training_data, write_description
from tools.recipes.render import spec_of


def describe(bundle: str, dataset_dir: str | None = None) -> Path:
    """Write ``models/training_data.json`` of a segmentation bundle from the cases that its weights were trained on.

    A prediction compares images and volumes with it. It holds no names of cases and no paths.

    Args:
        bundle: name or folder of the bundle, with its weights.
        dataset_dir: the data set, if not the one in train.json.

    Raises:
        FileNotFoundError: if weights or data are missing.
        ValueError: if the bundle does not segment, or a case cannot be described.
    """
    folder = find_bundle(bundle)
    if task_of(folder) != TASKS[0]:
        raise ValueError(f"{folder.name} does not segment, and nothing compares its images; name another bundle")
    weights = folder / "models" / "model.pt"
    if not weights.is_file():
        raise FileNotFoundError(f"there are no weights {weights}; train the bundle first")
    given = {"fold": spec_of(folder).weights_fold, **({} if dataset_dir is None else {"dataset_dir": dataset_dir})}
    parser = configured(read_json(folder / "configs" / "train.json"), folder, [given])
    classes = {key: parser[key] for key in ("label_names", "label_values", "regions", "ignore_value")}
    description = describe_cases(
        parser.get_parsed_content("train#dataset#data"),
        **classes,
        **_origin(folder),
    )
    file = write_description(weights, description)
    print(f"wrote {file}: {description['cases']} cases")
    return file


def keep_description(trained: Path, folder: Path) -> None:
    """Copy the description that a training has written beside its weights, if it has, into their bundle.

    Args:
        trained: the weights of the training, which are those of the bundle now.
        folder: the bundle's folder.
    """
    if (description := read_training_data(trained)) is not None:
        write_description(folder / "models" / "model.pt", {**description, **_origin(folder)})


def _origin(folder: Path) -> dict[str, Any]:
    """Return what the metadata of a bundle say of its data."""
    metadata = read_json(folder / METADATA)
    modality = metadata["network_data_format"]["inputs"]["image"]["modality"]
    return {"source": metadata["data_source"], "modality": modality}

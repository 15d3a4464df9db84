"""train.json of the classification recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.classification.shared import check, inferer, preprocessing, to_probabilities
from tools.recipes.engine import train_config, training, validation
from tools.recipes.shared import ours

KNOBS = (
    "dataset_dir output_dir ckpt_dir in_channels label_names spacing intensity_range patch_size epochs val_interval "
    "batch_size learning_rate amp seed num_workers cache_rate fold csv_file evaluation_split mirror_axes device "
    "resume_ckpt finetune_ckpt"
).split()


def data(section: str) -> dict[str, Any]:
    """Return the data list of a section.

    Args:
        section: "training", "held_out", or the name of a split.
    """
    return ours(
        "classification_data_list",
        dataset_dir="@dataset_dir",
        section=section,
        label_names="@label_names",
        csv_file="@csv_file",
        fold="@fold",
    )


def augmentation() -> list[dict[str, Any]]:
    """Return the random transforms."""
    return [
        {
            "_target_": "RandAffined",
            "keys": "image",
            "prob": 0.8,
            "rotate_range": [0.3, 0.3, 0.3],
            "scale_range": [0.1, 0.1, 0.1],
            "translate_range": [2, 2, 2],
            "mode": "bilinear",
            "padding_mode": "zeros",
        },
        {"_target_": "RandGaussianNoised", "keys": "image", "prob": 0.2, "std": 0.1},
        {"_target_": "RandScaleIntensityd", "keys": "image", "prob": 0.2, "factors": 0.2},
    ]


def train(bundle: Bundle) -> dict[str, Any]:
    """Return train.json.

    Args:
        bundle: the specification.
    """
    weights = ours("class_weights", data="@train#dataset#data", classes="$len(@label_names)")
    config = train_config(
        bundle,
        KNOBS,
        loss={"_target_": "torch.nn.CrossEntropyLoss", "weight": "$@class_weights.to(@device)"},
        train=training(
            data("training"),
            ["image"],
            [*preprocessing(), {"_target_": "EnsureTyped", "keys": "image", "track_meta": False}],
            augmentation(),
        ),
        validate=validation(
            data("held_out"),
            preprocessing(),
            inferer(),
            [to_probabilities(), {"_target_": "AsDiscreted", "keys": "label", "to_onehot": "$len(@label_names)"}],
            {
                "val_auc": {
                    "_target_": "ROCAUC",
                    "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
                }
            },
        ),
        check=check(training="@train#dataset#data", validation="@validate#dataset#data"),
    )
    head = list(config).index("loss")
    return dict([*list(config.items())[:head], ("class_weights", weights), *list(config.items())[head:]])

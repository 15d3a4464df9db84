"""train.json of the segmentation recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.engine import train_config, training, validation
from tools.recipes.segmentation.shared import (
    CLASSES,
    REGIONS,
    inferer,
    largest_component,
    memory_bill,
    preprocessing,
    regions_to_classes,
    to_original_grid,
)
from tools.recipes.shared import LEARNING_RATE, ours

BOTH = ["image", "label"]
KNOBS = (
    "dataset_dir output_dir ckpt_dir in_channels label_names label_values regions spacing intensity patch_size "
    "foreground_ratio epochs val_interval batch_size learning_rate amp seed num_workers cache_rate fold mirror_axes "
    "largest_component low_memory image_glob label_glob folds_file device resume_ckpt finetune_ckpt gate_warm_up_epochs"
).split()


def _data(section: str) -> dict[str, Any]:
    return ours(
        "segmentation_data_list",
        dataset_dir="@dataset_dir",
        section=section,
        fold="@fold",
        folds_file="@folds_file",
        image_glob="@image_glob",
        label_glob="@label_glob",
    )


def _random(name: str, prob: float, **arguments: Any) -> dict[str, Any]:
    return {"_target_": name, "keys": "image", "prob": prob, **arguments}


def augmentation() -> list[dict[str, Any]]:
    """Return the random transforms: a patch around the foreground, then nnU-Net's family of augmentations."""
    return [
        {"_target_": "SpatialPadd", "keys": BOTH, "spatial_size": "@patch_size"},
        {
            "_target_": "RandCropByPosNegLabeld",
            "keys": BOTH,
            "label_key": "label",
            "spatial_size": "@patch_size",
            "pos": "@foreground_ratio",
            "neg": "$1 - @foreground_ratio",
            "num_samples": 1,
        },
        {
            "_target_": "RandAffined",
            "keys": BOTH,
            "prob": 0.6,
            "rotate_range": [0.3, 0.3, 0.3],
            "scale_range": [0.2, 0.2, 0.2],
            "mode": ["bilinear", "nearest"],
            "padding_mode": "zeros",
        },
        _random("RandGaussianNoised", 0.15, std=0.1),
        _random("RandGaussianSmoothd", 0.1, sigma_x=[0.5, 1.0], sigma_y=[0.5, 1.0], sigma_z=[0.5, 1.0]),
        _random("RandScaleIntensityd", 0.15, factors=0.25),
        _random("RandScaleIntensityFixedMeand", 0.15, factors=0.25),
        _random("RandSimulateLowResolutiond", 0.1, zoom_range=[0.5, 1.0]),
        _random("RandAdjustContrastd", 0.1, gamma=[0.7, 1.5], invert_image=True, retain_stats=True),
        _random("RandAdjustContrastd", 0.3, gamma=[0.7, 1.5], retain_stats=True),
    ]


def loss(name: str) -> dict[str, Any]:
    """Return a loss with the smoothing of nnU-Net, over the batch and without background; regions have none.

    Args:
        name: a Dice loss of MONAI for classes; with a cross-entropy in it, that of regions has one, too.
    """
    dice = {"batch": True, "smooth_nr": 1e-05, "smooth_dr": 1e-05}
    of_regions: list[dict[str, Any]] = [{"_target_": "DiceLoss", "sigmoid": True, **dice}]
    if name == "DiceCELoss":
        of_regions.append({"_target_": "torch.nn.BCEWithLogitsLoss"})
    of_classes = {"_target_": name, "include_background": False, "to_onehot_y": True, "softmax": True, **dice}
    return ours(
        "StackedDeepSupervisionLoss",
        loss=ours("SegmentationLoss", of_classes=of_classes, of_regions=of_regions, **REGIONS),
    )


def gate_warm_up(bundle: Bundle) -> list[dict[str, Any]]:
    """Return the handler that keeps gates still at first, for a bundle that says for how many epochs, else nothing.

    Args:
        bundle: the specification; its knob ``gate_warm_up_epochs``.
    """
    if "gate_warm_up_epochs" not in bundle.knobs:
        return []
    return [ours("GateWarmUp", network="@network", epochs="@gate_warm_up_epochs")]


def finetuning(bundle: Bundle) -> dict[str, Any]:
    """Return the profile that starts from the shipped weights: a tenth of the learning rate, half of the epochs.

    The result goes to a folder of its own, so that the shipped weights stay what they are.

    Args:
        bundle: the specification.
    """
    return {
        "finetune_ckpt": "$@bundle_root + '/models/model.pt'",
        "ckpt_dir": "$@output_dir + '/finetuned'",
        "learning_rate": round(bundle.knobs.get("learning_rate", LEARNING_RATE) / 10, 9),
        "epochs": bundle.knobs["epochs"] // 2,
    }


def train(bundle: Bundle) -> dict[str, Any]:
    """Return train.json.

    Args:
        bundle: the specification.
    """
    as_tensors = {"_target_": "EnsureTyped", "keys": BOTH, "track_meta": False}
    as_one_hot = {
        "_target_": "AsDiscreted",
        "_disabled_": "$@regions is not None",
        "keys": ["pred", "label"],
        "argmax": ["$not @low_memory", False],
        "to_onehot": "$len(@label_names)",
    }
    return train_config(
        bundle,
        KNOBS,
        loss=loss("DiceCELoss"),
        train=training(
            _data("training"), BOTH, [*preprocessing(BOTH, BOTH), as_tensors], augmentation(), gate_warm_up(bundle)
        ),
        validate=validation(
            _data("validation"),
            preprocessing(BOTH, ["image"]),
            inferer(),
            [
                *to_original_grid("@validate#preprocessing"),
                *regions_to_classes(),
                ours("RegionMasksd", keys=["pred", "label"], **REGIONS),
                as_one_hot,
                largest_component(is_onehot=True),
            ],
            {
                "val_mean_dice": {
                    "_target_": "MeanDice",
                    "include_background": False,
                    "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
                }
            },
        ),
        check=ours(
            "check_data",
            in_channels="@in_channels",
            **CLASSES,
            training="@train#dataset#data",
            validation="@validate#dataset#data",
        ),
        bill=memory_bill(
            batch_size="@batch_size",
            cache_rate="@cache_rate",
            training="@train#dataset#data",
            validation="@validate#dataset#data",
        ),
    )

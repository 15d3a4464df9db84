"""train.json of the segmentation recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes import shared
from tools.recipes.bundle import Bundle
from tools.recipes.knobs import select_knobs
from tools.recipes.optimizer import plan_optimizer
from tools.recipes.segmentation.components import (
    CACHE_RATE,
    CLASSES,
    IGNORE,
    LARGEST_COMPONENT,
    MEMORY,
    OUT_CHANNELS,
    REGIONS,
    SLIDING_WINDOW,
    WINDOWS_AT_ONCE,
    bring_to_original_grid,
    load_and_normalize,
)
from tools.recipes.shared import ours

BOTH = ["image", "label"]
DEFAULT_FOLDS = "$@bundle_root + '/configs/folds.json'"


def build_train(bundle: Bundle) -> dict[str, Any]:
    """Return train.json, from top to bottom as in the file.

    Args:
        bundle: the specification.
    """
    warms_up = "gate_warm_up_epochs" in bundle.knobs
    knobs = {
        "bundle_root": ".",
        **select_knobs(
            bundle,
            "dataset_dir output_dir ckpt_dir in_channels label_names label_values regions ignore_value spacing "
            "intensity patch_size foreground_ratio epochs steps_per_epoch val_interval early_stop batch_size "
            "accumulate learning_rate clip_gradients amp seed deterministic num_workers cache_rate cache_dir fold "
            "mirror_axes tta_mirror_axes overlap sw_batch_size skip_air largest_component surface_tolerance low_memory "
            "image_glob label_glob folds_file device report resume_ckpt finetune_ckpt overwrite",
        ),
        **(select_knobs(bundle, "gate_warm_up_epochs") if warms_up else {}),
        "ckpt_dir": shared.CKPT_DIR,
    }
    return {
        "imports": shared.IMPORTS,
        **knobs,
        "code_path": shared.CODE_PATH,
        "rank": 0,
        "is_not_rank0": "$@rank > 0",
        "network_def": shared.define_network(bundle, OUT_CHANNELS),
        "network": "$@network_def.to(@device)",
        "windows_at_once": WINDOWS_AT_ONCE,
        "workers": shared.WORKERS,
        "loss": build_loss("DiceCELoss"),
        **plan_optimizer(bundle),
        "train": {
            "deterministic_transforms": [
                *load_and_normalize(BOTH, BOTH),
                {
                    "_target_": "EnsureTyped",
                    "keys": BOTH,
                    "track_meta": False,
                    "dtype": ["$torch.float32", "$torch.int16"],
                },
                ours("ClassIndicesd", keys="label", num_classes="$len(@label_names)"),
            ],
            # a patch around a voxel of a class, then nnU-Net's family of augmentations
            "random_transforms": [
                ours(
                    "RandPatchd",
                    keys=BOTH,
                    label_key="label",
                    spatial_size="@patch_size",
                    foreground_ratio="@foreground_ratio",
                    prob=0.6,
                    rotate_range=[0.3, 0.3, 0.3],
                    scale_range=[0.2, 0.2, 0.2],
                    mirror_axes="@mirror_axes",
                    spacing="@spacing",
                ),
                {"_target_": "RandGaussianNoised", "keys": "image", "prob": 0.15, "std": 0.1},
                {
                    "_target_": "RandGaussianSmoothd",
                    "keys": "image",
                    "prob": 0.1,
                    "sigma_x": [0.5, 1.0],
                    "sigma_y": [0.5, 1.0],
                    "sigma_z": [0.5, 1.0],
                },
                {"_target_": "RandScaleIntensityd", "keys": "image", "prob": 0.15, "factors": 0.25},
                {"_target_": "RandScaleIntensityFixedMeand", "keys": "image", "prob": 0.15, "factors": 0.25},
                {"_target_": "RandSimulateLowResolutiond", "keys": "image", "prob": 0.1, "zoom_range": [0.5, 1.0]},
                {
                    "_target_": "RandAdjustContrastd",
                    "keys": "image",
                    "prob": 0.1,
                    "gamma": [0.7, 1.5],
                    "invert_image": True,
                    "retain_stats": True,
                },
                {
                    "_target_": "RandAdjustContrastd",
                    "keys": "image",
                    "prob": 0.3,
                    "gamma": [0.7, 1.5],
                    "retain_stats": True,
                },
            ],
            "preprocessing": {
                "_target_": "Compose",
                "transforms": "$@train#deterministic_transforms + @train#random_transforms",
            },
            "dataset": shared.keep_cases(list_cases("training"), cache_dir="@cache_dir", copy_cache=False),
            "sampler": shared.TRAIN_SAMPLER,
            "dataloader": shared.TRAIN_DATALOADER,
            "inferer": ours("AutocastInferer", amp="@amp"),
            "handlers": [
                *shared.train_handlers("mean Dice", scores="@scores"),
                *([ours("GateWarmUp", network="@network", epochs="@gate_warm_up_epochs")] if warms_up else []),
            ],
            "trainer": shared.TRAINER,
        },
        "training_cases": shared.remember_cases(default_folds=DEFAULT_FOLDS),
        "training_data": ours("TrainingData", **CLASSES, **IGNORE),
        "best_checkpoint": shared.best_checkpoint("@training_cases", "@training_data"),
        "scores": ours("CaseScores", label_names="@label_names"),
        "validate": {
            # the label stays on its own grid, where the prediction is brought to
            "preprocessing": {"_target_": "Compose", "transforms": load_and_normalize(BOTH, ["image"])},
            "dataset": shared.cache_validation(list_cases("validation"), CACHE_RATE),
            "dataloader": shared.load_one_by_one("@validate#dataset"),
            "inferer": SLIDING_WINDOW,
            "postprocessing": {
                "_target_": "Compose",
                "transforms": [
                    *bring_to_original_grid("@validate#preprocessing"),
                    ours("SplitIgnoredd", keys="label", mask_key="ignored", _disabled_="$@ignore_value is None"),
                    ours("RegionMasksd", keys=["pred", "label"], **REGIONS),
                    {
                        "_target_": "AsDiscreted",
                        "_disabled_": "$@regions is not None",
                        "keys": ["pred", "label"],
                        "argmax": ["$not @low_memory", False],
                        "to_onehot": "$len(@label_names)",
                    },
                    {**LARGEST_COMPONENT, "is_onehot": True},
                    ours(
                        "ClearIgnoredd",
                        keys=["pred", "label"],
                        mask_key="ignored",
                        _disabled_="$@ignore_value is None",
                    ),
                ],
            },
            "handlers": [*shared.VALIDATION_HANDLERS, "@scores"],
            "key_metric": {
                "val_mean_dice": {
                    "_target_": "MeanDice",
                    "include_background": False,
                    "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
                }
            },
            "evaluator": shared.VALIDATION_EVALUATOR,
        },
        "resume_from": shared.RESUME_FROM,
        "checkpoint": shared.RESUMABLE_CHECKPOINT,
        "knob_check": shared.check_knobs(knobs),
        "initialize": [*shared.GUARDS, shared.SEED_TRAINING],
        "run": [
            shared.CHECK_PAGE,
            ours("check_outputs", output_dir="@output_dir", ckpt_dir="@ckpt_dir"),
            shared.CHECK_CKPT_DIR,
            ours(
                "check_data",
                in_channels="@in_channels",
                **CLASSES,
                **IGNORE,
                training="@train#dataset#data",
                validation="@validate#dataset#data",
                observer="@training_data",
            ),
            ours(
                "report_memory",
                **MEMORY,
                batch_size="@batch_size",
                cache_rate=CACHE_RATE,
                training="@train#dataset#data",
                validation="@validate#dataset#data",
            ),
            *shared.train("mean Dice"),
        ],
    }


def build_loss(name: str) -> dict[str, Any]:
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
        loss=ours("SegmentationLoss", of_classes=of_classes, of_regions=of_regions, **REGIONS, **IGNORE),
    )


def list_cases(section: str) -> dict[str, Any]:
    """Return the data list of a section.

    Args:
        section: "training" or "validation".
    """
    return ours(
        "segmentation_data_list",
        dataset_dir="@dataset_dir",
        section=section,
        fold="@fold",
        folds_file="@folds_file",
        default_folds=DEFAULT_FOLDS,
        image_glob="@image_glob",
        label_glob="@label_glob",
    )

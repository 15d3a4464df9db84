"""train.json of the classification recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes import shared
from tools.recipes.bundle import Bundle
from tools.recipes.classification.components import (
    MIRROR_INFERER,
    OUT_CHANNELS,
    PAD_OR_CROP,
    PATCHES,
    PROBABILITIES,
    load_and_scale,
)
from tools.recipes.knobs import select_knobs
from tools.recipes.optimizer import plan_optimizer
from tools.recipes.shared import ours


def build_train(bundle: Bundle) -> dict[str, Any]:
    """Return train.json, from top to bottom as in the file.

    Args:
        bundle: the specification.
    """
    knobs = {
        "bundle_root": ".",
        **select_knobs(
            bundle,
            "dataset_dir output_dir ckpt_dir in_channels label_names spacing intensity_range patch_size epochs "
            "steps_per_epoch val_interval early_stop batch_size accumulate learning_rate clip_gradients amp seed "
            "deterministic num_workers cache_rate fold mirror_axes tta_mirror_axes csv_file evaluation_split device "
            "report resume_ckpt finetune_ckpt overwrite",
        ),
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
        "workers": shared.WORKERS,
        "class_weights": ours("class_weights", data="@train#dataset#data", classes="$len(@label_names)"),
        "loss": {"_target_": "torch.nn.CrossEntropyLoss", "weight": "$@class_weights.to(@device)"},
        **plan_optimizer(bundle),
        "train": {
            "deterministic_transforms": [
                *load_and_scale(),
                PAD_OR_CROP,
                {"_target_": "EnsureTyped", "keys": "image", "track_meta": False},
            ],
            "random_transforms": [
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
            ],
            "flips": "$[monai.transforms.RandFlipd(['image'], prob=0.5, spatial_axis=a) for a in @mirror_axes]",
            "preprocessing": {
                "_target_": "Compose",
                "transforms": "$@train#deterministic_transforms + @train#random_transforms + @train#flips",
            },
            "dataset": shared.keep_cases(list_cases("training")),
            "sampler": shared.TRAIN_SAMPLER,
            "dataloader": shared.TRAIN_DATALOADER,
            "inferer": ours("AutocastInferer", amp="@amp"),
            "handlers": shared.train_handlers("AUC"),
            "trainer": shared.TRAINER,
        },
        "training_cases": shared.remember_cases(),
        "best_checkpoint": shared.best_checkpoint("@training_cases"),
        "validate": {
            "preprocessing": {"_target_": "Compose", "transforms": [*load_and_scale(), PAD_OR_CROP]},
            "dataset": shared.cache_validation(list_cases("held_out")),
            "dataloader": shared.load_one_by_one("@validate#dataset"),
            "inferer": MIRROR_INFERER,
            "postprocessing": {
                "_target_": "Compose",
                "transforms": [
                    PROBABILITIES,
                    {"_target_": "AsDiscreted", "keys": "label", "to_onehot": "$len(@label_names)"},
                ],
            },
            "handlers": shared.VALIDATION_HANDLERS,
            "key_metric": {
                "val_auc": {"_target_": "ROCAUC", "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"}
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
            ours("check_patches", **PATCHES, training="@train#dataset#data", validation="@validate#dataset#data"),
            *shared.train("AUC"),
        ],
    }


def list_cases(section: str) -> dict[str, Any]:
    """Return the data list of a section.

    Args:
        section: "training" or "held_out".
    """
    return ours(
        "classification_data_list",
        dataset_dir="@dataset_dir",
        section=section,
        label_names="@label_names",
        csv_file="@csv_file",
        fold="@fold",
    )

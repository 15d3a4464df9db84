"""train.json of the segmentation recipe."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.segmentation.shared import (
    CODE_PATH,
    IMPORTS,
    geometry,
    inferer,
    knobs,
    largest_component,
    loading,
    network_def,
    ours,
    to_original_grid,
)

BOTH = ["image", "label"]
KNOBS = (
    "dataset_dir output_dir ckpt_dir in_channels label_names spacing patch_size epochs val_interval batch_size "
    "learning_rate amp seed num_workers cache_rate fold mirror_axes largest_component image_glob label_glob folds_file "
    "device resume_ckpt finetune_ckpt"
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
            "pos": 1,
            "neg": 1,
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


def _training() -> dict[str, Any]:
    return {
        "deterministic_transforms": [
            *loading(BOTH),
            *geometry(BOTH),
            {"_target_": "EnsureTyped", "keys": BOTH, "track_meta": False},
        ],
        "random_transforms": augmentation(),
        "flips": "$[monai.transforms.RandFlipd(['image', 'label'], prob=0.5, spatial_axis=a) for a in @mirror_axes]",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": "$@train#deterministic_transforms + @train#random_transforms + @train#flips",
        },
        "dataset": {
            "_target_": "CacheDataset",
            "data": _data("training"),
            "transform": "@train#preprocessing",
            "cache_rate": "@cache_rate",
            "num_workers": "@num_workers",
            "progress": False,
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@train#dataset",
            "batch_size": "@batch_size",
            "shuffle": True,
            "num_workers": "@num_workers",
            "pin_memory": "$torch.cuda.is_available()",
        },
        "inferer": ours("AutocastInferer", amp="@amp"),
        "handlers": [
            {"_target_": "LrScheduleHandler", "lr_scheduler": "@lr_scheduler", "print_lr": False, "epoch_level": False},
            ours("ReseedHandler", seed="@seed"),
            ours("NonFiniteLossHandler"),
            {
                "_target_": "ValidationHandler",
                "validator": "@validate#evaluator",
                "epoch_level": True,
                "interval": "@val_interval",
            },
            ours("LastEpochValidation", validator="@validate#evaluator"),
            ours("TrainingProgress", evaluator="@validate#evaluator", path="$@output_dir + '/training_curve.csv'"),
            {
                "_target_": "TensorBoardStatsHandler",
                "_disabled_": "@is_not_rank0",
                "log_dir": "@output_dir",
                "tag_name": "train_loss",
                "output_transform": "$monai.handlers.from_engine(['loss'], first=True)",
            },
        ],
        "trainer": {
            "_target_": "SupervisedTrainer",
            "max_epochs": "@epochs",
            "device": "@device",
            "train_data_loader": "@train#dataloader",
            "network": "@network",
            "loss_function": "@loss",
            "optimizer": "@optimizer",
            "inferer": "@train#inferer",
            "train_handlers": "@train#handlers",
            "optim_set_to_none": True,
        },
    }


def _validation() -> dict[str, Any]:
    return {
        "preprocessing": {"_target_": "Compose", "transforms": [*loading(BOTH), *geometry(["image"])]},
        "dataset": {
            "_target_": "CacheDataset",
            "data": _data("validation"),
            "transform": "@validate#preprocessing",
            "cache_rate": "@cache_rate",
            "num_workers": "@num_workers",
            "progress": False,
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@validate#dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": "@num_workers",
        },
        "inferer": inferer(),
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                *to_original_grid("@validate#preprocessing"),
                {
                    "_target_": "AsDiscreted",
                    "keys": ["pred", "label"],
                    "argmax": [True, False],
                    "to_onehot": "$len(@label_names)",
                },
                largest_component(is_onehot=True),
            ],
        },
        "handlers": [
            "@best_checkpoint",
            {
                "_target_": "TensorBoardStatsHandler",
                "_disabled_": "@is_not_rank0",
                "log_dir": "@output_dir",
                "iteration_log": False,
            },
        ],
        "key_metric": {
            "val_mean_dice": {
                "_target_": "MeanDice",
                "include_background": False,
                "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
            }
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@validate#dataloader",
            "network": "@network",
            "inferer": "@validate#inferer",
            "postprocessing": "@validate#postprocessing",
            "key_val_metric": "@validate#key_metric",
            "val_handlers": "@validate#handlers",
        },
    }


def train(bundle: Bundle) -> dict[str, Any]:
    """Return train.json.

    Args:
        bundle: the specification.
    """
    return {
        "imports": IMPORTS,
        "bundle_root": ".",
        **knobs(bundle, KNOBS),
        "code_path": CODE_PATH,
        "rank": 0,
        "is_not_rank0": "$@rank > 0",
        "network_def": network_def(bundle),
        "network": "$@network_def.to(@device)",
        "loss": ours(
            "StackedDeepSupervisionLoss",
            loss={
                "_target_": "DiceCELoss",
                "include_background": False,
                "to_onehot_y": True,
                "softmax": True,
                "batch": True,
                "smooth_nr": 1e-05,
                "smooth_dr": 1e-05,
            },
        ),
        "optimizer": {"_target_": "torch.optim.AdamW", "params": "$@network.parameters()", "lr": "@learning_rate"},
        "lr_scheduler": {
            "_target_": "torch.optim.lr_scheduler.PolynomialLR",
            "optimizer": "@optimizer",
            "total_iters": "$max(@epochs, @train#trainer#max_epochs) * len(@train#dataloader)",
            "power": 0.9,
        },
        "train": _training(),
        "best_checkpoint": ours("BestCheckpoint", network="@network", path="$@ckpt_dir + '/model.pt'"),
        "validate": _validation(),
        "checkpoint": ours(
            "ResumableCheckpoint",
            path="$@ckpt_dir + '/last_checkpoint.pt'",
            objects={
                "model": "@network",
                "optimizer": "@optimizer",
                "lr_scheduler": "@lr_scheduler",
                "trainer": "@train#trainer",
                "best_checkpoint": "@best_checkpoint",
            },
            resume_ckpt="@resume_ckpt",
        ),
        "initialize": [ours("report_errors"), "$monai.utils.set_determinism(seed=@seed)"],
        "run": [
            ours(
                "check_data",
                in_channels="@in_channels",
                label_names="@label_names",
                training="@train#dataset#data",
                validation="@validate#dataset#data",
            ),
            {
                **ours("load_weights", network="@network", path="@finetune_ckpt", strict=False),
                "_disabled_": "$not @finetune_ckpt",
            },
            "$@checkpoint.attach(@train#trainer)",
            "$@train#trainer.run()",
        ],
    }

"""What training, validation and inference have in common whatever the task: data loading, engines, handlers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.shared import BOOTSTRAP, IMPORTS, first_of_all, knobs, network_def, ours


def _dataset(part: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "_target_": "CacheDataset",
        "data": data,
        "transform": f"@{part}#preprocessing",
        "cache_rate": "@cache_rate",
        "num_workers": "@num_workers",
        "progress": False,
    }


def _one_by_one(dataset: str) -> dict[str, Any]:
    return {
        "_target_": "DataLoader",
        "dataset": dataset,
        "batch_size": 1,
        "shuffle": False,
        "num_workers": "@num_workers",
    }


def training(
    data: dict[str, Any],
    keys: Sequence[str],
    deterministic: list[dict[str, Any]],
    random: list[dict[str, Any]],
    handlers: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return the section "train".

    Args:
        data: the data list.
        keys: "image", or "image" and "label": what is flipped.
        deterministic: transforms whose result is cached.
        random: augmentation.
        handlers: handlers of the trainer beside those of every training.
    """
    return {
        "deterministic_transforms": deterministic,
        "random_transforms": random,
        "flips": f"$[monai.transforms.RandFlipd({list(keys)}, prob=0.5, spatial_axis=a) for a in @mirror_axes]",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": "$@train#deterministic_transforms + @train#random_transforms + @train#flips",
        },
        "dataset": _dataset("train", data),
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
            *handlers,
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


def validation(
    data: dict[str, Any],
    preprocessing: list[dict[str, Any]],
    inferer: dict[str, Any],
    postprocessing: list[dict[str, Any]],
    key_metric: dict[str, Any],
) -> dict[str, Any]:
    """Return the section "validate".

    Args:
        data: the data list.
        preprocessing: transforms before the network.
        inferer: the inferer, the same as in inference.json.
        postprocessing: transforms from logits to what the metric takes.
        key_metric: the metric that chooses the epoch, by its name.
    """
    return {
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing},
        "dataset": _dataset("validate", data),
        "dataloader": _one_by_one("@validate#dataset"),
        "inferer": inferer,
        "postprocessing": {"_target_": "Compose", "transforms": postprocessing},
        "handlers": [
            "@best_checkpoint",
            {
                "_target_": "TensorBoardStatsHandler",
                "_disabled_": "@is_not_rank0",
                "log_dir": "@output_dir",
                "iteration_log": False,
            },
        ],
        "key_metric": key_metric,
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


def train_config(
    bundle: Bundle,
    names: Sequence[str],
    loss: dict[str, Any],
    train: dict[str, Any],
    validate: dict[str, Any],
    check: dict[str, Any],
    bill: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return train.json.

    Args:
        bundle: the specification.
        names: the knobs of this config.
        loss: the loss.
        train: section "train".
        validate: section "validate".
        check: the component that looks at the data before anything starts.
        bill: the component that then says how much memory is needed, if any.
    """
    return {
        "imports": IMPORTS,
        "bundle_root": ".",
        **knobs(bundle, names),
        "code_path": BOOTSTRAP,
        "rank": 0,
        "is_not_rank0": "$@rank > 0",
        "network_def": network_def(bundle),
        "network": "$@network_def.to(@device)",
        "loss": loss,
        "optimizer": {"_target_": "torch.optim.AdamW", "params": "$@network.parameters()", "lr": "@learning_rate"},
        "lr_scheduler": {
            "_target_": "torch.optim.lr_scheduler.PolynomialLR",
            "optimizer": "@optimizer",
            "total_iters": "$max(@epochs, @train#trainer#max_epochs) * len(@train#dataloader)",
            "power": 0.9,
        },
        "train": train,
        "best_checkpoint": ours("BestCheckpoint", network="@network", path="$@ckpt_dir + '/model.pt'"),
        "validate": validate,
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
        "initialize": [*first_of_all(), "$monai.utils.set_determinism(seed=@seed)"],
        "run": [
            check,
            *bill,
            {
                **ours("load_weights", network="@network", path="@finetune_ckpt", strict=False),
                "_disabled_": "$not @finetune_ckpt",
            },
            "$@checkpoint.attach(@train#trainer)",
            "$@train#trainer.run()",
        ],
    }


def inference_config(
    bundle: Bundle,
    names: Sequence[str],
    displayable: dict[str, Any],
    preprocessing: list[dict[str, Any]],
    inferer: dict[str, Any],
    postprocessing: list[dict[str, Any]],
    check: dict[str, Any],
    handlers: list[dict[str, Any]] | None = None,
    bill: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return inference.json, complete in itself because MONAI Label reads no other file.

    Args:
        bundle: the specification.
        names: the knobs of this config.
        displayable: what MONAI Label shows and asks of the result.
        preprocessing: transforms before the network.
        inferer: the inferer.
        postprocessing: transforms after the network.
        check: the component that looks at the images before anything starts.
        handlers: handlers of the evaluator.
        bill: the component that says how much memory is needed, if any.
    """
    definition = network_def(bundle)
    if "deep_supervision" in definition:
        definition["deep_supervision"] = False
    return {
        "imports": IMPORTS,
        "bundle_root": ".",
        **knobs(bundle, names),
        "ckpt_path": "$@ckpt_dir + '/model.pt'",
        "load_pretrain": True,
        "displayable_configs": displayable,
        "code_path": BOOTSTRAP,
        "network_def": definition,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing},
        "dataset": {
            "_target_": "Dataset",
            "data": ours("inference_data_list", dataset_dir="@dataset_dir"),
            "transform": "@preprocessing",
        },
        "dataloader": _one_by_one("@dataset"),
        "inferer": inferer,
        "postprocessing": {"_target_": "Compose", "transforms": postprocessing},
        **({"handlers": handlers} if handlers else {}),
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            **({"val_handlers": "@handlers"} if handlers else {}),
        },
        "initialize": [
            *first_of_all(),
            "$monai.utils.set_determinism(seed=@seed)",
            {**ours("load_weights", network="@network", path="@ckpt_path"), "_disabled_": "$not @load_pretrain"},
        ],
        "run": [check, *bill, "$@evaluator.run()"],
    }

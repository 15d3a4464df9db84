"""What the configs of both recipes hold in the same words, so that they cannot drift apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import custom_networks
from custom_networks.workflow.guard.knobs import RULES
from tools.recipes.bundle import Bundle


def ours(name: str, **arguments: Any) -> dict[str, Any]:
    """Return a component of ``custom_networks.workflow`` that is importable from every working directory.

    Args:
        name: public name in ``custom_networks.workflow``.
        **arguments: its arguments.
    """
    return {"_target_": f"custom_networks.workflow.{name}", "_requires_": "@code_path", **arguments}


IMPORTS = ["$import os", "$import sys", "$import numpy"]

CODE_PATH = [
    "$sys.path.insert(0, next((p for p in (os.path.abspath(@bundle_root), "
    "os.path.abspath(os.path.join(@bundle_root, '..', '..'))) "
    "if os.path.isdir(os.path.join(p, 'custom_networks'))), os.path.abspath(@bundle_root)))",
    {
        "_target_": "custom_networks.workflow.require_version",
        "_requires_": "@code_path#0",
        "minimum": custom_networks.__version__,
    },
]
"""Makes the package importable and refuses one that is too old; whatever is ours requires both."""

GUARDS = [ours("report_errors"), ours("check_overrides", bundle_root="@bundle_root"), "@knob_check"]
"""What every run begins with: errors as sentences, the guard against misspelt overrides, and the one of the knobs."""


CHECK_PAGE = ours("check_page", _disabled_="$not @report")
WRITE_PAGE = ours("write_page", output_dir="@output_dir", _disabled_="$not @report or @rank > 0")
"""What a run begins and ends with where a page is wanted."""


def load_image(**reader: Any) -> dict[str, Any]:
    """Return the transform that reads images with the geometry that check, adapt and the memory bill know.

    Args:
        **reader: arguments of the reader.
    """
    return {"_target_": "LoadImaged", "keys": "image", "reader": ours("VolumeReader", **reader)}


TRAIN_SAMPLER = {
    "_target_": "torch.utils.data.RandomSampler",
    "data_source": "@train#dataset",
    "num_samples": "$@steps_per_epoch and @steps_per_epoch * @batch_size",
}
"""All cases in random order, each again only after all the others where more are asked for."""

WORKERS = ours("choose_workers", num_workers="@num_workers", device="@device")
"""The processes that load training data, whose number only "auto" makes depend on the machine."""

TRAIN_DATALOADER = ours(
    "TrainingLoader",
    dataset="@train#dataset",
    batch_size="@batch_size",
    sampler="@train#sampler",
    num_workers="@workers",
    pin_memory="$torch.cuda.is_available()",
)


def train_handlers(metric: str, **scores: str) -> list[dict[str, Any]]:
    """Return the handlers of a trainer.

    Args:
        metric: what the key metric of the validation is, in words.
        **scores: a reference to what keeps the Dice of every class, where there is one.
    """
    return [
        ours("DecayHandler", lr_scheduler="@lr_scheduler"),
        ours("ReseedHandler", seed="@seed"),
        ours("NonFiniteLossHandler"),
        ours("ClipGradients", network="@network", max_norm="@clip_gradients"),
        ours("OptimizerSteps"),
        {
            "_target_": "ValidationHandler",
            "validator": "@validate#evaluator",
            "epoch_level": True,
            "interval": "@val_interval",
        },
        ours("LastEpochValidation", validator="@validate#evaluator"),
        ours(
            "TrainingProgress",
            evaluator="@validate#evaluator",
            path="$@output_dir + '/training_curve.csv'",
            val_interval="@val_interval",
            metric=metric,
            **scores,
        ),
        ours("EarlyStop", best_checkpoint="@best_checkpoint", evaluator="@validate#evaluator", epochs="@early_stop"),
        {
            "_target_": "TensorBoardStatsHandler",
            "_disabled_": "@is_not_rank0",
            "log_dir": "@output_dir",
            "tag_name": "train_loss",
            "output_transform": "$monai.handlers.from_engine(['loss'], first=True)",
        },
    ]


TRAINER = {
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
    "accumulation_steps": "@accumulate",
    # loss scaling alone: the inferer switches autocast on, and the loss stays in float32
    "amp": ours("needs_loss_scaling", amp="@amp", device="@device"),
    "amp_kwargs": {"enabled": False},
}

SEED_TRAINING = ours("seed_training", seed="@seed", deterministic="@deterministic", device="@device")

VALIDATION_HANDLERS = [
    "@best_checkpoint",
    {
        "_target_": "TensorBoardStatsHandler",
        "_disabled_": "@is_not_rank0",
        "log_dir": "@output_dir",
        "iteration_log": False,
    },
]

VALIDATION_EVALUATOR = {
    "_target_": "SupervisedEvaluator",
    "device": "@device",
    "val_data_loader": "@validate#dataloader",
    "network": "@network",
    "inferer": "@validate#inferer",
    "postprocessing": "@validate#postprocessing",
    "key_val_metric": "@validate#key_metric",
    "val_handlers": "@validate#handlers",
}

INFERENCE_DATASET = {
    "_target_": "Dataset",
    "data": ours("inference_data_list", dataset_dir="@dataset_dir", series="@series", in_channels="@in_channels"),
    "transform": "@preprocessing",
}

INFERENCE_EVALUATOR = {
    "_target_": "SupervisedEvaluator",
    "device": "@device",
    "val_data_loader": "@dataloader",
    "network": "@network",
    "inferer": "@inferer",
    "postprocessing": "@postprocessing",
}

INITIALIZE_INFERENCE = [
    *GUARDS,
    "$monai.utils.set_determinism(seed=@seed)",
    ours("load_weights", network="@network", path="@ckpt_path", _disabled_="$not @load_pretrain"),
]

RESUMABLE_CHECKPOINT = ours(
    "ResumableCheckpoint",
    path="$@ckpt_dir + '/last_checkpoint.pt'",
    objects={
        "model": "@network",
        "optimizer": "@optimizer",
        "lr_scheduler": "@lr_scheduler",
        "trainer": "@train#trainer",
        "best_checkpoint": "@best_checkpoint",
        "training_cases": "@training_cases",
    },
    resume_ckpt="@resume_from",
)

CKPT_DIR = "$@output_dir + '/finetuned' if @finetune_ckpt else @bundle_root + '/models'"
"""Where a training writes its weights: never by itself over those that it starts from."""
RESUME_FROM = ours("resume_from", ckpt_dir="@ckpt_dir", resume_ckpt="@resume_ckpt")
CHECK_CKPT_DIR = ours("check_ckpt_dir", ckpt_dir="@ckpt_dir", resumed="@resume_from", overwrite="@overwrite")


def define_network(bundle: Bundle, out_channels: str) -> dict[str, Any]:
    """Return the definition of the network.

    Args:
        bundle: the specification.
        out_channels: expression for the number of its outputs.
    """
    arguments = dict(bundle.network)
    return {
        "_target_": arguments.pop("_target_"),
        "_requires_": "@code_path",
        "spatial_dims": 3,
        "in_channels": "@in_channels",
        "out_channels": out_channels,
        **arguments,
    }


ENGINE_NETWORK = ours(
    "build_network",
    network="$@network_def.to(@device)",
    engine="@engine",
    device="@device",
    amp="@amp",
    ckpt_path="@ckpt_path",
)
"""The network of an inference, PyTorch's or one that OpenVINO runs."""


def best_checkpoint(*records: str) -> dict[str, Any]:
    """Return what keeps the best weights.

    Args:
        *records: references to what is written beside them.
    """
    return ours(
        "BestCheckpoint",
        network="@network",
        path="$@ckpt_dir + '/model.pt'",
        records=list(records),
        start="@finetune_ckpt",
    )


def train(metric: str) -> list[Any]:
    """Return the end of a run: the training, from the weights it starts with to the page.

    Args:
        metric: what the key metric of the validation is, in words.
    """
    start = ours(
        "start_from",
        network="@network",
        path="@finetune_ckpt",
        evaluator="@validate#evaluator",
        resumed="@resume_from",
        _mode_="callable",
        _disabled_="$not @finetune_ckpt",
    )
    return [
        ours(
            "say_start",
            trainer="@train#trainer",
            training="@train#dataset#data",
            validation="@validate#dataset#data",
            label_names="@label_names",
            patch_size="@patch_size",
            batch_size="@batch_size",
            amp="@amp",
            output_dir="@output_dir",
        ),
        ours(
            "run_training",
            trainer="@train#trainer",
            checkpoint="@checkpoint",
            ckpt_dir="@ckpt_dir",
            resumed="@resume_from",
            start=start,
        ),
        WRITE_PAGE,
        ours(
            "say_outcome",
            best_checkpoint="@best_checkpoint",
            evaluator="@validate#evaluator",
            metric=metric,
            _disabled_="$not @finetune_ckpt",
        ),
        ours(
            "say_end",
            best_checkpoint="@best_checkpoint",
            metric=metric,
            output_dir="@output_dir",
            ckpt_dir="@ckpt_dir",
        ),
    ]


def remember_cases(**default_folds: str) -> dict[str, Any]:
    """Return what keeps the cases of a training, for the record beside its weights.

    Args:
        **default_folds: the bundle's own folds, where it has them.
    """
    return ours(
        "TrainingCases",
        dataset_dir="@dataset_dir",
        training="@train#dataset#data",
        validation="@validate#dataset#data",
        finetune_ckpt="@finetune_ckpt",
        **default_folds,
    )


def check_knobs(knobs: Iterable[str]) -> dict[str, Any]:
    """Return the guard of the knobs, an item of its own because ``multi_gpu_train.json`` knows no knobs.

    Args:
        knobs: their names.
    """
    return ours("check_knobs", **{name: f"@{name}" for name in knobs if name in RULES})


def keep_cases(data: dict[str, Any], **how: Any) -> dict[str, Any]:
    """Return the data set of a training, whose preprocessed cases are kept.

    Args:
        data: the data list.
        **how: arguments of ``CachedCases``.
    """
    return ours(
        "CachedCases",
        data=data,
        transform="@train#preprocessing",
        cache_rate="@cache_rate",
        num_workers="@workers",
        **how,
    )


def cache_validation(data: dict[str, Any], cache_rate: str = "@cache_rate") -> dict[str, Any]:
    """Return the data set of a validation.

    Args:
        data: the data list.
        cache_rate: share of the cases that stays in the memory.
    """
    return {
        "_target_": "CacheDataset",
        "data": data,
        "transform": "@validate#preprocessing",
        "cache_rate": cache_rate,
        "num_workers": "@workers",
        "progress": False,
    }


def load_one_by_one(dataset: str) -> dict[str, Any]:
    """Return the loader of whole images, which have no size in common.

    Args:
        dataset: reference to the data set.
    """
    return {
        "_target_": "DataLoader",
        "dataset": dataset,
        "batch_size": 1,
        "shuffle": False,
        # whole images: more processes than somebody asks for would hold as many of them
        "num_workers": "$0 if @num_workers == 'auto' else @num_workers",
    }

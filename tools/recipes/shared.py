"""The parts of a config that all recipes share, so that they cannot drift apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import custom_networks
from tools.recipes.bundle import Bundle

CODE_PATH = (
    "$sys.path.insert(0, next((p for p in (os.path.abspath(@bundle_root), "
    "os.path.abspath(os.path.join(@bundle_root, '..', '..'))) "
    "if os.path.isdir(os.path.join(p, 'custom_networks'))), os.path.abspath(@bundle_root)))"
)
BOOTSTRAP = [
    CODE_PATH,
    {
        "_target_": "custom_networks.workflow.require_version",
        "_requires_": "@code_path#0",
        "minimum": custom_networks.__version__,
    },
]
"""Makes the package importable and refuses one that is too old; whatever is ours requires both."""
OUT_CHANNELS = {"segmentation": "$len(@regions or @label_names)", "classification": "$len(@label_names)"}
"""The outputs of a network by recipe: regions come without background."""
LEARNING_RATE = 0.003
IMPORTS = ["$import os", "$import sys", "$import numpy"]
DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"


def ours(name: str, **arguments: Any) -> dict[str, Any]:
    """Return a component of ``custom_networks.workflow`` that is importable from every working directory.

    Args:
        name: public name in ``custom_networks.workflow``.
        **arguments: its arguments.
    """
    return {"_target_": f"custom_networks.workflow.{name}", "_requires_": "@code_path", **arguments}


def first_of_all() -> list[dict[str, Any]]:
    """Return what every run begins with: errors as sentences, and the guard against misspelt overrides."""
    return [ours("report_errors"), ours("check_overrides", bundle_root="@bundle_root")]


def knobs(bundle: Bundle, names: Sequence[str]) -> dict[str, Any]:
    """Return the named knobs in their fixed order.

    Args:
        bundle: the specification.
        names: the knobs of this config.
    """
    defaults: dict[str, Any] = {
        "dataset_dir": "data",
        "output_dir": "$@bundle_root + '/eval'",
        "ckpt_dir": "$@bundle_root + '/models'",
        "in_channels": 1,
        "label_names": ["background", "foreground"],
        "label_values": None,
        "regions": None,
        "spacing": [1.0, 1.0, 1.0],
        "intensity": None,
        "intensity_range": [-160, 240],
        "patch_size": [64, 64, 64],
        "foreground_ratio": 0.5,
        "epochs": 100,
        "val_interval": 5,
        "batch_size": 2,
        "learning_rate": LEARNING_RATE,
        "amp": True,
        "seed": 0,
        "num_workers": 0,
        "cache_rate": 0.0,
        "fold": 0,
        "mirror_axes": [],
        "largest_component": False,
        "low_memory": False,
        "max_shape": list(bundle.max_shape),
        "expected_input": bundle.expected,
        "csv_file": "labels.csv",
        "evaluation_split": "test",
        "image_glob": None,
        "label_glob": None,
        "folds_file": "$@bundle_root + '/configs/folds.json'",
        "device": DEVICE,
        "resume_ckpt": None,
        "finetune_ckpt": None,
    }
    values = {**defaults, **bundle.knobs}
    return {name: value for name, value in values.items() if name in names}


def network_def(bundle: Bundle) -> dict[str, Any]:
    """Return the definition of the network.

    Args:
        bundle: the specification.
    """
    target, *arguments = bundle.network.items()
    return {
        **dict([target]),
        "_requires_": "@code_path",
        "spatial_dims": 3,
        "in_channels": "@in_channels",
        "out_channels": OUT_CHANNELS[bundle.recipe],
        **dict(arguments),
    }


def loading(keys: list[str]) -> list[dict[str, Any]]:
    """Return the transforms that read files.

    Args:
        keys: "image", or "image" and "label".
    """
    return [{"_target_": "LoadImaged", "keys": keys}, {"_target_": "EnsureChannelFirstd", "keys": keys}]


def geometry(keys: list[str], **spacing: Any) -> list[dict[str, Any]]:
    """Return the deterministic transforms after loading: orientation and spacing.

    Args:
        keys: "image", or "image" and "label".
        **spacing: further arguments of the resampling.
    """
    modes = {"image": "bilinear", "label": "nearest"}
    return [
        {"_target_": "Orientationd", "keys": keys, "axcodes": "RAS", "labels": None},
        ours("MonaiLabelSpacingd", keys=keys, pixdim="@spacing", mode=[modes[key] for key in keys], **spacing),
    ]

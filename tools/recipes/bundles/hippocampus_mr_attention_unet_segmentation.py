"""The Attention U-Net bundle."""

from __future__ import annotations

from tools.recipes.bundle import Bundle
from tools.recipes.bundles import hippocampus

BUNDLE = Bundle(
    name="hippocampus_mr_attention_unet_segmentation",
    changelog={"0.1.0": "first release"},
    recipe="segmentation",
    title="Hippocampus segmentation in MR with Attention U-Net",
    summary=(
        "A 3D U-Net with additive attention gates on its skip connections and a non-local block on its coarsest grid, "
        "which separates the anterior from the posterior hippocampus in T1 MR crops"
    ),
    network_name="Attention U-Net with a non-local block",
    network={
        "_target_": "custom_networks.nets.AttentionUnet",
        "features": [16, 32, 64],
        "strides": 2,
        "kernel_size": 3,
        "attention": ["gate", "non_local"],
        "non_local_levels": [-1],
        "dropout": 0.0,
        "deep_supervision": False,
    },
    knobs={**hippocampus.KNOBS, "epochs": 42, "val_interval": 14, "batch_size": 2, "learning_rate": 0.003},
    metadata={
        **hippocampus.METADATA,
        "references": [
            "O. Oktay et al., Attention U-Net: Learning Where to Look for the Pancreas (2018), arXiv:1804.03999",
            "X. Wang, R. Girshick, A. Gupta, K. He, Non-local Neural Networks, CVPR 2018, arXiv:1711.07971",
            *hippocampus.REFERENCES,
        ],
    },
    max_shape=hippocampus.MAX_SHAPE,
    expected=hippocampus.EXPECTED,
    data_license=hippocampus.DATA_LICENSE,
    weights_license=hippocampus.WEIGHTS_LICENSE,
    **hippocampus.BY_SUBJECT,
    study="task04_attention_unet",
    places=hippocampus.PLACES,
    profiles={
        "plain": {"network_def#attention": []},
        "gate": {"network_def#attention": ["gate"]},
        "non_local": {"network_def#attention": ["non_local"]},
        "gate_non_local": {"network_def#attention": ["gate", "non_local"]},
        "removal": {"epochs": 6, "val_interval": 6},
        "demo": {"epochs": 100, "val_interval": 25},
    },
    removal_profiles=("plain", "gate", "non_local", "gate_non_local"),
)

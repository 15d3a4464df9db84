"""The bundle of the nnU-Net-style U-Net with MBTFE and edge aggregation."""

from __future__ import annotations

from tools.recipes.bundle import Bundle
from tools.recipes.bundles import hippocampus
from tools.recipes.segmentation.train import build_loss
from tools.recipes.shared import ours

PARAMETERS = "$@network.parameters()"

BUNDLE = Bundle(
    name="hippocampus_mr_mbtfe_unet_segmentation",
    changelog={"0.1.0": "first release"},
    recipe="segmentation",
    title="Hippocampus segmentation in MR with nnU-Net's U-Net, MBTFE and edge aggregation",
    summary=(
        "The plain 3D U-Net of nnU-Net with multi-branch feature extraction (MBTFE) after its first three stages and "
        "edge aggregation between their skip connections, which separates the anterior from the posterior hippocampus "
        "in T1 MR crops"
    ),
    network_name="nnU-Net's U-Net with MBTFE and edge aggregation",
    network={
        "_target_": "custom_networks.nets.MbtfeUnet",
        "features": [16, 32, 64, 128],
        "strides": 2,
        "kernel_size": 3,
        "attention": ["mbtfe", "edge_aggregation"],
        "mbtfe_levels": [0, 1, 2],
        "selector_act": "$None",
        "dual_groups": "$None",
        "checkpointing": False,
        "dropout": 0.0,
        "deep_supervision": True,
    },
    knobs={**hippocampus.KNOBS, "epochs": 28, "val_interval": 7, "batch_size": 2, "learning_rate": 0.003},
    metadata={
        **hippocampus.METADATA,
        "references": [
            "F. Isensee et al., nnU-Net: a self-configuring method for deep learning-based biomedical image "
            "segmentation, Nature Methods 18 (2021), doi:10.1038/s41592-020-01008-z",
            "J. Zhong et al., DualConv: Dual Convolutional Kernels for Lightweight Deep Neural Networks (2023), "
            "arXiv:2202.07481",
            "X. Xie et al., Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models (2024), "
            "arXiv:2208.06677",
            *hippocampus.REFERENCES,
        ],
    },
    max_shape=hippocampus.MAX_SHAPE,
    expected=hippocampus.EXPECTED,
    data_license=hippocampus.DATA_LICENSE,
    weights_license=hippocampus.WEIGHTS_LICENSE,
    **hippocampus.BY_CROP,
    places=hippocampus.PLACES,
    notes=(
        "Deep supervision on every decoder level, with nnU-Net's weights 1, 1/2, ..., 0, normalised to one.",
        "The widths are half of those that nnU-Net plans for this data set (profile `nnunet_plan`), so that a training "
        "fits into 40 minutes on two cores. `python -m custom_networks adapt --plans plans.json --out mine.json` makes "
        "a profile of any nnU-Net v2 plans file.",
        "The profile `adan` needs `pip install pytorch-optimizer`. Its learning rate is 0.01, ten times the "
        "authors' default: the best of those tried, if only with four epochs to spend (docs/decisions/schedule.md of "
        "the project).",
        "For its price, edge aggregation is the better half (see the removal test): the profile `edge_aggregation` "
        "leaves MBTFE out, and with it more than half of the multiply-adds.",
    ),
    profiles={
        "plain": {"network_def#attention": []},
        "mbtfe": {"network_def#attention": ["mbtfe"]},
        "edge_aggregation": {"network_def#attention": ["edge_aggregation"]},
        "mbtfe_edge_aggregation": {"network_def#attention": ["mbtfe", "edge_aggregation"]},
        "dual_convolutions": {"network_def#dual_groups": 8},
        "all_stages": {"network_def#mbtfe_levels": [0, 1, 2, 3]},
        "checkpointing": {"network_def#checkpointing": True},
        "nnunet_plan": {"network_def#features": [32, 64, 128, 256]},
        "nnunet_schedule": {
            "learning_rate": 0.01,
            "optimizer": {
                "_target_": "torch.optim.SGD",
                "params": PARAMETERS,
                "lr": "@learning_rate",
                "momentum": 0.99,
                "nesterov": True,
                "weight_decay": 3e-05,
            },
        },
        "adan": {
            "learning_rate": 0.01,
            "optimizer": ours("adan", params=PARAMETERS, lr="@learning_rate", weight_decay=3e-05),
        },
        "dice_only": {"loss": build_loss("DiceLoss")},
        "removal": {"epochs": 4, "val_interval": 4},
        "demo": {"epochs": 100, "val_interval": 25},
    },
    removal_profiles=("plain", "mbtfe", "edge_aggregation", "mbtfe_edge_aggregation"),
    single_seed_profiles=("dual_convolutions", "adan", "nnunet_schedule", "dice_only"),
)

"""The Medical Transformer bundle."""

from __future__ import annotations

from typing import Any

from tools.recipes.bundle import Bundle
from tools.recipes.bundles import hippocampus
from tools.recipes.segmentation.components import OUT_CHANNELS

COMMON: dict[str, Any] = {
    "kernel_size": 3,
    "stem_convolutions": 2,
    "stem_pool": 2,
    "stem_skip": True,
    "decoder_norm": True,
    "token_grid": [20, 28, 20],
    "num_heads": 2,
    "dropout": 0.0,
    "deep_supervision": True,
    "checkpointing": False,
}

BUNDLE = Bundle(
    name="hippocampus_mr_medical_transformer_segmentation",
    changelog={"0.1.0": "first release"},
    recipe="segmentation",
    title="Hippocampus segmentation in MR with Medical Transformer",
    summary=(
        "A 3D Medical Transformer: a shallow branch with gated axial attention over the whole patch and a deep one "
        "with axial attention inside each of its windows, which separate the anterior from the posterior hippocampus "
        "in T1 MR crops"
    ),
    network_name="Medical Transformer",
    network={
        "_target_": "custom_networks.nets.MedicalTransformer",
        "features": [32, 32, 64, 128],
        "strides": [1, 2, 1],
        "num_units": [1, 1, 1],
        "global_levels": 2,
        "window_size": [20, 28, 20],
        "branches": ["global", "local"],
        "attention": ["global", "local"],
        "form": "gated",
        "local_form": "position_free",
        **COMMON,
    },
    knobs={
        **hippocampus.KNOBS,
        "epochs": 28,
        "val_interval": 7,
        "batch_size": 2,
        "learning_rate": 0.003,
        "gate_warm_up_epochs": 4,
    },
    metadata={
        **hippocampus.METADATA,
        "references": [
            "J. M. J. Valanarasu et al., Medical Transformer: Gated Axial-Attention for Medical Image Segmentation, "
            "MICCAI 2021, arXiv:2102.10662",
            "H. Wang et al., Axial-DeepLab: Stand-Alone Axial-Attention for Panoptic Segmentation, ECCV 2020, "
            "arXiv:2003.07853",
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
        "The gates stand still for the first `gate_warm_up_epochs` epochs, at 0.1 for the positions and 1 for the "
        "values, and are trained with everything else afterwards; what has become of them stands below the removal "
        "test. The released code frees them in epoch 10 of 400, where they hardly act: they stand before a batch norm "
        "there (profile `released_gates`).",
        "The paper's stem halves the grid in its first convolution, of 7 voxels, nothing finer reaches the decoder, "
        "and the decoder has no norms. Here two convolutions of 3 voxels stay on the image's grid, their map is added "
        "to the last of each branch, the attention runs on its 2 x 2 x 2 maxima, and the decoder has norms; profile "
        "`paper_convolutions` is the paper's way. The loss also sees the global branch's coarser level (deep "
        "supervision).",
        "The local branch sees the patch as 2 x 2 x 2 windows of 20 x 28 x 20 voxels, where the released code cuts a "
        "photograph into 4 x 4: its coarsest grid, two halvings down, is 5 x 7 x 5. The widths are the "
        "paper's but for the first, 32 instead of 16; there are four levels instead of five, with one block each "
        "(profile `paper_depth`), and two heads instead of eight (profile `paper_heads`): fewer maps to compute, and "
        "queries of four features instead of one.",
    ),
    profiles={
        "identity": {"network_def#attention": []},
        "medical_transformer": {"network_def#attention": ["global", "local"]},
        "no_position": {"network_def#form": "position_free"},
        "position": {"network_def#form": "ungated"},
        "released_gates": {"network_def#form": "released"},
        "local_only": {"network_def#branches": ["local"], "network_def#deep_supervision": False},
        "global_only": {"network_def#branches": ["global"]},
        "logo": {"network_def#form": "ungated", "network_def#local_form": "ungated"},
        "gated_axial_unet": {
            "network_def": {
                "_target_": "custom_networks.nets.AxialUnet",
                "_requires_": "@code_path",
                "spatial_dims": 3,
                "in_channels": "@in_channels",
                "out_channels": OUT_CHANNELS,
                "features": [32, 32, 64, 128],
                "strides": [1, 2, 1],
                "num_units": [1, 1, 1],
                "attention": ["axial"],
                "form": "gated",
                **COMMON,
            }
        },
        "paper_convolutions": {
            "network_def#features": [16, 32, 64, 128],
            "network_def#strides": [2, 2, 1],
            "network_def#stem_convolutions": 1,
            "network_def#stem_pool": 1,
            "network_def#stem_skip": False,
            "network_def#decoder_norm": False,
        },
        "paper_heads": {"network_def#num_heads": 8},
        "paper_depth": {
            "network_def#features": [32, 32, 64, 128, 256],
            "network_def#strides": [1, 2, 1, 1],
            "network_def#num_units": [1, 2, 4, 1],
        },
        "checkpointing": {"network_def#checkpointing": True},
        "removal": {
            "epochs": 3,
            "val_interval": 3,
            "gate_warm_up_epochs": 1,
        },
        "demo": {"epochs": 100, "val_interval": 25},
    },
    removal_profiles=("identity", "medical_transformer"),
    single_seed_profiles=(
        "no_position",
        "position",
        "released_gates",
        "local_only",
        "global_only",
        "logo",
        "gated_axial_unet",
        "paper_convolutions",
    ),
)

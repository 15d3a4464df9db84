"""The TransUNet bundle."""

from __future__ import annotations

from tools.recipes.bundle import Bundle
from tools.recipes.bundles import hippocampus

BUNDLE = Bundle(
    name="hippocampus_mr_transunet_segmentation",
    changelog={"0.1.0": "first release"},
    recipe="segmentation",
    title="Hippocampus segmentation in MR with TransUNet",
    summary=(
        "A 3D TransUNet: a residual convolutional trunk, a vision transformer over the tokens of its coarsest grid and "
        "a cascaded decoder, which separates the anterior from the posterior hippocampus in T1 MR crops"
    ),
    network_name="TransUNet",
    network={
        "_target_": "custom_networks.nets.TransUnet",
        "features": [16, 32, 64, 128],
        "strides": 2,
        "kernel_size": 3,
        "root_level": 0,
        "root_convolutions": 2,
        "num_units": [3, 4, 9],
        "num_layers": 4,
        "num_heads": 6,
        "attention": ["transformer"],
        "position_embedding": "learned",
        "token_grid": [5, 7, 5],
        "dropout": 0.0,
        "deep_supervision": False,
    },
    knobs={**hippocampus.KNOBS, "epochs": 36, "val_interval": 9, "batch_size": 2, "learning_rate": 0.003},
    metadata={
        **hippocampus.METADATA,
        "references": [
            "J. Chen et al., TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation (2021), "
            "arXiv:2102.04306",
            "J. Chen et al., 3D TransUNet: Advancing Medical Image Segmentation through Vision Transformers (2023), "
            "arXiv:2310.07781",
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
        "The source note trains with plain SGD (learning rate 0.1, no momentum) and cross-entropy alone, and "
        "measures pixel accuracy. The hippocampus fills about 5 % of a crop: an answer of background everywhere is "
        "95 % accurate and has a Dice of 0. So the loss has a Dice term, the metric is the Dice per class and case, "
        "and the optimiser is AdamW, as for the other bundles.",
        "The network was chosen for 166 training crops of about 35 x 50 x 35 voxels. The paper's root, with a "
        "stride of 2, would leave no skip on the image grid, and its five levels some 2 x 3 x 2 tokens; with the "
        "root on the image grid (`root_level` 0) and four levels there are 5 x 7 x 5 tokens of 8 mm. The trunk has "
        "the paper's 3, 4 and 9 units, every width is a quarter of the paper's, and the transformer has 4 layers of "
        "6 heads, which keeps the whole below 5 M parameters. The root is two convolutions of 3 voxels instead of one "
        "of 7 (profile `paper_root`): one linear filter is too little for the only skip on the image grid.",
        "No small change made the transformer earn its place: positions left out or rotary, and tokens twice as "
        "fine at twice the multiply-adds, all end below the shipped network with the same seed, which itself is "
        "within the spread of the network without a transformer. What raised the Dice was in the trunk: the second "
        "convolution of the root.",
    ),
    profiles={
        "plain": {"network_def#attention": []},
        "transformer": {"network_def#attention": ["transformer"]},
        "no_position": {"network_def#position_embedding": "none"},
        "rotary": {"network_def#position_embedding": "rotary"},
        "paper_root": {"network_def#root_convolutions": 1},
        "fine_tokens": {"network_def#strides": [2, 2, 1], "network_def#token_grid": [10, 14, 10]},
        "large": {
            "network_def#features": [64, 128, 256, 512],
            "network_def#num_layers": 12,
            "network_def#num_heads": 12,
        },
        "removal": {"epochs": 6, "val_interval": 6},
        "demo": {"epochs": 100, "val_interval": 25},
    },
    removal_profiles=("plain", "transformer"),
    single_seed_profiles=("no_position", "rotary", "fine_tokens", "paper_root"),
)

"""The patch classifier's bundle."""

from __future__ import annotations

from tools.recipes.bundle import Bundle

MODULES = (
    "squeeze_excitation",
    "eca",
    "sim_am",
    "spatial_group_enhance",
    "shuffle_attention",
    "coordinate_attention",
    "double_attention",
    "multi_head_self_attention",
    "non_local",
    "cbam",
)

BUNDLE = Bundle(
    name="adrenal_ct_attention_classification",
    changelog={"0.1.0": "first release"},
    recipe="classification",
    title="Adrenal gland classification in CT with a plug-in attention module",
    summary=(
        "A 3D patch classifier of two convolution stages with an attention module after them, CBAM as shipped or any "
        "other of the collection by name, which tells adrenal glands with hyperplasia from normal ones by their shape"
    ),
    network_name="Patch classifier with CBAM",
    network={
        "_target_": "custom_networks.nets.AttentionClassifier",
        "features": [16, 32],
        "attention_module": MODULES[-1],
        "attention_module_arguments": {},
        "dropout": 0.5,
    },
    knobs={
        "dataset_dir": "data/AdrenalMNIST3D",
        "in_channels": 1,
        "label_names": ["normal", "hyperplasia"],
        "spacing": [1.0, 1.0, 1.0],
        "intensity_range": [0, 255],
        "patch_size": [28, 28, 28],
        "epochs": 24,
        "val_interval": 8,
        "batch_size": 32,
        "learning_rate": 0.003,
        "cache_rate": 1.0,
        "evaluation_split": "validation",
    },
    metadata={
        "task": "Classification of adrenal glands in CT into normal ones and those with hyperplasia",
        "authors": "The custom_networks authors",
        "copyright": "Copyright (c) the custom_networks authors",
        "data_source": "AdrenalMNIST3D of MedMNIST v2 (https://medmnist.com)",
        "data_type": "nibabel",
        "image_classes": (
            "single channel binary shape (0 or 255) of one adrenal gland, segmented in CT, in a cube of 64 mm resized "
            "to 28 x 28 x 28 voxels, which the files call 1 mm"
        ),
        "label_classes": "normal, hyperplasia",
        "pred_classes": "2 channels: normal, hyperplasia",
        "intended_use": (
            "Research only, not for diagnosis. The input is the segmented shape of one adrenal gland, not a CT image; "
            "whoever has CT patches trains anew with this recipe."
        ),
        "modality": "CT",
        "image_format": "labels",
        "channel_def": ["shape"],
        "references": [
            "J. Yang et al., MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical image "
            "classification, Scientific Data 10, 41 (2023), doi:10.1038/s41597-022-01721-8",
            "S. Woo, J. Park, J.-Y. Lee, I. S. Kweon, CBAM: Convolutional Block Attention Module, ECCV 2018, "
            "arXiv:1807.06521",
        ],
    },
    max_shape=(28, 28, 28),
    expected="a patch around one adrenal gland",
    data_license="""\
Third Party Licenses
--------------------

The weights in models/model.pt were trained on a data set that is not part of this bundle.

AdrenalMNIST3D of MedMNIST v2
  https://medmnist.com, https://doi.org/10.5281/zenodo.10519652
  License: Creative Commons Attribution 4.0 International (CC BY 4.0),
  https://creativecommons.org/licenses/by/4.0/
""",
    weights_license="cc-by-4.0",
    profiles={
        "none": {"network_def#attention_module": "$None"},
        **{name: {"network_def#attention_module": name} for name in MODULES},
        "removal": {"epochs": 5, "val_interval": 5},
    },
    removal_profiles=("none", *MODULES),
)

"""What the hippocampus bundles share: task, data, words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def _folds(name: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(fold) for fold in json.loads(Path(__file__).with_name(name).read_text()))


BY_CROP: dict[str, Any] = {
    "folds": _folds("hippocampus_folds.json"),
    "folds_rule": "five folds by crop, which part the two sides of a subject",
}
BY_SUBJECT: dict[str, Any] = {
    "folds": _folds("hippocampus_folds_by_subject.json"),
    "folds_rule": "five folds by subject: crops 2k - 1 and 2k are the sides of one, and subject i of the sorted ones "
    "is in fold i modulo 5",
}
MAX_SHAPE = (43, 59, 47)
EXPECTED = "a T1 MR crop around one left hippocampus (mirror a right one)"

KNOBS: dict[str, Any] = {
    "dataset_dir": "data/Task04_Hippocampus",
    "in_channels": 1,
    "label_names": ["background", "Anterior", "Posterior"],
    "spacing": [1.0, 1.0, 1.0],
    "patch_size": [40, 56, 40],
    # in most heads, which are smaller than the template, about as large as the training images: a crop is normalised by
    # itself, so that what is around it counts
    "crop_size": [40.0, 58.0, 42.0],
    "cache_rate": 1.0,
}

# mm of the MNI152 template: the centres of the hippocampi of twelve brains of another study, carried there
PLACES = (
    {"name": "Left", "point": [-23.0, -23.5, -12.0], "mirrored": False, "volume_ml": [1.2, 6.0]},
    {"name": "Right", "point": [25.5, -22.5, -11.5], "mirrored": True, "volume_ml": [1.2, 6.0]},
)

CATEGORY = {"scheme": "SCT", "value": "91723000", "meaning": "Anatomical Structure"}
HIPPOCAMPUS = {"scheme": "SCT", "value": "5366008", "meaning": "Hippocampus"}
# DICOM's lists of SNOMED CT codes have the hippocampus as a whole, and anterior and posterior as modifiers; no side is
# given, since right hippocampi are mirrored
CODES = {
    "Anterior": {
        "label": "Anterior hippocampus",
        "category": CATEGORY,
        "type": HIPPOCAMPUS,
        "modifier": {"scheme": "SCT", "value": "255549009", "meaning": "Anterior"},
        "cielab": [70.5, -32.5, -19.6],
    },
    "Posterior": {
        "label": "Posterior hippocampus",
        "category": CATEGORY,
        "type": HIPPOCAMPUS,
        "modifier": {"scheme": "SCT", "value": "255551008", "meaning": "Posterior"},
        "cielab": [66.9, 43.4, 71.9],
    },
}

METADATA: dict[str, Any] = {
    "task": "Segmentation of the anterior and posterior hippocampus in T1 MR crops",
    "authors": "The custom_networks authors",
    "copyright": "Copyright (c) the custom_networks authors",
    "data_source": "Task04_Hippocampus of the Medical Segmentation Decathlon (http://medicaldecathlon.com)",
    "data_type": "nibabel",
    "image_classes": "single channel T1-weighted MR, a crop around one left hippocampus, 1 mm",
    "label_classes": "single channel: 0 background, 1 Anterior, 2 Posterior",
    "pred_classes": "3 channels, one-hot: background, Anterior, Posterior",
    "codes": CODES,
    "intended_use": (
        "Research only, not for diagnosis. The input is a T1 MR of a whole head, in which both hippocampi are found, "
        "or a crop around one left hippocampus, about 35 x 50 x 35 mm; a crop of a right one must be mirrored first."
    ),
    "modality": "MR",
    "image_format": "magnitude",
    "channel_def": ["T1"],
}

REFERENCES = [
    "M. Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 4128 (2022), "
    "doi:10.1038/s41467-022-30695-9",
    "A. L. Simpson et al., A large annotated medical image dataset for the development and evaluation of segmentation "
    "algorithms (2019), arXiv:1902.09063",
]

DATA_LICENSE = """\
Third Party Licenses
--------------------

The weights in models/model.pt were trained on a data set that is not part of this bundle.

Medical Segmentation Decathlon, Task04_Hippocampus
  http://medicaldecathlon.com
  Provided by Vanderbilt University Medical Center.
  License: Creative Commons Attribution-ShareAlike 4.0 International (CC-BY-SA 4.0),
  https://creativecommons.org/licenses/by-sa/4.0/
"""
WEIGHTS_LICENSE = "cc-by-sa-4.0"

"""The chain of a bundle from a file to its mask, around a network that finds what is bright."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from monai.bundle import ConfigParser

from tests.synthetic import SEGMENTATION, config

Chain = Callable[[Path], Path]


def build_chain(folder: Path) -> Chain:
    """Return a function from an image to its mask, through the transforms of inference.json.

    Args:
        folder: where masks are written, one over the other.
    """
    parser = ConfigParser(config(SEGMENTATION[0], "inference"))
    parser.update({"bundle_root": str(SEGMENTATION[0]), "output_dir": str(folder), "max_shape": [500, 500, 500]})
    before, after = (parser.get_parsed_content(name) for name in ("preprocessing", "postprocessing"))

    def call(path: Path) -> Path:
        case = before({"image": str(path), "mask": "mask.nii.gz"})
        image = case["image"]
        bright = (image - (image.min() + image.max()) / 2) / (image.max() - image.min())
        case["pred"] = torch.cat([0 * bright, 20 * bright, 0 * bright - 50])
        after(case)
        return folder / "mask.nii.gz"

    return call

"""CPU time of the samples of the segmentation recipe, as it is and with MONAI's transforms one after the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai
import torch
from monai.bundle import ConfigParser
from monai.data import CacheDataset, DataLoader
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandScaleIntensityFixedMeand,
    RandSimulateLowResolutiond,
    SpatialPadd,
    Transform,
)
from torch.utils.data import RandomSampler

from custom_networks.workflow import CachedCases, ClassIndicesd, TrainingLoader
from tools.bench.loader_cases import BATCH, CASES, OURS_TURNED, cpu_seconds, make_case
from tools.bench.measure import processor

CONFIG = Path(__file__).parents[2] / "bundles/hippocampus_mr_attention_unet_segmentation/configs/train.json"
BOTH = ["image", "label"]
AXES = [0, 1, 2]
CLASSES = 4


def one_after_the_other(size: int) -> list[Transform]:
    """Return what the recipe does in MONAI's transforms, each of which reads and copies what it gets.

    Args:
        size: of the patch along each axis.
    """
    patch = (size, size, size)
    sigmas = {f"sigma_{axis}": [0.5, 1.0] for axis in "xyz"}
    return [
        SpatialPadd(BOTH, patch),
        RandCropByPosNegLabeld(BOTH, "label", patch),
        RandAffined(
            BOTH,
            prob=OURS_TURNED,
            rotate_range=[0.3] * 3,
            scale_range=[0.2] * 3,
            mode=["bilinear", "nearest"],
            padding_mode="zeros",
        ),
        RandGaussianNoised("image", prob=0.15, std=0.1),
        RandGaussianSmoothd("image", prob=0.1, **sigmas),
        RandScaleIntensityd("image", prob=0.15, factors=0.25),
        RandScaleIntensityFixedMeand("image", prob=0.15, factors=0.25),
        RandSimulateLowResolutiond("image", prob=0.1, zoom_range=[0.5, 1.0]),
        RandAdjustContrastd("image", prob=0.1, gamma=[0.7, 1.5], invert_image=True, retain_stats=True),
        RandAdjustContrastd("image", prob=0.3, gamma=[0.7, 1.5], retain_stats=True),
        *(RandFlipd(BOTH, prob=0.5, spatial_axis=axis) for axis in AXES),
    ]


def from_recipe(size: int, turned: float) -> list[Transform]:
    """Return the random transforms of a bundle's train.json.

    Args:
        size: of the patch along each axis.
        turned: share of the patches that are turned and scaled.
    """
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    bundle = str(CONFIG.parents[1])
    parser.update({"bundle_root": bundle, "patch_size": [size] * 3, "mirror_axes": AXES})
    parser["train#random_transforms"][0]["prob"] = turned
    transforms: list[Transform] = parser.get_parsed_content("train#random_transforms")
    return transforms


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Return seconds per sample for each patch size.

    Args:
        job: ``sizes``, ``samples``, and ``turned``, the share that is turned and scaled, or None for MONAI's
            transforms one after the other.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = [dict(zip(BOTH, map(torch.from_numpy, make_case(seed)), strict=True)) for seed in range(CASES)]
    seconds = {}
    for size, samples in zip(job["sizes"], job["samples"], strict=True):
        if job["turned"] is None:
            whole = [{**case, "label": case["label"].float()} for case in data]
            dataset = CacheDataset(whole, Compose(one_after_the_other(size)), progress=False)
            loader = DataLoader(dataset, batch_size=BATCH, shuffle=True)
        else:
            transform = Compose([ClassIndicesd("label", CLASSES), *from_recipe(size, job["turned"])])
            cases = CachedCases(data, transform, copy_cache=False)
            loader = TrainingLoader(cases, BATCH, RandomSampler(cases))
        seconds[str(size)] = cpu_seconds(forever(loader).__next__, samples)
    return {
        "seconds": seconds,
        "processor": processor("cpu"),
        "versions": {"torch": torch.__version__, "monai": monai.__version__},
    }


def forever(loader: DataLoader) -> Iterator[Any]:
    """Yield the batches of epoch after epoch.

    Args:
        loader: of the batches.
    """
    while True:
        yield from loader


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))

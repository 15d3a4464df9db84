from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from torch import nn

from custom_networks.workflow import SegmentationLoss, StackedDeepSupervisionLoss

NAMES = ["background", "whole", "core", "enhancing"]
REGIONS = [[1, 2, 3, 4], [1, 3, 4], [4]]
INSIDE = {1: (0,), 2: (0, 1), 3: (0, 1, 2)}  # the regions of every class
# as in the bundles' train.json
DICE = {"batch": True, "smooth_nr": 1e-5, "smooth_dr": 1e-5}
OF_CLASSES = {"include_background": False, "to_onehot_y": True, "softmax": True, **DICE}


def region_loss() -> SegmentationLoss:
    of_regions = [DiceLoss(sigmoid=True, **DICE), nn.BCEWithLogitsLoss()]
    return SegmentationLoss(DiceCELoss(**OF_CLASSES), of_regions, NAMES, REGIONS)


def by_hand(logits, classes) -> float:
    """Return 1 - Dice over the batch, averaged over the regions, plus binary cross-entropy, in loops over voxels."""
    dice, entropy = [], []
    for region in range(3):
        overlap = size = 0.0
        for case, voxels in enumerate(classes.flatten(1).tolist()):
            for voxel, number in enumerate(voxels):
                p = 1 / (1 + math.exp(-float(logits[case, region].flatten()[voxel])))
                y = float(region in INSIDE.get(int(number), ()))
                overlap += p * y
                size += p + y
                entropy.append(-(y * math.log(p) + (1 - y) * math.log(1 - p)))
        dice.append((2 * overlap + 1e-5) / (size + 1e-5))
    return 1 - sum(dice) / 3 + sum(entropy) / len(entropy)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_equal_to_the_formula(dtype):
    logits = torch.randn(2, 3, 4, 3, 2, dtype=torch.float64) * 3
    classes = torch.randint(4, (2, 1, 4, 3, 2)).to(dtype)
    assert float(region_loss()(logits, classes)) == pytest.approx(by_hand(logits, classes), rel=1e-12)


def test_levels_of_deep_supervision():
    levels = torch.randn(2, 3, 3, 4, 3, 2, dtype=torch.float64)
    classes = torch.randint(4, (2, 1, 4, 3, 2))
    got = StackedDeepSupervisionLoss(region_loss())(levels, classes)
    want = [by_hand(levels[:, level], classes) for level in range(2)]
    assert float(got) == pytest.approx((2 * want[0] + want[1]) / 3, rel=1e-12)


def test_every_logit_of_every_region_gets_a_gradient():
    logits = torch.randn(1, 3, 3, 3, 3, requires_grad=True)
    region_loss()(logits, torch.randint(4, (1, 1, 3, 3, 3))).backward()
    assert bool((logits.grad != 0).all())


def test_without_regions_it_is_the_loss_of_classes_bit_by_bit():
    logits, classes = torch.randn(2, 4, 5, 4, 3), torch.randint(4, (2, 1, 5, 4, 3)).float()
    of_classes = DiceCELoss(**OF_CLASSES)
    loss = SegmentationLoss(of_classes, [DiceLoss(sigmoid=True)], NAMES)
    assert torch.equal(loss(logits, classes), of_classes(logits, classes))


def test_a_perfect_prediction_costs_nothing():
    classes = torch.randint(4, (1, 1, 5, 4, 3))
    masks = torch.stack([classes[:, 0] > region for region in range(3)], 1).float()
    assert float(region_loss()(100 * (2 * masks - 1), classes)) == pytest.approx(0, abs=1e-5)


def test_regions_that_cannot_be_used():
    with pytest.raises(ValueError, match="regions has 2 entries for the 3 names after background"):
        SegmentationLoss(nn.MSELoss(), [nn.MSELoss()], NAMES, REGIONS[:2])

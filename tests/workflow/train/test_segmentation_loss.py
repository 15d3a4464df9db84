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


def remaining(loss: SegmentationLoss, logits, classes) -> float:
    """Return the loss of the labelled voxels, in loops over them: 1 - Dice over the batch, plus cross-entropy."""
    places = (classes[:, 0] >= 0).nonzero().tolist()
    voxels = [(logits[(i, slice(None), *place)].tolist(), int(classes[(i, 0, *place)])) for i, *place in places]
    overlap, size, entropy = [0.0] * logits.shape[1], [0.0] * logits.shape[1], []
    for scores, number in voxels:
        if loss.held is None:
            total = sum(math.exp(score) for score in scores)
            shares = [math.exp(score) / total for score in scores]
            truth = [float(number == channel) for channel in range(len(scores))]
            entropy.append(-math.log(shares[number]))
        else:
            shares = [1 / (1 + math.exp(-score)) for score in scores]
            truth = [float(region in INSIDE.get(number, ())) for region in range(len(scores))]
            entropy += [-math.log(p if y else 1 - p) for p, y in zip(shares, truth, strict=True)]
        for channel, (p, y) in enumerate(zip(shares, truth, strict=True)):
            overlap[channel] += p * y
            size[channel] += p + y
    dice = [(2 * both + 1e-5) / (all_of_it + 1e-5) for both, all_of_it in zip(overlap, size, strict=True)]
    counted = dice[1:] if loss.held is None else dice
    return 1 - sum(counted) / len(counted) + sum(entropy) / len(entropy)


def loss_with_ignored(regions) -> SegmentationLoss:
    of_regions = [DiceLoss(sigmoid=True, **DICE), nn.BCEWithLogitsLoss()]
    return SegmentationLoss(DiceCELoss(**OF_CLASSES), of_regions, NAMES, regions, ignore_value=9)


def partly_labelled(*shape: int, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(shape[0], channels, *shape[1:], dtype=torch.float64) * 3
    return logits.requires_grad_(), torch.randint(-1, 4, (shape[0], 1, *shape[1:])).float()


WAYS = pytest.mark.parametrize("regions", [None, REGIONS], ids=["classes", "regions"])


@WAYS
@pytest.mark.parametrize("shape", [(2, 4, 3, 2), (1, 5, 1, 3)])
def test_ignored_voxels_do_not_exist(regions, shape):
    logits, classes = partly_labelled(*shape, channels=4 if regions is None else 3)
    loss = loss_with_ignored(regions)
    got = loss(logits, classes)
    assert got.item() == pytest.approx(remaining(loss, logits.detach(), classes), rel=1e-12)
    got.backward()
    ignored = (classes < 0).expand_as(logits)
    assert bool((logits.grad[ignored] == 0).all())
    assert bool((logits.grad[~ignored] != 0).all())
    assert torch.autograd.gradcheck(lambda own: loss(own, classes), logits, atol=1e-6)


@WAYS
def test_what_the_network_says_of_ignored_voxels_is_never_looked_at(regions):
    logits, classes = partly_labelled(2, 4, 3, 2, channels=4 if regions is None else 3)
    other = torch.where(classes < 0, torch.nan, logits.detach())
    loss = loss_with_ignored(regions)
    assert torch.equal(loss(logits, classes), loss(other, classes))


@WAYS
def test_ignored_voxels_on_all_levels(regions):
    channels = 4 if regions is None else 3
    classes = partly_labelled(2, 4, 3, 2, channels=channels)[1]
    levels = torch.randn(2, 3, channels, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    loss = loss_with_ignored(regions)
    got = StackedDeepSupervisionLoss(loss)(levels, classes)
    want = [remaining(loss, levels[:, level].detach(), classes) for level in range(2)]
    assert got.item() == pytest.approx((2 * want[0] + want[1]) / 3, rel=1e-12)
    got.backward()
    assert bool((levels.grad[(classes < 0)[:, None].expand_as(levels)] == 0).all())


@WAYS
def test_a_batch_without_labels_costs_nothing(regions):
    logits, classes = partly_labelled(2, 4, 3, 2, channels=4 if regions is None else 3)
    got = loss_with_ignored(regions)(logits, torch.full_like(classes, -1))
    got.backward()
    assert got.item() == 0
    assert bool((logits.grad == 0).all())


@WAYS
def test_a_batch_with_all_labels_costs_what_it_did(regions):
    logits, classes = partly_labelled(2, 4, 3, 2, channels=4 if regions is None else 3)
    plain = SegmentationLoss(DiceCELoss(**OF_CLASSES), loss_with_ignored(regions).of_regions, NAMES, regions)
    got, want = (loss(logits.detach(), classes.abs()) for loss in (loss_with_ignored(regions), plain))
    assert float(got) == pytest.approx(float(want))

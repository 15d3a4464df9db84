"""Voxels without a label: metrics are as if they did not exist."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted

from custom_networks.workflow import ClearIgnoredd, RegionMasksd, SplitIgnoredd
from custom_networks.workflow.report.segmentation_report import segmentation_metrics


def compared(pred: torch.Tensor, label: torch.Tensor, regions) -> dict[str, torch.Tensor]:
    """Return maps of classes one-hot, as evaluation does."""
    names = ["background", "outer", "inner"]
    maps = SplitIgnoredd("label", "ignored")({"pred": pred, "label": label})
    if regions is None:
        maps = AsDiscreted(["pred", "label"], to_onehot=3)(maps)
    maps = RegionMasksd(["pred", "label"], names, regions)(maps)
    return ClearIgnoredd(["pred", "label"], "ignored")(maps)


@pytest.mark.parametrize("regions", [None, [[1, 2], [2]]])
def test_metrics_are_those_of_the_other_voxels(regions):
    chance = np.random.default_rng(1)
    pred, label = (torch.from_numpy(chance.integers(0, 3, (1, 7, 6, 5))).float() for _ in range(2))
    ignored = torch.from_numpy(chance.random((1, 7, 6, 5)) < 0.4)
    affine = torch.diag(torch.tensor([2.0, 1, 1, 1], dtype=torch.float64))
    reference = MetaTensor(label.masked_fill(ignored, -1), affine=affine, meta={"filename_or_obj": "case_1.nii.gz"})
    maps = compared(MetaTensor(pred, affine=affine), reference, regions)
    assert set(maps) == {"pred", "label"}
    assert torch.equal(maps["label"].affine, affine)
    assert maps["label"].meta["filename_or_obj"] == "case_1.nii.gz"
    for key in ("pred", "label"):
        assert maps[key][:, ignored[0]].sum(1).tolist() == [int(ignored.sum()), 0, 0]
        assert maps[key].dtype == torch.float32
    for index in (1, 2):
        p, r = ((volume[~ignored] >= index if regions else volume[~ignored] == index) for volume in (pred, label))
        both, either = int((p & r).sum()), int((p | r).sum())
        got = segmentation_metrics(maps["pred"][index].bool(), maps["label"][index].bool(), (2, 1, 1), 1)
        assert got["dice"] == pytest.approx(2 * both / int(p.sum() + r.sum()))
        assert got["iou"] == pytest.approx(both / either)
        assert got["rvd"] == pytest.approx(int(p.sum()) / int(r.sum()) - 1)
        assert (got["prediction_volume"], got["reference_volume"]) == (2 * int(p.sum()), 2 * int(r.sum()))


def test_the_cut_is_a_surface_of_both():
    """A structure that is predicted as it is labelled, on its labelled half, has no distance."""
    label = torch.zeros(1, 9, 9, 9)
    label[:, 2:7, 2:7, 2:7] = 1
    pred = label.clone()
    label[:, 4:] = -1
    maps = compared(pred, label, None)
    metrics = segmentation_metrics(maps["pred"][1].bool(), maps["label"][1].bool(), (1, 1, 1), 1)
    assert metrics["dice"] == metrics["nsd"] == 1
    assert metrics["hd95"] == metrics["mean_surface_distance"] == 0
    assert metrics["reference_volume"] == 2 * 5 * 5


def test_a_class_in_ignored_voxels_only_is_not_averaged():
    label, pred = torch.full((1, 3, 3, 3), -1.0), torch.ones(1, 3, 3, 3)
    maps = compared(pred, label, None)
    assert math.isnan(segmentation_metrics(maps["pred"][1].bool(), maps["label"][1].bool(), (1, 1, 1), 1)["dice"])

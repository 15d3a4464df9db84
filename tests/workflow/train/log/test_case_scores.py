from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanDice, from_engine

from custom_networks.workflow import CaseScores
from custom_networks.workflow.train.log import case_scores as module

NAMES = ["background", "heart", "lung", "absent"]


def mask(*classes: str) -> torch.Tensor:
    """Return a one-hot mask of four voxels by the class of each."""
    return torch.nn.functional.one_hot(torch.tensor([NAMES.index(name) for name in classes]), 4).T.float()


def validate(cases) -> CaseScores:
    """Validate predictions that a network without any effect gives back."""
    scores = CaseScores(NAMES)
    data = [{"image": pred[None], "label": label[None], "case": [name]} for name, pred, label in cases]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=data,
        network=torch.nn.Identity(),
        key_val_metric={"dice": MeanDice(include_background=False, output_transform=from_engine(["pred", "label"]))},
        val_handlers=[scores],
    )
    evaluator.run()
    return scores


H, L, B = "heart", "lung", "background"


@pytest.mark.filterwarnings("ignore:the ground truth of class:UserWarning")
def test_classes_and_the_worst_case():
    scores = validate(
        [
            ("a", mask(H, H, L, B), mask(H, H, L, B)),
            ("b", mask(H, B, L, L), mask(H, H, L, B)),  # 2/3 and 2/3
            ("c", mask(H, H, B, B), mask(H, H, B, B)),  # has no lung
        ]
    )
    assert scores.classes["heart"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert scores.classes["lung"] == pytest.approx((1 + 2 / 3) / 2)
    assert math.isnan(scores.classes["absent"])
    assert scores.worst == ("b", pytest.approx(2 / 3))
    assert str(scores) == "heart 0.889, lung 0.833, absent -; worst case b 0.667"


@pytest.mark.filterwarnings("ignore:the ground truth of class:UserWarning")
def test_a_second_validation_forgets_the_first():
    scores = CaseScores(NAMES)
    for name in ("a", "b"):
        again = validate([(name, mask(B, B, B, B), mask(H, H, B, B))])
        scores.classes, scores.worst = again.classes, again.worst
        assert scores.worst == (name, 0.0)


def test_a_case_without_a_name_has_that_of_its_file():
    image = MetaTensor(torch.zeros(1), meta={"filename_or_obj": "images/heart_3.nii.gz"})
    assert module._name({"image": image}) == "heart_3"
    assert module._name({"image": image, "case": "own"}) == "own"
    assert module._name({"image": torch.zeros(1)}) == "?"


@pytest.mark.filterwarnings("ignore:the ground truth of class:UserWarning")
def test_no_case_has_any_class():
    scores = validate([("a", mask(B, B, B, B), mask(B, B, B, B))])
    assert scores.worst is None
    assert str(scores) == "heart -, lung -, absent -"

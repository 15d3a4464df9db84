"""The places of every class, all of them or a fair share."""

from __future__ import annotations

import numpy as np
import torch
from monai.transforms import ClassesToIndicesd

from custom_networks.workflow import ClassIndicesd


def random_label(shape=(1, 20, 16, 12)) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(-1, 4, shape)).to(torch.int16)


def test_without_a_limit_they_are_those_of_monai():
    label = random_label()
    got = ClassIndicesd("label", num_classes=6)({"label": label})
    want = ClassesToIndicesd("label", num_classes=6, indices_postfix="_indices")({"label": label})
    assert torch.equal(got["label"], label)
    assert [len(places) for places in got["label_indices"]][4:] == [0, 0]
    for ours, theirs in zip(got["label_indices"], want["label_indices"], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_with_a_limit_they_are_some_of_them_the_same_each_time():
    label = random_label()
    every = ClassIndicesd("label", num_classes=4)({"label": label})["label_indices"]
    first, second = (ClassIndicesd("label", 4, max_samples=100)({"label": label})["label_indices"] for _ in range(2))
    for all_places, some, again in zip(every, first, second, strict=True):
        assert torch.equal(some, again)
        assert len(set(some.tolist())) == 100
        assert set(some.tolist()) <= set(all_places.tolist())


def test_a_limit_leaves_no_plane_out():
    """Two hundred places at even distances, 160 voxels here, would all lie in the first of these 16 planes."""
    label = torch.ones(1, 100, 125, 16)
    label.view(-1)[: 160 * 199 + 1] = 0
    (places, _) = ClassIndicesd("label", num_classes=2, max_samples=200)({"label": label})["label_indices"]
    assert set((places % 16).tolist()) == set(range(16))

"""Crops of a head go to the network and their classes come back to where they belong, on the head's own grid."""

from __future__ import annotations

import tracemalloc
from typing import NamedTuple

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.interpolate import RegularGridInterpolator
from scipy.spatial.transform import Rotation

from custom_networks.workflow.locate.head_inferer import MOVES, Part, RegionsInferer, border_offset, paste, sample
from custom_networks.workflow.locate.head_labels import head_label_names

SHAPE = (52, 60, 46)


class Region(NamedTuple):
    name: str
    mirrored: bool
    volume_ml: tuple[float, float] | None = None


class Crop(NamedTuple):
    region: Region
    affine: np.ndarray
    shape: tuple[int, int, int]

    @property
    def centre(self):
        return to_mm(self.affine, (np.array(self.shape) - 1) / 2)


class Located(NamedTuple):
    crops: list[Crop]
    problems: list[str]
    registration: None = None


class Locate:
    """Gives the crops that it was made with, and notes what it was asked."""

    def __init__(self, crops, problems=()):
        self.crops, self.problems = crops, problems
        self.known = None

    def __call__(self, voxels, affine, orientation_known=True):
        self.voxels, self.affine, self.known = voxels, affine, orientation_known
        return Located(list(self.crops), list(self.problems))

    @staticmethod
    def move(crop, offset_mm):
        sizes = np.linalg.norm(crop.affine[:3, :3], axis=0)
        affine = crop.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ (np.asarray(offset_mm) / sizes)
        return crop._replace(affine=affine)


def affine_of(spacing, angles=(0, 0, 0), origin=(0, 0, 0), mirrored=False):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    if mirrored:
        affine[:3, 0] *= -1
    affine[:3, 3] = origin
    return affine


def crop_around(centre_mm, shape=(20, 24, 18), angles=(0, 0, 0), mirrored=False, name="Left", spacing=(1.0, 1, 1)):
    affine = affine_of(spacing, angles, mirrored=mirrored)
    affine[:3, 3] = np.asarray(centre_mm) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Crop(Region(name, mirrored), affine, shape)


def to_mm(affine, points):
    return np.asarray(points) @ affine[:3, :3].T + affine[:3, 3]


def head(affine, blobs, shape=SHAPE):
    """Return an image with a bright blob at each place in mm, whose value falls off smoothly."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    distance = [np.linalg.norm((to_mm(affine, grid) - centre) / radii, axis=-1) for centre, radii in blobs]
    image = sum(np.clip(2 - d, 0, 2) for d in distance) + 0.05 * np.random.default_rng(0).normal(size=shape)
    return image.astype(np.float32)


def network(crop):
    """Return logits of three classes, by the value of a voxel and by the half of the crop that it lies in."""
    front = torch.linspace(-1, 1, crop.shape[3]).view(1, 1, 1, -1, 1).expand_as(crop)
    return torch.cat([torch.zeros_like(crop), 3 * (crop - 1.3) + 0.8 * front, 3 * (crop - 1.3) - 0.8 * front], 1)


def direct(crop, net):
    return net(crop)


def meta(image, affine, **more):
    return MetaTensor(torch.from_numpy(image)[None, None], affine=torch.from_numpy(affine), meta=more)


def reference(image, affine, crops, run):
    """Return the label map voxel by voxel, by another interpolation than the one under test."""
    classes = []
    axes = tuple(map(np.arange, image.shape))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    for crop in crops:
        inside = np.stack(np.meshgrid(*map(np.arange, crop.shape), indexing="ij"), -1)
        where = to_mm(np.linalg.inv(affine), to_mm(crop.affine, inside)).clip(0, np.array(image.shape) - 1)
        taken = RegularGridInterpolator(axes, image.astype(float))(where)
        taken = (taken - taken.mean()) / taken.std()
        p = run(torch.from_numpy(taken)[None, None].float()).softmax(1)[0].numpy()
        back = to_mm(np.linalg.inv(crop.affine), to_mm(affine, grid))
        own = [
            RegularGridInterpolator(
                tuple(map(np.arange, crop.shape)), one.astype(float), bounds_error=False, fill_value=float(not k)
            )(back)
            for k, one in enumerate(p)
        ]
        classes.append(np.stack(own))
    winners = np.zeros(image.shape, int)
    best = np.zeros(image.shape)
    for number, own in enumerate(classes):
        own[1:][:, own[1:].max(0) <= own[0]] = 0
        better = own[1:].max(0) > best
        winners[better] = 1 + 2 * number + own[1:].argmax(0)[better]
        best[better] = own[1:].max(0)[better]
    return winners


CASES = {
    "straight": (affine_of((1, 1, 1), origin=(-20, -30, -25)), (0, 0, 0)),
    "oblique head": (affine_of((1.1, 0.9, 1.3), (10, -7, 15), (-30, -22, -28)), (0, 0, 0)),
    "oblique crops": (affine_of((1, 1, 2), (0, 0, 0), (-25, -31, -40)), (8, 5, -12)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_mask_is_that_of_a_slow_reference(case):
    affine, angles = CASES[case]
    centres = to_mm(affine, [[16, 28, 22], [38, 30, 24]])
    image = head(affine, [(centre, np.array([4, 7, 3])) for centre in centres])
    crops = [crop_around(centres[0], angles=angles), crop_around(centres[1], angles=angles, mirrored=True, name="R")]
    inferer = RegionsInferer(Locate(crops), direct)
    mask = inferer(meta(image, affine), network)
    assert mask.shape == (1, 1, *SHAPE)
    assert mask.dtype == torch.uint8
    found, expected = mask[0, 0].numpy(), reference(image, affine, crops, network)
    assert set(np.unique(expected)) == {0, 1, 2, 3, 4}
    # of voxels where two probabilities are equal up to rounding, either may win
    assert (found != expected).mean() < 1e-4
    assert inferer.found.problems == []
    np.testing.assert_array_equal(inferer.locate.voxels, image)
    np.testing.assert_array_equal(inferer.locate.affine, affine)


def test_a_mirrored_crop_looks_like_the_other_side_and_comes_back_as_itself():
    affine = affine_of((1, 1, 1))
    image = head(affine, [((14, 30, 22), (3, 6, 4)), ((17, 30, 22), (2, 3, 2))])
    image[26:] = image[:26][::-1]  # both sides the same
    crops = [crop_around((14, 30, 22)), crop_around((37, 30, 22), mirrored=True, name="Right")]
    seen = []

    def sided(crop, net):
        seen.append(crop.clone())
        aside = torch.linspace(-1, 1, crop.shape[2]).view(1, 1, -1, 1, 1).expand_as(crop)
        return torch.cat([torch.zeros_like(crop), 3 * (crop - 1) + aside, 3 * (crop - 1) - aside], 1)

    mask = RegionsInferer(Locate(crops), sided)(meta(image, affine), None)[0, 0].numpy()
    torch.testing.assert_close(seen[0], seen[1], atol=1e-4, rtol=0)
    left, right = mask[:26], mask[26:][::-1]
    assert {1, 2} == set(np.unique(left)) - {0}
    np.testing.assert_array_equal(np.where(left, left + 2, 0), right)


def test_where_crops_overlap_the_larger_probability_counts():
    affine = np.eye(4)
    weak, strong = (np.stack([np.full((8, 8, 8), 1 - p), np.full((8, 8, 8), p)]) for p in (0.6, 0.9))
    crops = [
        Crop(Region(name, False), affine_of((1, 1, 1), origin=(x, 0, 0)), (8, 8, 8)) for name, x in (("A", 0), ("B", 4))
    ]
    one_way = paste([Part(crops[0], weak, False), Part(crops[1], strong, False)], affine, (12, 8, 8))
    other_way = paste([Part(crops[0], strong, False), Part(crops[1], weak, False)], affine, (12, 8, 8))
    assert one_way[:, 4, 4].tolist() == [1] * 4 + [2] * 8
    assert other_way[:, 4, 4].tolist() == [1] * 8 + [2] * 4


def test_a_crop_that_reaches_out_of_the_head_takes_the_nearest_voxels():
    voxels = np.arange(5, 15, dtype=np.float32).reshape(1, 10, 1, 1) * np.ones((1, 1, 6, 6), np.float32)
    taken = sample(voxels, np.eye(4), crop_around((0, 3, 3), shape=(5, 3, 3)))
    assert taken[0, :, 1, 1].tolist() == [5, 5, 5, 6, 7]
    part = Part(crop_around((0, 3, 3), shape=(5, 3, 3)), np.stack([np.zeros((5, 3, 3)), np.ones((5, 3, 3))]), False)
    assert paste([part], np.eye(4), (10, 6, 6)).sum() == 3 * 3 * 3


def test_a_crop_outside_the_head_gives_background():
    part = Part(crop_around((90, 3, 3), shape=(5, 3, 3)), np.stack([np.zeros((5, 3, 3)), np.ones((5, 3, 3))]), False)
    assert not paste([part], np.eye(4), (10, 6, 6)).any()


def counting(calls):
    def infer(crop, net):
        calls.append(crop)
        return torch.cat([torch.zeros_like(crop), crop - 1.0], 1) * 5

    return infer


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_crop_follows_what_its_border_cuts(mirrored):
    affine = affine_of((1, 1, 1), (4, 0, 6))
    centre = to_mm(affine, [26, 30, 23])
    image = head(affine, [(centre, np.array([2.5, 4, 2.5]))])
    calls = []
    away = crop_around(centre + np.array([7, -9, 0]), mirrored=mirrored, angles=(4, 0, 6))
    inferer = RegionsInferer(Locate([away]), counting(calls))
    mask = inferer(meta(image, affine), None)
    whole = RegionsInferer(Locate([crop_around(centre, mirrored=mirrored, angles=(4, 0, 6))]), counting([]))
    expected = whole(meta(image, affine), None).bool().sum()
    assert 2 <= len(calls) <= 1 + MOVES
    assert inferer.found.problems == []
    assert abs(mask.bool().sum() - expected) < 0.1 * expected
    moved = inferer.found.crops[0]
    assert np.linalg.norm(to_mm(moved.affine, (np.array(moved.shape) - 1) / 2) - centre) < 5


def test_what_stays_cut_is_said(caplog):
    image = np.full(SHAPE, 1, np.float32)
    image[:, 30] = 4  # goes on and on
    calls = []
    inferer = RegionsInferer(Locate([crop_around((26, 30, 23))], ["the head is strange; look at it"]), counting(calls))
    inferer(meta(image, np.eye(4)), None)
    assert len(calls) == 1  # nowhere to go
    assert inferer.found.problems[0] == "the head is strange; look at it"
    assert "the Left crop cuts what was found" in inferer.found.problems[1]
    assert [record.getMessage() for record in caplog.records] == inferer.found.problems
    caplog.clear()
    inferer(meta(image, np.eye(4), filename_or_obj="head.nii.gz"), None)
    assert caplog.records[0].getMessage() == "head.nii.gz: the head is strange; look at it"


def test_the_offset_follows_the_largest_piece_alone():
    found = np.zeros((2, 11, 11, 11))
    found[1, 4:8, 4:8, 4:8] = 1
    assert border_offset(found) is None
    found[1, 0, 0, 0] = 1  # a speck at the border
    assert border_offset(found) is None
    found[1, 4:8, 4:8, 4:11] = 1
    assert border_offset(found) == [0, 0, 2]
    found[1, 4:8, 0:11, 4:8] = 1
    assert border_offset(found) == [0, 0, 2]
    assert border_offset(np.zeros((2, 3, 3, 3))) is None


@pytest.mark.parametrize(
    ("notes", "known"),
    [
        ((), True),
        (("is in units of one meter, read as millimetres",), True),
        (("left and right are not known",), False),
    ],
)
def test_a_head_that_does_not_say_where_left_is_is_told_to_the_registration(notes, known):
    locate = Locate([crop_around((26, 30, 23))])
    RegionsInferer(locate, counting([]))(
        meta(np.random.default_rng(0).random(SHAPE, np.float32), np.eye(4), notes=notes), None
    )
    assert locate.known is known


def test_several_heads_at_once_are_refused():
    with pytest.raises(ValueError, match="one head is segmented at a time, got 2; set the batch size to 1"):
        RegionsInferer(Locate([]), direct)(torch.zeros(2, 1, 4, 4, 4), None)


def test_regions_are_refused():
    with pytest.raises(ValueError, match="regions overlap, which the mask of a head cannot hold; give crops"):
        RegionsInferer(Locate([]), direct, regions=[1, 2])


def test_every_channel_is_sampled_and_normalised_by_its_own_scheme():
    seen = []

    def look(crop, net):
        seen.append(crop)
        return torch.zeros_like(crop)

    voxels = torch.rand(1, 2, 30, 30, 30) * 100
    schemes = ["z_score", {"clip": [0, 1000], "mean": 50, "std": 10}]
    RegionsInferer(Locate([crop_around((15, 15, 15))]), look, schemes)(voxels, None)
    assert seen[0].shape == (1, 2, 20, 24, 18)
    assert abs(float(seen[0][0, 0].mean())) < 1e-4
    assert float(seen[0][0, 1].max()) > 3  # (100 - 50) / 10 would be the largest


def test_a_head_takes_little_beside_itself():
    image = torch.zeros(1, 1, 200, 200, 200)
    inferer = RegionsInferer(Locate([crop_around((80, 99, 99)), crop_around((120, 99, 99), name="R")]), direct)
    tracemalloc.start()
    inferer(image, network)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * image.numel() * image.element_size()


def test_the_names_of_the_mask_begin_with_those_of_the_places():
    names = head_label_names([{"name": "Left"}, {"name": "Right"}], ["background", "Anterior", "Posterior"])
    assert names == ["background", "Left-Anterior", "Left-Posterior", "Right-Anterior", "Right-Posterior"]


def test_points_by_hand_are_those_of_one_image():
    affine, centre = affine_of((1, 1, 1), origin=(-20, -30, -25)), np.array([0.0, 0, 0])
    image = head(affine, [(centre, np.array([2.5, 4, 2.5]))])
    locate = Locate([crop_around(centre)])
    locate.start_points = {"Left": [0, 0, 0]}
    inferer = RegionsInferer(locate, direct)
    for _ in range(2):
        inferer(meta(image, affine, filename_or_obj="a.nii.gz"), network)
    with pytest.raises(ValueError, match=r"start_points are those of one image, a.nii.gz, but b.nii.gz is given, too"):
        inferer(meta(image, affine, filename_or_obj="b.nii.gz"), network)

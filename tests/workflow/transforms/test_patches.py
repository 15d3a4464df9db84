"""Patches of a training: where they lie, and that they are what MONAI's transforms one after the other would give."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from monai.transforms import (
    Affine,
    Compose,
    RandAffined,
    RandCropByLabelClassesd,
    RandCropByPosNegLabeld,
    RandFlipd,
    SpatialCrop,
    SpatialPad,
    SpatialPadd,
)
from scipy.ndimage import map_coordinates
from scipy.stats import chisquare, ks_2samp

from custom_networks.workflow import ClassIndicesd, RandPatchd

KEYS = ["image", "label"]


def case(shape=(40, 36, 30), classes=3) -> dict:
    """Return a smooth image with one place of each class, the later ones smaller, and the places."""
    grid = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"))
    label = np.zeros(shape, np.int16)
    for number in range(1, classes):
        centre = np.full(3, 0.3 * number)[:, None, None, None]
        label[((grid - centre) ** 2).sum(0) < (0.25 / number) ** 2] = number
    image = np.sin(9 * grid[0]) + np.cos(7 * grid[1]) * grid[2] + label
    volumes = {"image": torch.from_numpy(image)[None].float(), "label": torch.from_numpy(label)[None]}
    return ClassIndicesd("label", num_classes=classes)(volumes)


def patches(volumes, count, **options):
    transform = RandPatchd(KEYS, "label", **options).set_random_state(0)
    return [transform(volumes) for _ in range(count)], transform


def numbered(label: torch.Tensor, classes: int) -> dict:
    """Return a case whose image numbers the voxels."""
    image = torch.arange(float(label.numel())).view(label.shape)
    return ClassIndicesd("label", num_classes=classes)({"image": image, "label": label})


@pytest.mark.parametrize("size", [(16, 13, 9), (48, 20, 31), (41, 37, 30), (60, 60, 60)])
@pytest.mark.parametrize("mirror_axes", [(), (0, 2)])
def test_a_patch_is_that_of_pad_crop_turn_and_flip(size, mirror_axes):
    """Voxel for voxel, where the upright patch of MONAI's chain holds what the turned one shows."""
    volumes, compared = case(), 0
    transform = RandPatchd(KEYS, "label", size, mirror_axes=mirror_axes).set_random_state(1)
    for _ in range(12):
        patch = transform(volumes)
        padded = {key: SpatialPad(size)(volumes[key].float()) for key in KEYS}
        start = [
            first + max(0, n - have) // 2
            for first, n, have in zip(transform.start, size, volumes["label"].shape[1:], strict=True)
        ]
        upright = {key: SpatialCrop(roi_start=start, roi_end=np.add(start, size))(padded[key]) for key in KEYS}
        turned, inside = upright, torch.ones(size, dtype=torch.bool)
        if transform.affine is not None:
            affine = Affine(affine=transform.affine, image_only=True, padding_mode="zeros")
            turned = {
                key: affine(upright[key], mode=mode) for key, mode in zip(KEYS, ("bilinear", "nearest"), strict=True)
            }
            inside = affine(torch.ones(1, *size), mode="bilinear")[0] > 1 - 1e-4
            compared += int(inside.sum())
        axes = [axis + 1 for axis in transform.flipped]
        want = {key: torch.as_tensor(turned[key]).flip(axes) for key in KEYS}
        inside = torch.as_tensor(inside).flip([axis - 1 for axis in axes])
        assert patch["image"].shape == patch["label"].shape == (1, *size)
        torch.testing.assert_close(patch["image"][0][inside], want["image"][0][inside], atol=2e-3, rtol=0)
        # the nearest of two voxels at the same distance is a matter of rounding
        assert (patch["label"][0][inside] != want["label"][0][inside]).float().mean() < 1e-3
    assert compared > 1000


def test_a_turned_patch_shows_what_lies_beyond_its_corners():
    volumes = {"image": torch.ones(1, 60, 60, 60), "label": torch.zeros(1, 60, 60, 60)}
    volumes["label"][0, 30, 30, 30] = 1
    volumes = ClassIndicesd("label", num_classes=2)(volumes)
    drawn, _ = patches(volumes, 10, spatial_size=(20, 20, 20), foreground_ratio=1.0, prob=1.0)
    assert all(torch.allclose(patch["image"], torch.ones(())) for patch in drawn)


def test_the_case_stays_as_it_is_and_its_places_leave_it():
    volumes = case()
    before = {key: volumes[key].clone() for key in KEYS}
    drawn, _ = patches(volumes, 10, spatial_size=(20, 50, 9), mirror_axes=[1])
    for patch in drawn:
        assert set(patch) == set(KEYS)
        assert {patch[key].dtype for key in KEYS} == {torch.float32}
        for key in KEYS:
            patch[key].fill_(9)
    assert all(torch.equal(volumes[key], before[key]) for key in KEYS)
    assert "label_indices" in volumes


def centres(drawn) -> list[int]:
    """Return the numbers of the voxels in the middle of patches of one voxel."""
    return [int(patch["image"]) for patch in drawn]


def test_each_class_is_met_equally_often_and_the_background_as_often_as_told():
    label = torch.zeros(1, 10, 10, 10)
    label[0, :5] = 1
    label[0, 5, 0, 0] = 2
    label[0, 6, :2, 0] = 4
    drawn, _ = patches(numbered(label, 5), 4000, spatial_size=(1, 1, 1), foreground_ratio=0.75, prob=0)
    counts = Counter(int(patch["label"]) for patch in drawn)
    assert set(counts) == {0, 1, 2, 4}
    assert chisquare([counts[c] for c in (0, 1, 2, 4)]).pvalue > 0.001
    of_one = Counter(centre // 100 for centre, patch in zip(centres(drawn), drawn, strict=True) if patch["label"] == 1)
    assert chisquare([of_one[plane] for plane in range(5)]).pvalue > 0.001


def test_places_are_distributed_as_those_of_monai():
    """With both of MONAI's ways to draw: by class, and, where there is one class, by foreground and background."""
    size = (9, 7, 11)
    for classes in (2, 4):
        volumes = case((24, 20, 22), classes)
        counted = {"image": torch.arange(24.0 * 20 * 22).view(1, 24, 20, 22), "label": volumes["label"]}
        ratios = [1.0, *([1 / (classes - 1)] * (classes - 1))]
        theirs = [RandCropByLabelClassesd(KEYS, "label", size, ratios=ratios, num_classes=classes)]
        if classes == 2:
            theirs.append(RandCropByPosNegLabeld(KEYS, "label", size))
        drawn, _ = patches({**volumes, **counted}, 1500, spatial_size=size, prob=0)
        ours = np.array([np.unravel_index(int(patch["image"].flatten()[0]), (24, 20, 22)) for patch in drawn])
        for chain in theirs:
            chain.set_random_state(5)
            corners = [int(chain(counted)[0]["image"].flatten()[0]) for _ in range(1500)]
            want = np.array([np.unravel_index(corner, (24, 20, 22)) for corner in corners])
            assert all(ks_2samp(ours[:, axis], want[:, axis]).pvalue > 0.001 for axis in range(3))


def test_patches_are_distributed_as_those_of_monai():
    """Moments of what both ways show in the middle of a patch, and the share of patches that are turned."""
    volumes, size = case((44, 40, 42), 2), (24, 20, 22)
    middle = (0, slice(8, 16), slice(6, 14), slice(7, 15))
    chain = Compose(
        [
            SpatialPadd(KEYS, size),
            RandCropByPosNegLabeld(KEYS, "label", size),
            RandAffined(
                KEYS,
                prob=0.6,
                rotate_range=[0.3] * 3,
                scale_range=[0.2] * 3,
                mode=["bilinear", "nearest"],
                padding_mode="zeros",
            ),
            RandFlipd(KEYS, prob=0.5, spatial_axis=1),
        ]
    ).set_random_state(2)
    plain = {key: volumes[key].float() for key in KEYS}
    theirs = [chain(plain)[0] for _ in range(400)]
    transform = RandPatchd(KEYS, "label", size, mirror_axes=[1]).set_random_state(3)
    ours, turned = [], 0
    for _ in range(400):
        ours.append(transform(volumes))
        turned += transform.affine is not None
    assert 0.52 < turned / 400 < 0.68
    for key in KEYS:
        for moment in (torch.mean, torch.std):
            samples = [[float(moment(patch[key][middle])) for patch in drawn] for drawn in (ours, theirs)]
            assert ks_2samp(*samples).pvalue > 0.001, (key, moment.__name__)


def test_turns_and_scales_fill_their_ranges():
    _, transform = patches(case(), 1, spatial_size=(8, 8, 8))
    drawn = []
    for _ in range(400):
        transform.randomize(((40, 36, 30), case_places))
        if transform.affine is not None:
            drawn.append([*transform.affine_grid.rotate_params, *transform.affine_grid.scale_params])
    drawn = np.array(drawn)
    assert ((drawn[:, :3].min(0) < -0.28) & (drawn[:, :3].max(0) > 0.28)).all()
    assert ((drawn[:, 3:].min(0) < 0.82) & (drawn[:, 3:].max(0) > 1.18)).all()


case_places = case()["label_indices"]


@pytest.mark.parametrize(("ratio", "values"), [(0.0, {0}), (1.0, {1, 2}), (0.5, {0, 1, 2})])
def test_no_patch_lies_around_a_voxel_without_a_label(ratio, values):
    label = torch.full((1, 6, 5, 4), -1.0)
    for number, place in enumerate([(0, 0, 0), (5, 4, 3), (2, 3, 1), (4, 0, 2)]):
        label[(0, *place)] = number % 3
    drawn, _ = patches(numbered(label, 3), 80, spatial_size=(1, 1, 1), foreground_ratio=ratio, prob=0)
    assert {int(patch["label"]) for patch in drawn} == values


def test_a_case_without_any_label_gives_any_patch():
    label = torch.full((1, 6, 5, 4), -1.0)
    drawn, _ = patches(numbered(label, 3), 80, spatial_size=(1, 1, 1), prob=0)
    assert len(set(centres(drawn))) > 40


@pytest.mark.parametrize(("value", "ratio"), [(0, 1.0), (1, 0.0)])
def test_a_case_of_one_class_gives_that(value, ratio):
    drawn, _ = patches(
        numbered(torch.full((1, 6, 5, 4), float(value)), 2), 5, spatial_size=(1, 1, 1), foreground_ratio=ratio, prob=0
    )
    assert {int(patch["label"]) for patch in drawn} == {value}


def test_the_seed_decides_everything():
    volumes = case()
    transform = RandPatchd(KEYS, "label", (20, 20, 20), mirror_axes=[0])
    drawn = []
    for seed in (4, 5, 4):
        transform.set_random_state(seed)
        drawn.append(torch.stack([transform(volumes)["image"] for _ in range(4)]))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 2.0, 1.3), (2.0, 0.7, 2.0)])
def test_a_turn_is_one_of_the_body(spacing):
    """Voxel for voxel: the place in mm is turned and scaled, and the case is read there."""
    size, volumes, compared = (18, 15, 12), case(), 0
    transform = RandPatchd(KEYS, "label", size, prob=1, mirror_axes=(1,), spacing=spacing).set_random_state(5)
    image = volumes["image"][0].double().numpy()
    for _ in range(6):
        patch = transform(volumes)["image"][0].numpy()
        turn = transform.affine[:3, :3].double().numpy()
        angles_alone = turn / np.linalg.norm(turn, axis=0)
        np.testing.assert_allclose(angles_alone.T @ angles_alone, np.eye(3), atol=1e-6)
        middle = (np.array(size) - 1) / 2
        voxels = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1).reshape(-1, 3).astype(float)
        for axis in transform.flipped:
            voxels[:, axis] = size[axis] - 1 - voxels[:, axis]
        in_mm = (voxels - middle) * spacing
        places = (in_mm @ turn.T) / spacing + middle + transform.start
        want = map_coordinates(image, places.T, order=1, mode="constant").reshape(size)
        inside = ((places >= 0) & (places <= np.array(image.shape) - 1)).all(1).reshape(size)
        np.testing.assert_allclose(patch[inside], want[inside], atol=2e-3)
        compared += int(inside.sum())
    assert compared > 5000


def test_equal_sides_turn_as_the_grid_does():
    volumes, drawn = case(), []
    for spacing in (None, (2.5, 2.5, 2.5)):
        transform = RandPatchd(KEYS, "label", (20, 20, 20), prob=1, spacing=spacing).set_random_state(6)
        drawn.append(torch.stack([transform(volumes)["image"] for _ in range(4)]))
    assert torch.equal(*drawn)


@pytest.mark.parametrize(
    ("spacing", "turned", "scaled"),
    [
        ((1.5, 1.5, 10.0), {2}, {0, 1}),
        ((5.0, 1.0, 1.2), {0}, {1, 2}),
        ((1.0, 4.0, 4.0), {0}, {0}),
        ((1.0, 1.0, 3.0), {0, 1, 2}, {0, 1, 2}),
    ],
)
def test_nothing_is_turned_or_scaled_across_thick_slices(spacing, turned, scaled):
    transform = RandPatchd(KEYS, "label", (8, 8, 8), prob=1, spacing=spacing).set_random_state(7)
    drawn = []
    for _ in range(60):
        transform.randomize(((40, 36, 30), case_places))
        drawn.append([*transform.affine_grid.rotate_params, *transform.affine_grid.scale_params])
    moved = np.abs(np.array(drawn) - [0, 0, 0, 1, 1, 1]).max(0)
    assert {axis for axis in range(3) if moved[axis] > 0.1} == turned
    assert {axis for axis in range(3) if moved[3 + axis] > 0.1} == scaled
    assert all(value < 1e-9 or value > 0.1 for value in moved)


def test_slices_stay_apart_where_they_are_thick():
    """A volume whose slices are constant stays so."""
    label = torch.zeros((1, 30, 28, 9))
    image = torch.cat([label + torch.arange(9.0), torch.ones_like(label)])
    volumes = ClassIndicesd("label", num_classes=2)({"image": image, "label": label})
    transform = RandPatchd(KEYS, "label", (10, 10, 5), prob=1, spacing=(1.5, 1.5, 10)).set_random_state(8)
    for _ in range(20):
        value, weight = transform(volumes)["image"]
        seen = weight > 0.1  # the others lie beyond the border, in whole or in part
        slices = torch.arange(float(transform.start[2]), transform.start[2] + 5).expand(10, 10, 5)
        torch.testing.assert_close((value / weight)[seen], slices[seen], atol=1e-3, rtol=0)
        assert seen.float().mean() > 0.5


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 0.0, 1.0)])
def test_sides_that_do_not_fit(spacing):
    with pytest.raises(ValueError, match="spacing must have one positive entry for each of the axes"):
        RandPatchd(KEYS, "label", (8, 8, 8), spacing=spacing)

"""The rules of ``adapt``: spacing, strides and kernels as nnU-Net has them, patch, folds, epochs."""

from __future__ import annotations

import math

import pytest

from custom_networks.adapt.choices import (
    MAX_VOXELS,
    down_sampling,
    folds_of,
    foreground_ratio,
    largest_patch,
    rounded_patch,
    schedule,
    target_spacing,
)


@pytest.mark.parametrize(
    ("spacings", "shape", "want"),
    [
        ([(1, 1, 1), (1, 1, 2), (1, 1, 3)], (100, 100, 100), ([1, 1, 2], False)),
        ([(1, 1, 4), (1, 1, 5), (1, 1, 9)], (300, 300, 20), ([1, 1, 4.2], True)),
        ([(1, 1, 4), (1, 1, 5), (1, 1, 9)], (300, 300, 110), ([1, 1, 5], False)),  # too many slices
        ([(5, 1, 1), (6, 1, 1), (6, 1, 1)], (20, 200, 200), ([5.2, 1, 1], True)),  # whichever axis is coarse
        ([(1, 1, 0.5), (1, 1, 9), (1, 1, 9)], (300, 300, 20), ([1, 1, 2.2], True)),
        ([(1, 1, 0.1), (1, 1, 0.1), *[(1, 1, 9)] * 5], (300, 300, 20), ([1, 1, 1], True)),  # no finer than the others
    ],
)
def test_spacing(spacings, shape, want):
    assert target_spacing(spacings, [shape] * len(spacings)) == want


def test_strides_and_kernels_of_cardiac_slices():
    """The plan that nnU-Net makes for slices of 10 mm, as far as four levels go."""
    strides, kernels = down_sampling([2, 2, 2], 3, (1.5, 1.5, 10), (160, 160, 10))
    assert strides == [(2, 2, 1), (2, 2, 1), (2, 2, 2)]
    assert kernels == [(3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3)]


@pytest.mark.parametrize(("voxels", "step"), [(8, 2), (7.9, 1)])
def test_no_axis_is_halved_below_four_voxels(voxels, step):
    assert down_sampling([2], 3, (1, 1, 1), (32, 32, voxels))[0] == [(2, 2, step)]


def test_a_step_that_is_none_stays_none():
    assert down_sampling([2, 1, 2], 3, (1, 1, 1), (64, 64, 64))[0] == [(2, 2, 2), (1, 1, 1), (2, 2, 2)]


@pytest.mark.parametrize(
    ("median", "spacing"),
    [((200, 220, 12), (1.5, 1.5, 10)), ((512, 512, 400), (0.8, 0.8, 1)), ((64, 900, 64), (1, 1, 1))],
)
def test_a_large_image_gives_a_cube_in_mm_of_the_bound(median, spacing):
    size = largest_patch(median, spacing, MAX_VOXELS)
    assert math.prod(size) == pytest.approx(MAX_VOXELS, rel=1e-5)
    cut = [n * mm for n, mm, whole in zip(size, spacing, median, strict=True) if n < whole]
    assert cut == pytest.approx([max(cut)] * len(cut))
    assert all(n * mm <= max(cut) for n, mm in zip(size, spacing, strict=True))


def test_a_small_image_gives_a_patch_that_covers_it():
    median = (35, 50, 36)
    assert rounded_patch(largest_patch(median, (1, 1, 1), MAX_VOXELS), median, (8, 8, 8)) == [40, 56, 40]


def test_a_group_is_in_one_fold():
    folds = folds_of([[f"p{number}_{part}" for part in "ab"] for number in range(7)])
    assert [len(fold) for fold in folds] == [4, 4, 2, 2, 2]
    assert all(
        {name[:2] for name in fold} & {name[:2] for name in other} == set()
        for fold in folds
        for other in folds
        if other is not fold
    )


@pytest.mark.parametrize(("cases", "want"), [(166, (42, 4)), (1, (500, 50)), (10_000, (10, 1))])
def test_epochs_keep_the_number_of_steps(cases, want):
    assert schedule(42 * 83, cases, 2) == want


def test_foreground_ratio():
    ratios = [foreground_ratio(share, whole, 0.5) for share in (0.05, 0.005) for whole in (False, True)]
    assert ratios == [0.5, 0.5, 0.75, 0.5]

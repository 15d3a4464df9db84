"""Coarse grids, points and rotations."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from custom_networks.workflow.locate.grids import apply, corners, resample_coarsely, rigid_part


def ramp(shape, affine):
    """A value that is linear in mm: every way of sampling it right gives the same value at the same place."""
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(float)
    return (apply(affine, points) @ [1.0, -2.0, 0.5] + 1000).astype(np.float32)


def grid(spacing, turn, codes="RAS"):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * spacing
    affine[:3, 3] = (-40, -50, -30)
    there = nib.orientations.axcodes2ornt(tuple(codes))
    return affine @ nib.orientations.inv_ornt_aff(there, (40, 40, 40))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASR"])
@pytest.mark.parametrize("turn", [(0, 0, 0), (15, -10, 20)])
@pytest.mark.parametrize("spacing", [(0.7, 1.0, 1.5), (1, 1, 3), (2, 2, 2), (3.5, 4, 3)])
def test_a_value_stays_where_it_is_in_mm(spacing, turn, codes):
    affine = grid(spacing, turn, codes)
    values, coarse = resample_coarsely(ramp((60, 60, 60), affine), affine, 3.0)
    assert np.array_equal(coarse[:3, :3], 3 * np.eye(3))
    points = np.argwhere(np.ones(values.shape))
    inside = apply(np.linalg.inv(affine), apply(coarse, points.astype(float)))
    # where an average takes no part of what lies outside
    kept = ((inside >= 4) & (inside <= 55)).all(axis=1)
    assert kept.sum() > 200
    assert np.allclose(values[tuple(points[kept].T)], ramp(values.shape, coarse)[tuple(points[kept].T)], atol=0.01)


def test_a_sheared_grid_is_read_in_mm():
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[0, 2] = 0.6
    values, coarse = resample_coarsely(ramp((60, 60, 40), affine), affine, 3.0)
    middle = np.array(values.shape) // 2
    assert values[tuple(middle)] == pytest.approx(ramp(values.shape, coarse)[tuple(middle)], abs=0.01)


def test_it_covers_the_whole_image():
    affine = grid((1, 1, 1), (10, 20, 30))
    values, coarse = resample_coarsely(np.ones((61, 52, 43), np.float32), affine, 3.0)
    ends, reached = corners((61, 52, 43), affine), corners(values.shape, coarse)
    # but for half an averaged block of 3 mm, or an incomplete one, on each axis, which are turned
    lost = np.abs(affine[:3, :3]).sum(axis=1).max() * 2
    assert (reached.min(axis=0) <= ends.min(axis=0) + lost).all()
    assert (reached.max(axis=0) >= ends.max(axis=0) - lost).all()


def test_fine_detail_does_not_alias():
    board = np.indices((90, 90, 90)).sum(axis=0) % 2
    values, _ = resample_coarsely(board.astype(np.float32), np.eye(4), 3.0)
    assert np.ptp(values[1:-1, 1:-1, 1:-1]) < 0.1


def test_what_lies_on_the_grid_is_not_touched():
    voxels, affine = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0])
    assert resample_coarsely(voxels, affine, 3.0)[0] is voxels


def test_rigid_part_is_the_rotation_without_the_stretch():
    turn = Rotation.from_euler("xyz", (10, -20, 30), degrees=True).as_matrix()
    # a stretch along axes of the template comes before the turn: the polar decomposition undoes it
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[1.1, 0.1, 0.0], [0.1, 0.9, 0.05], [0.0, 0.05, 1.2]])
    assert np.allclose(rigid_part(affine), turn)

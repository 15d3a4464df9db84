"""``make fuzz``: two hundred poses of a head, of which none may be missed without a word."""

from __future__ import annotations

import os

import numpy as np
import pytest

from custom_networks.workflow.locate.regions import LocateRegions
from tests.workflow.locate.heads import POINTS, bias, colin, moved, random_pose

POSES = int(os.environ.get("FUZZ_POSES", "200"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
FAR_MM = 8.0


@pytest.mark.timeout(0)
def test_no_pose_of_a_head_is_missed_without_a_word():
    voxels, affine = colin()
    locate = LocateRegions()
    refused, warned, silent, metrics, far = 0, 0, [], [], []
    for number in range(POSES):
        rng = np.random.default_rng((SEED, number))
        pose = random_pose(rng)
        try:
            found = locate(voxels * bias(voxels.shape, rng), pose @ affine)
        except ValueError as error:
            refused += 1
            print(f"pose {number}: {error}")
            continue
        centres = np.stack([crop.centre for crop in found.crops])
        away = float(np.linalg.norm(centres - moved(POINTS, pose), axis=1).max())
        metrics.append(found.head["metric"])
        far.append(away)
        warned += bool(found.problems)
        if found.problems:
            print(f"pose {number}: {away:.1f} mm away, {found.problems}")
        if away > FAR_MM and not found.problems:
            silent.append((number, away))
    low, middle, high = np.percentile(metrics, (0, 50, 100))
    print(f"{POSES} poses: {refused} refused, {warned} with a warning")
    print(f"metric {low:.3f} to {high:.3f}, median {middle:.3f}")
    print(
        f"centres away by {np.median(far):.1f} mm (median), {np.percentile(far, 95):.1f} (95 %), {max(far):.1f} (all)"
    )
    assert silent == []
    assert refused <= 0.02 * POSES and warned <= 0.05 * POSES

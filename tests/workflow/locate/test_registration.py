"""Registration: known motions are found again, whatever the grid; the same image gives the same result."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from custom_networks.command_line import sentence
from custom_networks.workflow.locate.grids import apply
from custom_networks.workflow.locate.registration import FLIP, from_sitk, register, to_sitk
from custom_networks.workflow.locate.template import load_template
from tests.workflow.locate.heads import POINTS, bias, brains, colin, drawn, motion, moved, ordered, read

sitk = pytest.importorskip("SimpleITK")
TEMPLATE = load_template()
BRAIN = apply(TEMPLATE.affine, np.argwhere(TEMPLATE.brain)[::500].astype(float))


def away(registration, truth: np.ndarray, points: np.ndarray) -> float:
    return float(np.linalg.norm(moved(points, registration.affine) - moved(points, truth), axis=1).max())


@pytest.mark.parametrize(
    "truth",
    [
        np.eye(4),
        motion(Rotation.from_euler("xyz", (12, -8, 10), degrees=True), (1.06, 0.95, 0.9), (25, -30, 12)),
        motion(Rotation.from_euler("xyz", (-15, 5, -20), degrees=True), (0.9, 1.0, 0.85), (-35, 20, 40))
        @ np.array([[1, 0.1, 0, 0], [0, 1, 0.05, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    ],
    ids=["as it is", "turned", "turned and sheared"],
)
def test_a_known_affine_of_the_template_itself_is_found(truth):
    found = register(TEMPLATE.voxels, truth @ TEMPLATE.affine, TEMPLATE)
    assert away(found, truth, BRAIN) <= 1
    assert away(found, truth @ motion(Rotation.identity(), shift=(2, 0, 0)), BRAIN) > 1
    assert found.metric < -0.9 and found.start == "moments" and found.inside > 0.98 and found.likeness > 0.9


def test_the_same_image_gives_the_same_bits():
    truth = motion(Rotation.from_euler("xyz", (5, 6, 7), degrees=True))
    first, second = (register(TEMPLATE.voxels, truth @ TEMPLATE.affine, TEMPLATE) for _ in range(2))
    assert np.array_equal(first.affine, second.affine) and first.metric == second.metric


def test_padding_far_below_air_changes_nothing():
    truth = motion(Rotation.from_euler("xyz", (5, -6, 7), degrees=True), shift=(10, -5, 8))
    low = TEMPLATE.voxels.max() * 20
    padded = np.pad(TEMPLATE.voxels, 12, constant_values=-low)
    affine = truth @ TEMPLATE.affine @ motion(Rotation.identity(), shift=(-12, -12, -12))
    assert away(register(padded, affine, TEMPLATE), truth, BRAIN) <= 1.5


def test_two_registrations_at_once_give_the_same_bits():
    truth = motion(Rotation.from_euler("xyz", (5, 6, 7), degrees=True))
    alone = register(TEMPLATE.voxels, truth @ TEMPLATE.affine, TEMPLATE)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: register(TEMPLATE.voxels, truth @ TEMPLATE.affine, TEMPLATE), range(2)))
    assert all(np.array_equal(one.affine, alone.affine) for one in both)


def test_points_go_where_simpleitk_sends_them():
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(np.random.default_rng(0).normal(size=9).tolist())
    transform.SetCenter((1.0, -2.0, 3.0))
    transform.SetTranslation((10.0, 20.0, -5.0))
    point = np.array([4.0, -7.0, 9.0])
    assert np.allclose(apply(from_sitk(transform), point), FLIP @ transform.TransformPoint((FLIP @ point).tolist()))
    image = to_sitk(TEMPLATE.voxels, TEMPLATE.affine)
    place = image.TransformPhysicalPointToIndex((FLIP @ apply(TEMPLATE.affine, np.array([10.0, 20.0, 30.0]))).tolist())
    assert place == (10, 20, 30) and image[place] == TEMPLATE.voxels[place]


def test_another_start_is_taken_where_the_first_leads_astray():
    """A bright block beneath the brain, as shoulders are, draws the centre of mass down."""
    voxels = np.zeros((95, 107, 110), np.float32)
    voxels[15:80, 15:92, 40:103] = TEMPLATE.voxels
    voxels[20:75, 30:85, :25] = TEMPLATE.voxels.max()
    affine = TEMPLATE.affine.copy()
    affine[:3, 3] -= 3 * np.array([15, 15, 40])
    found = register(voxels, affine, TEMPLATE)
    assert found.starts == 27 and "up" in found.start
    assert away(found, np.eye(4), BRAIN) <= 2


def test_an_image_of_one_value_is_refused():
    with pytest.raises(ValueError, match="one value everywhere"):
        register(np.full((60, 60, 60), 7.0), np.diag([3, 3, 3, 1]), TEMPLATE)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ModuleNotFoundError) as raised:
        register(TEMPLATE.voxels, TEMPLATE.affine, TEMPLATE)
    assert sentence(raised.value) == "this command needs SimpleITK; pip install SimpleITK"


def scans():
    voxels, affine = read(brains()[0]) if brains() else colin()
    yield "as it is", np.eye(4), (voxels, affine)
    for turn in ((15, 0, 0), (0, 15, 0), (0, 0, 15), (-15, 0, 0), (0, -15, 0), (0, 0, -15)):
        truth = motion(Rotation.from_euler("xyz", turn, degrees=True), shift=(30, -30, 30))
        yield f"turned {turn}", truth, (voxels, truth @ affine)
    truth = motion(Rotation.from_euler("xyz", (15, 0, 0), degrees=True))
    yield "turned and drawn on the world's axes", truth, drawn(voxels, truth @ affine, np.ones(3))
    yield "1 x 1 x 3 mm", np.eye(4), drawn(voxels, affine, np.array([1, 1, 3.0]))
    yield "1 x 3 x 1 mm", np.eye(4), drawn(voxels, affine, np.array([1, 3.0, 1]))
    for codes in ("LPS", "ASR", "PIR"):
        yield codes, np.eye(4), ordered(voxels, affine, codes)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_centres_stay_where_they_are_in_the_head():
    """Turned, moved, drawn anew and stored otherwise: the points stay in the same place of the brain."""
    found = {name: (truth, register(*image, TEMPLATE)) for name, truth, image in scans()}
    reference = moved(POINTS, found["as it is"][1].affine)
    far = {
        name: float(np.linalg.norm(moved(POINTS, one.affine) - moved(reference, truth), axis=1).max())
        for name, (truth, one) in found.items()
    }
    print({name: round(value, 2) for name, value in far.items()})
    assert len(far) == 13 and max(far.values()) <= 4
    assert all(np.linalg.det(one.affine[:3, :3]) > 0 for _, one in found.values())


@pytest.mark.slow
def test_a_head_mirrored_together_with_its_affine_is_the_same_head():
    voxels, affine = colin()
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = voxels.shape[0] - 1
    one, other = register(voxels, affine, TEMPLATE), register(voxels[::-1], affine @ flip, TEMPLATE)
    assert np.abs(moved(POINTS, one.affine) - moved(POINTS, other.affine)).max() <= 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_long_neck_and_a_bias_field_do_not_lead_astray():
    voxels, affine = colin()
    lowest = voxels[:, :, :1]
    longer = np.concatenate([np.repeat(lowest, 110, axis=2), voxels], axis=2)
    affine = affine @ nib.affines.from_matvec(np.eye(3), (0, 0, -110))
    truth = motion(Rotation.from_euler("xyz", (10, 0, 0), degrees=True))
    found = register(longer * bias(longer.shape, np.random.default_rng(1)), truth @ affine, TEMPLATE)
    assert away(found, truth, POINTS) <= 6, found

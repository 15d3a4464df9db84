"""What is refused, and what is said of heads and masks that are doubtful: never a wrong result without a word."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from custom_networks.workflow.locate import regions
from custom_networks.workflow.locate.plausible import say_masks, say_registration
from custom_networks.workflow.locate.regions import Located, LocateRegions
from custom_networks.workflow.locate.registration import Registration
from custom_networks.workflow.locate.template import load_template
from tests.conftest import SHARED
from tests.workflow.locate.heads import POINTS, colin, motion, read

GOOD = Registration(np.diag([0.9, 0.9, 0.9, 1.0]), -0.55, "moments", 1, 1.0, 0.7)
CENTRES = {"Left": POINTS[0], "Right": POINTS[1]}


def test_a_good_registration_is_believed():
    head, problems = say_registration(GOOD, load_template())
    assert problems == [] and head["shear"] == pytest.approx(1) and head["rotation_degrees"] == pytest.approx(0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metric": -0.33}, "fits the image poorly"),
        ({"affine": np.diag([0.8, 0.8, 0.8, 1])}, "0.51 times the template's volume"),
        ({"affine": np.diag([1.2, 1.2, 1.2, 1])}, "1.73 times the template's volume"),
        ({"affine": np.diag([1.3, 0.8, 0.9, 1])}, "stretched 1.62 times more"),
        ({"affine": motion(Rotation.from_euler("z", 60, degrees=True))}, "turned by 60 degrees"),
        ({"inside": 0.9}, "only 90% of the brain"),
        ({"likeness": 0.1}, "does not look T1-weighted"),
    ],
)
def test_a_doubtful_registration_is_said(change, said):
    _, problems = say_registration(replace(GOOD, **change), load_template())
    assert len(problems) == 1 and said in problems[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"metric": -0.29}, "metric -0.29"), ({"affine": np.diag([-1.0, 1, 1, 1])}, "only as its mirror image")],
)
def test_a_failed_registration_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        say_registration(replace(GOOD, **change), load_template())


def masks(left=(9, 9), right=(9, 9), shift=(0.0, 0.0, 0.0)):
    """Return boxes of 30 mm, ``left`` and ``right`` mm wide and high, around the template's points; and their grid."""
    affine = np.eye(4)
    affine[:3, 3] = (-60, -60, -60)
    places, found = np.arange(120) - 60, {}
    for name, (wide, high) in (("Left", left), ("Right", right)):
        centres = CENTRES[name] + shift
        found[name] = np.zeros((120, 120, 120), bool)
        inside = [np.abs(places - c) <= size / 2 for c, size in zip(centres, (wide, 30, high), strict=True)]
        found[name][np.ix_(*inside)] = True
    return found, affine


@pytest.fixture(scope="module")
def located():
    registration = replace(GOOD, affine=np.eye(4))
    crops = LocateRegions(start_points={name: point + 60 for name, point in CENTRES.items()})(
        np.zeros((120, 120, 120)), np.eye(4)
    ).crops
    return Located(registration, crops)


def test_good_masks_are_believed(located):
    assert say_masks(*masks(), located) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"left": (4, 5), "right": (4, 5)}, ["Left has 0.75 mL", "Right has 0.72 mL"]),
        ({"left": (15, 16), "right": (15, 16)}, ["Left has 7", "Right has 7"]),
        ({"left": (17, 9)}, ["Left has 4.59 mL and Right 3.00 mL, a difference of 42% of their mean"]),
        ({"shift": (0.0, 14.0, 0.0)}, ["Left lies 14 mm from", "Right lies 14 mm from"]),
    ],
)
def test_doubtful_masks_are_said(located, arguments, said):
    problems = say_masks(*masks(**arguments), located)
    assert len(problems) == len(said)
    assert all(words in problem for words, problem in zip(said, problems, strict=True)), problems


def test_pieces_and_nothing_are_said(located):
    found, affine = masks(left=(13, 9))
    cut = {**found, "Left": found["Left"].copy()}
    cut["Left"][:, ::6] = False
    assert ["Left is in 6 pieces" in problem for problem in say_masks(cut, affine, located)] == [True]
    nothing = {**found, "Right": np.zeros_like(found["Right"])}
    assert say_masks(nothing, affine, located) == ["nothing was found of Right"]


def test_without_a_registration_the_start_point_is_asked(located):
    back = np.eye(4)
    back[:3, 3] = -60  # from the voxels of the masks, where the points by hand were given, to their mm
    by_hand = Located(None, [replace(crop, affine=back @ crop.affine) for crop in located.crops])
    assert say_masks(*masks(), by_hand) == []
    problems = say_masks(*masks(shift=(0.0, 14.0, 0.0)), by_hand)
    assert problems == [f"{name} lies 14 mm from where its start point says" for name in ("Left", "Right")]


def first_file(folder: str, number: int = 0):
    files = sorted((SHARED / "data" / folder / "imagesTr").glob("*.nii*"))
    if len(files) <= number:
        pytest.skip(f"no {folder} at {SHARED / 'data'}")
    voxels, affine = read(files[number])
    return (voxels[..., 0] if voxels.ndim == 4 else voxels), affine


GRID = np.array([[2.0, 0, 0, -90], [0, 2, 0, -110], [0, 0, 2, -90], [0, 0, 0, 1]])


def axes_of(shape=(91, 109, 91)):
    return np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")


def noise():
    return np.random.default_rng(0).normal(size=(91, 109, 91)), GRID


def smooth_noise():
    return ndimage.gaussian_filter(noise()[0], 6), GRID


def ball():
    radius = np.sqrt(sum(axis**2 for axis in axes_of()))
    return (radius < 0.8) * (1.2 - radius), GRID


def knee():
    x, y, z = axes_of()
    leg, bone = x**2 + y**2 < 0.75**2, x**2 + (y - 0.1) ** 2 < 0.4**2
    return 60.0 * leg + 60.0 * bone - 30.0 * (x**2 + (y - 0.1) ** 2 < 0.3**2) * (np.abs(z) > 0.1), GRID


def mouse():
    voxels, affine = first_file("OASIS12_1mm")
    return voxels, np.diag([0.1, 0.1, 0.1, 1]) @ affine


def half():
    voxels, affine = colin()
    return voxels[: voxels.shape[0] // 2], affine


def upper_half():
    voxels, affine = colin()
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [0, 0, 80]
    return voxels[:, :, 80:], affine


def on_its_face():
    voxels, affine = colin()
    return voxels, motion(Rotation.from_euler("x", 90, degrees=True)) @ affine


def back_to_front():
    voxels, affine = colin()
    return voxels, motion(Rotation.from_euler("z", 180, degrees=True)) @ affine


def negative():
    """A head whose white matter is darker than its grey, as under T2 or FLAIR."""
    voxels, affine = first_file("OASIS12_1mm")
    return np.where(voxels > 0, voxels.max() - voxels, 0), affine


HOSTILE = {
    "noise": noise,
    "smooth noise": smooth_noise,
    "ball": ball,
    "knee": knee,
    "CT": lambda: first_file("OpenKBP93", 8),
    "CT of another patient": lambda: first_file("OpenKBP93", 40),
    "heart": lambda: first_file("ACDC70", 4),
    "mouse": mouse,
    "half a head": half,
    "upper half": upper_half,
    "crop": lambda: first_file("Task04_Hippocampus"),
    "on its face": on_its_face,
    "back to front": back_to_front,
    "dark white matter": negative,
    "FLAIR": lambda: first_file("BRATS2"),
}


@pytest.mark.parametrize(
    ("kept", "refused"), [((0, 80), None), ((0, 55), "of the crop around Right lies in the image; give"), ((0, 67), "")]
)
def test_a_crop_that_leaves_the_image_is_said_or_refused(monkeypatch, kept, refused):
    """The image ends right of the brain's middle, so that the right crop lies in it, outside of it, or partly."""
    monkeypatch.setattr(regions, "register", lambda *_: replace(GOOD, affine=np.eye(4)))
    voxels, affine = np.ones((kept[1], 120, 120)), np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = (-100, -120, -120)
    if refused:
        with pytest.raises(ValueError, match=refused):
            LocateRegions()(voxels, affine)
        return
    problems = LocateRegions()(voxels, affine).problems
    assert ["of the crop around Right lies in the image" in problem for problem in problems] == [True] * (refused == "")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_t1_of_a_whole_head_is_refused_or_said(name):
    voxels, affine = HOSTILE[name]()
    try:
        located = LocateRegions()(voxels, affine)
    except ValueError as error:
        print(f"{name}: refused: {error}")
        return
    print(f"{name}: {located.head} {located.problems}")
    assert located.problems

"""Crops around named structures: where they lie, what is refused, what is said."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from custom_networks.workflow import LocateRegions
from custom_networks.workflow.locate import regions as regions_module
from custom_networks.workflow.locate.grids import apply, rigid_part
from custom_networks.workflow.locate.template import load_template
from tests.workflow.locate.heads import OASIS, POINTS, brains, motion, moved, read

pytest.importorskip("SimpleITK")
TURN = motion(Rotation.from_euler("xyz", (10, -8, 12), degrees=True), (0.95, 0.9, 0.92), (12, -20, 8))
BY_HAND = {"Left": [30, 50, 40], "Right": [70, 50, 40]}


@pytest.fixture(scope="module")
def found():
    template = load_template()
    return LocateRegions()(template.voxels, TURN @ template.affine)


def test_the_points_of_the_template_are_the_centres_of_the_crops(found):
    assert found.problems == []
    assert [crop.region.name for crop in found.crops] == ["Left", "Right"]
    centres = [apply(crop.affine, (np.array(crop.shape) - 1) / 2) for crop in found.crops]
    assert np.allclose(centres, [crop.centre for crop in found.crops])
    assert np.linalg.norm(centres - moved(POINTS, TURN), axis=1).max() <= 1


def test_a_crop_is_straight_as_the_template_and_not_stretched(found):
    left, right = (crop.affine[:3, :3] for crop in found.crops)
    # the turn that was put in, within a degree, and of the stretch the size of the crop alone
    assert np.allclose(left, rigid_part(TURN), atol=0.02)
    assert np.allclose(left.T @ left, np.eye(3)) and np.allclose(right, left * [-1, 1, 1])
    scale = np.cbrt(found.head["determinant"])
    assert scale == pytest.approx(np.cbrt(0.95 * 0.9 * 0.92), rel=0.02)
    assert found.crops[0].shape == tuple(np.rint(scale * np.array((40, 58, 42))))


def test_the_crop_of_the_smallest_heads_shrinks_no_more():
    template = load_template()
    small = np.diag([0.88, 0.86, 0.87, 1.0]) @ template.affine
    assert LocateRegions()(template.voxels, small).crops[0].shape == (36, 52, 38)


def test_a_mirrored_crop_shows_what_the_other_side_would_show():
    """The template is its own mirror image: the crop of a point and the mirrored crop of its mirror point are one."""
    template = load_template()
    regions = [
        {"name": "one", "point": (-25, -20, -12), "mirrored": False},
        {"name": "other", "point": (25, -20, -12), "mirrored": True},
    ]
    one, other = LocateRegions(regions=regions)(template.voxels, template.affine).crops
    flip = np.diag([-1.0, 1, 1, 1])
    assert np.allclose(flip @ other.affine, one.affine, atol=0.5)


def test_the_record_holds_the_facts(found):
    head = found.head
    truth = np.linalg.det(TURN[:3, :3])
    assert head["determinant"] == pytest.approx(truth, rel=0.03)
    assert head["head_ml"] == pytest.approx(truth * load_template().intracranial_ml, rel=0.03)
    assert head["shear"] == pytest.approx(0.95 / 0.9, rel=0.03)
    assert head["rotation_degrees"] == pytest.approx(
        np.degrees(Rotation.from_matrix(rigid_part(TURN)).magnitude()), abs=1
    )
    assert head["metric"] == found.registration.metric and head["starts"] == 1 and head["start"] == "moments"


def test_a_crop_moves_along_its_own_axes(found):
    locate, right = LocateRegions(), found.crops[1]
    there = locate.move(right, (3, -2, 5))
    assert np.allclose(there.affine[:3, :3], right.affine[:3, :3]) and there.region == right.region
    voxel = (np.array(right.shape) - 1) / 2 + (3, -2, 5)
    assert np.allclose(apply(np.linalg.inv(right.affine), there.centre), voxel)
    assert np.allclose(right.centre, found.registration.affine[:3] @ [25.5, -22.5, -11.5, 1])


def test_spacing_is_that_of_the_crops():
    locate = LocateRegions(start_points=BY_HAND, crop_size=(30, 48, 20), spacing=(1, 0.8, 2))
    left, right = locate(np.zeros((100, 100, 100)), np.eye(4)).crops
    assert left.shape == (30, 60, 10) and left.centre.tolist() == [30, 50, 40]
    assert np.allclose(right.affine[:3, :3], np.diag([-1, 0.8, 2]))
    assert np.allclose(locate.move(right, (4, 4, 4)).centre, [66, 54, 44])


def test_points_by_hand_need_no_registration(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    affine = np.diag([-2.0, 2, 2, 1])
    affine[:3, 3] = (100, 0, 0)
    located = LocateRegions(start_points=BY_HAND)(np.zeros((100, 100, 100)), affine)
    assert located.registration is None and located.head == {} and located.problems == []
    assert np.allclose([crop.centre for crop in located.crops], list(BY_HAND.values()))
    assert np.allclose(located.crops[0].affine[:3, :3], np.eye(3))


@pytest.mark.parametrize(
    "points",
    [
        {"Left": BY_HAND["Right"], "Right": BY_HAND["Left"]},
        {"Left": [50, 50, 40], "Right": [50, 50, 40]},
        {"Left": [45, 50, 40], "Right": [52, 50, 40]},
    ],
)
def test_exchanged_points_by_hand_are_refused(points):
    message = (
        r"the start point of Left must lie 10 mm or more to the left of that of Right, got \[\d+.0, 50.0, 40.0\] and"
    )
    with pytest.raises(ValueError, match=message):
        LocateRegions(start_points=points)


def test_points_of_one_structure_may_lie_anywhere():
    regions = [{"name": "a", "point": [0, 10, 0]}, {"name": "b", "point": [20, -10, 0]}]
    LocateRegions(regions=regions, start_points={"a": [20, 0, 0], "b": [0, 0, 0]})


def test_a_crop_by_hand_at_the_border_is_said_or_refused():
    def locate(right):
        points = {"Left": [30, 50, 40], "Right": [right, 50, 40]}
        return LocateRegions(start_points=points)(np.zeros((100, 100, 100)), np.eye(4)).problems

    assert locate(70) == []
    assert locate(90) == ["only 75% of the crop around Right lies in the image"]
    with pytest.raises(ValueError, match=r"only 33% of the crop around Right lies in the image; give an image of"):
        LocateRegions(start_points={"Left": [30, 50, 40], "Right": [98, 95, 40]})(np.zeros((100, 100, 100)), np.eye(4))


def test_an_unknown_orientation_is_said():
    located = LocateRegions(start_points=BY_HAND)(np.zeros((100, 100, 100)), np.eye(4), orientation_known=False)
    assert ["left and right may be exchanged" in problem for problem in located.problems] == [True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start_points": {"Left": [1, 2, 3]}}, "start_points must name Left, Right, got Left"),
        ({"start_points": {**BY_HAND, "Right": [1, 2]}}, "the start point of Right must be 3 numbers"),
        ({"start_points": {**BY_HAND, "Right": [1, 2, float("nan")]}}, "the start point of Right must be 3 numbers"),
        ({"start_points": {**BY_HAND, "Right": "abc"}}, "the start point of Right must be 3 numbers"),
        ({"regions": []}, "each region needs a name"),
        ({"regions": [{"name": "a", "point": [0, 0, 0]}] * 2}, "each region needs a name of its own"),
        ({"regions": [{"name": "a"}]}, "without point"),
        ({"regions": [{"name": "a", "point": [0, 0, 0], "side": 1}]}, "a region does not know side"),
        ({"regions": [{"name": "a", "point": [0, 0]}]}, "the point of the region a must be 3 numbers"),
        ({"regions": [{"name": "a", "point": [0, 0, 0], "mirrored": "yes"}]}, "must be true or false, got 'yes'"),
        (
            {"regions": [{"name": "a", "point": [0, 0, 0], "volume_ml": 3}]},
            "volume_ml of the region a must be 2 numbers",
        ),
        ({"crop_size": (0, 10, 10)}, "must hold at least one voxel"),
        ({"spacing": (0, 1, 1)}, "must hold at least one voxel"),
    ],
)
def test_wrong_arguments_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        LocateRegions(**arguments)


def test_a_point_outside_of_the_image_is_refused():
    with pytest.raises(ValueError, match=r"Right, \[70.0, 50.0, 40.0\] mm, is not in the image.* 0 to 59"):
        LocateRegions(start_points=BY_HAND)(np.zeros((60, 60, 60)), np.eye(4))


NAN = np.zeros((60, 60, 60))
NAN[3, 3, 3] = np.nan


@pytest.mark.parametrize(
    ("voxels", "affine", "message"),
    [
        (np.zeros((60, 60, 1)), np.diag([3, 3, 180, 1]), r"two voxels or more, got the shape \(60, 60, 1\)"),
        (np.zeros((60, 60, 60, 2)), np.eye(4), "three axes"),
        (NAN, np.diag([3, 3, 3, 1]), "not finite numbers"),
        (np.zeros((60, 60, 60)), np.diag([3, 3, 0, 1]), "no grid in mm"),
        (np.full((60, 60, 60), 5), np.diag([3, 3, 3, 1]), "one value everywhere"),
        (np.random.default_rng(0).random((36, 50, 35)), np.eye(4), "36 x 50 x 35 mm large, which is no whole head"),
        (np.random.default_rng(0).random((100, 100, 100)), np.diag([3, 3, 20, 1]), "300 x 300 x 2000 mm large"),
    ],
    ids=["slice", "4D", "NaN", "flat affine", "constant", "crop", "long"],
)
def test_what_is_no_head_is_refused_in_one_sentence(voxels, affine, message):
    with pytest.raises(ValueError, match=message) as raised:
        LocateRegions()(voxels, affine.astype(float))
    assert "\n" not in str(raised.value)


def coverage(crops, labels: dict[str, np.ndarray], affine: np.ndarray, straight: bool = True) -> dict[str, float]:
    """Return the share of each structure that its crop holds; with ``straight`` false, along the world's axes."""
    shares = {}
    for crop in crops:
        points = moved(np.argwhere(labels[crop.region.name]).astype(float), affine)
        grid = crop.affine.copy()
        if not straight:
            grid[:3, :3] = np.eye(3)
            grid[:3, 3] = crop.centre - (np.array(crop.shape) - 1) / 2
        places = moved(points, np.linalg.inv(grid))
        shares[crop.region.name] = float(((places >= -0.5) & (places <= np.array(crop.shape) - 0.5)).all(axis=1).mean())
    return shares


CAUDATES = [
    {"name": "Left", "point": (-13.5, 10, 9), "mirrored": False},
    {"name": "Right", "point": (14, 11, 9), "mirrored": True},
]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_crops_hold_the_structures_of_another_study(monkeypatch):
    """Twelve brains of OASIS: both hippocampi, and both caudates as an example of another structure."""
    if not brains():
        pytest.skip(f"no brains at {OASIS}")
    shares, turned_less, caudates, facts = [], [], [], []
    for path in brains():
        voxels, affine = read(path)
        labels = np.asarray(nib.load(OASIS / "labelsTr" / path.name).dataobj)
        located = LocateRegions()(voxels, affine)
        assert located.problems == [], path.name
        facts.append(located.head)
        for kept, straight in ((shares, True), (turned_less, False)):
            sides = {"Left": labels == 1, "Right": labels == 2}
            kept += coverage(located.crops, sides, affine, straight).values()
        with monkeypatch.context() as patch:  # one registration serves both
            patch.setattr(regions_module, "register", lambda *_, found=located.registration: found)
            caudate = LocateRegions(regions=CAUDATES, crop_size=(40, 76, 67))(voxels, affine)
        sides = {"Left": labels == 3, "Right": labels == 4}
        caudates += coverage(caudate.crops, sides, affine).values()
    for name in ("metric", "determinant", "shear", "rotation_degrees", "likeness", "head_ml"):
        values = [head[name] for head in facts]
        print(f"{name}: {min(values):.3f} to {max(values):.3f}")
    print(
        f"hippocampi, straight: {min(shares):.4f}; along the world's axes: {min(turned_less):.4f}; "
        f"caudates: {min(caudates):.4f}"
    )
    assert len(shares) == len(caudates) == 24
    assert min(shares) >= 0.99 and min(caudates) >= 0.99

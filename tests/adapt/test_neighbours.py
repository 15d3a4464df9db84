"""Neighbouring numbers that look like one patient: found where they are, and hardly ever where they are not."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel
import numpy as np
import pytest

from custom_networks.adapt.neighbours import FEWEST_PAIRS, LEVEL, Neighbours, alike_neighbours
from tests.conftest import SHARED


def named(logs: np.ndarray, first: int = 1) -> dict[str, float]:
    return {f"case_{first + k:03d}": math.exp(log) for k, log in enumerate(logs)}


def runs(length: int, cases: int, share: float, seed: int = 0) -> np.ndarray:
    """Return logarithms of volumes of patients with so many cases each, whose size is so much of the variance."""
    chance = np.random.default_rng(seed)
    sizes = np.repeat(chance.normal(size=cases // length + 1), length)[:cases]
    return math.sqrt(share) * sizes + math.sqrt(1 - share) * chance.normal(size=cases)


def pearson(pairs: list[tuple[float, float]]) -> float:
    """Return the correlation by its formula."""
    one, other = zip(*pairs, strict=True)
    middle, centre = math.fsum(one) / len(one), math.fsum(other) / len(other)
    cross = math.fsum((x - middle) * (y - centre) for x, y in pairs)
    return cross / math.sqrt(math.fsum((x - middle) ** 2 for x in one) * math.fsum((y - centre) ** 2 for y in other))


def by_rank(pairs: list[tuple[float, float]]) -> float:
    one, other = (list(values) for values in zip(*pairs, strict=True))
    return pearson([(sorted(one).index(x), sorted(other).index(y)) for x, y in pairs])


@pytest.mark.parametrize("first", [0, 1])
def test_two_cases_of_each_patient_are_found_with_their_correlations(first):
    """Whether numbers begin with 0 or 1; the figures are those of formulas."""
    logs = runs(2, 60, 0.9)
    found = alike_neighbours(named(logs, first))
    names = list(named(logs, first))
    assert found.pairs == list(zip(names[::2], names[1::2], strict=True))
    near = list(zip(logs[::2], logs[1::2], strict=True))
    far = [pair for step in (2, 3, 4) for pair in zip(logs, logs[step:], strict=False)]
    assert found.correlation == pytest.approx(min(pearson(near), by_rank(near)))
    assert found.apart == pytest.approx(pearson(far), abs=0.1)
    assert found.what == f"{names[0]} and {names[1]} and 29 more pairs look like one patient each"
    assert f"correlate by {found.correlation:.2f}, those of cases 2 to 4 places apart by {found.apart:.2f}" in found.why


def test_the_order_of_the_cases_does_not_matter_and_the_number_counts_as_one():
    logs = runs(2, 40, 0.95)
    volumes = {f"case_{k}": math.exp(log) for k, log in enumerate(logs, start=1)}
    shuffled = dict(sorted(volumes.items()))
    assert list(shuffled) != list(volumes)
    assert alike_neighbours(shuffled) == alike_neighbours(volumes) is not None


@pytest.mark.parametrize("name", ["T1w_{}_2mm", "{}", "brats 2013 {}-t1", "{}.v2"])
def test_the_number_is_the_last_that_changes(name):
    volumes = {name.format(k): math.exp(log) for k, log in enumerate(runs(2, 40, 0.95), start=1)}
    assert len(alike_neighbours(volumes).pairs) == 20


def test_of_several_numbers_that_change_the_others_are_the_same_in_a_pair():
    logs = runs(2, 60, 0.95)
    volumes = {f"site{1 + k // 30}_{k % 30 + 1}_3T": math.exp(log) for k, log in enumerate(logs)}
    pairs = alike_neighbours(volumes).pairs
    assert len(pairs) == 30
    assert ("site2_1_3T", "site2_2_3T") in pairs
    assert all(one.partition("_")[0] == other.partition("_")[0] for one, other in pairs)


def test_numbers_that_do_not_follow_each_other_are_no_neighbours():
    logs = runs(2, 60, 0.95)
    assert alike_neighbours({f"case_{2 * k}": math.exp(log) for k, log in enumerate(logs)}) is None
    assert alike_neighbours({f"case_{'abcdefghij'[k % 10]}{k}": math.exp(log) for k, log in enumerate(logs)}) is None


def test_a_number_that_is_missing_breaks_its_pair_and_moves_no_other():
    volumes = named(runs(2, 60, 0.95))
    for name in ("case_004", "case_031"):
        del volumes[name]
    pairs = alike_neighbours(volumes).pairs
    assert len(pairs) == 28
    assert all(int(other[-3:]) == int(one[-3:]) + 1 and int(one[-3:]) % 2 for one, other in pairs)


def test_a_few_pairs_are_too_few():
    logs = np.repeat(np.random.default_rng(0).normal(size=FEWEST_PAIRS), 2)
    assert len(alike_neighbours(named(logs)).pairs) == FEWEST_PAIRS
    assert alike_neighbours(named(logs[:-1])) is None


def test_series_of_four_are_found_too():
    assert alike_neighbours(named(runs(4, 80, 0.9))) is not None


def test_empty_labels_and_labels_of_one_size_say_nothing():
    assert alike_neighbours({f"case_{k}": 5.0 for k in range(80)}) is None
    assert alike_neighbours({f"case_{k}": 0.0 for k in range(80)}) is None
    assert alike_neighbours({}) is None
    volumes = named(runs(2, 60, 0.95))
    assert len(alike_neighbours({**volumes, "case_001": 0.0}).pairs) == 29


def rate(draw, sets: int, most: int = 200) -> float:
    """Return the share of data sets of 24 cases or more in which something is suspected."""
    chance = np.random.default_rng(7)
    cases = chance.integers(24, most + 1, size=sets)
    return sum(alike_neighbours(named(draw(chance, own))) is not None for own in cases) / sets


RANDOM = {
    "normal": lambda chance, cases: chance.normal(size=cases),
    "with outliers": lambda chance, cases: chance.standard_t(2, size=cases),
}


@pytest.mark.slow
@pytest.mark.parametrize("draw", RANDOM.values(), ids=RANDOM)
def test_volumes_without_order_are_suspected_no_more_often_than_said(draw):
    """At most once in 1000, in small sets, where chance does most; 7 of 2000 would come once in 200 if it were that."""
    assert 2 * LEVEL == 1 / 1000
    assert rate(draw, 2000, most=48) <= 6 / 2000


def sites(size: int):
    def draw(chance: np.random.Generator, cases: int) -> np.ndarray:
        return np.repeat(chance.normal(size=cases // size + 1), size)[:cases] + chance.normal(size=cases)

    return draw


SORTED = {
    "age": lambda chance, cases: np.linspace(-1.7, 1.7, cases) + 0.5 * chance.normal(size=cases),
    "volume": lambda chance, cases: np.sort(chance.normal(size=cases)),
    "sites of 10": sites(10),
    "sites of 20": sites(20),
    "sites of 40": sites(40),
}


@pytest.mark.parametrize("draw", SORTED.values(), ids=SORTED)
def test_numbers_that_follow_age_or_site_are_hardly_ever_suspected(draw):
    """Half of the variance is the site's here, or 80 % the age's, and without the cases further apart most would be."""
    assert rate(draw, 200) <= 0.03


@pytest.mark.parametrize(("share", "least"), [(0.9, 0.95), (0.8, 0.7)])
def test_forty_cases_of_twenty_patients_are_mostly_found(share, least):
    found = [alike_neighbours(named(runs(2, 40, share, seed))) is not None for seed in range(100)]
    assert sum(found) / 100 >= least


def test_a_split_divides_a_pair_or_none():
    found = Neighbours([("a1", "a2"), ("b1", "b2")], 0.9, 0.0)
    assert found.divided_by(["a1", "b1", "b2"], ["a2"])
    assert found.divided_by({"b2"}, {"a1", "b1", "a2"})
    assert not found.divided_by(["a1", "a2"], ["b1", "b2", "c1"])
    assert not found.divided_by(["a1"], ["c1", "b1"]), "the other of each is in neither"


def volumes_of(name: str) -> dict[str, float]:
    folder = SHARED / "data" / name / "labelsTr"
    if not folder.is_dir():
        pytest.skip(f"there is no <repository>/../shared/data/{name}")
    found = {}
    for path in sorted(folder.glob("*.nii.gz")):
        label = nibabel.load(path)
        voxel = abs(np.linalg.det(label.affine[:3, :3])) / 1000
        found[path.name.removesuffix(".nii.gz")] = voxel * int((np.asanyarray(label.dataobj) > 0).sum())
    return found


def test_the_two_sides_of_a_subject_are_found():
    found = alike_neighbours(volumes_of("Task04_Hippocampus"))
    assert len(found.pairs) == 56
    assert all(int(one[-3:]) % 2 == 1 for one, _ in found.pairs)
    assert found.correlation > 0.85
    assert abs(found.apart) < 0.1


@pytest.mark.parametrize("name", ["ACDC70", "OpenKBP93", "Brain15_2mm", "OASIS12_1mm"])
def test_nothing_is_suspected_of_other_data(name):
    assert alike_neighbours(volumes_of(name)) is None


def test_nothing_is_suspected_of_hearts_in_the_order_of_their_diseases():
    """One volume of each patient, so that only the order is left: its correlation is as high for cases apart."""
    volumes = {name: size for name, size in volumes_of("ACDC70").items() if name.endswith("_ES")}
    assert len(volumes) == 70
    assert alike_neighbours(volumes) is None


def test_nothing_is_suspected_of_adrenal_glands():
    path: Path = SHARED / "data" / "AdrenalMNIST3D" / "adrenalmnist3d_trainval.npz"
    if not path.is_file():
        pytest.skip("there is no <repository>/../shared/data/AdrenalMNIST3D")
    with np.load(path) as arrays:
        for key in ("train_images", "val_images"):
            sizes = (arrays[key] > 0).reshape(len(arrays[key]), -1).sum(1)
            assert alike_neighbours({f"adrenal_{k}": float(size) for k, size in enumerate(sizes)}) is None

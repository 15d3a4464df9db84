"""The measures of a mask equal slow ones, and the tables of a folder hold every record."""

from __future__ import annotations

import csv
import fcntl
import itertools
import json
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custom_networks.files import write_text
from custom_networks.workflow.report.volumes import (
    COLUMNS,
    Structure,
    measure,
    read_records,
    say,
    structures_of,
    write_volumes,
)

HEADER = {"bundles": [], "label_names": ["background", "Anterior", "Posterior"], "intended_use": "Research only."}
AFFINE = np.array([[0, -2.0, 0, 10], [1.5, 0, 0.2, -3], [0, 0.1, 3, 5], [0, 0, 0, 1]])


def slow(voxels: np.ndarray, affine: np.ndarray, values: tuple[int, ...]) -> dict:
    """Measure voxel by voxel."""
    inside = {index for index in np.ndindex(voxels.shape) if int(voxels[index]) in values}
    pieces, left = [], set(inside)
    while left:
        grown, front = set(), {left.pop()}
        while front:
            here = front.pop()
            grown.add(here)
            near = {tuple(np.add(here, step)) for step in itertools.product((-1, 0, 1), repeat=3)} & left
            left -= near
            front |= near
        pieces.append(len(grown))
    result = {
        "voxels": len(inside),
        "volume_ml": len(inside) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000,
        "centre_mm": None,
        "bounding_box": None,
        "pieces": len(pieces),
        "largest_piece_share": max(pieces) / len(inside) if inside else None,
        "touches_border": any(
            n > 1 and index in (0, n - 1) for place in inside for index, n in zip(place, voxels.shape, strict=True)
        ),
    }
    if inside:
        points = np.array([affine @ [*index, 1] for index in inside])[:, :3]
        result["centre_mm"] = points.mean(0).tolist()
        result["bounding_box"] = [[min(axis), max(axis)] for axis in zip(*inside, strict=True)]
    return result


def same(found: dict, wanted: dict) -> None:
    assert found["volume_ml"] == pytest.approx(wanted["volume_ml"], rel=1e-9)
    assert (found["centre_mm"] is None) == (wanted["centre_mm"] is None)
    if found["centre_mm"] is not None:
        assert found["centre_mm"] == pytest.approx(wanted["centre_mm"], rel=1e-9, abs=1e-6)
    for key in set(wanted) - {"volume_ml", "centre_mm"}:
        assert found[key] == wanted[key], key


@st.composite
def masks(draw):
    """Draw a mask of clumps and single voxels, in any type and order in memory, with values that may be large."""
    shape = draw(st.tuples(*[st.integers(1, 7)] * 3))
    values = draw(st.sampled_from([(1, 2, 3), (7, 255, 200), (500, 40000, 3), (-4, 614454277, 614454278)]))
    dtype = draw(st.sampled_from([t for t in ("u1", "i2", "u2", "i4", "i8") if _holds(t, values)]))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    density = draw(st.sampled_from([0.0, 0.05, 0.3, 0.9]))
    voxels = np.where(generator.random(shape) < density, generator.choice(values, shape), 0).astype(dtype)
    return np.asarray(voxels, order=draw(st.sampled_from("CF"))), values


def _holds(dtype: str, values) -> bool:
    return np.iinfo(dtype).min <= min(values) and max(values) <= np.iinfo(dtype).max


@st.composite
def affines(draw):
    """Draw an affine that turns, mirrors, shears and moves."""
    turned = np.eye(3)[list(draw(st.permutations(range(3))))]
    signs = draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
    sizes = draw(st.tuples(*[st.floats(0.1, 9)] * 3))
    shear = np.eye(3)
    shear[0, 1], shear[0, 2], shear[1, 2] = draw(st.tuples(*[st.floats(-0.5, 0.5)] * 3))
    affine = np.eye(4)
    affine[:3, :3] = turned @ shear @ np.diag(np.multiply(signs, sizes))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return affine


@settings(max_examples=150, deadline=None, database=None)
@given(masks(), affines())
def test_the_measures_equal_slow_ones(mask, affine):
    voxels, (a, b, c) = mask
    structures = [
        Structure("A", (a,)),
        Structure("B", (b,)),
        Structure("both", (a, b)),
        Structure("absent", (c + 1000,)),
    ]
    for structure, found in zip(structures, measure(voxels, affine, structures), strict=True):
        assert (found["name"], found["values"]) == (structure.name, list(structure.values))
        same(found, slow(voxels, affine, structure.values))
        json.dumps(found)


def test_flipping_the_axes_of_the_file_moves_nothing():
    generator = np.random.default_rng(0)
    voxels = (generator.random((6, 7, 8)) < 0.2).astype(np.uint8)
    whole = [Structure("A", (1,))]
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, 5
    one, other = measure(voxels, AFFINE, whole)[0], measure(voxels[::-1], AFFINE @ flip, whole)[0]
    assert other["centre_mm"] == pytest.approx(one["centre_mm"])
    assert {k: other[k] for k in ("voxels", "pieces")} == {k: one[k] for k in ("voxels", "pieces")}


def test_a_slice_touches_no_border_along_its_axis():
    voxels = np.zeros((5, 5, 1), np.uint8)
    voxels[2, 2] = 1
    assert not measure(voxels, AFFINE, [Structure("A", (1,))])[0]["touches_border"]
    voxels[2, 4] = 1
    assert measure(voxels, AFFINE, [Structure("A", (1,))])[0]["touches_border"]


def test_booleans_are_a_mask_and_floats_are_none():
    assert measure(np.ones((2, 2, 2), bool), np.eye(4), [Structure("A", (1,))])[0]["voxels"] == 8
    assert measure(np.zeros((2, 2, 2), np.uint8), np.eye(4), []) == []
    with pytest.raises(ValueError, match=r"along three axes, got float32 of shape \(2, 2, 2\); give label values"):
        measure(np.ones((2, 2, 2), np.float32), np.eye(4), [])
    with pytest.raises(ValueError, match=r"got uint8 of shape \(1, 2, 2, 2\)"):
        measure(np.ones((1, 2, 2, 2), np.uint8), np.eye(4), [])


def test_structures_by_classes_values_and_regions():
    names = ["background", "tumour", "core"]
    assert structures_of(names) == [("tumour", (1,)), ("core", (2,))]
    values = [0, [500, 600], 7]
    assert structures_of(names, values) == [("tumour", (500,)), ("core", (7,))]
    assert structures_of(names, values, of_masks=False) == [("tumour", (500, 600)), ("core", (7,))]
    regions = [[1, 2, 3], [3, 1]]
    assert structures_of(names, regions=regions) == [("tumour", (2, 3)), ("core", (3,))]
    assert structures_of(names, regions=regions, of_masks=False) == [("tumour", (2, 3, 1)), ("core", (3, 1))]


def test_a_region_holds_those_inside_it():
    voxels = np.zeros((4, 4, 4), np.uint8)
    voxels[1:3, 1:3, 1] = 2
    voxels[1, 1, 1] = 1
    structures = structures_of(["background", "tumour", "core"], regions=[[1, 2], 1])
    assert [found["voxels"] for found in measure(voxels, np.eye(4), structures)] == [4, 1]


def test_neither_torch_nor_monai_is_needed():
    code = "import custom_networks.workflow.report.volumes, sys; print({'torch', 'monai'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.slow
def test_a_large_mask_takes_little_memory_beside_itself():
    voxels = np.zeros((512, 512, 300), np.uint8)
    for value in range(1, 11):
        voxels[40 * value : 40 * value + 60, 100:400, 20:250] = value
    tracemalloc.start()
    found = measure(voxels, np.eye(4), [Structure(str(value), (value,)) for value in range(1, 11)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(structure["pieces"] == 1 for structure in found)
    assert peak < 2 * voxels.size


def structure(name="Anterior", **entries):
    full = {"name": name, "values": [1], "voxels": 1620, "volume_ml": 1.62, "centre_mm": [1.0, -2.5, 3.25]}
    full |= {"bounding_box": [[1, 9]] * 3, "pieces": 1, "largest_piece_share": 1.0, "touches_border": False}
    return {**full, **entries}


ABSENT = {
    "voxels": 0,
    "volume_ml": 0.0,
    "centre_mm": None,
    "bounding_box": None,
    "largest_piece_share": None,
    "pieces": 0,
}


def record(case="scan", **entries):
    bundle = {"name": "hippocampus", "title": "Hippocampus", "version": "0.2.0", "weights": "m.pt", "sha256": "ab" * 32}
    full = {
        **{"format": 1, "case": case, "image": [f"/data/{case}.nii.gz"], "series": None, "mask": f"{case}_seg.nii.gz"},
        **{"grid": {"shape": [9, 9, 9], "spacing": [1.0, 1.5, 3.0], "affine": np.eye(4).tolist()}},
        **{"working_spacing": [1.0, 1.0, 1.0], "engine": "torch", "precision": "float32", "device": "cpu"},
        **{"created": "2026-11-29T12:00:00+00:00", "bundles": [bundle], "inputs": "cd" * 32},
        **{"seconds": {"read": 0.01, "network": 1.25, "write": 0.5}, "warnings": []},
        **{"structures": [structure(), structure("Posterior", **ABSENT)]},
    }
    return {**full, **entries}


def put(folder, **entries):
    made = record(**entries)
    file = folder / f"{made['case']}_seg.json"
    write_text(file, json.dumps(made))  # in one move, as predict does
    return made


def rows(folder):
    with (folder / "volumes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_hold_all_records_in_order(tmp_path):
    made = [put(tmp_path, case=case) for case in ("sub/b", "a", "sub/a")]
    (tmp_path / ".partial_a_seg.json").write_text("{")
    assert write_volumes(tmp_path, HEADER) == [made[1], made[2], made[0]]
    whole = json.loads((tmp_path / "volumes.json").read_text())
    assert whole == {"format": 1, **HEADER, "images": [made[1], made[2], made[0]]}
    found = rows(tmp_path)
    assert tuple(found[0]) == COLUMNS
    assert [(row["case"], row["structure"]) for row in found[:3]] == [
        ("a", "Anterior"),
        ("a", "Posterior"),
        ("sub/a", "Anterior"),
    ]
    assert found[0] == {
        **{"case": "a", "structure": "Anterior", "volume_ml": "1.62", "voxels": "1620", "centre_right_mm": "1"},
        **{"centre_anterior_mm": "-2.5", "centre_superior_mm": "3.25", "pieces": "1", "largest_piece_share": "1"},
        **{
            "touches_border": "no",
            "asymmetry_index": "",
            "percent_of_head": "",
            "warnings": "0",
            "spacing_1_mm": "1",
            "spacing_2_mm": "1.5",
            "spacing_3_mm": "3",
        },
        **{"mask": "a_seg.nii.gz", "bundle": "hippocampus", "bundle_version": "0.2.0", "weights_sha256": "ab" * 32},
        **{"engine": "torch", "precision": "float32", "device": "cpu", "created": "2026-11-29T12:00:00+00:00"},
        **{"read_seconds": "0.010", "network_seconds": "1.250", "write_seconds": "0.500"},
    }
    absent = found[1]
    assert [absent[key] for key in ("voxels", "volume_ml", "centre_right_mm", "largest_piece_share")] == [
        "0",
        "0",
        "",
        "",
    ]


def test_the_table_counts_the_warnings_of_a_structure_and_of_its_image(tmp_path):
    kinds = [("size", None), ("pieces", "Anterior"), ("border", "Anterior")]
    put(tmp_path, warnings=[{"kind": kind, "structure": name, "text": "x"} for kind, name in kinds])
    write_volumes(tmp_path, HEADER)
    assert [row["warnings"] for row in rows(tmp_path)] == ["3", "1"]


def test_several_networks_share_a_cell(tmp_path):
    one = record()["bundles"][0]
    put(tmp_path, bundles=[one, {**one, "name": "other", "version": "0.3.0"}])
    write_volumes(tmp_path, HEADER)
    assert rows(tmp_path)[0]["bundle"] == "hippocampus + other"
    assert rows(tmp_path)[0]["bundle_version"] == "0.2.0 + 0.3.0"


@pytest.mark.parametrize("case", ["=cmd|' /C calc'!A0", "+1+cmd", "-x", "@sum(a1)", 'a,"b"\nc'])
def test_a_spreadsheet_runs_nothing(tmp_path, case):
    made = record(case=case, structures=[structure(centre_mm=[-1.0, -2.0, -3.0])])
    (tmp_path / "one_seg.json").write_text(json.dumps(made))
    write_volumes(tmp_path, HEADER)
    row = rows(tmp_path)[0]
    assert row["case"] == (case if case.startswith("a") else f"'{case}")
    assert row["centre_right_mm"] == "-1"
    assert json.loads((tmp_path / "volumes.json").read_text())["images"][0]["case"] == case


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: "{", "is not valid JSON"),
        (lambda r: "[]", "is not a JSON object"),
        (lambda r: {k: v for k, v in r.items() if k != "case"}, "its entry case is wrong or absent"),
        (lambda r: {**r, "grid": []}, "its entry grid.spacing is wrong or absent"),
        (lambda r: {**r, "seconds": {"read": 1, "write": 1}}, "its entry seconds.network is wrong or absent"),
        (lambda r: {**r, "structures": ["Anterior"]}, "its entry name is wrong or absent"),
        (lambda r: {**r, "structures": [structure(volume_ml="1")]}, "its entry volume_ml is wrong or absent"),
        (lambda r: {**r, "bundles": [{"name": "x", "version": "1"}]}, "its entry sha256 is wrong or absent"),
        (lambda r: {**r, "structures": [structure(centre_mm="1")]}, "its entry centre_mm is wrong or absent"),
        (lambda r: {**r, "warnings": ["odd"]}, "its entry structure is wrong or absent"),
    ],
)
def test_a_broken_record_is_named_and_nothing_is_written(tmp_path, spoil, words):
    put(tmp_path, case="good")
    spoilt = spoil(record())
    (tmp_path / "bad_seg.json").write_text(spoilt if isinstance(spoilt, str) else json.dumps(spoilt))
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as error:
        write_volumes(tmp_path, HEADER)
    assert str(error.value).startswith(f"{tmp_path / 'bad_seg.json'} ")
    assert words in str(error.value)
    assert not list(tmp_path.glob("volumes.*"))


def test_the_last_of_several_writers_has_the_records_of_all(tmp_path):
    """Each opens the lock file for itself, so that threads stand for processes."""

    def finish(number):
        put(tmp_path, case=f"case_{number:02d}")
        write_volumes(tmp_path, HEADER)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(finish, range(8)))
    assert len(json.loads((tmp_path / "volumes.json").read_text())["images"]) == 8
    assert len(rows(tmp_path)) == 16


def test_who_waits_reads_afterwards(tmp_path):
    """A record that comes while another process writes is not lost."""
    put(tmp_path, case="a")
    with ThreadPoolExecutor(1) as pool:
        with (tmp_path / ".volumes.lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            waiting = pool.submit(write_volumes, tmp_path, HEADER)
            time.sleep(0.2)  # for one that does not wait
            assert not (tmp_path / "volumes.json").exists()
            put(tmp_path, case="b")
        waiting.result()
    assert [image["case"] for image in json.loads((tmp_path / "volumes.json").read_text())["images"]] == ["a", "b"]


def test_an_empty_folder_gives_empty_tables(tmp_path):
    assert write_volumes(tmp_path / "new", HEADER) == []
    assert rows(tmp_path / "new") == []
    assert read_records(tmp_path) == []


def test_what_the_terminal_shows():
    shown = record(
        structures=[
            structure("Anterior", pieces=3, largest_piece_share=0.8217, touches_border=True),
            structure("Left", volume_ml=1234.5),
            structure("Posterior", **ABSENT),
        ],
        warnings=[{"kind": "pieces", "structure": "Anterior", "text": "Anterior is in 3 pieces"}],
    )
    assert say(shown) == [
        "Anterior    1.62 mL   in 3 pieces, the largest with 82.2 %, cut by the border of the image",
        "Left        1234 mL   in one piece",
        "Posterior      0 mL   not found",
        "warning: Anterior is in 3 pieces",
    ]

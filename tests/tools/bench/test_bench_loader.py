"""The benchmark of the loader draws what is shipped, and compares every way with nnU-Net's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import RandAffined, RandFlipd

from custom_networks.workflow import RandPatchd
from tests.synthetic import config
from tools.__main__ import main
from tools.bench import bench_loader as module
from tools.bench import loader_cases, our_samples
from tools.bench.bench_loader import WAYS, bench_loader, draw

PAGE = "# Page\n\n<!-- loader:start -->\nold\n<!-- loader:end -->\n\nEnd\n"


def test_a_case_has_every_class_and_the_last_is_small():
    image, label = loader_cases.make_case(0)
    assert image.shape == label.shape == (1, *loader_cases.SHAPE)
    assert (image.dtype, label.dtype) == (np.float32, np.int16)
    shares = np.bincount(label.ravel()) / label.size
    assert len(shares) == our_samples.CLASSES
    assert 0 < shares[3] < 0.05


def test_both_ways_of_ours_are_the_shipped_recipe():
    """What the recipe does has not changed since the list of MONAI's transforms was written."""
    shipped = config(our_samples.CONFIG.parents[1])["train"]["random_transforms"]
    ours, theirs = our_samples.from_recipe(16, 0.6), our_samples.one_after_the_other(16)
    assert [type(transform).__name__ for transform in ours] == [entry["_target_"].split(".")[-1] for entry in shipped]
    patch, affine = ours[0], theirs[2]
    assert isinstance(patch, RandPatchd)
    assert isinstance(affine, RandAffined)
    assert patch.prob == affine.prob == shipped[0]["prob"]
    for name in ("rotate_range", "scale_range"):
        assert tuple(getattr(affine.rand_affine.rand_affine_grid, name)) == tuple(shipped[0][name])
    flips = [flip.flipper.spatial_axis for flip in theirs if isinstance(flip, RandFlipd)]
    assert list(patch.mirror_axes) == flips == our_samples.AXES
    same = theirs[3 : 3 + len(ours) - 1]
    for one, other in zip(ours[1:], same, strict=True):
        assert type(one) is type(other)
        assert one.prob == other.prob


@pytest.mark.parametrize("turned", [None, 0.36])
def test_samples_are_drawn_and_timed(monkeypatch, turned):
    monkeypatch.setattr(loader_cases, "SHAPE", (32, 32, 48))
    said = our_samples.main({"sizes": [8, 40], "samples": [4, 2], "turned": turned})
    assert set(said["seconds"]) == {"8", "40"}
    assert all(seconds > 0 for seconds in said["seconds"].values())
    assert {"processor", "versions"} <= set(said)


def test_report_table_and_files(tmp_path, monkeypatch):
    """Ratios are to nnU-Net's own; the measuring is replaced."""
    page, output, calls = tmp_path / "page.md", tmp_path / "loader.json", []
    page.write_text(PAGE)

    def fake(python, script, turned):
        calls.append((python, script, turned))
        base = 0.4 if script.startswith("nnunet") else 0.1
        seconds = {str(size): base * len(calls) for size in module.SIZES}
        versions = {"torch": "2", "monai": "1", "nnunetv2": "3", "batchgeneratorsv2": "4"}
        return {"seconds": seconds, "processor": "P", "versions": versions, "transforms": ["SpatialTransform"]}

    monkeypatch.setattr(module, "draw", fake)
    main(
        [
            "bench",
            "loader",
            "--python",
            sys.executable,
            "--repeats",
            "1",
            "--output",
            str(output),
            "--markdown",
            str(page),
        ]
    )
    assert [call[1:] for call in calls] == list(WAYS.values())
    assert {call[0] for call in calls} == {sys.executable}
    report = json.loads(output.read_text())
    assert [row["way"] for row in report["rows"]] == list(WAYS)
    assert report["nnunet_transforms"] == ["SpatialTransform"]
    text = page.read_text()
    assert "old" not in text
    assert "| nnU-Net, its own chances | 36% | 0.4000 (1.00x) |" in text
    assert "| recipe | 60% | 0.4000 (1.00x) |" in text
    assert "| recipe, turned as often | 36% | 0.2000 (0.50x) |" in text


def test_an_environment_that_is_not_there(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    with pytest.raises(FileNotFoundError, match="absent/python does not exist; run make venv-nnunet"):
        bench_loader(python="absent/python", markdown=str(page))


@pytest.mark.slow
def test_an_environment_without_nnunet_is_named():
    with pytest.raises(ValueError, match=r"nnunet_samples.py ended early .*No module named 'nnunetv2'.*; install what"):
        draw(sys.executable, "nnunet_samples.py", None)


def test_the_scripts_lie_beside_the_module():
    assert all((Path(module.__file__).with_name(script)).is_file() for script, _ in WAYS.values())

"""Whole heads, by the second model of a bundle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from fastapi import HTTPException
from label_server.images import check_memory

from tests.label.conftest import SCORED
from tests.synthetic import ROOT

MODEL = f"{SCORED}_head"
WHOLE = Path("/usr/share/mricron/templates/ch2.nii.gz")
LABELS = {"left-anterior": 1, "left-posterior": 2, "right-anterior": 3, "right-posterior": 4}


@pytest.fixture
def head() -> Path:
    if not WHOLE.is_file():
        pytest.skip(f"there is no {WHOLE}; install mricron-data of Debian")
    return WHOLE


def test_the_classes_of_both_sides(server):
    assert server.get("/info/").json()["models"][MODEL]["labels"] == LABELS


def test_a_whole_head(server, head, tmp_path):
    mask = server.mask(MODEL, head.name, session=server.session(head))
    image = nib.load(head)
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
    options = ["--bundle", SCORED, "--out", str(tmp_path), "--head"]
    subprocess.run([sys.executable, "-m", "custom_networks", "predict", str(head), *options], cwd=ROOT, check=True)
    (file,) = tmp_path.glob("*_seg.nii.gz")
    values = np.asarray(mask.dataobj)
    np.testing.assert_array_equal(values, np.asarray(nib.load(file).dataobj))
    assert set(np.unique(values)) == {0, *LABELS.values()}


def test_a_crop_is_no_head(server):
    answer = server.infer(MODEL, "a", output="json")
    assert answer.status_code == 422, answer.text
    assert "a.nii.gz cannot be used: the image is " in answer.text
    assert "which is no whole head" in answer.text


def test_a_head_that_the_memory_does_not_hold(tmp_path):
    path = tmp_path / "vast.nii"
    # a header alone: its voxels, of zeros, take no room on the disk
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((4000, 4000, 2000))
    header.set_sform(np.diag([0.05, 0.05, 0.1, 1]), 1)
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.truncate(352 + 4000 * 4000 * 2000)
    knobs = {"places": [], "in_channels": 1, "series": None}
    task = SimpleNamespace(bundle_config=SimpleNamespace(get=lambda: knobs, get_parsed_content=knobs.get))
    with pytest.raises(HTTPException, match=r"has .4000, 4000, 2000. voxels and would take") as refused:
        check_memory(task, {"image": str(path)})
    assert refused.value.status_code == 413

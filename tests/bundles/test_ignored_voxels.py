"""Training and evaluation on labels that leave voxels out, from the files to the report."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.synthetic import (
    IMAGES,
    SEGMENTATION,
    change,
    each,
    read_rows,
    run,
    tiny_knobs,
    tiny_training,
    write_dataset,
)

pytestmark = each(SEGMENTATION[:1])
IGNORED = 9
KNOBS = {
    "classes": {},
    "values": {"label_values": [0, 1, [2, 4]]},
    "regions": {"label_names": ["background", "Small", "Large"], "regions": [[1, 2], [2]]},
}
VALUES = {"classes": ([1], [2]), "values": ([1], [2, 4]), "regions": ([1, 2], [2])}


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Cases of which the upper part, a part of the larger structure with it, has no label."""
    folder = write_dataset(tmp_path_factory.mktemp("ignored"))
    for path in (folder / "labelsTr").iterdir():
        change(path, lambda label: np.where(np.arange(label.shape[2]) < 13, label, IGNORED).astype(np.uint8))
    return folder


@pytest.mark.parametrize("kind", KNOBS)
def test_the_report_is_that_of_the_labelled_voxels(bundle, data, tmp_path, kind):
    out, report = tmp_path / "out", tmp_path / "report"
    knobs = {**tiny_training(bundle, data, out, epochs=8, val_interval=8), "ignore_value": IGNORED, **KNOBS[kind]}
    run(bundle, "train", knobs)
    run(bundle, ["train", "evaluate"], {**knobs, "output_dir": str(report)})
    places = {"dataset_dir": str(data / IMAGES), "output_dir": str(tmp_path / "masks"), "ckpt_dir": str(out)}
    run(bundle, "inference", {**tiny_knobs(bundle), **KNOBS[kind], **places})
    rows = read_rows(report / "metrics.csv")
    assert len(rows) == 2 * 2
    for row in rows:
        label = nib.load(data / "labelsTr" / f"{row['case']}.nii.gz").get_fdata()
        mask = nib.load(tmp_path / "masks" / f"{row['case']}_seg.nii.gz").get_fdata()
        assert (mask[label == IGNORED] != 0).any()
        values = VALUES[kind][["Small", "Large"].index(row["class"])]
        p, r = (np.isin(volume[label != IGNORED], values) for volume in (mask, label))
        assert float(row["reference_volume"]) == r.sum() > 0
        assert float(row["prediction_volume"]) == p.sum()
        assert float(row["dice"]) == pytest.approx(2 * (p & r).sum() / (p.sum() + r.sum()), rel=1e-5)
    summary = json.loads((report / "metrics.json").read_text())
    assert summary["classes"]["Large"]["dice"]["mean"] > 0.5
    assert "the cut is a surface of both" in summary["policy"]["voxels without a label"]


def test_labels_that_do_not_fit_are_refused(bundle, data, tmp_path, refused):
    knobs = tiny_training(bundle, data, tmp_path / "out")
    assert "holds the label value 9 but there are 3 classes" in refused(bundle, "train", knobs)
    sentence = refused(bundle, "train", {**knobs, "ignore_value": 2})
    assert "ignore_value is 2, which is also the value of Large; give voxels without a label a value" in sentence
    assert not (tmp_path / "out").exists()

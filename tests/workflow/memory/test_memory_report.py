from __future__ import annotations

import logging

import nibabel as nib
import numpy as np
import pytest
from torch import nn

from custom_networks.workflow import report_memory
from custom_networks.workflow.memory import memory_report
from custom_networks.workflow.memory.memory_report import shapes_of
from tests.synthetic import write_nifti, write_nrrd, write_oriented

KNOBS = {
    "device": "cpu",
    "in_channels": 1,
    "out_channels": 3,
    "spacing": (1.0, 1.0, 1.0),
    "patch_size": (8, 8, 8),
    "amp": False,
    "low_memory": False,
}


@pytest.fixture
def image(tmp_path):
    return write_nifti(np.zeros((12, 10, 9), np.float32), tmp_path / "image.nii.gz", np.diag([2.0, 1.0, 0.5, 1.0]))


@pytest.fixture
def messages(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def free(monkeypatch, size: int) -> None:
    monkeypatch.setattr(memory_report, "available_bytes", lambda device: size)


def test_the_sizes_stand_in_the_header_in_any_orientation(image, tmp_path):
    assert shapes_of(str(image), (1.0, 1.0, 1.0)) == ((12, 10, 9), (23, 10, 5))
    turned = write_oriented(image, "PSR", tmp_path / "turned.nii.gz")
    assert nib.load(turned).shape != (12, 10, 9)
    assert shapes_of(str(turned), (1.0, 1.0, 1.0)) == ((12, 10, 9), (23, 10, 5))
    assert shapes_of(str(write_nrrd(image, tmp_path / "image.nrrd")), (1.0, 1.0, 1.0)) == ((12, 10, 9), (23, 10, 5))


def test_inference_is_billed_in_one_line(image, messages):
    report_memory(nn.Conv3d(1, 3, 1), inference=[{"image": str(image)}], **KNOBS)
    (record,) = messages.records
    assert record.levelname == "INFO"
    assert "(12, 10, 9) voxels, is expected to take" in record.message
    assert record.message.endswith("are free")


def test_too_little_memory_is_a_warning_with_the_knob(image, messages, monkeypatch):
    free(monkeypatch, 10**6)
    cases = [{"image": str(image)}]
    report_memory(nn.Conv3d(1, 3, 1), inference=cases, **KNOBS)
    report_memory(nn.Conv3d(1, 3, 1), inference=cases, **{**KNOBS, "low_memory": True})
    report_memory(nn.Conv3d(1, 3, 1), batch_size=2, training=cases, validation=cases, **KNOBS)
    warnings = [record.message for record in messages.records if record.levelname == "WARNING"]
    assert [text.rpartition("; ")[2] for text in warnings] == [
        "set low_memory to true",
        "set device to cpu, or crop the image",
        "lower batch_size, patch_size or cache_rate",
        "set low_memory to true",
    ]


def test_the_cache_counts(image, messages):
    cases = [{"image": str(image)}] * 4000
    report_memory(nn.Conv3d(1, 3, 1), batch_size=1, cache_rate=1.0, training=cases, **KNOBS)
    assert f"cached data {4000 * 23 * 10 * 5 * 2 * 4 / 1e6:.0f} MB" in messages.text


def test_a_network_that_reads_values_gets_no_bill(image, messages):
    class Reads(nn.Module):
        def forward(self, x):
            return x * float(x.max())

    report_memory(Reads(), inference=[{"image": str(image)}], **KNOBS)
    assert "there is no memory bill" in messages.text


@pytest.mark.parametrize("section", ["training", "validation", "inference"])
def test_an_image_that_no_memory_holds_is_refused(tmp_path, section):
    path = write_nifti(np.zeros((20, 20, 20), np.float32), tmp_path / "a.nii.gz", np.diag([900.0, 900, 900, 1]))
    words = r"a.nii.gz has \(20, 20, 20\) voxels and would have \(17101, 17101, 17101\) at the spacing \[1, 1, 1\], 20"
    with pytest.raises(ValueError, match=words):
        report_memory(nn.Conv3d(1, 3, 1), **{**KNOBS, "spacing": [1, 1, 1], section: [{"image": str(path)}]})

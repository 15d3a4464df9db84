"""The benchmark of the windows counts what is run, and compares every way with the bundle's default."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.synthetic import write_nifti
from tools.__main__ import main
from tools.bench import bench_windows as module
from tools.bench.bench_windows import PROFILE, WAYS, agreement, bench_windows, format_table, measure_windows

BUNDLE = Path(__file__).parents[3] / "bundles" / "hippocampus_mr_attention_unet_segmentation"
PAGE = "# Page\n\n<!-- windows:start -->\nold\n<!-- windows:end -->\n\nEnd\n"


@pytest.fixture
def head(tmp_path):
    image = np.zeros((60, 70, 44), np.float32)
    image[4:34, 6:40, 5:35] = 100 + 10 * np.random.default_rng(0).standard_normal((30, 34, 30))
    return str(write_nifti(image, tmp_path / "head.nii.gz", np.eye(4)))


def test_the_mask_is_compared_class_by_class(tmp_path):
    one, other = np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8)
    files = [tmp_path / "one.npy", tmp_path / "other.npy"]
    one[0], other[0] = (1, 2), (1, 1)
    for file, mask in zip(files, (one, other), strict=True):
        np.save(file, mask)
    assert agreement(*files) == 0.5
    assert agreement(files[0], files[0]) == 1
    np.save(files[0], 0 * one)
    assert agreement(files[0], files[0]) == 1


@pytest.mark.slow
def test_windows_are_counted_and_the_air_left_out(head, tmp_path):
    common = {"bundle": str(BUNDLE), "image": head, "device": "cpu", "threads": 1}
    found = {
        way: measure_windows({**common, "knobs": {"patch_size": [16, 16, 16], **knobs}, "mask": str(tmp_path / way)})
        for way, knobs in WAYS.items()
    }
    assert found["default"]["windows"] == 7 * 8 * 5
    assert found["without air"]["windows"] == 3 * 4 * 3
    assert all(one["seconds"] > 0 and one["shape"] == [60, 70, 44] for one in found.values())


def test_report_table_and_files(head, tmp_path, monkeypatch):
    """Ratios are to the bundle's default, and what was written meanwhile stays; the measuring is replaced."""
    page, output, jobs = tmp_path / "page.md", tmp_path / "windows.json", []
    page.write_text(PAGE)

    def fake(job, name, by):
        jobs.append((name, by, job[0]["knobs"]))
        mask = np.zeros((4, 4), np.uint8)
        mask[: len(jobs)] = 1
        with Path(job[0]["mask"]).open("wb") as file:
            np.save(file, mask)
        page.write_text(page.read_text() + "meanwhile\n")
        known = {"dtype": "float32", "threads": 1, "torch": "2", "monai": "1", "processor": "P", "shape": [1, 2, 3]}
        return [{**known, "windows": 100 // len(jobs), "seconds": 8.0 / len(jobs), "peak_mib": 10.0}]

    monkeypatch.setattr(module, "in_own_process", fake)
    report = bench_windows(str(BUNDLE), image=head, output=str(output), markdown=str(page))
    assert [name for name, _, _ in jobs] == [f"{BUNDLE.name}, {way}" for way in (*WAYS, PROFILE)]
    assert {by for _, by, _ in jobs} == {"tools.bench.bench_windows:measure_windows"}
    assert jobs[-1][2] == {"overlap": 0.25, "skip_air": True}
    assert json.loads(output.read_text()) == report
    assert page.read_text() == PAGE.replace("\nold\n", f"\n\n{format_table(report)}\n\n") + 3 * "meanwhile\n"
    assert "| without air | 50 (0.50x) | 4.0 (0.50x) | 10 (1.00x) | 0.6667 |" in page.read_text()


@pytest.mark.parametrize(
    ("bundles", "options", "error", "words"),
    [
        ((), {}, ValueError, "no bundle given"),
        ((str(BUNDLE),), {"repeats": 0}, ValueError, "repeats must be"),
        ((str(BUNDLE),), {"device": "tpu"}, ValueError, "not available"),
        ((str(BUNDLE),), {"image": "absent.nii.gz", "markdown": None}, FileNotFoundError, "absent.nii.gz does not"),
        (("absent",), {"image": __file__, "markdown": None}, FileNotFoundError, "large_volume.json does not exist"),
        ((str(BUNDLE),), {"markdown": "absent.md"}, FileNotFoundError, "absent.md does not exist"),
    ],
)
def test_bad_input_is_refused_before_the_measuring(monkeypatch, bundles, options, error, words):
    monkeypatch.setattr(module, "in_own_process", None)
    with pytest.raises(error, match=words):
        bench_windows(*bundles, **options)


def test_the_command_is_there(capsys):
    assert main(["bench", "windows", "--markdown", "None"]) == 1
    assert "no bundle given" in capsys.readouterr().err

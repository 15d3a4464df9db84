"""The benchmark of whole heads sets each command beside the import, by turns, and the registration beside both."""

from __future__ import annotations

import json

import pytest

from tests.synthetic import SEGMENTATION, volume, write_nifti
from tools.bench import bench_heads as module
from tools.bench.bench_heads import REGISTRATION, bench_heads
from tools.bench.bench_predict import IMPORT

PAGE = "# Page\n\n<!-- heads:start -->\nold\n<!-- heads:end -->\n\nEnd\n"
NAMES = [bundle.name for bundle in SEGMENTATION[:2]]


def test_the_table_tells_what_a_head_takes_beyond_the_import(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(module, "seconds_of", lambda command: started.append(command) or float(len(started)))
    monkeypatch.setattr(module, "_registration", lambda *_: 0.25)
    image, page, output = write_nifti(volume(0)[0], tmp_path / "h.nii.gz"), tmp_path / "page.md", tmp_path / "out.json"
    page.write_text(PAGE)
    report = bench_heads(str(image), *NAMES, repeats=2, output=str(output), markdown=str(page))
    # three rounds of three commands, of which the first fills caches
    assert {row["name"]: row["rounds"] for row in report["rows"]} == {
        IMPORT: [4.0, 7.0],
        REGISTRATION: [0.25, 0.25],
        NAMES[0]: [5.0, 8.0],
        NAMES[1]: [6.0, 9.0],
    }
    assert all(command[-1] == "--head" and str(image) in command for command in started[1:3])
    assert f"| `{NAMES[1]}` | 7.50 | +2.00 |" in page.read_text()
    assert json.loads(output.read_text())["rows"] == report["rows"]


def test_what_cannot_be_timed_is_said(tmp_path):
    with pytest.raises(ValueError, match="no bundle given"):
        bench_heads("h.nii.gz")
    with pytest.raises(FileNotFoundError, match="there is no image"):
        bench_heads(str(tmp_path / "h.nii.gz"), NAMES[0], markdown=None)

"""The benchmark of whole commands runs each as a user would, takes turns, and holds the masks against the labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from custom_networks.workflow.data.folds import read_folds
from tests.synthetic import SEGMENTATION, write_nifti
from tools.bench import bench_predict as module
from tools.bench.bench_predict import IMPORT, OF_ENSEMBLES, RUN, WAYS, bench_predict, command_of, dice_of

BUNDLE = SEGMENTATION[0]
PAGE = "# Page\n\n<!-- predict:start -->\nold\n<!-- predict:end -->\n\nEnd\n"


def test_commands_differ_in_what_their_name_says(tmp_path):
    for way in WAYS:
        command = command_of(way, [BUNDLE], tmp_path / "images", tmp_path / "out")
        if way == IMPORT:
            assert command[1:] == ["-c", "import monai.bundle"]
        elif way == RUN:
            assert command[1:4] == ["-m", "monai.bundle", "run"]
        else:
            assert command[1:4] == ["-m", "custom_networks", "predict"]
            knobs = json.loads(Path(command[command.index("--profile") + 1]).read_text())
            assert knobs["engine"] in way
            assert knobs.get("amp", True) is ("float32" not in way)
    several = command_of(OF_ENSEMBLES[0], SEGMENTATION, tmp_path / "images", tmp_path / "out")
    assert several.count("--bundle") == len(SEGMENTATION)


def test_dice_is_the_mean_over_the_cases(tmp_path):
    label = np.zeros((4, 4, 4), np.uint8)
    label[:2] = 1
    for case, mask in (("a", label), ("b", np.roll(label, 1, 0))):
        write_nifti(mask, tmp_path / "masks" / f"{case}_seg.nii.gz")
        write_nifti(label, tmp_path / "labels" / f"{case}.nii.gz")
    assert dice_of(tmp_path / "masks", tmp_path / "labels", ["a", "b"], ["one"]) == {"one": 0.75}


def test_the_table_holds_every_way_of_every_bundle_and_of_all(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(module, "seconds_of", lambda command: started.append(command) or float(len(started)))
    monkeypatch.setattr(module, "dice_of", lambda *_: {"Anterior": 0.5})
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    options = {"repeats": 2, "output": str(tmp_path / "out.json"), "markdown": str(page), "dataset_dir": str(tmp_path)}
    report = bench_predict(SEGMENTATION[0].name, SEGMENTATION[1].name, **options)
    rows = [(row["bundle"], row["way"]) for row in report["rows"]]
    assert rows == [
        *((bundle.name, way) for bundle in SEGMENTATION[:2] for way in WAYS),
        *(("all 2, an ensemble", way) for way in OF_ENSEMBLES),
    ]
    first = report["rows"][:6]
    # three rounds of six, of which the first fills caches
    assert [row["rounds"] for row in first] == [[7.0 + n, 13.0 + n] for n in range(6)]
    held_back = read_folds(SEGMENTATION[0] / "configs" / "folds.json")[0][1]
    assert [row.get("cases") for row in first] == [None, *[len(held_back)] * 5]
    text = page.read_text()
    assert text.startswith("# Page\n\n<!-- predict:start -->\n\n| bundle | command |")
    assert text.endswith("<!-- predict:end -->\n\nEnd\n")
    assert json.loads((tmp_path / "out.json").read_text())["rows"] == report["rows"]


def test_a_command_that_fails_ends_it_with_its_last_line():
    with pytest.raises(ValueError, match=r"failed: no$"):
        module.seconds_of([module.sys.executable, "-c", "raise SystemExit('no')"])
    with pytest.raises(ValueError, match="no bundle given"):
        bench_predict()

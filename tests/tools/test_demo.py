"""The pieces of the demo: pasted masks, the table, the picture, and the commands it runs."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks.workflow.report.overlay import COLOURS, Panel, dice, save_overlay
from tools import demo as demo_module
from tools.__main__ import main
from tools.data.datasets import embedded
from tools.demo import compare, copied_mask, paste, run_bundle, summary

pytest.importorskip("nilearn", reason="the extra demo is not installed")
pytest.importorskip("matplotlib", reason="the extra demo is not installed")


@pytest.mark.parametrize(
    ("shape", "offset", "expected"),
    [
        ((5,), None, [0, 1, 2, 3, 0]),
        ((1,), None, [2]),
        ((4,), [2], [0, 0, 1, 2]),
        ((4,), [-2], [3, 0, 0, 0]),
        ((2,), [-5], [0, 0]),
        ((2,), [5], [0, 0]),
    ],
)
def test_paste(shape, offset, expected):
    label = np.array([1, 2, 3])
    assert paste(label, shape, None if offset is None else np.array(offset)).tolist() == expected


def test_copied_mask_follows_the_coordinates():
    left = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4))
    affine = np.eye(4)
    affine[:3, 3] = (-1, 0, 0)
    right = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), affine)
    copied = copied_mask(left, right)
    assert copied.positioned[1:3, :2, :2].sum() == copied.positioned.sum() == 8
    assert copied.centred[1:3, 1:3, 1:3].sum() == 8
    with pytest.raises(ValueError, match="voxel size"):
        copied_mask(left, nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.diag([2, 1, 1, 1])))


def test_dice():
    a = np.array([True, True, False])
    assert dice(a, a) == 1
    assert dice(a, ~a) == 0
    assert np.isnan(dice(a & ~a, a & ~a))


def test_overlay_shows_both_contours(tmp_path):
    """Every class is drawn in its colour, and another prediction gives another picture."""
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    image = np.zeros((12, 20, 16), np.float32)
    image[4:8] = 1
    labels = np.zeros((2, *image.shape), np.uint8)
    labels[0, 3:6, 4:8, 4:12] = 1
    labels[0, 3:6, 8:14, 4:12] = 2
    labels[1, 3:6, 5:9, 5:13] = 1
    pictures = []
    for name, prediction in (("same", labels[0]), ("other", labels[1])):
        file = tmp_path / "new" / f"{name}.png"
        save_overlay([Panel("case", image, labels[0], prediction, (1, 1, 2))], ["Anterior", "Posterior"], file, "title")
        pictures.append(imread(file)[..., :3])
        for colour in COLOURS[:2]:
            close = np.abs(pictures[-1] - np.array(to_rgb(colour))).max(axis=-1) < 0.1
            assert close.sum() > 100
    assert not np.array_equal(*pictures)
    with pytest.raises(ValueError, match="one shape"):
        save_overlay([Panel("x", image, labels[0], labels[0, 1:], (1, 1, 1))], ["a"], tmp_path / "x.png", "title")
    assert not (tmp_path / "x.png").exists()


@pytest.fixture
def fake_run(monkeypatch, tmp_path) -> list[tuple[list[str], dict[str, str]]]:
    """Replace the three commands by one that writes the reference as the segmentation, and remember the calls."""
    calls = []

    def run(_step: str, configs: list[str], arguments: dict[str, str]) -> None:
        calls.append((configs, arguments))
        output = Path(arguments["output_dir"])
        output.mkdir(parents=True)
        if configs == ["inference.json"]:
            for label in Path(arguments["dataset_dir"]).parent.glob("labelsTs/*.nii.gz"):
                image = nib.load(label)
                nib.save(image, output / label.name.replace(".nii.gz", "_seg.nii.gz"))
        elif "evaluate.json" in configs:
            classes = {"Anterior": {"dice": {"mean": 0.9}}, "Posterior": {"dice": {"mean": 0.8}}}
            (output / "metrics.json").write_text(json.dumps({"cases": 2, "classes": classes}))

    monkeypatch.setattr(demo_module, "run_bundle", run)
    return calls


def test_demo_trains_evaluates_infers_and_reports(fake_run, tmp_path, capsys):
    if not (demo_module.REPOSITORY / demo_module.BUNDLE).is_dir():
        pytest.skip("the bundle has not been rendered")
    argv = ["demo", "--output_dir", str(tmp_path / "out"), "--dataset_dir", str(tmp_path / "data"), "--epochs", "2"]
    assert main(argv) == 0
    assert [configs for configs, _ in fake_run] == [["train.json"], ["train.json", "evaluate.json"], ["inference.json"]]
    training, evaluation, inference = (arguments for _, arguments in fake_run)
    assert training["epochs"] == "2"
    assert training["args_file"].endswith("configs/profiles/demo.json")
    assert training["ckpt_dir"] == evaluation["ckpt_dir"] == inference["ckpt_dir"] == str(tmp_path / "out" / "model")
    out = capsys.readouterr().out
    assert (tmp_path / "out" / "overlay.png").read_bytes().startswith(b"\x89PNG")
    assert f"picture: {tmp_path / 'out' / 'overlay.png'}" in out
    lines = [line.split() for line in out.splitlines() if line.startswith(("Anterior", "Posterior"))]
    assert [line[:2] for line in lines] == [["Anterior", "0.900"], ["Posterior", "0.800"]]
    rows = compare(tmp_path / "data", tmp_path / "out")
    assert rows["Anterior"] == pytest.approx((0.9, 0.810, 0.860), abs=0.001)
    assert rows["Posterior"] == pytest.approx((0.8, 0.806, 0.638), abs=0.001)


def test_summary_lines_up():
    lines = summary({"Anterior": (0.5, 0.25, 0.125), "A": (1.0, 1.0, 1.0)}).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split() == ["Anterior", "0.500", "0.250", "0.125"]


def test_commands_are_printed_and_a_failing_one_stops_the_demo(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(demo_module, "BUNDLE", tmp_path / "no bundle")
    monkeypatch.setattr(demo_module.sys, "executable", "false")
    with pytest.raises(RuntimeError, match="a step ended with exit code 1"):
        run_bundle("a step", ["train.json", "evaluate.json"], {"dataset_dir": "x"})
    printed = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("$"))
    assert printed.startswith("$ python -m monai.bundle run --config_file ")
    assert "train.json" in printed
    assert "evaluate.json" in printed
    assert printed.endswith("--dataset_dir x")


def test_demo_refuses_before_it_writes(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_module, "PROFILE", "none.json")
    assert main(["demo"]) == 1
    assert "none.json does not exist" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    if (demo_module.REPOSITORY / demo_module.BUNDLE).is_dir():
        assert main(["demo", "--epochs", "0"]) == 1
        assert "epochs must be" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_default_data_are_the_embedded_ones():
    assert embedded.__defaults__ == (demo_module.demo.__defaults__[2],)

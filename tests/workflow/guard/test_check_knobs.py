"""Every knob has a rule, the shipped values keep it, and a wrong value is refused before anything is made of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from custom_networks.workflow import check_knobs
from custom_networks.workflow.guard.knobs import RULES
from tests.processes import flags, isolated
from tests.synthetic import BUNDLES, ONE_PER_RECIPE, SEGMENTATION, config
from tools.recipes.knobs import KNOBS, knobs_of

FREE = {"displayable_configs"}

WRONG = {
    "bundle_root": [2024, None],
    "dataset_dir": [2024, ("a", "b"), None],
    "output_dir": [2024, True, Path("results")],
    "ckpt_dir": [2024, None],
    "in_channels": [0, 1.5, "1", True],
    "label_names": ["background", ["a"], ["a", "a"], ["a", 1], {"a": 0}, None],
    "ignore_value": [0.5, "255", True],
    "label_values": [3, "1", ["0", 1], [0.5, 1]],
    "regions": [3, "1", ["0", 1]],
    "spacing": [1.0, [1, 1], [1, 1, 0], [1, 1, "1"], [1, 1, float("nan")]],
    "intensity": ["z_score", {"clip": [0, 1]}, [3]],
    "intensity_range": [5, [1], [2, 2], [3, 1], ["a", "b"]],
    "patch_size": [40, [40, 40], [40, 40, 0], [40, 40, 40.5], ["40", "40", "40"], None],
    "foreground_ratio": [-0.1, 1.1, "0.5", True],
    "epochs": [0, -1, 1.5, "3", None],
    "steps_per_epoch": [0, 2.5, "250", True],
    "val_interval": [0, 2.5],
    "batch_size": [0, 2.0],
    "learning_rate": [0, -1e-3, "0.1", float("inf"), None],
    "accumulate": [0, 1.5, None],
    "clip_gradients": [0, -1, "1", True],
    "early_stop": [0, 2.5, "10"],
    "amp": ["false", 1, None],
    "deterministic": ["yes", 1, None],
    "seed": [-1, 2**32, 0.5, None],
    "num_workers": [-1, 1.0, "all", None],
    "cache_rate": [-0.1, 1.5, None],
    "cache_dir": [2024, True],
    "fold": [1.5, "one", None, True],
    "mirror_axes": [0, ["0"], [3], [-1], [0, 0], None],
    "tta_mirror_axes": [0, ["0"], [3], None],
    "overlap": [-0.1, 1, "0.5", None, True],
    "sw_batch_size": [0, 1.5, "2", True],
    "skip_air": ["yes", 1, None],
    "largest_component": ["yes", 0, None, [1]],
    "surface_tolerance": [0, -1, "2", True, float("inf")],
    "report": ["yes", 1],
    "low_memory": ["no", None],
    "max_shape": [40, [1, 2]],
    "expected_input": [3, None],
    "csv_file": [2024, None],
    "evaluation_split": [1, None],
    "image_glob": ["/data/*.nii", "", 3],
    "label_glob": ["/data/*.nii", ["a"]],
    "folds_file": [5, True],
    "series": [1.2, ["1.2.3"]],
    "places": [
        [],
        "Left",
        [{"name": "Left", "point": [1, 2, 3]}],
        [{"name": "Left", "point": [1, 2], "mirrored": False}],
        [{"name": "Left", "point": [1, 2, 3], "mirrored": 0}],
        [{"name": "Left", "point": [1, 2, 3], "mirrored": False, "volume_ml": [6, 1.2]}],
        [{"name": "Left", "point": [1, 2, 3], "mirrored": False, "volume": [1.2, 6]}],
        [{"name": "Left", "point": [1, 2, 3], "mirrored": False}] * 2,
        None,
    ],
    "crop_size": [36, [36, 52], [36, 52, 0], None],
    "start_points": [[1, 2, 3], {}, {"Left": [1, 2]}, {"Left": [1, 2, float("nan")]}, {1: [1, 2, 3]}, "Left"],
    "template": ["absent.nii.gz", 3, "."],
    "device": ["gpu", "cuda:99", 0, None],
    "engine": ["onnx", "OpenVINO", None, True, ["torch"]],
    "resume_ckpt": ["absent.pt", 3, "."],
    "finetune_ckpt": ["absent.pt", False],
    "overwrite": ["yes", 1, None],
    "gate_warm_up_epochs": [-1, 0.5],
    "ckpt_path": [3, None],
    "load_pretrain": ["True", 1],
}
FINE = {
    "dataset_dir": ["2024", Path("data")],
    "label_names": [("a", "b")],
    "label_values": [None, [0, [1, 2]]],
    "regions": [None, [[1, 2], 2]],
    "patch_size": [(40, 56, 40), [np.int64(8), 8, 8]],
    "spacing": [[1, 1.5, 3]],
    "intensity": [None, ["z_score", {"clip": [0, 1], "mean": 0, "std": 1}]],
    "num_workers": [0, 4, "auto"],
    "cache_dir": [None, "cache", Path("cache")],
    "fold": [4, "all"],
    "mirror_axes": [[], (0, 2)],
    "clip_gradients": [None, 12, 0.5],
    "early_stop": [None, 30],
    "overlap": [0, 0.25, 0.9],
    "surface_tolerance": [None, 2, 0.5],
    "sw_batch_size": [1, 8, None],
    "largest_component": [True, False, []],
    "folds_file": [None, "folds.json"],
    "series": [None, "1.2.840.1"],
    "image_glob": [None, "mr/*.nii.gz"],
    "resume_ckpt": [None, __file__],
    "places": [[{"name": "Left", "point": (-23, -23.5, -12), "mirrored": False, "volume_ml": [1.2, 6]}]],
    "crop_size": [[40, 56.5, 40]],
    "start_points": [None, {"Left": [-23.0, -20, -15]}],
    "template": [None, __file__],
    "device": ["cpu", torch.device("cpu")],
    "seed": [2**32 - 1],
    "learning_rate": [1e30, np.float32(0.1)],
    "cache_rate": [0, 1],
}


def pairs(table):
    return [(name, value) for name, values in table.items() for value in values]


def test_every_knob_has_a_rule_or_is_free():
    assert set(KNOBS) == set(RULES) | FREE
    assert set(WRONG) == set(RULES)


@pytest.mark.parametrize("name", ["train", "inference", "evaluate", "inference_head"])
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_the_shipped_values_fit_and_every_config_checks_all_of_them(bundle, name):
    if name == "inference_head" and bundle not in SEGMENTATION:
        assert not (bundle / "configs" / f"{name}.json").exists()
        return
    knobs = knobs_of(config(bundle, name))
    check_knobs(**{key: value for key, value in knobs.items() if not str(value).startswith("$")})
    if name != "evaluate":
        checked = {key for key in config(bundle, name)["knob_check"] if not key.startswith("_")}
        assert checked == set(knobs) - FREE


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values], ids=str
)
def test_a_wrong_value_is_refused_in_one_sentence(name, value):
    with pytest.raises(ValueError, match=rf"\A{name} (must be|is) [^\n]+; [^\n]+\Z") as caught:
        check_knobs(**{name: value})
    assert str(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in FINE.items() for value in values], ids=str
)
def test_a_right_value_passes(name, value):
    check_knobs(**{name: value})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there():
    for value in ("cuda:0", "cuda", torch.device("cuda", 0)):
        with pytest.raises(ValueError, match=f"device is {value}, but there is no CUDA device here; set device to cpu"):
            check_knobs(device=value)


@pytest.mark.parametrize("name", ["train", "inference", "multi_gpu_train"])
@pytest.mark.parametrize("bundle", ONE_PER_RECIPE, ids=lambda path: path.name)
def test_the_command_line_ends_with_one_sentence(bundle, name, tmp_path):
    configs = ["train", name] if name.startswith("multi") else [name]
    files = str([str(bundle / "configs" / f"{config}.json") for config in configs])
    knobs = flags({"config_file": files, "bundle_root": bundle, "dataset_dir": tmp_path, "patch_size": 40})
    more = {"RANK": "0", "LOCAL_RANK": "0"}
    done = isolated("-m", "monai.bundle", "run", *knobs, cwd=tmp_path, **more)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said == "error: patch_size must be three positive integers, got 40; write for example [96, 96, 64]"
    assert "Traceback" not in done.stderr


def test_a_profile_with_an_expression_is_checked_by_its_value(tmp_path):
    bundle = ONE_PER_RECIPE[0]
    (tmp_path / "mine.json").write_text(json.dumps({"epochs": "$3 - 3", "dataset_dir": "x"}))
    files = {"config_file": bundle / "configs" / "train.json", "args_file": tmp_path / "mine.json"}
    done = isolated("-m", "monai.bundle", "run", *flags({**files, "bundle_root": bundle}), cwd=tmp_path)
    assert re.fullmatch(r"error: epochs must be a positive integer, got 0; .*", done.stderr.splitlines()[-1])


@pytest.mark.parametrize("knob", ["mirror_axes", "tta_mirror_axes"])
def test_flips_that_exchange_left_and_right_are_refused(knob):
    names = ["background", "Parotid_L", "brainstem", "Parotid_R"]
    check_knobs(label_names=names, **{knob: [1, 2]})
    check_knobs(label_names=["background", "L1", "R2", "left"], **{knob: [0]})
    sentence = f"{knob} holds 0, the axis from left to right, along which a flip makes Parotid_L look like Parotid_R "
    with pytest.raises(ValueError, match=sentence):
        check_knobs(label_names=names, **{knob: [2, 0]})


def test_the_classes_of_largest_component_are_those_that_there_are():
    names = ["background", "heart", "aorta"]
    check_knobs(label_names=names, largest_component=["aorta"], regions=None)
    check_knobs(label_names=names, largest_component=True, regions=[[1, 2], [1]])
    for wrong in ("lung", "background"):
        with pytest.raises(ValueError, match=f"largest_component names {wrong}, but the classes are heart, aorta; "):
            check_knobs(label_names=names, largest_component=["heart", wrong], regions=None)
    with pytest.raises(ValueError, match="largest_component must be true or false where there are regions, which hold"):
        check_knobs(label_names=names, largest_component=["heart"], regions=[[1, 2], [1]])

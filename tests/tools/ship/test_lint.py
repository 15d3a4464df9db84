"""Lint is silent on every bundle and finds each of the seeded mistakes, and nothing else beside it."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.synthetic import BUNDLES, SEGMENTATION
from tools.ship.lint import bundle_problems, lint, run_problems

SOURCE = next(bundle for bundle in SEGMENTATION if "attention_unet" in bundle.name)
TRAIN, INFERENCE, META = "configs/train.json", "configs/inference.json", "configs/metadata.json"
HEAD = "configs/inference_head.json"
DELETE = object()


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_nothing_is_wrong_with_the_bundles(bundle, capsys):
    lint(str(bundle))
    assert capsys.readouterr().out == f"{bundle.name}: no problem found\n"


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / SOURCE.name
    shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns("runs", "eval", "*.onnx", "*.ts"))
    return target


def change(folder, file, path, value):
    """Set one entry of a JSON file, or delete it."""
    content = json.loads((folder / file).read_text())
    node = content
    *parents, last = path.split("/") if "/" in path else [path]
    for key in parents:
        node = node[int(key) if isinstance(node, list) else key]
    if value is DELETE:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    (folder / file).write_text(json.dumps(content))


# File, entry, value, and what is found: file, id path, sentence.
MISTAKES = {
    "unknown class": (
        (TRAIN, "train/trainer/_target_", "SupervizedTrainer"),
        ("train#trainer", "MONAI has no SupervizedTrainer; did you mean SupervisedTrainer?"),
    ),
    "unknown class of ours": (
        (TRAIN, "checkpoint/_target_", "custom_networks.workflow.ResumeableCheckpoint"),
        ("checkpoint", "custom_networks.workflow has no ResumeableCheckpoint; did you mean ResumableCheckpoint?"),
    ),
    "unknown module": (
        (TRAIN, "optimizer/_target_", "torch.optimizers.AdamW"),
        ("optimizer", "there is no module torch.optimizers (No module named 'torch.optimizers')"),
    ),
    "unknown argument": (
        (TRAIN, "optimizer/weight_deacy", 0.1),
        ("optimizer", "torch.optim.AdamW takes no weight_deacy; did you mean weight_decay?"),
    ),
    "missing argument": (
        (TRAIN, "lr_scheduler/optimizer", DELETE),
        ("lr_scheduler", "torch.optim.lr_scheduler.PolynomialLR needs optimizer"),
    ),
    "dangling reference": (
        (TRAIN, "optimizer/lr", "@learning_rates"),
        ("optimizer#lr", "refers to @learning_rates, which does not exist; did you mean learning_rate?"),
        ("learning_rate", "is used by no entry of any config"),
    ),
    "dangling reference in an expression": (
        (INFERENCE, "network/network", "$@network_definition.to(@device)"),
        ("network#network", "refers to @network_definition, which does not exist; did you mean network_def?"),
    ),
    "unused knob": ((TRAIN, "augment", True), ("augment", "is used by no entry of any config")),
    "overlay without a place": (
        ("configs/evaluate.json", "validation#handlers", []),
        ("validation#handlers", "lies under validation, which does not exist; did you mean validate?"),
    ),
    "no python": (
        (INFERENCE, "network/network", "$@network_def.to(@device"),
        ("network#network", "is no Python expression ('(' was never closed)"),
    ),
    "absolute path": (
        (TRAIN, "dataset_dir", "/data/Task04_Hippocampus"),
        ("dataset_dir", "is a path of one machine, /data/Task04_Hippocampus; make it relative to @bundle_root"),
        (INFERENCE, "dataset_dir", "is 'data/Task04_Hippocampus', in train.json '/data/Task04_Hippocampus'"),
        (HEAD, "dataset_dir", "is 'data/Task04_Hippocampus', in train.json '/data/Task04_Hippocampus'"),
    ),
    "import of our code": (
        (TRAIN, "imports/2", "$import custom_networks"),
        ("imports#2", "imports custom_networks in an expression; use a _target_"),
    ),
    "no bootstrap": (
        (TRAIN, "network_def/_requires_", DELETE),
        ("network_def", 'lacks "_requires_": "@code_path", without which it is not found'),
        (INFERENCE, "network_def#_requires_", "is '@code_path', in train.json None; the weights would not fit"),
        (HEAD, "network_def#_requires_", "is '@code_path', in train.json None; the weights would not fit"),
    ),
    "patch": (
        (TRAIN, "patch_size", [40, 55, 40]),
        ("patch_size", "[40, 55, 40] must be divisible by [4, 4, 4], the network's size_divisor; use [40, 56, 40]"),
        (INFERENCE, "patch_size", "is [40, 56, 40], in train.json [40, 55, 40]"),
        (HEAD, "patch_size", "is [40, 56, 40], in train.json [40, 55, 40]"),
        (
            META,
            "network_data_format#inputs#image#spatial_shape",
            "is [40, 56, 40], train.json says [40, 55, 40]",
        ),
    ),
    "another network at inference": (
        (INFERENCE, "network_def/features", [16, 32, 32]),
        ("network_def#features", "is [16, 32, 32], in train.json [16, 32, 64]; the weights would not fit"),
    ),
    "another knob at inference": (
        (INFERENCE, "spacing", [1.0, 1.0, 2.0]),
        ("spacing", "is [1.0, 1.0, 2.0], in train.json [1.0, 1.0, 1.0]"),
    ),
    "another knob for heads": (
        (HEAD, "spacing", [1.0, 1.0, 2.0]),
        ("spacing", "is [1.0, 1.0, 2.0], in train.json [1.0, 1.0, 1.0]"),
    ),
    "a knob of heads that nothing uses": (
        (HEAD, "locate/start_points", None),
        ("start_points", "is used by no entry of any config"),
    ),
    "unknown argument of the place": (
        (HEAD, "locate/crop_sise", [36.0, 52.0, 38.0]),
        ("locate", "custom_networks.workflow.LocateRegions takes no crop_sise; did you mean crop_size?"),
    ),
    "a head's inversion": (
        (HEAD, "postprocessing/transforms/0", {"_target_": "EnsureTyped", "keys": "pred"}),
        ("postprocessing", "has no Invertd, so that results keep the orientation of the preprocessing"),
    ),
    "schema": ((META, "authors", DELETE), ("", "'authors' is a required property")),
    "changelog": ((META, "version", "0.1.1"), ("changelog", "does not know version 0.1.1, only 0.1.0")),
    "two digits": (
        (META, "version", "0.10.0"),
        ("version", r"'0.10.0' does not match '^\\d\\.\\d\\.\\d$'"),
    ),
    "labels": (
        (META, "network_data_format/outputs/pred/channel_def", {"0": "background", "1": "A", "2": "Posterior"}),
        (
            "network_data_format#outputs#pred#channel_def",
            "is ['background', 'A', 'Posterior'], train.json says ['background', 'Anterior', 'Posterior']",
        ),
    ),
    "prediction": (
        (
            META,
            "network_data_format/outputs",
            {
                "output": {
                    **dict.fromkeys(("type", "format", "dtype"), "a"),
                    "num_channels": 3,
                    "spatial_shape": [8],
                    "value_range": [],
                }
            },
        ),
        ("network_data_format", "must begin with image and pred, which MONAI Label reads"),
    ),
    "MONAI Label's names": (
        (INFERENCE, "inferer", DELETE),
        ("inferer", "does not exist, but monai.bundle or MONAI Label reads it"),
        ("evaluator#inferer", "refers to @inferer, which does not exist"),
        ("mirror_axes", "is used by no entry of any config"),
        ("overlap", "is used by no entry of any config"),
        ("skip_air", "is used by no entry of any config"),
    ),
    "attribute of the device": (
        (INFERENCE, "network/network", "$@network_def.to(@device.type)"),
        ("network#network", "takes an attribute of @device, which MONAI Label makes a string"),
    ),
    "orientation": (
        (INFERENCE, "postprocessing/transforms/1", {"_target_": "Identityd", "keys": "pred"}),
        ("postprocessing", "has no Invertd, so that results keep the orientation of the preprocessing"),
    ),
    "profile": (
        ("configs/profiles/demo.json", "epoch", 3),
        ("epoch", "is no entry of the config; did you mean epochs?"),
    ),
    "argument in a profile": (
        ("configs/profiles/demo.json", "network_def#feature", [8, 16]),
        ("network_def#feature", "custom_networks.nets.AttentionUnet takes no feature; did you mean features?"),
    ),
    "null in a profile": (
        ("configs/profiles/demo.json", "image_glob", None),
        ("image_glob", "is null, which MONAI drops from the later of two profiles; write $None"),
    ),
    "network of a profile": (
        ("configs/profiles/demo.json", "network_def#features", [16]),
        ("network_def", "cannot be built: features must name at least"),
    ),
}


@pytest.mark.parametrize(("mistake", "found"), [(m, f) for m, *f in MISTAKES.values()], ids=MISTAKES.keys())
def test_every_mistake_is_found(folder, mistake, found):
    change(folder, *mistake)
    wanted = sorted(entry if len(entry) == 3 else (mistake[0], *entry) for entry in found)
    problems = bundle_problems(folder)
    assert [(problem.file, problem.where) for problem in problems] == [entry[:2] for entry in wanted], problems
    for problem, entry in zip(problems, wanted, strict=True):
        assert problem.what.startswith(entry[2])


def test_the_description_of_the_training_data_is_that_of_the_weights(folder):
    file = folder / "models" / "training_data.json"
    command = f"run python -m tools bundles describe {SOURCE.name}"
    change(folder, "models/training_data.json", "weights", "0" * 64)
    assert [problem.what for problem in bundle_problems(folder)] == [f"is of other weights; {command}"]
    change(folder, "models/training_data.json", "cases", "many")
    (problem,) = bundle_problems(folder)
    assert (problem.file, problem.where) == ("models/training_data.json", "")
    assert problem.what.startswith(f"is none ({file} is no description of training data; ")
    assert problem.what.endswith(command)
    file.unlink()
    assert [problem.what for problem in bundle_problems(folder)] == [f"is missing; {command}"]


def test_missing_and_surplus_files(folder):
    (folder / "LICENSE").unlink()
    (folder / "models" / "last.pt").touch()
    with (folder / "docs" / "film.avi").open("wb") as file:
        file.truncate(26 * 2**20)
    assert [str(problem) for problem in bundle_problems(folder)] == [
        "LICENSE: is missing",
        "docs/film.avi: is larger than 25 MiB, the most that the model zoo takes",
        "models/last.pt: would be offered by MONAI Label beside model.pt; move it to another folder",
    ]


def test_exports_of_other_weights(folder):
    (folder / "docs" / "runs").mkdir()
    (folder / "docs" / "runs" / "exports.json").write_text(json.dumps({"weights_sha256": "0" * 64}))
    (problem,) = bundle_problems(folder)
    assert str(problem) == (
        f"docs/runs/exports.json: weights_sha256: is of other weights; run python -m tools export {folder.name}"
    )


@pytest.mark.parametrize("name", ["hippocampus_mr_net", "hippocampus_vnet_segmentation", "Hippocampus_segmentation"])
def test_names_that_monai_would_misread(folder, name):
    moved = folder.rename(folder.with_name(name))
    assert [problem.where + problem.file for problem in bundle_problems(moved)] == ["."]


def test_overrides_of_a_run(folder, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"epochs": 2, "train#dataset#cache_rates": 0, "optimizer#weight_decay": 0.1}))
    problems = run_problems(folder, str(file), "epoch=1 --seed=3 validate::dataset::transforms=2")
    assert [str(problem).removeprefix(str(tmp_path)) for problem in problems] == [
        "/mine.json: train#dataset#cache_rates: custom_networks.workflow.CachedCases takes no cache_rates; did you "
        "mean cache_rate?",
        "overrides: epoch: is no entry of the config; did you mean epochs?",
        "overrides: validate::dataset::transforms: CacheDataset takes no transforms; did you mean transform?",
    ]
    with pytest.raises(ValueError, match="overrides must be key=value with blanks between them, got epochs; write"):
        run_problems(folder, None, "epochs")


def test_problems_are_printed_and_end_in_an_error(folder, capsys):
    (folder / "LICENSE").unlink()
    with pytest.raises(ValueError, match=f"{folder.name} has 2 problems, listed above"):
        lint(str(folder), overrides="epoch=1")
    assert capsys.readouterr().out.splitlines() == [
        "LICENSE: is missing",
        "overrides: epoch: is no entry of the config; did you mean epochs?",
    ]

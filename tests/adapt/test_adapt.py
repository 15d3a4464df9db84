"""Profiles from data sets: what they say, that bundles train, evaluate and infer by them alone, what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch

from custom_networks.__main__ import main
from custom_networks.adapt.commands import adapt, check
from custom_networks.adapt.draft import Draft
from custom_networks.adapt.network import as_config_value, build, step_bytes
from custom_networks.adapt.segmentation import choose_cache
from tests.synthetic import (
    CLASSIFICATION,
    ROOT,
    SEGMENTATION,
    change,
    config,
    each,
    paths,
    volume,
    write_dataset,
    write_nifti,
    write_patches,
)

ATTENTION_UNET = "hippocampus_mr_attention_unet_segmentation"
CLASSIFIER = "adrenal_ct_attention_classification"
# what follows the patch of 144 x 144 x 12 voxels
POSITIONS = {
    "hippocampus_mr_medical_transformer_segmentation": {
        "network_def#token_grid": [72, 72, 12],
        "network_def#window_size": [72, 72, 12],
    },
    "hippocampus_mr_transunet_segmentation": {"network_def#token_grid": [18, 18, 6]},
}


@pytest.fixture
def data(tmp_path) -> Path:
    return write_dataset(tmp_path / "data")


def write_slices(folder: Path) -> Path:
    """Write cases of three patients with slices of 10 mm, larger than a patch may be."""
    for name in ("p1_ED", "p1_ES", "p2_ED", "p3_ED"):
        label = np.zeros((160, 180, 12), np.uint8)
        label[70:80, 70:90, 4:8] = 1
        write_nifti(label * np.float32(3), folder / "imagesTr" / f"{name}.nii.gz", np.diag([1.5, 1.5, 10, 1]))
        write_nifti(label, folder / "labelsTr" / f"{name}.nii.gz", np.diag([1.5, 1.5, 10, 1]))
    return folder


@each(SEGMENTATION)
def test_every_network_takes_slices(bundle, tmp_path, capsys):
    root, out = write_slices(tmp_path / "slices"), tmp_path / "mine.json"
    profile = adapt(str(root), bundle=bundle.name, out=str(out))
    assert json.loads(out.read_text()) == profile
    assert profile["spacing"] == [1.5, 1.5, 10]
    assert profile["patch_size"] == [144, 144, 12]
    strides = [profile.get("network_def#stem_pool", [1, 1, 1]), *profile["network_def#strides"]]
    assert next(step for step in strides if step != [1, 1, 1]) == [2, 2, 1]
    assert profile["network_def#kernel_size"][0] == [3, 3, 1]
    network = build(bundle, profile)
    assert [n % part for n, part in zip(profile["patch_size"], network.size_divisor, strict=True)] == [0, 0, 0]
    smaller = [2 * part * 4 for part in network.size_divisor]
    network.train()(torch.randn(2, 1, *smaller)).sum().backward()
    assert network.eval()(torch.zeros(1, 1, *smaller)).shape == (1, 2, *smaller)
    assert {key: profile[key] for key in POSITIONS.get(bundle.name, {})} == POSITIONS.get(bundle.name, {})
    if "gate_warm_up_epochs" in config(bundle):
        assert profile["gate_warm_up_epochs"] == round(profile["epochs"] / 7)
    folds = json.loads((tmp_path / "mine_folds.json").read_text())["folds"]
    assert folds == [["p1_ED", "p1_ES"], ["p2_ED"], ["p3_ED"], [], []]
    assert profile["folds_file"] == str(tmp_path / "mine_folds.json")
    assert "2 to train on, 2 to validate on; 3 patients by their names" in capsys.readouterr().out


def test_small_images_give_a_patch_that_covers_them(data, tmp_path):
    profile = adapt(str(data), bundle=ATTENTION_UNET, out=str(tmp_path / "mine.json"))
    assert profile["patch_size"] == [24, 28, 24]
    assert profile["foreground_ratio"] == 0.5
    assert not [key for key in profile if key.startswith("network_def")]
    assert not {"intensity", "label_values", "folds_file", "low_memory", "fold"} & set(profile)
    assert profile["largest_component"] is True
    assert profile["max_shape"] == [24, 28, 22]
    assert (profile["epochs"], profile["val_interval"]) == (500, 50)
    assert Path(profile["output_dir"]) == Path(profile["ckpt_dir"]) == tmp_path / "mine"


@pytest.mark.parametrize("plans", [False, True])
def test_no_file_of_the_user_is_written_over(data, tmp_path, capsys, plans):
    mine = data / "dataset.json"
    mine.write_text('{"labels": {"0": "background", "1": "a", "2": "b"}}')
    before = mine.read_bytes()
    source = ["--plans", str(mine)] if plans else [str(data), "--bundle", ATTENTION_UNET]
    assert main(["adapt", *source, "--out", str(mine)]) == 1
    assert "exists and is no profile of adapt, a flat file with a patch_size; give" in capsys.readouterr().err
    assert mine.read_bytes() == before
    out = tmp_path / "mine.json"
    assert main(["adapt", str(data), "--bundle", ATTENTION_UNET, "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["adapt", str(data), "--bundle", ATTENTION_UNET, "--out", str(out)]) == 0, "a profile may be made again"
    assert f"written: {out}, in place of an earlier profile\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["train", "inference"])
def test_no_config_of_a_bundle_is_written_over(data, tmp_path, capsys, name):
    config = tmp_path / f"{name}.json"
    shutil.copy(SEGMENTATION[0] / "configs" / config.name, config)
    before = config.read_bytes()
    assert main(["adapt", str(data), "--bundle", ATTENTION_UNET, "--out", str(config)]) == 1
    assert f"{config} exists and is no profile of adapt" in capsys.readouterr().err
    assert config.read_bytes() == before


def test_no_file_is_called_as_one_of_a_data_set(data, tmp_path, capsys):
    out = tmp_path / "splits_final.json"
    assert main(["adapt", str(data), "--bundle", ATTENTION_UNET, "--out", str(out)]) == 1
    assert "splits_final.json is a name that a data set has; use for example mine.json" in capsys.readouterr().err
    assert not out.exists()


def test_folds_of_the_user_stay(tmp_path, capsys):
    root, mine = write_slices(tmp_path / "slices"), tmp_path / "mine_folds.json"
    mine.write_text('{"folds": [["p1_ED"]]}')
    arguments = ["adapt", str(root), "--bundle", ATTENTION_UNET, "--out", str(tmp_path / "mine.json")]
    assert main(arguments) == 1
    assert "mine_folds.json exists and holds no folds of adapt" in capsys.readouterr().err
    assert mine.read_text() == '{"folds": [["p1_ED"]]}'
    assert not (tmp_path / "mine.json").exists()
    mine.unlink()
    assert main(arguments) == main(arguments) == 0


def test_arguments_that_do_not_go_together(data, tmp_path, capsys):
    out = ["--out", str(tmp_path / "mine.json")]
    assert main(["adapt", str(data), "--plans", "plans.json", *out]) == 1
    assert "leave one out" in capsys.readouterr().err
    assert main(["adapt", str(data), "--bundle", ATTENTION_UNET, "--dataset_json", "d.json", *out]) == 1
    assert "--dataset_json d.json goes with --plans" in capsys.readouterr().err


def test_check_reads_what_adapt_wrote(data, capsys):
    """Texts that MONAI's configs would evaluate are written as expressions."""
    strange = data.parent / "h #1"
    data.rename(strange)
    (strange / "labelsTr").rename(strange / "$l #2")
    out = strange.parent / "p.json"
    patterns = ["--images", "imagesTr/*", "--labels", "$l #2/*"]
    assert main(["adapt", str(strange), "--bundle", ATTENTION_UNET, "--out", str(out), *patterns]) == 0
    capsys.readouterr()
    assert main(["check", str(strange), "--profile", str(out)]) == 0
    assert capsys.readouterr().out.endswith("ready\n")


def test_results_do_not_go_into_the_data(data, tmp_path, capsys):
    """A folder mine/ and --out mine.json, as one would."""
    profile = adapt(str(data), bundle=ATTENTION_UNET, out=str(tmp_path / "data.json"))
    assert Path(profile["output_dir"]) == Path(profile["ckpt_dir"]) == tmp_path / "data_results"
    assert (
        f"train: python -m monai.bundle run --config_file {ROOT}/bundles/{ATTENTION_UNET}/" in capsys.readouterr().out
    )


def test_zeros_around_the_brain_are_left_out(data, tmp_path, capsys):
    for path in sorted((data / "imagesTr").iterdir()):
        change(path, lambda voxels: np.where(np.arange(22) < 11, 0, voxels))
    profile = adapt(str(data), bundle=ATTENTION_UNET, out=str(tmp_path / "mine.json"))
    assert profile["intensity"] == ["z_score_nonzero"]
    assert "mean and std of the voxels that are not zero; 50% of the voxels are" in capsys.readouterr().out


def test_classes_in_several_pieces_keep_them(data, tmp_path):
    change(data / "labelsTr" / "case_00.nii.gz", lambda label: np.where(np.arange(22) % 4, label, 0))
    assert "largest_component" not in adapt(str(data), bundle=ATTENTION_UNET, out=str(tmp_path / "mine.json"))


@pytest.mark.parametrize(("amp", "native"), [(True, True), (True, False), (False, True)])
def test_less_memory_makes_a_smaller_patch_that_fits(tmp_path, monkeypatch, capsys, amp, native):
    """Whatever the processor of the machine computes in; the plan says for what it was made."""
    monkeypatch.setattr("custom_networks.workflow.infer.inferers.has_bfloat16", lambda device: native)
    bundle = tmp_path / "bundle"
    shutil.copytree(ROOT / "bundles" / ATTENTION_UNET / "configs", bundle / "configs")
    (bundle / "configs" / "train.json").write_text(json.dumps({**config(bundle), "amp": amp}))
    root, memory = write_slices(tmp_path / "slices"), 400_000_000
    profile = adapt(str(root), bundle=str(bundle), out=str(tmp_path / "mine.json"), memory=str(memory))
    network, laid_over = build(bundle, profile), {**config(bundle), **profile}
    need = step_bytes(network, laid_over, profile["patch_size"], profile["batch_size"])
    assert 0.6 * memory < need <= memory
    assert np.prod(profile["patch_size"]) < 144 * 144 * 12
    assert profile["patch_size"][2] == 12
    precision, why = re.search(r"^precision +(\w+)  \((.*)\)$", capsys.readouterr().out, re.MULTILINE).groups()
    assert precision == ("bfloat16" if amp and native else "float32")
    assert ("amp is false" in why) is not amp
    with pytest.raises(ValueError, match=r"single patch of .* voxels, but --memory allows 40 MB; give more"):
        adapt(str(root), bundle=str(bundle), out=str(tmp_path / "mine.json"), memory="40MB")


def test_the_same_memory_holds_a_larger_patch_in_bfloat16(tmp_path, monkeypatch):
    root, voxels = write_slices(tmp_path / "slices"), []
    for native in (False, True):
        monkeypatch.setattr("custom_networks.workflow.infer.inferers.has_bfloat16", lambda device, own=native: own)
        profile = adapt(str(root), bundle=ATTENTION_UNET, out=str(tmp_path / "mine.json"), memory="400MB")
        voxels.append(np.prod(profile["patch_size"]) * profile["batch_size"])
    assert voxels[0] < voxels[1]


@pytest.mark.parametrize(("left", "rate"), [(2.0, 1.0), (1.0, 1.0), (0.55, 0.5), (0.0, 0.0)])
def test_the_memory_that_a_step_leaves_holds_a_share_of_the_cases(left, rate):
    shapes, draft = [[(100, 100, 100)] * 4, [(100, 100, 100)]], Draft({"in_channels": 1})
    choose_cache(shapes, int(left * 5 * 100**3 * 8), draft)
    assert draft.profile["cache_rate"] == rate


def run(bundle: Path, profile: Path, *names: str, **overrides: str | int) -> None:
    """Run configs with a profile as ``python -m monai.bundle run`` does."""
    monai.bundle.run(
        config_file=paths(bundle, names),
        bundle_root=str(bundle),
        logging_file=False,
        args_file=str(profile),
        **overrides,
    )


def test_the_profile_alone_trains_evaluates_and_infers(tmp_path, monkeypatch, caplog):
    """In a folder with blanks, ``#`` and other letters, with label values and CT, from another working directory."""
    data = write_dataset(tmp_path / "my dätä #1 $ @x %y" / "set", cases=3)
    for path in (data / "labelsTr").iterdir():
        change(path, lambda label: np.array([0, 300, 7], np.int16)[label])
    for path in (data / "imagesTr").iterdir():
        change(path, lambda image: image * 100)
    names = {"0": "background", "7": "#7 @large", "300": "$small"}
    entries = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**entries, "modality": {"0": "CT"}, "labels": names}))
    monkeypatch.chdir(data.parent)
    assert main(["adapt", "set", "--bundle", ATTENTION_UNET, "--out", "mine #2.json"]) == 0
    bundle, profile = ROOT / "bundles" / ATTENTION_UNET, data.parent / "mine #2.json"
    assert json.loads(profile.read_text())["label_values"] == [0, 7, 300]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shipped = (bundle / "models" / "model.pt").stat().st_mtime_ns
    run(bundle, profile, "train", epochs=1, val_interval=1)
    results = data.parent / "mine #2"
    assert (results / "model.pt").is_file()
    assert (bundle / "models" / "model.pt").stat().st_mtime_ns == shipped
    run(bundle, profile, "train", "evaluate")
    assert list(json.loads((results / "metrics.json").read_text())["classes"]) == ["#7 @large", "$small"]
    image, _ = volume(9, shape=(60, 20, 20))
    write_nifti(image * 100, tmp_path / "new" / "image.nii.gz")
    caplog.clear()
    run(bundle, profile, "inference", dataset_dir=str(tmp_path / "new"), output_dir=str(tmp_path / "masks"))
    assert "this network expects an image like those of set" in caplog.text
    mask = nib.load(tmp_path / "masks" / "image_seg.nii.gz")
    assert set(np.unique(mask.dataobj)) <= {0, 7, 300}
    assert mask.get_data_dtype() == np.int16
    assert not list((tmp_path / "elsewhere").iterdir())


def test_regions_of_nnunet_train_evaluate_and_infer(data, tmp_path, capsys):
    entries = json.loads((data / "dataset.json").read_text())
    labels = {"background": 0, "inner": [2], "outer": [1, 2]}
    (data / "dataset.json").write_text(json.dumps({**entries, "labels": labels, "regions_class_order": [1, 2]}))
    change(data / "labelsTr" / "case_00.nii.gz", lambda label: np.minimum(label, 1))
    out = tmp_path / "mine.json"
    profile = adapt(str(data), bundle=ATTENTION_UNET, out=str(out))
    assert profile["label_names"] == ["background", "outer", "inner"]
    assert profile["regions"] == [[1, 2], [2]]
    assert "label_values" not in profile
    printed = capsys.readouterr().out
    assert "regions, outer ones first; one output and one sigmoid each" in printed
    assert "not in all cases  inner in 6  (of 7)" in printed
    check(str(data), profile=str(out))
    bundle = ROOT / "bundles" / ATTENTION_UNET
    run(bundle, out, "train", epochs=1, val_interval=1)
    assert torch.load(tmp_path / "mine" / "model.pt", weights_only=True)["head.weight"].shape[0] == 2
    run(bundle, out, "train", "evaluate")
    assert list(json.loads((tmp_path / "mine" / "metrics.json").read_text())["classes"]) == ["outer", "inner"]
    run(bundle, out, "inference", dataset_dir=str(data / "imagesTr"), output_dir=str(tmp_path / "masks"))
    assert len(list((tmp_path / "masks").iterdir())) >= 7


def test_check_takes_the_profile(data, tmp_path, capsys):
    for path in (data / "labelsTr").iterdir():
        change(path, lambda label: np.array([0, 300, 7], np.int16)[label])
    profile = tmp_path / "mine.json"
    adapt(str(data), bundle=ATTENTION_UNET, out=str(profile))
    check(str(data), profile=str(profile))
    assert "7 cases: ready" in capsys.readouterr().out


def test_patches_with_classes_from_a_file(tmp_path, capsys):
    root = write_patches(tmp_path / "patches", label_names=("small", "large", "huge"), spacing=(1, 1, 2))
    out = tmp_path / "mine.json"
    profile = adapt(str(root), bundle=CLASSIFIER, out=str(out))
    assert profile["label_names"] == ["huge", "large", "small"]
    assert profile["patch_size"] == [19, 20, 18]
    assert profile["network_def#kernel_size"] == [3, 3]
    low, high = profile["intensity_range"]
    assert -20 < low < high < 320
    assert profile["spacing"] == [1, 1, 2]
    assert "evaluation_split" not in profile
    assert "the smallest has 19 x 20 x 18 voxels, the bundle's kernels need 20 x 20 x 16" in capsys.readouterr().out
    (bundle,) = CLASSIFICATION
    run(bundle, out, "train", epochs=1, val_interval=1)
    run(bundle, out, "train", "evaluate")
    run(bundle, out, "inference", dataset_dir=str(root / "imagesTr"), output_dir=str(tmp_path / "classes"))
    assert (tmp_path / "classes" / "predictions.csv").is_file()


def test_the_shipped_order_of_classes_and_another_split(tmp_path):
    root = write_patches(tmp_path / "patches", label_names=("normal", "hyperplasia"), shape=(24, 24, 24))
    file = root / "labels.csv"
    file.write_text(file.read_text().replace("validation", "holdout"))
    profile = adapt(str(root), bundle=CLASSIFIER, out=str(tmp_path / "mine.json"))
    assert profile["label_names"] == ["normal", "hyperplasia"]
    assert profile["evaluation_split"] == "holdout"
    assert "network_def#kernel_size" not in profile


def test_texts_that_configs_would_evaluate():
    entry = {"a": ["$b", "@c", "%d", "e#f@g'"], "n": 1, "plain": "x@y $z", "none": None}
    parser = monai.bundle.ConfigParser(as_config_value(entry))
    assert {key: parser.get_parsed_content(key) for key in entry} == entry


def refusals(data: Path) -> dict[str, tuple[list[str], str]]:
    bundle = ["--bundle", ATTENTION_UNET]
    return {
        "folder": ([str(data / "none"), *bundle], "there is no data set folder"),
        "nothing": (bundle, "give a data set folder and --bundle"),
        "bundle": ([str(data), "--bundle", "none"], "there is no bundle none; use one of adrenal"),
        "no bundle": ([str(data)], "give --bundle: one of adrenal"),
        "memory": ([str(data), *bundle, "--memory", "much"], "memory must be a size such as 8GB"),
        "one glob": ([str(data), *bundle, "--images", "x/*"], "x/*; set dataset_dir or image_glob"),
        "no match": (
            [str(data), *bundle, "--images", "x/*", "--labels", "y/*"],
            "no NIfTI, NRRD or MetaImage file matches",
        ),
        "absolute pattern": (
            [str(data), *bundle, "--images", "/data/*", "--labels", "y/*"],
            "image_glob must be null or a pattern relative to dataset_dir, got '/data/*'; write for example",
        ),
        "csv": ([str(data), "--bundle", CLASSIFIER], "labels.csv; write a CSV file"),
        "csv globs": (
            [str(data), "--bundle", CLASSIFIER, "--images", "x/*", "--labels", "y/*"],
            "finds its images in labels.csv",
        ),
        "one case": (
            [str(data), *bundle, "--images", "imagesTr/*_00.nii.gz", "--labels", "labelsTr/*_00.nii.gz"],
            "one case",
        ),
    }


@pytest.mark.parametrize("what", refusals(Path("data")))
def test_refused_in_one_sentence_and_nothing_is_written(data, tmp_path, capsys, what):
    arguments, sentence = refusals(data)[what]
    out = tmp_path / "out" / "mine.json"
    assert main(["adapt", *arguments, "--out", str(out)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error
    assert not out.parent.exists()


def test_the_profile_must_be_a_json_file(data, tmp_path, capsys):
    for out in (tmp_path / "mine.yaml", tmp_path):
        assert main(["adapt", str(data), "--bundle", ATTENTION_UNET, "--out", str(out)]) == 1
        assert "--out must be a JSON file" in capsys.readouterr().err


def test_two_cases_leave_one_to_train_on(data, tmp_path, capsys):
    entries = json.loads((data / "dataset.json").read_text())["training"][:2]
    (data / "dataset.json").write_text(json.dumps({"training": entries}))
    adapt(str(data), bundle=ATTENTION_UNET, out=str(tmp_path / "mine.json"))
    assert "1 to train on, 1 to validate on" in capsys.readouterr().out


def test_a_fold_that_can_be_trained_on(tmp_path, capsys):
    """Cases that the bundle's folds know, all but one of them in a fold that is not the first."""
    folds = json.loads((ROOT / "bundles" / ATTENTION_UNET / "configs" / "folds.json").read_text())["folds"]
    for name in [*folds[3][:2], folds[4][0]]:
        image, label = volume(len(name))
        write_nifti(image, tmp_path / "data" / "imagesTr" / f"{name}.nii.gz")
        write_nifti(label, tmp_path / "data" / "labelsTr" / f"{name}.nii.gz")
    profile = adapt(str(tmp_path / "data"), bundle=ATTENTION_UNET, out=str(tmp_path / "mine.json"))
    assert profile["fold"] == 3
    assert "1 to train on, 2 to validate on; folds of hippocampus" in capsys.readouterr().out

"""The command: the bundle's own masks, done once, each image by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from custom_networks import __main__ as users
from custom_networks.predict import commands, segmenter
from tests.predict.conftest import BUNDLE
from tests.synthetic import CLASSIFICATION, SEGMENTATION, config, each, read_rows, run, volume, write_nifti

MASKS = ["first_seg.nii.gz", "more/third_seg.nii.gz", "second_seg.nii.gz"]


def logits_of(bundle: Path, image: Path, **knobs: object) -> np.ndarray:
    """Return what the network says of an image at its own spacing, without any workflow."""
    from custom_networks.bundle_folder import read_config

    parser = read_config(bundle, "inference")
    for name, value in knobs.items():
        parser[name] = value
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    item = parser.get_parsed_content("preprocessing")({"image": str(image)})["image"]
    with torch.no_grad():
        return parser.get_parsed_content("inferer")(item[None], network)[0].as_tensor().double().numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(0))
    return powers / powers.sum(0)


@each(SEGMENTATION[:1])
def test_masks_are_those_of_inference_json(bundle, images, predict, tmp_path):
    code, lines, _ = predict(images, bundle=bundle)
    assert code == 0
    assert [line["status"] for line in lines[:-1]] == ["written"] * 3
    run(bundle, "inference", {"dataset_dir": str(images), "output_dir": str(tmp_path / "workflow")})
    for name in MASKS:
        assert (tmp_path / "result" / name).read_bytes() == (tmp_path / "workflow" / name).read_bytes()


def test_records_hold_what_was_measured_and_with_what(images, predict, tmp_path):
    _, lines, _ = predict(images)
    assert [line["mask"] for line in lines[:-1]] == MASKS
    record = json.loads((tmp_path / "result" / "more" / "third_seg.json").read_text())
    mask = np.asarray(nib.load(tmp_path / "result" / record["mask"]).dataobj)
    names = config(BUNDLE)["label_names"][1:]
    assert [(s["name"], s["voxels"]) for s in record["structures"]] == [
        (name, int((mask == value).sum())) for value, name in enumerate(names, start=1)
    ]
    assert record["grid"]["affine"] == nib.load(images / "more" / "third.nii").affine.tolist()
    assert record["bundles"][0]["version"] == config(BUNDLE, "metadata")["version"]
    rows = read_rows(tmp_path / "result" / "volumes.csv")
    assert [(row["case"], row["structure"]) for row in rows] == [
        (case, name) for case in ("first", "more/third", "second") for name in names
    ]
    document = json.loads((tmp_path / "result" / "volumes.json").read_text())
    assert [entry["case"] for entry in document["images"]] == ["first", "more/third", "second"]
    assert lines[-1] == {
        "event": "end", "result": str(tmp_path / "result"), "written": 3, "skipped": 0, "failed": []
    }  # fmt: skip


def test_what_is_there_is_done_again_only_when_something_has_changed(images, predict, tmp_path):
    def statuses(**more):
        code, lines, _ = predict(images, **more)
        assert code == 0
        return [line["status"] for line in sorted(lines[:-1], key=lambda line: line["case"])]

    assert statuses() == ["written"] * 3
    assert statuses() == ["skipped"] * 3
    write_nifti(volume(7)[0], images / "first.nii.gz")
    assert statuses() == ["written", "skipped", "skipped"]
    (tmp_path / "result" / MASKS[2]).unlink()
    assert statuses() == ["skipped", "skipped", "written"]
    assert statuses(overwrite=True) == ["written"] * 3
    profile = tmp_path / "mine.json"
    profile.write_text('{"largest_component": true}')
    assert statuses(profile=profile) == ["written"] * 3
    weights = tmp_path / "other" / "model.pt"
    weights.parent.mkdir()
    state = torch.load(BUNDLE / "models" / "model.pt", weights_only=True)
    torch.save({name: value * 1.01 for name, value in state.items()}, weights)
    assert statuses(folds=weights.parent) == ["written"] * 3
    assert statuses(folds=weights) == ["skipped"] * 3


def test_a_mask_that_somebody_edited_is_kept(images, predict, tmp_path):
    predict(images)
    edited = tmp_path / "result" / MASKS[0]
    image = nib.load(edited)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0] = 1 - voxels[0, 0, 0]
    nib.save(nib.Nifti1Image(voxels, image.affine, image.header), edited)
    before = edited.read_bytes()
    code, lines, error = predict(images, overwrite=True)
    assert code == 1
    assert lines[-1]["failed"] == [{"case": "first", "error": lines[0]["error"]}]
    assert "has been edited since it was written" in lines[0]["error"]
    assert edited.read_bytes() == before
    assert error == "error: 1 of 3 images without a good result\n"


def test_images_that_fail_end_no_other(images, predict, tmp_path):
    (images / "broken.nii.gz").write_bytes(b"nothing")
    write_nifti(np.full((20, 20, 20), np.nan, np.float32), images / "more" / "nan.nii.gz")
    code, lines, error = predict(images, tmp_path / "absent.nii.gz")
    assert code == 1
    failed = {line["case"]: line["error"] for line in lines[:-1] if line["status"] == "failed"}
    assert set(failed) == {str(tmp_path / "absent.nii.gz"), "broken", "more/nan"}
    assert "there is no file or folder" in failed[str(tmp_path / "absent.nii.gz")]
    assert "NaN or infinite" in failed["more/nan"]
    assert all("Traceback" not in why and "\n" not in why for why in failed.values())
    assert lines[-1]["written"] == 3
    assert error == "error: 3 of 6 images without a good result\n"
    assert not list((tmp_path / "result").rglob("*nan*"))
    assert len(read_rows(tmp_path / "result" / "volumes.csv")) == 6


def test_a_network_that_fails_on_one_image_goes_on_with_the_next(images, predict, monkeypatch, tmp_path):
    original = segmenter.Segmenter.forward

    def forward(self, read):
        if read.shape == (9, 9, 9):
            self.evaluator.inferer = "none"
        try:
            return original(self, read)
        finally:
            self.evaluator.inferer = self.parser.get_parsed_content("inferer")

    monkeypatch.setattr(segmenter.Segmenter, "forward", forward)
    write_nifti(volume(3, shape=(9, 9, 9))[0], images / "a.nii.gz")
    code, lines, _ = predict(images)
    assert code == 1
    assert [line["status"] for line in lines[:-1]] == ["failed", *["written"] * 3]
    plain = tmp_path / "plain"
    run(BUNDLE, "inference", {"dataset_dir": str(images), "output_dir": str(plain)})
    assert all((tmp_path / "result" / name).read_bytes() == (plain / name).read_bytes() for name in MASKS)


def test_an_image_that_is_not_there_is_said_before_monai_is_imported(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands, "import_monai", lambda: pytest.fail("imported MONAI first"))
    assert users.main(["predict", str(tmp_path / "no.nii"), "--out", str(tmp_path / "r"), "--bundle", str(BUNDLE)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"error: there is no file or folder {tmp_path / 'no.nii'}; correct the path\n"
    assert not (tmp_path / "r").exists()


def test_text_for_people(images, tmp_path, capsys):
    out = tmp_path / "r"
    assert users.main(["predict", str(images / "first.nii.gz"), "--out", str(out), "--bundle", str(BUNDLE)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"[1/1] first: {out / 'first_seg.nii.gz'} (read ")
    assert said[-1] == f"1 segmented; volumes of all in {out / 'volumes.csv'}"


def test_probabilities_are_the_softmax_on_the_grid_of_the_file(images, predict, tmp_path):
    image = images / "first.nii.gz"
    predict(image, probabilities=True)
    found = np.load(tmp_path / "result" / "first_probabilities.npz")
    assert found["probabilities"].dtype == np.float16
    assert found["label_names"].tolist() == config(BUNDLE)["label_names"]
    np.testing.assert_array_equal(found["affine"], nib.load(image).affine)
    np.testing.assert_allclose(found["probabilities"], softmax(logits_of(BUNDLE, image)), atol=1e-3)
    mask = np.asarray(nib.load(tmp_path / "result" / "first_seg.nii.gz").dataobj)
    agree = found["probabilities"].argmax(0) == mask
    assert agree.mean() > 0.999  # float16 makes ties


def test_an_ensemble_is_the_mean_of_the_probabilities(images, predict, tmp_path):
    image = images / "first.nii.gz"
    members = SEGMENTATION[:2]
    code, lines, _ = predict(image, bundle=[*members], probabilities=True)
    assert code == 0
    assert [made["name"] for made in lines[0]["bundles"]] == [member.name for member in members]
    mean = np.mean([softmax(logits_of(member, image)) for member in members], axis=0)
    found = np.load(tmp_path / "result" / "first_probabilities.npz")["probabilities"]
    np.testing.assert_allclose(found, mean, atol=1e-3)
    sure = np.sort(mean, axis=0)[-1] - np.sort(mean, axis=0)[-2] > 1e-3
    mask = np.asarray(nib.load(tmp_path / "result" / "first_seg.nii.gz").dataobj)
    np.testing.assert_array_equal(mask[sure], mean.argmax(0)[sure])
    singly = softmax(logits_of(members[0], image)).argmax(0)
    assert (mask != singly).any()


def test_networks_that_are_loaded_one_after_another_give_the_same(images, predict, monkeypatch, tmp_path):
    members = [*SEGMENTATION[:2]]
    predict(images / "first.nii.gz", bundle=members, out="kept")
    original = segmenter.Segmenter.__init__

    def let_go(self, networks, overrides, keep=True, way="crop"):
        original(self, networks, overrides, keep=False, way=way)

    monkeypatch.setattr(segmenter.Segmenter, "__init__", let_go)
    predict(images / "first.nii.gz", bundle=members, out="again")
    assert (tmp_path / "kept" / MASKS[0]).read_bytes() == (tmp_path / "again" / MASKS[0]).read_bytes()


def test_low_memory_is_taken_where_the_bill_is_too_high(images, predict, tmp_path, caplog):
    code, _, _ = predict(images / "first.nii.gz", memory="1MB")
    assert code == 0
    assert "is segmented with low_memory" in caplog.text
    run(
        BUNDLE,
        "inference",
        {"dataset_dir": str(images / "first.nii.gz"), "output_dir": str(tmp_path / "low"), "low_memory": True},
    )
    assert (tmp_path / "result" / MASKS[0]).read_bytes() == (tmp_path / "low" / MASKS[0]).read_bytes()


def test_tta_takes_the_flips_of_the_profile(images, predict, tmp_path):
    image = images / "first.nii.gz"
    code, _, error = predict(image, tta=True)
    assert code == 1
    assert "was trained without flips" in error
    profile = tmp_path / "mine.json"
    profile.write_text('{"mirror_axes": [0, 2]}')
    assert predict(image, tta=True, profile=profile)[0] == 0
    run(BUNDLE, "inference", {"dataset_dir": str(image), "output_dir": str(tmp_path / "f"), "mirror_axes": [0, 2]})
    assert (tmp_path / "result" / MASKS[0]).read_bytes() == (tmp_path / "f" / MASKS[0]).read_bytes()


def test_shards_do_each_image_once_and_a_second_call_the_rest(images, predict, tmp_path):
    _, first, _ = predict(images, shard="1/2")
    assert [line["case"] for line in first[:-1]] == ["first", "second"]
    code, lines, _ = predict(images)  # the other process has died
    assert code == 0
    assert {line["case"]: line["status"] for line in lines[:-1]} == {
        "first": "skipped", "more/third": "written", "second": "skipped"
    }  # fmt: skip
    assert len(read_rows(tmp_path / "result" / "volumes.csv")) == 6


def test_a_copy_of_a_bundle_with_other_weights_than_packed_is_refused(images, predict, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(BUNDLE, copy)
    weights = copy / "models" / "model.pt"
    (copy / "SHA256SUMS").write_text(f"{'0' * 64}  models/model.pt\n")
    code, _, error = predict(images, bundle=copy)
    assert code == 1
    assert f"{weights} are not the weights that copy was packed with" in error
    (copy / "models" / "training_cases.json").write_text("{}")  # of a training since
    assert predict(images / "first.nii.gz", bundle=copy)[0] == 0


REFUSED = [
    ({"bundle": CLASSIFICATION[0]}, "classifies and makes no masks"),
    ({"bundle": [SEGMENTATION[0], SEGMENTATION[0]]}, "is given twice; an ensemble counts each network once"),
    ({"bundle": [*SEGMENTATION[:2]], "folds": "x.pt"}, "--folds are weights of one bundle, but 2 are given"),
    ({"folds": "nowhere.pt"}, "there are no weights nowhere.pt"),
    ({"engine": "fast"}, "--engine must be one of torch, openvino, auto, got fast"),
    ({"output_format": "mha"}, "--output-format must be one of nifti, nrrd, dicom-seg, got mha"),
    ({"jobs": "²"}, "--jobs must be a number from 1, got ²"),
    ({"device": "meta"}, "--device meta cannot be used"),
    ({"jobs": "0"}, "--jobs must be a number from 1, got 0"),
    ({"memory": "much"}, "memory must be a size such as 8GB"),
    ({"memory": "8"}, "--memory needs a unit, got 8; write for example 8GB"),
    ({"shard": "3/2"}, "--shard must be i/n"),
    ({"device": "cuda:99"}, "--device cuda:99 cannot be used"),
    ({"profile": "none"}, "has no profile none"),
    ({"bundle": [*SEGMENTATION[:2]], "memory": "1MB"}, "an ensemble needs the probabilities of all 2 networks"),
    ({"probabilities": True, "memory": "1MB"}, "low_memory makes no probabilities"),
    ({"head": True, "crop": True}, "--crop and --head exclude each other"),
    ({"start_points": "Left=1,2,3", "crop": True}, "--crop and --start-points exclude each other"),
    ({"start_points": "Left=1,2"}, "--start-points must name points of three numbers in mm, got 'Left=1,2'; write"),
    ({"start_points": "nowhere.json"}, "--start-points must name points of three numbers in mm, got 'nowhere.json'"),
    ({"head": True}, "which is no whole head"),
    ({"head": True, "probabilities": True}, "the probabilities of a head are not kept"),
    ({"head": True, "memory": "1kB"}, "and would take"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED, ids=[said[:30] for _, said in REFUSED])
def test_arguments_that_do_not_fit_are_one_sentence(options, said, images, predict, tmp_path):
    code, _, error = predict(images / "first.nii.gz", **options)
    assert code == 1
    assert said in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("result/**/*.nii.gz"))


def test_the_images_of_an_nnunet_data_set_keep_its_names(predict, tmp_path):
    raw = tmp_path / "Dataset001_Mine"
    for number in range(2):
        write_nifti(volume(number)[0], raw / "imagesTs" / f"case_{number}_0000.nii.gz")
        write_nifti(volume(number)[1], raw / "labelsTr" / f"case_{number}.nii.gz")
    description = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "Anterior": 1}, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps({**description, "numTraining": 2}))
    code, lines, _ = predict(raw)
    assert code == 0
    assert [line["mask"] for line in lines[:-1]] == ["case_0.nii.gz", "case_1.nii.gz"]
    run(BUNDLE, "inference", {"dataset_dir": str(raw), "output_dir": str(tmp_path / "plain")})
    for name in ("case_0.nii.gz", "case_1.nii.gz"):
        assert (tmp_path / "result" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "result").glob("*.json")) == [
        "case_0_seg.json", "case_1_seg.json", "volumes.json"
    ]  # fmt: skip

"""What careless and hostile users do: nothing is lost, nothing is wrong in silence, and every end is a sentence."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile

import nibabel as nib
import numpy as np
import pytest

from custom_networks import __main__ as users
from custom_networks.workflow.infer import masks
from tests.predict.conftest import BUNDLE
from tests.synthetic import SEGMENTATION, run, volume, write_nifti
from tests.workflow.data.formats import dicom_writer


def statuses(lines):
    return {line["case"]: line["status"] for line in lines if line["event"] == "image"}


def written(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def edited_bundle(folder, change):
    """Return a copy of the bundle whose inference.json has been changed."""
    shutil.copytree(BUNDLE, folder)
    file = folder / "configs" / "inference.json"
    config = json.loads(file.read_text())
    change(config)
    written(file, config)
    return folder


PROFILES = [
    ({"largest_componen": True}, "sets largest_componen, but nothing in the configs of"),
    ({"largest_component": "false"}, "sets largest_component to the text 'false', which would count as true"),
    ({"load_pretrain": False}, "so that its network would have random weights"),
    ({"low_memory": True}, "low_memory makes no probabilities"),
    ({"preprocessing#transforms#0": {"_target_": "LoadImaged", "keys": "image"}}, "has no VolumeReader that reads"),
    ({"postprocessing#transforms#1": {"_target_": "Identityd", "keys": "pred"}}, "has no Invertd that puts masks on"),
    ([1], "is not a JSON object"),
    ("{", "is not valid JSON"),
]


@pytest.mark.parametrize(("profile", "said"), PROFILES, ids=[said[:30] for _, said in PROFILES])
def test_profiles_that_would_do_something_else_than_they_say(profile, said, images, predict, tmp_path):
    code, _, error = predict(
        images / "first.nii.gz", profile=written(tmp_path / "mine.json", profile), probabilities=True
    )
    assert code == 1
    assert said in error
    assert error.count("\n") == 1
    assert "traceback" not in error
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("name", ["max_shape", "engine", "series", "label_names", "ckpt_path", "initialize"])
def test_a_config_without_what_is_read_is_named(name, images, predict, tmp_path):
    bundle = edited_bundle(tmp_path / "older", lambda config: config.pop(name))
    code, _, error = predict(images, bundle=bundle)
    assert code == 1
    assert f"the configs/inference.json of older has no {name}, which predict needs; run it with" in error


def test_what_makes_no_label_map_makes_no_mask(images, predict, tmp_path):
    profile = written(tmp_path / "p.json", {"postprocessing#transforms#4": {"_target_": "Identityd", "keys": "pred"}})
    code, lines, _ = predict(images / "first.nii.gz", profile=profile)
    assert code == 1
    assert lines[0]["error"].startswith("a mask has one channel, got 3 for")
    assert not list((tmp_path / "result").rglob("*.nii.gz"))


def test_flips_that_one_network_was_not_trained_with(images, predict, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(SEGMENTATION[1], other)
    train = json.loads((other / "configs" / "train.json").read_text())
    written(other / "configs" / "train.json", {**train, "mirror_axes": [0]})
    code, _, error = predict(images, bundle=[other, BUNDLE], tta=True)
    assert code == 1
    assert f"{BUNDLE.name} was trained without flips" in error


def test_a_mask_that_another_network_has_written_is_not_taken_for_ones_own(images, predict, tmp_path):
    result = tmp_path / "result"
    predict(images)
    before = (result / "first_seg.nii.gz").read_bytes()
    run(SEGMENTATION[1], "inference", {"dataset_dir": str(images / "first.nii.gz"), "output_dir": str(result)})
    assert (result / "first_seg.nii.gz").read_bytes() != before
    code, lines, _ = predict(images)
    assert code == 0
    assert statuses(lines) == {"first": "written", "more/third": "skipped", "second": "skipped"}
    assert (result / "first_seg.nii.gz").read_bytes() == before


def test_the_volumes_of_an_edited_mask_are_not_called_up_to_date(images, predict, tmp_path):
    predict(images)
    mask = tmp_path / "result" / "first_seg.nii.gz"
    image = nib.load(mask)
    nib.save(nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine, image.header), mask)
    code, lines, _ = predict(images)
    assert code == 1
    assert statuses(lines) == {"first": "failed", "more/third": "skipped", "second": "skipped"}
    assert "has been edited since it was written" in lines[-1]["failed"][0]["error"]


def test_another_network_in_the_folder_is_said(images, predict, caplog):
    predict(images)
    predict(images / "first.nii.gz", bundle=SEGMENTATION[1])
    assert "2 of the 3 images of" in caplog.text
    assert "were segmented by other networks than this" in caplog.text


def test_what_little_memory_has_made_is_done_again_with_more(images, predict):
    low = predict(images / "first.nii.gz", memory="1MB")[1]
    code, lines, _ = predict(images / "first.nii.gz")
    assert (code, statuses(lines)) == (0, {"first": "written"})
    assert (low[0]["low_memory"], lines[0]["low_memory"]) == (True, False)


@pytest.mark.parametrize("change", [{"warnings": 3}, {"structures": [{}]}, {"checksums": 5}, {"case": "other"}])
def test_a_record_that_somebody_edited_is_made_again(change, images, predict, tmp_path):
    predict(images)
    file = tmp_path / "result" / "first_seg.json"
    record = json.loads(file.read_text())
    written(file, {**record, **change})
    code, lines, _ = predict(images)
    assert (code, statuses(lines)["first"]) == (0, "written")
    assert json.loads(file.read_text())["structures"] == record["structures"]


def test_files_of_the_user_are_kept(images, predict, tmp_path):
    mine = written(tmp_path / "result" / "first_seg.json", {"mine": 1})
    code, lines, _ = predict(images)
    assert code == 1
    assert statuses(lines) == {"first": "failed", "more/third": "written", "second": "written"}
    assert f"{mine} exists and was not written by this program" in lines[-1]["failed"][0]["error"]
    assert json.loads(mine.read_text()) == {"mine": 1}
    assert not (tmp_path / "result" / "first_seg.nii.gz").exists()
    table = written(tmp_path / "other" / "volumes.csv", "mine\n")
    code, _, error = predict(images, out="other")
    assert code == 1
    assert f"{table} exists and was not written by this program" in error
    assert list(table.parent.iterdir()) == [table]


def test_tables_and_page_that_cannot_be_written_hide_no_image(images, predict, tmp_path):
    written(tmp_path / "result" / "x_seg.json", {"mine": 1})
    code, lines, error = predict(images, report=True)
    assert code == 1
    assert (lines[-1]["event"], lines[-1]["written"]) == ("end", 3)
    assert lines[-1]["failed"] == [{"case": None, "error": error.removeprefix("error: ").strip()}]
    assert "volumes.csv is not written" in error
    assert "x_seg.json is no record of a segmented image" in error
    (tmp_path / "other" / "report.html").mkdir(parents=True)
    code, lines, error = predict(images, report=True, out="other")
    assert (code, lines[-1]["written"]) == (1, 3)
    assert error.startswith("error: report.html is not written: ")


def test_a_full_disk_is_called_so_for_every_image(images, predict, monkeypatch, tmp_path):
    def full(written, file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(masks.nib, "save", full)
    code, lines, _ = predict(images)
    assert code == 1
    assert [line["error"] for line in lines[:-1]] == [
        f"{tmp_path / 'result' / name}_seg.nii.gz: no space left on device; free some, or write to another place"
        for name in ("first", "more/third", "second")
    ]


def test_names_that_are_not_utf_8(images, predict, tmp_path):
    os.link(images / "first.nii.gz", os.fsencode(images) + b"/bad\xff.nii.gz")
    code, lines, _ = predict(images)
    assert code == 1
    assert lines[-1]["failed"][0]["error"] == "the name of the image or of a folder above it is not UTF-8; rename it"
    assert lines[-1]["written"] == 3
    assert sorted(path.name for path in (tmp_path / "result").glob("*.nii.gz")) == [
        "first_seg.nii.gz",
        "second_seg.nii.gz",
    ]


def test_json_is_ascii_whatever_a_case_is_called(images, capsys, tmp_path):
    (images / "first.nii.gz").rename(images / "ünï\nx.nii.gz")
    users.main(["predict", str(images), "--bundle", str(BUNDLE), "--out", str(tmp_path / "r"), "--json"])
    said = capsys.readouterr().out
    assert said.isascii()
    assert "ünï\nx" in [json.loads(line).get("case") for line in said.splitlines()]


def test_a_file_that_begins_with_a_dash(images, tmp_path, monkeypatch, capsys):
    (images / "first.nii.gz").rename(images / "-first.nii.gz")
    monkeypatch.chdir(images)
    assert users.main(["predict", "--bundle", str(BUNDLE), "--out", str(tmp_path / "r"), "--", "-first.nii.gz"]) == 0
    assert (tmp_path / "r" / "-first_seg.nii.gz").is_file()


def test_an_empty_variable_is_not_the_working_directory(predict):
    code, lines, error = predict("")
    assert (code, lines) == (1, [])
    assert "an input or --out is empty" in error


def test_a_share_without_images_says_so(images, tmp_path, capsys):
    arguments = ["--bundle", str(BUNDLE), "--out", str(tmp_path / "r"), "--shard", "9/9"]
    assert users.main(["predict", str(images), *arguments]) == 0
    assert capsys.readouterr().out == "no image is in this share; give fewer shards than images\n"


def test_files_that_are_left_out_of_a_folder_are_said(images, predict, caplog):
    (images / "scan.mgz").write_bytes(b"x")
    assert predict(images)[0] == 0
    assert f"1 files of other formats are left out, such as {images / 'scan.mgz'}" in caplog.text


def test_an_image_in_a_zip_is_called_by_the_zip(images, predict, tmp_path):
    (images / "broken.nii.gz").write_bytes((images / "first.nii.gz").read_bytes()[:3000])
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        for name in ("broken.nii.gz", "first.nii.gz"):
            archive.write(images / name, name)
    code, lines, _ = predict(tmp_path / "scans.zip")
    assert code == 1
    assert lines[-1]["failed"][0]["error"].startswith(f"{tmp_path / 'scans.zip'}/broken.nii.gz is truncated")


def test_a_folder_inside_that_of_a_series(predict, tmp_path):
    pytest.importorskip("pydicom")
    folder = tmp_path / "study" / "T1"
    voxels = (volume(0)[0] * 100).astype(np.int16)
    dicom_writer.write(folder, dicom_writer.slices(voxels, series="1.1"), "{}.dcm")
    (folder / "notes").mkdir()
    written(folder / "notes" / "x.txt", "x")
    assert statuses(predict(tmp_path / "study")[1]) == {"T1": "written"}
    assert statuses(predict(tmp_path / "study")[1]) == {"T1": "skipped"}


def test_two_axes_that_differ_are_no_wrong_volume(predict, tmp_path):
    affine = np.array([[0.9, 0.2, 0.1, 3], [-0.2, -1.1, 0.3, 4], [0.1, 0.1, 2.0, 5], [0, 0, 0, 1]])
    write_nifti(volume(0)[0], tmp_path / "oblique.nii.gz", affine)
    _, lines, _ = predict(tmp_path / "oblique.nii.gz")
    mask = nib.load(tmp_path / "result" / "oblique_seg.nii.gz")
    voxels = np.asarray(mask.dataobj)
    for value, structure in enumerate(lines[0]["structures"], start=1):
        assert structure["volume_ml"] == pytest.approx(
            (voxels == value).sum() * abs(np.linalg.det(mask.affine[:3, :3])) / 1000
        )


def test_voxels_that_lie_beside_their_header_are_noticed(predict, tmp_path, caplog):
    def write(number):
        voxels = volume(number)[0]
        (folder / "a.raw").write_bytes(voxels.astype("<f4").tobytes(order="F"))
        (folder / "b.dat").write_bytes(voxels.astype("<f4").tobytes(order="F"))
        sizes = " ".join(map(str, voxels.shape))
        written(
            folder / "a.mhd",
            f"NDims = 3\nDimSize = {sizes}\nElementType = MET_FLOAT\nElementSpacing = 1 1 1\nOffset = 0 0 0\n"
            "TransformMatrix = 1 0 0 0 1 0 0 0 1\nBinaryData = True\nElementDataFile = a.raw\n",
        )
        written(
            folder / "b.nrrd",
            f"NRRD0004\ntype: float\ndimension: 3\nspace: LPS\nsizes: {sizes}\n"
            "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nendian: little\n"
            "encoding: raw\ndata file: b.dat\n",
        )

    folder = tmp_path / "images"
    folder.mkdir()
    write(0)
    assert statuses(predict(folder)[1]) == {"a": "written", "b": "written"}
    assert statuses(predict(folder)[1]) == {"a": "skipped", "b": "skipped"}
    assert "left out" not in caplog.text
    write(1)
    assert statuses(predict(folder)[1]) == {"a": "written", "b": "written"}


def test_another_image_of_the_same_name_replaces_no_mask_unless_it_is_said(images, predict, tmp_path):
    predict(images / "first.nii.gz")
    mask = tmp_path / "result" / "first_seg.nii.gz"
    before = mask.read_bytes()
    other = write_nifti(volume(9)[0], tmp_path / "others" / "first.nii.gz")
    code, _, error = predict(other)
    assert code == 1
    assert f"is the mask of another image, {images / 'first.nii.gz'}; give another folder" in error
    assert mask.read_bytes() == before
    assert predict(other, overwrite=True)[0] == 0
    assert mask.read_bytes() != before


def test_networks_that_prepare_images_differently_are_no_ensemble(images, predict, tmp_path):
    other = edited_bundle(tmp_path / "other", lambda config: config["preprocessing"]["transforms"].pop(4))
    code, _, error = predict(images, bundle=[other, SEGMENTATION[1]])
    assert code == 1
    assert f"other and {SEGMENTATION[1].name} are no ensemble, they differ in preprocessing" in error


def test_the_page_says_if_a_mask_is_not_that_which_was_measured(images, predict, tmp_path, capsys):
    said = "the mask has been changed since it was measured"
    result = tmp_path / "result"
    predict(images)
    for expected in (0, 1):
        assert users.main(["report", str(result)]) == 0
        assert (result / "report.html").read_text().count(said) == expected
        image = nib.load(result / "first_seg.nii.gz")
        nib.save(nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine), result / "first_seg.nii.gz")


WRONG = [{"grid": {}}, {"mask": 3}, {"warnings": [3]}, {"structures": [{"name": "x"}]}, {"series": 3}, {"image": 3}]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_a_page_of_records_that_somebody_edited_is_refused(change, images, predict, tmp_path, capsys):
    predict(images / "first.nii.gz")
    file = tmp_path / "result" / "volumes.json"
    document = json.loads(file.read_text())
    document["images"][0].update(change)
    written(file, document)
    assert users.main(["report", str(file.parent)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {file} is not what predict writes, ")
    assert "traceback" not in error


def test_another_series_of_a_folder_replaces_no_mask_unless_it_is_said(predict, tmp_path):
    pytest.importorskip("pydicom")
    for number, uid in enumerate(("1.1", "1.2")):
        voxels = (volume(number)[0] * 100).astype(np.int16)
        dicom_writer.write(tmp_path / "study" / "T1", dicom_writer.slices(voxels, series=uid), f"{uid}_{{}}.dcm")
    study = tmp_path / "study"
    assert predict(study, series="1.1")[0] == 0
    before = (tmp_path / "result" / "T1_seg.nii.gz").read_bytes()
    code, lines, _ = predict(study, series="1.2")
    assert code == 1
    assert f"is the mask of another image, the series 1.1 of {study / 'T1'}; give" in lines[0]["error"]
    assert (tmp_path / "result" / "T1_seg.nii.gz").read_bytes() == before
    assert predict(study, series="1.2", overwrite=True)[0] == 0


def test_what_lay_beside_an_earlier_mask_goes_unless_somebody_has_changed_it(images, predict, tmp_path):
    image, result = images / "first.nii.gz", tmp_path / "result"
    probabilities, nrrd = result / "first_probabilities.npz", result / "first_seg.seg.nrrd"
    assert predict(image, probabilities=True, output_format="nrrd")[0] == 0
    assert probabilities.is_file() and nrrd.is_file()
    assert predict(image, bundle=SEGMENTATION[1])[0] == 0
    assert not probabilities.exists() and not nrrd.exists()
    predict(image, output_format="nrrd")
    nrrd.write_bytes(nrrd.read_bytes() + b" ")
    assert predict(image)[0] == 0
    assert nrrd.is_file()

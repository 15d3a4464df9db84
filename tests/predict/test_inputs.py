"""What a user may name: files, folders, DICOM exports, zips, several at once; and what no zip may do."""

from __future__ import annotations

import json
import logging
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from custom_networks.predict import archives
from custom_networks.predict.inputs import find_images
from tests.workflow.data.formats import dicom_writer


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def packed(file: Path, folder: Path, below: str = "") -> Path:
    """Pack what lies in a folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{below}{path.relative_to(folder)}")
    return file


def dicom(folder: Path, *uids: str) -> Path:
    pytest.importorskip("pydicom")
    for uid in uids:
        dicom_writer.write(folder, dicom_writer.slices(np.ones((4, 5, 3), np.int16), series=uid), f"{uid}_{{}}.dcm")
    return folder


def found(*inputs: str | Path, series: str | None = None, in_channels: int = 1):
    """Return the masks by case and the problems."""
    with find_images([str(path) for path in inputs], series=series, in_channels=in_channels) as (entries, problems):
        return {entry["case"]: entry["mask"] for entry in entries}, dict(problems)


def masks(*cases: str) -> dict[str, str]:
    return {case: f"{case}_seg.nii.gz" for case in cases}


def test_files_and_folders_together(tmp_path):
    touch(tmp_path, "a.nii.gz", "b.nrrd", "more/c.nii", "more/sub/d.mha")
    assert found(*(tmp_path / name for name in ("a.nii.gz", "b.nrrd", "more"))) == (masks("a", "b", "c", "sub/d"), {})


def test_one_input_that_cannot_be_used_hides_no_other(tmp_path):
    touch(tmp_path, "a.nii.gz", "notes.txt")
    (tmp_path / "empty").mkdir()
    given = [str(tmp_path / name) for name in ("empty", "absent", "a.nii.gz", "notes.txt", "scans.tar.gz")]
    touch(tmp_path, "scans.tar.gz")
    cases, problems = found(*given)
    assert cases == masks("a")
    assert list(problems) == [given[0], given[1], given[3], given[4]]
    assert all(text.startswith(path) or path in text for path, text in problems.items())
    assert all("\n" not in text and "; " in text for text in problems.values())


def test_what_is_named_twice_is_taken_once(tmp_path, monkeypatch):
    touch(tmp_path, "in/a.nii.gz", "in/b.nii.gz")
    monkeypatch.chdir(tmp_path)
    assert found("in", tmp_path / "in" / "a.nii.gz", "in/b.nii.gz", "in") == (masks("a", "b"), {})


def test_names_that_two_inputs_share_get_the_names_of_their_folders(tmp_path):
    touch(tmp_path, "p1/t1.nii.gz", "p2/t1.nii.gz", "p2/t2.nii.gz", "p3/t1.nii.gz", "p3/x/t1.nii.gz")
    files = found(tmp_path / "p1" / "t1.nii.gz", tmp_path / "p2" / "t1.nii.gz", tmp_path / "p2" / "t2.nii.gz")
    assert files == (masks("p1/t1", "p2/t1", "t2"), {})
    assert found(tmp_path / "p2", tmp_path / "p3") == (masks("p2/t1", "p2/t2", "p3/t1", "p3/x/t1"), {})


def test_folders_of_series_of_one_name_get_those_of_the_patients(tmp_path):
    folders = [dicom(tmp_path / patient / "T1", "1.1") for patient in ("p1", "p2")]
    assert found(*folders) == (masks("p1/T1", "p2/T1"), {})


def test_what_would_still_overwrite_is_refused_and_the_first_is_kept(tmp_path):
    touch(tmp_path, "a/p/t1.nii.gz", "b/p/t1.nii.gz", "b/p/t2.nii.gz")
    first, second = str(tmp_path / "a" / "p" / "t1.nii.gz"), str(tmp_path / "b" / "p")
    cases, problems = found(first, second)
    assert cases == masks("p/t1", "p/t2")
    assert problems == {
        second: f"{second} would write p/t1_seg.nii.gz, as {first} does; give the folder above both, whose tree is "
        "kept, or rename one"
    }


def test_the_channels_of_an_image_among_named_files(tmp_path):
    touch(tmp_path, *(f"{case}_000{channel}.nii.gz" for case in "ab" for channel in (0, 1)))
    files = sorted(tmp_path.iterdir())
    assert found(*files, in_channels=2) == ({"a": "a.nii.gz", "b": "b.nii.gz"}, {})
    assert found(*files) == (masks("a_0000", "a_0001", "b_0000", "b_0001"), {})
    files[3].unlink()
    cases, problems = found(*files[:3], tmp_path / "c_0000.nii.gz", tmp_path / "c_0001.nii.gz", in_channels=2)
    assert cases == {"a": "a.nii.gz", **masks("b_0000")}
    assert problems == {f"{tmp_path}/c_0000.nii.gz": f"there is no file {tmp_path}/c_0000.nii.gz; correct the path"}


def test_a_mask_beside_its_image_is_left_out(tmp_path, caplog):
    touch(tmp_path, "a.nii.gz", "a_seg.nii.gz", "b_seg.nii.gz")
    with caplog.at_level(logging.INFO):
        assert found(*sorted(tmp_path.iterdir())) == (masks("a", "b_seg"), {})
    assert "a_seg.nii.gz is the mask of another input" in caplog.text


def test_a_data_set_of_nnunet(tmp_path):
    index = {"channel_names": {"0": "T1"}, "labels": {"background": 0}, "numTraining": 0, "file_ending": ".nii.gz"}
    touch(tmp_path, "imagesTr/x_0000.nii.gz", "imagesTs/a_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps(index))
    assert found(tmp_path) == ({"a": "a.nii.gz"}, {})
    assert found(packed(tmp_path / "set.zip", tmp_path)) == ({"set": "set.nii.gz"}, {})


@pytest.mark.parametrize("below", ["", "export/", "export/DICOM/"])
def test_a_zip_of_one_image_is_called_after_the_zip(tmp_path, below):
    file = packed(tmp_path / "patient 7.zip", touch(tmp_path / "in", "scan.nii.gz"), below)
    with find_images([str(file)], series=None, in_channels=1) as (entries, problems):
        (entry,) = entries
        assert not problems and Path(entry["image"]).is_file()
        assert (entry["case"], entry["mask"], entry["archive"]) == ("patient 7", "patient 7_seg.nii.gz", str(file))
    assert not Path(entry["image"]).exists()


def test_a_zip_of_several_images_is_a_folder_called_after_it(tmp_path):
    touch(tmp_path / "in", "__MACOSX/._a.nii.gz", ".DS_Store", "top/a.nii.gz", "top/._a.nii.gz", "top/sub/b.nii.gz")
    for name in ("x", "y"):
        packed(tmp_path / name / "s.zip", tmp_path / "in")
    assert found(tmp_path / "x" / "s.zip") == (masks("s/a", "s/sub/b"), {})
    both = found(tmp_path / "x" / "s.zip", tmp_path / "y" / "s.zip")
    assert both == (masks("x/s/a", "x/s/sub/b", "y/s/a", "y/s/sub/b"), {})


def test_a_study_as_a_zip(tmp_path):
    study = tmp_path / "in"
    for name, uid in (("T1", "1.1"), ("T2", "1.2")):
        dicom(study / "study" / name, uid)
    touch(study, "DICOMDIR")
    file = packed(tmp_path / "study.zip", study)
    assert found(file) == (masks("study/study/T1", "study/study/T2"), {})
    assert found(file, series="1.2") == (masks("study"), {})


def test_several_series_in_one_folder_of_a_zip_are_listed_unless_one_is_chosen(tmp_path):
    dicom(tmp_path / "in" / "mixed", "1.1", "1.2")
    touch(tmp_path / "in", "a.nii.gz")
    file = str(packed(tmp_path / "study.zip", tmp_path / "in"))
    cases, problems = found(file)
    assert cases == masks("study/a")
    assert problems == {
        file: f"{file}/mixed holds 2 series: 1.1 (3 slices), 1.2 (3 slices); choose one with --series UID"
    }
    assert found(file, series="1.2") == (masks("study"), {})


def zipped(file: Path, *members: str | zipfile.ZipInfo, content: bytes = b"x") -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            archive.writestr(member, content)
    return file


def special(kind: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("a.nii.gz")
    member.external_attr = (kind | 0o777) << 16
    return member


@pytest.mark.parametrize("name", ["../a.nii.gz", "/a.nii.gz", "x/../../a.nii.gz", "C:/a.nii.gz", "..\\a.nii.gz"])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    file = str(zipped(tmp_path / "z.zip", "b.nii.gz", name))
    assert "a name that may lead out of its folder; pack it anew" in found(file)[1][file]
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "z.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO])
def test_no_link_and_no_device(tmp_path, kind):
    file = str(zipped(tmp_path / "z.zip", special(kind)))
    assert found(file)[1][file] == f"{file} holds 'a.nii.gz', which is a link or no file; pack the files themselves"


def test_no_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 0, 10**6))
    file = str(zipped(tmp_path / "z.zip", "a.nii.gz", "b.nii.gz", content=bytes(600_000)))
    assert "unpacks to 0.0012 GB, and 0.001 GB are free for temporary files; free" in found(file)[1][file]
    many = str(zipped(tmp_path / "many.zip", *(f"{number}.txt" for number in range(300))))
    assert "unpacks to 0.00123 GB" in found(many)[1][many]


def test_a_packed_bundle_is_no_image(tmp_path):
    file = str(zipped(tmp_path / "z.zip", "some_bundle/configs/metadata.json", "some_bundle/models/model.pt"))
    assert "is a packed bundle, not an image; give it as --bundle" in found(file)[1][file]


def test_a_size_that_is_a_lie_ends_where_it_is_found(tmp_path):
    file = zipped(tmp_path / "z.zip", "a.nii.gz", content=bytes(100_000))
    raw = file.read_bytes()
    file.write_bytes(raw.replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    assert "is no zip or is damaged" in found(file)[1][str(file)]


def test_no_secret_no_name_twice_and_nothing_damaged(tmp_path):
    secret, strange = (zipped(tmp_path / name, "a.nii.gz") for name in ("secret.zip", "strange.zip"))
    for file, field in ((secret, 6), (strange, 8)):  # flags and method, in the member and in the table of contents
        raw = bytearray(file.read_bytes())
        for signature, further in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
            raw[raw.index(signature) + field + further] |= 1
        file.write_bytes(raw)
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = zipped(tmp_path / "twice.zip", "a.nii.gz", "a.nii.gz")
    bad, cut = tmp_path / "bad.zip", tmp_path / "cut.zip"
    bad.write_bytes(b"no zip")
    raw = bytearray(zipped(tmp_path / "c.zip", "a.nii.gz", content=np.random.default_rng(0).bytes(999)).read_bytes())
    raw[300] ^= 255
    cut.write_bytes(raw)
    problems = found(secret, twice, bad, cut, strange)[1]
    words = (
        "is encrypted; unpack",
        "holds 'a.nii.gz' twice",
        "is no zip or is",
        "is no zip or is",
        "is packed in a way that",
    )
    for file, said in zip((secret, twice, bad, cut, strange), words, strict=True):
        assert problems[str(file)].startswith(f"{file} {said}"), problems

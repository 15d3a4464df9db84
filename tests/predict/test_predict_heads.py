"""Whole heads: taken for what they are by their size, segmented side by side, measured, and doubted with cause."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import custom_networks
from custom_networks import __main__ as users
from custom_networks.bundle_folder import read_config
from custom_networks.workflow import LocateRegions, RegionsInferer
from tests.predict.conftest import BUNDLE
from tests.synthetic import SEGMENTATION, config, each, read_rows, run, volume, write_nifti

TEMPLATE = Path(custom_networks.__file__).parent / "workflow" / "locate" / "mni152_t1_3mm.nii.gz"
POINTS = "Left=-23,-23.5,-12 Right=25.5,-22.5,-11.5"
STRUCTURES = [*("Left-Anterior", "Left-Posterior", "Right-Anterior", "Right-Posterior"), *("Left", "Right", "Total")]

pytest.importorskip("SimpleITK")


@pytest.fixture
def head(tmp_path) -> Path:
    """A head: the template itself, whose hippocampi are where it says."""
    target = tmp_path / "heads" / "head.nii.gz"
    target.parent.mkdir()
    shutil.copy(TEMPLATE, target)
    return target


def record_of(tmp_path, out="result", name="head"):
    return json.loads((tmp_path / out / f"{name}_seg.json").read_text())


def mask_of(tmp_path, out="result", name="head"):
    return np.asarray(nib.load(tmp_path / out / f"{name}_seg.nii.gz").dataobj)


@each(SEGMENTATION[:1])
def test_a_large_image_is_segmented_as_inference_head_json_does(bundle, head, predict, tmp_path):
    code, lines, _ = predict(head, bundle=bundle)
    assert code == 0
    run(bundle, "inference_head", {"dataset_dir": str(head), "output_dir": str(tmp_path / "workflow")})
    name = "head_seg.nii.gz"
    assert (tmp_path / "result" / name).read_bytes() == (tmp_path / "workflow" / name).read_bytes()
    assert [structure["name"] for structure in lines[0]["structures"]] == STRUCTURES


def test_the_record_holds_what_the_registration_and_the_sides_tell(head, predict, tmp_path):
    assert predict(head)[0] == 0
    record, mask = record_of(tmp_path), mask_of(tmp_path)
    facts = record["head"]
    assert facts["determinant"] == pytest.approx(1, abs=0.05)
    assert facts["metric"] < -0.4
    assert facts["places"] == ["Left", "Right"]
    np.testing.assert_allclose(facts["centres_mm"]["Left"], [-23, -23.5, -12], atol=6)
    found = {structure["name"]: structure["volume_ml"] for structure in record["structures"]}
    each = [(mask == value).sum() * 0.027 for value in range(1, 5)]
    np.testing.assert_allclose([found[name] for name in STRUCTURES[:4]], each)
    np.testing.assert_allclose(
        [found["Left"], found["Right"], found["Total"]], [sum(each[:2]), sum(each[2:]), sum(each)]
    )
    left, right = found["Left"], found["Right"]
    assert 1.2 < left < 6
    assert 1.2 < right < 6
    index = 100 * (left - right) / ((left + right) / 2)
    assert facts["asymmetry_index"] == pytest.approx(index)
    rows = {row["structure"]: row for row in read_rows(tmp_path / "result" / "volumes.csv")}
    assert float(rows["Total"]["asymmetry_index"]) == pytest.approx(index, rel=1e-5)
    assert rows["Left"]["asymmetry_index"] == ""
    assert float(rows["Left"]["percent_of_head"]) == pytest.approx(100 * left / facts["head_ml"], rel=1e-5)
    x = nib.affines.apply_affine(nib.load(head).affine, np.argwhere(mask > 2))[:, 0]
    assert (x > 0).all()  # right is right
    assert {(w["kind"], w["structure"]) for w in record["warnings"]} & {("size", None), ("intensity", None)} == set()


def test_lines_for_people_say_that_it_was_taken_for_a_head(head, tmp_path, capsys):
    out = tmp_path / "r"
    assert users.main(["predict", str(head), "--out", str(out), "--bundle", str(BUNDLE)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"[1/1] head, taken for a whole head: {out / 'head_seg.nii.gz'} (read ")
    assert "(Left less Right, of their mean); " in said
    assert "of the head of about" in said
    assert "research only, not for diagnosis" in said


@pytest.mark.slow
def test_crop_takes_it_for_a_crop_and_a_crop_is_none_by_itself(head, predict, tmp_path):
    write_nifti(volume(0)[0], head.parent / "small.nii.gz")
    assert predict(head.parent)[0] == 0
    assert "head" in record_of(tmp_path)
    assert "head" not in record_of(tmp_path, name="small")
    _, lines, _ = predict(head.parent, crop=True)
    assert {line["case"]: line["status"] for line in lines[:-1]} == {"head": "written", "small": "skipped"}
    record = record_of(tmp_path)
    assert "head" not in record
    assert [structure["name"] for structure in record["structures"]] == ["Anterior", "Posterior"]
    assert "size" in [warning["kind"] for warning in record["warnings"]]


def test_start_points_stand_in_for_the_registration(head, predict, tmp_path, monkeypatch):
    predict(head, out="registered")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    assert predict(head, start_points=POINTS)[0] == 0
    facts = record_of(tmp_path)["head"]
    np.testing.assert_allclose(facts["points_mm"]["Right"], [25.5, -22.5, -11.5])
    assert "metric" not in facts
    rows = read_rows(tmp_path / "result" / "volumes.csv")
    assert {row["percent_of_head"] for row in rows} == {""}  # nobody knows the size of the head
    one, two = mask_of(tmp_path), mask_of(tmp_path, out="registered")
    assert 2 * ((one > 0) & (two > 0)).sum() / ((one > 0).sum() + (two > 0).sum()) > 0.9
    points = tmp_path / "points.json"
    points.write_text('{"Left": [-23, -23.5, -12], "Right": [25.5, -22.5, -11.5]}')
    _, lines, _ = predict(head, start_points=points)
    assert lines[0]["status"] == "skipped"  # the same points
    _, lines, _ = predict(head, start_points="Left=-23,-23.5,-12 Right=25.5,-22.5,500")
    assert "the start point of Right, [25.5, -22.5, 500.0] mm, is not in the image" in lines[0]["error"]
    shutil.copy(head, head.with_name("other.nii.gz"))
    code, _, error = predict(head.parent, start_points=POINTS)
    assert code == 1
    assert error == "error: --start-points are those of one image, but 2 are given; give one at a time\n"


def test_without_simple_itk_one_sentence_says_what_to_install(head, predict, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    code, lines, error = predict(head)
    assert code == 1
    assert "pip install SimpleITK" in lines[0]["error"]
    assert "Traceback" not in error


def test_an_ensemble_is_the_mean_of_the_probabilities_of_each_crop(head, predict, tmp_path):
    members = SEGMENTATION[:2]
    code, lines, _ = predict(head, bundle=[*members])
    assert code == 0
    assert [made["name"] for made in lines[0]["bundles"]] == [member.name for member in members]
    parsers = [read_config(member, "inference") for member in members]
    for parser in parsers:
        parser.get_parsed_content("initialize")

    def mean(crop, _):
        pairs = [
            (parser.get_parsed_content("inferer"), parser.get_parsed_content("network").eval()) for parser in parsers
        ]
        return torch.stack([inferer(crop, network).softmax(1) for inferer, network in pairs]).mean(0).log()

    image = nib.load(head)
    whole = torch.from_numpy(image.get_fdata(dtype=np.float32))[None, None]
    with torch.no_grad():
        locate = LocateRegions(crop_size=config(members[0], "inference_head")["crop_size"])
        expected = RegionsInferer(locate, mean)(MetaTensor(whole, affine=torch.from_numpy(image.affine)), None)
    assert (mask_of(tmp_path) != expected[0, 0].numpy()).mean() < 1e-5
    predict(head, bundle=members[0], out="single")
    assert (mask_of(tmp_path, out="single") != mask_of(tmp_path)).any()


def changed(tmp_path, source: Path, name: str, **entries) -> Path:
    """Return a copy of a bundle with other entries in its inference_head.json."""
    copy = tmp_path / name
    shutil.copytree(source, copy)
    file = copy / "configs" / "inference_head.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))
    return copy


def test_members_that_look_elsewhere_in_a_head_are_no_ensemble(head, predict, tmp_path):
    larger = changed(tmp_path, SEGMENTATION[1], "larger", crop_size=[50.0, 60.0, 50.0])
    code, _, error = predict(head, bundle=[SEGMENTATION[0], larger], head=True)
    assert code == 1
    assert "are no ensemble, their crop_size is [40.0, 58.0, 42.0] and [50.0, 60.0, 50.0]" in error


def test_another_template_under_the_same_name_makes_another_mask(head, predict, tmp_path):
    template = tmp_path / "template.nii.gz"
    shutil.copy(TEMPLATE, template)
    own = changed(tmp_path, BUNDLE, "own", template=str(template))
    _, first, _ = predict(head, bundle=own)
    _, again, _ = predict(head, bundle=own)
    image = nib.load(TEMPLATE)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * 2, image.affine), template)
    _, other, _ = predict(head, bundle=own)
    assert [lines[0]["status"] for lines in (first, again, other)] == ["written", "skipped", "written"]


def test_the_volumes_of_heads_name_the_classes_of_the_mask(head, predict, tmp_path):
    predict(head)
    volumes = json.loads((tmp_path / "result" / "volumes.json").read_text())
    assert volumes["label_names"] == ["background", "Anterior", "Posterior"]
    assert volumes["head_label_names"][1:] == STRUCTURES[:4]


def test_a_series_of_volumes_is_refused_by_its_header(head, predict, monkeypatch):
    image = nib.load(head)
    nib.save(nib.Nifti1Image(np.stack([np.asarray(image.dataobj)] * 2, -1), image.affine), head)
    monkeypatch.setattr("custom_networks.workflow.data.volumes.read_voxels", lambda *_: pytest.fail("voxels were read"))
    code, lines, _ = predict(head)
    assert code == 1
    assert "head.nii.gz has 2 channels of shape (65, 77, 63) where 1 are expected" in lines[0]["error"]


def test_a_head_that_does_not_say_where_left_is_gets_a_warning(head, predict, tmp_path):
    image = nib.load(head)
    blank = nib.Nifti1Image(np.asarray(image.dataobj), None)
    blank.header.set_zooms((3, 3, 3))
    blank.header.set_sform(None, 0)
    blank.header.set_qform(None, 0)
    nib.save(blank, head)
    _, lines, _ = predict(head, head=True)
    texts = [warning["text"] for warning in lines[0].get("warnings", [])]
    assert any("left and right may be exchanged" in text for text in texts), lines


@pytest.mark.slow
def test_a_profile_of_other_data_makes_no_heads(head, predict, tmp_path):
    profile = tmp_path / "mine.json"
    profile.write_text('{"max_shape": [20, 20, 20]}')
    assert predict(head, profile=profile)[0] == 0
    assert "head" not in record_of(tmp_path)
    profile.write_text('{"overlap": 0.25}')
    assert predict(head, profile=profile)[0] == 0
    assert "head" in record_of(tmp_path)


@pytest.mark.slow
def test_a_bundle_that_does_not_say_where_to_look_takes_crops(head, predict, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(BUNDLE, copy)
    (copy / "configs" / "inference_head.json").unlink()
    assert predict(head, bundle=copy)[0] == 0
    assert "head" not in record_of(tmp_path)
    code, _, error = predict(head, bundle=copy, head=True)
    assert code == 1
    assert error.startswith("error: copy has no configs/inference_head.json, which says where to look in a head; give")


def test_what_is_no_head_is_refused_and_told_of_the_other_way(predict, tmp_path):
    noise = np.random.default_rng(0).normal(100, 20, (64, 64, 64)).astype(np.float32)
    image = write_nifti(noise, tmp_path / "noise.nii.gz", np.diag([3.0, 3, 3, 1]))
    code, lines, _ = predict(image)
    assert code == 1
    assert "--crop" in lines[0]["error"]
    assert not list(tmp_path.glob("result/*.nii.gz"))


@pytest.mark.parametrize("kind", ["nrrd"])
def test_other_formats_hold_both_sides_by_name(kind, head, predict, tmp_path):
    assert predict(head, output_format=kind)[0] == 0
    text = (tmp_path / "result" / "head_seg.seg.nrrd").read_bytes()[:6000].decode("latin-1")
    assert "Left: Anterior hippocampus" in text
    assert "Right: Posterior hippocampus" in text

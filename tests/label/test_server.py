"""The live server, driven as 3D Slicer drives it. The tests share one server and run in the order of this file."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import nrrd
import numpy as np
import pytest
import torch

from tests.label.conftest import ROLLED, SCORED, flipped
from tests.synthetic import CLASSIFICATION, SEGMENTATION, config

NAMES = [bundle.name for bundle in SEGMENTATION]
CLASSIFIER = CLASSIFICATION[0].name
LABELS = {"anterior": 1, "posterior": 2}
segmentations = pytest.mark.parametrize("model", NAMES)


def agreement(one, other):
    """Return the share of equal voxels, and that of equal ones among those where either is foreground."""
    either = (one > 0) | (other > 0)
    return float((one == other).mean()), float((one == other)[either].mean()) if either.any() else 1.0


def test_info(server):
    info = server.get("/info/").json()
    assert set(info["models"]) == {*NAMES, *(f"{name}_head" for name in (*NAMES, ROLLED)), CLASSIFIER, ROLLED}
    assert set(info["trainers"]) == {*NAMES, ROLLED}
    assert set(info["strategies"]) == {"random", "first", "epistemic"}
    assert set(info["scoring"]) == {SCORED}
    for name in NAMES:
        model = info["models"][name]
        assert (model["type"], model["dimension"], model["labels"]) == ("segmentation", 3, LABELS)
        assert (
            model["version"]
            == json.loads((server.app / "model" / name / "configs" / "metadata.json").read_text())["version"]
        )
        assert model["config"]["model_filename"] == ["model.pt"]


@segmentations
def test_inference(server, model, tmp_path):
    image = server.image("a")
    mask = server.mask(model, "a")
    values = np.asarray(mask.dataobj)
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
    assert set(np.unique(values)) <= {0, 1, 2}
    session = server.session(flipped(image, tmp_path / "flipped.nii.gz"))
    stored = np.asarray(server.mask(model, "flipped", session=session).dataobj)[:, :, ::-1]
    same, of_foreground = agreement(values, stored)
    assert same > 0.98
    assert of_foreground > 0.8


@segmentations
def test_the_stock_app(stock, server, model):
    assert set(stock.get("/info/").json()["models"]) == set(NAMES)
    np.testing.assert_array_equal(stock.mask(model, "a").dataobj, server.mask(model, "a").dataobj)


def test_inference_as_slicer_asks(server):
    answer = server.infer(NAMES[0], "a", output="all", result_extension=".nrrd", result_compress=False)
    assert answer.status_code == 200, answer.text
    boundary = answer.headers["content-type"].split("boundary=")[1].encode()
    parts = [part.partition(b"\r\n\r\n") for part in answer.content.split(b"--" + boundary)]
    (content,) = [body for head, _, body in parts if b'name="image"' in head]
    header = nrrd.read_header(io.BytesIO(content))
    assert tuple(header["sizes"]) == server.image("a").shape
    (params,) = [json.loads(body) for head, _, body in parts if b'name="params"' in head]
    assert params["label_names"] == LABELS


def test_every_bundle_runs_its_own_code(server):
    own = np.asarray(server.mask(SCORED, "a").dataobj)
    # Not all: where two classes tie in bfloat16, the first is taken.
    assert agreement(np.asarray(server.mask(ROLLED, "a").dataobj), (own + 1) % 3)[0] > 0.999
    np.testing.assert_array_equal(np.asarray(server.mask(SCORED, "a").dataobj), own)


def test_two_requests_at_once(server):
    alone = [np.asarray(server.mask(model, image).dataobj) for model, image in ((SCORED, "a"), (ROLLED, "b"))]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(server.mask, SCORED, "a"), pool.submit(server.mask, ROLLED, "b")
        together = [np.asarray(future.result().dataobj) for future in (first, second)]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("output", ["json", "image", "all"])
def test_the_classifier_answers_with_probabilities(server, output):
    answer = server.infer(CLASSIFIER, "a", output=output)
    assert answer.status_code == 200, answer.text
    text = answer.text
    found = json.loads(text[text.index("{") : text.rindex("}") + 1]) if output != "all" else None
    if found is None:
        assert '"probabilities"' in text
        return
    probabilities = found["probabilities"]
    assert set(probabilities) == set(config(CLASSIFICATION[0])["label_names"])
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)


BAD = {
    "unknown model": (("no_such_segmentation", "a"), 404, "there is no model no_such_segmentation; use one of"),
    "unknown image": ((NAMES[0], "nobody"), 404, "there is no image nobody in"),
    "corrupt image": ((NAMES[0], "corrupt"), 422, "corrupt.nii.gz cannot be used: "),
    "corrupt image, classifier": ((CLASSIFIER, "corrupt"), 422, "corrupt.nii.gz cannot be used: "),
    "time series": ((NAMES[0], "series"), 422, "series.nii.gz: input must have 1 channels, got 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_leave_the_server_up(server, case, tmp_path):
    (tmp_path / "corrupt.nii.gz").write_bytes((server.studies / "a.nii.gz").read_bytes()[:900])
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 20, 3), np.float32), np.eye(4)), tmp_path / "series.nii.gz")
    (model, image), status, sentence = BAD[case]
    path = tmp_path / f"{image}.nii.gz"
    answer = server.infer(model, image, session=server.session(path) if path.exists() else "")
    assert answer.status_code == status, answer.text
    assert sentence in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]
    assert server.get("/info/").ok


@pytest.mark.parametrize("strategy", ["first", "random"])
def test_next_sample(server, strategy):
    answer = server.ask("POST", f"/activelearning/{strategy}", json={"client_id": "test"}, timeout=60)
    assert answer.json()["id"] in set("abcd")


def test_epistemic_learning_offers_the_least_certain_image(server):
    scored = server.ask("POST", f"/scoring/{SCORED}", params={"run_sync": "true"}, json={"device": "cpu"}, timeout=240)
    assert scored.status_code == 200, scored.text
    entropies = {name: server.get("/datastore/image/info", image=name).json()["epistemic_entropy"] for name in "abcd"}
    assert all(0 < entropy < np.log(3) for entropy in entropies.values())
    assert len(set(entropies.values())) == 4
    answer = server.ask("POST", "/activelearning/epistemic", json={"client_id": "test"}, timeout=60).json()
    assert answer["id"] == max(entropies, key=entropies.get)


def test_labels_are_saved(server):
    for name in "abc":
        content = (server.labels / f"{name}.nii.gz").read_bytes()
        answer = server.save_label(name, content, params=json.dumps({"label_info": []}))
        assert answer.ok, answer.text
        assert (server.studies / "labels" / "final" / f"{name}.nii.gz").read_bytes() == content
    assert len(server.get("/datastore/", output="train").json()) == 3


@segmentations
def test_training_publishes_better_weights_only(server, model):
    """With the trainer's own options, as 3D Slicer sends them: ``run_id`` is empty."""
    options = server.get("/info/").json()["trainers"][model]["config"]
    request = {key: value[0] if isinstance(value, list) and value else value for key, value in options.items()}
    assert request["run_id"] == ""
    assert options["model_filename"] == ["model.pt"]
    path = server.app / "model" / model / "models" / "model.pt"
    before, content = torch.load(path, weights_only=True), path.read_bytes()
    answer = server.ask("POST", f"/train/{model}", json={**request, "max_epochs": 1, "device": "cpu"}, timeout=60)
    assert answer.ok, answer.text
    state = server.wait("/train/")
    details = "\n".join(map(str, state.get("details", [])))
    assert state["status"] == "DONE", details
    after, kept = torch.load(path, weights_only=True), list(path.parent.glob("model_*.pt"))
    assert before.keys() == after.keys()
    replaced = any(not torch.equal(before[key], after[key]) for key in before)
    assert [file.read_bytes() for file in kept] == [content] * replaced
    assert replaced or path.read_bytes() == content
    assert f"weights of {model}: {'replaced' if replaced else 'kept'}, 0." in details
    assert server.mask(model, "d").shape == server.image("d").shape
    assert server.get("/info/").json()["models"][model]["config"]["model_filename"] == ["model.pt"]


def test_labelled_images_are_not_offered_again(server):
    for strategy in ("first", "random", "epistemic"):
        answer = server.ask("POST", f"/activelearning/{strategy}", json={"client_id": "test"}, timeout=60)
        assert answer.json()["id"] == "d"


def test_batch_inference(server):
    """With default settings, which share the images among all GPUs."""
    answer = server.ask(
        "POST",
        f"/batch/infer/{NAMES[0]}",
        params={"images": "unlabeled", "run_sync": "true"},
        timeout=240,
    )
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"d"}
    assert (server.studies / "labels" / "original" / "d.nii.gz").is_file()


def test_only_loopback_is_served(server):
    assert "127.0.0.1" in server.log.read_text()
    assert "0.0.0.0" not in server.log.read_text()

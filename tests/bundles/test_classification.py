"""What classification bundles learn, evaluate and write."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

from custom_networks.workflow.report.classification_report import classification_metrics
from tests.bundles.conftest import ORIENTATIONS
from tests.synthetic import (
    CLASSIFICATION,
    IMAGES,
    config,
    each,
    kind,
    patch,
    read_rows,
    run,
    tiny_training,
    weights,
    workflow,
    write_nifti,
    write_nrrd,
    write_oriented,
    write_patches,
)

pytestmark = each(CLASSIFICATION)

NAMES = ["small", "large"]


def probabilities(folder, names=NAMES):
    """Return the probabilities of the predictions in a folder by case."""
    rows = read_rows(folder / "predictions.csv")
    return {row["case"]: [float(row[name]) for name in names] for row in rows}


@pytest.fixture
def classify(infer):
    """Return a function that returns the probabilities of one image."""

    def call(source, name="results", **overrides):
        (row,) = probabilities(infer(source, name, **overrides)).values()
        return row

    return call


def test_training_learns_to_tell_large_from_small(trained, evaluate):
    curve = [row["validation_metric"] for row in read_rows(trained / "training_curve.csv")]
    assert float(curve[-1]) > 0.95
    summary = json.loads((evaluate() / "metrics.json").read_text())
    assert summary["metrics"]["auc"]["value"] > 0.9
    assert summary["metrics"]["auc"]["interval"][1] == 1


def test_evaluation_writes_a_row_per_case(bundle, evaluate):
    folder = evaluate()
    rows = read_rows(folder / "predictions.csv")
    assert list(rows[0]) == ["case", "label", "prediction", *NAMES]
    assert [row["case"] for row in rows] == kind(bundle).evaluated
    assert [row["label"] for row in rows] == NAMES * 4
    scores = np.array(list(probabilities(folder).values()))
    assert [row["prediction"] for row in rows] == [NAMES[best] for best in scores.argmax(1)]
    np.testing.assert_allclose(scores.sum(1), 1, atol=2e-6)
    summary = json.loads((folder / "metrics.json").read_text())
    assert summary["cases_per_class"] == {"small": 4, "large": 4}
    for name, value in classification_metrics(scores, np.array([0, 1] * 4)).items():
        assert summary["metrics"][name]["value"] == pytest.approx(value, abs=1e-5)


def test_the_held_out_fold_is_what_chose_the_epoch(bundle, trained, evaluate):
    folder = evaluate(evaluation_split="held_out")
    assert list(probabilities(folder)) == kind(bundle).held_out
    best = torch.load(trained / "last_checkpoint.pt", weights_only=True)["best_checkpoint"]["best_metric"]
    summary = json.loads((folder / "metrics.json").read_text())
    assert summary["metrics"]["auc"]["value"] == pytest.approx(best, abs=1e-6)


def test_the_knobs_choose_what_is_evaluated(dataset, evaluate, tmp_path):
    folder = evaluate("fold", evaluation_split="held_out", fold=1)
    assert list(probabilities(folder)) == [f"{IMAGES}/case_{number:02d}.nii.gz" for number in (2, 3, 12, 13)]
    data = tmp_path / "data"
    shutil.copytree(dataset, data)
    lines = (data / "labels.csv").read_text().replace(",validation", ",test").splitlines()
    (data / "only_test.csv").write_text("\n".join([lines[0], *lines[-4:]]) + "\n")
    folder = evaluate("csv", dataset_dir=str(data), csv_file="only_test.csv", evaluation_split="test")
    assert list(probabilities(folder)) == [f"{IMAGES}/case_{number}.nii.gz" for number in (24, 25, 26, 27)]


def test_inference_gives_the_probabilities_of_the_evaluation(bundle, dataset, evaluate, infer):
    measured = {case.removeprefix(f"{IMAGES}/"): row for case, row in probabilities(evaluate()).items()}
    folder = infer(dataset / IMAGES)
    assert list(read_rows(folder / "predictions.csv")[0]) == ["case", "prediction", *NAMES]
    inferred = probabilities(folder)
    assert list(inferred) == [f"case_{number:02d}" for number in range(28)]
    assert {name: inferred[name.removesuffix(".nii.gz")] for name in measured} == measured


def test_three_orientations_give_the_same_probabilities(classify, tmp_path):
    path = write_nifti(patch(41, label=1), tmp_path / "image.nii.gz")
    rows = [
        classify(write_oriented(path, codes, tmp_path / codes / "image.nii.gz"), name=f"seen_{codes}")
        for codes in ORIENTATIONS
    ]
    np.testing.assert_allclose(rows, [rows[0]] * 3, atol=2e-6)
    # the same voxels with a header that calls them something else are another image
    other = classify(write_nifti(np.ascontiguousarray(patch(41, label=1)[::-1]), tmp_path / "flipped.nii.gz"), "other")
    assert abs(other[0] - rows[0][0]) > 2e-5


def test_nrrd_gives_the_probabilities_of_the_same_nifti(infer, tmp_path):
    path = write_nifti(patch(42), tmp_path / "both" / "a.nii.gz")
    write_nrrd(path, tmp_path / "both" / "b.nrrd")
    rows = probabilities(infer(tmp_path / "both"))
    assert list(rows) == ["a", "b"]
    assert rows["a"] == pytest.approx(rows["b"], abs=2e-6)


def test_dicom_series_gives_a_row(infer, series):
    rows = probabilities(infer(series))
    assert list(rows) == [series.name]
    assert sum(rows[series.name]) == pytest.approx(1, abs=2e-6)


def test_a_large_patch_is_cropped_and_a_small_one_padded(classify, tmp_path):
    image = patch(43, shape=(22, 20, 26))
    paths = {
        "large": write_nifti(image, tmp_path / "large.nii.gz"),
        "cropped": write_nifti(image[3:-3, 2:-2, 5:-5], tmp_path / "cropped.nii.gz"),
        "padded": write_nifti(np.pad(image, 3), tmp_path / "padded.nii.gz"),
    }
    rows = {name: classify(path, name=name) for name, path in paths.items()}
    assert rows["large"] == pytest.approx(rows["cropped"], abs=2e-6)
    rows = {name: classify(path, name=f"{name}_28", patch_size=[28, 26, 32]) for name, path in paths.items()}
    assert rows["large"] == pytest.approx(rows["padded"], abs=2e-6)
    assert abs(rows["large"][0] - rows["cropped"][0]) > 1e-5


def test_a_much_larger_input_gives_a_warning(bundle, classify, tmp_path, caplog):
    knobs = config(bundle, "inference")
    size = knobs["max_shape"][0]
    for length, warns in ((2 * size, False), (2 * size + 1, True)):
        caplog.clear()
        classify(write_nifti(patch(44, shape=(length, 16, 16)), tmp_path / f"{length}.nii.gz"), name=str(length))
        assert (knobs["expected_input"] in caplog.text) is warns


def test_mirror_axes_make_the_result_symmetric(classify, tmp_path):
    image = patch(45, shape=(16, 16, 16))
    paths = [
        write_nifti(image, tmp_path / "one.nii.gz"),
        write_nifti(np.ascontiguousarray(image[::-1]), tmp_path / "mirrored.nii.gz"),
    ]
    for axes in ([], [0]):
        one, other = (classify(path, name=f"{path.name}{axes}", mirror_axes=axes)[0] for path in paths)
        assert (abs(one - other) < 2e-6) is bool(axes)


@pytest.mark.parametrize("name", ["eca", "non_local", "shuffle_attention", None])
def test_the_attention_is_chosen_by_name(bundle, dataset, tmp_path, infer, name):
    """A profile can say null, which arguments of a call and of a command line cannot: MONAI drops them."""
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps({"network_def#attention_module": name}))
    knobs = tiny_training(bundle, dataset, tmp_path / "out", epochs=1)
    run(bundle, "train", knobs, args_file=str(profile))
    inside = [key for key in weights(tmp_path / "out" / "model.pt") if key.startswith("attention.")]
    assert bool(inside) is bool(name)
    network = workflow(bundle, "train", "train", {**knobs, "network_def#attention_module": name or "$None"}).network_def
    assert type(getattr(network.attention, "attention", None)).__name__.lower() == (name or "nonetype").replace("_", "")
    network.load_state_dict(weights(tmp_path / "out" / "model.pt"))


def test_the_profiles_of_the_study_build_what_they_say(bundle, dataset, tmp_path):
    """Composed with the profile of the budget, as the removal test composes them."""
    profiles = bundle / "configs" / "profiles"
    for name in ("none", "eca", "cbam"):
        out = tmp_path / name
        knobs = tiny_training(bundle, dataset, out, epochs=1)
        run(bundle, "train", knobs, args_file=[str(profiles / "removal.json"), str(profiles / f"{name}.json")])
        inside = {key.split(".")[-2] for key in weights(out / "model.pt") if key.startswith("attention.attention.")}
        assert inside == {"none": set(), "eca": {"conv"}, "cbam": {"0", "2", "spatial"}}[name]


def test_one_profile_moves_the_bundle_to_other_data(bundle, tmp_path):
    names = ["small", "middle", "large"]
    data = write_patches(tmp_path / "data", channels=2, spacing=(1.0, 1.0, 1.25), label_names=names)
    mine = {"in_channels": 2, "label_names": names, "spacing": [1.0, 1.0, 1.25], "intensity_range": [0, 400]}
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps(tiny_training(bundle, data, tmp_path / "out", **mine)))
    run(bundle, "train", {}, args_file=str(profile))
    run(bundle, ["train", "evaluate"], {}, args_file=str(profile))
    measured = probabilities(tmp_path / "out", names)
    assert len(measured) == 12
    summary = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(summary["cases_per_class"]) == names
    case, row = next(iter(measured.items()))
    images = {"dataset_dir": str(data / case), "output_dir": str(tmp_path / "one")}
    run(bundle, "inference", images, args_file=str(profile))
    assert list(probabilities(tmp_path / "one", names).values()) == [row]


def test_finetuning_to_more_classes_keeps_all_but_the_last_layer(bundle, trained, tmp_path):
    names = ["small", "middle", "large"]
    data = write_patches(tmp_path / "data", label_names=names)
    start = {"finetune_ckpt": str(trained / "model.pt"), "optimizer#lr": 0.0, "epochs": 1, "label_names": names}
    run(bundle, "train", tiny_training(bundle, data, tmp_path, **start))
    source, target = weights(trained / "model.pt"), weights(tmp_path / "last_checkpoint.pt")
    other = [key for key in source if source[key].shape != target[key].shape]
    assert other == ["head.3.weight", "head.3.bias"]
    kept = [key for key in source if key.startswith(("head.0", "attention")) or key.endswith("conv.weight")]
    assert len(kept) > 6
    assert all(torch.equal(source[key], target[key]) for key in kept)


def test_the_intensity_range_scales_and_clips(bundle, classify, tmp_path):
    image = np.clip(1.3 * patch(46, label=1), 0, 255)
    assert (image == 255).any()
    affine = nib.load(write_nifti(image, tmp_path / "a.nii.gz")).affine
    rows = [
        classify(tmp_path / "a.nii.gz", name="as it is"),
        classify(write_nifti(4 * image - 100, tmp_path / "b.nii.gz", affine), "b", intensity_range=[-100, 920]),
        classify(write_nifti(np.where(image < 255, image, 900), tmp_path / "c.nii.gz", affine), "c"),
    ]
    np.testing.assert_allclose(rows, [rows[0]] * 3, atol=1e-5)
    assert classify(tmp_path / "a.nii.gz", "d", intensity_range=[0, 510]) != pytest.approx(rows[0], abs=1e-4)

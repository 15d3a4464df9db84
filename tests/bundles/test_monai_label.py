"""What the MONAI Label server does with a bundle, replayed without the server."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, SaveImaged

from tests.synthetic import (
    SEGMENTATION,
    config,
    each,
    run,
    tiny_knobs,
    tiny_network,
    tiny_training,
    weights,
    write_dataset,
    write_nifti,
)

pytestmark = each(SEGMENTATION)


def read(bundle, name, overrides):
    """Return a parser as the server makes one: the config, bundle_root, and the values of the request."""
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / f"{name}.json")
    parser.update({"bundle_root": str(bundle), **overrides})
    return parser


def test_inference_task(bundle, dataset, trained, tmp_path):
    knobs = {key: value for key, value in tiny_knobs(bundle).items() if "#" not in key}
    parser = read(bundle, "inference", {**knobs, "dataset_dir": str(tmp_path / "absent")})
    parser["network_def#features"] = tiny_network(bundle)["network_def#features"]
    network = parser.get_parsed_content("network_def", instantiate=True)
    network.load_state_dict(weights(trained / "model.pt"), strict=False)
    network.eval()
    assert isinstance(parser.get_parsed_content("displayable_configs"), dict)
    image = np.swapaxes(np.random.default_rng(0).normal(size=(20, 26, 18)).astype(np.float32), 0, 1)
    affine = np.array([[0, -1.0, 0, 4], [1, 0, 0, 2], [0, 0, -1, 3], [0, 0, 0, 1]])
    path = str(write_nifti(image, tmp_path / "image.nii.gz", affine))
    data = {"image": path, "image_path": path, "device": "cpu", "model": "mine"}

    preprocessing = parser.get_parsed_content("preprocessing", instantiate=True)
    data = Compose(list(preprocessing.transforms))(data)
    assert data["image_path"] == path
    with torch.no_grad():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    postprocessing = parser.get_parsed_content("postprocessing", instantiate=True)
    data = Compose([t for t in postprocessing.transforms if not isinstance(t, SaveImaged)])(data)
    assert data["pred"].shape == (1, *image.shape)
    np.testing.assert_allclose(np.asarray(data["pred"].affine), affine)
    assert set(np.unique(data["pred"])) <= {0, 1, 2}


@pytest.mark.parametrize("name", ["train", "inference"])
def test_every_top_level_expression_is_harmless_without_data(bundle, tmp_path, name):
    parser = read(bundle, name, {"dataset_dir": str(tmp_path / "absent")})
    needs_data = {"run", "train", "validate", "checkpoint", "dataset", "dataloader", "evaluator", "lr_scheduler"}
    needs_data |= {"training_cases", "best_checkpoint"}
    for key in set(config(bundle, name)) - needs_data - {"initialize"}:
        parser.get_parsed_content(key)


def test_epistemic_scoring_sets_dropout_and_trains_mode(bundle):
    parser = read(bundle, "inference", {})
    parser["network_def"]["dropout"] = 0.2
    network = parser.get_parsed_content("network_def").train()
    x = torch.randn(1, 1, *config(bundle)["patch_size"])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)  # a branch whose last norm starts at zero would hide its dropout
        first, second = network(x), network(x)
    assert first.shape[1] == len(config(bundle)["label_names"])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("epochs", [2, 4])
def test_training_task(bundle, tmp_path, epochs):
    """The whole config is evaluated (run_id is empty) after the data lists and max_epochs were overwritten."""
    data = write_dataset(tmp_path / "data", cases=4)
    cases = [
        {"image": str(path), "label": str(data / "labelsTr" / path.name)}
        for path in sorted((data / "imagesTr").glob("*.nii.gz"))
    ]
    overrides = {
        **tiny_training(bundle, tmp_path / "absent", tmp_path / "out", epochs=3),
        "train#trainer#max_epochs": epochs,
        "train#dataset#data": cases[:3],
        "validate#dataset#data": cases[3:],
    }
    run(bundle, "train", overrides, run_id="")
    checkpoint = torch.load(tmp_path / "out" / "last_checkpoint.pt", weights_only=True)
    assert checkpoint["trainer"]["iteration"] == 2 * epochs  # trained once
    assert checkpoint["lr_scheduler"]["total_iters"] == 2 * max(3, epochs)  # never at rate zero for whole epochs
    assert (tmp_path / "out" / "model.pt").is_file()


def test_training_paths_that_the_server_overwrites_have_parents(bundle):
    train = config(bundle)
    assert isinstance(train["train"]["handlers"], list)
    assert all(isinstance(handler, dict) for handler in train["train"]["handlers"])
    assert {"device", "network", "bundle_root"} <= set(train)
    for node in (train["train"]["trainer"], train["train"]["dataset"], train["validate"]["dataset"]):
        assert isinstance(node, dict)
    inference = config(bundle, "inference")
    assert {"preprocessing", "inferer", "postprocessing", "network_def", "device"} <= set(inference)

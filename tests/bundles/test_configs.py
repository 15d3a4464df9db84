"""Every bundle's configs, metadata and exports."""

from __future__ import annotations

import json
import re

import monai.bundle
import pytest
import torch
from monai.transforms import RandFlipd

from custom_networks.workflow import RandPatchd
from tests.synthetic import (
    BUNDLES,
    IMAGES,
    config,
    kind,
    paths,
    task,
    tiny_knobs,
    tiny_network,
    tiny_training,
    workflow,
)
from tools.recipes.metadata import SCHEMA
from tools.recipes.render import render
from tools.ship.metadata_schema import SCHEMA as METADATA_SCHEMA

META = "metadata"
DROPOUT = {"segmentation": 0.0, "classification": 0.5}
OWN_KNOB = {"segmentation": "largest_component", "classification": "intensity_range"}


def meta_path(bundle):
    return paths(bundle, META)[0]


def test_there_is_a_bundle():
    assert BUNDLES


def test_every_file_is_rendered_from_the_recipe():
    render(check=True)


def test_the_files_of_a_bundle_are_there(bundle):
    names = ["train", "inference", "evaluate", "multi_gpu_train", "multi_gpu_evaluate", META]
    files = [f"configs/{name}.json" for name in names]
    files += ["configs/logging.conf", "docs/README.md", "docs/data_license.txt", "LICENSE"]
    assert [name for name in files if not (bundle / name).is_file()] == []
    assert list((bundle / "configs" / "profiles").glob("*.json"))
    assert "_v" not in bundle.name


def test_training_and_inference_share_their_knobs(bundle):
    train, inference = config(bundle), config(bundle, "inference")
    shared = [key for key in train if key in inference and not isinstance(train[key], dict)]
    different = {key for key in shared if train[key] != inference[key]}
    # another engine may run the network; a fine-tuning has a folder of its own, see tests/workflow/guard
    assert different <= {"initialize", "run", "network", "ckpt_dir"}
    assert {"label_names", "spacing", "patch_size", "amp", "mirror_axes", OWN_KNOB[task(bundle)]} <= set(shared)
    assert train["validate"]["inferer"] == inference["inferer"]


def test_the_networks_differ_in_deep_supervision_only(bundle):
    train, inference = config(bundle)["network_def"], config(bundle, "inference")["network_def"]
    assert {**train, "deep_supervision": False} == {**inference, "deep_supervision": False}
    assert inference.get("deep_supervision", False) is False


def test_the_network_is_an_inline_dict_with_dropout(bundle):
    for name in ("train", "inference"):
        assert config(bundle, name)["network_def"]["dropout"] == DROPOUT[task(bundle)]


def test_our_code_is_never_imported_by_an_expression(bundle):
    for path in (bundle / "configs").glob("*.json"):
        assert not re.search(r'"\$[^"]*import custom_networks', path.read_text()), path


def test_profiles_are_flat_and_override_what_exists(bundle):
    known = config(bundle)
    for path in (bundle / "configs" / "profiles").glob("*.json"):
        for key, value in json.loads(path.read_text()).items():
            if isinstance(value, dict):  # one component takes the place of another
                assert "_target_" in value, f"{path.name}: {key} is not flat"
                assert "#" not in key, f"{path.name}: {key} does not exist in inference.json"
            assert value is not None, f"{path.name}: MONAI drops null from the later of two profiles; write $None"
            node = known
            for part in key.split("#"):
                node = node[part]


def test_every_profile_serves_training_and_inference(bundle, tmp_path):
    absent = {"dataset_dir": str(tmp_path / "absent")}
    for path in (bundle / "configs" / "profiles").glob("*.json"):
        profile = json.loads(path.read_text())
        training = workflow(bundle, "train", "train", absent | profile)
        inference = workflow(bundle, "inference", "infer", absent | {"load_pretrain": False} | profile)
        for name in {"network_def"} | {key for key, value in profile.items() if isinstance(value, dict)}:
            assert training.parser.get_parsed_content(name) is not None
        assert inference.parser.get_parsed_content("network_def") is not None


def test_predictions_are_averaged_over_the_flips_of_training_unless_told_otherwise(bundle, dataset, tmp_path):
    for overrides, expected in (
        ({}, []),
        ({"mirror_axes": [0, 2]}, [0, 2]),
        ({"mirror_axes": [0, 2], "tta_mirror_axes": []}, []),
        ({"tta_mirror_axes": [1]}, [1]),
    ):
        training = workflow(bundle, "train", "train", tiny_training(bundle, dataset, tmp_path, **overrides)).parser
        inference = workflow(
            bundle, "inference", "infer", {**tiny_knobs(bundle), "load_pretrain": False, **overrides}
        ).parser
        for inferer in (training.get_parsed_content("validate#inferer"), inference.get_parsed_content("inferer")):
            axes = getattr(inferer, "mirror_axes", None)
            assert axes == expected if axes is not None else len(inferer.flips) == 2 ** len(expected)


def test_mirror_axes_are_the_flips_of_training(bundle, dataset, tmp_path):
    for axes in ([], [0, 2]):
        parser = workflow(bundle, "train", "train", tiny_training(bundle, dataset, tmp_path, mirror_axes=axes)).parser
        transforms = parser.get_parsed_content("train#preprocessing").transforms
        flips = [transform.flipper.spatial_axis for transform in transforms if isinstance(transform, RandFlipd)]
        patches = [transform.mirror_axes for transform in transforms if isinstance(transform, RandPatchd)]
        assert [*flips, *(axis for of_patch in patches for axis in of_patch)] == axes


@pytest.mark.parametrize("names", [["train"], ["train", "evaluate"]], ids=" ".join)
def test_properties_of_training(bundle, dataset, tmp_path, names):
    assert workflow(bundle, names, "train", tiny_training(bundle, dataset, tmp_path)).check_properties() == []


def test_properties_of_inference(bundle, dataset):
    overrides = {**tiny_knobs(bundle), "dataset_dir": str(dataset / IMAGES), "load_pretrain": False}
    assert workflow(bundle, "inference", "infer", overrides).check_properties() == []


def test_a_workflow_needs_neither_data_nor_weights(bundle, tmp_path):
    overrides = {"dataset_dir": str(tmp_path / "absent"), "load_pretrain": False}
    network = workflow(bundle, "inference", "infer", overrides).network_def
    assert sum(p.numel() for p in network.parameters()) <= 5_000_000
    assert workflow(bundle, "train", "train", {"dataset_dir": str(tmp_path / "absent")}).network_def is not None


@pytest.mark.filterwarnings("ignore:No hash value provided")
def test_metadata_has_the_required_keys(bundle, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(METADATA_SCHEMA))
    monai.bundle.verify_metadata(meta_file=meta_path(bundle), filepath=str(schema))
    broken = {key: value for key, value in config(bundle, META).items() if key != "copyright"}
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="'copyright' is a required property"):
        monai.bundle.verify_metadata(meta_file=str(tmp_path / "broken.json"), filepath=str(schema))


def test_metadata_agrees_with_the_configs(bundle):
    meta, train = config(bundle, META), config(bundle)
    assert meta["schema"] == SCHEMA
    assert meta["version"] in meta["changelog"]
    assert all(0 <= int(part) <= 9 for part in meta["version"].split("."))
    formats = meta["network_data_format"]
    assert (list(formats["inputs"]), list(formats["outputs"])) == (["image"], ["pred"])
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    assert list(pred["channel_def"].values()) == train["label_names"]
    assert list(pred["channel_def"]) == [str(number) for number in range(pred["num_channels"])]
    assert image["num_channels"] == len(image["channel_def"]) == train["in_channels"]
    assert image["spatial_shape"] == train["patch_size"]
    assert pred["spatial_shape"] == (train["patch_size"] if task(bundle) == "segmentation" else [])


def test_network_matches_the_metadata(bundle):
    arguments = {"meta_file": meta_path(bundle), "config_file": paths(bundle, "inference")[0], "device": "cpu"}
    monai.bundle.verify_net_in_out("network_def", bundle_root=str(bundle), **arguments)


def test_torchscript_export_equals_pytorch(bundle, tmp_path):
    tiny = {**tiny_network(bundle), "in_channels": 1, "label_names": kind(bundle).label_names}
    network = workflow(bundle, "inference", "infer", {**tiny, "load_pretrain": False}).network_def.eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    x = torch.randn(1, 1, 16, 24, 16)
    monai.bundle.ckpt_export(
        net_id="network_def",
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file=meta_path(bundle),
        config_file=paths(bundle, "inference")[0],
        input_shape=list(x.shape),
        bundle_root=str(bundle),
        filepath=str(tmp_path / "model.ts"),
        **tiny,
    )
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(x), network(x), rtol=1e-4, atol=1e-5)

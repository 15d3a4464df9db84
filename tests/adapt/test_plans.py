"""Profiles from nnU-Net plans files: what is read, in which order of axes, what is refused, and that they train."""

from __future__ import annotations

import copy
import json

import pytest

from custom_networks.__main__ import main
from custom_networks.adapt.plans import adapt_plans
from custom_networks.nets import MbtfeUnet
from tests.synthetic import ROOT, config, tiny_training, weights, write_dataset
from tests.synthetic import run as run_bundle

BUNDLE = ROOT / "bundles" / "hippocampus_mr_mbtfe_unet_segmentation"
PLAIN = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
# What nnU-Net v2 writes for a small data set with coarse slices, as far as a network and its data are concerned.
FULLRES = {
    "data_identifier": "nnUNetPlans_3d_fullres",
    "preprocessor_name": "DefaultPreprocessor",
    "batch_size": 3,
    "patch_size": [8, 24, 16],
    "median_image_size_in_voxels": [9.0, 28.0, 22.0],
    "spacing": [5.0, 1.0, 1.5],
    "normalization_schemes": ["ZScoreNormalization", "CTNormalization"],
    "use_mask_for_norm": [False, False],
    "architecture": {
        "network_class_name": PLAIN,
        "arch_kwargs": {
            "n_stages": 4,
            "features_per_stage": [4, 8, 16, 16],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[1, 3, 3], [1, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 1], [1, 2, 2]],
            "n_conv_per_stage": [2, 2, 2, 2],
            "n_conv_per_stage_decoder": [2, 2, 2],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    },
    "batch_dice": False,
}
PLANS = {
    "dataset_name": "Dataset900_Small",
    "plans_name": "nnUNetPlans",
    "original_median_spacing_after_transp": [5.0, 1.0, 1.5],
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "configurations": {
        "2d": {"batch_size": 4, "patch_size": [24, 16], "spacing": [1.0, 1.5]},
        "3d_fullres": FULLRES,
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres", "batch_size": 2},
    },
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 1.0},
        "1": {
            "max": 9.0,
            "mean": 2.0,
            "median": 2.0,
            "min": -9.0,
            "percentile_00_5": -5.0,
            "percentile_99_5": 5.0,
            "std": 3.0,
        },
    },
}
WANT = {
    "spacing": [1.5, 1.0, 5.0],
    "patch_size": [16, 24, 8],
    "batch_size": 3,
    "network_def#features": [4, 8, 16, 16],
    "network_def#strides": [[2, 2, 1], [1, 2, 2], [2, 2, 1]],
    "network_def#kernel_size": [[3, 3, 1], [3, 3, 1], [3, 3, 3], [3, 3, 3]],
    "in_channels": 2,
    "intensity": ["z_score", {"clip": [-5.0, 5.0], "mean": 2.0, "std": 3.0}],
}


def profile_of(tmp_path, document, **kwargs):
    plans, out = tmp_path / "plans.json", tmp_path / "mine.json"
    plans.write_text(json.dumps(document))
    adapt_plans(str(plans), str(out), **kwargs)
    return json.loads(out.read_text())


def changed(*path, value):
    """Return the plans with one entry under 3d_fullres changed."""
    document = copy.deepcopy(PLANS)
    node = document["configurations"]["3d_fullres"]
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return document


def test_the_axes_are_turned_round(tmp_path, capsys):
    assert profile_of(tmp_path, PLANS) == WANT
    assert "not taken over" not in capsys.readouterr().out


def test_every_channel_is_normalised_as_planned(tmp_path, capsys):
    masked = profile_of(tmp_path, changed("use_mask_for_norm", value=[True, False]))
    assert masked["intensity"] == ["z_score_nonzero", WANT["intensity"][1]]
    usual = profile_of(tmp_path, changed("normalization_schemes", value=["ZScoreNormalization", "NoNormalization"]))
    assert "intensity" not in usual
    assert "not taken over: NoNormalization; such channels are brought to zero mean" in capsys.readouterr().out


def test_a_transposition_is_undone(tmp_path):
    """With transpose_forward (1, 2, 0) the plan's axes are y, x, z."""
    document = {**PLANS, "transpose_forward": [1, 2, 0], "transpose_backward": [2, 0, 1]}
    profile = profile_of(tmp_path, document)
    z, y, x = (FULLRES["patch_size"][axis] for axis in (2, 0, 1))
    assert profile["patch_size"] == [x, y, z]
    assert profile["network_def#strides"][1] == [2, 2, 1]


def test_a_configuration_inherits(tmp_path):
    assert profile_of(tmp_path, PLANS, configuration="3d_cascade_fullres") == WANT | {"batch_size": 2}


def test_the_layout_before_2_4_gives_the_same(tmp_path):
    old = {key: value for key, value in FULLRES.items() if key != "architecture"}
    arguments = FULLRES["architecture"]["arch_kwargs"]
    old |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 16,
        "n_conv_per_stage_encoder": [2, 2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2, 2],
        "pool_op_kernel_sizes": arguments["strides"],
        "conv_kernel_sizes": arguments["kernel_sizes"],
    }
    assert profile_of(tmp_path, {**PLANS, "configurations": {"3d_fullres": old}}) == WANT


def test_channels_and_labels_come_from_the_dataset(tmp_path):
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps({"channel_names": {"0": "T1"}, "labels": {"tumour": 2, "background": 0, "oedema": 1}}))
    profile = profile_of(tmp_path, PLANS, dataset_json=str(file))
    assert profile == WANT | {"in_channels": 1, "label_names": ["background", "oedema", "tumour"]}


def test_regions_come_from_the_dataset(tmp_path):
    file = tmp_path / "dataset.json"
    labels = {"background": 0, "core": [2], "tumour": [1, 2]}
    file.write_text(json.dumps({"channel_names": {"0": "T1"}, "labels": labels, "regions_class_order": [2, 1]}))
    profile = profile_of(tmp_path, PLANS, dataset_json=str(file))
    assert profile["label_names"] == ["background", "tumour", "core"]
    assert profile["regions"] == [[1, 2], [2]]


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        ({"background": 0, "tumour": 1, "ignore": 2}, {"label_names": ["background", "tumour"]}),
        (
            {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
            {"label_names": ["background", "whole", "core"], "regions": [[1, 2], [2]]},
        ),
    ],
)
def test_the_ignored_label_comes_from_the_dataset(tmp_path, capsys, labels, want):
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps({"channel_names": {"0": "T1", "1": "CT"}, "labels": labels}))
    ignored = {"ignore_value": labels["ignore"]}
    assert profile_of(tmp_path, PLANS, dataset_json=str(file)) == {**WANT, **want, **ignored}
    assert f"ignore_value: {labels['ignore']}" in capsys.readouterr().out


def test_the_profile_trains(tmp_path):
    """On the single-channel data of the tests, whose classes it is told."""
    planned = changed("normalization_schemes", value=["ZScoreNormalization"])
    planned["configurations"]["3d_fullres"]["use_mask_for_norm"] = [True]
    document = {key: value for key, value in planned.items() if not key.startswith("foreground")}
    profile = profile_of(tmp_path, document)
    tiny = tiny_training(BUNDLE, write_dataset(tmp_path / "data"), tmp_path / "run")
    run_bundle(BUNDLE, "train", {**tiny, **profile, "spacing": [1.0, 1.0, 1.0], "epochs": 1, "val_interval": 1})
    state = weights(tmp_path / "run" / "model.pt")
    kwargs = {key.partition("#")[2]: value for key, value in profile.items() if key.startswith("network_def#")}
    MbtfeUnet(3, 1, 3, **kwargs).load_state_dict(state)
    assert state["encoder.1.0.conv.weight"].shape == (8, 4, 3, 3, 1)
    assert config(BUNDLE)["network_def"]["attention"] == ["mbtfe", "edge_aggregation"]


ARCHITECTURE = ("architecture", "arch_kwargs")
BAD = {
    "configurations": ({"plans_name": "old"}, {}, "has no configurations; give a plans file of nnU-Net v2"),
    "name": (PLANS, {"configuration": "3d_lowres"}, "no configuration 3d_lowres; use one of 2d, 3d_fullres, 3d_casc"),
    "2d": (PLANS, {"configuration": "2d"}, r"configuration 2d is not 3D, its patch is \[24, 16\]; use 3d_fullres"),
    "class": (
        changed("architecture", "network_class_name", value="a.b.ResidualEncoderUNet"),
        {},
        "3d_fullres is a ResidualEncoderUNet; plan with nnU-Net's default planner",
    ),
    "convolutions": (
        changed(*ARCHITECTURE, "n_conv_per_stage", value=[1, 2, 2, 3]),
        {},
        r"has \[1, 2, 3\] convolutions per stage; the network here has 2",
    ),
    "stem": (
        changed(*ARCHITECTURE, "strides", value=[[1, 2, 2]] * 4),
        {},
        r"has strides \[1, 2, 2\] in its first stage; the network here has none",
    ),
    "network": (
        changed(*ARCHITECTURE, "kernel_sizes", value=[[2, 2, 2]] * 4),
        {},
        r"3d_fullres: .* cannot build its network with this profile \(.*kernel_size must be odd",
    ),
    "lacks": ({**PLANS, "configurations": {"3d_fullres": {"batch_size": 2}}}, {}, "lacks patch_size, spacing; give"),
    "no-network": (
        {**PLANS, "configurations": {"3d_fullres": {k: v for k, v in FULLRES.items() if k != "architecture"}}},
        {},
        "3d_fullres describes no network; give a plans file of nnU-Net v2",
    ),
    "statistics": (
        {**PLANS, "foreground_intensity_properties_per_channel": {}},
        {},
        "lacks percentile_00_5, percentile_99_5, mean, std of channel 1; plan with nnU-Net v2 again",
    ),
    "inherits from itself": (
        {**PLANS, "configurations": {"a": {"inherits_from": "b"}, "b": {"inherits_from": "a"}}},
        {"configuration": "a"},
        "configuration a inherits from itself; give a plans file of nnU-Net v2",
    ),
    "no arguments": (
        changed("architecture", "arch_kwargs", value={}),
        {},
        "3d_fullres: there is no entry 'features_per_stage'; give a plans file of nnU-Net v2",
    ),
    "text for a network": (changed("architecture", value="unet"), {}, "3d_fullres has an entry of another kind than"),
    "number for a configuration": ({**PLANS, "configurations": {"3d_fullres": 3}}, {}, "has an entry of another kind"),
    "number for a patch": (
        changed("patch_size", value=40),
        {},
        "has an entry of another kind .*object of type 'int'",
    ),
    "fractions of voxels": (
        changed("patch_size", value=[40, 40, 40.5]),
        {},
        r"3d_fullres: patch_size must be three positive integers, got \[40.5, 40, 40\]; write",
    ),
    "text for a batch": (changed("batch_size", value="two"), {}, "batch_size must be a positive integer, got 'two'"),
    "text for a spacing": (
        changed("spacing", value=["a", 1, 1]),
        {},
        "an entry of another kind .*could not convert",
    ),
    "axes that are not there": ({**PLANS, "transpose_backward": [0, 1, 7]}, {}, "has an entry of another kind .*range"),
    "schemes without masks": (changed("use_mask_for_norm", value=[True]), {}, "has an entry of another kind .*shorter"),
    "not-an-object": ([1], {}, "is not a JSON object; correct it"),
}


@pytest.mark.parametrize(("document", "kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_plans(tmp_path, document, kwargs, message):
    out = tmp_path / "mine.json"
    out.write_text("kept")
    with pytest.raises(ValueError, match=message):
        profile_of(tmp_path, document, **kwargs)
    assert out.read_text() == "kept"


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"labels": {"background": 0}}, "lacks channel_names or labels; give the dataset.json"),
        ({"channel_names": {"0": "T1"}, "labels": {"background": 0, "whole": "1"}}, "labels given as text; give each"),
        (
            {"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": [1, 2], "b": [2, 3]}},
            "regions a and b share",
        ),
        ({"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": 2}}, r"label values \[0, 2\]; number the"),
        (
            {"channel_names": {"0": "T1"}, "labels": {"background": 0, "a": 1, "ignore": 1}},
            "'ignore': ignore_value is 1, which is also the value of a",
        ),
        ({"channel_names": {"0": "T1"}, "labels": {"background": 0, "ignore": [1]}}, r"'ignore' the value \[1\]; give"),
    ],
    ids=["keys", "text", "regions", "gap", "ignored class", "ignored list"],
)
def test_bad_datasets(tmp_path, dataset, message):
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps(dataset))
    with pytest.raises(ValueError, match=message):
        profile_of(tmp_path, PLANS, dataset_json=str(file))


def test_a_missing_file_ends_with_one_sentence(tmp_path, capsys):
    assert main(["adapt", "--plans", str(tmp_path / "absent.json"), "--out", str(tmp_path / "mine.json")]) == 1
    assert "absent.json does not exist; give the plans.json of nnUNet_preprocessed" in capsys.readouterr().err

"""What ``--networks`` names."""

from __future__ import annotations

import json

import pytest

from custom_networks.compare.entries import find_entries


def test_a_bundle_brings_its_twins():
    entries = find_entries(["attention_unet", "transunet"], alone=False)
    names = ["attention_unet", "attention_unet:plain", "attention_unet:plain_wide"]
    assert [entry.name for entry in entries] == [
        *names,
        *(name.replace("attention_unet", "transunet") for name in names),
    ]
    assert entries[0].definition["attention"] == ["gate", "non_local"]
    assert entries[1].definition["attention"] == []
    assert entries[1].bundle.name == "hippocampus_mr_attention_unet_segmentation"


def test_alone_it_brings_what_is_named():
    entries = find_entries(["attention_unet", "mbtfe:plain", "medical_transformer"], alone=True)
    assert [entry.name for entry in entries] == ["attention_unet", "mbtfe:plain", "medical_transformer"]


def test_a_twin_that_is_named_beside_its_network_is_one():
    entries = find_entries(["attention_unet", "attention_unet:plain"], alone=False)
    assert [entry.name for entry in entries] == ["attention_unet", "attention_unet:plain", "attention_unet:plain_wide"]


def test_networks_of_monai_are_found_by_name():
    dynunet, segresnet = find_entries(["monai:DynUNet", "monai:SegResNet"], alone=False)
    assert dynunet.definition["_target_"] == "monai.networks.nets.DynUNet"
    assert "norm_name" not in segresnet.definition
    assert not segresnet.own


def test_a_file_defines_any_other(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"network_def": {"_target_": "torch.nn.Identity"}, "epochs": 3}))
    entries = find_entries([f"{file}#network_def", "monai:SegResNet"], alone=False)
    assert entries[0].name == "mine#network_def"
    with pytest.raises(ValueError, match="has no entry epochs with a _target_"):
        find_entries([f"{file}#epochs", "monai:SegResNet"], alone=False)


def test_two_files_of_one_name_are_refused(tmp_path):
    for folder, kind in (("a", "Identity"), ("b", "Flatten")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.json").write_text(json.dumps({"net": {"_target_": f"torch.nn.{kind}"}}))
    with pytest.raises(ValueError, match="two networks are called mine#net"):
        find_entries([f"{tmp_path}/a/mine.json#net", f"{tmp_path}/b/mine.json#net"], alone=True)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["attention_unet:none", "transunet"], "write attention_unet, attention_unet:plain or"),
        (["monai:UNetty", "transunet"], "is no network of monai.networks.nets"),
        (["monai:Discriminator", "transunet"], "is no network of monai.networks.nets"),
        (["attention_unet", "unety"], "there is no bundle unety"),
        (["segmentation", "transunet"], "segmentation may be .* write more of the name"),
        (["adrenal_ct_attention_classification", "transunet"], "does not segment"),
        (["attention_unet", "attention_unet"], "attention_unet is named twice"),
    ],
    ids=str,
)
def test_what_names_no_network_is_refused(names, why):
    with pytest.raises(ValueError, match=why):
        find_entries(names, alone=False)


def test_one_network_is_no_comparison():
    with pytest.raises(ValueError, match="two networks or more"):
        find_entries(["attention_unet"], alone=True)

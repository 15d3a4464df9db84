"""``list`` and ``info`` say what there is."""

from __future__ import annotations

import json

import pytest
import torch

import custom_networks
from custom_networks import bundle_folder, nets
from custom_networks.__main__ import main
from custom_networks.catalogue import attention_modules
from custom_networks.registry import ATTENTION
from tests.synthetic import BUNDLES, SEGMENTATION, config


def said(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_the_names_are_those_of_the_registry_and_of_the_networks(capsys):
    found = json.loads(said(capsys, "list", "--json"))
    assert [entry["name"] for entry in found["bundles"]] == sorted(bundle.name for bundle in BUNDLES)
    assert sorted(entry["name"] for entry in found["networks"]) == sorted(nets.__all__)
    assert {entry["name"] for entry in found["attention"]} == set(ATTENTION)
    assert {name: node.name for name, node in attention_modules().items()} == {
        name: kind.__name__ for name, kind in ATTENTION.items()
    }
    assert all(entry["summary"].endswith(".") for entry in found["attention"] + found["networks"])
    table = said(capsys, "list")
    assert all(entry["name"] in table for part in found.values() for entry in part)


def test_a_list_without_bundles_says_how_to_name_one(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_folder, "HOME", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    assert said(capsys, "list").startswith("bundles: none here; name one by its folder, its zip or the address")


def test_an_installation_says_its_versions(capsys):
    found = json.loads(said(capsys, "info", "--json"))
    assert found["custom_networks"] == custom_networks.__version__
    assert found["torch"] == torch.__version__
    assert {"python", "monai", "system", "processor"} <= set(found)
    assert said(capsys, "info").splitlines()[0].split() == ["custom_networks", custom_networks.__version__]


def test_a_bundle_says_what_it_expects_and_gives(capsys):
    bundle = SEGMENTATION[0]
    found = json.loads(said(capsys, "info", bundle.name, "--json"))
    assert found["task"] == "segmentation"
    assert found["classes"] == config(bundle)["label_names"]
    assert found["patch in voxels"] == config(bundle)["patch_size"]
    assert "removal" in found["profiles"]
    assert "classes" in said(capsys, "info", str(bundle))


@pytest.mark.parametrize(("name", "argument"), [("cbam", "reduction: int=4"), ("TransUnet", "num_layers: int=12")])
def test_a_class_says_its_arguments(capsys, name, argument):
    found = json.loads(said(capsys, "info", name, "--json"))
    assert argument in found["arguments"]
    assert "Args:" in found["documentation"]


def test_an_unknown_name(capsys):
    for name, nearest in {
        "cbma": "cbam",
        "CBAM": "cbam",
        "TransUNet": "TransUnet",
        "attention_unet": "AttentionUnet",
    }.items():
        assert main(["info", name]) == 1
        assert capsys.readouterr().err == f"error: nothing is called {name}; did you mean {nearest}?\n"
    for name in ("something else", "nowhere/cbam"):
        assert main(["info", name]) == 1
        assert f"there is no bundle {name}; use one of adrenal" in capsys.readouterr().err


def test_a_broken_neighbour_hides_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_folder, "HOME", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken" / "configs").mkdir(parents=True)
    (tmp_path / "broken" / "configs" / "train.json").write_text("{}")
    table = said(capsys, "list")
    assert "broken" in table and "cannot be read: there is no file" in table and "cbam" in table
    assert main(["info", "broken"]) == 1
    (tmp_path / "broken" / "configs" / "metadata.json").write_text("{}")
    assert "cannot be read" in said(capsys, "info", "broken")

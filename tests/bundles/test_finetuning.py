"""The shipped weights of the segmentation bundles as a start for a task with other channels and classes."""

from __future__ import annotations

import logging

import pytest
import torch
from monai.bundle import ConfigParser

from custom_networks.workflow import load_weights
from tests.synthetic import BUNDLES, config, task

SEGMENTATION = [bundle for bundle in BUNDLES if task(bundle) == "segmentation"]


@pytest.mark.parametrize("bundle", SEGMENTATION, ids=lambda bundle: bundle.name)
def test_hippocampus_weights_start_a_task_of_two_channels_and_four_classes(bundle, caplog):
    definition = {**config(bundle)["network_def"], "in_channels": 2, "out_channels": 4}
    definition.pop("_requires_")
    network = ConfigParser({"network_def": definition}).get_parsed_content("network_def")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    path = bundle / "models" / "model.pt"
    source = torch.load(path, weights_only=True)
    load_weights(network, path, strict=False)
    after = network.state_dict()
    spread = {
        key for key in source if key in after and after[key].shape[1:2] == (2,) and source[key].shape[1:2] == (1,)
    }
    assert spread
    for key in spread:
        torch.testing.assert_close(after[key].sum(dim=1), source[key].sum(dim=1))
    fresh = {
        key for key in after if key not in spread and not (key in source and after[key].shape == source[key].shape)
    }
    assert all(torch.equal(after[key], before[key]) for key in fresh)
    assert all(torch.equal(after[key], source[key]) for key in set(after) - fresh - spread)
    assert {after[key].shape[0] for key in fresh} == {4}
    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    told = record.getMessage()
    assert "\n" not in told
    for key in spread | fresh:
        assert key.rpartition(".")[0] in told

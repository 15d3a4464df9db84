"""The table of the gates shows what is in the weights."""

from __future__ import annotations

import pytest
import torch

from custom_networks.nets import AxialUnet
from tools.__main__ import main
from tools.recipes.bundles import hippocampus_mr_attention_unet_segmentation as ungated
from tools.recipes.bundles import hippocampus_mr_medical_transformer_segmentation as gated
from tools.recipes.segmentation.readme import describe_gates

SMALL = {"features": (4, 8, 8), "num_units": (1, 1)}


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "trainer": {}}])
def test_every_layer_has_a_row_with_its_changes(wrap, tmp_path, capsys):
    network = AxialUnet(**SMALL)
    with torch.no_grad():
        network.branch.stages[1][0].axes[2].gates.copy_(torch.tensor([0.3, -0.1, 1.0, 0.6]))
    path = tmp_path / "model.pt"
    torch.save(wrap(network.state_dict()), path)
    assert main(["gates", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| layer | query | key | value | position |"
    assert len(lines) == 2 + 2 * 3 + 1
    still = "0.100 (+0.000) | 0.100 (+0.000) | 1.000 (+0.000) | 0.100 (+0.000)"
    assert lines[2] == f"| `branch.stages.0.0.axes.0` | {still} |"
    moved = "0.300 (+0.200) | -0.100 (-0.200) | 1.000 (+0.000) | 0.600 (+0.500)"
    assert lines[7] == f"| `branch.stages.1.0.axes.2` | {moved} |"
    assert lines[8] == "| mean change | 0.033 | 0.033 | 0.000 | 0.083 |"


def test_weights_without_gates_are_refused(tmp_path, capsys):
    torch.save(AxialUnet(**SMALL, form="ungated").state_dict(), tmp_path / "model.pt")
    assert main(["gates", str(tmp_path / "model.pt")]) == 1
    assert 'model.pt holds no gates; give weights of a network with form "gated"' in capsys.readouterr().err


def test_weights_of_a_bundle_are_looked_for_in_its_folder(tmp_path, capsys):
    assert main(["gates", str(tmp_path / "absent")]) == 1
    assert "absent" in capsys.readouterr().err
    assert main(["gates", str(tmp_path / "absent.pt")]) == 1
    assert "there is no checkpoint" in capsys.readouterr().err


def test_the_readme_shows_the_gates_of_the_shipped_weights(tmp_path):
    assert describe_gates(gated.BUNDLE, tmp_path) == ""
    (tmp_path / "models").mkdir()
    torch.save(AxialUnet(**SMALL).state_dict(), tmp_path / "models" / "model.pt")
    text = describe_gates(gated.BUNDLE, tmp_path)
    assert "| `branch.stages.0.0.axes.0` | 0.100 (+0.000) |" in text
    assert f"python -m tools gates {gated.BUNDLE.name}" in text
    assert describe_gates(ungated.BUNDLE, tmp_path) == ""

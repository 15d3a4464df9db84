"""The parts of the check of a GPU, on a CPU: what it compares, what it calls wrong, and what it says without a GPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks.registry import ATTENTION
from tests.gpu import check_gpu as module
from tests.small_nets import CLASSIFIERS, SEGMENTERS

CPU = torch.device("cpu")


def test_without_a_gpu_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert module.main(["--output", str(tmp_path / "gpu.json")]) == 0
    assert capsys.readouterr().out == f"{module.NO_GPU}\n"
    assert not list(tmp_path.iterdir())


def test_every_network_and_module_is_compared():
    assert [name for name, _, _ in module.modules()] == [*ATTENTION, *SEGMENTERS, *CLASSIFIERS]


class Elsewhere(nn.Linear):
    """A layer that is another one when it is called for the second time."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * (1.0 if self.calls == 1 else 1.004)


@pytest.mark.parametrize(("kind", "wrong"), [(nn.Linear, []), (Elsewhere, ["float32", "gradients"])])
def test_what_differs_is_named(monkeypatch, kind, wrong):
    monkeypatch.setattr(module, "modules", lambda: iter([("layer", kind(4, 4), torch.randn(8, 4))]))
    found = {"parity": module.parity(CPU)}
    assert [name.rpartition(" ")[2] for name in module.failures(found)] == wrong
    assert all(name.startswith("parity: layer: ") for name in module.failures(found))


def test_a_part_that_breaks_ends_no_other_and_time_ends_the_rest(capsys):
    def broken():
        raise RuntimeError("out of\nmemory")

    fine = {"one": {"fails": False}}
    found = module.check(CPU, {"broken": broken, "fine": lambda: fine}, 1)
    assert found["broken"]["error"] == "RuntimeError: out of memory"
    assert module.failures(found) == ["broken"]
    assert module.failures(module.check(CPU, {"fine": lambda: fine}, -1)) == ["fine"]


@pytest.mark.slow
def test_speed_is_read_from_the_log_and_a_resumed_training_is_equal(tmp_path, monkeypatch):
    bundle = next(module.ROOT.glob("bundles/hippocampus_mr_attention_unet_segmentation"))
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / bundle.name).symlink_to(bundle)
    (tmp_path / "custom_networks").symlink_to(bundle.parents[1] / "custom_networks")
    monkeypatch.setattr(module, "TRAINING", {**module.TRAINING, "num_workers": 0, "patch_size": [16, 16, 16]})
    data = module.write_data(tmp_path / "data")
    found = {"resume": module.resume(CPU, data, tmp_path), "speed": module.speed(CPU, data, tmp_path)}
    assert module.failures(found) == []
    assert found["resume"][bundle.name]["tensors"] > 10
    assert found["speed"][bundle.name]["samples_per_second"] > 0

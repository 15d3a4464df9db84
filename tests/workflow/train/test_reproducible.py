from __future__ import annotations

import logging
import os
import random

import numpy as np
import pytest
import torch
from torch.overrides import _len_torch_function_stack, _pop_mode

from custom_networks.workflow import seed_training
from custom_networks.workflow.train import reproducible as module
from custom_networks.workflow.train.repeatable import Repeatable


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    monkeypatch.delenv(module.WORKSPACE, raising=False)
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    yield
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = before
    torch.use_deterministic_algorithms(False)
    os.environ.pop(module.WORKSPACE, None)


def test_every_generator_is_seeded():
    drawn = []
    for seed in (3, 4, 3):
        seed_training(seed, False, "cpu")
        drawn.append((torch.rand(()).item(), random.random(), float(np.random.rand())))  # noqa: NPY002
    assert drawn[0] == drawn[2]
    assert all(a != b for a, b in zip(*drawn[:2], strict=True))


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_gpu_is_repeatable_or_fast(deterministic, caplog):
    with caplog.at_level(logging.INFO, module.__name__):
        seed_training(0, deterministic, "cuda:1")
    assert torch.backends.cudnn.benchmark is not deterministic
    assert torch.backends.cudnn.deterministic is deterministic
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert torch.is_deterministic_algorithms_warn_only_enabled() or not deterministic
    modes = [_pop_mode() for _ in range(_len_torch_function_stack())]
    assert [type(mode) for mode in modes] == [Repeatable] * deterministic
    assert (module.WORKSPACE in os.environ) is deterministic
    assert caplog.messages[0].startswith(f"deterministic is {str(deterministic).lower()}: algorithms of the GPU")


@pytest.mark.parametrize("deterministic", [True, False])
def test_nothing_is_switched_on_a_cpu(deterministic, caplog):
    with caplog.at_level(logging.INFO, module.__name__):
        seed_training(0, deterministic, torch.device("cpu"))
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    assert not caplog.messages

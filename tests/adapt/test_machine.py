"""What a plan is made for: the device and the memory that are given or found, and what is refused."""

from __future__ import annotations

import pytest
import torch

from custom_networks.adapt import machine as module
from custom_networks.adapt.machine import check_minutes, find_machine

GB = 10**9


@pytest.fixture
def gpus(monkeypatch):
    """Return what gives this machine GPUs with 10 GB free each."""

    def give(number: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
        free = {"cuda": 10 * GB, "cpu": 4 * GB}
        monkeypatch.setattr(module, "available_bytes", lambda device: free[device.type])

    return give


@pytest.mark.parametrize(
    ("number", "device", "want", "memory", "knobs"),
    [
        (0, "auto", "cpu", int(0.85 * 4 * GB), {}),
        (0, "cpu", "cpu", int(0.85 * 4 * GB), {"device": "cpu"}),
        (1, "auto", "cuda:0", 10 * GB, {}),
        (2, "cuda", "cuda:0", 10 * GB, {}),
        (2, "cuda:1", "cuda:1", 10 * GB, {"device": "cuda:1"}),
        (1, "cpu", "cpu", int(0.85 * 4 * GB), {"device": "cpu"}),
    ],
)
def test_what_is_found(gpus, number, device, want, memory, knobs):
    gpus(number)
    found = find_machine(device, "auto")
    assert (str(found.device), found.memory, found.there, found.knobs) == (want, memory, True, knobs)


def test_a_gpu_that_is_elsewhere_needs_its_memory(gpus):
    gpus(0)
    found = find_machine("cuda", "24GB")
    assert (found.memory, found.there, found.is_gpu) == (24 * GB, False, True)
    assert "this machine has none, the plan is for another one" in found.words[1]
    with pytest.raises(ValueError, match=r"no device cuda here whose memory could be measured; give --memory, such as"):
        find_machine("cuda", "auto")
    gpus(1)
    with pytest.raises(ValueError, match=r"no device cuda:1 here"):
        find_machine("cuda:1", "auto")


def test_cached_data_are_in_main_memory(gpus):
    gpus(1)
    assert find_machine("cuda", "24GB").room_for_data(GB) == int(0.85 * 4 * GB)
    assert find_machine("cpu", "8GB").room_for_data(GB) == 7 * GB


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:a", "cuda:-1", "CPU", "", "mps", "cuda:0,1", "None"])
def test_other_devices_are_refused(device):
    with pytest.raises(
        ValueError, match=r"^device must be auto, cpu, cuda or cuda:<number>, got .*; write for example"
    ):
        find_machine(device, "8GB")


@pytest.mark.parametrize("memory", ["much", "0", "-8GB", "24 gigs", "", "None", "nan"])
def test_other_memories_are_refused(memory):
    with pytest.raises(ValueError, match=r"^memory must be a size such as 8GB or 512MB"):
        find_machine("cpu", memory)


@pytest.mark.parametrize("minutes", [0, -1, "much", True, "nan", "inf", [30], "1,5", ""])
def test_other_minutes_are_refused(minutes):
    with pytest.raises(
        ValueError, match=r"^minutes must be a positive number, got .*; write for example --minutes 30$"
    ):
        check_minutes(minutes, find_machine("cpu", "8GB"))


def test_minutes_need_the_device(gpus):
    gpus(0)
    cpu, elsewhere = find_machine("cpu", "8GB"), find_machine("cuda", "8GB")
    assert check_minutes(None, elsewhere) is None
    assert check_minutes("1.5", cpu) == check_minutes(1.5, cpu) == 1.5
    with pytest.raises(
        ValueError, match=r"^--minutes needs the steps measured, but there is no device cuda:0 here; leave"
    ):
        check_minutes(30, elsewhere)

"""What a plan is made for: the device that trains and the memory that it has."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch

from custom_networks.workflow.guard.processors import cores
from custom_networks.workflow.memory.bill import available_bytes, format_bytes, parse_bytes

AUTO = "auto"
CPU = torch.device("cpu")
# of the free main memory, for the training and its data; the rest is left to the process and to the system
SHARE_OF_RAM = 0.85


@dataclass(frozen=True)
class Machine:
    """A device and its memory.

    Args:
        device: the device.
        memory: bytes that a plan is made for.
        there: whether this machine has the device.
        given: whether the device was given, not chosen.
        words: both for people, and where they are from.
    """

    device: torch.device
    memory: int
    there: bool
    given: bool
    words: tuple[str, str]

    @property
    def is_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    @property
    def knobs(self) -> dict[str, str]:
        """What the profile says of the device: nothing where training chooses it anyway."""
        plain = self.device.type == "cuda" and not self.device.index
        return {"device": str(self.device)} if self.given and not plain else {}

    def room_for_data(self, step: int) -> int:
        """Return the bytes of main memory that are left to cached data.

        Args:
            step: bytes of a step of training on the device.
        """
        return int(SHARE_OF_RAM * available_bytes(CPU)) if self.is_gpu else self.memory - step


def find_machine(device: str, memory: str) -> Machine:
    """Return what a plan is made for.

    Args:
        device: "auto" for a GPU where there is one, else the CPU; "cpu", "cuda" or "cuda:1".
        memory: a size such as 24GB, or "auto" for what is free on the device.

    Raises:
        ValueError: if either is something else, or the memory of a device is to be measured that is not there.

    Example:
        >>> find_machine("cuda", "24GB").memory
        24000000000
    """
    found = re.fullmatch(r"auto|cpu|cuda(:\d+)?", device)
    if found is None:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:<number>, got {device!r}; write for example cuda:0")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    name = ("cuda" if gpus else "cpu") if device == AUTO else device
    chosen = torch.device("cuda", 0) if name == "cuda" else torch.device(name)
    there = chosen.type == "cpu" or (chosen.index or 0) < gpus
    if memory != AUTO:
        size, why = parse_bytes(memory), "--memory"
    elif not there:
        raise ValueError(
            f"there is no device {device} here whose memory could be measured; give --memory, such as 24GB, or "
            "--device cpu"
        )
    elif chosen.type == "cpu":
        size, why = int(SHARE_OF_RAM * available_bytes(chosen)), f"{SHARE_OF_RAM:.0%} of what is free"
    else:
        size, why = available_bytes(chosen), "what is free"
    where = "" if there else "; this machine has none, the plan is for another one"
    kind = f"{cores()} cores" if chosen.type == "cpu" else torch.cuda.get_device_name(chosen) if there else "a GPU"
    words = f"{name}, {format_bytes(size)}", f"{kind}, memory: {why}{where}"
    return Machine(chosen, size, there, device != AUTO, words)


def check_minutes(minutes: Any, machine: Machine) -> float | None:
    """Return how long a training may take, or ``None`` where nobody says.

    Args:
        minutes: a positive number, or ``None``.
        machine: on which the steps are to be measured.

    Raises:
        ValueError: if it is something else, or the steps cannot be measured.
    """
    if minutes is None:
        return None
    try:
        number = float(str(minutes))
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"minutes must be a positive number, got {minutes!r}; write for example --minutes 30")
    if not machine.there:
        raise ValueError(
            f"--minutes needs the steps measured, but there is no device {machine.device} here; leave --minutes out, "
            "or run adapt on the machine that trains"
        )
    return number

"""Parameters, MACs, time and memory of every registered attention module, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from custom_networks.files import read_json, write_text
from custom_networks.registry import ATTENTION
from tools.bench.bench import check_device, check_repeats, conditions, summary, take_turns
from tools.reference.attention_reference import FIGURES, YARDSTICK, check_notes, page
from tools.reference.reach import CONTROL, reach

SIZES = ((32, 24), (64, 16), (128, 8))
"""Channels and voxels per axis: three levels of a 3D network."""


def definitions(channels: int) -> dict[str, dict[str, Any]]:
    """Return the configuration of the yardstick and of every registered module with its default arguments.

    Args:
        channels: channels in and out.
    """
    convolution = {"in_channels": channels, "out_channels": channels, "kernel_size": 3, "padding": 1}
    modules = {
        name: {"_target_": f"{kind.__module__}.{kind.__name__}", "spatial_dims": 3, "in_channels": channels}
        for name, kind in ATTENTION.items()
    }
    return {YARDSTICK: {"_target_": "torch.nn.Conv3d", **convolution}, **modules}


def bench_attention(
    *,
    repeats: int = 3,
    output: str = str(FIGURES),
    device: str = "cpu",
    amp: bool = False,
    threads: int | None = None,
) -> dict[str, Any]:
    """Measure every attention module at three sizes beside a 3x3x3 convolution, and write the reference page.

    Batch of one, default arguments. Every figure is the median over ``repeats`` fresh processes per module, which take
    turns; in each process the median of three or more runs after a warm-up. Forward: eval mode, no gradients. Step:
    forward, mean square of the output, backward to the input and the parameters, AdamW. Memory: peak of what torch
    allocates for tensors during the run, that is, without the input and, at a step, with gradients and AdamW's state.
    MACs: half of what torch's flop counter counts.

    Args:
        repeats: rounds, at least 1.
        output: JSON file to write; the page goes beside it with the suffix ``.md``.
        device: ``cpu`` or ``cuda``.
        amp: autocast (bfloat16; float16 on GPUs without it).
        threads: CPU threads; as torch chooses if None.

    Raises:
        ValueError: if an argument is out of range, a module has no note, or a module cannot be run.
    """
    check_repeats(repeats)
    check_device(device)
    check_notes()
    control = read_json(CONTROL)
    reach(control)
    options = {"repeats": repeats, "device": device, "amp": amp, "threads": threads}
    common = {"device": device, "amp": bool(amp), "threads": threads, "inner": True}
    by_size = {size: definitions(size[0]) for size in SIZES}
    names = [YARDSTICK, *ATTENTION]
    jobs = [
        [
            {"config": {"network_def": by_size[size][name]}, "shape": (1, size[0], *(size[1],) * 3), **common}
            for size in SIZES
        ]
        for name in names
    ]
    runs = take_turns(jobs, names, repeats)
    words = [f"--{key} {value}" for key, value in options.items() if value not in (None, False)]
    report = {
        "command": " ".join(["python -m tools bench attention", *words]),
        **conditions(runs[0][0][0], device),
        "repeats": repeats,
        "modules": {
            name: [
                {"channels": channels, "grid": [voxels] * 3, **summary(rounds)}
                for (channels, voxels), rounds in zip(SIZES, own, strict=True)
            ]
            for name, own in zip(names, runs, strict=True)
        },
    }
    text = page(report, control)
    file = Path(output)
    write_text(file, json.dumps(report, indent=2) + "\n")
    write_text(file.with_suffix(".md"), text)
    print(f"written: {file} and {file.with_suffix('.md')}")
    return report

"""What adapt makes of each network's arguments for a patch, by what the network's class says of them."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from custom_networks import nets
from custom_networks.adapt.choices import largest_patch
from custom_networks.adapt.network import build, network_knobs, precision_of, step_bytes
from tests.synthetic import BUNDLES, config, each

CUBE = ([1.0, 1.0, 1.0], (40, 56, 40))
SLICES = ([1.5, 1.5, 10.0], (144, 160, 12))
LEVELS = {"features": [8, 16, 32, 64], "strides": 2, "kernel_size": 3}
STEM = {"features": [8, 16, 32, 64], "strides": [1, 2, 1], "kernel_size": 3, "stem_pool": 2, "num_units": [1, 1, 1]}
TOKENS = {"strides": 2, "kernel_size": 3, "num_layers": 1, "num_heads": 2}
CASES: dict[str, tuple[str, dict[str, Any], tuple, dict[str, Any]]] = {
    "AttentionUnet": ("AttentionUnet", LEVELS, CUBE, {}),
    "MbtfeUnet": ("MbtfeUnet", LEVELS, CUBE, {}),
    "TransUnet": ("TransUnet", LEVELS | {"num_units": [1, 1]}, CUBE, {"token_grid": [5, 7, 5]}),
    "Setr": ("Setr", LEVELS | {"num_heads": 4}, CUBE, {"token_grid": [5, 7, 5]}),
    "Primus": ("Primus", TOKENS | {"version": 1, "features": [24]}, CUBE, {"token_grid": [5, 7, 5]}),
    "AxialUnet": ("AxialUnet", STEM, CUBE, {"token_grid": [20, 28, 20]}),
    "AxialUnet without a pooling": (
        "AxialUnet",
        {"features": [8, 16, 32], "strides": 2, "kernel_size": 3, "num_units": [1, 1]},
        CUBE,
        {"token_grid": [20, 28, 20]},
    ),
    "MedicalTransformer": (
        "MedicalTransformer",
        STEM,
        CUBE,
        {"token_grid": [20, 28, 20], "window_size": [20, 28, 20]},
    ),
    "MedicalTransformer that counts its windows": (
        "MedicalTransformer",
        STEM | {"window_grid": 2},
        CUBE,
        {"token_grid": [20, 28, 20]},
    ),
    "TransUnet on slices": (
        "TransUnet",
        LEVELS | {"num_units": [1, 1]},
        SLICES,
        {
            "strides": [[2, 2, 1], [2, 2, 1], [2, 2, 2]],
            "kernel_size": [[3, 3, 1], [3, 3, 1], [3, 3, 3], [3, 3, 3]],
            "token_grid": [18, 18, 6],
        },
    ),
    "Setr on slices": (
        "Setr",
        LEVELS | {"num_heads": 4},
        SLICES,
        {
            "strides": [[2, 2, 1], [2, 2, 1], [2, 2, 2]],
            "kernel_size": [[3, 3, 1], [3, 3, 3], [3, 3, 3]],
            "token_grid": [18, 18, 6],
        },
    ),
    "Primus on slices": (
        "Primus",
        TOKENS | {"version": 3, "features": [4, 8, 8, 8, 24]},
        SLICES,
        {
            "strides": [[2, 2, 1], [2, 2, 1], [2, 2, 2]],
            "kernel_size": [[3, 3, 1], [3, 3, 1], [3, 3, 3], [3, 3, 3]],
            "token_grid": [18, 18, 6],
        },
    ),
    "AxialUnet on slices": (
        "AxialUnet",
        STEM,
        SLICES,
        {
            "strides": [[1, 1, 1], [2, 2, 1], [1, 1, 1]],
            "stem_pool": [2, 2, 1],
            "kernel_size": [[3, 3, 1], [3, 3, 1], [3, 3, 3], [3, 3, 3]],
            "token_grid": [72, 74, 12],
        },
    ),
    "MedicalTransformer on slices": (
        "MedicalTransformer",
        STEM,
        SLICES,
        {
            "strides": [[1, 1, 1], [2, 2, 1], [1, 1, 1]],
            "stem_pool": [2, 2, 1],
            "kernel_size": [[3, 3, 1], [3, 3, 1], [3, 3, 3], [3, 3, 3]],
            "token_grid": [72, 74, 12],
            "window_size": [72, 76, 12],
        },
    ),
}


@pytest.mark.parametrize(("name", "definition", "data", "want"), CASES.values(), ids=CASES.keys())
def test_what_follows_from_the_patch(name, definition, data, want):
    spacing, median = data
    target = {"_target_": f"custom_networks.nets.{name}"}
    raw = largest_patch(median, spacing, 64**3)
    patch, strides, own = network_knobs({**target, **definition}, spacing, median, raw)
    assert {key.removeprefix("network_def#"): value for key, value in own.items()} == want
    arguments = {**definition, **want}
    kind = getattr(nets, name)
    assert kind.steps_of(arguments, 3) == strides
    net = kind(**arguments)
    assert [n % part for n, part in zip(patch, net.size_divisor, strict=True)] == [0, 0, 0]
    if "window_size" in want:
        assert net.window_size == want["window_size"]


def test_other_networks_are_refused():
    definition = {"_target_": "monai.networks.nets.UNet", "strides": [2], "kernel_size": 3}
    with pytest.raises(ValueError, match=r"must be a segmentation network of .*, got monai\..*UNet; use a"):
        network_knobs(definition, *CUBE, CUBE[1])


@pytest.mark.parametrize("native", [True, False])
@each(BUNDLES)
def test_the_shipped_patches_are_not_thin(bundle, monkeypatch, native):
    monkeypatch.setattr("custom_networks.workflow.infer.inferers.has_bfloat16", lambda device: native)
    assert precision_of(config(bundle), build(bundle, {}))[0] == ("bfloat16" if native else "float32")


@each(BUNDLES)
def test_the_precision_of_a_thin_patch_is_float32(bundle, monkeypatch):
    """A classifier's is thin only where its attention convolves the smallest grid that it can get."""
    monkeypatch.setattr("custom_networks.workflow.infer.inferers.has_bfloat16", lambda device: True)
    network = build(bundle, {})
    least = getattr(network, "min_size", None)
    patch = list(least) if least else [2 * network.size_divisor[0], 56, 40]
    if least:
        network.attention = nn.Conv3d(32, 32, 3, padding=1)
    elif hasattr(network, "window_size"):
        network.window_size = [8, 28, 20]
    knobs = {**config(bundle), "patch_size": patch}
    precision, why = precision_of(knobs, network)
    assert precision == "float32"
    assert "the patch is too thin for torch's bfloat16" in why
    need = {amp: step_bytes(network, {**knobs, "amp": amp}, patch, 1) for amp in (True, False)}
    assert need[True] == need[False]

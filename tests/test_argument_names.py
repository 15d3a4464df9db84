"""A wrong argument is answered with its own name, not with that of an inner module's argument."""

from __future__ import annotations

import inspect
import re

import pytest

from custom_networks import attention, blocks, nets, plug
from custom_networks.registry import ATTENTION

REQUIRED = {
    blocks.AttentionGate: {"in_channels": 8, "gating_channels": 12},
    blocks.DualConv: {"in_channels": 8, "out_channels": 8},
    blocks.EdgeAggregation: {"in_channels": (4, 6)},
    blocks.Mbtfe: {"in_channels": 8},
    blocks.SkipGate: {"in_channels": 8},
    blocks.SpatialMask: {},
    blocks.StandardisedConvolution: {"in_channels": 8, "out_channels": 8},
    blocks.UpBlock: {"in_channels": 8, "skip_channels": 4, "out_channels": 8},
    blocks.convolution_block: {"in_channels": 10, "out_channels": 8, "act": "relu", "norm": "instance"},
    blocks.AxialBlock: {"in_channels": 8, "out_channels": 8},
    blocks.AxialBranch: {"in_channels": 1, "features": (4, 8, 8), "num_units": (1, 1)},
    blocks.GatedAxialAttention: {"in_channels": 8, "axis": 0},
    blocks.ResidualTrunk: {"in_channels": 1, "features": (8, 16, 16), "num_units": (1, 1)},
    blocks.ConvolutionalTokens: {"in_channels": 1, "features": (4, 6, 8)},
    blocks.EvaTransformer: {"in_channels": 24, "num_heads": 2},
    blocks.PatchEmbedding: {"in_channels": 1, "out_channels": 8},
    blocks.ResidualUnit: {"in_channels": 4, "out_channels": 8},
    blocks.RotarySelfAttention: {"in_channels": 16},
    blocks.VisionTransformer: {"in_channels": 16},
    nets.AttentionClassifier: {"features": (4, 6)},
    nets.AxialUnet: {"features": (4, 8, 8), "num_units": (1, 1)},
    nets.MedicalTransformer: {"features": (4, 8, 8), "num_units": (1, 1), "global_levels": 1},
    nets.Primus: {"version": 3, "features": (4, 6, 8, 24), "num_heads": 2, "num_layers": 1},
    nets.Setr: {"features": (4, 8, 16), "num_heads": 2, "num_layers": 1},
    nets.TransUnet: {"features": (4, 8, 8, 16), "num_units": (1, 1), "num_heads": 2, "num_layers": 1},
    nets.AttentionUnet: {"features": (4, 6, 8)},
    nets.MbtfeUnet: {"features": (4, 6, 8)},
    **{kind: {"in_channels": 16} for kind in ATTENTION.values()},
}
# Values that no class takes, by argument.
WRONG = {
    "attention": [("x",), "gate"],
    "attention_module": ["x"],
    "branches": [(), ("x",)],
    "dilation": [0],
    "dilations": [(1,), (0, 1)],
    "dropout": [2.0],
    "dropout_path_rate": [1.0],
    "dual_groups": [0, 5],
    "energy_lambda": [0],
    "eps": [-1],
    "form": ["x"],
    "gate_reduction": [0],
    "global_levels": [0, 3],
    "grid_size": [0, (2, 2)],
    "groups": [0, 3],
    "head_channels": [0],
    "inter_channels": [0],
    "kernel_size": [0],
    "key_reduction": [0],
    "local_form": ["x"],
    "mbtfe_levels": [(9,)],
    "memory_size": [0],
    "min_channels": [1],
    "mode": ["x"],
    "mlp_ratio": [0],
    "non_local_levels": [(9,)],
    "norm_groups": [0],
    "num_heads": [0],
    "num_layers": [0],
    "num_registers": [-1],
    "num_units": [(), (0, 1)],
    "patch": [0, (2, 2)],
    "pool": [0, (2, 2)],
    "position_embedding": ["x"],
    "recurrence": [0],
    "reduction": [0],
    "root_convolutions": [0],
    "root_level": [2],
    "spatial_dims": [1, 4],
    "stem_convolutions": [0],
    "stem_pool": [0, (2, 2)],
    "strides": [0, (2, 2, 2, 2, 2)],
    "sub_sample": [0, (2, 2)],
    "token_grid": [0, (2, 2)],
    "version": [0],
    "window_grid": [0, (2, 2)],
    "window_size": [0, (2, 2)],
}
NARROW = [
    (blocks.Mbtfe, "in_channels", 1),
    (blocks.Mbtfe, "out_channels", 1),
    (blocks.EdgeAggregation, "in_channels", (4,)),
    (nets.AttentionUnet, "norm", "instance"),
    (nets.AttentionUnet, "features", (4,)),
    (nets.AttentionClassifier, "features", (4, 6, 8)),
    (nets.MbtfeUnet, "features", (1, 4, 4)),
    (nets.AxialUnet, "features", (4, 6, 8)),
    (nets.MedicalTransformer, "features", (3, 8, 8)),
    (nets.TransUnet, "features", (4, 8, 9, 16)),
    (nets.Primus, "features", (4, 6)),
    (nets.Primus, "num_heads", 5),
    (nets.Primus, "num_heads", 12),
    (nets.Setr, "num_heads", 5),
    (nets.TransUnet, "num_heads", 5),
    (blocks.ResidualTrunk, "features", (8, 10, 16)),
]
CASES = [
    (kind, name, value)
    for kind in REQUIRED
    for name in inspect.signature(kind).parameters
    for value in WRONG.get(name, ())
] + NARROW
KINDS = [getattr(package, name) for package in (attention, blocks, nets) for name in package.__all__]
ARGUMENTS = {name for kind in KINDS if inspect.isclass(kind) for name in inspect.signature(kind).parameters}
EVERY_ARGUMENT = ARGUMENTS - {"attention", "channels", "module"}  # words of their own


@pytest.mark.parametrize(
    ("kind", "name", "value"), [pytest.param(*case, id=f"{case[0].__name__}-{case[1]}-{case[2]}") for case in CASES]
)
def test_the_error_names_what_the_caller_passed(kind, name, value):
    own = inspect.signature(kind).parameters
    arguments = {"spatial_dims": 3} | REQUIRED[kind] | {name: value}
    with pytest.raises(ValueError, match=rf"\b{name.replace('_', '[_ ]')}\b") as refused:
        kind(**arguments)
    unquoted = re.sub("'[^']*'", "", str(refused.value))
    named = set(re.findall(r"\w+", unquoted)) & EVERY_ARGUMENT
    assert named <= own.keys(), f"{refused.value}: {kind.__name__} has no {named - own.keys()}"


def test_an_attention_module_by_name_says_on_which_map_it_does_not_fit():
    """The in_channels of its message are those of the map, not those of the network's image."""
    message = (
        "^attention module 'shuffle_attention' on a map of 6 channels: groups must divide .* got 2; use one of 1, 3$"
    )
    with pytest.raises(ValueError, match=message):
        nets.AttentionClassifier(
            features=(4, 6), attention_module="shuffle_attention", attention_module_arguments={"groups": 2}
        )
    with pytest.raises(ValueError, match=message):
        plug(nets.AttentionUnet(features=(6, 8)), "encoder.0", "shuffle_attention", groups=2)


def test_one_word_has_one_meaning():
    """Norm groups, heads and channel groups are three things; tokens are counted by one word, parts named by one."""
    kinds = [kind for kind in KINDS if inspect.isclass(kind)]
    arguments = {kind.__name__: inspect.signature(kind).parameters for kind in kinds}
    named = {word: {name for name, own in arguments.items() if word in own} for word in EVERY_ARGUMENT | {"attention"}}
    assert {"position_grid", "grid", "checkpoint", "heads", "n_heads"}.isdisjoint(named)
    of_channels = {"DualConv", "SelectiveKernel", "ShuffleAttention", "SpatialGroupEnhance"}
    assert named["groups"] == of_channels, "groups are groups of channels, as in a convolution"
    assert named["token_grid"] >= {
        "TransUnet",
        "Primus",
        "Setr",
        "AxialUnet",
        "MedicalTransformer",
        "VisionTransformer",
    }
    assert {str(arguments[name]["attention"].annotation) for name in named["attention"]} == {"Sequence[str]"}
    assert {str(arguments[name]["checkpointing"].annotation) for name in named["checkpointing"]} == {"bool"}

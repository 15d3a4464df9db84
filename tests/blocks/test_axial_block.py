"""AxialBlock against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from custom_networks.blocks import AxialBlock
from custom_networks.blocks.gated_axial_attention import FORMS
from tests import harness
from tests.modules import randomised
from tests.references import axial as axial_references
from tests.references.layers import State, below
from tests.references.oracles import compare_with_oracle

SMALL = {"token_grid": 4, "num_heads": 2}
INSTANCE = ("instance", {"affine": True})


def _case(dims: int, **options) -> harness.Case:
    def build(**kwargs) -> nn.Module:
        return AxialBlock(dims, 8, 8, **SMALL | options | kwargs)

    name = f"axial_block-{dims}d-{'-'.join(map(str, options.values()))}"
    return harness.Case.of(name, build, AxialBlock, (8, 4, 6, 5)[: dims + 1], out_channels=8)


CASES = [_case(2), _case(3), _case(3, use_attention=False), _case(3, form="position_free")]
# Three attentions are slow to export; the graphs of the networks, which the same checks run, have all of this one.
GRAPHS = (harness.check_export, harness.check_compile, harness.check_onnx)
QUICK = tuple(check for check in harness.MODULE_CHECKS if check not in GRAPHS)


@pytest.mark.parametrize(("case", "check"), harness.battery(CASES, (*QUICK, harness.check_unit_and_odd_axes)))
def test_battery(case, check):
    check(case)


class _Strided(nn.Module):
    """A block with strides, resized to the grid of its input."""

    def __init__(self, **kwargs) -> None:
        super().__init__()
        self.block = AxialBlock(3, 6, 8, strides=(1, 2, 3), **SMALL | kwargs)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.block(x), size=x.shape[2:])


STRIDED = harness.Case.of(
    "axial_block-strided", _Strided, AxialBlock, (6, 4, 7, 11), out_channels=8, part_of="MedicalTransformer"
)


@pytest.mark.parametrize(("case", "check"), harness.battery([STRIDED], QUICK))
def test_battery_with_strides(case, check):
    check(case)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("size", "in_channels", "strides", "options"),
    [
        ((3, 4, 2), 8, 1, {}),
        ((3, 4, 2), 6, 1, {"norm": "batch"}),
        ((3, 4, 5), 8, (1, 2, 3), {"form": "released", "norm": "batch"}),
        ((5, 4), 8, 2, {"form": "position_free"}),
        ((1, 4, 3), 8, 1, {"form": "ungated"}),
        ((3, 4, 1), 4, (2, 1, 1), {}),
        ((3, 5, 2), 8, (1, 2, 1), {"use_attention": False}),
    ],
    ids=str,
)
def test_equals_the_formula(size, in_channels, strides, options, training):
    block = randomised(AxialBlock(len(size), in_channels, 8, strides=strides, **SMALL | options)).train(training)
    state = {name: value.clone() for name, value in block.state_dict().items()}
    x = torch.randn(2, in_channels, *size, dtype=torch.float64)
    steps = (strides,) * len(size) if isinstance(strides, int) else strides
    released = options.get("form") == "released"
    want = axial_references.axial_block(x, state, 2, steps, released=released, training=training)
    torch.testing.assert_close(block(x), want, rtol=1e-9, atol=1e-9)
    for name, buffer in block.named_buffers():
        torch.testing.assert_close(buffer, state[name], msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[1:], ids=str)
def test_axes_are_attended_in_turn(order):
    """Permuting input and layers permutes the output only if the layers are then applied in the permuted order."""
    block = randomised(AxialBlock(3, 8, 8, **SMALL))
    other = randomised(AxialBlock(3, 8, 8, **SMALL))
    state = block.state_dict()
    for name, value in block.state_dict().items():
        if name.startswith("axes."):
            _, axis, rest = name.split(".", 2)
            state[f"axes.{order.index(int(axis))}.{rest}"] = value
    other.load_state_dict(state)
    x = torch.randn(1, 8, 3, 4, 5, dtype=torch.float64)
    places = (0, 1, *(2 + o for o in order))
    y = other.reduce(x.permute(places)).relu()
    for axis in range(3):
        y = other.axes[order.index(axis)](y)
    y = (x.permute(places) + other.expand(y.relu())).relu()
    torch.testing.assert_close(y, block(x).permute(places), rtol=1e-10, atol=1e-10)
    assert (other(x.permute(places)) - y).abs().max() > 1e-3


def test_dropout_is_in_the_branch_before_the_sum():
    block = randomised(AxialBlock(2, 8, 8, **SMALL)).train()
    block.dropout.p = 1.0
    x = torch.randn(1, 8, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(block(x), x.relu())


@pytest.mark.parametrize("form", FORMS)
def test_options_reach_the_attention(form):
    block = AxialBlock(
        3, 8, 16, token_grid=(2, 3, 5), num_heads=2, form=form, max_logits=7, checkpointing=True, norm="batch"
    )
    for axis, layer in enumerate(block.axes):
        assert (layer.axis, layer.num_heads, layer.max_logits, layer.checkpointing) == (axis, 2, 7, True)
        assert layer.table is None if form == "position_free" else len(layer.table) == (3, 5, 9)[axis]
        assert (layer.gates is None) == (form in ("ungated", "position_free"))
    assert not any(isinstance(module, nn.InstanceNorm3d) for module in block.modules())


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize(("in_channels", "strides", "changes"), [(16, 1, False), (12, 1, True), (16, 2, True)])
def test_parameter_count(dims, attention, in_channels, strides, changes):
    block = AxialBlock(
        dims, in_channels, 16, strides=strides, use_attention=attention, token_grid=(2, 3, 5)[:dims], num_heads=4
    )
    c, out, i = in_channels, 16, 8
    want = c * i + i * out + 2 * i + 2 * out + (c * out + 2 * out if changes else 0)
    if attention:
        want += sum(2 * i * i + 8 * i + 3 * 4 + (2 * k - 1) * 2 * i // 4 + 4 for k in (2, 3, 5)[:dims])
    assert sum(p.numel() for p in block.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "width": ({"out_channels": 10}, "out_channels must be a multiple of 4, got 10; use for example 12"),
    "none": ({"out_channels": 0}, "out_channels must be a multiple of 4, got 0; use for example 4"),
    "grid": ({"token_grid": (4, 4)}, r"token_grid must be a positive integer or 3 .* got \(4, 4\)"),
    "strides": ({"strides": (2, 2)}, r"strides must be a positive integer or 3 positive integers, got \(2, 2\)"),
    "form": ({"form": "post"}, r"form must be one of \('gated', .* got 'post'; choose one"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AxialBlock(**{"spatial_dims": 3, "in_channels": 8, "out_channels": 8} | kwargs)


# --- reference outputs


def _names(state: State) -> State:
    """Give the published block's weights our names."""
    units = {"conv_down": "reduce.conv", "bn1": "reduce.norm.norm", "conv_up": "expand.conv", "bn2": "expand.norm.norm"}
    units |= {"downsample.0": "shortcut.conv", "downsample.1": "shortcut.norm.norm"}
    found = {}
    for key, value in state.items():
        old, _, kind = key.rpartition(".")
        if old in units:
            found[f"{units[old]}.{kind}"] = value
    for axis, name in enumerate(("hight_block", "width_block")):
        layer = axial_references.layer_names(below(state, name))
        found |= {f"axes.{axis}.{key}": value for key, value in layer.items()}
    return found


@pytest.mark.parametrize(("name", "form"), [("axialblock", "ungated"), ("axialblock_wopos", "position_free")])
def test_original(oracle, name, form):
    block = AxialBlock(2, 16, 64, strides=2, token_grid=8, num_heads=8, form=form, norm="batch")
    compare_with_oracle(block, oracle(f"medt_{name}_s2"), _names, gradient_tolerance=2e-4)


class _TwoOfThree(nn.Module):
    """The 3D block with the attentions along the last two axes, which is what a 2D original has."""

    def __init__(self, form: str) -> None:
        super().__init__()
        block = AxialBlock(3, 16, 64, strides=(1, 2, 2), token_grid=8, num_heads=8, form=form, norm="batch")
        block.axes = block.axes[1:]
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


@pytest.mark.parametrize(("name", "form"), [("axialblock", "ungated"), ("axialblock_wopos", "position_free")])
def test_original_2d_in_3d(oracle, name, form):
    def names(state: State) -> State:
        return {f"block.{key}": value for key, value in _names(state).items()}

    reference = oracle(f"medt_{name}_s2")
    compare_with_oracle(_TwoOfThree(form), reference, names, lifted=True, gradient_tolerance=2e-4)

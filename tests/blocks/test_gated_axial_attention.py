"""GatedAxialAttention against its formula, stored reference outputs and its own documentation."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from custom_networks.blocks import GatedAxialAttention
from custom_networks.blocks.gated_axial_attention import FORMS, MeanPool
from tests import harness
from tests.modules import largest_saved, randomised
from tests.references import axial as axial_references
from tests.references.axial_layer import DirectAxialAttention
from tests.references.oracles import compare_with_oracle

NORMS = {"instance": ("instance", {"affine": True}), "plain": "instance", "batch": "batch"}
SMALL = {"position_length": 4, "num_heads": 4}


def _case(dims: int, axis: int, form: str, **options) -> harness.Case:
    def build(**kwargs) -> nn.Module:
        return GatedAxialAttention(dims, 16, axis=axis, form=form, **SMALL | options | kwargs)

    shape = (16, 4, 6, 5)[: dims + 1]
    name = f"gated_axial_attention-{dims}d-{form}"
    part_of = "MedicalTransformer" if form == "gated" else ""
    return harness.Case.of(name, build, GatedAxialAttention, shape, out_channels=16, part_of=part_of)


CASES = [_case(2, 1, "gated"), _case(3, 1, "gated"), _case(3, 2, "released"), _case(3, 0, "position_free")]
CHECKS = (*harness.MODULE_CHECKS, harness.check_contract, harness.check_unit_and_odd_axes)


@pytest.mark.parametrize(("case", "check"), harness.battery(CASES, CHECKS))
def test_battery(case, check):
    check(case)


def _compare(module: nn.Module, x: Tensor, form: str, training: bool, tolerance: float = 1e-9) -> None:
    """Compare output, gradients and running statistics with the formula."""
    state = {
        k: v.clone().requires_grad_(v.is_floating_point() and "running" not in k)
        for k, v in module.state_dict().items()
    }
    module.train(training)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    want = axial_references.axial_attention(
        theirs, state, module.axis, module.num_heads, released=form == "released", training=training
    )
    got = module(mine)
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
    direction = torch.randn_like(want)
    (got * direction).sum().backward()
    (want * direction).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-7, atol=tolerance)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, state[name].grad, rtol=1e-7, atol=1e-8, msg=lambda m, n=name: n + m)
    for name, buffer in module.named_buffers():
        torch.testing.assert_close(buffer, state[name], msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS.keys())
@pytest.mark.parametrize("form", FORMS)
def test_equals_the_formula(form, norm, training):
    module = randomised(GatedAxialAttention(3, 6, 8, axis=1, form=form, norm=norm, position_length=3, num_heads=2))
    _compare(module, torch.randn(2, 6, 2, 4, 3, dtype=torch.float64), form, training)


@pytest.mark.parametrize(
    ("size", "axis", "channels", "num_heads"),
    [
        ((5, 4), 0, 8, 2),
        ((5, 4), 1, 8, 8),
        ((1, 4, 3), 1, 8, 1),
        ((3, 4, 1), 0, 8, 3),
        ((2, 2, 9), 2, 12, 4),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["gated", "position_free"])
def test_equals_the_formula_in_other_shapes(size, axis, channels, num_heads, form):
    module = GatedAxialAttention(len(size), channels, axis=axis, form=form, position_length=5, num_heads=num_heads)
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    _compare(randomised(module), x, form, training=True)


@pytest.mark.parametrize(("axis", "length"), [(0, 8), (1, 3), (2, 4)])
def test_equals_the_layer_that_it_is_measured_against(axis, length):
    layer = randomised(GatedAxialAttention(3, 8, axis=axis, position_length=length, num_heads=2))
    direct = randomised(DirectAxialAttention(3, 8, axis=axis, position_length=length, num_heads=2))
    assert direct.load_state_dict(layer.state_dict(), strict=False).missing_keys == ["logit_norm.bias"]
    x = torch.randn(2, 8, 2, 5, 4, dtype=torch.float64)
    results = []
    for module in (layer, direct):
        mine = x.clone().requires_grad_()
        y = module.train()(mine)
        y.square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
        gradients.pop("logit_norm.bias", None)
        results.append({"output": y.detach(), "input": mine.grad, **gradients})
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-8, atol=1e-8, msg=lambda m, n=name: n + m)


def test_an_axis_of_one_voxel_is_only_pooled():
    module = randomised(GatedAxialAttention(3, 8, axis=1, strides=(2, 1, 3)))
    x = torch.randn(2, 8, 5, 1, 7, dtype=torch.float64)
    torch.testing.assert_close(module(x), axial_references.mean_pool(x, (2, 1, 3)))
    wider = randomised(GatedAxialAttention(3, 8, 12, axis=1, form="ungated", num_heads=2, position_length=2))
    _compare(wider, x, "ungated", training=True)


@pytest.mark.parametrize("form", FORMS)
def test_on_an_axis_of_one_voxel_every_parameter_has_a_gradient_of_zero(form):
    """Distributed training waits for one of each."""
    module = randomised(GatedAxialAttention(3, 8, axis=1, form=form)).train()
    x = torch.randn(2, 8, 5, 1, 7, dtype=torch.float64, requires_grad=True)
    y = module(x)
    assert torch.equal(y, x)
    y.square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


@pytest.mark.parametrize(("size", "strides"), [((5, 4, 7), (2, 1, 3)), ((4, 9), 2), ((3, 3), 1)], ids=str)
def test_the_output_is_pooled(size, strides):
    module = randomised(GatedAxialAttention(len(size), 8, axis=0, strides=strides))
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    steps = (strides,) * len(size) if isinstance(strides, int) else strides
    want = axial_references.axial_attention(x, module.state_dict(), 0, module.num_heads)
    torch.testing.assert_close(module(x), axial_references.mean_pool(want, steps), rtol=1e-9, atol=1e-9)
    pooled = MeanPool(len(size), strides)(x)
    torch.testing.assert_close(pooled, axial_references.mean_pool(x, steps))


@pytest.mark.parametrize("form", FORMS)
def test_permuting_the_axes_of_input_and_layer_permutes_the_output(form):
    layers = [randomised(GatedAxialAttention(3, 8, axis=axis, form=form, **SMALL)) for axis in range(3)]
    x = torch.randn(2, 8, 3, 6, 5, dtype=torch.float64)
    for axis, order in itertools.product(range(3), itertools.permutations(range(3))):
        places = (0, 1, *(2 + o for o in order))
        for other in layers:
            other.load_state_dict(layers[axis].state_dict())
        got = layers[order.index(axis)](x.permute(places))
        torch.testing.assert_close(got, layers[axis](x).permute(places), rtol=1e-10, atol=1e-10)
        wrong = layers[(order.index(axis) + 1) % 3](x.permute(places))
        assert (wrong - got).abs().max() > 1e-2


@pytest.mark.parametrize("form", ["gated", "ungated"])
def test_a_shorter_axis_reads_the_middle_of_the_table_and_a_longer_one_its_ends(form):
    short, long, far = (
        randomised(GatedAxialAttention(2, 8, axis=0, form=form, position_length=k, num_heads=2)) for k in (3, 5, 7)
    )
    state = long.state_dict()
    short.load_state_dict(state | {"table": state["table"][2:-2]})
    ends = [state["table"][[end]].repeat(2, 1) for end in (0, -1)]
    far.load_state_dict(state | {"table": torch.cat([ends[0], state["table"], ends[1]])})
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(short(x), long(x))
    x = torch.randn(2, 8, 7, 4, dtype=torch.float64)
    torch.testing.assert_close(far(x), long(x))


def test_groups_are_the_largest_number_that_divides():
    assert [GatedAxialAttention(3, c, axis=0).num_heads for c in (16, 8, 24, 10, 2)] == [8, 4, 4, 1, 1]
    assert GatedAxialAttention(3, 24, axis=0, num_heads=6).num_heads == 6


# --- gates


def _gated(form: str, norm: str | tuple, channels: int, gates: list[float]) -> tuple[Tensor, Tensor]:
    """Return the output in training and the gradient of the gates; weights and input are always the same."""
    torch.manual_seed(0)
    module = GatedAxialAttention(3, channels, axis=1, form=form, norm=norm).train()
    with torch.no_grad():
        module.gates.copy_(torch.tensor(gates))
    x = torch.randn(2, channels, 6, 32, 5)
    y = module(x)
    (y * torch.randn(y.shape)).sum().backward()
    return y.detach(), module.gates.grad


@pytest.mark.parametrize("channels", [16, 64])
@pytest.mark.parametrize("norm", ["batch", NORMS["instance"]], ids=["batch", "instance"])
def test_gates_after_the_norms_matter_and_released_ones_do_not(norm, channels):
    value_too, positions_only, gradient = {}, {}, {}
    for form in ("gated", "released"):
        high, slope = _gated(form, norm, channels, [1.0, 1.0, 1.0, 1.0])
        gradient[form] = slope.norm()
        for change, value in ((value_too, 0.1), (positions_only, 1.0)):
            low, _ = _gated(form, norm, channels, [0.1, 0.1, value, 0.1])
            change[form] = (high - low).norm() / low.norm()
    for change in (value_too, positions_only):
        assert change["gated"] > 0.1
        assert change["released"] < 0.02
    assert gradient["gated"] > 100 * gradient["released"]


# --- memory


class _Largest(TorchDispatchMode):
    """Record the size of the largest tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.size = max(self.size, tensor.numel())
        return result


def _largest_made(lines: int, **options) -> int:
    module = GatedAxialAttention(3, 8, axis=2, **options).train()
    with _Largest() as largest:
        module(torch.randn(1, 8, 1, lines, 48)).sum().backward()
    return largest.size


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_tensor_larger_than_the_logits_at_a_time_or_the_features(form, checkpointing):
    options = {"max_logits": 4 * 3 * 48**2, "form": form, "checkpointing": checkpointing}
    features = 8 * 48 * 3
    assert _largest_made(12, **options) <= 4 * 3 * 48**2
    assert _largest_made(40, **options) <= max(4 * 3 * 48**2, 40 * features)
    if form != "position_free":
        assert _largest_made(12, **options | {"max_logits": 2**22}) == 12 * 4 * 48**2


@pytest.mark.parametrize("form", FORMS)
def test_saved_for_the_backward_pass(form):
    x = torch.randn(1, 8, 4, 6, 48)
    lines, features = 24 * 4 * 48**2, x.numel()
    kept, parts, recomputed = (
        GatedAxialAttention(3, 8, axis=2, form=form, **options)
        for options in ({}, {"max_logits": lines // 6}, {"max_logits": lines // 6, "checkpointing": True})
    )
    assert largest_saved(recomputed, x) <= 3 * features
    if form != "position_free":
        assert largest_saved(kept, x) == lines
        assert largest_saved(parts, x) == lines // 6
        assert _saved_maps(kept, x) == 1


def _saved_maps(module: nn.Module, x: Tensor) -> int:
    """Return how many maps as large as all logits a training step keeps, views of one another counted once."""
    maps = set()

    def pack(tensor: Tensor) -> Tensor:
        if tensor.numel() == 24 * 4 * 48**2:
            maps.add(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = module.train()(x)
    del y
    return len(maps)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "options", [{"max_logits": 1}, {"max_logits": 700}, {"max_logits": 700, "checkpointing": True}]
)
def test_parts_and_recomputing_change_nothing(form, options):
    whole, parts = (GatedAxialAttention(3, 8, axis=1, form=form, **kwargs) for kwargs in ({}, options))
    parts.load_state_dict(randomised(whole).state_dict())
    results = []
    for module in (whole, parts.double()):
        x = torch.arange(480, dtype=torch.float64).cos().view(2, 8, 2, 5, 3).requires_grad_()
        y = module.train()(x)
        y.square().sum().backward()
        results.append([y.detach(), x.grad, *(p.grad for p in module.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


# --- documentation


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("form", FORMS)
def test_parameter_count(dims, form):
    c, out, g, k = 6, 16, 4, 7
    module = GatedAxialAttention(dims, c, out, axis=0, form=form, num_heads=g, position_length=k)
    want = 2 * c * out + 4 * out
    if form == "position_free":
        want += 2 * out + g
    else:
        want += 4 * out + 3 * g + (2 * k - 1) * 2 * out // g + (0 if form == "ungated" else 4)
    assert sum(p.numel() for p in module.parameters()) == want


BAD = {
    "dims": ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4; reshape"),
    "axis": ({"axis": 3}, "axis must lie between 0 and 2, got 3; count the spatial axes only"),
    "negative-axis": ({"axis": -1}, "axis must lie between 0 and 2, got -1"),
    "odd": ({"out_channels": 7}, "out_channels must be even and positive, got 7; use for example 8"),
    "none": ({"out_channels": 0}, "out_channels must be even and positive, got 0; use for example 2"),
    "form": ({"form": "post"}, r"form must be one of \('gated', .* got 'post'; choose one"),
    "length": ({"position_length": 0}, "position_length must be at least 1, got 0; use for example 8"),
    "num_heads": ({"num_heads": 0}, "num_heads must be at least 1, got 0"),
    "logits": ({"max_logits": 0}, "max_logits must be at least 1, got 0"),
    "strides": ({"strides": (2, 2)}, r"strides must be a positive integer or 3 positive integers, got \(2, 2\)"),
    "norm": ({"norm": ("group", {"num_groups": 2})}, "norm must be a batch norm .* got .*group.*; use for example"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        GatedAxialAttention(**{"spatial_dims": 3, "in_channels": 16, "axis": 0} | kwargs)


# --- reference outputs


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("axis", ["h", "w"])
@pytest.mark.parametrize(("name", "form"), [("", "ungated"), ("gated_", "released"), ("wopos_", "position_free")])
def test_original(oracle, name, form, axis, dims):
    module = GatedAxialAttention(
        dims,
        16,
        axis=dims - 2 + "hw".index(axis),
        num_heads=4,
        position_length={"h": 8, "w": 6}[axis],
        form=form,
        norm="batch",
    )
    reference = oracle(f"medt_axial_{name}{axis}_s1")
    tolerance = 2e-4 if form == "released" else 5e-5  # the gates' own gradients are what large sums leave over
    compare_with_oracle(module, reference, axial_references.layer_names, lifted=dims == 3, gradient_tolerance=tolerance)

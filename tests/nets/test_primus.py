"""Primus against a functional forward from its state dict, the released networks, and its own documentation."""

from __future__ import annotations

from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.blocks import EvaTransformer
from custom_networks.blocks.tokens import matrix_convolution
from custom_networks.nets import Primus
from custom_networks.workflow.memory.multiply_adds import multiply_adds
from tests import exports, harness
from tests.modules import randomised
from tests.references import eva as slow
from tests.references import layers as references
from tests.references.primus_oracles import compare_with_primus_oracle

ONE = {"features": (28,), "strides": (2, 2), "num_layers": 2, "num_heads": 2, "token_grid": 2}
TWO = ONE | {"version": 2, "features": (4, 4, 6, 28)}
THREE = TWO | {"version": 3}
VERSIONS = {"V1": ONE, "V2": TWO, "V3": THREE}

CASES = {
    "V1": ((8, 4, 12), ONE, [(2, 2, 2)] * 2),
    "V1 in 2D": ((8, 12), ONE, [(2, 2)] * 2),
    "V1 of slices": ((3, 8, 12), ONE | {"strides": [(1, 2, 2), (1, 2, 3), 1]}, [(1, 2, 2), (1, 2, 3), (1, 1, 1)]),
    "V2": ((8, 4, 4), TWO, [(2, 2, 2)] * 2),
    "V2 in 2D": ((8, 4), TWO, [(2, 2)] * 2),
    "V3": ((8, 4, 4), THREE | {"num_units": (2, 1)}, [(2, 2, 2)] * 2),
    "V3 in 2D": ((8, 12), THREE, [(2, 2)] * 2),
    "V3 of slices": (
        (3, 8, 4),
        THREE | {"strides": [(1, 2, 2), (3, 2, 1)], "kernel_size": [(1, 3, 3), (1, 3, 3), 3]},
        [(1, 2, 2), (3, 2, 1)],
    ),
    "registers": ((4, 4, 8), ONE | {"num_registers": 2}, [(2, 2, 2)] * 2),
    "plain blocks": ((4, 4, 8), ONE | {"layer_scale": None, "inner_norm": False, "mlp_ratio": 2}, [(2, 2, 2)] * 2),
    "no transformer": ((4, 8, 4), THREE | {"attention": ()}, [(2, 2, 2)] * 2),
}


@pytest.mark.parametrize(("size", "kwargs", "strides"), CASES.values(), ids=CASES.keys())
def test_equals_the_functional_forward(size, kwargs, strides):
    net = slow.use_exact_frequencies(randomised(Primus(len(size), 2, 3, **kwargs), 0.3))
    x, grid = torch.randn(2, 2, *size, dtype=torch.float64), (2,) * len(size)
    slope = 0.01 if kwargs.get("version") == 3 else 0.0
    want = slow.primus(x, net.state_dict(), 2, grid, strides, slope)[-1]
    torch.testing.assert_close(net(x), want, rtol=1e-8, atol=1e-8)


def test_deep_supervision_equals_the_functional_forward():
    net = randomised(Primus(3, 1, 3, **ONE | {"strides": (2, 1, 2)}, deep_supervision=True), 0.3)
    slow.use_exact_frequencies(net).train()
    x, state = torch.randn(1, 1, 8, 4, 8, dtype=torch.float64), net.state_dict()
    *maps, logits = slow.primus(x, state, 2, (2, 2, 2), [(2, 2, 2), (1, 1, 1), (2, 2, 2)], 0.0)
    want = [logits]
    for i, y in reversed(list(enumerate(maps))):
        flat = references.pointwise(y.flatten(2), state, f"auxiliary_heads.{i}")
        want.append(references.resize(flat.unflatten(2, y.shape[2:]), x.shape[2:]))
    assert len(want) == 3
    torch.testing.assert_close(net(x), torch.stack(want, dim=1), rtol=1e-8, atol=1e-8)


ORACLES = {
    "primus_v1": {"features": (48,), "num_layers": 3, "num_heads": 2, "token_grid": (2, 3, 4)},
    "primus_v1_registers": {
        "features": (36,),
        "strides": (2, 2, (1, 2, 2)),
        "num_layers": 2,
        "num_heads": 3,
        "token_grid": (2, 3, 2),
        "layer_scale": None,
        "inner_norm": False,
        "num_registers": 3,
    },
    "primus_v1_patchdrop": {
        "features": (48,),
        "num_layers": 2,
        "num_heads": 2,
        "token_grid": (2, 3, 4),
        "num_registers": 2,
    },
    "primus_v2": {
        "version": 2,
        "features": (32, 32, 64, 128, 48),
        "num_layers": 2,
        "num_heads": 2,
        "token_grid": (2, 3, 2),
    },
    "primus_v3": {
        "version": 3,
        "features": (8, 12, 16, 24, 48),
        "num_layers": 2,
        "num_heads": 2,
        "token_grid": (3, 2, 4),
    },
}


@pytest.fixture
def torch_convolves(monkeypatch):
    """Let torch make the patches' projections, as the original did: sums in another order differ by some 1e-5."""
    monkeypatch.setattr(
        matrix_convolution, "_project", lambda x, weight, bias: F.conv3d(x, weight, bias, weight.shape[2:])
    )


def _released(oracle, name: str) -> tuple[Primus, dict]:
    stored = oracle(name)
    given = stored["kwargs"]
    net = Primus(3, given["input_channels"], given["num_classes"], **ORACLES[name])
    net.load_state_dict(stored["state_dict"])
    return net.eval(), stored


@pytest.mark.usefixtures("torch_convolves")
@pytest.mark.parametrize("name", ORACLES)
def test_equals_the_released_network(oracle, name):
    """Of the one that drops patches in training: in evaluation, where it drops none."""
    net, stored = _released(oracle, name)
    compare_with_primus_oracle(net, stored)


@pytest.mark.usefixtures("torch_convolves")
@pytest.mark.parametrize("name", ORACLES)
def test_what_is_between_equals_the_released_network(oracle, name):
    net, stored = _released(oracle, name)
    got = {}

    def keep(key: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _, inputs, output: got.update({key: output, f"{key} got": inputs[0]}))

    keep("patch_embed", net.down_projection)
    keep("decoder_input", net.eva)
    keep("norm", net.eva.norm)
    for i, block in enumerate(net.eva.blocks):
        keep(f"block_{i}", block)
    net(stored["inputs"][0])
    got["tokens"] = got["block_0 got"]
    for key, want in stored["intermediates"].items():
        if key != "rope":  # in the test of the rotary positions
            torch.testing.assert_close(got[key], want, rtol=1e-5, atol=1e-5, msg=lambda m, key=key: f"{key}\n{m}")
    assert len(stored["intermediates"]) == 5 + len(net.eva.blocks)


@pytest.mark.parametrize("name", ["primus_v1_registers", "primus_v3"])
def test_the_released_state_dict_stays_whole_when_it_is_loaded(oracle, name):
    stored = oracle(name)
    keys = list(stored["state_dict"])
    net, _ = _released(lambda _: stored, name)
    assert list(stored["state_dict"]) == keys
    ours = {key.replace("eva.registers", "register_tokens") for key in net.state_dict()}
    assert ours == {key for key in keys if ".all_modules." not in key and key != "mask_token"}


COUNTS = {
    ("S", 1): (64, 23.39, 96, 23.87),
    ("B", 1): (128, 95.08, 160, 98.17),
    ("M", 1): (96, 146.60, 160, 152.02),
    ("L", 1): (64, 324.27, 128, 328.06),
    ("S", 2): (64, 24.16, 160, 27.12),
    ("M", 2): (96, 147.20, 128, 149.24),
    ("L", 2): (96, 326.07, 160, 332.70),
    ("S", 3): (64, 70.60, 96, 71.08),
    ("B", 3): (64, 148.58, 160, 154.51),
    ("L", 3): (96, 387.97, 128, 390.47),
}


@pytest.mark.parametrize(("named", "counts"), COUNTS.items(), ids=str)
def test_parameter_count_of_the_released_sizes(named, counts):
    for patch, millions in (counts[:2], counts[2:]):
        arguments = Primus.released_arguments(*named)
        arguments |= Primus.patch_arguments((patch,) * 3, arguments)
        with torch.device("meta"):
            net = Primus(3, 1, 2, **arguments)
        assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == millions
        c = arguments["features"][-1]
        blocks = arguments["num_layers"] * (12 * c**2 + 68 * c // 3)
        assert sum(p.numel() for p in net.eva.parameters()) == blocks + 2 * c + c * prod(arguments["token_grid"])
    assert net.size_divisor == (8, 8, 8)


@pytest.mark.parametrize(
    ("version", "billions"),
    [(1, (14.35, 68.42, 254.35)), (2, (24.60, 103.00, 336.34)), (3, (59.39, 220.42, 614.65))],
)
def test_multiply_adds_of_the_released_size(version, billions):
    """Those of the released code at 64, 96 and 128 voxels per axis, with the products of all pairs of tokens."""
    arguments = Primus.released_arguments("S", version)
    for size, count in zip((64, 96, 128), billions, strict=True):
        with torch.device("meta"):
            net = Primus(3, 1, 2, **arguments, token_grid=size // 8)
        assert round(multiply_adds(net, 1, (size,) * 3) / 1e9, 2) == count


def test_a_released_width_works_in_two_dimensions():
    """Of its heads of 66 channels 64 are turned."""
    arguments = Primus.released_arguments("S") | {"num_layers": 1}
    net = Primus(2, 1, 2, **arguments).eval()
    assert net(torch.zeros(1, 1, 16, 24)).shape == (1, 2, 16, 24)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kwargs", VERSIONS.values(), ids=VERSIONS.keys())
def test_trains_at_any_size(dims, kwargs):
    net = Primus(dims, 1, 2, **kwargs).train()
    for size in ((8, 4, 12), (16, 20, 4)):
        net.zero_grad()
        net(torch.randn(1, 1, *size[:dims])).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("grid", [(4, 2, 2), (2, 4, 2)])
def test_as_many_tokens_on_another_grid_are_other_tokens(grid):
    """The released networks take such an image with the positions of the grid that they were built for."""
    net = randomised(Primus(3, 1, 2, **ONE | {"token_grid": (2, 2, 4)}), 0.3)
    x = torch.randn(1, 1, *(4 * n for n in grid), dtype=torch.float64)
    slow.use_exact_frequencies(net)
    want = slow.primus(x, net.state_dict(), 2, (2, 2, 4), [(2, 2, 2)] * 2, 0.0)[-1]
    torch.testing.assert_close(net(x), want, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("check", [exports.check_script, exports.check_export, exports.check_onnx])
@pytest.mark.parametrize("version", [1, 2])
def test_the_versions_that_the_battery_does_not_build_export(version, check):
    kwargs = {"version": version, "features": ((24,), (4, 4, 8, 24))[version - 1], "strides": (2, 2)}
    case = harness.net_case("Primus", 3, **kwargs, num_registers=0)
    assert case.module().size_divisor == (4, 4, 4)
    check(case)


def test_the_transformer_is_built_as_asked():
    kinds = [[type(m) for m in Primus(**ONE, attention=parts).modules()] for parts in ((), ("transformer",))]
    assert [kind.count(EvaTransformer) for kind in kinds] == [0, 1]


def test_is_local_without_transformer():
    assert Primus(**ONE, attention=()).is_local()
    assert not Primus(**ONE).is_local()
    assert not Primus(**TWO, attention=()).is_local()
    assert Primus(**TWO, attention=(), norm="batch").is_local()


@pytest.mark.parametrize("kwargs", VERSIONS.values(), ids=VERSIONS.keys())
def test_checkpointing_changes_no_output(kwargs):
    plain, checkpointed = (Primus(3, 1, 2, **kwargs, checkpointing=c).train() for c in (False, True))
    checkpointed.load_state_dict(plain.state_dict())
    x = torch.randn(1, 1, 8, 8, 8)
    torch.testing.assert_close(checkpointed(x), plain(x))


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
    "version": ({"version": 4}, "version must be 1, 2 or 3, got 4; use for example 1"),
    "widths": (
        {"features": (4, 4, 28)},
        r"features must name the width of the tokens alone for version 1.*use \(28,\)",
    ),
    "no width": ({"features": ()}, r"features must name the width of the tokens alone .* got \(\); use \(396,\)"),
    "zero": ({"features": (0,)}, "features must be at least 1, got 0"),
    "levels": (
        {"version": 3},
        r"features must name a stem, at least 1 stage and the tokens for version 3, got \(28,\); use .*\(32, 64, 256",
    ),
    "attention": ({"attention": ("vit",)}, r"attention must hold only \('transformer',\), got \['vit'\]; leave out"),
    "strides": (TWO | {"strides": (2, 2, 2)}, r"strides must have 2 entries .* got 3"),
    "no strides": ({"strides": ()}, r"strides must have at least 1 entry .* got \(\); add a step"),
    "deep": ({"strides": (2,), "deep_supervision": True}, r"2 with deep_supervision\), got \(2,\); add a step"),
    "heads": ({"num_heads": 5}, "num_heads must divide the last entry of features, 28, got 5; use one of 1, 2, 4"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Primus(**ONE | kwargs)


@pytest.mark.parametrize(("size", "version"), [("XL", 1), ("S", 4)])
def test_there_is_no_other_released_network(size, version):
    with pytest.raises(ValueError, match=r"must be .* got .*; use for example"):
        Primus.released_arguments(size, version)


def test_a_size_that_does_not_fit_is_refused():
    """The released first version crops, and puts tokens at places of another grid."""
    with pytest.raises(ValueError, match=r"\(17, 24, 16\) must be divisible by \(8, 8, 8\); pad to \(24, 24, 16\)"):
        Primus(3, features=(24,), num_layers=1, num_heads=2)(torch.zeros(1, 1, 17, 24, 16))

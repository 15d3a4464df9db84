"""MbtfeUnet against a functional forward from its state dict, nnU-Net's own network, and its documentation."""

from __future__ import annotations

from math import prod

import pytest
import torch

from custom_networks.blocks import DualConv, EdgeAggregation, Mbtfe
from custom_networks.nets import MbtfeUnet
from tests.modules import randomised
from tests.references import layers as references
from tests.references import mbtfe as mbtfe_references
from tests.references.layers import State

PARTS = {"plain": (), "mbtfe": ("mbtfe",), "edge": ("edge_aggregation",), "both": ("mbtfe", "edge_aggregation")}
FEATURES = (4, 6, 8, 10)
CASES = {
    "3d": ((8, 16, 24), {}, [(2, 2, 2)] * 3),
    "2d": ((16, 24), {}, [(2, 2)] * 3),
    "three levels": ((8, 4, 12), {"features": (4, 6, 8)}, [(2, 2, 2)] * 2),
    "five levels": (
        (8, 4, 12),
        {"features": (3, 4, 5, 6, 7), "strides": [2, 2, 1, 1]},
        [(2,) * 3] * 2 + [(1,) * 3] * 2,
    ),
    "anisotropic": (
        (5, 12, 4),
        {"strides": [(1, 2, 2), (1, 3, 1), (1, 2, 2)], "kernel_size": [(1, 3, 3), (1, 3, 3), 3, (3, 1, 5)]},
        [(1, 2, 2), (1, 3, 1), (1, 2, 2)],
    ),
    "unit axes at the bottom": ((8, 8, 16), {}, [(2, 2, 2)] * 3),
    "other levels": ((8, 8, 16), {"mbtfe_levels": (-1, 1)}, [(2, 2, 2)] * 3),
    "batch norm": ((8, 8, 16), {"norm": "batch"}, [(2, 2, 2)] * 3),
}


@pytest.mark.parametrize("attention", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize(("size", "kwargs", "strides"), CASES.values(), ids=CASES.keys())
def test_equals_the_functional_forward(size, kwargs, strides, attention):
    net = randomised(MbtfeUnet(len(size), 2, 3, attention=attention, **{"features": FEATURES} | kwargs), 0.3)
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    want = mbtfe_references.mbtfe_unet(x, net.state_dict(), strides)[0]
    torch.testing.assert_close(net(x), want, rtol=1e-8, atol=1e-8)


def test_dual_convolutions_equal_the_functional_forward():
    net = randomised(MbtfeUnet(3, 1, 3, features=(4, 8, 8, 12), dual_groups=4), 0.3)
    assert sum(isinstance(m, DualConv) for m in net.modules()) == 7 + 6 + 3
    x = torch.randn(2, 1, 8, 16, 8, dtype=torch.float64)
    want = mbtfe_references.mbtfe_unet(x, net.state_dict(), [(2, 2, 2)] * 3, 4)[0]
    torch.testing.assert_close(net(x), want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("attention", PARTS.values(), ids=PARTS.keys())
def test_deep_supervision_equals_the_functional_forward(attention):
    net = randomised(MbtfeUnet(3, 1, 3, features=FEATURES, attention=attention, deep_supervision=True), 0.3).train()
    x = torch.randn(1, 1, 16, 8, 8, dtype=torch.float64)
    want = mbtfe_references.mbtfe_unet(x, net.state_dict(), [(2, 2, 2)] * 3)
    want = torch.stack([references.resize(y, x.shape[2:]) for y in want], dim=1)
    assert want.shape == (1, 3, 3, 16, 8, 8)
    torch.testing.assert_close(net(x), want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("attention", PARTS.values(), ids=PARTS.keys())
def test_attention_parts_are_built_as_asked(attention):
    net = MbtfeUnet(features=FEATURES, attention=attention)
    places = [name for name, module in net.named_modules() if isinstance(module, Mbtfe)]
    assert places == ([f"encoder.{level}.2" for level in range(3)] if "mbtfe" in attention else [])
    assert isinstance(net.edge_aggregation, EdgeAggregation) == ("edge_aggregation" in attention)


def test_negative_levels_count_from_the_coarsest():
    levels = ((0, -1), (0, len(FEATURES) - 1))
    counted, plain = (set(MbtfeUnet(features=FEATURES, mbtfe_levels=chosen).state_dict()) for chosen in levels)
    assert counted == plain
    assert f"encoder.{len(FEATURES) - 1}.2.selector.0.weight" in counted
    assert "encoder.1.2.selector.0.weight" not in counted


def test_the_encoder_goes_on_with_the_maps_before_the_gates():
    net = randomised(MbtfeUnet(features=FEATURES, attention=("edge_aggregation",)))
    coarsest = []
    net.encoder[-1].register_forward_hook(lambda module, inputs, output: coarsest.append(output))
    x = torch.randn(1, 1, 16, 8, 8, dtype=torch.float64)
    net(x)
    net.edge_aggregation = None
    net(x)
    assert torch.equal(*coarsest)


@pytest.mark.slow
def test_checkpointing_saves_a_tenth_of_the_tensors_of_the_blocks_with_the_same_gradients():
    torch.manual_seed(0)
    kwargs = {"features": FEATURES, "attention": ("mbtfe",), "mbtfe_levels": (0, 1, 2, 3)}
    nets = [MbtfeUnet(**kwargs), MbtfeUnet(**kwargs, checkpointing=True), MbtfeUnet(**kwargs | {"attention": ()})]
    state = nets[0].state_dict()
    x = torch.randn(2, 1, 16, 8, 8)
    counts, gradients = [], []
    for net in nets:
        net.load_state_dict({key: value for key, value in state.items() if key in net.state_dict()})
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, to=saved: to.append(t.numel()) or t, lambda t: t):
            y = net.train()(x)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        counts.append(sum(saved))
        gradients.append({name: p.grad for name, p in net.named_parameters()})
    kept, light, without = counts
    assert kept - without >= 10 * (light - without)
    for name, want in gradients[0].items():
        assert torch.equal(gradients[1][name], want), name


def _from_nnu_net(state: State, levels: int) -> State:
    """Map nnU-Net's names to ours; its convolution biases, which the norm removes, are dropped."""
    layers = {"conv.weight": "conv.weight", "norm.weight": "adn.N.weight", "norm.bias": "adn.N.bias"}
    names = {}
    for theirs, ours in layers.items():
        for j in range(2):
            names |= {f"encoder.stages.{i}.0.convs.{j}.{theirs}": f"encoder.{i}.{j}.{ours}" for i in range(levels)}
            names |= {
                f"decoder.stages.{i}.convs.{j}.{theirs}": f"decoder.{i}.convolutions.{j}.{ours}"
                for i in range(levels - 1)
            }
    for i in range(levels - 1):
        head = "head" if i == levels - 2 else f"auxiliary_heads.{i}"
        for what in ("weight", "bias"):
            names |= {f"decoder.transpconvs.{i}.{what}": f"decoder.{i}.up.{what}"}
            names |= {f"decoder.seg_layers.{i}.{what}": f"{head}.{what}"}
    return {ours: state[theirs] for theirs, ours in names.items()}


def test_without_its_attention_it_is_nnu_nets_network(oracle):
    reference = oracle("nnunet_plain_3stage_ds")
    net = MbtfeUnet(3, 1, 3, features=(8, 16, 32), attention=(), deep_supervision=True).double()
    net.load_state_dict({k: v.double() for k, v in _from_nnu_net(reference["state_dict"], 3).items()})
    outputs = []
    net.train().auxiliary_heads[0].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    x = reference["inputs"][0].double().requires_grad_()
    outputs.insert(0, net(x)[:, 0])
    generator = torch.Generator().manual_seed(7)
    loss = 0
    for got, want in zip(outputs, reference["output_eval"], strict=True):
        torch.testing.assert_close(got, want.double(), rtol=0, atol=1e-5)
        loss = loss + (got * torch.randn(want.shape, generator=generator)).sum()
    loss.backward()
    torch.testing.assert_close(x.grad, reference["grad_input_eval"][0].double(), rtol=1e-4, atol=1e-5)
    gradients = _from_nnu_net(reference["grad_params_eval"], 3)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].double(), rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("attention", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize("deep_supervision", [False, True], ids=["single", "deep"])
@pytest.mark.parametrize(
    ("dims", "strides", "kernel_size"),
    [(3, 2, 3), (2, 2, 5), (3, [(1, 2, 2), 2, (2, 1, 3)], [(1, 3, 3), 3, 3, (3, 1, 5)])],
    ids=["3d", "2d", "anisotropic"],
)
def test_parameter_count(attention, deep_supervision, dims, strides, kernel_size):
    f, n, out, levels = FEATURES, 2, 5, len(FEATURES)
    net = MbtfeUnet(
        dims,
        n,
        out,
        features=f,
        strides=strides,
        kernel_size=kernel_size,
        attention=attention,
        deep_supervision=deep_supervision,
    )
    s = [2**dims] * 3 if isinstance(strides, int) else [prod((step,) * 3 if step == 2 else step) for step in strides]
    k = [kernel_size**dims] * 4 if isinstance(kernel_size, int) else [9, 27, 27, 15]
    want = sum(k[i] * (([n, *f][i]) * f[i] + f[i] ** 2) + 4 * f[i] for i in range(levels))
    want += sum(s[i] * f[i + 1] * f[i] + f[i] + 3 * k[i] * f[i] ** 2 + 4 * f[i] for i in range(levels - 1))
    want += (f[0] + 1) * out + (sum((f[i] + 1) * out for i in range(1, levels - 1)) if deep_supervision else 0)
    if "mbtfe" in attention:
        want += sum(p.numel() for width in f[:3] for p in Mbtfe(dims, width).parameters())
    if "edge_aggregation" in attention:
        arguments = {"strides": net_steps(strides), "kernel_size": 3 if kernel_size == 3 else kernel_size}
        arguments["kernel_size"] = kernel_size if isinstance(kernel_size, int) else kernel_size[1:3]
        want += sum(p.numel() for p in EdgeAggregation(dims, f[:3], **arguments).parameters())
    assert sum(p.numel() for p in net.parameters()) == want


def net_steps(strides):
    """Return the strides between the first three levels."""
    return strides if isinstance(strides, int) else strides[:2]


def test_parameters_of_nnu_nets_plan_for_the_hippocampus():
    """The published 5.60 million; MBTFE on all stages adds 14.25 with its biases, edge aggregation 1.65."""
    counts = {
        name: sum(p.numel() for p in MbtfeUnet(3, 1, 3, attention=parts, mbtfe_levels=(0, 1, 2, 3)).parameters()) / 1e6
        for name, parts in PARTS.items()
    }
    assert round(counts["plain"], 2) == 5.6
    assert round(counts["mbtfe"] - counts["plain"] + 7 * (32 + 64 + 128 + 256) / 1e6, 2) == 14.25
    assert round(counts["edge"] - counts["plain"], 2) == 1.65


@pytest.mark.parametrize(
    ("shape", "kwargs"),
    [
        ((1, 1, 16, 16, 32), {}),
        ((1, 1, 8, 8, 16), {}),
        (
            (1, 1, 5, 48, 40),
            {"strides": [(1, 2, 2), (1, 2, 2), (1, 2, 2)], "kernel_size": [(1, 3, 3), (1, 3, 3), 3, 3]},
        ),
    ],
    ids=["batch of one", "bottleneck of length one along two axes", "anisotropic"],
)
def test_forward_and_backward(shape, kwargs):
    torch.manual_seed(0)
    net = MbtfeUnet(features=FEATURES, **kwargs).train()
    net(torch.randn(shape)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
    "levels": ({"features": (8, 16)}, r"at least 2 levels \(3 with .*\), got \(8, 16\); add a level"),
    "one-level": ({"features": (8,), "attention": ()}, r"at least 2 levels .* got \(8,\); add a level"),
    "deep": ({"features": (8, 16), "attention": (), "deep_supervision": True}, r"3 with .*got \(8, 16\)"),
    "attention": ({"attention": ("gate",)}, r"attention must hold only .* got \['gate'\]; leave out"),
    "mbtfe-level": ({"mbtfe_levels": (4,)}, r"mbtfe_levels must lie between -4 and 3, got \(4,\); there are 4 levels"),
    "strides": ({"strides": (2, 2)}, r"strides must have 3 entries .* got 2: \(2, 2\)"),
    "kernel-number": ({"kernel_size": (3, 3)}, r"kernel_size must have 4 entries .* got 2"),
    "kernel-even": ({"kernel_size": 2}, r"kernel_size must be odd and positive, got"),
    "groups": (
        {"dual_groups": 4},
        r"^dual_groups must divide every entry of features \(4, 6, 8, 10\), got 4; use one of 1, 2$",
    ),
    "no-groups": ({"dual_groups": 0}, "^dual_groups must divide every entry of features .* got 0"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MbtfeUnet(**{"features": FEATURES} | kwargs)

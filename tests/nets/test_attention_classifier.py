"""AttentionClassifier against its formula, the original trunk, and its own documentation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.nets import AttentionClassifier
from custom_networks.registry import ATTENTION
from tests.modules import randomised
from tests.references.layers import below, max_pool, non_local, normalise

SLOPE = 0.01


def unit(x, state, name):
    """Convolve without padding, normalise, leak."""
    convolve = F.conv2d if x.dim() == 4 else F.conv3d
    y = normalise(convolve(x, state[f"{name}.conv.weight"]), state, f"{name}.adn.N")
    return torch.where(y > 0, y, SLOPE * y)


def reference(x, state):
    """logits = W2 act(W1 mean(t + gamma non_local(t)))."""
    dims = x.dim() - 2
    for name in ("trunk.0", "trunk.1"):
        x = unit(x, state, name)
    x = max_pool(x, (2,) * dims)
    for name in ("trunk.3", "trunk.4"):
        x = unit(x, state, name)
    if "attention.gamma" in state:
        x = x + state["attention.gamma"] * non_local(x, below(state, "attention.attention"), (2,) * dims)
    hidden = x.flatten(2).mean(-1) @ state["head.0.weight"].T + state["head.0.bias"]
    hidden = torch.where(hidden > 0, hidden, SLOPE * hidden)
    return hidden @ state["head.3.weight"].T + state["head.3.bias"]


@pytest.mark.parametrize("size", [(24, 21, 19), (20, 20, 16), (22, 25)], ids=str)
@pytest.mark.parametrize("attention_module", [None, "non_local"])
@pytest.mark.parametrize("norm", ["batch", ("instance", {"affine": True})], ids=["batch", "instance"])
def test_equals_the_formula(size, attention_module, norm):
    net = randomised(
        AttentionClassifier(len(size), 2, 3, features=(4, 6), attention_module=attention_module, norm=norm), 0.3
    )
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    torch.testing.assert_close(net(x), reference(x, net.state_dict()), rtol=1e-9, atol=1e-9)


def test_original_trunk(oracle):
    """The first two convolutions and the pooling of the original; its biases before the norm move into the mean."""
    stored = oracle("discrinet_small_state")
    net = AttentionClassifier(3, 1, 2, features=(64, 8))

    def names(state: dict) -> dict:
        renamed = {}
        for layer in ("0", "1"):
            renamed[f"{layer}.conv.weight"] = state[f"{layer}.conv.weight"]
            for key in ("weight", "bias", "running_var", "num_batches_tracked"):
                renamed[f"{layer}.adn.N.{key}"] = state[f"{layer}.bn.{key}"]
            renamed[f"{layer}.adn.N.running_mean"] = state[f"{layer}.bn.running_mean"] - state[f"{layer}.conv.bias"]
        return renamed

    trunk = net.trunk[:3].double()
    trunk.load_state_dict(names(stored["state_dict"]))
    x = stored["inputs"][0].double()
    torch.testing.assert_close(trunk.eval()(x), stored["output_eval"][0].double(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trunk.train()(x), stored["output_train"][0].double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention_module", [None, *ATTENTION])
def test_one_sample_trains_every_parameter(attention_module):
    torch.manual_seed(0)
    net = AttentionClassifier(3, 1, 2, features=(8, 16), attention_module=attention_module, dropout=0.0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    net(torch.randn(1, 1, 24, 26, 22)).square().sum().backward()
    missing = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing


@pytest.mark.parametrize("attention_module", ATTENTION)
def test_starts_without_its_attention(attention_module):
    torch.manual_seed(0)
    net = AttentionClassifier(3, 1, 2, features=(8, 16), attention_module=attention_module).eval()
    plain = AttentionClassifier(3, 1, 2, features=(8, 16)).eval()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("attention.")})
    x = torch.randn(2, 1, 20, 20, 18)
    assert torch.equal(net(x), plain(x))
    nn.init.constant_(net.attention.gamma, 1.0)
    assert not torch.allclose(net(x), plain(x))


def test_samples_do_not_mix_and_any_size_goes():
    net = randomised(AttentionClassifier(3, 1, 2, features=(4, 6), attention_module="non_local"), 0.3)
    for size in ((20, 20, 16), (28, 28, 28), (24, 31, 20)):
        x = torch.randn(3, 1, *size, dtype=torch.float64)
        torch.testing.assert_close(net(x), torch.cat([net(sample[None]) for sample in x]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dims", "taps"), [(2, (25, 9)), (3, (75, 27))])
def test_parameter_count(dims, taps):
    c, (f0, f1), h, classes = 2, (4, 6), 24, 3
    net = AttentionClassifier(dims, c, classes, features=(f0, f1))
    convolutions = taps[0] * (c * f0 + f0**2) + 4 * f0 + taps[1] * (f0 * f1 + f1**2) + 4 * f1
    assert sum(p.numel() for p in net.parameters()) == convolutions + (f1 + 1) * h + (h + 1) * classes


BAD = {
    "attention_module": ({"attention_module": "cbma"}, "no attention module 'cbma'; use for example 'cbam'"),
    "attention_module_arguments": (
        {"attention_module": "cbam", "attention_module_arguments": {"redaction": 4}},
        "module 'cbam' does not know redaction; it takes reduction, kernel_size",
    ),
    "features": ({"features": (4, 8, 16)}, r"one entry for each of the 2 stages, got \(4, 8, 16\)"),
    "kernel_size": ({"kernel_size": (5,)}, r"kernel_size must have 2 entries .* got 1: \(5,\)"),
    "spatial_dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AttentionClassifier(**kwargs)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 19, 28, 15), r"spatial shape \(19, 28, 15\) must be at least \(20, 20, 16\); pad to \(20, 28, 16\)"),
        ((1, 2, 28, 28, 28), "must have 1 channels, got 2"),
        ((1, 28, 28, 28), "must have 5 axes"),
    ],
    ids=["small", "channels", "axes"],
)
def test_bad_input(shape, message):
    with pytest.raises(ValueError, match=message):
        AttentionClassifier(features=(4, 6))(torch.zeros(shape))


def test_the_smallest_patch_leaves_two_voxels_per_axis():
    net = AttentionClassifier(features=(4, 6))
    assert net.trunk(torch.zeros(1, 1, *net.min_size)).shape == (1, 6, 2, 2, 2)

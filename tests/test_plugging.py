"""plug() on MONAI's networks and ours."""

from __future__ import annotations

import copy
import itertools
import re

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import BasicUNet, DynUNet, SegResNet, UNet
from torch import nn

from custom_networks import plug
from custom_networks.nets import AttentionUnet
from custom_networks.plugging import _Plugged
from custom_networks.workflow import load_weights
from tests.exports import onnx_graph, onnx_session
from tests.modules import randomised

NETS = {
    "seg_res_net": (
        lambda: SegResNet(init_filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1)),
        ["down_layers.1", "up_layers.0"],
    ),
    "dyn_unet": (
        lambda: DynUNet(3, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 16, 24]),
        ["downsamples.0", "upsamples.0.conv_block"],
    ),
    "unet": (lambda: UNet(3, 1, 2, (8, 16, 24), (2, 2)), ["model.0", "model.1.submodule.1"]),
    "basic_unet": (lambda: BasicUNet(3, 1, 2, (8, 8, 8, 8, 8, 8)), ["down_2", "upcat_4.convs"]),
    "attention_unet": (lambda: AttentionUnet(3, 1, 2, features=(8, 16, 24)), ["encoder.1", "decoder.0.convolutions"]),
}
MODULES = ("cbam", "coordinate_attention", "double_attention", "multi_head_self_attention", "non_local")
CASES = list(itertools.product(NETS, MODULES))
# Every network and every module once: a graph takes seconds.
ONCE = [(name, MODULES[number % len(MODULES)]) for number, name in enumerate(NETS)]
SIZE = (16, 16, 32)


def build(name: str, attention: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    make, points = NETS[name]
    network = make().eval()
    return network, plug(network, points, attention)


def opened(network: nn.Module) -> nn.Module:
    """Draw the inserted parameters, so that the attention shows in the output."""
    for module in network.modules():
        if isinstance(module, _Plugged):
            randomised(module.plugged_attention, 0.3).float()
            for residual in module.plugged_attention:
                nn.init.constant_(residual.gamma, 0.5)
    return network.eval()


def image(batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 1, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_starts_as_the_network_and_its_first_step_moves_gamma(name, attention):
    network, plugged = build(name, attention)
    assert torch.equal(plugged(image()), network(image()))
    optimizer = torch.optim.SGD(plugged.parameters(), lr=0.1)
    target = torch.randn(network(image()).shape, generator=torch.Generator().manual_seed(2))
    plugged.train()
    (plugged(image()) * target).sum().backward()
    optimizer.step()
    gammas = [p for key, p in plugged.named_parameters() if key.endswith("plugged_attention.0.gamma")]
    assert len(gammas) == 2
    assert all(p.item() != 0 for p in gammas)


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_loads_the_weights_from_before_and_its_own(name, attention):
    plugged = build(name, attention)[1]
    other, opened_other = (NETS[name][0]().eval() for _ in range(2))
    before = {key: value.clone() for key, value in plugged.state_dict().items()}
    weights = other.state_dict()
    plugged.load_state_dict(weights)
    assert torch.equal(plugged(image()), other(image()))
    assert weights.keys() == other.state_dict().keys(), "loading took keys out of the caller's state dict"
    assert weights.keys() < before.keys(), "the network's own weights have other names after the plug"
    inserted = {key for key in before if ".plugged_attention." in key}
    assert inserted
    assert all(torch.equal(before[key], plugged.state_dict()[key]) for key in inserted)
    source = opened(plug(opened_other, NETS[name][1], attention))
    plugged.load_state_dict(source.state_dict())
    assert torch.equal(plugged(image()), source(image()))
    assert not torch.equal(source(image()), opened_other(image()))
    incomplete = dict(list(weights.items())[1:])
    with pytest.raises(RuntimeError, match="Missing key"):
        plugged.load_state_dict(incomplete)
    without_gamma = {k: v for k, v in source.state_dict().items() if not k.endswith("plugged_attention.0.gamma")}
    with pytest.raises(RuntimeError, match="gamma"):
        plugged.load_state_dict(without_gamma)


@pytest.mark.no_cover
@pytest.mark.filterwarnings("ignore:The TorchScript type system")  # DynUNet annotates an empty list
@pytest.mark.parametrize(("name", "attention"), CASES)
def test_scripts(name, attention):
    plugged = opened(build(name, attention)[1])
    torch.testing.assert_close(torch.jit.script(plugged)(image(2)), plugged(image(2)), rtol=1e-4, atol=1e-4)


@pytest.mark.no_cover
@pytest.mark.parametrize(("name", "attention"), ONCE)
def test_exports_to_onnx(name, attention):
    plugged = opened(build(name, attention)[1])
    session = onnx_session(onnx_graph(plugged, (image(),)))
    (got,) = session.run(None, {session.get_inputs()[0].name: image().numpy()})
    torch.testing.assert_close(torch.from_numpy(got), plugged(image()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NETS)
def test_every_place_of_a_point_is_replaced_and_the_network_untouched(name):
    torch.manual_seed(0)
    make, points = NETS[name]
    network = make()
    keys, modules = list(network.state_dict()), list(network.modules())
    plugged = plug(network, points, "non_local")
    assert list(network.state_dict()) == keys
    assert list(network.modules()) == modules
    assert sum(isinstance(m, _Plugged) for m in plugged.modules()) == 2
    wrapped = {id(m.network) for m in plugged.modules() if isinstance(m, _Plugged)}
    bare = [
        child
        for parent in plugged.modules()
        if not isinstance(parent, _Plugged)
        for child in parent._modules.values()
        if id(child) in wrapped
    ]
    assert not bare, "a place still holds the module without its attention"


def test_two_attentions_at_one_point_and_nested_points():
    torch.manual_seed(0)
    network = SegResNet(init_filters=8).eval()
    plugged = plug(plug(network, "down_layers.1", "non_local"), ["down_layers.1", "down_layers.1.network.1"], "cbam")
    assert [type(r.attention).__name__ for r in plugged.down_layers[1].plugged_attention] == ["NonLocal", "Cbam"]
    assert sum(isinstance(m, _Plugged) for m in plugged.modules()) == 2
    assert torch.equal(plugged(image()), network(image()))
    other = opened(copy.deepcopy(plugged))
    assert not torch.equal(other(image()), network(image()))
    plugged.load_state_dict(other.state_dict())
    assert torch.equal(plugged(image()), other(image()))
    once = opened(plug(SegResNet(init_filters=8).eval(), "down_layers.1", "non_local"))
    plugged.load_state_dict(network.state_dict() | once.state_dict())
    assert not torch.equal(plugged(image()), other(image()))


def test_fine_tuning_starts_from_the_weights_of_the_unplugged_network(tmp_path):
    network = SegResNet(init_filters=8).eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    plugged = plug(SegResNet(init_filters=8).eval(), ["down_layers.1", "down_layers.2"], "cbam")
    assert not torch.equal(plugged(image()), network(image()))
    load_weights(plugged, tmp_path / "model.pt", strict=False)
    assert torch.equal(plugged(image()), network(image()))


def test_keyword_arguments_reach_the_attention_and_the_training_flag_stays():
    plugged = plug(SegResNet(init_filters=8).eval(), "down_layers.1", "non_local", reduction=4)
    assert plugged.down_layers[1].plugged_attention[0].attention.theta.out_channels == 4
    assert not any(m.training for m in plugged.modules())


def test_in_two_dimensions_and_with_four_input_channels():
    network = BasicUNet(2, 4, 3, (8, 8, 8, 8, 8, 8)).eval()
    x = torch.randn(2, 4, 32, 48)
    assert torch.equal(plug(network, "down_1", "cbam")(x), network(x))


def test_from_json():
    parser = ConfigParser(
        {
            "network_def": {
                "_target_": "custom_networks.plug",
                "network": {"_target_": "SegResNet", "init_filters": 8},
                "points": ["down_layers.1", "down_layers.2"],
                "attention_module": "cbam",
            }
        }
    )
    network = parser.get_parsed_content("network_def")
    assert sum(isinstance(m, _Plugged) for m in network.modules()) == 2
    assert copy.deepcopy(network)(image()).shape == (1, 2, *SIZE)


class _TwoTensors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, padding=1)
        self.tokens = nn.Flatten(2)
        self.unused = nn.Conv3d(4, 4, 1)

    def forward(self, x):
        y = self.conv(x)
        return y + self.tokens(y).mean(-1)[:, :, None, None, None]


BAD = {
    "attention": (lambda: plug(_TwoTensors(), "conv", "cbma"), "no attention module 'cbma'; use for example 'cbam'"),
    "argument": (
        lambda: plug(_TwoTensors(), "conv", "sim_am", groups=2),
        "module 'sim_am' does not know groups; it takes energy_lambda",
    ),
    "point": (
        lambda: plug(SegResNet(), "down_layer.1", "cbam"),
        "no point 'down_layer.1'; the nearest are 'down_layers.1'",
    ),
    "two-tensors": (
        lambda: plug(BasicUNet(), "upcat_4", "cbam"),
        "'upcat_4' of BasicUNet does not turn one tensor into one .*'upcat_4.convs'",
    ),
    "inside": (
        lambda: plug(plug(SegResNet(), "down_layers.1", "cbam"), "down_layers.1.network", "cbam"),
        "no point 'down_layers.1.network'; the nearest are 'down_layers.1.network.",
    ),
    "list": (lambda: plug(SegResNet(), "down_layers", "cbam"), "'down_layers' of SegResNet does not turn"),
    "tokens": (lambda: plug(_TwoTensors(), "tokens", "cbam"), "'tokens' of _TwoTensors does not turn"),
    "unused": (lambda: plug(_TwoTensors(), "unused", "cbam"), "'unused' of _TwoTensors does not turn"),
    "none": (lambda: plug(_TwoTensors(), [], "cbam"), "must name at least one submodule of _TwoTensors; use 'conv'"),
    "no-image": (lambda: plug(nn.Linear(3, 3), "x", "cbam"), "Linear has no convolution to learn"),
    "size": (
        lambda: plug(AttentionUnet(features=(4, 4), strides=[(7, 1, 1)]), "encoder.0", "cbam"),
        re.escape("cannot be run without data on sizes (32, 64, 96, 128) to learn its channels (spatial shape"),
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()

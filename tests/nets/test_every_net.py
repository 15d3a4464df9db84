"""The battery for every network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks import nets
from tests import harness, small_nets

GRAPHS = (harness.check_export, harness.check_compile, harness.check_onnx)
CASES = {case.name: case for case in harness.NET_CASES}
# Its graph takes longest. In 2D it has the local attention, too, whose layers are exported by themselves in 3D.
GLOBAL = harness.net_case("MedicalTransformer", 3, attention=("global",))
# What another's graph stands for, and that other.
ELSEWHERE = {
    "AxialUnet-2d": (CASES["MedicalTransformer-2d"], GRAPHS),
    "AxialUnet-3d": (GLOBAL, GRAPHS),
    "Setr-3d": (CASES["TransUnet-3d"], GRAPHS[1:]),
    "MedicalTransformer-3d": (GLOBAL, GRAPHS),
}


def made_elsewhere(case, check):
    return case.name in ELSEWHERE and check in ELSEWHERE[case.name][1]


def onnx_among_the_slow(param):
    is_slow = param.values[1] is harness.check_onnx
    return pytest.param(*param.values, id=param.id, marks=pytest.mark.slow) if is_slow else param


BATTERY = [
    onnx_among_the_slow(param)
    for param in (
        *(p for p in harness.battery(CASES.values(), harness.NET_CHECKS) if not made_elsewhere(*p.values)),
        *harness.battery([GLOBAL], GRAPHS),
    )
]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_another_network_has_everything_in_it(name):
    case, (other, _) = CASES[name], ELSEWHERE[name]
    assert harness.classes_of(case.module()) - {case.kind} <= harness.classes_of(other.module())


def test_every_net_has_its_small_arguments():
    missing = set(nets.__all__) - {*small_nets.SEGMENTERS, *small_nets.CLASSIFIERS}
    assert not missing, f"add {sorted(missing)} to SEGMENTERS or CLASSIFIERS in tests/small_nets.py"


@pytest.mark.parametrize("case", [*harness.NET_CASES, *harness.CLASSIFIER_CASES], ids=lambda case: case.name)
def test_every_net_takes_dropout(case):
    assert case.takes_dropout, "MONAI Label's epistemic scoring sets dropout; give the network this argument"


@pytest.mark.parametrize(("case", "check"), BATTERY)
def test_net(case, check):
    check(case)


@pytest.mark.parametrize(("case", "check"), harness.battery(harness.CLASSIFIER_CASES, harness.CLASSIFIER_CHECKS))
def test_classifier(case, check):
    check(case)


@pytest.mark.parametrize("name", [*small_nets.SEGMENTERS, "windows"])
def test_no_convolution_gets_a_coarser_grid_than_the_network_says(name):
    """Along any axis: of the padded ones, whose grid counts, and of all others."""
    arguments = small_nets.SEGMENTERS.get(name) or {**small_nets.SEGMENTERS["MedicalTransformer"], "window_size": 8}
    net, sizes = getattr(nets, name, nets.MedicalTransformer)(3, 1, 2, **arguments).eval(), []
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    size = (16, 24, 32)
    with torch.no_grad():
        net(torch.zeros(1, 1, *size))
    least = tuple(min(axis) for axis in zip(*sizes, strict=True))
    assert net.coarsest_grid(size) == least


@pytest.mark.parametrize("size", [(20, 21, 22), (28, 30, 17)])
def test_the_grid_of_a_classifier_is_that_of_its_attention(size):
    net, grids = nets.AttentionClassifier(3, 1, 2, features=(8, 16), attention_module="cbam").eval(), []
    net.attention.register_forward_pre_hook(lambda _, inputs: grids.append(tuple(inputs[0].shape[2:])))
    net(torch.zeros(1, 1, *size))
    assert [net.coarsest_grid(size)] == grids

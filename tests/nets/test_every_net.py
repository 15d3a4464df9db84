"""The battery for every network."""

from __future__ import annotations

import pytest

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


BATTERY = [
    *(p for p in harness.battery(CASES.values(), harness.NET_CHECKS) if not made_elsewhere(*p.values)),
    *harness.battery([GLOBAL], GRAPHS),
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

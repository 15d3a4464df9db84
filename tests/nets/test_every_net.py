"""The battery for every network."""

from __future__ import annotations

import pytest

from custom_networks import nets
from tests import harness, small_nets

GRAPHS = (harness.check_export, harness.check_compile, harness.check_onnx)


def made_in_another(case, check):
    """Tell what to leave out: everything in AxialUnet is in the graph of MedicalTransformer, which takes long."""
    return case.name == "AxialUnet-3d" and check in GRAPHS


def test_everything_in_axial_unet_is_in_medical_transformer():
    module, other = (
        case.module() for case in harness.NET_CASES if case.name in ("AxialUnet-3d", "MedicalTransformer-3d")
    )
    assert harness.classes_of(module) - {type(module)} <= harness.classes_of(other)


def test_every_net_has_its_small_arguments():
    missing = set(nets.__all__) - {*small_nets.SEGMENTERS, *small_nets.CLASSIFIERS}
    assert not missing, f"add {sorted(missing)} to SEGMENTERS or CLASSIFIERS in tests/small_nets.py"


@pytest.mark.parametrize("case", [*harness.NET_CASES, *harness.CLASSIFIER_CASES], ids=lambda case: case.name)
def test_every_net_takes_dropout(case):
    assert case.takes_dropout, "MONAI Label's epistemic scoring sets dropout; give the network this argument"


BATTERY = [
    param for param in harness.battery(harness.NET_CASES, harness.NET_CHECKS) if not made_in_another(*param.values)
]


@pytest.mark.parametrize(("case", "check"), BATTERY)
def test_net(case, check):
    check(case)


@pytest.mark.parametrize(("case", "check"), harness.battery(harness.CLASSIFIER_CASES, harness.CLASSIFIER_CHECKS))
def test_classifier(case, check):
    check(case)

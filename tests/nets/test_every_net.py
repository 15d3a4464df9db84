"""The battery for every network."""

from __future__ import annotations

import pytest

from tests import harness


def converted_in_another(case, check):
    """Tell what to leave out: AxialUnet's branch is in the graph of MedicalTransformer; ONNX takes half a minute."""
    return case.name.startswith("AxialUnet") and check is harness.check_onnx


BATTERY = [
    param for param in harness.battery(harness.NET_CASES, harness.NET_CHECKS) if not converted_in_another(*param.values)
]


@pytest.mark.parametrize(("case", "check"), BATTERY)
def test_net(case, check):
    check(case)


@pytest.mark.parametrize(("case", "check"), harness.battery(harness.CLASSIFIER_CASES, harness.CLASSIFIER_CHECKS))
def test_classifier(case, check):
    check(case)

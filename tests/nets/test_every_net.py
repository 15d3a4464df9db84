"""The battery for every network."""

from __future__ import annotations

import pytest

from tests import harness


@pytest.mark.parametrize(("case", "check"), harness.battery(harness.NET_CASES, harness.NET_CHECKS))
def test_net(case, check):
    check(case)


@pytest.mark.parametrize(("case", "check"), harness.battery(harness.CLASSIFIER_CASES, harness.CLASSIFIER_CHECKS))
def test_classifier(case, check):
    check(case)

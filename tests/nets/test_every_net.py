"""The battery for every network."""

from __future__ import annotations

import pytest

from tests import harness


@pytest.mark.parametrize("check", harness.NET_CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
@pytest.mark.parametrize("case", harness.NET_CASES, ids=lambda c: c.name)
def test_net(case, check):
    check(case)


@pytest.mark.parametrize("check", harness.CLASSIFIER_CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
@pytest.mark.parametrize("case", harness.CLASSIFIER_CASES, ids=lambda c: c.name)
def test_classifier(case, check):
    check(case)

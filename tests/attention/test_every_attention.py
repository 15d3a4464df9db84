"""The battery for every registered attention module."""

from __future__ import annotations

import pytest

from tests import harness


@pytest.mark.parametrize(("case", "check"), harness.battery(harness.ATTENTION_CASES, harness.ATTENTION_CHECKS))
def test_attention(case, check):
    check(case)

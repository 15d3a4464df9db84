"""The battery for every registered attention module."""

from __future__ import annotations

import pytest

from tests import harness


@pytest.mark.parametrize("check", harness.ATTENTION_CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
@pytest.mark.parametrize("case", harness.ATTENTION_CASES, ids=lambda c: c.name)
def test_attention(case, check):
    check(case)

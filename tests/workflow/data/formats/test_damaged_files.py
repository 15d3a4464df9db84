"""A few hundred of the damaged files of ``make fuzz``."""

from __future__ import annotations

import pytest

from tests.fuzz.chain import build_chain
from tests.fuzz.mutations import fuzz

TRIES = 120


@pytest.mark.parametrize("kind", ["NIfTI", "NRRD", "MetaImage", "DICOM"])
def test_a_damaged_file_ends_in_a_mask_or_in_one_sentence(tmp_path, kind):
    found = fuzz(kind, tmp_path, build_chain(tmp_path / "masks"), TRIES, seed=1)
    assert sum(found.values()) == TRIES
    assert 0 < found["read"] < TRIES

"""``make fuzz``: ten thousand damaged files of each format, of which each must end in a mask or in one sentence."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.fuzz.chain import build_chain
from tests.fuzz.mutations import fuzz

TRIES = int(os.environ.get("FUZZ_TRIES", "10000"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", ["NIfTI", "NRRD", "MetaImage", "DICOM"])
def test_damaged_files(kind, tmp_path, record_property):
    def keep(path: Path) -> None:
        kept = Path(".fuzz") / path.name
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(exist_ok=True)
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, kept)

    found = fuzz(kind, tmp_path, build_chain(tmp_path / "masks"), TRIES, SEED, keep)
    assert sum(found.values()) == TRIES
    assert 0 < found["read"] < TRIES
    for outcome, times in found.most_common(40):
        print(f"{times:6} {outcome}")

"""The weights that a bundle is served with, and those that they have replaced."""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from label_server.models import KEPT, SERVED

RECORDS = ("training_cases.json", "training_data.json")
"""What a training writes beside its weights; each is of the one file whose checksum it holds."""


class ServedWeights:
    """The weights in a bundle's folder ``models``.

    Args:
        bundle: the bundle's folder.
    """

    def __init__(self, bundle: str) -> None:
        self.folder = Path(bundle) / "models"
        self.file = self.folder / SERVED

    def kept(self) -> list[str]:
        """Return the names of the weights that were served before, the latest first."""
        return sorted((path.name for path in self.folder.glob("*.pt") if KEPT.fullmatch(path.name)), reverse=True)

    def replace(self, weights: Path) -> str:
        """Move weights and their records to where they are served, and keep what was served.

        A reader finds the old weights or the new ones at any moment.

        Args:
            weights: their file, on the same file system.

        Returns:
            The name under which what was served is kept, empty if nothing was.
        """
        name = self._keep() if self.file.exists() else ""
        _to_disk(weights)
        weights.replace(self.file)
        for record in RECORDS:
            _beside(self.file, record).unlink(missing_ok=True)
            if (source := _beside(weights, record)).exists():
                source.replace(_beside(self.file, record))
        return name

    def take(self, content: IO[bytes]) -> str:
        """Serve weights that were sent, and keep what was served.

        Args:
            content: the weights.

        Returns:
            The name under which what was served is kept, empty if nothing was.
        """
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".partial_") as folder:
            path = Path(folder) / SERVED
            with path.open("wb") as file:
                shutil.copyfileobj(content, file)
            return self.replace(path)

    def _keep(self) -> str:
        time = datetime.now(UTC)
        while (kept := self.folder / f"model_{time:%Y%m%dT%H%M%SZ}.pt").exists():
            time += timedelta(seconds=1)
        partial = kept.with_name(f".partial_{kept.name}")
        shutil.copyfile(self.file, partial)
        _to_disk(partial)
        partial.replace(kept)
        for record in RECORDS:
            if (source := _beside(self.file, record)).exists():
                shutil.copyfile(source, _beside(kept, record))
        return kept.name


def _to_disk(file: Path) -> None:
    """Let the content reach the disk, which after a power failure may know the new name only."""
    with file.open("rb+") as written:
        os.fsync(written.fileno())


def _beside(weights: Path, record: str) -> Path:
    return weights.with_name(record if weights.name == SERVED else f"{weights.stem}.{record}")

"""Where the studies lie that the repository keeps, and what each of them says of itself."""

from __future__ import annotations

from typing import Any

from custom_networks.bundle_folder import HOME
from custom_networks.files import read_json

STUDIES = HOME / "docs" / "studies"
RECORD, TABLE = "study.json", "table.csv"


def read_study(name: str | None) -> dict[str, Any] | None:
    """Return the record of a study, ``None`` if there is none.

    Args:
        name: its folder under ``docs/studies``.
    """
    file = STUDIES / (name or "") / RECORD
    return read_json(file) if file.is_file() else None

"""Images that viewers have sent without adding them to the studies: they go when nobody has asked for them for long."""

from __future__ import annotations

import shutil
import time
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def remove_expired(folder: Path, seconds: float, known: MutableMapping[str, Any]) -> None:
    """Remove the sessions that were used last before some time, by the files in them alone.

    MONAI Label removes none until the first is sent after a start, and stops at one that is not whole.

    Args:
        folder: where each session has a folder.
        seconds: how long one stays; every use of it writes to its folder.
        known: the sessions that the server remembers.
    """
    for session in folder.glob("*/"):
        with suppress(OSError):  # removed meanwhile
            if max(path.stat().st_mtime for path in (session, *session.iterdir())) + seconds < time.time():
                known.pop(session.name, None)
                shutil.rmtree(session)

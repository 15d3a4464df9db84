"""Whether a run can write what it is about to compute."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import ignite.distributed as idist

from custom_networks.workflow.guard.interrupts import PROGRESS


def check_outputs(output_dir: str | Path, ckpt_dir: str | Path | None = None) -> None:
    """Refuse folders that cannot be made or written, before a run computes what it could not keep.

    A file is written to each and removed again, with the folders that were made for it. Of several processes the first
    does so.

    Args:
        output_dir: the knob of that name.
        ckpt_dir: the knob of that name, for a training; ``None`` where nothing is written there.

    Raises:
        ValueError: if nothing can be written to one of them.
    """
    if idist.get_rank() > 0:
        return
    for knob, folder in (("output_dir", output_dir), ("ckpt_dir", ckpt_dir)):
        if folder is not None:
            _try_to_write(knob, Path(folder))
    PROGRESS.begin(Path(output_dir))


def _try_to_write(knob: str, folder: Path) -> None:
    made: list[Path] = []
    try:
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".try_to_write_") as file:
            file.write(b"something")
            file.flush()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"{knob} {folder} cannot be written ({reason}); set {knob} to a folder that can be") from error
    finally:
        for place in made:  # the innermost first
            with suppress(OSError):
                place.rmdir()

"""What a folder already holds of a training: it is resumed or left alone, and never replaced in silence."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from custom_networks.workflow.guard.first_process import in_first
from custom_networks.workflow.guard.lock import check_unlocked
from custom_networks.workflow.guard.restarts import has_begun

logger = logging.getLogger(__name__)
MODEL, LAST = "model.pt", "last_checkpoint.pt"
LABEL_APP = "MONAI_LABEL_APP_DIR"
"""The variable in which MONAI Label has the folder of its app."""


def resume_from(ckpt_dir: str | Path, resume_ckpt: str | Path | None) -> str | None:
    """Return the state that a training goes on from, ``None`` for a new one.

    It is ``resume_ckpt``, but where torchrun has started its processes anew with the same command, after one of them
    was lost, what they have saved by then.

    Args:
        ckpt_dir: the knob of that name.
        resume_ckpt: the knob of that name.
    """

    def find() -> str | None:
        last = Path(ckpt_dir) / LAST
        if last.is_file() and has_begun(last.parent):
            logger.info("torchrun has restarted this training, which goes on from %s", last)
            return str(last)
        return str(resume_ckpt) if resume_ckpt else None

    return in_first(find)


def check_ckpt_dir(ckpt_dir: str | Path, resumed: str | Path | None, overwrite: bool = False) -> None:
    """Refuse a folder in which a training runs, or that holds one which this run would replace.

    A training of MONAI Label replaces the weights of the app's own copy of a bundle, which is what it is for.

    Args:
        ckpt_dir: the knob of that name.
        resumed: what the training goes on from, see :func:`resume_from`; in this folder it belongs to what is there.
        overwrite: replace what is there.

    Raises:
        ValueError: if there is a training that was neither resumed nor to be replaced.
    """
    in_first(lambda: _check(Path(ckpt_dir), resumed, overwrite))


def _check(folder: Path, resumed: str | Path | None, overwrite: bool) -> None:
    check_unlocked(folder)
    app = os.environ.get(LABEL_APP)
    in_app = bool(app) and folder.resolve().is_relative_to(Path(str(app)).resolve())
    own = resumed is not None and Path(resumed).resolve().parent == folder.resolve()
    if overwrite or own or in_app or has_begun(folder):
        return
    found = [name for name in (MODEL, LAST) if (folder / name).is_file()]
    if found:
        others = "give another folder as --ckpt_dir, or replace it with --overwrite True"
        if LAST not in found:
            raise ValueError(
                f"{folder} holds {MODEL}, which this training has not written, and no {LAST} to resume from; {others}"
            )
        raise ValueError(
            f"{folder} holds {' and '.join(found)}, which this training has not written; resume that one with "
            f"--resume_ckpt {folder / LAST}, {others}"
        )

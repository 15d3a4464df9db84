"""One training and its evaluation through ``monai.bundle``, in processes of their own, which can be killed any time."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from custom_networks import __version__
from custom_networks.bundle_folder import HOME, version_of
from custom_networks.files import checksum, read_json, write_text
from custom_networks.studies.children import CHILDREN
from custom_networks.studies.side_by_side import Seat

logger = logging.getLogger(__name__)
MODEL, LAST = "model.pt", "last_checkpoint.pt"
REQUEST, TRAINED, EVALUATED = "request.json", "trained", "evaluated"
LOCK = ".run.lock"
PAUSE = 1.0
"""Seconds after which is looked again whether a process has ended."""
CONFIGS = ("train.json", "evaluate.json", "folds.json")
"""The files of a bundle that decide what a training results in."""
ANY: dict[str, Any] = {}
"""The request in a folder that takes any."""
INDIFFERENT = ("cache_dir", "cache_rate", "ckpt_dir", "device", "num_workers", "output_dir", "overwrite", "report")
"""The knobs that do not: where a training runs, what it keeps in memory and what it draws."""
SAVE_MASKS = {"validate#handlers#0#save_masks": True}


def train_and_evaluate(
    bundle: Path,
    profiles: Sequence[Path],
    folder: Path,
    overrides: Mapping[str, Any],
    seat: Seat,
    masks: bool = False,
) -> None:
    """Train and evaluate a bundle in processes of their own; do only what is not done.

    The folder gets what ``train.json`` and ``evaluate.json`` write, ``train.log``, ``evaluate.log``, and
    ``request.json``, all that decides the result. A training that was killed goes on from its last checkpoint. Where a
    process that an earlier call has started still runs, since only its caller was killed, this one waits for its end.

    Args:
        bundle: the bundle's folder.
        profiles: at most two override files, the later wins.
        folder: where checkpoints, logs and metrics go.
        overrides: knobs and their values.
        seat: the threads or the device of the processes.
        masks: whether the evaluation writes the mask of each case, too.

    Raises:
        ValueError: if the folder holds a run of another request, or another training.
        RuntimeError: if a process fails, with the last line of its log, or no weights were written.
        KeyboardInterrupt: if it was interrupted; the training has saved its state.
    """
    check_request(bundle, profiles, folder, overrides, masks)
    knobs = {**overrides, **seat.knobs(), "output_dir": str(folder), "ckpt_dir": str(folder)}
    with _alone_in(folder) as lock:
        write_text(folder / REQUEST, json.dumps(_request(bundle, profiles, overrides, masks), indent=1) + "\n")
        if (folder / EVALUATED).is_file():
            return
        if not _is_trained(folder):
            # weights of an earlier run may lie there
            last = folder / LAST
            resume = {"resume_ckpt": str(last)} if last.is_file() else {"overwrite": True}
            _bundle_run(("train",), bundle, profiles, {**knobs, **resume}, seat, folder / "train.log", lock)
        (folder / TRAINED).touch()
        if not (folder / MODEL).is_file():
            raise RuntimeError(f"the training wrote no {folder / MODEL}; set val_interval to at most epochs")
        more = SAVE_MASKS if masks else {}
        _bundle_run(("train", "evaluate"), bundle, profiles, {**knobs, **more}, seat, folder / "evaluate.log", lock)
        (folder / EVALUATED).touch()


def forget(folder: Path) -> None:
    """Let a folder take another request; its weights, logs and metrics stay.

    Args:
        folder: the folder of a run.
    """
    for name in (EVALUATED, TRAINED, LAST):
        (folder / name).unlink(missing_ok=True)
    write_text(folder / REQUEST, json.dumps(ANY) + "\n")


def check_request(
    bundle: Path, profiles: Sequence[Path], folder: Path, overrides: Mapping[str, Any], masks: bool = False
) -> None:
    """Refuse a folder that holds a run of another request, or a training that nobody has requested so.

    Args:
        bundle: as for :func:`train_and_evaluate`, as are the others.
        profiles: the override files.
        folder: the folder, which need not exist.
        overrides: knobs and their values.
        masks: whether masks are written.

    Raises:
        ValueError: if it does.
    """
    file = folder / REQUEST
    if not file.is_file():
        if found := [name for name in (MODEL, LAST) if (folder / name).is_file()]:
            raise ValueError(f"{folder} holds {found[0]} of another training; give another folder, or delete this one")
        return
    before, request = read_json(file), _request(bundle, profiles, overrides, masks)
    if before == ANY:
        return
    if differing := [key for key in request if before.get(key) != request[key]]:
        raise ValueError(
            f"{folder} holds a run of another request, {file} has other {' and '.join(differing)}; give another "
            "folder, or delete this one"
        )


def _request(bundle: Path, profiles: Sequence[Path], overrides: Mapping[str, Any], masks: bool) -> dict[str, Any]:
    """Return all that decides the result of a run, as JSON has it."""
    files = [bundle / "configs" / name for name in CONFIGS]
    request = {
        "bundle": bundle.name,
        "version": version_of(bundle),
        "custom_networks": __version__,
        "configs": {file.name: checksum(file) for file in files if file.is_file()},
        "profiles": [_deciding(read_json(path)) for path in profiles],
        "overrides": _deciding(overrides),
        "masks": masks,
    }
    content: dict[str, Any] = json.loads(json.dumps(request, default=str))
    return content


def _deciding(knobs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in knobs.items() if name not in INDIFFERENT}


@contextmanager
def _alone_in(folder: Path) -> Iterator[int]:
    """Wait until no process of an earlier call runs in a folder, and give the open file that tells others the same.

    The lock is that of the open file, which the processes inherit: it lasts as long as any of them lives.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        said = False
        while not _lock(descriptor, folder):
            if not said:
                logger.warning("another process still trains or evaluates in %s; waiting for its end", folder)
                said = True
            CHILDREN.pause(PAUSE)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> bool:
    """Lock an open file, and return whether that was possible."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks; two trainings refuse each other all the same
        logger.warning("%s lies where files cannot be locked; start one command at a time there", folder)
    return True


def _is_trained(folder: Path) -> bool:
    """Return whether the training has ended, though perhaps after the process that waited for it was killed."""
    if (folder / TRAINED).is_file():
        return True
    if not (folder / LAST).is_file():
        return False
    from custom_networks.workflow.train.checkpoint import has_ended

    return has_ended(folder / LAST)


def _bundle_run(
    names: Sequence[str],
    bundle: Path,
    profiles: Sequence[Path],
    overrides: Mapping[str, Any],
    seat: Seat,
    log: Path,
    lock: int,
) -> None:
    """Run configs of a bundle to their end."""
    configs = [str(bundle / "configs" / f"{name}.json") for name in names]
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(bundle)]
    command += ["--config_file", str(configs)]
    command += ["--logging_file", str(bundle / "configs" / "logging.conf")]
    if profiles:
        command += ["--args_file", str([str(p) for p in profiles]) if len(profiles) > 1 else str(profiles[0])]
    for key, value in overrides.items():
        command += [f"--{key}", str(value)]
    environment = {**os.environ, "PYTHONPATH": str(HOME), **seat.environment()}
    if code := CHILDREN.run(command, environment, log, lock):
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
        raise RuntimeError(f"{log} ended with exit code {code}: {lines[-1] if lines else 'no output'}")

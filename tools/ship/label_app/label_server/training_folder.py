"""What a training writes before its weights are served, and what is left of one whose process was killed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

from label_server.models import SERVED, TRAINING_STATE
from label_server.sentences import sentence


class TrainingFolder:
    """A bundle's folder ``training``, which is there from the beginning of a training to its end.

    Args:
        bundle: the bundle's folder.
    """

    def __init__(self, bundle: str) -> None:
        self.path = Path(bundle) / "training"
        self.weights, self.state = self.path / SERVED, self.path / TRAINING_STATE
        self.started = self.path / "started.json"
        self._progress: tuple[tuple[int, int], tuple[int, int]] | None = None

    def begin(self, request: Mapping[str, Any], lists: Mapping[str, Any]) -> None:
        """Remember what a training was started with.

        Args:
            request: the request.
            lists: its lists of cases, so that it goes on with the same.
        """
        process = psutil.Process()
        record = {"request": request, "lists": lists, "began": time.strftime("%Y-%m-%d %H:%M:%S")}
        self._write({**record, "process": [process.pid, process.create_time()]})

    def clear(self) -> None:
        """Remove all that is left of a training."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir()

    def leave(self) -> None:
        """Keep what a training that has failed can go on from; with nothing of that kind, keep nothing."""
        if self.state.exists() and (record := self._read()):
            self._write({**record, "process": None})
        else:
            self.remove()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def runs(self) -> bool:
        """Return whether a process trains here."""
        process = self._read().get("process")
        return process is not None and _runs(*process)

    def interrupted(self) -> dict[str, Any] | None:
        """Return what an interrupted training was started with; ``None`` if there is none, or it still runs."""
        return None if self.runs() else self._read() or None

    def say_interrupted(self) -> str:
        """Return in one sentence where a training was interrupted and how it goes on; empty if none was."""
        record = self.interrupted()
        if record is None:
            return ""
        name = self.path.parent.name
        what = f"the training of {name} that began on {record['began']} was interrupted"
        if not self.state.exists():
            return f"{what} before the end of its first epoch; train anew"
        try:
            epoch, epochs = self.progress()
        except Exception as error:  # torch has an error of its own kind for every way in which a file can be broken
            return f"{what} and left nothing that can be read ({sentence(error)}); train anew"
        return f'{what} after epoch {epoch} of {epochs}; train with "resume": true to go on from there, or anew'

    def progress(self) -> tuple[int, int]:
        """Return the last epoch of the state, and the number of all."""
        # every request asks, and the state is several times as large as the weights
        found = self.state.stat()
        file = (found.st_mtime_ns, found.st_size)
        if self._progress is None or self._progress[0] != file:
            trainer = self.read_state()["trainer"]
            self._progress = file, (trainer["iteration"] // trainer["epoch_length"], trainer["max_epochs"])
        return self._progress[1]

    def read_state(self) -> dict[str, Any]:
        """Return the state after the last epoch."""
        state: dict[str, Any] = torch.load(self.state, map_location="cpu", weights_only=True)
        return state

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.started.read_text()))
        except FileNotFoundError:
            return {}

    def _write(self, record: Mapping[str, Any]) -> None:
        self.path.mkdir(exist_ok=True)
        partial = self.started.with_name(".partial_started.json")
        partial.write_text(json.dumps(record, indent=1))
        partial.replace(self.started)


def _runs(pid: int, created: float) -> bool:
    """Return whether a process still runs: another one may have its number by now."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

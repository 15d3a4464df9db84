"""What the reports of an evaluation have in common: rows per case, gathered from all processes, written whole."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import torch.distributed as dist
from ignite.engine import Engine, Events

from custom_networks.files import write_text


class CaseReport(ABC):
    """Collect rows while an evaluator runs, and write them when it has finished.

    Works in distributed evaluations: the rows of all processes are gathered and the first one writes.

    Args:
        output_dir: folder to write to.
        label_names: names of the classes.
    """

    def __init__(self, output_dir: str | Path, label_names: Sequence[str]) -> None:
        self.output_dir = Path(output_dir)
        self.label_names = list(label_names)
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Listen to an evaluator.

        Args:
            engine: a MONAI evaluator.
        """
        engine.add_event_handler(Events.STARTED, lambda _: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    @abstractmethod
    def add(self, engine: Engine) -> None:
        """Add the rows of one iteration.

        Args:
            engine: the evaluator.
        """

    @abstractmethod
    def write(self, rows: list[dict[str, Any]]) -> None:
        """Write the files whole or not at all, by :meth:`write_table` and :func:`custom_networks.files.write_text`.

        Args:
            rows: the rows of all processes, in any order.
        """

    def _finish(self, _: Engine) -> None:
        parts: list[Any] = [self.rows]
        if dist.is_available() and dist.is_initialized():
            parts = [None] * dist.get_world_size()
            dist.all_gather_object(parts, self.rows)
            if dist.get_rank() > 0:
                return
        self.write([row for part in parts for row in part])

    def write_table(self, name: str, lines: Sequence[Sequence[object]]) -> Path:
        """Write a CSV file and return its path.

        Args:
            name: file name in the output folder.
            lines: cells by line, the heading first.
        """
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_text(self.output_dir / name, text.getvalue())
        return self.output_dir / name

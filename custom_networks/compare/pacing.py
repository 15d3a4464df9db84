"""The pace of a training, measured in a process of its own: ``python -m custom_networks.compare.pacing``."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from custom_networks.adapt.network import from_config_value
from custom_networks.adapt.pace import Pace, measure
from custom_networks.bundle_folder import HOME
from custom_networks.files import read_json, write_text
from custom_networks.studies.children import CHILDREN
from custom_networks.studies.side_by_side import Seat


def pace_of(bundle: Path, profile: Path, file: Path, seat: Seat) -> Pace:
    """Return the pace of a training under the conditions of a seat; measure it unless a file has it.

    Args:
        bundle: the bundle's folder.
        profile: the whole profile.
        file: keeps the pace; its log lies beside it.
        seat: where the trainings are to run.

    Raises:
        RuntimeError: if the training cannot be measured, with the last line of its log.
    """
    if not file.is_file():
        log = file.with_suffix(".log")
        command = [sys.executable, "-m", __name__, str(bundle), str(profile), str(file)]
        with log.open("w", encoding="utf-8") as held:
            environment = {**os.environ, "PYTHONPATH": str(HOME), **seat.environment()}
            code = CHILDREN.run(command, environment, log, held.fileno())
        if code:
            lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
            raise RuntimeError(f"{log} ended with exit code {code}: {lines[-1] if lines else 'no output'}")
    return Pace(**read_json(file))


def main(bundle: str, profile: str, file: str) -> None:
    """Measure a training and write its pace.

    Args:
        bundle: the bundle's folder.
        profile: the whole profile.
        file: what to write.
    """
    folder = Path(bundle)
    config, own = read_json(folder / "configs" / "train.json"), from_config_value(read_json(Path(profile)))
    write_text(Path(file), json.dumps(asdict(measure(folder, config, own, None))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

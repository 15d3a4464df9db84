"""What training has made of the gates of axial attention."""

from __future__ import annotations

from pathlib import Path

from custom_networks.bundle_folder import find_bundle
from custom_networks.workflow.train.checkpoint_files import read_checkpoint
from tools.recipes.gate_table import tabulate_gates


def gates(weights: str) -> str:
    """Print the gates of trained weights layer by layer, each with its change from where it started.

    Args:
        weights: a checkpoint, or name or folder of a bundle, whose ``models/model.pt`` is read.

    Raises:
        ValueError: if there is no such bundle, the file is not a checkpoint, or there are no gates in it.
        FileNotFoundError: if there is no such file.
    """
    path = Path(weights)
    path = path if path.suffix == ".pt" else find_bundle(weights) / "models" / "model.pt"
    checkpoint = read_checkpoint(path)
    text = tabulate_gates(checkpoint.get("model", checkpoint), str(path))
    print(text)
    return text

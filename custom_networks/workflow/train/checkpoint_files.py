"""Writing checkpoints whole, and reading those of anybody safely."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from custom_networks.failures import chain_of, on_one_line
from custom_networks.files import replacing

ALONE = "save its state dict alone, with torch.save(network.state_dict(), path)"
# the pickled beginning of files of torch before 1.6
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
NUMPY_NUMBERS = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")


def save_atomically(state: Any, path: str | Path) -> None:
    """Write a checkpoint so that a reader finds the old file or the whole new one, never a part.

    Args:
        state: what ``torch.save`` takes.
        path: the file to write; missing folders are made.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if torch cannot write it to its end.
    """
    with replacing(Path(path)) as partial:
        try:
            torch.save(state, partial)
        except RuntimeError as error:  # its writer does not say that the disk is full
            raise ValueError(
                f"{path} cannot be written ({on_one_line(error)}); free some space, or set ckpt_dir to another folder"
            ) from error


def keep_aside(weights: Path) -> Path:
    """Copy weights that are about to be replaced to ``model_<time>.pt`` beside them, and return that file.

    Their records ``training_*.json`` are copied, too, to ``model_<time>.training_*.json``.

    Args:
        weights: their file.
    """
    kept = weights.with_stem(f"{weights.stem}_{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    records = {file: kept.with_name(f"{kept.stem}.{file.name}") for file in weights.parent.glob("training_*.json")}
    for file, copy in {**records, weights: kept}.items():
        with replacing(copy) as partial:
            shutil.copyfile(file, partial)
    return kept


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of tensors and plain containers.

    Args:
        path: a file written by ``torch.save``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a checkpoint that can be read safely.
    """
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"{path} is a folder; give the checkpoint in it, such as {file / 'model.pt'}")
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no checkpoint {path}: train first or set ckpt_dir to the folder that holds it"
        )
    with file.open("rb") as opened:  # a file that may not be read says so here
        head = opened.read(64)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has an error of its own kind for every way in which a file can be wrong
        raise ValueError(f"{path} {_why_unreadable(file, head, error)}") from error
    if not isinstance(checkpoint, Mapping):
        kind = type(checkpoint).__name__
        raise ValueError(f"{path} holds a {kind} where a state dict is expected; give a checkpoint")  # noqa: TRY004
    return dict(checkpoint)


def _why_unreadable(file: Path, head: bytes, error: Exception) -> str:
    """Return why a file could not be loaded and what to do, in a sentence without its subject."""
    truncated = "is not a readable checkpoint, it may be truncated; copy it again or train anew"
    if not head:
        return truncated
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile:
            return truncated
        if any(name.endswith("/constants.pkl") for name in names):
            return f"is a TorchScript archive, which holds code beside the weights; load it with torch.jit and {ALONE}"
        if not any(name.endswith("/data.pkl") for name in names):
            return "is a zip that torch.save did not write; give a checkpoint"
    elif head[8:9] == b"{":
        return "is a safetensors file; read it with safetensors.torch.load_file and write it with torch.save"
    # the message that names what is refused is inside one that explains at length how to load it all the same
    if found := re.search(r"GLOBAL (\S+)", " ".join(str(seen) for seen in chain_of(error))):
        what = "a number of numpy" if found[1] in NUMPY_NUMBERS else found[1]
        return f"holds {what}, which is not loaded for safety; {ALONE}"
    if head.startswith(LEGACY):
        return truncated
    if head.startswith(b"PK"):
        return f"is not a readable checkpoint ({on_one_line(error)}); copy it again or train anew"
    return "is no checkpoint, torch.save did not write it; give the file of a training"


def weights_in(checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Return a state dict, or the one under "model" in a resumable checkpoint.

    Args:
        checkpoint: what the file holds.
        path: the file, for the error.

    Raises:
        ValueError: if no tensor is there by a name.
    """
    state = checkpoint.get("model", checkpoint)
    named = {key: value for key, value in state.items() if isinstance(key, str)} if isinstance(state, Mapping) else {}
    if any(isinstance(value, Tensor) for value in named.values()):
        return named
    nested = [
        key
        for key, value in checkpoint.items()
        if isinstance(value, Mapping) and any(isinstance(entry, Tensor) for entry in value.values())
    ]
    keys = ", ".join(map(str, checkpoint)) or "nothing"
    save = f"save the state dict that is under {nested[0]!r} alone" if nested else "give a state dict"
    raise ValueError(f"{path} holds no weights by their names, it has {keys[:200]}; {save}")

"""Where converted networks are kept, and the key that tells a changed network from the one that was converted."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import nn

logger = logging.getLogger(__name__)
FOLDER = "engines"


def user_cache() -> Path:
    """Return the folder of this user for what can be made again: ``$XDG_CACHE_HOME`` or ``~/.cache``, and our name."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "custom_networks"


def fingerprint(network: nn.Module) -> str:
    """Return a SHA-256 over all that decides the outputs of a network: weights, definition, code and versions.

    The definition is what the modules hold beside tensors; the code, that of the classes of its modules.

    Args:
        network: the network.
    """
    package = sys.modules[__name__.partition(".")[0]]  # not imported by name: it imports the networks
    digest = hashlib.sha256(f"{package.__version__} {torch.__version__}".encode())
    for line in chain(_definition(network), _code(network)):
        digest.update(line.encode() + b"\0")
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _definition(network: nn.Module) -> Iterator[str]:
    for name, module in network.named_modules():
        plain = {key: repr(value) for key, value in sorted(vars(module).items()) if not key.startswith("_")}
        # training is a state; an address differs from process to process
        told = {key: text for key, text in plain.items() if key != "training" and " at 0x" not in text}
        yield f"{name} {type(module).__module__}.{type(module).__qualname__} {told}"


def _code(network: nn.Module) -> Iterator[str]:
    homes = {type(module).__module__ for module in network.modules()}
    for home in sorted(homes):
        file = getattr(sys.modules.get(home), "__file__", None)
        if file is not None and not home.startswith("torch."):
            yield f"{home} {hashlib.sha256(Path(file).read_bytes()).hexdigest()}"


def kept(weights: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Return a file of the cache beside the weights, which is made where there is none, whole or not at all.

    Where nothing can be written beside the weights, the cache is the user's; one sentence says so.

    Args:
        weights: the file of the weights.
        name: name of the file, with the key of all that it is made of.
        make: writes the file to the path that it gets.

    Raises:
        OSError: if nothing can be written in the user's cache either.
    """
    folders = (weights.parent / FOLDER, user_cache() / FOLDER)
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    folder = writable(weights)
    with tempfile.TemporaryDirectory(prefix=".partial_", dir=folder) as temporary:
        partial = Path(temporary) / name
        make(partial)
        partial.replace(folder / name)
    return folder / name


def writable(weights: Path) -> Path:
    """Return the folder of the cache that files can be written to, made where there is none.

    Args:
        weights: the file of the weights.

    Raises:
        OSError: if nothing can be written in the user's cache either.
    """
    beside, own = weights.parent / FOLDER, user_cache() / FOLDER
    try:
        _try(beside)
    except OSError:
        _try(own)
        logger.info("%s cannot be written; what is converted is kept in %s", beside, own)
        return own
    return beside


def _try(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()

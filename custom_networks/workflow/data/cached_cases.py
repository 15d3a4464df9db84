"""The cases of a training, preprocessed once and kept in the memory or in files."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import monai
import torch
from monai.data import CacheDataset
from monai.data.utils import pickle_hashing
from monai.transforms import Compose, RandomizableTrait

from custom_networks.files import replacing
from custom_networks.workflow.data.cases import files_of
from custom_networks.workflow.data.seeding import Seeded, random_parts, seed_sample

KEYS = ("image", "label")


class CachedCases(CacheDataset):
    """MONAI's ``CacheDataset`` whose samples depend on their seeds, and which can keep the cases in files.

    A file is mapped into the memory, not read: a patch reads what it needs of it, the system keeps in the memory what
    there is room for, and all processes that load data share that. It is made anew where an image, its label, or a
    transform before the first random one has changed.

    Args:
        data: the cases; with ``cache_dir`` their ``image`` and ``label`` are files.
        transform: what is kept is what comes out of the transforms before the first random one.
        cache_rate: share of the cases that is kept in the memory, 0 to 1; with ``cache_dir`` none is.
        cache_dir: folder of the files; None for none.
        num_workers: threads that preprocess.
        copy_cache: copy a case before the random transforms, unless these leave what they get as it is.

    Raises:
        OSError: if the files cannot be written.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Compose,
        cache_rate: float = 1.0,
        cache_dir: str | Path | None = None,
        num_workers: int = 0,
        copy_cache: bool = True,
    ) -> None:
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        # before the first case, since a transform may keep something of the cases that it sees
        self.preprocessing = b"" if cache_dir is None else _fingerprint(transform)
        rate = cache_rate if cache_dir is None else 1.0
        super().__init__(
            data, transform, cache_rate=rate, num_workers=num_workers, progress=False, copy_cache=copy_cache
        )
        self.random_parts = random_parts(transform)

    def __getitem__(self, index: int | slice | Sequence[int] | Seeded) -> Any:
        """Return the sample of a case; with a seed it depends on nothing else."""
        if not isinstance(index, tuple):
            return super().__getitem__(index)
        number, seed = index
        seed_sample(self.random_parts, seed)
        return super().__getitem__(number)

    def _load_cache_item(self, idx: int) -> Any:
        """Preprocess a case; with a folder, only if it does not hold it."""
        if self.cache_dir is None:
            return super()._load_cache_item(idx)
        file = self.cache_dir / f"{self._key(self.data[idx])}.pt"
        if not file.is_file():
            case = super()._load_cache_item(idx)
            with replacing(file) as partial:
                torch.save(case, partial)
        return torch.load(file, mmap=True, weights_only=True)

    def _key(self, case: Mapping[str, Any]) -> str:
        """Return what differs where the preprocessed case would."""
        files = [file for key in KEYS for path in files_of(case[key]) for file in _files_in(path)]
        states = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
        return pickle_hashing([self.preprocessing, states]).decode()


def _files_in(path: Path) -> list[Path]:
    """Return a file, or those of the folder of a DICOM series."""
    return sorted(path.iterdir()) if path.is_dir() else [path]


def _fingerprint(transform: Compose) -> bytes:
    """Return what differs where the transforms before the first random one do, or the versions of their code."""
    transforms = takewhile(lambda part: not isinstance(part, RandomizableTrait), transform.flatten().transforms)
    return pickle.dumps([*transforms, monai.__version__, sys.modules["custom_networks"].__version__])

"""Each bundle's own ``custom_networks`` in one process."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import ClassVar

PACKAGE = "custom_networks"


class OwnCode:
    """The modules of each bundle's vendored package; one bundle's are in ``sys.modules`` at a time.

    Python knows one package of a name. The modules are exchanged whenever a bundle with other code runs, and one bundle
    runs at a time, because what a config names is imported while it runs.
    """

    lock = threading.RLock()
    known: ClassVar[dict[str, dict[str, ModuleType]]] = {}
    current = ""

    @classmethod
    @contextmanager
    def of(cls, bundle: str) -> Iterator[None]:
        """Run with the package of a bundle.

        Args:
            bundle: the bundle's folder.
        """
        digest = code_digest(Path(bundle) / PACKAGE)
        with cls.lock:
            if digest != cls.current:
                loaded = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == PACKAGE}
                cls.known[cls.current] = loaded
                sys.modules.update(cls.known.get(digest, {}))
                cls.current = digest
            sys.path.insert(0, bundle)
            try:
                yield
            finally:
                sys.path.remove(bundle)


def code_digest(package: Path) -> str:
    """Return a checksum of the Python files of a package.

    Args:
        package: its folder.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()

"""The version of this package that a bundle needs."""

from __future__ import annotations

import sys
from pathlib import Path

from monai.utils import version_geq

from custom_networks.workflow.guard.errors import report_errors


def require_version(minimum: str) -> None:
    """Refuse to run a bundle with an older ``custom_networks`` than it was packed with.

    Python keeps the first package of a name that a process has imported: a bundle may find that of another bundle, or
    an installed one, in place of its own. Called by every config before anything else of this package, so that the
    exports of ``python -m monai.bundle``, too, end with one sentence (:func:`report_errors`).

    Args:
        minimum: version of the package that the bundle was packed with.

    Raises:
        ValueError: if the imported package is older.
    """
    report_errors()
    package = sys.modules[__name__.partition(".")[0]]  # not imported by name: it imports the networks
    if version_geq(package.__version__, minimum):
        return
    folder = Path(str(package.__file__)).parent
    raise ValueError(
        f"this bundle needs custom_networks {minimum} or newer, but {package.__version__} was imported from "
        f"{folder}; update that package, or use this bundle in a process of its own if another one brought it"
    )

"""The pictures of a case: three planes, and a copy for the viewer while there is room on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_networks.workflow.report.page.embedded import BUDGET, embedded, size_of
from custom_networks.workflow.report.page.planes import Plane, planes_of
from custom_networks.workflow.report.page.privacy import Naming
from custom_networks.workflow.report.page.scans import Structure, around_structures, read_scan


@dataclass(frozen=True)
class Pictures:
    """What is shown of a case.

    Args:
        planes: what is drawn, none if something is missing.
        masks: what is outlined, "prediction" or "reference" or both.
        viewer: what the viewer is given, see :func:`custom_networks.workflow.report.page.embedded.embedded`.
        size: kilobytes of it.
        note: a sentence on what is not shown.
    """

    planes: Sequence[Plane] = ()
    masks: Sequence[str] = ()
    viewer: Mapping[str, Any] | None = None
    size: int = 0
    note: str = ""


@dataclass
class Album:
    """Draws the pictures of one case after the other, with a viewer as long as the budget lasts.

    Args:
        left: bytes that viewers may still take.
    """

    left: int = field(default=BUDGET)

    def pictures(
        self,
        files: Sequence[str],
        masks: Mapping[str, Path],
        structures: Sequence[Structure],
        naming: Naming,
        series: str | None = None,
        sides: Sequence[Structure] = (),
    ) -> Pictures:
        """Return the pictures of a case; where a file is missing or cannot be read, a sentence says which.

        They show what lies around the structures; with sides, the planes show the whole image.

        Args:
            files: of its image.
            masks: its label maps by name.
            structures: what they hold.
            naming: what the case is called.
            series: SeriesInstanceUID to take from a folder of several.
            sides: what of a whole head has a sagittal plane of its own.
        """
        if not files:
            return Pictures(note="No pictures: nothing says where the image is.")
        try:
            scan = read_scan(files, masks, series=series)
        except (OSError, ValueError, ModuleNotFoundError) as error:
            # what is said of a DICOM file may hold anything that stands in it
            why = "its files are gone or cannot be read" if naming.numbered else naming.clean(str(error))
            return Pictures(note=f"No pictures: {why}.")
        near = around_structures(scan)
        planes = planes_of(scan if sides else near, structures, sides)
        content = embedded(near, structures)
        size = size_of(content)
        if size > self.left:
            note = f"No viewer: those of other cases take the {BUDGET // 2**20} MB that a page gives to them."
            return Pictures(planes, tuple(masks), note=note)
        self.left -= size
        return Pictures(planes, tuple(masks), content, -(-size // 1000))

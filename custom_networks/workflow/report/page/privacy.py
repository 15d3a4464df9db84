"""What a case is called on the page: never what a DICOM file or folder is called, unless it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_networks.workflow.report.page.scans import is_dicom


@dataclass(frozen=True)
class Naming:
    """How a case is called.

    Args:
        label: on the page.
        hidden: what must not stand there, the longest first.
    """

    label: str
    hidden: tuple[str, ...] = ()

    def clean(self, text: str) -> str:
        """Return a sentence with the label in place of what must not stand there.

        Args:
            text: the sentence.

        Example:
            >>> Naming("case 1", ("DOE_JOHN",)).clean("DOE_JOHN has 3 pieces")
            'case 1 has 3 pieces'
        """
        for name in self.hidden:
            text = text.replace(name, self.label)
        return text


def naming(case: str, files: Sequence[str], number: int, *, series: str | None = None, show_names: bool = False) -> Naming:
    """Return how a case is called.

    Args:
        case: its name.
        files: those of its image.
        number: which of all cases it is, from 1.
        series: SeriesInstanceUID, for a DICOM series.
        show_names: whether the names of DICOM files and folders may be shown.
    """
    dicom = series is not None or (bool(files) and is_dicom(files))
    if show_names or not dicom:
        return Naming(case)
    names = {case, *Path(case).parts, *files, *(part for file in files for part in Path(file).parts[-2:])}
    if series:
        names.add(series)
    return Naming(f"case {number}", tuple(sorted((n for n in names if len(n) > 2), key=len, reverse=True)))

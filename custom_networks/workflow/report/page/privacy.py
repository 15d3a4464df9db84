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
        hidden: what must not stand there, and what stands there instead.
        numbered: whether the label is a number in place of its name.
    """

    label: str
    hidden: tuple[tuple[str, str], ...] = ()
    numbered: bool = False

    def clean(self, text: str) -> str:
        """Return a sentence without what must not stand on the page.

        Args:
            text: the sentence.

        Example:
            >>> Naming("case 1", (("DOE_JOHN", "case 1"),)).clean("DOE_JOHN has 3 pieces")
            'case 1 has 3 pieces'
        """
        for name, instead in self.hidden:
            text = text.replace(name, instead)
        return text


def naming(
    case: str,
    files: Sequence[str],
    number: int,
    folder: Path,
    *,
    series: str | None = None,
    show_names: bool = False,
) -> Naming:
    """Return how a case is called: a DICOM series by a number, all others by their name without the folders of files.

    Args:
        case: its name.
        files: those of its image.
        number: which of all cases it is, from 1.
        folder: the folder of results.
        series: SeriesInstanceUID, for a DICOM series.
        show_names: whether all names may be shown.

    Example:
        >>> naming("scan", ["/data/scan.nii.gz"], 1, Path("out")).clean("there is no file /data/scan.nii.gz")
        'there is no file scan.nii.gz'
    """
    if show_names:
        return Naming(case)
    places = {f"{place}/": "" for place in (folder, *(Path(file).parent for file in files))}
    if series is None and not (files and is_dicom(files)):
        return Naming(case, _longest_first(places))
    label = f"case {number}"
    names = {case, *Path(case).parts, *files, *(part for file in files for part in Path(file).parts[-2:])}
    places |= {name: label for name in {*names, series or ""} if len(name) > 2}
    return Naming(label, _longest_first(places), numbered=True)


def _longest_first(replaced: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(replaced.items(), key=lambda item: -len(item[0])))

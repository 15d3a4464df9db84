"""The series of a folder: which files belong to one, found without a look at their numbers or names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from custom_networks.workflow.data.formats.dicom_file import (
    SUFFIXES,
    Header,
    is_dicom,
    plain,
    read_file,
    value_of,
)
from custom_networks.workflow.data.formats.dicom_planes import frame_count

LISTED = 10
"""How many series a message lists."""
NAMED = 3
"""How many files a note names."""


class Series(NamedTuple):
    """A series, as a user tells it from others.

    Args:
        slices: number of images or frames.
        description: SeriesDescription.
    """

    slices: int
    description: str


def series_of(folder: Path) -> dict[str, Series]:
    """Return the series whose files lie directly in a folder, by SeriesInstanceUID.

    Args:
        folder: of DICOM files.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a file cannot be read.
    """
    return _described(_grouped(_headers(folder)[0]))


def headers_of(path: Path, series: str | None) -> tuple[list[Header], list[str]]:
    """Return the files of one series, and notes on what was left out.

    Args:
        path: the folder of a series, or a file.
        series: SeriesInstanceUID, needed where the folder holds several.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if there is no series to read, several, or not the one that is asked for.
    """
    headers, notes = _headers(path) if path.is_dir() else (_single(path), [])
    groups = _grouped(headers)
    if not groups:
        raise ValueError(f"{path} holds no DICOM image{'; '.join(['', *notes])}; give the folder of a series")
    if series is not None and series not in groups:
        raise ValueError(f"{path} has no series {series}, but {_listed(groups)}; choose one with --series UID")
    if series is None and len(groups) > 1:
        raise ValueError(f"{path} holds {len(groups)} series: {_listed(groups)}; choose one with --series UID")
    chosen = groups[series] if series is not None else next(iter(groups.values()))
    if path.is_file() and frame_count(chosen[0]) == 1 and _has_siblings(chosen[0]):
        raise ValueError(f"{path} is one slice of a series whose others lie beside it; give the folder {path.parent}")
    for keyword in ("PatientID", "StudyInstanceUID"):
        # the values are the patient's, and no business of a log
        files = {plain(value_of(header.file, header.data, keyword) or ""): header.file.name for header in chosen}
        if len(files) > 1:
            raise ValueError(
                f"{path} holds images with {len(files)} values of {keyword} in one series, such as "
                f"{' and '.join(sorted(files.values())[:2])}; give the images of one"
            )
    return chosen, notes


def uid_of(header: Header) -> str:
    """Return the SeriesInstanceUID of a file, nothing where it has none.

    Args:
        header: of the file.
    """
    return plain(value_of(header.file, header.data, "SeriesInstanceUID") or "")


def _files(folder: Path) -> Iterator[Path]:
    try:
        # not glob, to which brackets in a name mean something
        yield from sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no folder {folder}; restore it or correct the path") from error
    except OSError as error:
        raise ValueError(f"{folder} cannot be listed ({error.strerror}); make it a readable folder") from error


def _headers(folder: Path) -> tuple[list[Header], list[str]]:
    found, others, bare = [], [], []
    for file in _files(folder):
        if is_dicom(file):
            header = read_file(file)
            if header is None:
                bare.append(file.name)
            else:
                found.append(header)
        elif file.name.lower().endswith(SUFFIXES):
            state = "is empty" if file.stat().st_size == 0 else "is no DICOM file, in spite of its name"
            raise ValueError(f"{file} {state}; copy it again or remove it")
        else:
            others.append(file.name)
    notes = []
    for names, what in ((bare, "without pixels"), (others, "that are no DICOM")):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            notes.append(f"leaves out files {what}: {', '.join(names[:NAMED])}{more}")
    return found, notes


def _single(file: Path) -> list[Header]:
    if not file.exists():
        raise FileNotFoundError(f"there is no file {file}; restore it or correct the path")
    if not is_dicom(file):
        raise ValueError(f"{file} is no DICOM file; give the folder of a series, or a file of another format")
    header = read_file(file)
    return [] if header is None else [header]


def _has_siblings(header: Header) -> bool:
    """Tell whether the folder of a file holds more of its series."""
    uid = uid_of(header)
    for file in _files(header.file.parent) if uid else ():
        try:
            other = read_file(file) if file.name != header.file.name and is_dicom(file) else None
            if other is not None and uid_of(other) == uid:
                return True
        except ValueError:
            # what else lies there was not asked for
            continue
    return False


def _grouped(headers: Sequence[Header]) -> dict[str, list[Header]]:
    groups: dict[str, list[Header]] = {}
    for header in headers:
        groups.setdefault(uid_of(header), []).append(header)
    return dict(sorted(groups.items()))


def _described(groups: Mapping[str, Sequence[Header]]) -> dict[str, Series]:
    return {
        uid: Series(
            sum(frame_count(header) for header in headers),
            plain(value_of(headers[0].file, headers[0].data, "SeriesDescription") or ""),
        )
        for uid, headers in groups.items()
    }


def _listed(groups: Mapping[str, Sequence[Header]]) -> str:
    texts = [
        f"{uid or 'without UID'} ({', '.join(filter(None, (f'{slices} slices', description)))})"
        for uid, (slices, description) in _described(groups).items()
    ]
    more = [f"and {len(texts) - LISTED} more"] if len(texts) > LISTED else []
    return ", ".join(texts[:LISTED] + more)

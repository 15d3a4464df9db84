"""From what a user names, files, folders, DICOM exports and zips, to the images to segment."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from custom_networks.failures import file_sentence
from custom_networks.predict.archives import unpack
from custom_networks.workflow.data.cases import case_name, files_of
from custom_networks.workflow.data.formats.dicom_series import headers_of
from custom_networks.workflow.data.inference_list import RESULT, channel_data_list, inference_data_list
from custom_networks.workflow.data.layouts.files import scan
from custom_networks.workflow.data.layouts.nnunet import split_channel

logger = logging.getLogger(__name__)

ZIP = ".zip"

Entry = dict[str, Any]
Problem = tuple[str, str]


class _Found(NamedTuple):
    """The images of one input, and the folder whose name tells them from those of another input."""

    given: str
    place: Path
    entries: list[Entry]


@contextmanager
def find_images(
    inputs: Sequence[str], *, series: str | None, in_channels: int
) -> Iterator[tuple[list[Entry], list[Problem]]]:
    """Give the images to segment, and what is wrong with the inputs that cannot be used.

    An input is an image file, a folder of images or of DICOM series at any depth, the folder of a data set with
    ``imagesTs``, or a zip of any of these, which is unpacked into a temporary folder that ends with the context. Files
    of one folder that end in numbers of channels are one image where the network expects several. What is named twice
    is taken once, and a mask ``<name>_seg`` that is named beside its image is left out. Where results of two inputs
    would have one name, those of both go to folders called as the folders that they come from.

    Args:
        inputs: as typed.
        series: a SeriesInstanceUID: only DICOM folders that hold this series.
        in_channels: number of channels that the network expects.

    Yields:
        The entries of :func:`custom_networks.workflow.data.inference_list.inference_data_list`, those of a zip with the
        path of the zip as "archive"; and one pair ``(input, sentence)`` per input, or part of it, that is left out.

    Example:
        >>> with find_images(["no/such/file"], series=None, in_channels=1) as (entries, problems):
        ...     print(entries, problems)
        [] [('no/such/file', 'there is no file or folder no/such/file; correct the path')]
    """
    found: list[_Found] = []
    problems: list[Problem] = []
    with ExitStack() as stack:
        for given, paths in _groups(inputs, in_channels).items():
            try:
                if len(paths) > 1:
                    found.append(_Found(given, paths[0].resolve().parent, channel_data_list(paths, in_channels)))
                elif paths[0].name.lower().endswith(ZIP) and paths[0].is_file():
                    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="custom_networks_")))
                    found.append(_of_zip(given, paths[0], scratch, series, in_channels, problems))
                else:
                    found.append(_of_path(given, paths[0], series, in_channels))
            except (ValueError, OSError) as error:
                problems.append((given, _sentence(error)))
        yield _merged(found, problems), problems


def _groups(inputs: Sequence[str], in_channels: int) -> dict[str, list[Path]]:
    """Return the paths of each input, those of the channels of one image together."""
    paths = {given: Path(given) for given in inputs}
    files = {(path.parent, case_name(path)) for path in paths.values()}
    groups: dict[tuple[Path, str], list[str]] = {}
    for given, path in paths.items():
        if (path.parent, (name := case_name(path)).removesuffix(RESULT)) in files - {(path.parent, name)}:
            logger.info("%s is the mask of another input and is left out", given)
            continue
        pair = split_channel(path) if in_channels > 1 else None
        groups.setdefault((path.parent, pair[0]) if pair else (path, ""), []).append(given)
    return {own[0]: [paths[given] for given in own] for own in groups.values()}


def _of_path(given: str, path: Path, series: str | None, in_channels: int) -> _Found:
    if not path.exists() and not path.is_symlink():
        raise FileNotFoundError(f"there is no file or folder {path}; correct the path")
    entries = inference_data_list(path, series, in_channels)
    whole = path.resolve()
    # the name of a file, or of the folder of a series, is that of its case: the folder above tells it from others
    alone = path.is_file() or any(entry["image"] == str(path) for entry in entries)
    return _Found(given, whole.parent if alone else whole, entries)


def _of_zip(
    given: str, file: Path, scratch: Path, series: str | None, in_channels: int, problems: list[Problem]
) -> _Found:
    """Return the images of a zip, called after it, and add what is wrong with some of them to the problems."""
    name = file.name[: -len(ZIP)].strip(". ") or "images"
    root = scratch / name
    root.mkdir()
    try:
        unpack(file, root)
        # most zips hold one folder, whose name is no news
        while len(inside := scan(root)) == 1 and inside[0].is_dir():
            root = inside[0]
        entries = inference_data_list(root, series, in_channels)
    except (ValueError, OSError) as error:
        raise ValueError(_sentence(error).replace(str(scratch / name), given)) from error
    kept = []
    for entry in entries:
        try:
            if Path(image := files_of(entry["image"])[0]).is_dir():
                # a study is often packed as one folder; where it lies for now is no place to send the user to
                headers_of(image, series)
        except (ValueError, OSError) as error:
            problems.append((given, _sentence(error).replace(str(scratch / name), given)))
            continue
        case = name if len(entries) == 1 else f"{name}/{entry['case']}"
        kept.append({**_renamed(entry, case), "archive": str(file.resolve())})
    return _Found(given, file.resolve().parent, kept)


def _renamed(entry: Mapping[str, Any], case: str) -> Entry:
    ending = entry["mask"].removeprefix(entry["case"])
    return {**entry, "case": case, "mask": f"{case}{ending}"}


def _merged(found: Sequence[_Found], problems: list[Problem]) -> list[Entry]:
    """Return the entries of all inputs under names of their own; what would overwrite another is a problem."""
    seen: set[tuple[Path, ...]] = set()
    fresh: list[_Found] = []
    for one in found:
        images = [tuple(path.resolve() for path in files_of(entry["image"])) for entry in one.entries]
        new = [entry for entry, image in zip(one.entries, images, strict=True) if image not in seen]
        seen |= set(images)
        fresh.append(one._replace(entries=new))
    times = Counter(entry["mask"] for one in fresh for entry in one.entries)
    owner: dict[str, str] = {}
    merged = []
    for one in fresh:
        prefix = f"{one.place.name}/" if any(times[entry["mask"]] > 1 for entry in one.entries) else ""
        said = False
        for entry in one.entries:
            renamed = _renamed(entry, f"{prefix}{entry['case']}")
            if (other := owner.setdefault(renamed["mask"], one.given)) == one.given:
                merged.append(renamed)
            elif not said:
                said = True
                problems.append(
                    (
                        one.given,
                        f"{one.given} would write {renamed['mask']}, as {other} does; give the folder above both, "
                        "whose tree is kept, or rename one",
                    )
                )
    return merged


def _sentence(error: ValueError | OSError) -> str:
    """Return an error in the words of the command, whose arguments are not called as the knobs of a config."""
    said = file_sentence(error) if isinstance(error, OSError) else None
    text = " ".join((said or str(error)).split())
    return text.replace("set dataset_dir to", "give").replace("the knob series", "--series")

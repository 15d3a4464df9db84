"""Volumes, places and pieces of the structures in a mask, and the tables of a folder of results."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import ndimage

from custom_networks.files import read_json, write_text
from custom_networks.workflow.report.head_facts import in_head_words, of_head, say_head

if TYPE_CHECKING:
    from custom_networks.workflow.transforms.class_labels import LabelValues
    from custom_networks.workflow.transforms.regions import Regions

RECORD_SUFFIX = "_seg.json"
LOCK = ".volumes.lock"
COLUMNS = (
    *("case", "structure", "volume_ml", "voxels", "centre_right_mm", "centre_anterior_mm", "centre_superior_mm"),
    *(
        "pieces",
        "largest_piece_share",
        "touches_border",
        "asymmetry_index",
        "percent_of_head",
        "warnings",
        "spacing_1_mm",
        "spacing_2_mm",
        "spacing_3_mm",
    ),
    *("mask", "bundle", "bundle_version", "weights_sha256", "engine", "precision", "device", "created"),
    *("read_seconds", "network_seconds", "write_seconds"),
)
# what a spreadsheet takes for the beginning of a formula
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER, _ABSENT = (int, float), type(None)
# what the tables and the terminal need of a record, by its place
NEEDED: Mapping[tuple[str, ...], Any] = {
    **{(key,): str for key in ("case", "mask", "engine", "precision", "device", "created")},
    **{(key,): list for key in ("image", "bundles", "structures", "warnings")},
    **{("grid", key): list for key in ("spacing", "shape")},
    ("series",): (str, _ABSENT),
    **{("seconds", key): _NUMBER for key in ("read", "network", "write")},
}
NEEDED_OF_ENTRIES: Mapping[str, Mapping[str, Any]] = {
    "bundles": {"name": str, "version": str, "sha256": str},
    "structures": {
        **{"name": str, "voxels": int, "volume_ml": _NUMBER, "centre_mm": (list, _ABSENT), "pieces": int},
        "values": list,
        **{"largest_piece_share": (*_NUMBER, _ABSENT), "touches_border": bool},
    },
    "warnings": {"structure": (str, _ABSENT), "text": str},
}


class Structure(NamedTuple):
    """What is measured in a mask.

    Args:
        name: its name.
        values: the values of its voxels.
    """

    name: str
    values: tuple[int, ...]


def structures_of(
    label_names: Sequence[str], label_values: LabelValues = None, regions: Regions = None, *, of_masks: bool = True
) -> list[Structure]:
    """Return the structures of a data set: its classes without the background, or its regions.

    A region holds the voxels of the regions inside it. Of several values of a class a mask holds the first
    (:class:`custom_networks.workflow.transforms.class_labels.FileLabelsd`), a label any.

    Args:
        label_names: names of the classes, background first.
        label_values: see :func:`custom_networks.workflow.transforms.class_labels.class_values`.
        regions: see :func:`custom_networks.workflow.transforms.regions.region_values`.
        of_masks: whether masks are measured, or labels.

    Raises:
        ValueError: if ``label_values`` or ``regions`` does not fit the names.

    Example:
        >>> structures_of(["background", "tumour", "core"], regions=[[1, 2, 3], [1, 3]])
        [Structure(name='tumour', values=(2, 1)), Structure(name='core', values=(1,))]
    """
    from custom_networks.workflow.transforms.class_labels import class_values
    from custom_networks.workflow.transforms.regions import region_classes

    values = class_values(label_names, label_values, regions)
    numbers = [[n] for n in range(1, len(values))] if regions is None else region_classes(label_names, regions)
    return [
        Structure(name, tuple(value for n in own for value in (values[n][:1] if of_masks else values[n])))
        for name, own in zip(label_names[1:], numbers, strict=True)
    ]


def measure(voxels: np.ndarray, affine: np.ndarray, structures: Sequence[Structure]) -> list[dict[str, Any]]:
    r"""Measure the structures of a mask.

    With :math:`n` voxels at the indices :math:`i_k` and the affine :math:`x = A i + b`, the volume is
    :math:`n |\det A|`, the centre :math:`A \bar{i} + b`. Pieces are connected over faces, edges and corners. Along an
    axis of one voxel nothing touches the border, or a slice always would.

    Args:
        voxels: mask ``(X, Y, Z)``, integers or booleans.
        affine: voxels to mm, RAS.
        structures: what to measure, see :func:`structures_of`.

    Returns:
        Per structure ``name``, ``values``, ``voxels``, ``volume_ml``, ``centre_mm`` (right, anterior, superior),
        ``bounding_box`` (first and last voxel of each axis), ``pieces``, ``largest_piece_share`` and
        ``touches_border``; centre, box and share of an absent one are None.

    Raises:
        ValueError: if the mask has other axes or no integers.

    Cost:
        One pass over the mask, then, per structure, a mask of its bounding box and six bytes per voxel in it.

    Example:
        >>> mask = np.zeros((4, 4, 4), np.uint8)
        >>> mask[1:3, 1:3, 1] = 1
        >>> measure(mask, np.diag([1, 1, 5, 1]), [Structure("Node", (1,))])[0]["volume_ml"]
        0.02
    """
    if voxels.ndim != 3 or voxels.dtype.kind not in "biu":
        raise ValueError(
            f"a mask must hold integers along three axes, got {voxels.dtype} of shape {voxels.shape}; give label values"
        )
    compact, known = _compact(voxels, sorted({value for structure in structures for value in structure.values}))
    boxes = dict(zip(known, ndimage.find_objects(compact, max(len(known), 1)), strict=False))
    numbers = {value: number for number, value in enumerate(known, start=1)}
    found = []
    for structure in structures:
        own = [value for value in structure.values if boxes[value] is not None]
        box = _around([boxes[value] for value in own])
        inside = None if box is None else _any_of(compact[box], [numbers[value] for value in own])
        found.append(
            {"name": structure.name, "values": list(structure.values), **_measured(inside, box, affine, voxels.shape)}
        )
    return found


def _compact(voxels: np.ndarray, values: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Return a mask of the ranks of values, the first being 1, and 0 elsewhere; and the values."""
    known = list(values)
    compact = np.zeros(voxels.shape, np.uint8 if len(known) < 256 else np.uint16)
    if known and voxels.size:
        table = np.array(known, np.int64)
        for part, out in zip(voxels, compact, strict=True):  # one slab after the other, for the memory
            rank = np.searchsorted(table, part).clip(max=len(known) - 1)
            np.copyto(out, rank + 1, where=table[rank] == part, casting="unsafe")
    return compact, known


def _any_of(compact: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """Return where one of the numbers stands; ``np.isin`` would take eight bytes per voxel."""
    inside = compact == numbers[0]
    for number in numbers[1:]:
        inside |= compact == number
    return inside


def _around(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...] | None:
    """Return the box around boxes."""
    if not boxes:
        return None
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))


def _measured(
    inside: np.ndarray | None, box: tuple[slice, ...] | None, affine: np.ndarray, shape: Sequence[int]
) -> dict[str, Any]:
    """Return the measures of one structure by the mask of its bounding box."""
    if inside is None or box is None:
        absent = {"centre_mm": None, "bounding_box": None, "pieces": 0, "largest_piece_share": None}
        return {"voxels": 0, "volume_ml": 0.0, **absent, "touches_border": False}
    counts = [np.count_nonzero(inside, axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    voxels = int(counts[0].sum())
    middle = [s.start + float(n @ np.arange(len(n))) / voxels for s, n in zip(box, counts, strict=True)]
    pieces, largest = _pieces(inside)
    return {
        "voxels": voxels,
        # the determinant by products, exact where axes are straight
        "volume_ml": voxels * abs(float(affine[:3, 0] @ np.cross(affine[:3, 1], affine[:3, 2]))) / 1000,
        "centre_mm": [float(mm) for mm in affine[:3, :3] @ middle + affine[:3, 3]],
        "bounding_box": [[int(s.start), int(s.stop) - 1] for s in box],
        "pieces": pieces,
        "largest_piece_share": largest / voxels,
        "touches_border": any(n > 1 and (s.start == 0 or s.stop == n) for s, n in zip(box, shape, strict=True)),
    }


def _pieces(inside: np.ndarray) -> tuple[int, int]:
    """Return the number of connected pieces and the voxels of the largest."""
    labelled = np.empty(inside.shape, np.int32)
    pieces = int(ndimage.label(inside, np.ones((3, 3, 3)), labelled))
    sizes = np.zeros(pieces + 1, np.int64)
    for part in labelled:  # bincount makes a copy of 64 bits
        sizes += np.bincount(part.ravel(), minlength=pieces + 1)
    return pieces, int(sizes[1:].max())


def read_records(result: Path) -> list[dict[str, Any]]:
    """Return the records of the images in a folder of results, in the order of the cases.

    Args:
        result: the folder, also with folders in it.

    Raises:
        ValueError: if a file is no record.
    """
    files = [file for file in result.rglob(f"*{RECORD_SUFFIX}") if not file.name.startswith(".")]
    return sorted((read_record(file) for file in files), key=lambda record: (record["case"], record["mask"]))


def read_record(file: Path) -> dict[str, Any]:
    """Return the record of an image.

    Args:
        file: the record.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no record.
    """
    record = read_json(file)
    if wrong := wrong_entry(record):
        raise ValueError(
            f"{file} is no record of a segmented image, its entry {wrong} is wrong or absent; move it away if it is "
            "yours, else delete it and segment its image again"
        )
    return record


def wrong_entry(record: Any) -> str | None:
    """Return the entry of a record that is absent or of another kind than it must be, None if all is well.

    Args:
        record: what should be the record of an image.
    """
    wrong = [".".join(keys) for keys, kind in NEEDED.items() if not isinstance(_at(record, keys), kind)]
    for name, needed in NEEDED_OF_ENTRIES.items():
        entries = [] if wrong else record[name]
        wrong += [key for entry in entries for key, kind in needed.items() if not isinstance(_at(entry, (key,)), kind)]
    return wrong[0] if wrong else None


def _at(place: Any, keys: Sequence[str]) -> Any:
    """Return the value at a place of a JSON document, of which nothing is known; of a missing one what has no kind."""
    for key in keys:
        place = place.get(key, ...) if isinstance(place, Mapping) else ...
    return place


def write_volumes(result: Path, header: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Write ``volumes.csv`` and ``volumes.json`` of all records in a folder of results, and return the records.

    Several processes may do so when they end, each for itself: they read and write one after the other, so that the
    last has the records of all.

    Args:
        result: the folder.
        header: entries of ``volumes.json`` before the images: ``bundles``, ``label_names``, ``intended_use``.

    Raises:
        ValueError: if a file in the folder is no record; nothing is written then.
    """
    with _locked(result / LOCK):
        records = read_records(result)
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            [COLUMNS, *(row for record in records for row in _rows(record))]
        )
        write_text(result / "volumes.csv", text.getvalue())
        write_text(result / "volumes.json", json.dumps({"format": 1, **header, "images": records}, indent=1) + "\n")
    return records


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Keep other processes that ask for the same file out."""
    import fcntl

    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)  # ends with the file, also where the process is killed
        yield


def _rows(record: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows of an image in ``volumes.csv``."""
    seconds, spacing = record["seconds"], record["grid"]["spacing"]
    bundles = [" + ".join(bundle[key] for bundle in record["bundles"]) for key in ("name", "version", "sha256")]
    of_image = [
        *(record["mask"], *bundles, record["engine"], record["precision"], record["device"], record["created"]),
        *(f"{seconds[key]:.3f}" for key in ("read", "network", "write")),
    ]
    rows = []
    for structure in record["structures"]:
        share, centre = structure["largest_piece_share"], structure["centre_mm"] or [None] * 3
        about = [w for w in record["warnings"] if w["structure"] in (None, structure["name"])]
        cells = [
            *(record["case"], structure["name"], _number(structure["volume_ml"]), str(structure["voxels"])),
            *(_number(mm) for mm in centre),
            *(str(structure["pieces"]), _number(share), "yes" if structure["touches_border"] else "no"),
            *map(_number, of_head(record, structure)),
            *(str(len(about)), *(_number(mm) for mm in spacing), *of_image),
        ]
        rows.append([_plain(cell) for cell in cells])
    return rows


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _plain(cell: str) -> str:
    """Return a cell that no spreadsheet runs: text that begins as a formula gets an apostrophe before it."""
    try:
        float(cell)
    except ValueError:
        return f"'{cell}" if cell.startswith(FORMULA) else cell
    return cell


def say(record: Mapping[str, Any]) -> list[str]:
    """Return one line per structure of an image and one per warning, for a terminal.

    Args:
        record: the record of the image.

    Example:
        >>> node = {"name": "Node", "voxels": 7, "volume_ml": 1.618, "pieces": 1, "touches_border": False}
        >>> say({"structures": [node], "warnings": []})
        ['Node   1.62 mL   in one piece']
    """
    structures = record["structures"]
    names = max((len(structure["name"]) for structure in structures), default=0)
    volumes = [volume_in_words(structure["volume_ml"]) for structure in structures]
    width = max(map(len, volumes), default=0)
    lines = [
        f"{structure['name']:{names}}   {volume:>{width}}   {in_head_words(record, structure) or _in_words(structure)}"
        for structure, volume in zip(structures, volumes, strict=True)
    ]
    return lines + say_head(record) + [f"warning: {warning['text']}" for warning in record["warnings"]]


def volume_in_words(volume_ml: float) -> str:
    """Return a volume with three digits and its unit.

    Args:
        volume_ml: volume in mL.

    Example:
        >>> volume_in_words(1234.5), volume_in_words(0.0123)
        ('1234 mL', '0.0123 mL')
    """
    return f"{volume_ml:.0f} mL" if volume_ml >= 100 else f"{volume_ml:#.3g} mL" if volume_ml else "0 mL"


def _in_words(structure: Mapping[str, Any]) -> str:
    if not structure["voxels"]:
        return "not found"
    pieces = structure["pieces"]
    words = "in one piece"
    if pieces > 1:
        words = f"in {pieces} pieces, the largest with {100 * structure['largest_piece_share']:.3g} %"
    return words + (", cut by the border of the image" if structure["touches_border"] else "")

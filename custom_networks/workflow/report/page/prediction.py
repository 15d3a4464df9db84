"""The part of the page that shows what `custom_networks predict` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from custom_networks.files import checksum, read_json
from custom_networks.workflow.locate.head_labels import TOTAL
from custom_networks.workflow.report.head_facts import say_head
from custom_networks.workflow.report.page.charts import distribution
from custom_networks.workflow.report.page.colours import colours_of
from custom_networks.workflow.report.page.pictures import Album, Pictures
from custom_networks.workflow.report.page.privacy import Naming, naming
from custom_networks.workflow.report.page.scans import Structure
from custom_networks.workflow.report.page.training import TrainingVolumes, training_volumes
from custom_networks.workflow.report.statistics import rank
from custom_networks.workflow.report.volumes import wrong_entry

VOLUMES = "volumes.json"
DOCUMENT = ("images", "bundles", "intended_use")
RECORD = (
    "structures",
    "case",
    "image",
    "series",
    "mask",
    "grid",
    "engine",
    "precision",
    "device",
    "created",
    "warnings",
)
STRUCTURE = ("name", "values", "volume_ml", "pieces", "largest_piece_share", "touches_border")
BUNDLE = ("name", "title", "version", "sha256")
OTHER_MASK = (
    "the mask has been changed since it was measured: the outlines are those of the changed mask, the volumes those of "
    "the mask before"
)


@dataclass(frozen=True)
class StructureRow:
    """What the table of a case says of a structure.

    Args:
        found: its entry in the record.
        colour: of the structure.
        chart: its volume on those of the training cases, if these are known.
        place: the same in words.
    """

    found: Mapping[str, Any]
    colour: str
    chart: Markup | None
    place: str


@dataclass(frozen=True)
class PredictedCase:
    """A case of a prediction.

    Args:
        label: what it is called.
        record: what was written of it.
        warnings: sentences.
        rows: its structures.
        pictures: what is shown of it.
        files: where its image is, to be shown only if names may be.
        head: sentences about a whole head.
    """

    label: str
    record: Mapping[str, Any]
    warnings: Sequence[str]
    rows: Sequence[StructureRow]
    pictures: Pictures
    files: Sequence[str]
    head: Sequence[str]


@dataclass(frozen=True)
class Prediction:
    """What a folder of predictions holds.

    Args:
        bundles: what made it.
        intended_use: what it is for.
        cases: its images.
        structures: their structures.
        outlined: those of them that are drawn: no sides, which hold others.
        training_note: why nothing is said of the training cases.
        facts: what is the same for all cases, in words.
        hides_names: whether a case is not called by its name.
    """

    bundles: Sequence[Mapping[str, Any]]
    intended_use: str
    cases: Sequence[PredictedCase]
    structures: Sequence[Structure]
    outlined: Sequence[Structure]
    training_note: str
    facts: Sequence[tuple[str, str]]
    hides_names: bool


def read_prediction(
    folder: Path,
    album: Album,
    show_names: bool = False,
    reference: Path | None = None,
    unpacked: Mapping[str, Sequence[str]] | None = None,
) -> Prediction:
    """Return what a folder of predictions holds.

    Args:
        folder: with a ``volumes.json``.
        album: draws the pictures.
        show_names: whether the names of DICOM files and folders may be shown.
        reference: see :func:`custom_networks.workflow.report.page.training.training_volumes`.
        unpacked: the files of images that come from archives, by their case.

    Raises:
        ValueError: if ``volumes.json`` is not what predict writes.
    """
    file = folder / VOLUMES
    document = read_json(file)
    _check(document, file)
    records = document["images"]
    values = {entry["name"]: tuple(entry["values"]) for record in records for entry in record["structures"]}
    sums = {name for record in records for name in (*_places(record), TOTAL) if "head" in record}
    colours = colours_of([name for name in values if name not in sums])
    structures = [Structure(name, values[name], colours.get(name, "")) for name in values]
    outlined = [structure for structure in structures if structure.name not in sums]
    training = training_volumes(document["bundles"], reference)
    names = [
        naming(record["case"], record["image"], number, folder, series=record["series"], show_names=show_names)
        for number, record in enumerate(records, start=1)
    ]
    drawn: dict[int, Pictures] = {}
    # what has warnings is looked at first, and gets a viewer first
    for index in sorted(range(len(records)), key=lambda index: (not records[index]["warnings"], index)):
        record = records[index]
        masks = {"prediction": folder / record["mask"]}
        files = (unpacked or {}).get(record["case"], record["image"])
        # crops and heads may lie in one folder, and the same value is another structure there
        own = [
            Structure(entry["name"], tuple(entry["values"]), colours.get(entry["name"], ""))
            for entry in record["structures"]
        ]
        parts = [structure for structure in own if structure.name not in sums]
        sides = [structure for structure in own if structure.name in _places(record)]
        drawn[index] = album.pictures(files, masks, parts, names[index], record["series"], sides)
    cases = [
        _case(record, names[index], drawn[index], colours, training, show_names, _is_other(folder, record))
        for index, record in enumerate(records)
    ]
    hides_names = any(called.numbered for called in names)
    return Prediction(
        document["bundles"],
        document["intended_use"],
        cases,
        structures,
        outlined,
        training.note,
        _facts(records),
        hides_names,
    )


def _places(record: Mapping[str, Any]) -> list[str]:
    """Return the names of the places in a head, none for another image."""
    return list((record.get("head") or {}).get("places", []))


def _check(document: Mapping[str, Any], file: Path) -> None:
    """Refuse what predict does not write."""
    records = _checked(document, "images", DOCUMENT, file)
    if not isinstance(records, list) or not isinstance(document["bundles"], list):
        raise ValueError(f"{file} is not what predict writes, its images or bundles are no list; run predict again")  # noqa: TRY004 - the file is wrong
    for record in records:
        structures = _checked(record, "structures", RECORD, file)
        if wrong := wrong_entry(record):
            raise ValueError(f"{file} is not what predict writes, {wrong} of an image is wrong; run predict again")
        for entry in structures:
            _checked(entry, "name", STRUCTURE, file)
    for bundle in document["bundles"]:
        _checked(bundle, "name", BUNDLE, file)


def _checked(part: Any, chosen: str, keys: Sequence[str], file: Path) -> Any:
    missing = [key for key in keys if not isinstance(part, Mapping) or key not in part]
    if missing:
        raise ValueError(f"{file} is not what predict writes, it lacks {', '.join(missing)}; run predict again")
    return part[chosen]


def _case(
    record: Mapping[str, Any],
    called: Naming,
    pictures: Pictures,
    colours: Mapping[str, str],
    training: TrainingVolumes,
    show_names: bool,
    is_other: bool,
) -> PredictedCase:
    rows = []
    for found in record["structures"]:
        name, volume = found["name"], float(found["volume_ml"])
        colour = colours.get(name, "")
        others, chart, place = training.volumes.get(_class_of(name, record), ()), None, ""
        if others:
            smaller = rank(volume, others)
            place = f"larger than {smaller} of {len(others)}"
            chart = distribution(volume, others, colour, f"{name}: {volume:.3g} mL, {place} training cases")
        rows.append(StructureRow(found, colour, chart, place))
    warnings = [OTHER_MASK] * is_other + [called.clean(warning["text"]) for warning in record["warnings"]]
    files = record["image"] if show_names else ()
    return PredictedCase(called.label, record, warnings, rows, pictures, files, say_head(record))


def _class_of(name: str, record: Mapping[str, Any]) -> str:
    """Return the class of the training cases that a structure is one of."""
    place, _, own = name.partition("-")
    return own if place in _places(record) else name


def _is_other(folder: Path, record: Mapping[str, Any]) -> bool:
    """Return whether the mask in the folder is another than that which was measured."""
    file, known = folder / record["mask"], record.get("checksums") or {}
    return record["mask"] in known and file.is_file() and checksum(file) != known[record["mask"]]


def _facts(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    facts = []
    for term, key in (("Engine", "engine"), ("Precision", "precision"), ("Device", "device")):
        values = sorted({str(record[key]) for record in records})
        facts.append((term, ", ".join(values)))
    created = sorted(str(record["created"])[:16].replace("T", " ") for record in records)
    if created:
        days = created[-1] if created[0] == created[-1] else f"{created[0]} to {created[-1]}"
        facts.append(("Made", f"{days} UTC"))
    return facts

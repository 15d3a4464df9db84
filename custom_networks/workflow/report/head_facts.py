"""What is measured in a whole head beside its structures: sides, asymmetry, and the size of the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from custom_networks.workflow.locate.head_labels import TOTAL

if TYPE_CHECKING:
    from custom_networks.workflow.locate.head_inferer import Found
    from custom_networks.workflow.report.volumes import Structure

USE = "research only, not for diagnosis"


def structures_of_head(
    places: Sequence[Mapping[str, Any]], label_names: Sequence[str], classes: Sequence[str]
) -> list[Structure]:
    """Return what is measured in the mask of a head: its classes, each place as a whole, and all together.

    Args:
        places: the knob of that name.
        label_names: names of the classes of the mask, background first.
        classes: names of the network's classes, background first.

    Example:
        >>> names = ["background", "Left-Node", "Right-Node"]
        >>> structures = structures_of_head([{"name": "Left"}, {"name": "Right"}], names, ["background", "Node"])
        >>> [(structure.name, structure.values) for structure in structures[2:]]
        [('Left', (1,)), ('Right', (2,)), ('Total', (1, 2))]
    """
    from custom_networks.workflow.report.volumes import Structure, structures_of

    own = structures_of(label_names)
    each = len(classes) - 1
    values = [value for structure in own for value in structure.values]
    sums = [
        Structure(place["name"], tuple(values[number * each : (number + 1) * each]))
        for number, place in enumerate(places)
    ]
    return [*own, *sums, *([Structure(TOTAL, tuple(values))] if len(places) > 1 else [])]


def describe_head(
    found: Found, structures: Sequence[Mapping[str, Any]], places: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    r"""Return the entry ``head`` of a record.

    With the volumes :math:`L` and :math:`R` of two places, the first and the second, the asymmetry index is
    :math:`100 (L - R) / ((L + R) / 2)`.

    Args:
        found: what the inferer has found.
        structures: the measured structures of the mask.
        places: the knob of that name.

    Returns:
        What the registration tells, among it ``head_ml``; ``places``, the names; ``points_mm``, where each was
        expected; ``centres_mm`` of the crops, which have followed what they cut; the ``asymmetry_index``, None where
        there are not two places or both are empty; and ``problems``, sentences.
    """
    names = [place["name"] for place in places]
    volumes = {structure["name"]: structure["volume_ml"] for structure in structures}
    sides = [volumes[name] for name in names]
    index = None
    if len(sides) == 2 and sum(sides):
        index = 100 * (sides[0] - sides[1]) / (sum(sides) / 2)
    return {
        **found.located.head,
        "places": names,
        "points_mm": {crop.region.name: [float(mm) for mm in crop.centre] for crop in found.located.crops},
        "centres_mm": {crop.region.name: [float(mm) for mm in crop.centre] for crop in found.crops},
        "asymmetry_index": index,
        "problems": list(found.problems),
    }


def percent_of_head(record: Mapping[str, Any], structure: Mapping[str, Any]) -> float | None:
    """Return the volume of a structure in percent of the head's, None where that is not known.

    Args:
        record: of the image.
        structure: one of its structures.
    """
    head_ml = record.get("head", {}).get("head_ml")
    return 100 * structure["volume_ml"] / head_ml if head_ml else None


def of_head(record: Mapping[str, Any], structure: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return asymmetry index and percent of the head for the row of a structure; the index stands with the total.

    Args:
        record: of the image.
        structure: one of its structures.
    """
    index = record.get("head", {}).get("asymmetry_index") if structure["name"] == TOTAL else None
    return index, percent_of_head(record, structure)


def in_head_words(record: Mapping[str, Any], structure: Mapping[str, Any]) -> str:
    """Return what is said of all places together, in place of their pieces; nothing for other structures.

    Args:
        record: of the image.
        structure: one of its structures.
    """
    is_total = "head" in record and structure["name"] == TOTAL and structure["voxels"]
    return " and ".join(record["head"]["places"]) if is_total else ""


def say_head(record: Mapping[str, Any]) -> list[str]:
    """Return lines about a head for a terminal, none for a crop.

    Args:
        record: of the image.

    Example:
        >>> head = {"head_ml": 1500.0, "asymmetry_index": -3.21, "places": ["Left", "Right"]}
        >>> total = {"name": "Total", "volume_ml": 6.0}
        >>> say_head({"head": head, "structures": [total]})[0].split("; ")[:2]
        ['asymmetry -3.2 % (Left less Right, of their mean)', '0.40 % of the head of about 1500 mL']
    """
    head = record.get("head")
    if head is None:
        return []
    parts = []
    if head.get("asymmetry_index") is not None:
        first, second = head["places"]
        parts.append(f"asymmetry {head['asymmetry_index']:+.1f} % ({first} less {second}, of their mean)")
    total = [structure for structure in record["structures"] if structure["name"] == TOTAL]
    if total and (share := percent_of_head(record, total[0])) is not None:
        parts.append(f"{share:.2f} % of the head of about {head['head_ml']:.0f} mL")
    return ["; ".join([*parts, USE])]

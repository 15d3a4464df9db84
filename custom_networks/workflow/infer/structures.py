"""What the values of a mask mean: names, codes and colours of structures, for the formats that keep them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Structure = Mapping[str, Any]
"""``name``, ``values`` (the values of the mask that it holds) and, where they are known, ``codes``: the entry of
metadata.json."""
GOLDEN_ANGLE = 137.508
LIGHTNESS, CHROMA = 70.0, 45.0


def with_codes(structures: Sequence[Structure], metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return structures with the codes that a bundle knows for them.

    A profile may give the same names to other structures: codes are taken only where its names are all those of the
    bundle.

    Args:
        structures: name and values of each.
        metadata: content of metadata.json.

    Example:
        >>> codes = {"Anterior": {"type": {"scheme": "SCT", "value": "5366008", "meaning": "Hippocampus"}}}
        >>> with_codes([{"name": "Anterior", "values": [1]}], {"codes": codes})[0]["codes"]["type"]["meaning"]
        'Hippocampus'
        >>> with_codes([{"name": "Anterior", "values": [1]}, {"name": "Apex", "values": [2]}], {"codes": codes})[0]
        {'name': 'Anterior', 'values': [1]}
    """
    codes = metadata.get("codes", {})
    if {structure["name"] for structure in structures} != set(codes):
        return [dict(structure) for structure in structures]
    return [{**structure, "codes": codes[structure["name"]]} for structure in structures]


def of_places(
    metadata: Mapping[str, Any], places: Sequence[Mapping[str, Any]], label_names: Sequence[str]
) -> dict[str, Any]:
    """Return the metadata of a bundle with codes for the classes in the mask of a head.

    Those of a class, with the name of the place before its label; nothing where a profile has other classes.

    Args:
        metadata: content of metadata.json.
        places: the knob of that name.
        label_names: names of the network's classes, background first.

    Example:
        >>> codes = {"Tail": {"label": "Tail of it"}}
        >>> of_places({"codes": codes}, [{"name": "Left"}], ["background", "Tail"])
        {'codes': {'Left-Tail': {'label': 'Left: Tail of it'}}}
    """
    codes = metadata.get("codes", {})
    if set(codes) != set(label_names[1:]):
        return {}
    named = {
        f"{place['name']}-{name}": {**codes[name], "label": f"{place['name']}: {codes[name].get('label', name)}"}
        for place in places
        for name in label_names[1:]
    }
    return {"codes": named}


def are_disjoint(structures: Sequence[Structure]) -> bool:
    """Tell whether no value belongs to two structures, as those of regions do.

    Args:
        structures: values of each.
    """
    values = [value for structure in structures for value in structure["values"]]
    return len(values) == len(set(values))


def numbered(voxels: np.ndarray, structures: Sequence[Structure]) -> np.ndarray:
    """Return the numbers 1, 2, ... of the structures in place of their values, 0 where there is none.

    Args:
        voxels: values of the mask.
        structures: values of each, of which none belongs to two.
    """
    numbers = np.zeros(voxels.shape, np.min_scalar_type(len(structures)))
    for number, structure in enumerate(structures, 1):
        numbers[np.isin(voxels, structure["values"])] = number
    return numbers


def layers(voxels: np.ndarray, structures: Iterable[Structure]) -> list[np.ndarray]:
    """Return where each structure is, as zeros and ones.

    Args:
        voxels: values of the mask.
        structures: values of each.
    """
    return [np.isin(voxels, structure["values"]).astype(np.uint8) for structure in structures]


def cielab_of(structure: Structure, number: int) -> tuple[float, float, float]:
    r"""Return the colour of a structure: the recommended one, else one that differs from those of the numbers nearby.

    .. math:: L^* = 70, \quad a^* + i b^* = 45 e^{i (30° + 137.508° (n - 1))}

    Args:
        structure: whose codes may recommend one.
        number: from 1.

    Example:
        >>> [round(value) for value in cielab_of({"name": "heart", "values": [1]}, 1)]
        [70, 39, 22]
    """
    if "cielab" in (codes := structure.get("codes", {})):
        lightness, red, yellow = codes["cielab"]
        return float(lightness), float(red), float(yellow)
    angle = math.radians(30 + GOLDEN_ANGLE * (number - 1))
    return LIGHTNESS, CHROMA * math.cos(angle), CHROMA * math.sin(angle)


def label_of(structure: Structure) -> str:
    """Return what viewers call a structure: the label among its codes, else its name.

    Args:
        structure: any.
    """
    return str(structure.get("codes", {}).get("label", structure["name"]))

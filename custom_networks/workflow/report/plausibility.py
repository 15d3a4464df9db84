"""What is odd about an image and its mask, held against the data that the network was trained on.

The limits are those of docs/decisions/warnings.md, which says from which data they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from custom_networks.workflow.data.headers import at_spacing
from custom_networks.workflow.data.image_checks import LARGER, size_problem
from custom_networks.workflow.report.volumes import volume_in_words

AXES = "(left to right, back to front, bottom to top)"
SMALLER = 0.5
"""Share of the least extent in training below which an image is small."""
COARSER = 2.0
"""How many times coarser than in training a voxel may be."""
MORE_OF_ONE_VALUE, TIMES = 0.15, 2.0
"""By how much, and how many times, the share of the commonest value may lie outside that of training."""
FEW_VALUES, OF_TRAINING = 8, 0.25
"""Up to how many values, and up to which share of the fewest in training, are a mask's."""
MIDDLE = 0.15
"""By how much at least the median may lie outside the range of training, as a share of the range of intensities."""
ENOUGH_CASES = 10
"""Cases whose volumes tell what is usual."""
BEYOND, WIDTHS = 1.25, 0.5
"""By which factor at least, and by how many times their range, a volume may lie beyond those of training."""
OFTEN_ABSENT = 0.05
"""Share of the training cases without a structure from which its absence is nothing special."""
ONE_PIECE = 0.95
"""Share of the least in training below which the largest piece is small."""
OFTEN_CUT = 0.2
"""Share of the training cases that cut a structure from which a cut is nothing special."""


def find_warnings(
    record: Mapping[str, Any],
    facts: Mapping[str, Any],
    training_data: Mapping[str, Any] | None,
    max_shape: Sequence[int] | None = None,
    expected: str = "images like those that it was trained on",
) -> list[dict[str, Any]]:
    """Return what a person should know before the volumes of an image are used.

    Without a description of the training data only what needs none is looked at: a large image where ``max_shape`` is
    given, absent structures, and those that the border cuts.

    Args:
        record: the record of the image; needed are ``working_spacing`` and ``structures``.
        facts: of the image, see :func:`custom_networks.workflow.report.image_facts.image_facts`.
        training_data: description of the training data, see
            :func:`custom_networks.workflow.report.training_data.read_training_data`.
        max_shape: voxels of the largest training image at the network's spacing, the knob of that name; by the
            description, if None.
        expected: what the network expects, in words, the knob ``expected_input``.

    Returns:
        ``{"kind", "structure", "text"}`` each, those of the image first.
    """
    found = [
        *_size(record["working_spacing"], facts, training_data, max_shape, expected),
        *(_spacing(facts, training_data) if training_data else []),
        *(_intensity(facts, training_data) if training_data else []),
    ]
    warnings: list[dict[str, Any]] = [{"kind": kind, "structure": None, "text": text} for kind, text in found]
    for structure in record["structures"]:
        warnings += [
            {"kind": kind, "structure": structure["name"], "text": text}
            for kind, text in _structure(structure, training_data or {})
        ]
    return warnings


def find_head_warnings(
    record: Mapping[str, Any],
    facts: Mapping[str, Any],
    training_data: Mapping[str, Any] | None,
    places: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    """Return what a person should know before the volumes in a whole head are used.

    The classes of a place are held against the same classes in the training data, which are crops: size, frame and
    intensities of the whole image say nothing. What is said of the registration and of the sides as a whole stands in
    the record already.

    Args:
        record: the record of the image; needed are ``structures`` and ``head``.
        facts: of the image.
        training_data: description of the training data.
        places: the knob of that name.
        classes: names of the network's classes, background first.

    Returns:
        ``{"kind", "structure", "text"}`` each, those of the image first.
    """
    found = [("head", text) for text in record["head"]["problems"]]
    found += _spacing(facts, training_data) if training_data else []
    warnings: list[dict[str, Any]] = [{"kind": kind, "structure": None, "text": text} for kind, text in found]
    base = {f"{place['name']}-{name}": name for place in places for name in classes[1:]}
    per_class = ("volumes_ml", "largest_piece_share", "border_share")
    known = {
        key: {name: values[own] for name, own in base.items() if own in (values := (training_data or {}).get(key, {}))}
        for key in per_class
    }
    for structure in record["structures"]:
        if structure["name"] in base:
            warnings += [
                {"kind": kind, "structure": structure["name"], "text": text}
                for kind, text in _structure(structure, known)
            ]
    return warnings


def _size(
    spacing: Sequence[float],
    facts: Mapping[str, Any],
    training_data: Mapping[str, Any] | None,
    max_shape: Sequence[int] | None,
    expected: str,
) -> Iterator[tuple[str, str]]:
    if max_shape is None and training_data is not None:
        most = training_data["extent_mm"]["most"]
        max_shape = [max(1, round(mm / size)) for mm, size in zip(most, spacing, strict=True)]
    if max_shape is not None:
        shape = at_spacing(facts["shape"], facts["spacing"], spacing)
        if problem := size_problem(shape, max_shape, expected, LARGER):
            yield "size", problem
    if training_data is None:
        return
    extent, least = facts["extent_mm"], training_data["extent_mm"]["least"]
    if any(mm < SMALLER * usual for mm, usual in zip(extent, least, strict=True)):
        yield (
            "size",
            f"the image is {_lengths(extent)} mm {AXES}, in training {_lengths(least)} mm at least; what lies "
            "outside is missing in the volumes: take an image of more of the surroundings",
        )


def _spacing(facts: Mapping[str, Any], training_data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    spacing, most = facts["spacing"], training_data["spacing"]["most"]
    if any(mm > COARSER * usual for mm, usual in zip(spacing, most, strict=True)):
        yield (
            "spacing",
            f"the voxels are {_lengths(spacing)} mm {AXES}, in training {_lengths(most)} mm at most; expect a worse "
            "mask, or take a finer image",
        )


def _lengths(mm: Sequence[float]) -> str:
    return " x ".join(f"{length:.3g}" for length in mm)


def _intensity(facts: Mapping[str, Any], training_data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Look at facts that neither another scale nor another offset changes, as those of MR have none in common."""
    channels, trained = facts["intensity"], training_data["intensity"]
    if len(channels) != len(trained):
        yield "intensity", f"the image has {len(channels)} channels, in training {len(trained)}; select the channels"
        return
    for number, (channel, usual) in enumerate(zip(channels, trained, strict=True), start=1):
        subject = "the image" if len(channels) == 1 else f"channel {number}"
        if text := _channel(channel, usual):
            yield "intensity", f"{subject} {text}"


def _channel(channel: Mapping[str, Any], usual: Mapping[str, Any]) -> str | None:
    """Return a sentence without its subject: of what is odd, what says the most."""
    p1, p50, p99 = (f"{channel[key]:.3g}" for key in ("p1", "p50", "p99"))
    if channel["hounsfield"] and not usual["hounsfield"]:
        return (
            f"looks like CT, with intensities from {p1} to {p99}, but no image in training did; take one of the "
            "modality that the network was trained on"
        )
    if usual["hounsfield"] == 1 and not channel["hounsfield"]:
        return (
            f"does not look like CT in Hounsfield units, with intensities from {p1} to {p99}, as all images in "
            "training did; take CT, and check its slope and intercept"
        )
    values, fewest = channel["distinct"], usual["distinct"][0]
    if values <= min(FEW_VALUES, OF_TRAINING * fewest):
        return (
            f"has {values} different values, in training {fewest} at least; check that it is no mask, and no picture "
            "of few colours"
        )
    share, (least, most) = channel["share"], usual["share"]
    if share - most > MORE_OF_ONE_VALUE and share > TIMES * most:
        return (
            f"has the value {channel['commonest']:.4g} in {_percent(share)} of its voxels, in training one value had "
            f"{_percent(most)} at most; check that nothing was cut away around what it shows, and that it has no frame"
        )
    if least - share > MORE_OF_ONE_VALUE and share < least / TIMES:
        return (
            f"has no value in more than {_percent(share)} of its voxels, in training one value had {_percent(least)} "
            "at least; remove the surroundings as in training, such as the skull around a brain"
        )
    low, high = usual["middle"]
    margin = max(MIDDLE, high - low)
    if not low - margin <= channel["middle"] <= high + margin:
        return (
            f"has its median, {p50}, at {_percent(channel['middle'])} between dark and bright, {p1} and {p99}, in "
            f"training at {_percent(low)} to {_percent(high)}; check modality, contrast and what it shows"
        )
    return None


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def _structure(structure: Mapping[str, Any], training_data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    name = structure["name"]
    volumes = training_data.get("volumes_ml", {}).get(name, [])
    if not structure["voxels"]:
        absent = sum(volume == 0 for volume in volumes)
        if not volumes or absent < OFTEN_ABSENT * len(volumes):
            known = f"; it is there in {len(volumes) - absent} of {len(volumes)} training cases" if volumes else ""
            yield "absent", f"{name} was not found{known}: look at the image, and at what it shows"
        return
    usual, share = training_data.get("largest_piece_share", {}).get(name), structure["largest_piece_share"]
    if usual is not None and share < ONE_PIECE * usual:
        yield (
            "pieces",
            f"{name} is in {structure['pieces']} pieces, the largest with {_percent(share)} of it, in training "
            f"{_percent(usual)} at least; look at the mask, and remove what is wrong",
        )
    cut = training_data.get("border_share", {}).get(name, 0.0)
    if structure["touches_border"] and cut < OFTEN_CUT:
        yield (
            "border",
            f"{name} is cut by the border of the image, so that its volume is that of a part; take a larger image",
        )
    yield from _volume(structure, [volume for volume in volumes if volume])


def _volume(structure: Mapping[str, Any], volumes: Sequence[float]) -> Iterator[tuple[str, str]]:
    if len(volumes) < ENOUGH_CASES:
        return
    least, most, volume = volumes[0], volumes[-1], structure["volume_ml"]
    margin = max(BEYOND, (most / least) ** WIDTHS)
    if not least / margin <= volume <= most * margin:
        yield (
            "volume",
            f"{structure['name']} has {volume_in_words(volume)}, in {len(volumes)} training cases {least:.3g} to "
            f"{volume_in_words(most)}; look at the mask before you use its volume",
        )

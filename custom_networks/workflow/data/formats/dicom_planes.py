"""The planes of one DICOM file: where each lies, which values it can hold, and what kinds of file are refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from custom_networks.workflow.data.formats.dicom_file import (
    PLAIN_SYNTAXES,
    Header,
    Pixels,
    as_integer,
    as_numbers,
    class_of,
    fragments_end_early,
    items_of,
    plain,
    value_of,
)

GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "StackID": "FrameContentSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "FlipAngle": "MRTimingAndRelatedParametersSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "ReferencedSegmentNumber": "SegmentIdentificationSequence",
    "FrameType": "MRImageFrameTypeSequence",
}
"""The functional group that holds an attribute of a frame."""
APART = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "DiffusionBValue",
    "EchoTime",
    "EffectiveEchoTime",
    "EchoNumbers",
    "InversionTime",
    "FlipAngle",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase",
    "FrameReferenceTime",
    "StackID",
    "ReferencedSegmentNumber",
    "ImageType",
    "FrameType",
    "AcquisitionNumber",
    "AcquisitionTime",
)
"""Attributes that tell images of one position apart, the most telling first."""
GREY = ("MONOCHROME1", "MONOCHROME2")
SMALLEST = 1e-6


class Plane(NamedTuple):
    """One image of rows and columns: a file, or a frame of one.

    Args:
        file: that holds it.
        frame: its number in the file, from 0.
        name: of the file, and of the frame where there are several.
        rows: number of rows.
        columns: number of columns.
        spacing: mm between the centres of two rows, and of two columns.
        orientation: unit vectors along a row and along a column, LPS.
        position: centre of the first pixel in mm, LPS.
        thicknesses: SpacingBetweenSlices and SliceThickness, ``None`` where they are absent.
        slope: of the values.
        intercept: of the values.
        limits: least and largest integer that a value can be, ``None`` where values are no integers.
        uid: of the object.
        apart: what tells images of one position apart.
        pixels: where they lie.
    """

    file: Path
    frame: int
    name: str
    rows: int
    columns: int
    spacing: np.ndarray
    orientation: np.ndarray
    position: np.ndarray
    thicknesses: tuple[float | None, float | None]
    slope: float
    intercept: float
    limits: tuple[int, int] | None
    uid: str
    apart: Mapping[str, str]
    pixels: Pixels


class Frame:
    """A frame, whose attributes stand in its own functional groups, in those that all frames share, or in the dataset.

    Args:
        file: for messages.
        data: pydicom's dataset.
        groups: the frame's functional groups and the shared ones.
    """

    def __init__(self, file: Path, data: Any, groups: Sequence[Any]) -> None:
        self.file = file
        self.data = data
        self.groups = groups

    def value(self, keyword: str) -> Any:
        """Return the value of an attribute, ``None`` where it is absent.

        Args:
            keyword: of the attribute.
        """
        if keyword in GROUPS:
            for group in self.groups:
                for item in items_of(self.file, group, GROUPS[keyword]):
                    if (value := value_of(self.file, item, keyword)) is not None:
                        return value
        return value_of(self.file, self.data, keyword)

    def numbers(self, keyword: str, count: int) -> np.ndarray | None:
        """Return the numbers of an attribute, ``None`` where it is absent.

        Args:
            keyword: of the attribute.
            count: how many numbers.
        """
        return as_numbers(self.file, keyword, self.value(keyword), count)

    def number(self, keyword: str) -> float | None:
        """Return the number of an attribute, ``None`` where it is absent.

        Args:
            keyword: of the attribute.
        """
        numbers = self.numbers(keyword, 1)
        return None if numbers is None else float(numbers[0])


def frame_count(header: Header) -> int:
    """Return the number of frames that a file claims.

    Args:
        header: of the file.
    """
    return as_integer(header.file, "NumberOfFrames", value_of(header.file, header.data, "NumberOfFrames")) or 1


def planes_of(header: Header) -> list[Plane]:
    """Return the planes of a file.

    Args:
        header: of a file with pixels.

    Raises:
        ValueError: if the file is no stack of grey images that lie somewhere in the patient, or is truncated.
    """
    file, data, pixels = header
    frames = _frames(header)
    _check_kind(file, data)
    rows, columns = _integer(file, data, "Rows"), _integer(file, data, "Columns")
    if rows < 1 or columns < 1:
        raise ValueError(f"{file} has {rows} rows and {columns} columns; correct its header or remove it")
    bits = _integer(file, data, "BitsAllocated")
    _check_size(header, rows * columns * bits, len(frames))
    stored = _stored_limits(file, data, bits) if pixels.keyword == "PixelData" else None
    uid = plain(value_of(file, data, "SOPInstanceUID") or "")
    planes = []
    for number, frame in enumerate(frames):
        spacing, orientation, position = _geometry(frame)
        slope, intercept, limits = _values(frame, stored)
        planes.append(
            Plane(
                file=file,
                frame=number,
                name=f"{file.name} frame {number + 1}" if len(frames) > 1 else file.name,
                rows=rows,
                columns=columns,
                spacing=spacing,
                orientation=orientation,
                position=position,
                thicknesses=(frame.number("SpacingBetweenSlices"), frame.number("SliceThickness")),
                slope=slope,
                intercept=intercept,
                limits=limits,
                uid=uid,
                apart={keyword: plain(value) for keyword in APART if (value := frame.value(keyword)) is not None},
                pixels=pixels,
            )
        )
    return planes


def _integer(file: Path, data: Any, keyword: str) -> int:
    number = as_integer(file, keyword, value_of(file, data, keyword))
    if number is None:
        raise ValueError(f"{file} has no {keyword}; copy it again or correct its header")
    return number


def _frames(header: Header) -> list[Frame]:
    file, data = header.file, header.data
    count = frame_count(header)
    shared = list(items_of(file, data, "SharedFunctionalGroupsSequence"))[:1]
    own = items_of(file, data, "PerFrameFunctionalGroupsSequence")
    if own and len(own) != count:
        raise ValueError(f"{file} has {count} frames but functional groups of {len(own)}; copy it again or convert it")
    if own:
        return [Frame(file, data, [group, *shared]) for group in own]
    if count != 1:
        raise ValueError(
            f"{file} has {count} frames ({class_of(file, data) or 'of no class'}) and no functional groups, which say "
            "where each lies; convert it to NIfTI with a tool that knows such files"
        )
    return [Frame(file, data, shared)]


def _check_kind(file: Path, data: Any) -> None:
    photometric = plain(value_of(file, data, "PhotometricInterpretation") or "no PhotometricInterpretation")
    samples = as_integer(file, "SamplesPerPixel", value_of(file, data, "SamplesPerPixel"))
    if samples not in (None, 1) or photometric not in GREY:
        raise ValueError(
            f"{file} holds pixels of {samples or 1} sample(s) ({photometric}), where grey values are expected; give "
            "the original images"
        )
    if "MOSAIC" in plain(value_of(file, data, "ImageType") or "", 1000):
        raise ValueError(
            f"{file} is a mosaic, many slices in one image; convert it to NIfTI, for example with dcm2niix"
        )


def _check_size(header: Header, bits: int, frames: int) -> None:
    """Compare what the header claims with what the file has."""
    file, data, pixels = header
    needed = -(-bits * frames // 8)
    syntax = value_of(file, data.file_meta, "TransferSyntaxUID")
    if (pixels.length is None) != (syntax not in PLAIN_SYNTAXES):
        raise ValueError(
            f"{file} has pixels in {'' if pixels.length is None else 'no '}fragments, against its transfer syntax "
            f"({plain(getattr(syntax, 'name', syntax))}); copy it again or convert it"
        )
    if pixels.length is None:
        if fragments_end_early(header):
            raise ValueError(f"{file} is truncated within its compressed pixels; copy it again")
        # images of one value compress to almost nothing, and small claims do no harm
        if needed > 10_000 * max(pixels.available, 8192):
            raise ValueError(f"{file} claims {needed} bytes of pixels in {pixels.available}; correct its header")
        return
    found = min(pixels.length, pixels.available)
    if found < needed:
        raise ValueError(f"{file} is truncated: it holds {found} of {needed} bytes of pixels; copy it again")
    if found >= needed + max(needed // frames, 2):
        raise ValueError(
            f"{file} holds {found} bytes of pixels where its rows, columns and frames make {needed}; correct its "
            "header or export it again"
        )


def _stored_limits(file: Path, data: Any, bits: int) -> tuple[int, int]:
    stored, high = _integer(file, data, "BitsStored"), as_integer(file, "HighBit", value_of(file, data, "HighBit"))
    if not 1 <= stored <= bits <= 64 or high not in (None, stored - 1):
        raise ValueError(
            f"{file} stores {stored} of {bits} bits up to bit {high}, which is not supported; convert it to NIfTI"
        )
    if _integer(file, data, "PixelRepresentation"):
        return -(2 ** (stored - 1)), 2 ** (stored - 1) - 1
    return 0, 2**stored - 1


def _geometry(frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return spacing, orientation and position of a frame."""
    file = frame.file
    position = _placed(frame, "ImagePositionPatient", 3)
    orientation = _placed(frame, "ImageOrientationPatient", 6)
    spacing = frame.numbers("PixelSpacing", 2)
    if spacing is None:
        projection = value_of(file, frame.data, "ImagerPixelSpacing") is not None
        raise ValueError(
            f"{file} has no PixelSpacing"
            + (", only the ImagerPixelSpacing of a projection" if projection else "")
            + "; give images whose voxel size is known"
        )
    if not (spacing > SMALLEST).all():
        raise ValueError(f"{file} has PixelSpacing {spacing[0]:g} x {spacing[1]:g}, not above zero; correct its header")
    axes = orientation.reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    if not np.allclose(lengths, 1, atol=0.01) or abs(axes[0] @ axes[1]) > 0.01:
        raise ValueError(
            f"{file} has ImageOrientationPatient {plain(orientation.tolist(), 100)}, whose two vectors are not of "
            "length 1 or not at a right angle; correct its header"
        )
    return spacing, axes / lengths[:, None], position


def _placed(frame: Frame, keyword: str, count: int) -> np.ndarray:
    numbers = frame.numbers(keyword, count)
    if numbers is None:
        raise ValueError(
            f"{frame.file} has no {keyword} ({class_of(frame.file, frame.data) or 'of no class'}), so nothing says "
            "where it lies; give the original images"
        )
    return numbers


def _values(frame: Frame, stored: tuple[int, int] | None) -> tuple[float, float, tuple[int, int] | None]:
    """Return slope, intercept, and the integers between which values lie."""
    slope, intercept = frame.number("RescaleSlope"), frame.number("RescaleIntercept") or 0.0
    if items_of(frame.file, frame.data, "ModalityLUTSequence"):
        return 1.0, 0.0, (0, 2**16 - 1) if stored else None
    if slope == 0:
        raise ValueError(f"{frame.file} has RescaleSlope 0, which makes all values equal; correct its header")
    slope = 1.0 if slope is None else slope
    if stored is None or slope != 1 or intercept != math.floor(intercept):
        return slope, intercept, None
    return slope, intercept, (stored[0] + int(intercept), stored[1] + int(intercept))

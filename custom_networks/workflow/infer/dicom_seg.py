"""Masks as DICOM segmentations, on the very slices that they were made from."""

from __future__ import annotations

import functools
import logging
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from custom_networks.files import replacing
from custom_networks.workflow.data.formats.dicom import is_dicom, read_planes
from custom_networks.workflow.data.formats.dicom_file import cause, plain, pydicom_for
from custom_networks.workflow.data.formats.dicom_planes import Plane
from custom_networks.workflow.infer.masks import check_unedited
from custom_networks.workflow.infer.structures import Structure, are_disjoint, cielab_of, label_of, layers, numbered

logger = logging.getLogger(__name__)

SUFFIX = ".dcm"
MAKER = "custom_networks"
PRIVATE_GROUP, CHECKSUM = 0x0099, 0x01
PRIVATE_SCHEME = "99CUSTOMNET"
"""Of the codes of structures that no standard code is known for; 16 characters at most."""
CATEGORY = {"scheme": "SCT", "value": "91723000", "meaning": "Anatomical Structure"}
REQUIRED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""What DICOM wants in every image, be it empty, and many images lack."""
UTF8 = "ISO_IR 192"
SERIES_NUMBER = 1000
"""Is added to that of the source."""


class MadeBy(NamedTuple):
    """What a mask was made by.

    Args:
        name: of the bundle.
        version: of the bundle.
        weights: SHA-256 of the weights, or of all weights of an ensemble.
    """

    name: str
    version: str
    weights: str = "unknown"


def write_dicom_seg(
    target: Path,
    voxels: np.ndarray,
    image: Path,
    series: str | None,
    structures: Sequence[Structure],
    made_by: MadeBy,
) -> None:
    """Write a mask as a DICOM segmentation of its series: binary, one segment per structure.

    Each frame lies where its source image lies and refers to it, so that tilted gantries and any order of slices are
    exact. Patient, study and frame of reference are those of the source. Frames without a voxel are left out; a
    structure without one keeps its segment and its number, and says so by having no frame; a mask without any has all
    frames. The file appears whole or not at all.

    Args:
        target: the file, which ends in ``.dcm``.
        voxels: whole numbers ``(columns, rows, slices)`` as the reader of the image has them.
        image: the folder of the series, or its multi-frame file.
        series: SeriesInstanceUID, needed where the folder holds several.
        structures: name, values and codes of each; see
            :data:`custom_networks.workflow.infer.structures.Structure`.
        made_by: what the mask was made by.

    Raises:
        ValueError: if the image is no DICOM or cannot be the source of a segmentation, highdicom is not installed, or
            the file exists and is more than what this program has written.
    """
    check_dicom_seg(target, image)
    planes = read_planes(image, series)
    if voxels.shape != (planes[0].columns, planes[0].rows, len(planes)):
        raise ValueError(
            f"a mask of {voxels.shape} voxels does not lie on {image} of "
            f"{(planes[0].columns, planes[0].rows, len(planes))}; give the mask on the grid of its image"
        )
    sources, order = _sources(image, planes)
    try:
        _place(sources, planes)
        data = _segmentation(sources, voxels.transpose(2, 1, 0)[order], structures, made_by)
        block = data.private_block(PRIVATE_GROUP, MAKER, create=True)
        block.add_new(CHECKSUM, "LO", _checksum(data))
        with replacing(target) as partial:
            data.save_as(partial)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"{image} cannot be the source of a DICOM segmentation ({cause(error)}); choose another output format"
        ) from error


def check_dicom_seg(target: Path, image: Path) -> None:
    """Refuse, before anything is computed, what :func:`write_dicom_seg` would refuse after it.

    Args:
        target: the file to write.
        image: what the mask will be of.

    Raises:
        ValueError: if the image is no DICOM, highdicom is not installed, or the file exists and is more than what this
            program has written.
    """
    if not (image.is_dir() or is_dicom(image)):
        raise ValueError(f"{image} is no DICOM, of which a DICOM segmentation is made; choose another output format")
    _require_highdicom(target)
    if target.exists():
        data = _read(target)
        check_unedited(target, _noted(data), lambda: _checksum(data))


def _require_highdicom(target: Path) -> None:
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"{target} is to be a DICOM segmentation, which needs highdicom: pip install highdicom pydicom"
        ) from error
    warnings.filterwarnings("ignore", module="highdicom")  # it comments on names of patients


def _segmentation(sources: Sequence[Any], frames: np.ndarray, structures: Sequence[Structure], made_by: MadeBy) -> Any:
    import highdicom

    pixels = numbered(frames, structures) if are_disjoint(structures) else np.stack(layers(frames, structures), axis=-1)
    title = f"{made_by.name} {made_by.version}"
    texts = [title, *map(label_of, structures), *(_meaning(structure) for structure in structures)]
    encoding = sources[0].get("SpecificCharacterSet")
    if not all(text.isascii() for text in texts):
        sources[0].decode()  # what is copied from it is encoded anew
        encoding = UTF8
    return highdicom.seg.Segmentation(
        sources,
        pixels,
        highdicom.seg.SegmentationTypeValues.BINARY,
        _descriptions(structures, made_by),
        series_instance_uid=highdicom.UID(),
        series_number=SERIES_NUMBER + int(sources[0].get("SeriesNumber") or 0),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=_text(made_by.name),
        software_versions=_text(made_by.version),
        device_serial_number=_text(made_by.weights),
        content_label="SEGMENTATION",
        content_description=_text(f"Segmentation by {title}"),
        series_description=_text(f"Segmentation by {title}"),
        omit_empty_frames=bool(pixels.any()),  # a file has one frame at least
        specific_character_set=encoding,
    )


def _sources(image: Path, planes: Sequence[Plane]) -> tuple[list[Any], list[int]]:
    """Return the source images, and which plane each frame of theirs is."""
    files = list(dict.fromkeys(plane.file for plane in planes))
    several = len(files) < len(planes)
    if several and len(files) > 1:
        raise ValueError(
            f"{image} holds a series of several multi-frame files, of which no DICOM segmentation is made; "
            "choose another output format"
        )
    pydicom = pydicom_for(files[0])
    sources = [pydicom.dcmread(file, stop_before_pixels=True, force=True) for file in files]
    for source in sources:
        if not source.get("FrameOfReferenceUID"):
            raise ValueError(
                f"{image} has no FrameOfReferenceUID, which a DICOM segmentation shares with its images; "
                "choose another output format"
            )
        for keyword in REQUIRED:
            if keyword not in source:
                setattr(source, keyword, None)
    order = sorted(range(len(planes)), key=lambda place: planes[place].frame) if several else list(range(len(planes)))
    return sources, order


def _place(sources: Sequence[Any], planes: Sequence[Plane]) -> None:
    """Write what all planes share, and the reader has compared, to where highdicom looks for it."""
    import highdicom

    plane = planes[0]
    orientation = highdicom.PlaneOrientationSequence(
        highdicom.CoordinateSystemNames.PATIENT, plane.orientation.ravel().tolist()
    )
    given = abs(plane.thicknesses[1] or 0.0)
    # along the normal, whatever the headers say
    distance = float((planes[-1].position - plane.position) @ np.cross(*plane.orientation)) / max(len(planes) - 1, 1)
    distance = distance or given or 1.0
    measures = highdicom.PixelMeasuresSequence(plane.spacing.tolist(), given or distance, distance)
    for source in sources:
        if "SharedFunctionalGroupsSequence" in source:
            shared = source.SharedFunctionalGroupsSequence[0]
            shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = orientation, measures
        else:
            source.ImageOrientationPatient = orientation[0].ImageOrientationPatient
            source.PixelSpacing, source.SliceThickness = measures[0].PixelSpacing, measures[0].SliceThickness
            source.SpacingBetweenSlices = measures[0].SpacingBetweenSlices


def _descriptions(structures: Sequence[Structure], made_by: MadeBy) -> list[Any]:
    import highdicom
    from pydicom.sr.codedict import codes

    if uncoded := tuple(structure["name"] for structure in structures if "type" not in structure.get("codes", {})):
        _say_uncoded(uncoded)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=_text(made_by.name), family=codes.cid7162.ArtificialIntelligence, version=_text(made_by.version)
    )
    found = []
    for number, structure in enumerate(structures, 1):
        own = structure.get("codes", {})
        description = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=_text(label_of(structure)),
            segmented_property_category=_code(own.get("category", CATEGORY)),
            segmented_property_type=_code(own.get("type") or _private(structure)),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=highdicom.color.CIELabColor(*cielab_of(structure, number)),
        )
        if "modifier" in own:
            kind = description.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [_code(own["modifier"])]
        found.append(description)
    return found


@functools.cache  # once per set of names, not once per image
def _say_uncoded(names: tuple[str, ...]) -> None:
    logger.warning(
        "no standard codes are known for %s; the DICOM segmentation names them with private codes of the scheme %s",
        ", ".join(names),
        PRIVATE_SCHEME,
    )


def _code(code: Any) -> Any:
    import highdicom

    return highdicom.sr.CodedConcept(code["value"], code["scheme"], _text(code["meaning"]))


def _private(structure: Structure) -> dict[str, str]:
    """Return a code that is the same wherever the name is."""
    name = str(structure["name"])
    return {"scheme": PRIVATE_SCHEME, "value": f"{zlib.crc32(name.encode()):08X}", "meaning": name}


def _meaning(structure: Structure) -> str:
    codes = structure.get("codes", {})
    return str(codes["type"]["meaning"] if "type" in codes else structure["name"])


def _text(text: str) -> str:
    """Return a text as an attribute can hold it: one line of 64 characters at most, and one value."""
    return plain(text.replace("\\", "/"))


def _read(target: Path) -> Any:
    """Return a dataset, ``None`` where a file cannot be read."""
    try:
        return pydicom_for(target).dcmread(target)
    except Exception:  # then it is none of ours
        return None


def _noted(data: Any) -> str:
    try:
        return str(data.private_block(PRIVATE_GROUP, MAKER)[CHECKSUM].value)
    except (AttributeError, KeyError):
        return ""


def _checksum(data: Any) -> str:
    return f"{zlib.crc32(data.PixelData):08x}"

"""Whether a file is what its ending says, and whether a label fits its image."""

from __future__ import annotations

import re
import zlib
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from label_server.front.refusals import Refusal, shown

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
HEAD = 1 << 16
CHUNK = 1 << 20
DATA_FILE = b"ElementDataFile"
TOLERANCE_MM = 0.01
NIFTI_MAGIC = {348: (slice(344, 348), (b"n+1\0",)), 540: (slice(4, 8), (b"n+2\0",))}


def suffix_of(filename: str) -> str:
    """Return the ending of an image's file name.

    Args:
        filename: the name.

    Raises:
        Refusal: 415 if it is none of an image.
    """
    for suffix in SUFFIXES:
        if filename.endswith(suffix) and len(filename) > len(suffix):
            return suffix
    raise Refusal(415, f"{shown(filename)} is no image by its name; send a file that ends in {', '.join(SUFFIXES)}")


def check_content(file: BinaryIO, filename: str) -> None:
    """Refuse a file that is not what its ending says, or that names another file as its voxels.

    Args:
        file: the file, at its beginning.
        filename: its name.

    Raises:
        Refusal: 415.
    """
    suffix, head = suffix_of(filename), file.read(HEAD)
    if suffix == ".nii.gz":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, HEAD)
        except zlib.error:
            head = b""
    checks = {".nrrd": _is_nrrd, ".mha": lambda head: _is_meta_image(head, file)}
    if not checks.get(suffix, _is_nifti)(head):
        raise Refusal(
            415,
            f"{shown(filename)} is not what its ending {suffix} says, or its voxels are elsewhere; save it as one file",
        )


def _is_nifti(head: bytes) -> bool:
    size = int.from_bytes(head[:4], "little")
    if size not in NIFTI_MAGIC:
        size = int.from_bytes(head[:4], "big")
    where, magics = NIFTI_MAGIC.get(size, (slice(0), ()))
    return head[where] in magics


def _is_nrrd(head: bytes) -> bool:
    header, *voxels = re.split(rb"\r?\n\r?\n", head, maxsplit=1)
    # A lone \r ends a line for ITK, and pynrrd reads over what is not ASCII.
    elsewhere = re.search(r"(?i)(?:^|[\r\n])\s*data\s?file\s*:", header.decode("ascii", "ignore"))
    return head.startswith(b"NRRD000") and bool(voxels) and not elsewhere


def _is_meta_image(head: bytes, rest: BinaryIO) -> bool:
    """Return whether the voxels follow the header.

    The name must occur once in the whole file: ITK takes lines after a row of too few numbers as part of that row, a
    first ``ElementDataFile = LOCAL`` as well, and goes by the next.
    """
    local = re.search(rb"(?m)^[ \t]*%s[ \t]*[=:][ \t]*LOCAL[ \t]*\r?\n" % DATA_FILE, head)
    dimensions = re.search(rb"(?m)^\s*NDims\s*[=:]\s*\d", head)
    if not local or not dimensions:
        return False
    count, tail = 0, b""
    for chunk in chain([head], iter(lambda: rest.read(CHUNK), b"")):
        count += (tail + chunk).count(DATA_FILE)
        tail = (tail + chunk)[1 - len(DATA_FILE) :]
    return count == 1


def check_label(label: Path, image: Path) -> None:
    """Refuse a label that cannot be read, is on another grid than its image, or has values that are no classes.

    Args:
        label: file of the label.
        image: file of the image.

    Raises:
        Refusal: 422.
    """
    try:
        shape, affine = grid(image)
    except Exception as error:
        raise Refusal(422, f"the image of the label cannot be read ({one_line(error)}); replace the image") from error
    try:
        own_shape, own_affine = grid(label)
    except Exception as error:
        raise Refusal(422, f"the label cannot be read ({one_line(error)}); save it anew") from error
    if own_shape != shape:
        raise Refusal(422, f"the label has shape {own_shape}, its image {shape}; save it on the grid of the image")
    if (distance := _distance(own_affine, affine, shape)) > TOLERANCE_MM + 0.01 * abs(affine[:3, :3]).max():
        raise Refusal(422, f"the label lies up to {distance:.3g} mm beside its image; save it on the grid of the image")
    try:
        wrong = _no_classes(label)
    except Exception as error:
        raise Refusal(422, f"the label cannot be read ({one_line(error)}); save it anew") from error
    if wrong:
        raise Refusal(422, f"the label must hold whole numbers from 0 on, got {wrong}; save it as a label map")


def grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and affine of an image, without reading its voxels.

    The affine leads to millimetres to the right, to the front and up.

    Args:
        path: the file.
    """
    import numpy as np

    if path.name.endswith((".nii", ".nii.gz")):
        import nibabel as nib

        image: Any = nib.load(path)
        shape, affine = tuple(map(int, image.shape)), np.asarray(image.affine, float)
    else:
        import SimpleITK

        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        shape, affine = tuple(map(int, reader.GetSize())), np.eye(4)
        if reader.GetNumberOfComponents() > 1:
            shape = (*shape, reader.GetNumberOfComponents())
        axes = min(3, len(reader.GetSize()))
        direction = np.asarray(reader.GetDirection()).reshape(reader.GetDimension(), -1)[:axes, :axes]
        affine[:axes, :axes] = direction * np.asarray(reader.GetSpacing())[:axes]
        affine[:axes, 3] = reader.GetOrigin()[:axes]
        affine[:2] *= -1  # ITK counts to the left and to the back
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape, affine


def _distance(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return how far the corners of two grids are apart."""
    import numpy as np

    corners = np.array(np.meshgrid(*((0, size - 1) for size in shape[:3]), indexing="ij")).reshape(len(shape[:3]), -1)
    points = np.vstack([corners, np.zeros((3 - len(corners), corners.shape[1])), np.ones((1, corners.shape[1]))])
    return float(np.linalg.norm(((one - other) @ points)[:3], axis=0).max())


def _no_classes(path: Path) -> str:
    """Return what of a label's values are no classes, or nothing."""
    import numpy as np

    if path.name.endswith((".nii", ".nii.gz")):
        import nibabel as nib

        label: Any = nib.load(path)
        values = np.asanyarray(label.dataobj)
    else:
        import SimpleITK

        values = SimpleITK.GetArrayViewFromImage(SimpleITK.ReadImage(str(path)))
    if values.dtype.kind not in "uifb":
        return f"values of type {values.dtype}"
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        return "fractions or infinities"
    return f"the value {values.min():g}" if values.min() < 0 else ""


def one_line(error: BaseException) -> str:
    """Return the message of an error on one short line.

    Args:
        error: the error.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."

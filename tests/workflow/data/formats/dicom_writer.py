"""Synthetic DICOM: series of single images and multi-frame files, and what both reading functions make of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_networks.workflow.data.formats.dicom import read_header, read_voxels

EYE = np.eye(3)
PIXELS = {np.dtype(np.float32): "FloatPixelData", np.dtype(np.float64): "DoubleFloatPixelData"}


def grid(size: Sequence[float] = (1, 1, 1), *, turn: np.ndarray = EYE, origin: Sequence[float] = (0, 0, 0), shear=0.0):
    """Return the affine (LPS) of voxels of a size in mm that are turned; a slice is ``shear`` mm down the last."""
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(size)
    affine[:3, 2] += shear * turn[:, 1]
    affine[:3, 3] = origin
    return affine


def rotation(*degrees: float) -> np.ndarray:
    """Return turns about x, y and z, one after the other."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one = np.eye(3)
        a, b = [other for other in range(3) if other != axis]
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        turn = one @ turn
    return turn


def ras(affine: np.ndarray) -> np.ndarray:
    """Return an affine whose first two axes point the other way."""
    return np.diag([-1.0, -1, 1, 1]) @ affine


def texts(numbers: Sequence[float]) -> list[str]:
    """Return numbers as DICOM has them, with 16 characters at most."""
    found = []
    for number in numbers:
        digits = 14
        while len(text := f"{number:.{digits}g}") > 16:
            digits -= 1
        found.append(text)
    return found


def image(pixels: np.ndarray, series: str = "1.2.3.5", bits: int | None = None, **attributes: Any):
    """Return a dataset of grey values, rows x columns or frames x rows x columns; ``None`` takes an attribute out."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    data, data.file_meta = Dataset(), FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3", series, "1.2.3.4"
    data.Modality, data.PatientName, data.PatientID = "MR", "Made^Up", "0"
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    if pixels.dtype.kind in "iu":
        data.BitsStored = bits or data.BitsAllocated
        data.HighBit = data.BitsStored - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
    setattr(data, PIXELS.get(pixels.dtype, "PixelData"), np.ascontiguousarray(pixels).tobytes())
    data["PixelData" if "PixelData" in data else PIXELS[pixels.dtype]].VR = {"f": {4: "OF", 8: "OD"}}.get(
        pixels.dtype.kind, {}
    ).get(pixels.dtype.itemsize, "OW")
    return change(data, attributes)


def change(data: Any, attributes: Mapping[str, Any]):
    """Return a dataset with other attributes, without those that are ``None``."""
    from pydicom.config import disable_value_validation

    with disable_value_validation():
        for keyword, value in attributes.items():
            if value is not None:
                setattr(data, keyword, value)
            elif keyword in data:
                delattr(data, keyword)
    return data


def save(data: Any, file: Path) -> Path:
    """Write a dataset."""
    file.parent.mkdir(parents=True, exist_ok=True)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(file, enforce_file_format=True)
    return file


def slices(volume: np.ndarray, affine: np.ndarray | None = None, **attributes: Any) -> list[Any]:
    """Return the datasets of a series of columns x rows x slices; a function of z gives an attribute."""
    affine = grid() if affine is None else affine
    size = np.linalg.norm(affine[:3, :3], axis=0)
    found = []
    for z in range(volume.shape[2]):
        where: dict[str, Any] = {
            "ImagePositionPatient": texts((affine @ [0, 0, z, 1])[:3]),
            "ImageOrientationPatient": texts((affine[:3, :2] / size[:2]).T.ravel()),
            "PixelSpacing": texts([size[1], size[0]]),
            "SliceThickness": f"{size[2]:.8g}",
            "InstanceNumber": z + 1,
        }
        given = {key: value(z) if isinstance(value, Callable) else value for key, value in attributes.items()}  # type: ignore[arg-type]
        found.append(image(volume[:, :, z].T, **{**where, **given}))
    return found


def write(folder: Path, datasets: Sequence[Any], name: str = "{:03d}.dcm") -> Path:
    """Write datasets as the files of a folder."""
    for number, data in enumerate(datasets):
        save(data, folder / name.format(number))
    return folder


def enhanced(volume: np.ndarray, affine: np.ndarray | None = None, order: Sequence[int] | None = None, **frames: Any):
    """Return a multi-frame dataset whose frames are the slices ``order``; a function of a number gives an attribute."""
    from pydicom.dataset import Dataset
    from pydicom.uid import EnhancedMRImageStorage

    def group(**values: Any) -> list[Dataset]:
        item = Dataset()
        change(item, values)
        return [item]

    affine = grid() if affine is None else affine
    size = np.linalg.norm(affine[:3, :3], axis=0)
    order = range(volume.shape[2]) if order is None else order
    own = []
    for number, z in enumerate(order):
        item = Dataset()
        item.PlanePositionSequence = group(ImagePositionPatient=texts((affine @ [0, 0, z, 1])[:3]))
        given = {key: value(number) for key, value in frames.items()}
        values = {key: given.pop(key) for key in list(given) if key.startswith("Rescale")}
        if values:
            item.PixelValueTransformationSequence = group(**values)
        item.FrameContentSequence = group(**{"StackID": "1", **given})
        own.append(item)
    shared = Dataset()
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=texts((affine[:3, :2] / size[:2]).T.ravel()))
    shared.PixelMeasuresSequence = group(PixelSpacing=texts([size[1], size[0]]), SliceThickness=f"{size[2]:.8g}")
    return image(
        np.stack([volume[:, :, z].T for z in order]),
        SOPClassUID=EnhancedMRImageStorage,
        NumberOfFrames=len(order),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=own,
    )


OBLIQUE = grid((0.7, 1.3, 2.5), turn=rotation(20, -35, 50), origin=(-90.5, 33.25, 12.125))
VOLUME = np.arange(4 * 5 * 6, dtype=np.uint16).reshape(4, 5, 6)


def check(path: Path, volume: np.ndarray, affine: np.ndarray, dtype: Any = None):
    """Both functions say one grid, and each voxel is in its place."""
    header, voxels = read_header(path), read_voxels(path)
    np.testing.assert_allclose(header.affine, ras(affine), atol=1e-5)
    assert (header.channels, *header.shape) == voxels.shape
    assert voxels.dtype == (volume.dtype if dtype is None else dtype)
    np.testing.assert_array_equal(voxels[0], volume)
    return header


def refused(path: Path, *words: str, series: str | None = None, read=read_header) -> str:
    """One sentence that begins with the path and has some words."""
    with pytest.raises(ValueError, match=r"; |: pip install pydicom") as caught:
        read(path, series)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text
    assert not [word for word in words if word not in text], text
    return text

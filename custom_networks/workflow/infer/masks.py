"""Masks as files: on the grid of their image, with its header, and never over what somebody has corrected."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.transforms import SaveImaged
from numpy.typing import DTypeLike

from custom_networks.files import replacing
from custom_networks.workflow.data.cases import case_name, files_of
from custom_networks.workflow.data.formats import nifti
from custom_networks.workflow.data.headers import spatial_image

NAME = "{}_seg.nii.gz"


class SaveMasksd(SaveImaged):
    """Write label maps as NIfTI files that every reader lays over their image.

    A mask has the header of its image (forms and their codes, units) where that is NIfTI, else sform and qform in
    millimetres; axes of one voxel stay. Its name is the entry "mask" of the case, which may lead to a folder, else that
    of the image with ``_seg``. It appears whole or not at all.

    Args:
        keys: label maps ``(1, *S)`` on the grid of the image file.
        output_dir: folder to write to.
        output_dtype: integer type of the voxels.

    Raises:
        ValueError: when called, if the file to write is no mask that this program has written, or has been edited
            since, or what is given has several channels.
    """

    def __init__(self, keys: Sequence[str] | str, output_dir: str | Path, output_dtype: DTypeLike = np.uint8) -> None:
        super().__init__(keys, output_dir=output_dir, output_dtype=output_dtype, print_log=False)
        self.output_dir, self.dtype = Path(output_dir), np.dtype(output_dtype)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Write the masks of one case and return it unchanged.

        Args:
            data: the case.
        """
        for key in self.key_iterator(dict(data)):
            mask = data[key]
            image = Path(mask.meta["filename_or_obj"])
            target = _target(self.output_dir, data, image)
            check_replaceable(target)
            if len(mask) != 1:
                raise ValueError(
                    f"a mask has one channel, got {len(mask)} for {target}; keep what makes label maps in the "
                    "postprocessing"
                )
            voxels = torch.as_tensor(mask).cpu().numpy().astype(self.dtype)[0]
            write_mask(target, voxels, np.asarray(mask.affine, dtype=float), image)
        return dict(data)


def write_mask(target: Path, voxels: np.ndarray, affine: np.ndarray, image: Path) -> None:
    """Write one mask.

    Args:
        target: the file, ``.nii.gz``.
        voxels: ``(*S)`` on the grid of the image.
        affine: voxels to mm, for images that are no NIfTI files.
        image: the file of the image.
    """
    if image.is_file() and image.name.lower().endswith(nifti.SUFFIXES):
        header = nifti.header_of_mask(image)
        header.set_data_dtype(voxels.dtype)
        kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
        written = kind(voxels, None, header)
    else:
        written = spatial_image(voxels, affine)
    written.header["descrip"] = f"{nifti.MASK} {checksum(voxels)}".encode()
    with replacing(target) as partial:
        nib.save(written, partial)


def check_masks(output_dir: str | Path, inference: Sequence[Mapping[str, Any]]) -> None:
    """Refuse, before any image is segmented, to write over a file that is more than the result of an earlier run.

    Args:
        output_dir: folder of the masks.
        inference: the cases.

    Raises:
        ValueError: if there is such a file.
    """
    for case in inference:
        check_replaceable(_target(Path(output_dir), case, files_of(case["image"])[0]))


def _target(output_dir: Path, case: Mapping[Any, Any], image: Path) -> Path:
    return output_dir / case.get("mask", NAME.format(case_name(image)))


def check_replaceable(target: Path) -> None:
    """Refuse to write over anything but a mask of this program whose voxels are what was written.

    Args:
        target: the file to write.

    Raises:
        ValueError: if it is anything else.
    """
    if not target.exists():
        return
    description = nifti.description(target)
    noted = description.rpartition(" ")[2] if description.startswith(nifti.MASK) else ""
    check_unedited(target, noted, lambda: checksum(nifti.read_voxels(target)[0]))


def check_unedited(target: Path, noted: str, found: Callable[[], str]) -> None:
    """Refuse to write over a file that this program has not written, or that somebody has edited since.

    Args:
        target: the file, which exists.
        noted: the checksum that this program has noted in it, nothing where it has not.
        found: returns the checksum of what it holds now.

    Raises:
        ValueError: if there is none, or it is another.
    """
    if not noted:
        raise ValueError(
            f"{target} exists and was not written by this program, or another one has saved it since; move it, or "
            "write to another folder"
        )
    if noted != found():
        raise ValueError(
            f"{target} has been edited since it was written; move it, or write to another folder, so that nobody's "
            "corrections are lost"
        )


def checksum(voxels: np.ndarray) -> str:
    """Return what tells two masks apart, whatever the type of their voxels.

    Args:
        voxels: whole numbers.

    Example:
        >>> checksum(np.array([0, 1, 2], dtype=np.uint8))
        '4f8c5ccc'
    """
    return f"{zlib.crc32(np.ascontiguousarray(voxels, dtype=np.int64).data):08x}"

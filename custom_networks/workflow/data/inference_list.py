"""Which images to segment or to classify, and what their results are called."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from custom_networks.files import refuse_archive
from custom_networks.workflow.data.cases import FORMATS, SUFFIXES, case_name, refuse, voxel_file
from custom_networks.workflow.data.formats import nifti, nrrd
from custom_networks.workflow.data.formats.dicom import series_of
from custom_networks.workflow.data.formats.dicom_file import SUFFIXES as DICOM_SUFFIXES
from custom_networks.workflow.data.formats.dicom_file import is_segmentation
from custom_networks.workflow.data.layouts.bids import anatomies, is_bids
from custom_networks.workflow.data.layouts.case_folders import IMAGE as KITS_IMAGE
from custom_networks.workflow.data.layouts.case_folders import LABEL as KITS_LABEL
from custom_networks.workflow.data.layouts.files import (
    INDEX,
    broken,
    has_image_name,
    is_slice,
    read_index,
    scan,
)
from custom_networks.workflow.data.layouts.nnunet import is_raw, number_of_channels, split_channel, stacked
from custom_networks.workflow.data.layouts.unusable import MASKS, SCANS, how_to_convert

logger = logging.getLogger(__name__)

RESULT = "_seg"
RESULT_SUFFIX = ".nii.gz"
SEGMENTATION = f"{RESULT}.dcm"
TESTING, TRAINING_IMAGES = "imagesTs", "imagesTr"


class Image(NamedTuple):
    """An image to segment.

    Args:
        files: one file per channel, or the file or folder of all.
        case: what results are listed under, with the folders below the one that was given.
        mask: file name of its mask, with the same folders.
    """

    files: list[Path]
    case: str
    mask: str


@dataclass
class Walk:
    """What was met on the way through a folder.

    Args:
        root: the folder.
        channels: how many channels the network expects, if that is known.
        images: the images.
        left_out: masks and labels that lie among them.
        others: files of other formats.
        seen: the folders that were entered, by device and inode, so that no link leads in circles.
    """

    root: Path
    channels: int | None
    images: list[Image] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    seen: set[tuple[int, int]] = field(default_factory=set)

    def enter(self, folder: Path) -> None:
        """Note what a folder and the folders in it hold.

        Args:
            folder: the folder.

        Raises:
            ValueError: if something in it cannot be told from something else.
        """
        status = folder.stat()
        if (status.st_dev, status.st_ino) in self.seen:
            return
        self.seen.add((status.st_dev, status.st_ino))
        paths = scan(folder)
        refuse(broken(paths))
        files, folders = [path for path in paths if path.is_file()], [path for path in paths if path.is_dir()]
        names = {path.name for path in files}
        if names & set(SCANS):  # TotalSegmentator's masks stand beside the scan
            self.left_out += [path for path in folders if path.name == MASKS]
            folders = [path for path in folders if path.name != MASKS]
        images = [path for path in files if has_image_name(path)]
        others = [path for path in files if not has_image_name(path)]
        named = [path for path in others if path.name.endswith(SEGMENTATION)]
        segmentations = [path for path in named if is_slice(path) and is_segmentation(path)]
        self.left_out += segmentations
        others = [path for path in others if path not in segmentations]
        dicom = any(is_slice(path) for path in others)
        if images and dicom:
            raise ValueError(
                f"{folder} holds {images[0].name} and DICOM files, which may show the same; give the files a folder of "
                "their own"
            )
        if dicom:
            self.add([folder], folder.relative_to(self.root).as_posix() if folder != self.root else _own_name(folder))
        else:
            voxels = {voxel_file(path) for path in images}
            self.others += [path for path in others if path not in voxels]
            self.add_files(folder, images, {case_name(path) for path in images} | {path.name for path in folders})
        for inside in sorted(folders, key=Path.is_symlink):  # a folder before links to it
            self.enter(inside)

    def add_files(self, folder: Path, files: Sequence[Path], names: set[str]) -> None:
        """Note the images among the files of a folder.

        Args:
            folder: the folder.
            files: those with the name of an image.
            names: what images in this folder may be called, series included.
        """
        channelled = {pair[0] for path in files if (pair := split_channel(path))}
        index = {**read_index(folder.parent), **read_index(folder)} if channelled else {}
        certain = is_raw(index)
        channels = number_of_channels(index) if certain else self.channels
        kits = any(path.name == KITS_IMAGE for path in files)
        masks = [
            path
            for path in files
            if (kits and path.name == KITS_LABEL)
            or case_name(path).removesuffix(RESULT) in names - {case_name(path)}
            or nifti.description(path).startswith(nifti.MASK)
            or (path.name.lower().endswith(nrrd.SUFFIXES) and nrrd.noted_checksum(path))
        ]
        files = [path for path in files if path not in masks]
        # nnU-Net calls a mask as the case, without a number
        own = [path for path in files if not (case_name(path) in channelled and not split_channel(path))]
        says = f"{INDEX} names {channels} channels" if certain else f"the network expects {channels} channels"
        if cases := stacked(own, channels, certain, says):
            masks += [path for path in files if path not in own]
            for name, paths in cases.items():
                case = (folder / name).relative_to(self.root).as_posix()
                self.images.append(Image(paths, case, f"{case}{RESULT_SUFFIX}"))
        else:
            for path in files:
                self.add([path], (folder / case_name(path)).relative_to(self.root).as_posix())
        self.left_out += masks

    def add(self, files: list[Path], case: str) -> None:
        """Note an image.

        Args:
            files: its files.
            case: its name.
        """
        self.images.append(Image(files, case, f"{case}{RESULT}{RESULT_SUFFIX}"))


def inference_data_list(
    dataset_dir: str | Path, series: str | None = None, in_channels: int | None = None
) -> list[dict[str, Any]]:
    """List the images to segment, and what their masks are called.

    A folder is walked with all folders in it, and results keep its tree. A folder that holds DICOM files is one image.
    Files ``case_0000.nii.gz``, ``case_0001.nii.gz`` are the channels of one image, as nnU-Net has it, where a
    ``dataset.json`` of nnU-Net stands beside them or in the folder above, or where all files are called so with numbers
    below ``in_channels``; its mask is ``case.nii.gz``. What is hidden is left out, and so are, which is logged, masks
    ``<name>_seg`` of an earlier run beside the image ``<name>``, and the labels of KiTS and TotalSegmentator.

    Args:
        dataset_dir: an image file, a folder of such files or of DICOM series at any depth, or the folder of a data set
            with ``imagesTs``, which is taken.
        series: a SeriesInstanceUID: only DICOM folders that hold this series.
        in_channels: number of channels that the network expects.

    Returns:
        ``{"image": path, or list of one path per channel, "case": name, "mask": file name}`` per image, sorted.

    Raises:
        FileNotFoundError: if the path does not exist or holds no image.
        ValueError: if two images would write the same result, a file has another format, a link leads nowhere, a folder
            has the name of an image or may not be read, a channel is absent, or no folder holds the series.
    """
    path = Path(str(dataset_dir))
    refuse(broken([path]))
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}; set dataset_dir to an image or a folder of images")
    images = [_one_file(path)] if path.is_file() else _in_folder(_images_of(path), in_channels)
    if series is not None:
        images = _of_series(images, str(series), path)
    _check_masks(images, path)
    return [_as_entry(image) for image in images]


def channel_data_list(files: Sequence[Path], in_channels: int) -> list[dict[str, Any]]:
    """List the images that some files of one folder are the channels of, as if the folder held nothing else.

    Args:
        files: files whose names end in numbers of channels.
        in_channels: number of channels that the network expects.

    Returns:
        As :func:`inference_data_list`.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if a channel is absent, or a link leads nowhere.
    """
    refuse(broken(files))
    if absent := [path for path in files if not path.exists()]:
        raise FileNotFoundError(f"there is no file {absent[0]}; correct the path")
    walk = Walk(files[0].parent, in_channels)
    walk.add_files(walk.root, files, {case_name(path) for path in files})
    return [_as_entry(image) for image in sorted(walk.images, key=lambda image: image.case)]


def _one_file(path: Path) -> Image:
    refuse_archive(path)
    if not has_image_name(path) and is_slice(path):  # of several frames; the reader refuses one slice
        case = path.stem if path.name.lower().endswith(DICOM_SUFFIXES) else path.name
        return Image([path], case, f"{case}{RESULT}{RESULT_SUFFIX}")
    if not has_image_name(path):
        raise ValueError(
            f"{path} is not one of {', '.join(SUFFIXES)} and no DICOM; convert it, or give the folder of a DICOM series"
        )
    return Image([path], case_name(path), f"{case_name(path)}{RESULT}{RESULT_SUFFIX}")


def _images_of(root: Path) -> Path:
    """Return the folder of the images to segment: ``imagesTs`` of a data set, else the folder itself."""
    if (root / TESTING).is_dir():
        return root / TESTING
    if read_index(root) or (root / INDEX).is_file() or (root / TRAINING_IMAGES).is_dir():
        raise FileNotFoundError(
            f"there is no folder {root / TESTING}; put the images to segment there or set dataset_dir to the folder "
            f"that holds them"
        )
    return root


def _in_folder(root: Path, in_channels: int | None) -> list[Image]:
    if is_bids(root) and (files := anatomies(root)):
        return _of_bids(root, files)
    walk = Walk(root, in_channels)
    walk.enter(root)
    if not walk.images:
        found = f", but files such as {walk.others[0]}" if walk.others else ""
        if walk.left_out:
            raise FileNotFoundError(
                f"{root} holds nothing but masks and labels, such as {walk.left_out[0]}; set dataset_dir to the images"
            )
        raise FileNotFoundError(f"no {FORMATS} file and no DICOM series in {root}{found}; {how_to_convert()}")
    names = {case_name(path) for image in walk.images for path in image.files}
    masks = [image for image in walk.images if _is_mask(image, names)]
    walk.images = [image for image in walk.images if image not in masks]
    walk.left_out += [image.files[0] for image in masks]
    if walk.left_out:
        logger.info(
            "%d masks or labels among the images are left out, such as %s", len(walk.left_out), walk.left_out[0]
        )
    if walk.others:
        logger.info("%d files of other formats are left out, such as %s", len(walk.others), walk.others[0])
    return sorted(walk.images, key=lambda image: image.case)


def _is_mask(image: Image, names: set[str]) -> bool:
    """Tell a mask, which somebody may have corrected and moved, by the name of its image, wherever that lies."""
    name = case_name(image.files[0])
    return name.endswith(RESULT) and name.removesuffix(RESULT) in names


def _of_bids(root: Path, files: Sequence[Path]) -> list[Image]:
    """Return the anatomical images of a BIDS folder, of one kind."""
    refuse(broken(files))
    kinds = sorted({case_name(path).rpartition("_")[2] for path in files})
    if len(kinds) > 1:
        raise ValueError(
            f"{root} is a BIDS folder with {' and '.join(kinds)} in anat; put the images of one kind, or "
            "links to them, into a folder of their own and set dataset_dir to it"
        )
    cases = [(path, (path.parent / case_name(path)).relative_to(root).as_posix()) for path in files]
    return [Image([path], case, f"{case}{RESULT}{RESULT_SUFFIX}") for path, case in cases]


def _of_series(images: Sequence[Image], series: str, path: Path) -> list[Image]:
    """Return the images that are DICOM folders with this series."""
    held = [(image, set(series_of(image.files[0]))) for image in images if image.files[0].is_dir()]
    chosen = [image for image, own in held if series in own]
    if not chosen:
        known = sorted({uid for _, own in held for uid in own})
        words = f"it holds {', '.join(known[:3])}{', ...' * (len(known) > 3)}" if known else "it holds no DICOM series"
        raise ValueError(f"no folder under {path} holds the series {series}; {words}: correct the knob series")
    return chosen


def _check_masks(images: Sequence[Image], path: Path) -> None:
    twice = [mask for mask, count in Counter(image.mask for image in images).items() if count > 1]
    if twice:
        one, other = (image.files[0] for image in images if image.mask == twice[0])
        raise ValueError(
            f"{len(twice)} results of {path} would overwrite each other, such as {twice[0]} of {one} and of {other}; "
            f"rename one of the images"
        )


def _as_entry(image: Image) -> dict[str, Any]:
    files = [str(path) for path in image.files]
    return {"image": files[0] if len(files) == 1 else files, "case": image.case, "mask": image.mask}


def _own_name(folder: Path) -> str:
    return folder.name if folder.name not in ("", "..") else folder.resolve().name

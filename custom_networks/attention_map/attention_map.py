"""Attention maps of a bundle's network over an image: one NIfTI on the image's own grid and one PNG per module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Invertd
from scipy import ndimage
from torch import Tensor, nn

from custom_networks.attention_map.spatial_map import TOLERANCE, Map, attention_maps, attention_modules
from custom_networks.bundle_folder import find_bundle, profile_files, read_config
from custom_networks.files import replacing
from custom_networks.registry import nearest
from custom_networks.workflow import check_data, inference_data_list, load_weights
from custom_networks.workflow.data.headers import spatial_image
from custom_networks.workflow.data.volumes import read_volume
from custom_networks.workflow.report.overlay import save_map


def on_fine_grid(found: Map, shape: Sequence[int], offset: np.ndarray) -> Tensor:
    """Interpolate a map linearly on a part of the network's input.

    Args:
        found: the map.
        shape: shape of the part.
        offset: voxel of the input at which the part starts, per axis.

    Shape:
        ``(2, *shape)``: the map, continued beyond its outermost voxels, and 1 where one of its voxels lies, else 0.
    """
    grid = found.grid
    start = grid.position(offset)
    values = ndimage.affine_transform(
        found.values.astype(np.float64), np.diag(1 / grid.spacing), start, tuple(shape), order=1, mode="nearest"
    )
    covered = np.ones(tuple(shape))
    for axis, size in enumerate(shape):
        position = start[axis] + np.arange(size) / grid.spacing[axis]
        inside = (position > -0.5 - TOLERANCE) & (position < grid.shape[axis] - 0.5 + TOLERANCE)
        covered *= np.expand_dims(inside, tuple(a for a in range(len(shape)) if a != axis))
    return torch.from_numpy(np.stack([values, covered])).float()


def read_voxel(voxel: str | Sequence[int] | None, shape: Sequence[int], image: str) -> tuple[int, ...]:
    """Return a voxel of an image as integers; the central one if None.

    Args:
        voxel: ``"x,y,z"`` or a sequence, counted from 0.
        shape: shape of the image.
        image: the file, for the error.

    Raises:
        ValueError: if it is not a voxel of the image.

    Example:
        >>> read_voxel("1,2,3", (4, 4, 4), "image.nii.gz")
        (1, 2, 3)
    """
    if voxel is None:
        return tuple(size // 2 for size in shape)
    try:
        indices = [int(i) for i in (voxel.split(",") if isinstance(voxel, str) else voxel)]
        whole = isinstance(voxel, str) or indices == list(voxel)
    except (TypeError, ValueError):
        indices, whole = [], False
    if not whole or len(indices) != len(shape) or any(not 0 <= i < n for i, n in zip(indices, shape, strict=True)):
        last = ",".join(str(size - 1) for size in shape)
        raise ValueError(f"voxel {voxel} is not in {image}; give three integers from 0,0,0 to {last}")
    return tuple(indices)


class Scan:
    """An image file and what the network sees of it, so that a map finds its way back.

    Args:
        case: the image and its name, as inference lists them.
        preprocessing: the bundle's transforms of the key "image".
        patch_size: least size of the network's input, in voxels.
        size_divisor: what divides the size of the network's input, in voxels.
    """

    def __init__(
        self, case: Mapping[str, Any], preprocessing: Any, patch_size: Sequence[int], size_divisor: Sequence[int]
    ) -> None:
        self.name = Path(case["case"]).name
        self.preprocessing = preprocessing
        self.original = read_volume(case["image"])
        self.seen = preprocessing({"image": case["image"]})["image"]
        size, divisor = np.array(self.seen.shape[1:]), np.array(size_divisor)
        margin = -(-np.maximum(size, patch_size) // divisor) * divisor - size
        self.before = margin // 2
        self.after = margin - self.before

    @property
    def affine(self) -> np.ndarray:
        """Voxels of the file to mm, RAS."""
        return np.asarray(self.original.affine, dtype=np.float64)

    def padded(self) -> Tensor:
        """Return the network's input ``(1, C, *spatial)``."""
        # torch counts the axes from the last
        padding = [int(n) for pair in zip(self.before[::-1], self.after[::-1], strict=True) for n in pair]
        return nn.functional.pad(self.seen.as_tensor()[None], padding)

    def point(self, voxel: Sequence[int]) -> np.ndarray:
        """Return the position, in voxels of the network's input, of a voxel of the file."""
        to_seen = np.linalg.inv(np.asarray(self.seen.affine, dtype=np.float64)) @ self.affine
        position: np.ndarray = nib.affines.apply_affine(to_seen, voxel) + self.before
        return position

    def on_file(self, found: Map) -> np.ndarray:
        """Return a map on the grid of the file, NaN where it does not reach.

        Raises:
            ValueError: if the preprocessing cannot be undone.
        """
        values = MetaTensor(on_fine_grid(found, self.seen.shape[1:], self.before))
        inverse = Invertd("map", self.preprocessing, orig_keys="image", nearest_interp=False)
        returned = inverse({"image": self.seen, "map": values})["map"]
        if returned.shape[1:] != self.original.shape[1:]:
            raise ValueError(
                f"the preprocessing cannot be undone: the image has {tuple(self.original.shape[1:])} voxels, the map "
                f"comes back with {tuple(returned.shape[1:])}; use transforms that MONAI can invert"
            )
        numbers, covered = np.asarray(returned, dtype=np.float32)
        return np.where(covered < 0.5, np.float32(np.nan), numbers)


def chosen_modules(network: nn.Module, module: str | None) -> list[str]:
    """Return the names of all attention modules, or the one that was asked for.

    Args:
        network: the network.
        module: a name, or None for all.

    Raises:
        ValueError: if there is none, or none of that name.
    """
    kind, names = type(network).__name__, list(attention_modules(network))
    if not names:
        raise ValueError(f"{kind} has no module with an attention map; switch its attention on in network_def")
    if module is not None and module not in names:
        raise ValueError(f"{kind} has no module {module!r} with an attention map; nearest: {nearest(module, names)}")
    return names if module is None else [module]


def the_image(path: str, in_channels: int) -> dict[str, Any]:
    """Return the one image that was given as inference lists it, after a look at it.

    Args:
        path: an image file, or the folder of a DICOM series or of the channels of an image.
        in_channels: number of channels that the network expects.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is more than one image, or none that the network can take.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no image {path}; give a NIfTI or NRRD file, or the folder of a DICOM series")
    cases = inference_data_list(path, in_channels=in_channels)
    if len(cases) != 1:
        raise ValueError(f"{path} holds {len(cases)} images; give one of them")
    check_data(in_channels, inference=cases)
    return cases[0]


def save_files(values: np.ndarray, scan: Scan, voxel: Sequence[int], stem: str, title: str, label: str) -> list[Path]:
    """Write one map as NIfTI and as a picture, and return the two files.

    Args:
        values: the map on the file's grid.
        scan: the image.
        voxel: voxel through which the picture's planes go.
        stem: path of both files without the suffix.
        title: title of the picture.
        label: what the numbers are.
    """
    result, image = (spatial_image(array, scan.affine) for array in (values, np.asarray(scan.original[0])))
    volume, picture = Path(f"{stem}.nii.gz"), Path(f"{stem}.png")
    with replacing(picture) as picture_part, replacing(volume) as volume_part:
        nib.save(result, volume_part)
        save_map(image, result, voxel, picture_part, title, label)
    for path in (volume, picture):
        print(f"written: {path}")
    return [volume, picture]


def attention_map(
    image: str,
    *,
    bundle: str | None = None,
    module: str | None = None,
    voxel: str | Sequence[int] | None = None,
    output_dir: str = "attention_maps",
    ckpt_path: str | None = None,
    profile: str | Sequence[str] = (),
) -> list[Path]:
    """Write where a network's attention modules look in an image, as NIfTI on the image's own grid and as PNG over it.

    A gate is shown as its mean over the channels; a map from voxel to voxel as the attention that one voxel, the query,
    pays to all others, mean over the heads. Channel gates have no place in the image and are left out. The network runs
    once, in float32, over the whole preprocessed image, padded with zeros to a multiple of the network's
    ``size_divisor`` (of ``patch_size`` if it has none) and at least to ``patch_size``; inference slides windows over a
    larger image, so that its maps differ there. Between the voxels of the module's grid the map is interpolated
    linearly; where its grid does not reach, such as the margin that unpadded convolutions leave, it is NaN.

    Args:
        image: a NIfTI or NRRD file, or the folder of a DICOM series.
        bundle: name, folder, zip or address of the bundle; in a packed bundle, this one if None.
        module: name as in ``network.named_modules()``; all modules whose map has a place in the image if None.
        voxel: the query, ``x,y,z`` in voxels of the image file counted from 0, also the point through which the
            picture's planes go; the centre if None.
        output_dir: folder for ``<image>_<module>.nii.gz`` and ``<image>_<module>.png``.
        ckpt_path: the weights; those of inference.json if None.
        profile: names of the bundle's profiles or JSON files, with commas between them or as a list, the later wins;
            those the weights were trained with.

    Raises:
        FileNotFoundError: if the image or the weights do not exist.
        ValueError: if the image, the voxel, the module or the weights do not fit, or no map has a place in the image.
        ModuleNotFoundError: if matplotlib is not installed.

    Cost:
        one forward pass over the whole image with its memory, a copy of the modules' inputs, and twice each map: N·M
        numbers per head for a map of N voxels to M (5.7 GiB for a grid of 48x48x48 with keys pooled by two).
    """
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
    folder = find_bundle(bundle)
    parser = read_config(folder, "inference", profile_files(folder, profile))
    if ckpt_path is not None:
        parser["ckpt_path"] = ckpt_path
    case = the_image(image, parser.get_parsed_content("in_channels"))
    network: nn.Module = parser.get_parsed_content("network_def").eval()
    names = chosen_modules(network, module)
    load_weights(network, parser.get_parsed_content("ckpt_path"))
    patch_size = parser.get_parsed_content("patch_size")
    divisor = getattr(network, "size_divisor", patch_size)
    scan = Scan(case, parser.get_parsed_content("preprocessing"), patch_size, divisor)
    query = read_voxel(voxel, scan.original.shape[1:], image)

    device = parser.get_parsed_content("device")
    results = {}
    for name, found in attention_maps(network.to(device), names, scan.padded().to(device), scan.point(query)).items():
        if isinstance(found, Map):
            results[name] = (scan.on_file(found), found.meaning)
        elif module is None:
            print(f"left out: {name}: {found}")
        else:
            raise ValueError(f"{name} of {type(network).__name__} cannot be shown: {found}") from found
    if not results:
        raise ValueError(f"no attention module of {type(network).__name__} has a map with a place in the image")
    written = []
    for name, (values, meaning) in results.items():
        stem = f"{Path(output_dir) / scan.name}_{name}"
        written += save_files(values, scan, query, stem, f"{scan.name}, {name} of {folder.name}", meaning)
    return written

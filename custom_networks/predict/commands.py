"""The command ``predict``: what was given is looked at before torch is imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_networks.bundle_folder import find_bundle, profile_files
from custom_networks.predict.points import read_points
from custom_networks.predict.quick_import import import_monai
from custom_networks.predict.shards import Shard, find_shard

ENGINES = ("torch", "openvino", "auto")
CROP, HEAD = "crop", "head"
"""The ways to segment an image."""
OUTPUT_FORMATS = ("nifti", "nrrd", "dicom-seg")


@dataclass(frozen=True)
class Options:
    """What ``predict`` was asked for, beside images and networks.

    Args:
        result: folder for the results.
        series: SeriesInstanceUID to take from DICOM folders of several.
        output_format: format of the masks, one of :data:`OUTPUT_FORMATS`.
        probabilities: write the probabilities, too.
        tta: average over flips.
        device: where the network runs, as torch names it.
        engine: what runs it, one of :data:`ENGINES`.
        memory: what the segmentation of an image may take, such as 8GB.
        way: :data:`CROP` or :data:`HEAD`; by the size of each image if None.
        start_points: centre of each place in a head, in mm, in place of a registration.
        jobs: images that are read, and written, at the same time.
        shard: which of the images.
        overwrite: do again what is there.
        strict: count warnings as errors.
        report: write the page.
        show_names: let the page name images and folders that come from DICOM.
        json: print one JSON object per line.
    """

    result: Path
    series: str | None
    output_format: str
    probabilities: bool
    tta: bool
    device: str | None
    engine: str | None
    memory: str | None
    way: str | None
    start_points: dict[str, list[float]] | None
    jobs: int
    shard: Shard
    overwrite: bool
    strict: bool
    report: bool
    show_names: bool
    json: bool


def predict(
    *inputs: str,
    out: str,
    bundle: str | Sequence[str] = (),
    profile: str | Sequence[str] = (),
    folds: str | Sequence[str] = (),
    series: str | None = None,
    output_format: str = "nifti",
    probabilities: bool = False,
    tta: bool = False,
    device: str | None = None,
    engine: str | None = None,
    memory: str | None = None,
    head: bool = False,
    crop: bool = False,
    start_points: str | None = None,
    jobs: str = "1",
    shard: str | None = None,
    overwrite: bool = False,
    strict: bool = False,
    report: bool = False,
    show_names: bool = False,
    json: bool = False,
) -> None:
    """Segment images and write their masks, the volumes of what was found, and what to be careful about.

    Each image is segmented by the bundle's ``configs/inference.json``; its mask lies on its own grid, with its header.
    Beside it ``<image>_seg.json`` holds what was measured, and ``volumes.csv`` and ``volumes.json`` hold that of all
    images in the folder. An image whose mask is there is left out unless it, the network or the options have changed.
    An image that cannot be used ends no other; a table at the end names it, and the exit code is 1.

    An image much larger than those of the training is taken for a whole head, if the bundle says where to look in one:
    the places are found by registration with a template (``pip install SimpleITK``), each is segmented as a crop, and
    the mask of the head holds the classes of all.

    Under torchrun the images are shared out among its processes.

    Args:
        inputs: image files, folders of images or DICOM series at any depth, zips of them, or an nnU-Net data set with
            ``imagesTs``.
        out: folder for the results, in which the tree of the folders is kept.
        bundle: name, folder, zip or address of the bundle; given several times, the mean of their networks; in a packed
            bundle, this one if none.
        profile: names of the bundle's profiles or JSON files, the later wins; those the weights were trained with.
        folds: checkpoints, or folders with ``model.pt``, in place of the bundle's own weights; given several times, the
            mean of their networks.
        series: SeriesInstanceUID to take from DICOM folders of several.
        output_format: nifti, nrrd (as 3D Slicer reads it) or dicom-seg (from DICOM only).
        probabilities: write ``<image>_probabilities.npz``, too: float16, of every class, on the image's grid.
        tta: average over the flips that the network was trained with, its ``mirror_axes``.
        device: where the network runs, such as cpu or cuda:1; the first GPU, if there is one, if None.
        engine: torch, openvino (on the CPU) or auto, the faster here; what the configuration says if None.
        memory: what an image may take, such as 8GB; beyond that the path of ``low_memory`` is taken. What is free if
            None.
        head: take every image for a whole head, however large it is.
        crop: take every image for a crop.
        start_points: centres of the places in a head, in place of the registration: in mm of the image, right,
            anterior, superior, such as "Left=-25,-20,-15 Right=27,-20,-15", or a JSON file.
        jobs: images that are read, and written, while the network is at work.
        shard: i/n, this process's share of the images, for a job array: the i-th of n, from 1.
        overwrite: do again what is there already, also where it is of another image of that name.
        strict: count a warning as an error; the files are written all the same.
        report: write ``report.html``, a page to look at.
        show_names: let the page name what comes from DICOM.
        json: print one JSON object per line in place of text.

    Raises:
        FileNotFoundError: if an input, the bundle or its weights do not exist.
        ValueError: if an argument does not fit, or an image could not be segmented.

    Example:
        ``custom_networks predict scan.nii.gz --bundle hippocampus_mr_attention_unet_segmentation --out result``
    """
    if not inputs:
        raise ValueError("predict needs images: give files, folders, DICOM series or zips")
    if engine is not None and engine not in ENGINES:
        raise ValueError(f"--engine must be one of {', '.join(ENGINES)}, got {engine}")
    if output_format not in OUTPUT_FORMATS:
        raise ValueError(f"--output-format must be one of {', '.join(OUTPUT_FORMATS)}, got {output_format}")
    if not jobs.isdecimal() or int(jobs) < 1:
        raise ValueError(f"--jobs must be a number from 1, got {jobs}")
    if memory is not None and memory.strip().isdecimal():
        raise ValueError(f"--memory needs a unit, got {memory}; write for example {memory.strip()}GB")
    if crop and (head or start_points is not None):
        raise ValueError(f"--crop and --{'head' if head else 'start-points'} exclude each other; leave one of them out")
    if not all(given.strip() for given in (*inputs, out)):
        raise ValueError("an input or --out is empty, perhaps an unset variable of the shell; give a file or folder")
    absent = [given for given in inputs if not (Path(given).exists() or Path(given).is_symlink())]
    if len(absent) == len(inputs) and not json:  # said before what takes seconds
        raise FileNotFoundError(f"there is no file or folder {', '.join(absent)}; correct the path")
    result = Path(out)
    if result.exists() and not result.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder")
    options = Options(
        result=result,
        series=series,
        output_format=output_format,
        probabilities=probabilities,
        tta=tta,
        device=device,
        engine=engine,
        memory=memory,
        way=CROP if crop else HEAD if head or start_points is not None else None,
        start_points=None if start_points is None else read_points(start_points),
        jobs=int(jobs),
        shard=find_shard(shard),
        overwrite=overwrite,
        strict=strict,
        report=report,
        show_names=show_names,
        json=json,
    )
    names = [bundle] if isinstance(bundle, str) else list(bundle)
    bundles = [find_bundle(name) for name in names] or [find_bundle()]
    profiles = [profile_files(folder, profile) for folder in bundles]
    checkpoints = [folds] if isinstance(folds, str) else list(folds)
    import_monai()
    from custom_networks.predict.run import run

    run(list(inputs), bundles, profiles, checkpoints, options)

"""Damaged image files: seeded mutations of headers and voxels, and the one thing that may come of each."""

from __future__ import annotations

import gzip
import re
import resource
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import SimpleITK

from custom_networks.workflow import check_data, inference_data_list
from custom_networks.workflow.data.volumes import read_grid
from custom_networks.workflow.memory.memory_report import check_fits
from tests.fuzz.chain import Chain
from tests.synthetic import write_nifti
from tests.workflow.data.formats.dicom_writer import enhanced, save, slices, write

SECONDS = 20
"""A file that takes longer hangs."""
GROWTH = 1 << 30
"""Bytes that a process may take beyond what it took before."""
SHAPE = (7, 8, 6)
INTERESTING = [b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01"]
NUMBERS = ["0", "-1", "nan", "inf", "1e308", "1e-300", "32767", "99999999999", "0.5", "", "none", "(1,2)", "\u00e9"]
Chance = np.random.Generator


def voxels(*more: int) -> np.ndarray:
    """Return an image with something to see."""
    return np.random.default_rng(0).normal(100, 30, (*SHAPE, *more)).astype(np.int16)


def write_seeds(kind: str, folder: Path) -> list[Path]:
    """Write the sound files of a format."""
    oblique = nib.affines.from_matvec(np.diag([0.9, 1.1, 2]), [1, 2, 3])
    if kind == "NIfTI":
        both = nib.Nifti1Image(voxels(), oblique)
        both.set_qform(oblique, 1)
        both.header.set_slope_inter(0.5, 3)
        nib.save(both, folder / "scaled.nii")
        nib.save(nib.Nifti2Image(voxels(), oblique), folder / "second.nii.gz")
        return [
            folder / "scaled.nii",
            folder / "second.nii.gz",
            write_nifti(voxels(), folder / "plain.nii"),
            write_nifti(voxels().astype(np.float32), folder / "float.nii.gz", oblique),
        ]
    if kind == "NRRD":
        space = {"space": "left-posterior-superior", "space directions": oblique[:3, :3], "space origin": [1, 2, 3]}
        listed = {
            **space,
            "space directions": np.vstack([[np.nan] * 3, oblique[:3, :3]]),
            "kinds": ["list", *["domain"] * 3],
        }
        nrrd.write(str(folder / "raw.nrrd"), voxels(), {**space, "encoding": "raw"})
        nrrd.write(str(folder / "gzip.nrrd"), voxels(), {**space, "space units": ["mm"] * 3})
        nrrd.write(str(folder / "list.nrrd"), voxels()[None], {**listed, "encoding": "raw"})
        nrrd.write(str(folder / "text.nrrd"), voxels(), {"spacings": [1, 2, 3], "encoding": "ascii"})
    elif kind == "MetaImage":
        for name, compressed in (("plain.mha", False), ("compressed.mha", True)):
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels().T), str(folder / name), compressed)
    else:
        write(folder / "1.2.3", slices(voxels().astype(np.uint16)))
        save(enhanced(voxels().astype(np.uint16)), folder / "frames.dcm")
    return sorted(folder.iterdir())


def mutate(data: bytes, chance: Chance, header: int) -> bytes:
    """Return bytes with one to four damages, three of four in the header.

    Args:
        data: a sound file.
        chance: the random numbers.
        header: length of its header.
    """
    for _ in range(int(chance.integers(1, 5))):
        end = header if chance.random() < 0.75 else len(data)
        start = int(chance.integers(max(1, min(end, len(data)))))
        length = int(chance.integers(1, 9))
        damage = chance.integers(8)
        if damage == 0:
            data = data[:start] + bytes([data[start] ^ (1 << int(chance.integers(8)))]) + data[start + 1 :]
        elif damage <= 2:
            data = data[:start] + INTERESTING[chance.integers(len(INTERESTING))] * length + data[start + length :]
        elif damage == 3:
            data = data[:start] + chance.bytes(length) + data[start + length :]
        elif damage == 4:
            number = np.array([np.nan, np.inf, -1e30, 1e-30, 0], "<f4")[chance.integers(5)].tobytes()
            data = data[:start] + number + data[start + 4 :]
        elif damage == 5:
            data = data[:start] + data[start + length :]
        elif damage == 6:
            data = data[:start] + data[start : start + length] * 2 + data[start + length :]
        elif chance.random() < 0.3:
            data = data[:start]
        if not data:
            break
    return data


def mutate_text(data: bytes, chance: Chance, end: bytes) -> bytes:
    """Return a file whose text header has another number, or lacks, repeats or moves a line.

    Args:
        data: a sound file.
        chance: the random numbers.
        end: what ends the header.
    """
    header, separator, rest = data.partition(end)
    lines = header.split(b"\n")
    for _ in range(int(chance.integers(1, 3))):
        line = int(chance.integers(len(lines)))
        damage = chance.integers(5)
        if damage <= 2:
            number = NUMBERS[chance.integers(len(NUMBERS))].encode()
            found = list(re.finditer(rb"-?[0-9][0-9.eE+-]*", lines[line]))
            if found:
                chosen = found[chance.integers(len(found))]
                lines[line] = lines[line][: chosen.start()] + number + lines[line][chosen.end() :]
        elif damage == 3:
            lines.insert(int(chance.integers(len(lines))), lines[line])
        else:
            del lines[line]
        if not lines:
            break
    return b"\n".join(lines) + separator + rest


def mutations(kind: str, seeds: list[Path], folder: Path, tries: int, seed: int) -> Iterator[Path]:
    """Write one damaged file, or series, after the other and give its path.

    Args:
        kind: the format.
        seeds: sound files of it.
        folder: where to write.
        tries: how many.
        seed: of the random numbers.
    """
    chance = np.random.default_rng(seed)
    for _ in range(tries):
        source = seeds[chance.integers(len(seeds))]
        target = folder / source.name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
            files = sorted(target.iterdir())
            for file in [files[chance.integers(len(files))]] if chance.random() < 0.7 else files:
                file.write_bytes(mutate(file.read_bytes(), chance, 1200))
            yield target
            continue
        data = source.read_bytes()
        if kind in ("NRRD", "MetaImage") and chance.random() < 0.6:
            end = b"\n\n" if kind == "NRRD" else b"ElementDataFile"
            data = mutate_text(data, chance, end)
        elif source.suffix == ".gz" and chance.random() < 0.6:
            data = gzip.compress(mutate(gzip.decompress(data), chance, 360), 1)
        else:
            data = mutate(data, chance, {"NIfTI": 360, "NRRD": 300, "MetaImage": 300}.get(kind, 1800))
        target.write_bytes(data)
        yield target


def outcome(path: Path, chain: Chain) -> str:
    """Read a file as inference does: "read" if there is a mask on its grid, else why it is refused, in one sentence.

    Args:
        path: the file or folder.
        chain: from the image to its mask.

    Raises:
        AssertionError: if anything else happens.
    """
    mask = None
    try:
        (case,) = inference_data_list(path)
        check_data(1, inference=[case])
        check_fits(case["image"], (1.0, 1.0, 1.0), 1)
        grid = read_grid(case["image"])
        mask = chain(path)
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        assert mask is None
        assert "\n" not in text, text
        assert path.name in text, text
        assert len(text) < 1500, text
        return re.sub(r"\d[\d.e+-]*", "N", text.replace(str(path.parent), ""))[:60]
    assert mask.is_file()
    assert nib.load(mask).shape == grid.shape
    mask.unlink()
    return "read"


def fuzz(
    kind: str, folder: Path, chain: Chain, tries: int, seed: int = 0, keep: Callable[[Path], None] = lambda path: None
) -> Counter[str]:
    """Damage files and look at what comes of each.

    Args:
        kind: the format.
        folder: an empty folder.
        chain: from the image to its mask.
        tries: how many files.
        seed: of the random numbers.
        keep: called with a file of which something wrong came.

    Returns:
        How often each thing came.

    Raises:
        AssertionError: if a file ends in anything but a mask or a sentence, hangs, or takes memory.
    """
    (folder / "sound").mkdir()
    (folder / "damaged").mkdir()
    seeds = write_seeds(kind, folder / "sound")
    for source in seeds:
        assert outcome(source, chain) == "read", source
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found: Counter[str] = Counter()

    def hang(*_: object) -> None:
        raise TimeoutError(f"no answer in {SECONDS} s")

    signal.signal(signal.SIGALRM, hang)
    for number, path in enumerate(mutations(kind, seeds, folder / "damaged", tries, seed)):
        signal.alarm(SECONDS)
        try:
            found[outcome(path, chain)] += 1
        except BaseException as error:
            keep(path)
            raise AssertionError(f"{kind}, seed {seed}, number {number}, {path.name}: {error!r}") from error
        finally:
            signal.alarm(0)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        assert after - before < GROWTH, f"{kind}, seed {seed}, number {number}: {after - before} bytes more"
    return found

"""Find a bundle, by name, folder, zip or address, and ask it things: its task, its profiles, its configs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from custom_networks.files import checksum, read_json, replacing

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

HOME = Path(__file__).resolve().parents[1]
"""What holds this package: the repository, a packed bundle, or the site-packages of an installation."""
TIMEOUT = 60
"""Seconds without an answer after which a download is given up."""
METADATA = "configs/metadata.json"
SUMS = "SHA256SUMS"
"""The file of a packed bundle that holds the checksums of the others."""
TASKS = ("segmentation", "classification")


def is_bundle(folder: Path) -> bool:
    """Return whether a folder is that of a bundle.

    Args:
        folder: the folder.
    """
    return os.path.isfile(folder / "configs" / "train.json")  # noqa: PTH113 - False, too, where one may not look


def known_bundles() -> list[Path]:
    """Return the bundles that can be named without a path: the packed one that holds this package, or the repository's.

    An installation without the repository knows none; there, those of the working directory and of its ``bundles``.
    """
    if is_bundle(HOME):
        return [HOME]
    places = [HOME / "bundles"] if (HOME / "bundles").is_dir() else [Path.cwd(), Path.cwd() / "bundles"]
    found = {folder.resolve() for place in places for folder in (place, *place.glob("*")) if is_bundle(folder)}
    return sorted(found)


def downloaded_bundles() -> list[Path]:
    """Return the bundles that ``python -m monai.bundle download`` has put where it does unless told otherwise."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    place = Path(os.environ.get("TORCH_HOME") or Path(cache) / "torch") / "hub" / "bundle"
    return sorted(folder.resolve() for folder in place.expanduser().glob("*") if is_bundle(folder))


def find_bundle(name: str | None = None) -> Path:
    """Return the folder of a bundle.

    A name is that of a known bundle (:func:`known_bundles`), else of one that MONAI has downloaded. A zip is unpacked
    beside itself, and one that is downloaded into the working directory, unless it is there already; standard error
    says so. What is unpacked must be as the checksums in the zip say.

    Args:
        name: name of a known bundle, its folder, its zip, or the address of a zip; ``None`` takes the packed bundle
            that holds this package.

    Raises:
        ValueError: if there is no such bundle, or a zip holds none.
        OSError: if a zip cannot be downloaded.
    """
    if name is None:
        if not is_bundle(HOME):
            raise ValueError(f"give --bundle: {_choice(folder.name for folder in known_bundles())}")
        return HOME
    if urlsplit(name).scheme in ("http", "https"):
        return _unpacked(_downloaded(name))
    if name.lower().endswith(".zip"):
        if not Path(name).is_file():
            raise ValueError(f"there is no zip {name}; correct the path")
        return _unpacked(Path(name))
    if is_bundle(Path(name)):
        return Path(name).resolve()
    known = {folder.name: folder for folder in (*downloaded_bundles(), *known_bundles())}
    if name.rstrip("/") in known:
        return known[name.rstrip("/")]
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}? Use" if near else "use"
    raise ValueError(f"there is no bundle {name}; {hint} {_choice(known)}")


def _choice(known: Iterable[str]) -> str:
    names = ", ".join(sorted(known))
    ways = "the folder of a bundle, its zip or the address of its zip"
    return f"one of {names}, or {ways}" if names else ways


def _downloaded(address: str) -> Path:
    """Return the zip of an address in the working directory, downloaded unless it is there."""
    file = Path.cwd() / PurePosixPath(urlsplit(address).path).name
    if file.suffix != ".zip":
        raise ValueError(f"{address} is not the address of a zip; give that of a packed bundle")
    if not file.is_file():
        try:
            with replacing(file) as partial:
                _fetch(address, partial)
        except (OSError, HTTPException, ValueError) as error:
            raise OSError(f"{address} cannot be downloaded ({error}); check the address and the connection") from error
        print(f"downloaded: {file}", file=sys.stderr)
    return file


def _fetch(address: str, file: Path) -> None:
    with urlopen(address, timeout=TIMEOUT) as answer, file.open("wb") as target:
        shutil.copyfileobj(answer, target)
    if not zipfile.is_zipfile(file):  # an answer that was cut off, or a page in its place
        raise OSError("what came is no zip, or not all of it")


def _unpacked(file: Path) -> Path:
    """Return the folder of the bundle in a zip, unpacked beside it unless the same version is there."""
    try:
        return _unpack(file)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{file} cannot be unpacked ({error}); delete it and download it again") from error


def _unpack(file: Path) -> Path:
    with zipfile.ZipFile(file) as archive:
        name = _only_folder(archive, file)
        folder = file.resolve().parent / name
        if is_bundle(folder):
            if (folder / METADATA).read_bytes() != archive.read(f"{name}/{METADATA}"):
                raise ValueError(f"{folder} is another version than {file}; move it away, or give the folder itself")
            return folder
        if folder.exists():
            raise ValueError(f"{folder} exists and is no bundle; move it away, {file} is unpacked there")
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
            archive.extractall(scratch)
            if wrong := changed_files(Path(scratch) / name):
                raise zipfile.BadZipFile(f"{wrong[0]} is not as its checksum says")
            (Path(scratch) / name).replace(folder)
        print(f"unpacked: {folder}", file=sys.stderr)
    return folder


def _only_folder(archive: zipfile.ZipFile, file: Path) -> str:
    """Return the name of the one folder in a zip, which must hold a bundle."""
    # a Mac adds a folder and files of its own beside what it packs
    members = [member for member in archive.namelist() if not member.startswith(("__MACOSX/", ".DS_Store"))]
    names = {member.partition("/")[0] for member in members}
    name = names.pop() if len(names) == 1 else ""
    if name in ("", ".", "..") or not {f"{name}/configs/train.json", f"{name}/{METADATA}"} <= set(members):
        raise ValueError(f"{file} holds no bundle, one folder with configs/train.json; download it again")
    return name


def changed_files(folder: Path) -> list[str]:
    """Return the files of a bundle that are not as ``SHA256SUMS`` says, with which it was packed, or are absent.

    Args:
        folder: the bundle's folder; without that file nothing is known.
    """
    sums = folder / SUMS
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    pairs = [(name.lstrip(" *"), digest) for digest, _, name in (line.partition(" ") for line in lines)]
    return [name for name, digest in pairs if not (folder / name).is_file() or checksum(folder / name) != digest]


def task_of(bundle: Path) -> str:
    """Return what the network of a bundle does, "segmentation" or "classification".

    Args:
        bundle: the bundle's folder; its metadata say what the prediction is.

    Raises:
        ValueError: if the metadata do not say it.
    """
    file = bundle / METADATA
    try:
        kind = read_json(file)["network_data_format"]["outputs"]["pred"]["type"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} says no type of its output pred; give image or probabilities") from error
    return TASKS[0] if kind == "image" else TASKS[1]


def version_of(bundle: Path) -> str:
    """Return the version of a bundle.

    Args:
        bundle: the bundle's folder.
    """
    return str(read_json(bundle / METADATA).get("version", ""))


def profile_files(bundle: Path, profiles: str | Sequence[str]) -> list[Path]:
    """Return the files of profiles.

    Args:
        bundle: the bundle's folder.
        profiles: names of the bundle's own or JSON files, with commas between them or as a list.

    Raises:
        ValueError: if there is no such profile.
    """
    given = [profiles] if isinstance(profiles, str) else list(profiles)
    names = [name for text in given for name in ([text] if Path(text).is_file() else text.split(","))]
    return [Path(name) if Path(name).is_file() else profile_path(bundle, name) for name in names]


def profile_path(bundle: Path, profile: str) -> Path:
    """Return the file of a profile.

    Args:
        bundle: the bundle's folder.
        profile: file stem under ``configs/profiles``.

    Raises:
        ValueError: if there is no such profile.
    """
    path = bundle / "configs" / "profiles" / f"{profile}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.json")))
        raise ValueError(f"bundle {bundle.name} has no profile {profile}; use one of {known}")
    return path


def configured(config: Mapping[str, Any], bundle: Path, overrides: Iterable[Mapping[str, Any]] = ()) -> ConfigParser:
    """Return a config with overrides laid over it, ready to build what it describes.

    Args:
        config: its content, unchanged by this.
        bundle: the bundle's folder, ``bundle_root``.
        overrides: flat objects, the later wins.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser(deepcopy(dict(config)))  # what is laid over it may go deep
    parser["bundle_root"] = str(bundle)
    for own in overrides:
        for key, value in own.items():
            parser[key] = value
    return parser


def read_config(bundle: Path, name: str, profiles: Sequence[Path] = ()) -> ConfigParser:
    """Return a config of a bundle with profiles laid over it.

    Args:
        bundle: the bundle's folder.
        name: "train" or "inference", which are complete in themselves.
        profiles: override files, the later wins.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if one is no JSON object.
    """
    config = read_json(bundle / "configs" / f"{name}.json")
    return configured(config, bundle, [read_json(path) for path in profiles])

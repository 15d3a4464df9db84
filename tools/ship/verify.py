"""Check a packed bundle before it is used. As ``pack`` writes it beside the zips, this file needs nothing else of us.

python verify.py NAME_vX.Y.Z.zip          a zip on the disk, checked against the SHA256SUMS beside it
python verify.py https://host/NAME.zip    the same, downloaded first
python verify.py folder/NAME              what a zip was unpacked to
python verify.py folder/NAME --against https://host/NAME_vX.Y.Z.zip     is the folder that zip's?
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

from tools.ship.metadata_schema import SCHEMA

MANIFEST, CARD, PAGE, CARD_DATA = "SHA256SUMS", "README.md", "docs/README.md", "docs/model_card.yml"
REQUIREMENTS = "requirements.txt"
# What belongs to no bundle and harms none: engines, made of the weights where it is used, and what Hugging Face adds.
APART = ("models/engines/", ".gitattributes", ".cache/huggingface/")
REQUIRED = (
    "LICENSE",
    REQUIREMENTS,
    "configs/metadata.json",
    "configs/inference.json",
    "configs/train.json",
    PAGE,
    CARD_DATA,
    "docs/data_license.txt",
    "models/model.pt",
    "custom_networks/__init__.py",
)
# Runs in a process of its own, without the repository on its path.
NETWORK = """
import json, pathlib, sys
import torch
from monai.bundle import ConfigParser
folder = pathlib.Path(sys.argv[1])
meta = json.loads((folder / "configs" / "metadata.json").read_text())["network_data_format"]
config = ConfigParser()
config.read_config(folder / "configs" / "inference.json")
config["bundle_root"] = str(folder)
network = config.get_parsed_content("network_def").eval()
network.load_state_dict(torch.load(folder / "models" / "model.pt", map_location="cpu", weights_only=True))
source = pathlib.Path(sys.modules["custom_networks"].__file__)
image, pred = (next(iter(meta[side].values())) for side in ("inputs", "outputs"))
with torch.no_grad():
    answer = network(torch.zeros(1, image["num_channels"], *image["spatial_shape"]))
print(json.dumps({"own": folder.resolve() in source.resolve().parents, "source": str(source),
                  "shape": list(answer.shape), "finite": bool(answer.isfinite().all())}))
"""


def verify(source: str, against: str | None = None, sha256: str | None = None) -> None:
    """Check a packed bundle: checksums, contents, metadata, versions, weights, network. Prints a line for each.

    The network is built and run only if every file is as it was packed. The checksums tell that nothing was changed
    on the way, not who made the zip: get ``SHA256SUMS`` or the digest from a place that you trust.

    Args:
        source: a zip, its URL, or the folder that it was unpacked to.
        against: for a folder, a zip or URL that it should be the contents of: MONAI keeps an older folder in silence.
        sha256: digest that the zip must have, instead of the one in ``SHA256SUMS`` beside it.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if anything is wrong; the sentence names every problem.
    """
    with tempfile.TemporaryDirectory() as scratch, _unpacked(source, Path(scratch), sha256) as (folder, problems):
        if not problems:
            problems += _report("files", lambda: _files(folder))
        if against is not None:
            problems += _report("same as the zip", lambda: _same(folder, against))
        if problems:
            print("not looked at: metadata, versions, weights and network, since the files are not as packed")
        else:
            for name, check in CHECKS.items():
                problems += _report(name, lambda check=check: check(folder))  # type: ignore[misc]
    if problems:
        raise ValueError(f"{source} is not sound: {'; '.join(problems)}")
    print(f"{source} is sound")


def _report(name: str, check: Callable[[], str]) -> list[str]:
    """Run a check and print what it found, a sentence or a list of problems."""
    try:
        print(f"ok      {name}: {check()}")
    except Problems as error:
        print("\n".join(f"PROBLEM {name}: {problem}" for problem in error.args))
        return list(error.args)
    return []


class Problems(Exception):  # noqa: N818 - there may be several
    """What a check found, a sentence per argument."""


def _stop(problems: list[str]) -> None:
    if problems:
        raise Problems(*problems)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _sums(text: str) -> dict[str, str]:
    """Return digest by name of a file that sha256sum writes."""
    sums = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if match is None:
            raise Problems(f"{MANIFEST} has a line that is no checksum: {line!r}; get the bundle again")
        sums[match[2]] = match[1]
    return sums


@contextmanager
def _unpacked(source: str, scratch: Path, sha256: str | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folder of a bundle, unpacked if need be, and the problems of its zip."""
    if Path(source).is_dir():
        if sha256 is not None:
            raise ValueError(f"{source} is a folder, which has no digest; give sha256 with a zip")
        yield Path(source).resolve(), []
        return
    path, sums = _fetched(source, scratch)
    problems = _report("zip", lambda: _zip_digest(path, sums, sha256))
    try:
        with zipfile.ZipFile(path) as archive:
            problems += _report("members", lambda: _members(archive, path))
            if not problems:
                archive.extractall(scratch / "unpacked")
            top = archive.namelist()[0].partition("/")[0] if archive.namelist() else ""
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{source} is no sound zip ({error}); download it again") from error
    yield scratch / "unpacked" / top, problems


def _fetched(source: str, scratch: Path) -> tuple[Path, str | None]:
    """Return the zip as a file and the text of the SHA256SUMS beside it, if there is one."""
    if "://" not in source:
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"{source} does not exist; give a zip, its URL, or an unpacked folder")
        beside = path.with_name(MANIFEST)
        return path, beside.read_text() if beside.is_file() else None
    path = scratch / Path(urllib.parse.unquote(urllib.parse.urlparse(source).path)).name
    path.write_bytes(_download(source))
    try:
        return path, _download(urllib.parse.urljoin(source, MANIFEST)).decode()
    except OSError:
        return path, None


def _download(url: str) -> bytes:
    if urllib.parse.urlparse(url).scheme not in ("http", "https", "file"):
        raise ValueError(f"{url} is no address of a file; give an http, https or file URL")
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            return bytes(response.read())
    except OSError as error:
        raise OSError(f"{url} cannot be read ({error}); check the address and the connection") from error


def _zip_digest(path: Path, sums: str | None, sha256: str | None) -> str:
    found = _digest(path)
    wanted = sha256 if sha256 is not None else _sums(sums or "").get(path.name)
    if wanted is None:
        return f"no digest to compare with (no line for {path.name} in a {MANIFEST} beside it), sha256 {found}"
    if wanted.lower() != found:
        raise Problems(f"{path.name} has the sha256 {found}, not {wanted}; download it again")
    return f"sha256 {found}"


def _members(archive: zipfile.ZipFile, path: Path) -> str:
    """Check that a zip holds one folder with the bundle's name, and only plain files inside it."""
    names = [member.filename for member in archive.infolist()]
    if not names:
        raise Problems(f"{path.name} is empty; download it again")
    problems = []
    for member in archive.infolist():
        parts = PurePosixPath(member.filename.replace("\\", "/")).parts
        if member.filename.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            problems.append(f"member {member.filename} would leave the folder; do not unpack this zip")
        elif stat.S_ISLNK(member.external_attr >> 16):
            problems.append(f"member {member.filename} is a link; do not unpack this zip")
    problems += [
        f"member {name} is there twice; do not unpack this zip" for name in {n for n in names if names.count(n) > 1}
    ]
    tops = {name.partition("/")[0] for name in names}
    expected = re.sub(r"(_v\d[\d.]*)?\.zip$", "", path.name)
    if tops != {expected}:
        problems.append(f"{path.name} holds {', '.join(sorted(tops))} instead of one folder {expected}; pack it again")
    _stop(problems)
    return f"{len(names)}, all inside {expected}/"


def _files(folder: Path) -> str:
    """Compare every file with the manifest."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise Problems(f"{folder.name} has no {MANIFEST}; only packed bundles can be verified")
    sums = _sums(manifest.read_text())
    files = {str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if not path.is_dir()}
    there = {name for name in files - {MANIFEST} if not name.startswith(APART)}
    remark = _other_card(folder) if CARD in there and sums.get(CARD) != _digest(folder / CARD) else ""
    if remark:
        there.remove(CARD)
        sums.pop(CARD, None)
    problems = [f"{name} is missing" for name in sorted(set(sums) - there)]
    problems += [f"{name} was added since packing; delete it" for name in sorted(there - set(sums))]
    problems += [f"{name} was changed" for name in sorted(there & set(sums)) if _digest(folder / name) != sums[name]]
    problems += [f"{name} was not packed" for name in REQUIRED if name not in sums]
    _stop(problems)
    return f"{len(sums)} as packed{remark}"


def _other_card(folder: Path) -> str:
    """Say what is wrong with the README.md that ``push_to_hf_hub`` writes; nothing if it is not that."""
    if not all((folder / name).is_file() for name in (CARD, PAGE, CARD_DATA)):
        return ""
    card, page, data = ((folder / name).read_text("utf-8", "replace") for name in (CARD, PAGE, CARD_DATA))
    head, text = _split_card(card)
    if not head or text != page:
        return ""
    said, wanted = (re.findall(r"^license: *(.+)$", part, re.MULTILINE) or ["none"] for part in (head, data))
    return (
        f"; {CARD} is another card, which gives the weights the licence {said[0]}, and theirs is {wanted[0]}: take the "
        "card of the zip"
    )


def _split_card(text: str) -> tuple[str, str]:
    """Return the YAML at the head of a page and the rest."""
    match = re.match(r"---\n(.*?)\n---\n+", text, re.DOTALL)
    return (match[1], text[match.end() :]) if match else ("", text)


def _same(folder: Path, against: str) -> str:
    """Compare the manifest of a folder with that of a zip."""
    with tempfile.TemporaryDirectory() as scratch:
        path, sums = _fetched(against, Path(scratch))
        _zip_digest(path, sums, None)
        if not zipfile.is_zipfile(path):
            raise Problems(f"{against} is no zip; give a packed bundle")
        with zipfile.ZipFile(path) as archive:
            name = next((n for n in archive.namelist() if n.endswith(f"/{MANIFEST}") and n.count("/") == 1), None)
            if name is None:
                raise Problems(f"{against} has no {MANIFEST}; give a packed bundle")
            wanted = archive.read(name)
            newer = json.loads(archive.read(f"{name.partition('/')[0]}/configs/metadata.json"))["version"]
    if (folder / MANIFEST).is_file() and (folder / MANIFEST).read_bytes() == wanted:
        return f"version {newer}"
    own = _metadata(folder).get("version", "unknown")
    raise Problems(
        f"the folder holds version {own}, the zip version {newer} with other files; delete the folder, download again"
    )


def _metadata(folder: Path) -> dict:
    try:
        return dict(json.loads((folder / "configs" / "metadata.json").read_text()))
    except (OSError, ValueError) as error:
        raise Problems(f"configs/metadata.json cannot be read ({error}); get the bundle again") from error


def _check_metadata(folder: Path) -> str:
    metadata = _metadata(folder)
    problems = []
    try:
        from jsonschema import Draft202012Validator
    except ModuleNotFoundError:
        schema = "not compared with its schema, since jsonschema is not installed"
    else:
        schema = "fits its schema"
        for error in Draft202012Validator(SCHEMA).iter_errors(metadata):
            problems.append(f"metadata.json: {'/'.join(map(str, error.path)) or 'top level'}: {error.message}")
    own = metadata.get("version")
    if own not in metadata.get("changelog", {}):
        problems.append(f"metadata.json: the changelog does not know version {own}")
    packed = re.search(rf"^# {re.escape(folder.name)} (.+)$", (folder / REQUIREMENTS).read_text(), re.MULTILINE)
    if packed is None or packed[1] != own:
        problems.append(
            f"metadata.json has version {own}, {REQUIREMENTS} is of {packed[1] if packed else 'another bundle'}; "
            "pack the bundle again"
        )
    _stop(problems)
    return f"version {own}, {schema}"


def _check_versions(folder: Path) -> str:
    """Compare the installed packages with the requirements."""
    from packaging.requirements import Requirement

    found, problems = [], []
    for line in (folder / REQUIREMENTS).read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        need = Requirement(line)
        try:
            installed = version(need.name)
        except PackageNotFoundError:
            problems.append(f"{need.name} is not installed; pip install '{need}'")
            continue
        found.append(f"{need.name} {installed}")
        if not need.specifier.contains(installed, prereleases=True):
            problems.append(f"{need.name} {installed} is installed, the bundle needs {need}; pip install '{need}'")
    _stop(problems)
    return ", ".join(found)


def _check_weights(folder: Path) -> str:
    """Load the weights without letting them run code."""
    import torch

    try:
        state = torch.load(folder / "models" / "model.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a malicious or broken pickle makes of it
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Problems(f"models/model.pt is no plain state dict ({reason}); do not load it") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise Problems("models/model.pt holds more than tensors by name; pack the bundle again")
    return f"{len(state)} tensors, {sum(value.numel() for value in state.values()):,} numbers, no code"


def _check_network(folder: Path) -> str:
    """Build the network from the bundle's own code and compare the shape of its answer with the documented one."""
    command = [sys.executable, "-B", "-c", NETWORK, str(folder)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as scratch:
        run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=scratch, check=False)
    if run.returncode:
        last = [line for line in run.stderr.splitlines() if line.strip()][-1:]
        raise Problems(f"the network cannot be built and run ({''.join(last)}); check the versions above")
    found = json.loads(run.stdout.splitlines()[-1])
    documented = next(iter(_metadata(folder)["network_data_format"]["outputs"].values()))
    grid = documented["spatial_shape"] if documented["type"] == "image" else []
    wanted = [1, documented["num_channels"], *grid]
    _stop(
        [f"the network came from {found['source']}, not from the bundle"] * (not found["own"])
        + [f"the network answers with the shape {found['shape']}, metadata.json says {wanted}"]
        * (found["shape"] != wanted)
        + ["the network answers with numbers that are not finite"] * (not found["finite"])
    )
    return f"answers with the shape {wanted}"


CHECKS: dict[str, Callable[[Path], str]] = {
    "metadata": _check_metadata,
    "versions": _check_versions,
    "weights": _check_weights,
    "network": _check_network,
}


def main() -> int:
    """Run :func:`verify` from the command line; the exit code is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description="Check a packed bundle: checksums, contents, weights and network.")
    parser.add_argument("source", help="a zip, its URL, or the folder that it was unpacked to")
    parser.add_argument("--against", help="a zip or URL that the folder should be the contents of")
    parser.add_argument("--sha256", help="digest that the zip must have, instead of the one in SHA256SUMS beside it")
    arguments = parser.parse_args()
    try:
        verify(arguments.source, arguments.against, arguments.sha256)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

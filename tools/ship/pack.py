"""Pack bundles into zips that a web server or a release can host."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import torch

from custom_networks.bundle_folder import find_bundle
from tools import ROOT
from tools.recipes.markdown import drop_clone
from tools.recipes.render import all_bundles
from tools.ship import verify
from tools.ship.lint import bundle_problems
from tools.ship.lint_configs import Problem

MODEL_INFO = Path("bundles", "model_info.json")
PACKED = ("LICENSE", "configs/**/*", "docs/**/*", "models/model.pt", "models/training_data.json")
HEAD_CONFIG = Path("configs", "inference_head.json")
MOMENT = (1980, 1, 1, 0, 0, 0)  # the first that a zip can name: the same bytes at any time


def pack(bundle: str | None = None, out: str = "dist", base_url: str = "", all: bool = False) -> list[Path]:  # noqa: A002
    """Write ``<name>_vX.Y.Z.zip`` of a bundle, or of all, with everything that is needed to host them.

    A zip holds one folder: the bundle's configs, pages and weights with what is known of their data, the whole
    ``custom_networks``, ``requirements.txt``, ``README.md``, the page as the model card of a hub, and ``SHA256SUMS``;
    packing the same tree twice gives the same bytes. The pages name no command of the repository.
    Beside the zips ``out`` holds ``SHA256SUMS``, ``model_info.json`` and the stand-alone ``verify.py``. The entries go
    into ``bundles/model_info.json`` as well. A version whose zip is listed there is final: other contents need another
    version.

    Args:
        bundle: name or folder of the bundle.
        out: folder to write to; zips of other bundles in it stay and stay listed.
        base_url: address of the folder that the zips will be downloaded from, for ``model_info.json``.
        all: pack every bundle instead of one.

    Raises:
        ValueError: if neither or both of ``bundle`` and ``all`` are given, or a bundle cannot be packed; nothing of any
            bundle is written then.
    """
    if (bundle is None) != all:
        raise ValueError("give one bundle, or --all")
    folders = [find_bundle(spec.name) for spec in all_bundles()] if bundle is None else [find_bundle(bundle)]
    info_file = ROOT / MODEL_INFO
    known = json.loads(info_file.read_text()) if info_file.is_file() else {}
    zips: dict[str, bytes] = {}
    info: dict[str, Any] = {}
    for folder in folders:
        _refuse(bundle_problems(folder), folder)
        name = f"{folder.name}_v{_metadata(folder)['version']}"
        zips[name] = content = _zip(folder)
        info[name] = {
            "checksum": hashlib.sha1(content).hexdigest(),
            "source": f"{base_url.rstrip('/')}/{name}.zip" if base_url else f"{name}.zip",
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        if name in known and known[name]["sha256"] != info[name]["sha256"]:
            raise ValueError(
                f"{name} was packed before with other contents ({info_file}); add a version to the "
                f"changelog in tools/recipes/bundles/{folder.name}.py and render the bundles"
            )
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in zips.items():
        written.append(target / f"{name}.zip")
        written[-1].write_bytes(content)
    _write_json(info_file, known | info)
    listed = target / "model_info.json"
    _write_json(listed, (json.loads(listed.read_text()) if listed.is_file() else {}) | info)
    (target / "verify.py").write_text(stand_alone(Path(verify.__file__).read_text()))
    files = sorted([*target.glob("*.zip"), target / "verify.py", listed])
    (target / verify.MANIFEST).write_text("".join(_line(path.read_bytes(), path.name) for path in files))
    for path in written:
        print(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB)")
    return written


def stand_alone(text: str) -> str:
    """Return a module with what it imports from the tools in the place of the imports.

    Args:
        text: its source; what it imports must import nothing from the repository.
    """

    def source(match: re.Match[str]) -> str:
        own = Path(str(importlib.import_module(match[1]).__file__)).read_text()
        return own.partition("from __future__ import annotations\n")[2].lstrip()

    return re.sub(r"^from (tools\.[\w.]+) import .+\n", source, text, flags=re.MULTILINE)


def _refuse(problems: Sequence[Problem], folder: Path) -> None:
    if problems:
        listed = "; ".join(str(problem) for problem in problems)
        number = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        raise ValueError(f"{folder.name} is not packed, {number}: {listed}")


def _metadata(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "configs" / "metadata.json").read_text()))


def _line(content: bytes, name: str) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(dict(sorted(content.items())), indent=2) + "\n")


def _contents(folder: Path) -> dict[str, bytes]:
    """Return every file of the zip by its name under the bundle's folder, the manifest last."""
    files = {path for pattern in PACKED for path in folder.glob(pattern) if path.is_file()}
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    for path in (ROOT / "custom_networks").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            contents[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    contents[verify.REQUIREMENTS] = _requirements(folder).encode()
    missing = [name for name in verify.REQUIRED if name not in contents]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}; train the bundle, or render it, first")
    contents["models/model.pt"] = _plain(contents["models/model.pt"], folder)
    page = drop_clone(contents[verify.PAGE].decode())
    contents[verify.PAGE] = page.encode()
    contents[verify.CARD] = f"---\n{contents[verify.CARD_DATA].decode()}---\n\n{page}".encode()
    contents = dict(sorted(contents.items()))
    contents[verify.MANIFEST] = "".join(_line(content, name) for name, content in contents.items()).encode()
    return contents


def _requirements(folder: Path) -> str:
    """Return the package's requirements under the versions that the bundle was made with."""
    metadata = _metadata(folder)
    named = {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
    }
    made_with = named | metadata["required_packages_version"]
    return "\n".join(
        [
            f"# {folder.name} {metadata['version']}",
            f"# Made with {', '.join(f'{name} {number}' for name, number in made_with.items())}.",
            *sorted(_needs(heads=(folder / HEAD_CONFIG).is_file())),
            "",
        ]
    )


def _needs(*, heads: bool) -> list[str]:
    """Return what the package requires, and with heads what its extra of that name does."""
    found = []
    for need in requires("custom_networks") or []:
        requirement, _, marker = need.partition(";")
        if "extra ==" not in marker or (heads and re.search(r"extra == .head.", marker)):
            found.append(requirement.strip() if "extra ==" in marker else need)
    return found


def _plain(content: bytes, folder: Path) -> bytes:
    """Check that the weights are a plain float32 state dict without auxiliary objects."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{folder}/models/model.pt cannot be loaded as weights only; train the bundle again"
        ) from error
    wrong = (
        [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
        if isinstance(state, dict)
        else ["it"]
    )
    if wrong:
        raise ValueError(f"{folder}/models/model.pt: {wrong[0]} is no tensor; keep the network's state dict alone")
    return content


def _zip(folder: Path) -> bytes:
    """Return the zip of a bundle: sorted members, one moment, one mode."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in _contents(folder).items():
            member = zipfile.ZipInfo(f"{folder.name}/{name}", MOMENT)
            member.compress_type, member.external_attr, member.create_system = zipfile.ZIP_DEFLATED, 0o100644 << 16, 3
            archive.writestr(member, content)
    return buffer.getvalue()

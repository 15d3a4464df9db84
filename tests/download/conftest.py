"""The packed bundles on a local web server, and an empty environment that knows nothing of the repository."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import threading
import venv
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from tests.synthetic import BUNDLES, KINDS, ROOT, SEGMENTATION, Kind, kind
from tools.ship import pack as module

NO_CACHE = shutil.ignore_patterns("__pycache__")


def packed(folder: Path) -> Path:
    """Pack every bundle with ``model_info.json`` outside the repository."""
    root = folder / "root"
    (root / "bundles").mkdir(parents=True)
    (root / "custom_networks").symlink_to(ROOT / "custom_networks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROOT", root)
        module.pack(all=True, out=str(folder / "dist"))
    return folder / "dist"


def clean_environment() -> dict[str, str]:
    """Return this environment without what points to another Python."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")}


@pytest.fixture(scope="session")
def dist(tmp_path_factory) -> Path:
    return packed(tmp_path_factory.mktemp("pack"))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def site(dist):
    """Return the address of a web server that hosts the folder ``dist``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(dist)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def python(dist, tmp_path_factory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs Python in a new environment with what ``requirements.txt`` of a zip names."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "venv", with_pip=True)
    binary = folder / "venv" / "bin" / "python"
    for path in dist.glob("*.zip"):
        with ZipFile(path) as archive:
            (name,) = [
                name for name in archive.namelist() if name.count("/") == 1 and name.endswith("requirements.txt")
            ]
            (folder / f"{path.stem}.txt").write_bytes(archive.read(name))
    wanted = [argument for path in sorted(folder.glob("*.txt")) for argument in ("-r", str(path))]
    pip = [
        str(binary),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "-q",
        "-c",
        str(ROOT / "constraints.txt"),
    ]
    subprocess.run([*pip, *wanted], check=True, cwd=folder, capture_output=True)

    def run(*arguments: str, cwd: Path, fails: bool = False) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [str(binary), *arguments], cwd=cwd, env=clean_environment(), capture_output=True, text=True, check=False
        )
        assert (result.returncode != 0) is fails, (result.stdout + result.stderr)[-4000:]
        return result

    return run


@pytest.fixture(scope="session")
def installed(python, tmp_path_factory) -> Callable[..., str]:
    """Return a function that runs a script of an environment with this package's wheel, and returns its output."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "custom_networks", folder / "source" / "custom_networks", ignore=NO_CACHE)
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder / "source")
    python("-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(folder / "source"), cwd=folder)
    venv.create(folder / "venv", with_pip=True)
    binaries = folder / "venv" / "bin"
    packages = python("-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).stdout.strip()
    own = subprocess.run(
        [str(binaries / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    (Path(own.stdout.strip()) / "requirements.pth").write_text(f"{packages}\n")
    (wheel,) = folder.glob("*.whl")
    pip = ["-m", "pip", "install", "--disable-pip-version-check", "-q", "--no-deps", str(wheel)]
    subprocess.run([str(binaries / "python"), *pip], check=True, cwd=folder, capture_output=True)
    shutil.rmtree(folder / "source")

    def run(script: str, *arguments: str, cwd: Path) -> str:
        command = [str(binaries / script), *arguments]
        result = subprocess.run(command, cwd=cwd, env=clean_environment(), capture_output=True, text=True, check=False)
        assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
        return result.stdout

    return run


@pytest.fixture(scope="session", params=BUNDLES, ids=lambda path: path.name)
def bundle(request) -> Path:
    return request.param


@pytest.fixture(scope="session")
def downloads(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def downloaded(bundle, site, python, downloads) -> Path:
    """Return the folder that ``monai.bundle download`` makes."""
    return download(bundle, site, python, downloads)


def download(bundle: Path, site: str, python: Any, downloads: Path) -> Path:
    if not (downloads / bundle.name).is_dir():
        url = f"{site}/{bundle.name}_v{version(bundle)}.zip"
        arguments = ["--name", bundle.name, "--url", url, "--bundle_dir", str(downloads)]
        python("-m", "monai.bundle", "download", *arguments, cwd=downloads)
    return downloads / bundle.name


def version(bundle: Path) -> str:
    return str(json.loads((bundle / "configs" / "metadata.json").read_text())["version"])


@pytest.fixture(scope="session")
def _datasets(tmp_path_factory) -> dict[Kind, Path]:
    return {kind: kind.write(tmp_path_factory.mktemp(name)) for name, kind in KINDS.items()}


@pytest.fixture(scope="session")
def dataset(bundle, _datasets) -> Path:
    return _datasets[kind(bundle)]


@pytest.fixture
def dataset_of_segmentation(_datasets) -> Path:
    return _datasets[kind(SEGMENTATION[0])]


def last_json(result: subprocess.CompletedProcess[str]) -> Any:
    """Return what a script printed last, as JSON."""
    return json.loads(result.stdout.splitlines()[-1])

"""A packed bundle."""

from __future__ import annotations

import json
import zipfile

import pytest

from tests.synthetic import CLASSIFICATION
from tools.ship import pack as module
from tools.ship.pack import pack

SOURCE = CLASSIFICATION[0]
NAME = f"{SOURCE.name}_v{json.loads((SOURCE / 'configs' / 'metadata.json').read_text())['version']}"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Put model_info.json into an empty folder."""
    own = tmp_path / "root"
    (own / "bundles").mkdir(parents=True)
    (own / "custom_networks").symlink_to(module.ROOT / "custom_networks")
    monkeypatch.setattr(module, "ROOT", own)
    return own


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Return a folder with one packed bundle."""
    own = tmp_path_factory.mktemp("pack")
    (own / "bundles").mkdir()
    (own / "custom_networks").symlink_to(module.ROOT / "custom_networks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROOT", own)
        pack(str(SOURCE), out=str(own / "dist"), base_url="https://example.org/dist/")
    return own / "dist"


@pytest.fixture
def folder(dist, tmp_path):
    """Return the unpacked bundle."""
    with zipfile.ZipFile(dist / f"{NAME}.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path / SOURCE.name

"""Bundles are found by name, folder, zip and address, and say what they are."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from custom_networks import bundle_folder
from custom_networks.bundle_folder import (
    configured,
    find_bundle,
    known_bundles,
    profile_path,
    read_config,
    task_of,
    version_of,
)
from tests.synthetic import BUNDLES, CLASSIFICATION, SEGMENTATION, config

BUNDLE = SEGMENTATION[0]


def packed(folder: Path, name: str = "mine", version: str = "0.1.0") -> Path:
    """Write a zip of a bundle's configs and return it."""
    source = folder / "source" / name
    shutil.copytree(BUNDLE / "configs", source / "configs", dirs_exist_ok=True)
    metadata = source / "configs" / "metadata.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "version": version}))
    return Path(shutil.make_archive(str(folder / f"{name}_v{version}"), "zip", folder / "source", name))


def test_names_and_folders(monkeypatch):
    assert known_bundles() == sorted(BUNDLES)
    monkeypatch.chdir(BUNDLE.parent)
    for name in (BUNDLE.name, f"{BUNDLE.name}/", str(BUNDLE), f"../bundles/{BUNDLE.name}"):
        assert find_bundle(name) == BUNDLE
    for name in (None, "nothing", "/nowhere/at.all"):
        with pytest.raises(ValueError, match=rf"one of adrenal.*{BUNDLE.name}.*, or the folder of a bundle, its zip"):
            find_bundle(name)


def test_a_packed_bundle_is_its_own_default(tmp_path, monkeypatch):
    shutil.copytree(BUNDLE / "configs", tmp_path / "packed" / "configs")
    monkeypatch.setattr(bundle_folder, "HOME", tmp_path / "packed")
    assert find_bundle() == find_bundle("packed") == tmp_path / "packed"
    assert known_bundles() == [tmp_path / "packed"]


def test_an_installation_knows_those_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_folder, "HOME", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^give --bundle: the folder of a bundle, its zip or the address of its zip$"):
        find_bundle()
    shutil.copytree(BUNDLE / "configs", tmp_path / "one" / "configs")
    shutil.copytree(BUNDLE / "configs", tmp_path / "bundles" / "two" / "configs")
    assert [folder.name for folder in known_bundles()] == ["two", "one"]
    assert find_bundle("two") == tmp_path / "bundles" / "two"


def test_a_zip_is_unpacked_beside_itself_once(tmp_path, capsys):
    file = packed(tmp_path)
    shutil.rmtree(tmp_path / "source")
    folder = find_bundle(str(file))
    assert folder == tmp_path / "mine"
    assert version_of(folder) == "0.1.0"
    assert capsys.readouterr() == ("", f"unpacked: {folder}\n")
    (folder / "models").mkdir()
    (folder / "models" / "model.pt").touch()
    assert find_bundle(str(file)) == folder
    assert (folder / "models" / "model.pt").is_file(), "what was trained in the folder stays"
    assert capsys.readouterr() == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", file.name]
    with pytest.raises(ValueError, match=r"mine is another version than .*mine_v0\.2\.0\.zip; move it away"):
        find_bundle(str(packed(tmp_path, version="0.2.0")))


def test_what_a_mac_adds_to_a_zip_is_passed_over(tmp_path):
    file = packed(tmp_path)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("__MACOSX/mine/configs/._train.json", "")
        archive.writestr(".DS_Store", "")
    shutil.rmtree(tmp_path / "source")
    assert find_bundle(str(file)) == tmp_path / "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", file.name]


def test_a_zip_that_cannot_be_used(tmp_path):
    with pytest.raises(ValueError, match=r"there is no zip .*absent\.zip; correct the path"):
        find_bundle(str(tmp_path / "absent.zip"))
    (tmp_path / "text.zip").write_text("not found")
    with pytest.raises(ValueError, match=r"text\.zip cannot be unpacked .*; delete it and download it again"):
        find_bundle(str(tmp_path / "text.zip"))
    pair = ["configs/train.json", "configs/metadata.json"]
    outside = [[f"{top}/{name}" for name in pair] for top in ("..", ".", "")]
    for names in (
        ["a/configs/train.json", "b/other"],
        ["a/readme.md"],
        ["train.json"],
        ["a/configs/train.json"],
        *outside,
    ):
        with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
            for name in names:
                archive.writestr(name, "{}")
        with pytest.raises(ValueError, match=r"odd\.zip holds no bundle"):
            find_bundle(str(tmp_path / "odd.zip"))
    file = packed(tmp_path)
    content = bytearray(file.read_bytes())
    content[1000:1100] = bytes(100)
    (tmp_path / "broken.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.zip cannot be unpacked \(.*\); delete it and download it again"):
        find_bundle(str(tmp_path / "broken.zip"))
    assert not (tmp_path / "mine").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="mine exists and is no bundle; move it away"):
        find_bundle(str(file))
    assert list((tmp_path / "mine").iterdir()) == []


def test_members_stay_in_the_folder(tmp_path):
    file = packed(tmp_path / "site")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("mine/../../outside", "")
    folder = find_bundle(str(file))
    assert not list(tmp_path.rglob("outside")) or (folder / "outside").is_file()
    assert not (tmp_path / "outside").exists()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_an_address_is_downloaded_once(tmp_path, monkeypatch):
    file = packed(tmp_path / "site")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "site")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        assert find_bundle(f"{address}/{file.name}") == tmp_path / "here" / "mine"
        with pytest.raises(OSError, match=r"cannot be downloaded .*404"):
            find_bundle(f"{address}/absent.zip")
        (tmp_path / "site" / "half.zip").write_bytes(file.read_bytes()[:-100])
        for name in ("half.zip", "a b.zip"):
            with pytest.raises(OSError, match=r"cannot be downloaded .*; check the address and the connection"):
                find_bundle(f"{address}/{name}")
    finally:
        server.shutdown()
        server.server_close()
    assert find_bundle(f"{address}/{file.name}") == tmp_path / "here" / "mine"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["mine", file.name]
    with pytest.raises(ValueError, match="is not the address of a zip"):
        find_bundle(f"{address}/page.html")


def test_tasks(tmp_path):
    assert {task_of(bundle) for bundle in SEGMENTATION} == {"segmentation"}
    assert {task_of(bundle) for bundle in CLASSIFICATION} == {"classification"}
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{}")
    with pytest.raises(ValueError, match=r"metadata\.json says no type of its output pred; give image or"):
        task_of(tmp_path)


def test_profiles_are_laid_over_a_config_and_the_later_wins(tmp_path):
    first, later = tmp_path / "first.json", tmp_path / "later.json"
    first.write_text('{"epochs": 3, "network_def#dropout": 0.5}')
    later.write_text('{"epochs": 4}')
    parser = read_config(BUNDLE, "train", [first, later])
    assert parser["epochs"] == 4
    assert parser["network_def"] == {**config(BUNDLE)["network_def"], "dropout": 0.5}
    assert parser["bundle_root"] == str(BUNDLE)
    assert profile_path(BUNDLE, "removal").is_file()
    with pytest.raises(ValueError, match=f"bundle {BUNDLE.name} has no profile nothing; use one of demo"):
        profile_path(BUNDLE, "nothing")


def test_a_name_finds_what_monai_has_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "bundle" / "fetched"
    shutil.copytree(BUNDLE / "configs", folder / "configs")
    assert find_bundle("fetched") == folder
    assert folder not in known_bundles()
    shutil.copytree(BUNDLE / "configs", folder.parent / BUNDLE.name / "configs")
    assert find_bundle(BUNDLE.name) == BUNDLE  # what lies beside the command comes first
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_bundle("fetched") == folder


def test_monai_downloads_to_where_a_name_is_looked_for(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    for variable, value in (("TORCH_HOME", tmp_path / "one"), ("XDG_CACHE_HOME", tmp_path / "two")):
        monkeypatch.delenv("TORCH_HOME", raising=False)
        monkeypatch.setenv(variable, str(value))
        folder = Path(torch.hub.get_dir()) / "bundle" / "mine"
        shutil.copytree(BUNDLE / "configs", folder / "configs")
        assert bundle_folder.downloaded_bundles() == [folder]


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_files_that_are_not_as_packed_are_named(tmp_path, damage):
    folder = tmp_path / "source" / "mine"
    shutil.copytree(BUNDLE / "configs", folder / "configs")
    assert bundle_folder.changed_files(folder) == []
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.json"))]
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))
    assert bundle_folder.changed_files(folder) == []
    file = folder / "configs" / "inference.json"
    if damage == "change":
        file.write_text("{}")
    else:
        file.unlink()
    assert bundle_folder.changed_files(folder) == ["configs/inference.json"]
    archive = Path(shutil.make_archive(str(tmp_path / "mine"), "zip", folder.parent, "mine"))
    with pytest.raises(
        ValueError, match=r"inference.json is not as its checksum says\); delete it and download it again"
    ):
        find_bundle(str(archive))
    assert not (tmp_path / "mine").exists()


def test_what_is_laid_over_a_config_leaves_it_alone():
    config = {"train": {"dataset": {"data": ["all", "cases"]}}, "epochs": 3}
    parser = configured(config, SEGMENTATION[0], [{"train#dataset#data": ["few"], "epochs": 1}])
    assert parser["train#dataset#data"] == ["few"]
    assert config == {"train": {"dataset": {"data": ["all", "cases"]}}, "epochs": 3}

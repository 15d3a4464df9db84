"""Packed bundles: what is in them, the same bytes twice, and that verify finds every change."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from tests.synthetic import SEGMENTATION
from tests.tools.ship.conftest import NAME, SOURCE
from tools.ship.lint import bundle_problems
from tools.ship.pack import pack
from tools.ship.verify import MANIFEST, verify

pytestmark = pytest.mark.slow


def rezip(folder, tmp_path, manifest=True, extra=()):
    """Zip a folder again, its manifest made anew, as somebody with the tools could."""
    if manifest:
        names = sorted(
            p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST
        )
        lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
        (folder / MANIFEST).write_text("".join(lines))
    path = tmp_path / f"{NAME}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{folder.name}/{file.relative_to(folder)}")
        for name, content in extra:
            archive.writestr(name, content)
    return path


def test_the_same_bytes_twice(root, dist, tmp_path):
    pack(str(SOURCE), out=str(tmp_path / "again"), base_url="https://example.org/dist")
    for name in (f"{NAME}.zip", "model_info.json", "verify.py", MANIFEST):
        assert (tmp_path / "again" / name).read_bytes() == (dist / name).read_bytes()


def test_what_is_written(dist):
    content = (dist / f"{NAME}.zip").read_bytes()
    info = json.loads((dist / "model_info.json").read_text())
    assert info == json.loads((dist.parent / "bundles" / "model_info.json").read_text())
    assert info[NAME] == {
        "checksum": hashlib.sha1(content).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "source": f"https://example.org/dist/{NAME}.zip",
    }
    with zipfile.ZipFile(dist / f"{NAME}.zip") as archive:
        names = [name.removeprefix(f"{SOURCE.name}/") for name in archive.namelist()]
        requirements = archive.read(f"{SOURCE.name}/requirements.txt").decode()
    assert {"custom_networks/registry.py", "custom_networks/py.typed", "models/model.pt", "LICENSE"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith(("eval", "models/model.o"))]
    assert "torch<3,>=2.8" in requirements.splitlines()
    assert ("README.md" in names) and ("docs/model_card.yml" in names)
    lines = (dist / MANIFEST).read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == [f"{NAME}.zip", "model_info.json", "verify.py"]


def test_a_version_that_was_packed_is_final(root, tmp_path):
    listed = root / "bundles" / "model_info.json"
    other = {"another_v0.1.0": {"checksum": "c", "sha256": "s", "source": "u"}}
    listed.write_text(json.dumps(other))
    pack(str(SOURCE), out=str(tmp_path / "dist"))
    assert list(json.loads(listed.read_text())) == sorted([NAME, *other])
    listed.write_text(json.dumps({NAME: {"checksum": "c", "sha256": "s", "source": "u"}}))
    with pytest.raises(
        ValueError, match=rf"{NAME} was packed before with other contents .*; add a version to the changelog in tools"
    ):
        pack(str(SOURCE), out=str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_what_a_training_writes_beside_the_weights_is_not_packed(root, dist, tmp_path):
    """It names a folder of this machine; the bundle's own folds name the cases."""
    trained = tmp_path / SOURCE.name
    shutil.copytree(SOURCE, trained)
    (trained / "models" / "training_cases.json").write_text("{}")
    (trained / "models" / "engines").mkdir()
    (trained / "models" / "engines" / "0.onnx").touch()
    assert not bundle_problems(trained)
    pack(str(trained), out=str(tmp_path / "dist"))
    assert (tmp_path / "dist" / f"{NAME}.zip").read_bytes() == (dist / f"{NAME}.zip").read_bytes()


def test_what_is_known_of_the_training_data_is_packed(root, tmp_path):
    source = next(bundle for bundle in SEGMENTATION if "attention_unet" in bundle.name)
    (written,) = pack(str(source), out=str(tmp_path / "dist"))
    with zipfile.ZipFile(written) as archive:
        content = archive.read(f"{source.name}/models/training_data.json")
    assert content == (source / "models" / "training_data.json").read_bytes()


def test_what_lint_refuses_is_not_packed(root, tmp_path):
    broken = tmp_path / SOURCE.name
    shutil.copytree(SOURCE, broken, ignore=shutil.ignore_patterns("runs"))
    (broken / "LICENSE").unlink()
    with pytest.raises(ValueError, match=f"{SOURCE.name} is not packed, 1 problem: LICENSE: is missing"):
        pack(str(broken), out=str(tmp_path / "dist"))
    shutil.copyfile(SOURCE / "LICENSE", broken / "LICENSE")
    torch.save({"model": {"weight": torch.zeros(1)}}, broken / "models" / "model.pt")
    with pytest.raises(ValueError, match=r"model.pt: model is no tensor; keep the network's state dict alone"):
        pack(str(broken), out=str(tmp_path / "dist"))
    (broken / "models" / "model.pt").write_bytes(pickle.dumps({"weight": print}))
    with pytest.raises(ValueError, match=r"model.pt cannot be loaded as weights only; train the bundle again"):
        pack(str(broken), out=str(tmp_path / "dist"))
    with pytest.raises(ValueError, match=r"give one bundle, or --all"):
        pack(out=str(tmp_path / "dist"))
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("place", ["zip", "url", "folder"])
def test_a_packed_bundle_is_sound(dist, folder, place, capsys):
    source = {"zip": dist / f"{NAME}.zip", "url": (dist / f"{NAME}.zip").as_uri(), "folder": folder}[place]
    verify(str(source))
    lines = list(capsys.readouterr().out.splitlines()[:-1])
    assert all(line.startswith("ok ") for line in lines)
    assert len(lines) == (5 if place == "folder" else 7)
    assert lines[-1] == "ok      network: answers with the shape [1, 2]"


def test_verify_runs_where_the_repository_is_not(dist, tmp_path):
    command = [sys.executable, "-P", str(dist / "verify.py"), str(dist / f"{NAME}.zip")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{NAME}.zip is sound" in done.stdout
    done = subprocess.run([*command[:-1], "absent.zip"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: absent.zip does not exist; give a zip, its URL, or an unpacked folder\n"


KINDS = [
    "LICENSE",
    "requirements.txt",
    "configs/train.json",
    "docs/README.md",
    "README.md",
    "models/model.pt",
    "custom_networks/plugging.py",
]


@pytest.mark.parametrize("name", KINDS)
def test_a_flipped_byte_is_found(folder, name, tmp_path):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    for source in (folder, rezip(folder, tmp_path, manifest=False)):
        with pytest.raises(ValueError, match=f"not sound: {name} was changed$"):
            verify(str(source))


def test_a_flipped_byte_of_the_zip_is_found(dist, tmp_path):
    shutil.copytree(dist, tmp_path / "dist")
    path = tmp_path / "dist" / f"{NAME}.zip"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"has the sha256 [0-9a-f]{64}, not [0-9a-f]{64}; download it again"):
        verify(str(path))
    with pytest.raises(ValueError, match="has the sha256"):
        verify(str(dist / f"{NAME}.zip"), sha256="0" * 64)


def test_added_and_removed_files_are_found(folder):
    (folder / "models" / "engines").mkdir()
    (folder / "models" / "engines" / "0.onnx").touch()  # what using a bundle leaves there is no change of it
    (folder / "custom_networks" / "extra.py").write_text("print('hello')\n")
    (folder / "configs" / "logging.conf").unlink()
    found = "configs/logging.conf is missing; custom_networks/extra.py was added since packing; delete it$"
    with pytest.raises(ValueError, match=found):
        verify(str(folder))
    (folder / MANIFEST).unlink()
    with pytest.raises(ValueError, match=f"has no {MANIFEST}; only packed bundles can be verified"):
        verify(str(folder))


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (f"{SOURCE.name}/../../evil.py", "evil.py would leave the folder; do not unpack this zip"),
        ("/etc/evil", "member /etc/evil would leave the folder"),
        (f"{SOURCE.name}/LICENSE", "LICENSE is there twice; do not unpack this zip"),
        ("other/LICENSE", f"holds {SOURCE.name}, other instead of one folder {SOURCE.name}"),
    ],
    ids=["parent", "absolute", "twice", "two folders"],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_would_leave_the_folder_are_found(folder, tmp_path, member, message):
    path = rezip(folder, tmp_path, extra=[(member, "evil")])
    with pytest.raises(ValueError, match=message):
        verify(str(path))
    assert not list(tmp_path.parent.rglob("evil.py"))


def test_a_link_is_found(folder, tmp_path):
    link = zipfile.ZipInfo(f"{SOURCE.name}/link")
    link.external_attr = 0o120777 << 16
    with pytest.raises(ValueError, match="link is a link; do not unpack this zip"):
        verify(str(rezip(folder, tmp_path, extra=[(link, "/etc/passwd")])))


class Evil:
    """Touches a file where it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_is_found(folder, tmp_path):
    ran = tmp_path / "ran"
    torch.save({"weight": Evil(ran)}, folder / "models" / "model.pt")
    with pytest.raises(ValueError, match=r"models/model.pt is no plain state dict \(.*\); do not load it"):
        verify(str(rezip(folder, tmp_path)))
    assert not ran.exists()


def edit(folder, change):
    file = folder / "configs" / "metadata.json"
    metadata = json.loads(file.read_text())
    change(metadata)
    file.write_text(json.dumps(metadata))


def test_a_wrong_version_is_found(folder, tmp_path):
    edit(folder, lambda metadata: metadata.update(version="0.2.0"))
    found = "the changelog does not know version 0.2.0; metadata.json has version 0.2.0, requirements.txt is of 0.1.0"
    with pytest.raises(ValueError, match=found):
        verify(str(rezip(folder, tmp_path)))


def test_wrong_metadata_are_found(folder, tmp_path):
    edit(folder, lambda metadata: metadata.pop("authors"))
    edit(folder, lambda metadata: metadata["network_data_format"]["outputs"]["pred"].update(num_channels=3))
    with pytest.raises(
        ValueError, match=r"'authors' is a required.*answers with the shape \[1, 2\], metadata.json says"
    ):
        verify(str(rezip(folder, tmp_path)))


def test_packages_that_do_not_fit_are_found(folder, tmp_path):
    file = folder / "requirements.txt"
    file.write_text(file.read_text() + "torch>=9\nno-such-package>=1\n")
    found = r"is installed, the bundle needs torch>=9; pip install 'torch>=9'; no-such-package is not installed; pip"
    with pytest.raises(ValueError, match=found):
        verify(str(rezip(folder, tmp_path)))


def test_a_stale_folder_is_recognised(dist, folder, tmp_path, capsys):
    verify(str(folder), against=str(dist / f"{NAME}.zip"))
    assert "ok      same as the zip: version 0.1.0" in capsys.readouterr().out
    shutil.copytree(folder, tmp_path / "new" / folder.name)
    edit(tmp_path / "new" / folder.name, lambda metadata: metadata.update(version="0.2.0"))
    newer = rezip(tmp_path / "new" / folder.name, tmp_path)
    with pytest.raises(
        ValueError, match=r"the folder holds version 0.1.0, the zip version 0.2.0 with other files; delete"
    ):
        verify(str(folder), against=str(newer))


def test_a_flipped_byte_is_found_without_checksums_beside_the_zip(dist, tmp_path):
    path = tmp_path / f"{NAME}.zip"
    content = bytearray((dist / path.name).read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is no sound zip \(.*\); download it again"):
        verify(str(path))


def test_a_folder_is_compared_with_zips_only(folder, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"a.zip is no zip; give a packed bundle"):
        verify(str(folder), against=str(tmp_path / "a.zip"))


def test_no_zip(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"a.zip is no sound zip"):
        verify(str(tmp_path / "a.zip"))
    with zipfile.ZipFile(tmp_path / "b.zip", "w"):
        pass
    with pytest.raises(ValueError, match=r"b.zip is empty; download it again"):
        verify(str(tmp_path / "b.zip"))
    with pytest.raises(OSError, match=r"cannot be read .*; check the address and the connection"):
        verify((tmp_path / "absent.zip").as_uri())
    with pytest.raises(ValueError, match="give an http, https or file URL"):
        verify("ftp://example.org/a.zip")
    with pytest.raises(ValueError, match="is a folder, which has no digest"):
        verify(str(tmp_path), sha256="0")


def test_weights_that_hold_more_than_tensors(folder, tmp_path):
    torch.save({"epoch": 3}, folder / "models" / "model.pt")
    with pytest.raises(ValueError, match=r"models/model.pt holds more than tensors by name; pack the bundle again"):
        verify(str(rezip(folder, tmp_path)))


def test_a_network_that_cannot_be_built(folder, tmp_path):
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(1)}, buffer)
    (folder / "models" / "model.pt").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"the network cannot be built and run .*; check the versions above"):
        verify(str(rezip(folder, tmp_path)))

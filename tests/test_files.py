"""Files that name themselves where they are broken, and appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os

import pytest

from custom_networks.files import checksum, new_folder, read_json, replacing, write_text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "mine.json is not valid JSON .*; correct it"),
        (b"[" * 100_000, "mine.json is not valid JSON .*; correct it"),
        (b"[1]", "mine.json is not a JSON object; correct it"),
        (b'{"a": "\xff"}', "mine.json is not valid JSON .*utf-8.*; correct it"),
    ],
)
def test_what_is_no_json_object_is_named(tmp_path, content, sentence):
    file = tmp_path / "mine.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_json(file)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*mine\.json; correct the path"):
        read_json(tmp_path / "mine.json")


def test_json_is_read_as_utf_8(tmp_path):
    (tmp_path / "mine.json").write_bytes('{"name": "Ä"}'.encode())
    assert read_json(tmp_path / "mine.json") == {"name": "Ä"}


def test_a_file_is_replaced_whole_or_stays(tmp_path):
    file = tmp_path / "new" / "report.txt"
    write_text(file, "one")

    def fail() -> None:
        with replacing(file) as partial:
            assert partial.suffix == file.suffix
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert file.read_text() == "one"
    write_text(file, "twö")
    assert file.read_bytes() == "twö".encode()
    assert list(file.parent.iterdir()) == [file]


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    def fsync(number):
        synced.append((os.fstat(number).st_ino, file.read_text()))

    file, synced = tmp_path / "report.txt", []
    write_text(file, "one")
    monkeypatch.setattr(os, "fsync", fsync)
    write_text(file, "two")
    assert synced == [(file.stat().st_ino, "one")]

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/report\.txt'"):
        write_text(file, "three")
    assert file.read_text() == "two"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "data"

    def fail() -> None:
        with new_folder(target, "data") as folder:
            (folder / "half").touch()
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert list(tmp_path.iterdir()) == []
    with new_folder(target, "data") as folder:
        (folder / "whole").touch()
    assert [path.name for path in target.iterdir()] == ["whole"]
    with (
        pytest.raises(ValueError, match=r"data is not empty and is not other data; remove it"),
        new_folder(target, "other data"),
    ):
        pass


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.csv'"), replacing(tmp_path / "a.csv"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_checksum_of_a_file(tmp_path):
    content = bytes(range(256)) * 5000  # more than one block
    (tmp_path / "file").write_bytes(content)
    assert checksum(tmp_path / "file") == hashlib.sha256(content).hexdigest()

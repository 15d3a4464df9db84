"""Folders that cannot be written are refused, and nothing is left of the attempt."""

from __future__ import annotations

import errno
import os
import tempfile

import pytest

from custom_networks.workflow import check_outputs
from custom_networks.workflow.guard import outputs
from custom_networks.workflow.guard.interrupts import Progress


@pytest.fixture(autouse=True)
def progress(monkeypatch):
    own = Progress()
    monkeypatch.setattr(outputs, "PROGRESS", own)
    return own


def test_nothing_is_left_of_folders_that_can_be_written(tmp_path, progress):
    (tmp_path / "there").mkdir()
    check_outputs(tmp_path / "there", str(tmp_path / "a" / "b"))
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    assert progress.output_dir == tmp_path / "there"


@pytest.mark.parametrize("knob", ["output_dir", "ckpt_dir"])
@pytest.mark.parametrize("below", [".", "inside", "deep/inside"])
def test_a_file_where_the_folder_should_be(tmp_path, knob, below):
    (tmp_path / "file").write_text("mine")
    folders = {"output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "out", knob: tmp_path / "file" / below}
    reason = "file exists" if below == "." else "not a directory"
    with pytest.raises(ValueError, match=rf"\A{knob} .*file.* cannot be written \({reason}\); set {knob} to a folder"):
        check_outputs(**folders)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_noticed(tmp_path, monkeypatch):
    class Full:
        def __init__(self, **_):
            pass

        def __enter__(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", Full)
    with pytest.raises(ValueError, match=r"output_dir .*new cannot be written \(no space left on device\)"):
        check_outputs(tmp_path / "new")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(ValueError, match=r"cannot be written \(permission denied\)"):
        check_outputs(tmp_path / "closed" / "new")


def test_of_several_processes_the_first_looks(tmp_path, monkeypatch):
    monkeypatch.setattr("custom_networks.workflow.guard.outputs.idist.get_rank", lambda: 1)
    (tmp_path / "file").write_text("")
    check_outputs(tmp_path / "file")

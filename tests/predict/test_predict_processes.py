"""The command in processes of its own: what it imports, and images shared out by torchrun."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import pytest

from custom_networks.predict.quick_import import OPTIONAL
from tests.predict.conftest import BUNDLE
from tests.processes import environment
from tests.synthetic import ROOT, read_rows, volume, write_nifti

pytestmark = pytest.mark.slow

WHAT_IS_IMPORTED = """
import sys
from custom_networks.__main__ import main
code = main(sys.argv[1:])
print(code, *(name for name in {names} if name in sys.modules))
import matplotlib.pyplot
"""


def test_what_segments_nothing_is_not_imported(images, tmp_path):
    script = WHAT_IS_IMPORTED.format(names=OPTIONAL)
    profile = tmp_path / "mine.json"
    profile.write_text('{"largest_component": true}')
    arguments = [images, "--bundle", BUNDLE, "--out", tmp_path / "result", "--profile", profile]
    done = subprocess.run(
        [sys.executable, "-c", script, "predict", *map(str, arguments)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0", done.stderr


def test_torchrun_shares_the_images_out_and_waits_for_those_that_fail(images, tmp_path):
    (images / "broken.nii.gz").write_bytes(b"nothing")
    for number in range(4):
        write_nifti(volume(number)[0], images / f"more_{number}.nii.gz")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "custom_networks"]
    arguments = ["predict", images, "--bundle", BUNDLE, "--out", tmp_path / "result", "--json"]
    done = subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    statuses = [(line["case"], line["status"]) for line in lines if line["event"] == "image"]
    assert sorted(statuses) == [
        ("broken", "failed"),
        *((name, "written") for name in ("first", "more/third", "more_0", "more_1", "more_2", "more_3", "second")),
    ]
    assert len(read_rows(tmp_path / "result" / "volumes.csv")) == 14


STOPS_ITSELF = """
import os, signal, sys
from custom_networks.__main__ import main
from custom_networks.predict import terminal
original = terminal.Lines.show
def stop(self, record, *more):
    original(self, record, *more)
    os.kill(os.getpid(), signal.{name})
terminal.Lines.show = stop
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_leaves_what_is_done_and_nothing_else(images, tmp_path, name, code):
    (tmp_path / "scratch").mkdir()
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        for path in images.rglob("*.nii*"):
            archive.write(path, path.relative_to(images))
    arguments = ["predict", tmp_path / "scans.zip", "--bundle", BUNDLE, "--out", tmp_path / "r"]
    done = subprocess.run(
        [sys.executable, "-c", STOPS_ITSELF.format(name=name), *map(str, arguments)],
        cwd=ROOT, env=environment(TMPDIR=str(tmp_path / "scratch")), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stderr.splitlines()[-1] == "interrupted"
    assert not [path for path in (tmp_path / "scratch").iterdir() if path.name.startswith("custom_networks_")]
    records = list((tmp_path / "r").rglob("*_seg.json"))
    assert 1 <= len(records) < 3
    assert len(read_rows(tmp_path / "r" / "volumes.csv")) == 2 * len(records)
    assert not list((tmp_path / "r").rglob(".partial*"))

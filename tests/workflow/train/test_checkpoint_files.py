"""A file that is no checkpoint, or not one of ours, is refused with the reason."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from custom_networks.workflow import load_weights
from custom_networks.workflow.train.checkpoint_files import read_checkpoint
from tests.processes import environment

ROOT = Path(__file__).resolve().parents[3]
STATE = {"weight": torch.zeros(2, 300), "bias": torch.zeros(2)}


class Malicious:
    """What unpickling would run."""

    def __reduce__(self):
        return (Path.touch, (Path("pwned"),))


def safetensors(path):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))


def truncated(path, **arguments):
    torch.save(STATE, path, **arguments)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def beginning_of_legacy(path):
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:40])


def damaged(path):
    torch.save(STATE, path)
    content = path.read_bytes()
    place = content.index(b"OrderedDict") if b"OrderedDict" in content else content.index(b"_rebuild_tensor_v2")
    path.write_bytes(content[:place] + b"\xff\xff" + content[place + 2 :])


def other_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/a.txt", "x")


def torchscript(path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


def exported(path):
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), path)


SAFETY = r"which is not loaded for safety; save its state dict alone, with torch\.save\(network\.state_dict\(\), path\)"
TRUNCATED = "is not a readable checkpoint, it may be truncated; copy it again or train anew"
CODE = "is a TorchScript archive, which holds code beside the weights; load it with torch.jit"
UNDER = "save the state dict that is under"
WITH_NUMPY = {"model": STATE, "best": np.float64(1)}
FILES = {
    "empty": (lambda path: path.write_bytes(b""), TRUNCATED),
    "cut": (truncated, TRUNCATED),
    "cut, larger": (
        lambda path: (torch.save(torch.zeros(9000), path), path.write_bytes(path.read_bytes()[:5000])),
        TRUNCATED,
    ),
    "cut, old": (lambda path: truncated(path, _use_new_zipfile_serialization=False), TRUNCATED),
    "cut early, old": (beginning_of_legacy, TRUNCATED),
    "text": (lambda path: path.write_text("not a checkpoint"), "is no checkpoint, torch.save did not write it"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "is no checkpoint, torch.save did not write it"),
    "numpy": (
        lambda path: torch.save(WITH_NUMPY, path),
        f"holds a number of numpy, {SAFETY}",
    ),
    "model": (lambda path: torch.save(nn.Linear(2, 2), path), rf"holds torch\.nn\.modules\.linear\.Linear, {SAFETY}"),
    "code": (lambda path: torch.save({"model": Malicious()}, path), rf"holds \S+, {SAFETY}"),
    "TorchScript": (
        torchscript,
        "is a TorchScript archive, which holds code beside the weights; load it with torch.jit",
    ),
    "export": (exported, "is a zip that torch.save did not write; give a checkpoint"),
    "zip": (other_zip, "is a zip that torch.save did not write; give a checkpoint"),
    "safetensors": (safetensors, r"is a safetensors file; read it with safetensors\.torch\.load_file and write"),
    "folder": (lambda path: path.mkdir(), r"is a folder; give the checkpoint in it, such as \S+/model\.pt"),
    "damaged": (damaged, r"is not a readable checkpoint \([^)]+.*\); copy it again or train anew"),
    "list": (lambda path: torch.save([1, 2], path), "holds a list where a state dict is expected; give a checkpoint"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("case", FILES)
def test_the_reason_is_named(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    write, message = FILES[case]
    write(tmp_path / "a.pt")
    with pytest.raises(ValueError, match=rf"\A\S+/a\.pt {message}[^\n]*\Z") as caught:
        read_checkpoint(tmp_path / "a.pt")
    assert ("truncated" in str(caught.value)) == ("truncated" in message)
    assert not (tmp_path / "pwned").exists()


def test_there_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*none\.pt: .* set ckpt_dir"):
        read_checkpoint(tmp_path / "none.pt")


NESTED = {
    "nnU-Net": (
        {"network_weights": STATE, "trainer_name": "x"},
        "it has network_weights, trainer_name; save the state dict that is under 'network_weights' alone",
    ),
    "numbers": ({0: torch.zeros(2)}, "it has 0; give a state dict"),
    "empty": ({}, "it has nothing; give a state dict"),
    "model of no dictionary": (
        {"model": 3, "weights": STATE},
        "it has model, weights; save the state dict that is under 'weights'",
    ),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("case", NESTED)
def test_weights_that_lie_elsewhere(tmp_path, case, strict):
    content, message = NESTED[case]
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=rf"a\.pt holds no weights by their names, {message}"):
        load_weights(nn.Linear(300, 2), tmp_path / "a.pt", strict=strict)


def test_weights_are_found_bare_and_in_a_resumable_checkpoint(tmp_path):
    for content in (STATE, OrderedDict(STATE), {"model": STATE, "optimizer": {}}):
        torch.save(content, tmp_path / "a.pt")
        network = nn.Linear(300, 2)
        load_weights(network, tmp_path / "a.pt")
        assert not network.weight.any()


FULL = """
import resource, torch
from custom_networks.workflow.train.checkpoint_files import save_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    save_atomically({"a": torch.zeros(10000)}, "model.pt")
except ValueError as error:
    print(error)
"""


def test_a_full_disk_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("model.pt cannot be written (")
    assert done.stdout.endswith("); free some space, or set ckpt_dir to another folder\n")
    assert len(done.stdout.splitlines()) == 1
    assert not list(tmp_path.iterdir())

"""A folder with a training in it is not trained into anew, unless it is to be."""

from __future__ import annotations

import json
import os

import pytest
import torch.distributed as dist

from custom_networks.workflow import check_ckpt_dir, resume_from
from custom_networks.workflow.guard import restarts
from custom_networks.workflow.guard.finished_run import LABEL_APP, LAST, MODEL
from custom_networks.workflow.guard.lock import LOCK
from custom_networks.workflow.guard.restarts import note_begun, share_store
from tests.synthetic import BUNDLES, each


@pytest.fixture(autouse=True)
def _variables(monkeypatch):
    monkeypatch.delenv(LABEL_APP, raising=False)
    monkeypatch.setattr(restarts, "_STORES", [])


@pytest.fixture
def finished(tmp_path):
    folder = tmp_path / "finished"
    folder.mkdir()
    for name in (MODEL, LAST):
        (folder / name).touch()
    return folder


def test_three_ways_on(finished):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole sentence is compared
        check_ckpt_dir(finished, None)
    assert str(caught.value) == (
        f"{finished} holds model.pt and last_checkpoint.pt, which this training has not written; resume that one with "
        f"--resume_ckpt {finished / LAST}, give another folder as --ckpt_dir, or replace it with --overwrite True"
    )


@pytest.mark.parametrize(
    ("gone", "resume"), [(LAST, "and no last_checkpoint.pt to resume from"), (MODEL, "finished/last_checkpoint.pt")]
)
def test_one_of_the_two_is_enough(finished, gone, resume):
    (finished / gone).unlink()
    with pytest.raises(
        ValueError, match=rf"holds {LAST if gone == MODEL else MODEL}, which .*{resume}[,;] give another"
    ):
        check_ckpt_dir(str(finished), None)


def test_the_ways_on_are_open(finished, tmp_path):
    check_ckpt_dir(finished, str(finished / LAST))
    check_ckpt_dir(tmp_path / "absent", None)
    check_ckpt_dir(tmp_path, None)
    check_ckpt_dir(finished, None, overwrite=True)
    assert sorted(path.name for path in finished.iterdir()) == [LAST, MODEL]


def test_a_training_that_lies_elsewhere_is_another(finished, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / LAST).touch()
    with pytest.raises(ValueError, match="which this training has not written"):
        check_ckpt_dir(finished, tmp_path / "other" / LAST)


def test_nothing_overwrites_a_training_that_runs(finished):
    holder = {"process": 1, "host": "another", "boot": "other", "started": "2026-11-01 10:00:00"}
    (finished / LOCK).write_text(json.dumps(holder))
    for resumed, overwrite in ((finished / LAST, False), (None, True)):
        with pytest.raises(ValueError, match="is in use: there trains process 1 on another"):
            check_ckpt_dir(finished, resumed, overwrite)


def test_a_restart_goes_on_from_what_is_saved(finished, tmp_path):
    """What torchrun has started anew without having trained in this folder, such as after a refusal, is no restart."""
    given = tmp_path / "given.pt"
    note_begun(finished)  # without torchrun
    assert resume_from(finished, None) is None
    assert resume_from(finished, given) == str(given)
    store = dist.HashStore()
    share_store(dist.PrefixStore("start_0", store))
    note_begun(tmp_path / "other")
    assert resume_from(finished, None) is None
    with pytest.raises(ValueError, match="which this training has not written"):
        check_ckpt_dir(finished, None)
    note_begun(finished)
    share_store(dist.PrefixStore("start_1", store))
    assert resume_from(finished, None) == resume_from(finished, given) == str(finished / LAST)
    check_ckpt_dir(finished, str(finished / LAST))
    (finished / LAST).unlink()  # lost in the first epoch
    assert resume_from(finished, None) is None
    check_ckpt_dir(finished, None)


def test_monai_label_replaces_the_weights_of_its_copy(finished, tmp_path, monkeypatch):
    monkeypatch.setenv(LABEL_APP, str(finished.parent / "app"))
    with pytest.raises(ValueError, match="which this training has not written"):
        check_ckpt_dir(finished, None)
    monkeypatch.setenv(LABEL_APP, os.path.relpath(tmp_path))
    check_ckpt_dir(finished, None)


@each(BUNDLES)
def test_a_fine_tuning_never_goes_to_the_shipped_weights_by_itself(bundle):
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "train.json")
    parser.update({"bundle_root": str(bundle)})
    assert parser.get_parsed_content("ckpt_dir") == f"{bundle}/models"
    for weights in ("models/model.pt", "elsewhere.pt"):
        parser.update({"bundle_root": str(bundle), "finetune_ckpt": weights})
        parser.ref_resolver.reset()
        assert parser.get_parsed_content("ckpt_dir") == f"{bundle}/eval/finetuned"

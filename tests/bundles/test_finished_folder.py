"""A training that is there is refused at once by another into its folder, and replaced where that is wanted."""

from __future__ import annotations

import shutil

import pytest
import torch

from tests.synthetic import ONE_PER_RECIPE, each, read_rows, run, tiny_training

pytestmark = each(ONE_PER_RECIPE)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("start", ["another seed", "fine-tuning"])
def test_it_is_refused_before_any_data_are_looked_for(bundle, trained, tmp_path, refused, start):
    before = contents(trained)
    more = {"seed": 1} if start == "another seed" else {"finetune_ckpt": str(trained / "model.pt")}
    knobs = tiny_training(bundle, tmp_path / "absent", tmp_path / "out", ckpt_dir=str(trained), **more)
    sentence = refused(bundle, "train", knobs)
    assert sentence.startswith(
        f"{trained} holds model.pt and last_checkpoint.pt, which this training has not written; "
    )
    assert contents(trained) == before
    assert not (tmp_path / "out").exists()


def test_it_is_replaced_where_that_is_wanted(bundle, dataset, trained, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(trained, out)
    run(bundle, "train", tiny_training(bundle, dataset, out, epochs=1, overwrite=True))
    assert len(read_rows(out / "training_curve.csv")) == 1
    last = torch.load(out / "last_checkpoint.pt", weights_only=True)
    assert last["best_checkpoint"]["best_epoch"] == 1
    assert (out / "model.pt").read_bytes() != (trained / "model.pt").read_bytes()
    assert not (out / "training.lock").exists()

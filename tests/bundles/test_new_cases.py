"""An evaluation of cases that the training has not seen takes all of them; of those that it has, the held-out fold."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

from custom_networks.files import checksum
from tests.synthetic import IMAGES, ONE_PER_RECIPE, SEGMENTATION, each, kind, read_rows, run, tiny_training, weights

COUNT = 6


@pytest.fixture
def second(bundle, tmp_path):
    """Return a data set whose cases have other names, and the names of the cases in the report."""
    data = kind(bundle).write(tmp_path / "second")
    if bundle in SEGMENTATION:
        (data / "dataset.json").unlink()
        for folder in (data / IMAGES, data / "labelsTr"):
            for number, file in enumerate(sorted(folder.iterdir())):
                file.rename(folder / f"new_{number}.nii.gz") if number < COUNT else file.unlink()
        return data, [f"new_{number}" for number in range(COUNT)]
    (data / IMAGES).rename(data / "new")
    lines = (data / "labels.csv").read_text().splitlines()[1 : COUNT + 1]
    rows = [line.replace(IMAGES, "new").rpartition(",")[0] for line in lines]
    (data / "labels.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    return data, [row.partition(",")[0] for row in rows]


def cases_of(folder):
    report = next(path for name in ("metrics.csv", "predictions.csv") if (path := folder / name).is_file())
    return list(dict.fromkeys(row["case"] for row in read_rows(report)))


def record(folder):
    return json.loads((folder / "training_cases.json").read_text())


@each(ONE_PER_RECIPE)
def test_a_second_folder_is_evaluated_as_a_whole(bundle, trained, second, evaluate, caplog):
    data, names = second
    with caplog.at_level(logging.INFO):
        assert cases_of(evaluate(dataset_dir=str(data))) == names
    seen = kind(bundle).training_cases
    assert f"none of them is among the {seen} cases that {trained / 'model.pt'} was trained on" in caplog.text


@each(ONE_PER_RECIPE)
def test_a_second_folder_with_names_of_the_training_goes_by_folds(bundle, dataset, evaluate, tmp_path):
    copy, expected = tmp_path / "copy", kind(bundle).evaluated
    shutil.copytree(dataset, copy)
    if bundle not in SEGMENTATION:
        lines = (copy / "labels.csv").read_text().replace(",validation", ",training")
        (copy / "labels.csv").write_text(lines)
        expected = [f"{IMAGES}/case_{number:02d}.nii.gz" for number in (0, 1, 10, 11, 20, 21)]  # rank modulo five
    assert cases_of(evaluate(dataset_dir=str(copy))) == expected


@each(ONE_PER_RECIPE)
def test_the_record_is_beside_the_weights(bundle, dataset, trained):
    found = record(trained)
    # the training is shared by the processes of a run, the folder that it saw is that of one of them
    assert Path(found["dataset_dir"]).is_absolute()
    assert Path(found["dataset_dir"]).name == dataset.name
    assert found["validation"] == kind(bundle).held_out
    assert len(found["training"]) == kind(bundle).training_cases
    assert not {*found["training"]} & {*found["validation"]}
    assert found["earlier"] == []


@each(SEGMENTATION[:1])
def test_what_came_before_counts(bundle, dataset, trained, second, tmp_path):
    """Fine-tuned from the weights of another training, or resumed on other data."""
    data, names = second
    one, two = tmp_path / "one", tmp_path / "two"
    start = weights(trained / "model.pt")
    blank = {key: torch.zeros_like(value) for key, value in start.items() if "head" in key}
    shutil.copytree(trained, tmp_path / "weak", ignore=shutil.ignore_patterns("events*"))
    weak = tmp_path / "weak" / "model.pt"
    torch.save({**start, **blank}, weak)  # so that the training is better
    described = {**record(trained), "weights": checksum(weak)}
    weak.with_name("training_cases.json").write_text(json.dumps(described))
    run(bundle, "train", tiny_training(bundle, data, one, finetune_ckpt=str(weak)))
    assert record(one)["training"] == names[1:5]
    assert record(one)["earlier"] == record(trained)["training"]
    run(bundle, "train", tiny_training(bundle, dataset, two, **{"train#trainer#max_epochs": 1}))
    resumed = two / "last_checkpoint.pt"
    run(bundle, "train", tiny_training(bundle, data, two, resume_ckpt=str(resumed)))
    state = torch.load(resumed, weights_only=True)["training_cases"]
    assert (state["training"], state["earlier"]) == (names[1:5], record(trained)["training"])

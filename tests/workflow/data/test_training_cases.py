"""What a training records of its cases, and what an evaluation makes of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from custom_networks.workflow import TrainingCases, classification_data_list, segmentation_data_list
from custom_networks.workflow.data.training_cases import RECORD, find_seen_cases

NAMES = [f"case_{n}" for n in range(7)]
OTHERS = [f"scan_{n}" for n in range(6)]


def dataset(root: Path, names=NAMES, **sections) -> Path:
    """Write empty images and labels, and a dataset.json if there are sections."""
    for path in [root / folder / f"{name}.nii.gz" for name in names for folder in ("imagesTr", "labelsTr")]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if sections:
        lists = {
            section: [{"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in members]
            for section, members in sections.items()
        }
        write(root / "dataset.json", lists)
    return root


def write(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def entries(names):
    return [{"case": name} for name in names]


def weights(folder: Path, content: bytes = b"weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.pt").write_bytes(content)
    return folder / "model.pt"


def trained(folder: Path, dataset_dir="elsewhere", training=NAMES[2:], validation=NAMES[:2], **options) -> Path:
    """Write weights and the record of the training that made them."""
    file = weights(folder)
    TrainingCases(dataset_dir, entries(training), entries(validation), **options).write(file)
    return file


def evaluated(root: Path, ckpt_path: Path, **options) -> list[str]:
    return [case["case"] for case in segmentation_data_list(root, "validation", ckpt_path=ckpt_path, **options)]


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def test_the_record_names_folder_and_cases(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = trained(tmp_path / "ckpt", "data", ["b", "a"], ["c"])
    record = json.loads(file.with_name(RECORD).read_text())
    assert len(record.pop("weights")) == 64
    assert record == {"dataset_dir": str(tmp_path / "data"), "training": ["a", "b"], "validation": ["c"], "earlier": []}
    seen = find_seen_cases(file)
    assert (seen.names, seen.dataset_dir) == ({"a", "b"}, tmp_path / "data")
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.pt", RECORD]


def test_cases_without_a_name_are_called_as_their_image():
    cases = TrainingCases("data", [{"image": "x/a.nii.gz"}, {"image": ["b.nrrd", "c.nrrd"]}], [])
    assert cases.training == ["a", "b"]


@pytest.mark.parametrize("count", [1, 6])
def test_a_folder_that_is_new_is_evaluated_as_a_whole(tmp_path, log, count):
    root, file = dataset(tmp_path / "data", OTHERS[:count]), trained(tmp_path / "ckpt")
    assert evaluated(root, file, fold=2) == OTHERS[:count]
    assert f"validation: {count} of {count} cases of {root} (" in log.text
    assert f"none of them is among the 5 cases that {file} was trained on)" in log.text
    assert "--fold all" not in log.text


def test_cases_that_chose_the_epoch_were_not_trained_on(tmp_path):
    assert evaluated(dataset(tmp_path / "data", NAMES[:2]), trained(tmp_path / "ckpt")) == NAMES[:2]


def test_known_names_go_by_folds_and_are_counted(tmp_path, log):
    root = dataset(tmp_path / "data", [*OTHERS, *NAMES[3:5]])
    assert evaluated(root, trained(tmp_path / "ckpt"), fold=1) == [NAMES[4], OTHERS[4]]
    assert "2 of 8 cases" in log.text
    assert "(2 of them, such as case_3, are called as one of the 5 cases that" in log.text
    assert "--fold all evaluates all" in log.text


def test_the_folder_of_the_training_goes_by_folds_under_any_names(tmp_path, log):
    root = dataset(tmp_path / "data", OTHERS)
    (tmp_path / "link").symlink_to(root)
    assert evaluated(root, trained(tmp_path / "ckpt", tmp_path / "link")) == [OTHERS[0], OTHERS[5]]
    assert "(the folder is that of the 5 cases that" in log.text


def test_without_a_record_it_goes_by_folds(tmp_path, log):
    root = dataset(tmp_path / "data", OTHERS)
    for file in (weights(tmp_path / "ckpt"), tmp_path / "ckpt" / "absent.pt"):
        log.clear()
        assert evaluated(root, file, fold=1) == OTHERS[1:2]
        assert f"(no {RECORD} beside {file} names those); where none of them was, --fold all" in log.text


def test_a_record_is_of_its_weights_only(tmp_path, log):
    """Of those that were there before, or that somebody has put there since, it knows nothing."""
    file = trained(tmp_path / "ckpt")
    weights(tmp_path / "ckpt", b"others")
    assert evaluated(dataset(tmp_path / "data", OTHERS), file) == [OTHERS[0], OTHERS[5]]
    assert f"({file.with_name(RECORD)} is of other weights than {file})" in log.text


def test_the_shipped_weights_know_the_folds_of_their_bundle(tmp_path, log):
    for folder in ("configs", "models"):
        (tmp_path / "bundle" / folder).mkdir(parents=True)
    folds = write(tmp_path / "bundle" / "configs" / "folds.json", {"folds": [NAMES[:3], NAMES[3:]]})
    shipped, root = weights(tmp_path / "bundle" / "models"), dataset(tmp_path / "data", OTHERS)
    assert evaluated(root, shipped, default_folds=folds) == OTHERS
    assert f"none of them is among the 7 cases in the bundle's own folds, {folds})" in log.text
    # its own data, weights elsewhere, and a bundle without folds
    assert evaluated(dataset(tmp_path / "own"), shipped, default_folds=folds) == NAMES[:3]
    assert evaluated(root, weights(tmp_path / "else"), default_folds=folds) == [OTHERS[0], OTHERS[5]]
    assert evaluated(root, shipped, default_folds=folds.with_name("none.json")) == [OTHERS[0], OTHERS[5]]
    # fine-tuned, they have seen these and their new ones
    tuned = trained(tmp_path / "tuned", training=["new"], finetune_ckpt=str(shipped), default_folds=folds)
    assert find_seen_cases(tuned).names == {*NAMES, "new"}
    again = trained(tmp_path / "again", training=["newer"], finetune_ckpt=tuned)
    assert find_seen_cases(again).names == {*NAMES, "new", "newer"}


@pytest.mark.parametrize(
    ("weights_fold", "fold", "said"),
    [
        (0, 0, None),
        (0, 1, "2 of the 4"),
        ("all", 0, "3 of the 3"),
        ("all", "all", "7 of the 7"),
        (None, 1, None),
    ],
)
def test_shipped_weights_name_what_they_were_trained_on_in_any_folder(tmp_path, log, weights_fold, fold, said):
    """Of three folds; validated are the cases 0 to 2 with fold 0, 3 to 6 with fold 1."""
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    content = {"folds": [NAMES[:3], NAMES[3:]]} if weights_fold != 0 else {"folds": [NAMES[:3] + NAMES[5:], NAMES[3:5]]}
    own = {} if weights_fold is None else {"weights_fold": weights_fold}
    folds = write(tmp_path / "bundle" / "configs" / "folds.json", {**content, **own})
    mine = write(tmp_path / "mine.json", {"folds": [NAMES[:3], NAMES[3:]]})
    shipped = weights(tmp_path / "bundle" / "models")
    evaluated(dataset(tmp_path / "data"), shipped, fold=fold, folds_file=mine, default_folds=folds)
    warnings = [record.message for record in log.records if record.levelname == "WARNING"]
    assert len(warnings) == (said is not None)
    assert all(f"{said} cases to evaluate, such as case_" in words for words in warnings)


@pytest.mark.parametrize("fold", [2, -1, True, "some", [0]])
def test_shipped_weights_of_no_fold_are_one_sentence(tmp_path, fold):
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    content = {"folds": [NAMES[:3], NAMES[3:]], "weights_fold": fold}
    folds = write(tmp_path / "bundle" / "configs" / "folds.json", content)
    with pytest.raises(ValueError, match=rf"^{folds} has weights_fold .* none of its folds; correct it$"):
        find_seen_cases(weights(tmp_path / "bundle" / "models"), folds)


def test_a_fine_tuning_that_validates_on_what_its_start_was_trained_on_says_so(tmp_path, log):
    start = trained(tmp_path / "start")
    TrainingCases("data", entries(NAMES[3:]), entries([NAMES[2], "new"]), start)
    assert (
        f"1 of the 2 cases to validate on, such as case_2, are called as some of the 5 cases that {start}" in log.text
    )
    log.clear()
    TrainingCases("data", entries(NAMES[3:]), entries([*NAMES[:2], "new"]), start)
    TrainingCases("data", entries(NAMES[3:]), entries(NAMES[:2]), weights(tmp_path / "unknown"))
    assert not log.text


def test_fine_tuned_from_unknown_weights_it_goes_by_folds(tmp_path, log):
    file = trained(tmp_path / "ckpt", finetune_ckpt=weights(tmp_path / "unknown"))
    assert evaluated(dataset(tmp_path / "data", OTHERS), file) == [OTHERS[0], OTHERS[5]]
    assert f"({file} are fine-tuned from weights whose cases nothing names)" in log.text


def test_weights_that_outlast_a_training_have_seen_none_of_its_cases(tmp_path, log):
    root = dataset(tmp_path / "data", OTHERS)
    for name, start in (("known", trained(tmp_path / "before")), ("unknown", weights(tmp_path / "else"))):
        kept = weights(tmp_path / name)
        TrainingCases(root, entries(OTHERS[1:]), entries(OTHERS[:1]), start).write_of_start(kept, start)
        known = name == "known"
        assert kept.with_name(RECORD).exists() == known
        assert find_seen_cases(kept).names == ({*NAMES[2:]} if known else None)
        assert evaluated(root, kept) == (OTHERS if known else [OTHERS[0], OTHERS[5]])


def test_a_resumed_training_has_seen_what_it_saw_before(tmp_path, log):
    before = TrainingCases("data", entries("ab"), entries("c")).state_dict()
    after = TrainingCases("data", entries("bd"), entries("c"))
    after.load_state_dict(json.loads(json.dumps(before)))
    assert after.state_dict() == {"training": ["b", "d"], "validation": ["c"], "earlier": ["a"]}
    assert "was begun on other cases: 1 of these are new, 1 of those are gone" in log.text
    log.clear()
    TrainingCases("data", entries("ab"), entries("c")).load_state_dict(before)
    assert not log.text
    after.load_state_dict({**before, "earlier": None})
    after.load_state_dict(before)
    assert after.state_dict()["earlier"] is None


def test_what_is_said_explicitly_decides(tmp_path, log):
    file = trained(tmp_path / "ckpt")
    root = dataset(tmp_path / "data", OTHERS, training=OTHERS[:4], validation=OTHERS[4:])
    assert evaluated(root, file) == OTHERS[4:]
    assert "(although none of them is among the 5 cases" in log.text
    folds = write(tmp_path / "mine.json", {"folds": [OTHERS[:1], OTHERS[1:]]})
    assert evaluated(root, file, folds_file=folds) == OTHERS[:1]
    assert evaluated(root, file, fold="all") == OTHERS


@pytest.mark.parametrize(("fold", "said"), [(0, None), (1, "2 of the 2"), ("all", "5 of the 7")])
def test_cases_that_were_trained_on_are_named(tmp_path, log, fold, said):
    """In the folder of a training whose validation was fold 0, the cases 0 and 5 of seven."""
    root, held = dataset(tmp_path / "data"), [NAMES[0], NAMES[5]]
    rest = [name for name in NAMES if name not in held]
    evaluated(root, trained(tmp_path / "ckpt", root, rest, held), fold=fold)
    warnings = [record.message for record in log.records if record.levelname == "WARNING"]
    assert len(warnings) == (said is not None)
    what = f"{said} cases to evaluate, such as case_1, are called as some of the 5 cases that"
    assert all(what in words for words in warnings)


def test_the_folds_file_of_the_training_says_nothing_of_other_cases(tmp_path):
    """The profile that trained has it, and serves the evaluation of a second folder, too."""
    folds, root = write(tmp_path / "mine.json", {"folds": [NAMES[:2], NAMES[2:]]}), dataset(tmp_path / "data", OTHERS)
    assert evaluated(root, trained(tmp_path / "ckpt"), folds_file=folds) == OTHERS
    with pytest.raises(ValueError, match="names no case of the data set"):
        evaluated(root, weights(tmp_path / "unknown"), folds_file=folds)


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        '{"training": [',
        "{}",
        {"training": ["a"], "validation": [1]},
        {"training": "a"},
        {"earlier": {}},
        {"dataset_dir": None},
    ],
)
def test_a_broken_record_is_one_sentence(tmp_path, content):
    file = trained(tmp_path / "ckpt").with_name(RECORD)
    write(file, content if isinstance(content, str) else {**json.loads(file.read_text()), **content})
    with pytest.raises(ValueError, match=rf"^{file} is (not|no) [^\n]+; (correct|delete) it[^\n]*$"):
        evaluated(dataset(tmp_path / "data", OTHERS), file.with_name("model.pt"))


def test_patches_that_are_new_are_evaluated_as_a_whole(tmp_path, log):
    rows = [f"p_{n}.nii.gz" for n in range(12)]
    for row in rows:
        (tmp_path / row).touch()
    (tmp_path / "labels.csv").write_text(
        "\n".join(["image,label", *(f"{row},{'ab'[n % 2]}" for n, row in enumerate(rows))])
    )

    def cases(file: Path, section: str = "validation") -> list[str]:
        chosen = classification_data_list(tmp_path, section, label_names=["a", "b"], fold=1, ckpt_path=file)
        return [str(case["case"]) for case in chosen]

    file = trained(tmp_path / "ckpt")
    assert cases(file) == sorted(rows)
    assert (
        f"validation: all of the 12 cases of {tmp_path / 'labels.csv'} (none of them is among the 5 cases" in log.text
    )
    assert len(cases(file, "held_out")) == 2
    for other in (trained(tmp_path / "known", training=rows[:3]), weights(tmp_path / "unknown")):
        log.clear()
        assert len(cases(other)) == 2
        assert "validation: fold 1 of the 12 cases" in log.text
        assert "; to evaluate all, give them a split of their own" in log.text

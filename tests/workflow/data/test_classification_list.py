"""The CSV of patches and classes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from custom_networks.workflow import classification_data_list

NAMES = ["normal", "hyperplasia"]


def write(folder: Path, rows: list[str], header: str = "image,label") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    for row in filter(None, rows):
        image = folder / row.split(",")[0].strip()
        image.parent.mkdir(exist_ok=True)
        image.touch()
    return folder


def many(split: bool = False) -> list[str]:
    """30 cases, every third a hyperplasia; with ``split``, 20 for training in two spellings, 4 and 6 for the rest."""
    rows = [f"p/{i:02d}.nii.gz,{NAMES[i % 3 == 0]}" for i in range(30)]
    words = ["training", ""] * 10 + ["validation"] * 4 + ["test"] * 6
    return [f"{row},{word}" for row, word in zip(rows, words, strict=True)] if split else rows


def names(cases: list[dict]) -> set[str]:
    return {Path(case["image"]).name for case in cases}


def test_folds_cover_all_cases_once_with_equal_shares_of_the_classes(tmp_path):
    folder = write(tmp_path, many()[::-1])
    seen: list[str] = []
    for fold in range(5):
        training, held_out = (
            classification_data_list(folder, section, label_names=NAMES, fold=fold)
            for section in ("training", "held_out")
        )
        assert sum(case["label"] for case in held_out) == 2
        assert len(held_out) == 6
        assert not names(training) & names(held_out)
        assert len(names(training) | names(held_out)) == 30
        seen += [Path(case["image"]).name for case in held_out]
    assert sorted(seen) == [f"{i:02d}.nii.gz" for i in range(30)]


def test_the_rule_and_the_classes(tmp_path):
    folder = write(tmp_path, many())
    held_out = classification_data_list(folder, "held_out", label_names=NAMES, fold=1)
    # Class 1 holds 00, 03, 06, ... (ranks 0, 1, 2, ...), class 0 holds 01, 02, 04, 05, ...
    want = {"03": 1, "18": 1, "02": 0, "10": 0, "17": 0, "25": 0}
    assert held_out == [
        {"image": str(folder / "p" / f"{name}.nii.gz"), "label": label, "case": f"p/{name}.nii.gz"}
        for name, label in sorted(want.items())
    ]


@pytest.mark.parametrize("header", ["image,label", "image,label,split"])
def test_without_another_split_every_other_section_is_the_held_out_fold(tmp_path, header):
    rows = many() if header == "image,label" else [f"{row},training" for row in many()]
    folder = write(tmp_path, rows, header)
    held_out = classification_data_list(folder, "held_out", label_names=NAMES, fold=2)
    for section in ("validation", "test"):
        assert classification_data_list(folder, section, label_names=NAMES, fold=2) == held_out


def test_the_folds_are_made_of_the_training_rows_only(tmp_path):
    folder = write(tmp_path, many(split=True), "image,label,split")
    for fold in range(5):
        sections = {
            section: names(classification_data_list(folder, section, label_names=NAMES, fold=fold))
            for section in ("training", "held_out", "validation", "test")
        }
        assert sections["validation"] == {f"{i}.nii.gz" for i in range(20, 24)}
        assert sections["test"] == {f"{i}.nii.gz" for i in range(24, 30)}
        assert sections["training"] | sections["held_out"] == {f"{i:02d}.nii.gz" for i in range(20)}
        assert not sections["training"] & sections["held_out"]


def test_the_folds_do_not_depend_on_the_other_splits(tmp_path):
    """A test set that is added later leaves a training as it was."""
    held_out = []
    for name, rows in (("without", many(split=True)[:20]), ("with", many(split=True))):
        folder = write(tmp_path / name, rows, "image,label,split")
        held_out.append(names(classification_data_list(folder, "held_out", label_names=NAMES, fold=3)))
    assert held_out[0] == held_out[1]


@pytest.mark.parametrize("section", ["Test", "testing"])
def test_an_unknown_split_names_those_there_are(tmp_path, section):
    folder = write(tmp_path, many(split=True), "image,label,split")
    with pytest.raises(ValueError, match=f"'{section}'.* has test, training, validation only"):
        classification_data_list(folder, section, label_names=NAMES)


@pytest.mark.parametrize("section", ["training", "held_out"])
def test_a_test_set_alone_can_be_evaluated_but_not_trained_on(tmp_path, section):
    folder = write(tmp_path, [f"{row},test" for row in many()], "image,label,split")
    assert len(classification_data_list(folder, "test", label_names=NAMES)) == 30
    with pytest.raises(ValueError, match=f"'{section}' needs rows of the split 'training', but .* has test only"):
        classification_data_list(folder, section, label_names=NAMES)


def test_a_class_that_only_one_split_has(tmp_path):
    """It can be measured there, but neither trained on nor measured elsewhere."""
    rows = [*many(split=True), "p/30.nii.gz,tumour,test"]
    folder = write(tmp_path, rows, "image,label,split")
    three = [*NAMES, "tumour"]
    assert {case["label"] for case in classification_data_list(folder, "test", label_names=three)} == {0, 1, 2}
    for section, condition in (("training", " with fold 0"), ("held_out", " with fold 0"), ("validation", ";")):
        with pytest.raises(ValueError, match=f"no {section} case of the class 'tumour'{condition}"):
            classification_data_list(folder, section, label_names=three)
    with pytest.raises(ValueError, match=r"line 32 of .* has the class 'tumour', which is none of normal, hyper"):
        classification_data_list(folder, "training", label_names=NAMES)


@pytest.mark.parametrize("label_names", [[], ["normal"], ["normal", "hyperplasia", "normal"]])
def test_label_names_are_two_or_more_different_ones(tmp_path, label_names):
    with pytest.raises(ValueError, match="label_names must be two or more different names, got "):
        classification_data_list(write(tmp_path, many()), "training", label_names=label_names)


@pytest.mark.parametrize("again", ["p/../a.nii", "./a.nii", "{folder}/a.nii", "link.nii"])
def test_one_file_in_two_spellings(tmp_path, again):
    folder = write(tmp_path, ["a.nii,normal", "p/b.nii,hyperplasia"])
    (folder / "link.nii").symlink_to("a.nii")
    with (folder / "labels.csv").open("a") as file:
        file.write(again.format(folder=folder) + ",hyperplasia\n")
    with pytest.raises(ValueError, match=r"names a\.nii in line 2 and the same file again in line 4; keep one"):
        classification_data_list(folder, "training", label_names=NAMES)


def test_line_numbers_count_empty_lines(tmp_path):
    folder = write(tmp_path, ["a.nii,normal", "", "b.nii,hyperplasie"])
    with pytest.raises(ValueError, match=r"line 4 of .* has the class 'hyperplasie'"):
        classification_data_list(folder, "training", label_names=NAMES)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding(tmp_path, encoding):
    (tmp_path / "labels.csv").write_bytes("image,label\na.nii,größer\n".encode(encoding))
    with pytest.raises(ValueError, match=r"labels\.csv cannot be read .*; save it as a CSV file in UTF-8"):
        classification_data_list(tmp_path, "training", label_names=NAMES)


def test_a_spreadsheet_with_a_byte_order_mark_and_spaces(tmp_path):
    folder = write(tmp_path, [row.replace(",", ", ") for row in many()])
    (folder / "labels.csv").write_bytes(b"\xef\xbb\xbf" + (folder / "labels.csv").read_bytes())
    assert len(classification_data_list(folder, "training", label_names=NAMES)) == 24


BAD = {
    "no-file": ([], None, FileNotFoundError, "no .*labels.csv; write a CSV file with the columns"),
    "columns": (["a,b"], "file,class", ValueError, "has the columns file, class; it needs image and label"),
    "extra-column": (["a,b,c"], "image,label,fold", ValueError, "has the columns image, label, fold; it needs"),
    "empty": ([], "image,label", ValueError, "has no row; add one image"),
    "twice": (
        ["a.nii,normal", "b.nii,normal", "a.nii,hyperplasia"],
        "image,label",
        ValueError,
        "names a.nii in line 2 and the same file again in line 4",
    ),
    "class": (
        ["a.nii,normal", "b.nii,hyperplasie"],
        "image,label",
        ValueError,
        "line 3 of .* the class 'hyperplasie', which is none of normal, hyp",
    ),
    "train": (
        ["a.nii,normal,train"],
        "image,label,split",
        ValueError,
        "line 2 of .* has the split 'train'; write it 'training' in every line",
    ),
    "upper-case": (
        ["a.nii,normal,test", "b.nii,normal,Test"],
        "image,label,split",
        ValueError,
        "line 3 of .* has the split 'Test'; write it 'test' in every line",
    ),
    "held_out": (
        ["a.nii,normal,held_out"],
        "image,label,split",
        ValueError,
        "line 2 of .* has the split 'held_out'; name it with letters only",
    ),
    "comma": (
        ["a.nii,normal", "b.nii,normal,test"],
        "image,label",
        ValueError,
        "line 3 of .* has more than 2 entries; quote",
    ),
    "short": (["a.nii"], "image,label", ValueError, "line 2 of .* has no image or no label; complete it"),
    "one-class": (
        [f"{i}.nii,normal" for i in range(9)],
        "image,label",
        ValueError,
        "leaves no training case of the class 'hyperplasia' with fold 0",
    ),
}


@pytest.mark.parametrize(("rows", "header", "kind", "message"), BAD.values(), ids=BAD.keys())
def test_bad_csv(tmp_path, rows, header, kind, message):
    if header is not None:
        write(tmp_path, rows, header)
    with pytest.raises(kind, match=message):
        classification_data_list(tmp_path, "training", label_names=NAMES)


def test_missing_images_are_counted(tmp_path):
    folder = write(tmp_path, many())
    for name in ("03", "07"):
        (folder / "p" / f"{name}.nii.gz").unlink()
    message = f"2 of 30 images of .* do not exist, such as {re.escape(str(folder / 'p' / '03.nii.gz'))}"
    with pytest.raises(FileNotFoundError, match=message):
        classification_data_list(folder, "training", label_names=NAMES)


@pytest.mark.parametrize("fold", [-1, 5])
def test_fold_out_of_range(tmp_path, fold):
    with pytest.raises(ValueError, match=f"fold must lie between 0 and 4, got {fold}"):
        classification_data_list(write(tmp_path, many()), "training", label_names=NAMES, fold=fold)

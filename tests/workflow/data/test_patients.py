"""Cases of one patient: a file says it, or names, or folders; and what a file that does not fit is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from custom_networks.workflow.data.patients import by_name, find_patients, read_patients, shared_patients

NAMES = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["patient002_ED", "patient002_ES", "patient014_ED", "patient014_ES", "patient023_ED"], 3),
        (["sub-01_ses-1_T1w", "sub-01_ses-2_T1w", "sub-02_ses-1_T1w", "sub-03_ses-1_T1w"], 3),
        (["p1_a_1", "p1_a_2", "p1_b_1", "p2_a_1", "p3_a_1", "p4_a_1", "p5_a_1"], 5),  # not p1_a apart from p1_b
        (["01l", "01r", "02l", "02r", "03l"], 3),
        (["hippocampus_001", "hippocampus_003", "hippocampus_004"], None),
        (["brats_2013_pat0005_1", "brats_2013_pat0006_1"], None),
        (["site1_001", "site1_002", "site1_003", "site2_001", "site2_002", "site3_001"], None),
        (["left_1", "left_2", "right_1", "right_2", "top_1"], None),  # no digit, no patient
        (["a", "b", "c"], None),
        ([], None),
    ],
)
def test_patients_by_their_names(names, groups):
    found = by_name(names)
    assert (found and len(found)) == groups
    if found:
        assert sorted(name for group in found for name in group) == sorted(names)


def test_a_subject_of_bids_is_a_patient():
    names = ["sub-1_ses-1", "sub-1_ses-2", "sub-b_ses-1", "sub-b_ses-2"]
    assert by_name(names) == [names[:2], names[2:]]
    assert by_name(["sub-1", "sub-2", "sub-3"]) is None
    assert by_name(["sub-1_ses-1", "sub-1_ses-2"]) is None


def write(root: Path, *lines: str, header: str = "case,patient") -> Path:
    (root / "patients.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return root


def test_a_file_says_the_patient_of_every_case(tmp_path):
    want = {"a": "Anna", "b": "Bea", "c": "Anna", "d": "Dora, the 2nd"}
    lines = ["c.nii.gz,Anna", "a, Anna", "b.nrrd,Bea", 'd,"Dora, the 2nd"']
    assert read_patients(write(tmp_path, *lines), NAMES) == want
    turned = [",".join(reversed(line.split(","))) for line in lines[:3]]
    assert read_patients(write(tmp_path, *turned, header="patient,case"), NAMES[:3]) == {
        name: want[name] for name in NAMES[:3]
    }
    (tmp_path / "patients.csv").unlink()
    assert read_patients(tmp_path, NAMES) is None


def test_a_case_may_be_called_as_a_file(tmp_path):
    """Such as the case of a folder that ends in .nii."""
    assert read_patients(write(tmp_path, "a.nii,1", "b,2"), ["a.nii", "b"]) == {"a.nii": "1", "b": "2"}


WHOLE = ("a,1", "b,1", "c,2", "d,3")
WRONG = {
    "unknown": ((*WHOLE, "e,4"), "line 6 of {} names e, which is no case of the data set; correct it or remove"),
    "missing": (WHOLE[:2], "{} lacks 2 of the 4 cases of the data set, such as c; add a line for each"),
    "twice": ((*WHOLE, "", "b.nii,2"), "{} names b in line 3 and again in line 7; keep one of them"),
    "no patient": (("a,1", "b, "), "line 3 of {} has no case or no patient; complete it"),
    "no case": (("a,1", ",1"), "line 3 of {} has no case or no patient; complete it"),
    "nothing": ((), "{} lacks 4 of the 4 cases of the data set, such as a;"),
    "too much": (("a,1,2",), "line 2 of {} has more than 2 entries; quote an entry that holds a comma"),
}


@pytest.mark.parametrize(("lines", "words"), WRONG.values(), ids=WRONG)
def test_a_file_that_does_not_fit_is_refused_in_a_sentence(tmp_path, lines, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the sentence is compared below
        read_patients(write(tmp_path, *lines), NAMES)
    assert str(error.value).startswith(words.format(tmp_path / "patients.csv"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("header", ["a,1", "case;patient", "case,patient,age", "Case,Patient", ""])
def test_the_header_is_required(tmp_path, header):
    with pytest.raises(ValueError, match=r"patients\.csv has the columns .*; it needs case and patient$"):
        read_patients(write(tmp_path, *WHOLE, header=header), NAMES)


def test_a_link_that_leads_nowhere_is_no_missing_file(tmp_path):
    (tmp_path / "patients.csv").symlink_to("nowhere.csv")
    with pytest.raises(ValueError, match=r"patients\.csv is a link to nowhere\.csv, which does not exist"):
        read_patients(tmp_path, NAMES)


def images(*paths: str) -> dict[str, Path]:
    return {Path(path).name.partition(".")[0]: Path("/data") / path for path in paths}


FOLDERS = {
    "a folder per patient": (["p1/a.nii", "p1/b.nii", "p2/c.nii", "p3/d.nii"], [["a", "b"], ["c"], ["d"]]),
    "and one per visit": (
        ["im/p1/v1/a.nii", "im/p1/v2/b.nii", "im/p2/v1/c.nii", "im/p3/v1/d.nii"],
        [["a", "b"], ["c"], ["d"]],
    ),
    "a folder per case": (["p1/a.nii", "p2/b.nii", "p3/c.nii", "p4/d.nii"], None),
    "few sites": (["s1/a.nii", "s1/b.nii", "s2/c.nii", "s2/d.nii"], None),
    "folders without a number": (["left/a.nii", "left/b.nii", "right/c.nii", "top/d.nii"], None),
    "the number of a set": (["set1/left/a.nii", "set1/left/b.nii", "set1/right/c.nii", "set1/top/d.nii"], None),
    "one folder": (["a.nii", "b.nii", "c.nii", "d.nii"], None),
    "some in no folder": (["a.nii", "b.nii", "p1/c.nii", "p2/d.nii"], None),
}


@pytest.mark.parametrize(("paths", "groups"), FOLDERS.values(), ids=FOLDERS)
def test_patients_by_their_folders(paths, groups):
    found = find_patients(Path("/data"), images(*paths))
    assert (found and found.groups) == groups
    assert found is None or (found.source, found.stated) == ("by their folders", False)


def test_names_go_before_folders_and_the_file_before_both(tmp_path):
    paths = {name: tmp_path / f"p{k % 3}" / f"{name}.nii" for k, name in enumerate(("q1_a", "q1_b", "q2_a", "q3_a"))}
    found = find_patients(tmp_path, paths)
    assert (found.groups, found.source) == ([["q1_a", "q1_b"], ["q2_a"], ["q3_a"]], "by their names")
    found = find_patients(write(tmp_path, "q3_a,1", "q2_a,1", "q1_b,0", "q1_a,2"), paths)
    assert found.groups == [["q1_b"], ["q2_a", "q3_a"], ["q1_a"]]
    assert (found.source, found.stated) == ("as patients.csv says", True)


def test_a_file_in_which_every_case_has_its_own_patient_says_so(tmp_path):
    found = find_patients(write(tmp_path, *(f"{name},{name}" for name in NAMES)), images(*NAMES))
    assert found.groups == [[name] for name in NAMES]


def test_patients_on_both_sides_of_a_split():
    groups = [["a1", "a2", "a3"], ["b1", "b2"], ["c1", "c2"], ["d1"]]
    shared = shared_patients(groups, training={"a2", "b1", "b2"}, validation={"a1", "a3", "c1", "d1"})
    assert shared == {"a1": "a2", "a3": "a2"}
    assert shared_patients(groups, ["a1", "a2", "a3"], ["b1", "b2"]) == {}

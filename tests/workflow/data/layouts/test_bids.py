"""BIDS: cases called as subject and session, and patterns named where there is a choice."""

from __future__ import annotations

import re

import pytest

from custom_networks.workflow.data.layouts.finder import find_cases

SESSIONS = [(subject, session) for subject in ("01", "02", "A3") for session in (1, 2)]


def image(subject: str, session: int, kind: str = "T1w") -> str:
    return f"sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}_{kind}.nii.gz"


def label(subject: str, session: int, pipeline: str = "manual", kind: str = "space-orig_dseg") -> str:
    return f"derivatives/{pipeline}/{image(subject, session, kind)}"


SOUND = [file for pair in SESSIONS for file in (image(*pair), label(*pair))]


def test_subjects_with_sessions(write):
    root = write(*SOUND, "dataset_description.json", "sub-01/ses-1/func/sub-01_ses-1_bold.nii.gz", "participants.tsv")
    cases, problems, layout = find_cases(root)
    assert not problems
    assert layout == "BIDS, sub-*/**/*_T1w.nii.gz"
    assert [case.name for case in cases] == [f"sub-{subject}_ses-{session}" for subject, session in SESSIONS]
    for case, pair in zip(cases, SESSIONS, strict=True):
        assert (case.image, case.label) == (root / image(*pair), root / label(*pair))


def test_subjects_without_sessions(write):
    root = write(*(f"{top}sub-0{n}/anat/sub-0{n}_{kind}.nii.gz" for n in (1, 2) for top, kind in TOPS))
    assert [case.name for case in find_cases(root).cases] == ["sub-01", "sub-02"]


TOPS = (("", "T1w"), ("derivatives/x/", "dseg"))


def test_what_has_no_counterpart(write):
    root = write(*SOUND, image("04", 1), label("05", 1))
    cases, problems, layout = find_cases(root)
    assert len(cases) == len(SESSIONS)
    assert layout.endswith("1 image without derivatives/manual/sub-*/**/*_space-orig_dseg.nii.gz left out")
    assert [str(problem) for problem in problems] == [
        f"{root / label('05', 1)} has no image of sub-05_ses-1 in anat; add the image or remove this file"
    ]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([image("01", 1, "T2w")], "several images to choose from, sub-*/**/*_T1w.nii.gz, sub-*/**/*_T2w.nii.gz"),
        ([image("01", 1, "run-2_T1w")], "several images to choose from"),
        (
            [label("01", 1, "tool")],
            "several labels to choose from, derivatives/manual/sub-*/**/*_space-orig_dseg.nii.gz",
        ),
    ],
)
def test_a_choice_is_named_with_patterns_that_work(write, more, words):
    root = write(*SOUND, *more)
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        find_cases(root)
    patterns = re.search("--images '(.*)' --labels '(.*)' of check", str(error.value)).groups()
    write(*more)
    cases = find_cases(root, *patterns).cases
    assert [case.name for case in cases] == [f"sub-{subject}_ses-{session}" for subject, session in SESSIONS]


def test_no_label(write):
    with pytest.raises(ValueError, match=r"is a BIDS folder, but there is no \*_dseg file in derivatives.*; give pat"):
        find_cases(write(*(image(*pair) for pair in SESSIONS)))
    with pytest.raises(ValueError, match=r"is a BIDS folder, but there is no image in sub-\*/anat or"):
        find_cases(write("sub-01/func/sub-01_bold.nii.gz", "dataset_description.json", name="other"))

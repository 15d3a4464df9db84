"""KiTS: one folder per case, called as the case."""

from __future__ import annotations

from custom_networks.workflow import segmentation_data_list
from custom_networks.workflow.data.layouts.finder import find_cases

CASES = [f"case_0000{n}/{name}" for n in range(3) for name in ("imaging.nii.gz", "segmentation.nii.gz")]


def test_a_case_is_called_as_its_folder(write):
    root = write(*CASES, "kits.json", "notes/a.txt")
    cases, problems, layout = find_cases(root)
    assert not problems
    assert layout == "KiTS's folders"
    assert [case.name for case in cases] == ["case_00000", "case_00001", "case_00002"]
    assert segmentation_data_list(root, "validation") == [
        {"image": str(root / CASES[0]), "label": str(root / CASES[1]), "case": "case_00000"}
    ]


def test_the_cases_for_testing_are_left_out_and_counted(write):
    root = write(*CASES, "case_00003/imaging.nii.gz")
    cases, problems, layout = find_cases(root)
    assert (len(cases), problems, layout) == (3, [], "KiTS's folders, 1 image without segmentation.nii.gz left out")


def test_what_is_wrong_is_named(write):
    root = write(*CASES, "case_00003/segmentation.nii.gz", "case_00004/imaging.nii.gz")
    (root / "case_00004/segmentation.nii.gz").symlink_to("gone")
    assert [str(problem) for problem in find_cases(root).problems] == [
        f"{root}/case_00004/segmentation.nii.gz is a link to gone, which does not exist; restore that file",
        f"{root}/case_00003/segmentation.nii.gz has no imaging.nii.gz beside it; add the image or remove it",
    ]

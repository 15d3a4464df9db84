"""What two patterns have in common pairs images and labels, and names the cases."""

from __future__ import annotations

import pytest

from custom_networks.workflow.data.layouts.finder import find_cases

# files, patterns, names of the cases
PATTERNS = {
    "a folder per case": (
        ["s1/scan.nii.gz", "s1/mask.nii.gz", "s2/scan.nii.gz", "s2/mask.nii.gz"],
        ("*/scan.nii.gz", "*/mask.nii.gz"),
        ["s1", "s2"],
    ),
    "suffixes": (
        ["x/1_img.nii.gz", "x/1_mask.nii.gz", "x/2_img.nii.gz", "x/2_mask.nii.gz"],
        ("x/*_img.nii.gz", "x/*_mask.nii.gz"),
        ["1", "2"],
    ),
    "formats": (["x/a.mha", "y/a.nii", "x/b.mha", "y/b.nii"], ("x/*", "y/*"), ["a", "b"]),
    "one name": (["x/p_1.nii", "y/p_1.nii", "x/p_2.nii", "y/p_2.nii"], ("x/p_*.nii", "y/p_*.nii"), ["p_1", "p_2"]),
    "one file": (["x/p_1.nii", "y/p_1.nii"], ("x/p_*.nii", "y/p_*.nii"), ["p_1"]),
    "one name in folders": (["x/1/a.nii", "y/1/a.nii"], ("x/*/a.nii", "y/*/a.nii"), ["1"]),
    "two stars": (
        ["a/i/1.nii", "a/l/1.nii", "b/i/1.nii", "b/l/1.nii"],
        ("*/i/*.nii", "*/l/*.nii"),
        ["a_1", "b_1"],
    ),
    "two stars, the last of them a name": (
        ["p1/s1_t1.nii", "p1/s1_seg.nii", "p2/s2_t1.nii", "p2/s2_seg.nii"],
        ("*/*_t1.nii", "*/*_seg.nii"),
        ["s1", "s2"],
    ),
    "any depth": (
        [
            "sub-1/anat/sub-1_T1w.nii",
            "d/sub-1/sub-1_dseg.nii",
            "sub-2/s/anat/sub-2_T1w.nii",
            "d/sub-2/s/sub-2_dseg.nii",
        ],
        ("sub-*/**/*_T1w.nii", "d/sub-*/**/*_dseg.nii"),
        ["sub-1", "sub-2"],
    ),
    "other wildcards": (
        ["x/a1.nii", "y/a1.nii", "x/a2.nii", "y/a2.nii", "x/a3.nii"],
        ("x/a[12].nii", "y/*"),
        ["a1", "a2"],
    ),
    "stars that differ": (["x1/a.nii", "y2/a.nii", "x1/b.nii", "y2/b.nii"], ("x*/*.nii", "y*/*.nii"), ["a", "b"]),
    "above": (["x/a.nii", "y/a.nii"], ("../set/x/*", "./y/*"), ["a"]),
}


@pytest.mark.parametrize(("files", "patterns", "names"), PATTERNS.values(), ids=PATTERNS)
def test_what_the_stars_stand_for_pairs(write, files, patterns, names):
    cases, problems, layout = find_cases(write(*files), *patterns)
    assert not problems
    assert [case.name for case in cases] == names
    assert layout == f"{patterns[0]} and {patterns[1]}"
    assert len({case.image for case in cases} | {case.label for case in cases}) == 2 * len(names)


def test_what_has_no_counterpart_is_a_problem(write):
    root = write("1/scan.nii", "1/mask.nii", "2/scan.nii", "3/mask.nii")
    cases, problems, _ = find_cases(root, "*/scan.nii", "*/mask.nii")
    assert [case.name for case in cases] == ["1"]
    assert [str(problem) for problem in problems] == [
        f"{root}/2/scan.nii has no label of the same name; add the label or remove this file",
        f"{root}/3/mask.nii has no image of the same name; add the image or remove this file",
    ]


@pytest.mark.parametrize(
    ("image", "label", "endings"),
    [
        ("{}_img", "{}_mask", "'_img' and '_mask'"),
        ("{}", "{}_seg", "'' and '_seg'"),
        ("{}.mr.1", "{}", "'.mr.1' and ''"),
    ],
)
def test_endings_that_all_images_and_all_labels_have(write, image, label, endings):
    names = ["a_1", "b_1", "c_2"]
    files = [f"{f}/{s.format(n)}.nii.gz" for n in names for f, s in (("imagesTr", image), ("labelsTr", label))]
    cases, problems, layout = find_cases(write(*files))
    assert not problems
    assert [case.name for case in cases] == names
    assert layout.endswith(f"without the endings {endings}")


def test_names_that_have_nothing_in_common_give_one_line(write):
    root = write(*(f"imagesTr/mr_{n}.nii" for n in range(40)), *(f"labelsTr/m{n}.nii" for n in range(40)))
    with pytest.raises(
        ValueError, match=r"have one name, such as imagesTr/mr_0.nii and labelsTr/m0.nii; give patterns"
    ):
        find_cases(root)
    assert [case.name for case in find_cases(root, "imagesTr/mr_*.nii", "labelsTr/m*.nii").cases][:2] == ["0", "1"]


def test_links_that_lead_nowhere_and_folders_like_files(write):
    root = write("imagesTr/a.nii", "labelsTr/a.nii", "labelsTr/b.nii", "imagesTr/c.nii/x", "labelsTr/c.nii")
    (root / "imagesTr" / "b.nii").symlink_to("gone.nii")
    problems = [str(problem) for problem in find_cases(root).problems]
    assert problems[0] == f"{root}/imagesTr/b.nii is a link to gone.nii, which does not exist; restore that file"
    assert problems[1] == f"{root}/imagesTr/c.nii is a folder with the name of an image file; rename it"
    (root / "imagesTr" / "a.nii").unlink()
    assert [str(problem) for problem in find_cases(root).problems][:2] == problems[:2]


@pytest.mark.parametrize("pattern", ["/data/*.nii", "**.nii/x"])
def test_what_is_no_pattern(write, pattern):
    with pytest.raises(ValueError, match=r"image_glob '.*' is no pattern under .*; give one such as imagesTr/\*"):
        find_cases(write("imagesTr/a.nii", "labelsTr/a.nii"), pattern)

"""Lists of dataset.json whose images are several files, and how their cases are called."""

from __future__ import annotations

import pytest

from custom_networks.workflow import segmentation_data_list
from custom_networks.workflow.data.layouts.finder import find_cases

# images of each case, names
CHANNELS = {
    "numbers": ([["i/a_1_0000.nii", "i/a_1_0001.nii"], ["i/b_0000.nii", "i/b_0001.nii"]], ["a_1", "b"]),
    "words": ([["i/a_1_t1.nii", "i/a_1_t1ce.nii"], ["i/a_2_t1.nii", "i/a_2_t1ce.nii"]], ["a_1", "a_2"]),
    "folders": ([["a/t1.nii", "a/flair.nii"], ["b/t1.nii", "b/flair.nii"]], ["a", "b"]),
    "one of a list": ([["i/a.nii"], ["i/b.nii"]], ["a", "b"]),
    "one": (["i/a.nii", "i/b.nii"], ["a", "b"]),
    "one name": (["a/imaging.nii.gz", "b/imaging.nii.gz"], ["a", "b"]),
}


@pytest.mark.parametrize(("images", "names"), CHANNELS.values(), ids=CHANNELS)
def test_a_list_of_files_is_one_image(write, images, names):
    listed = [{"image": image, "label": f"l/{number}.nii"} for number, image in enumerate(images)]
    files = [file for image in images for file in ([image] if isinstance(image, str) else image)]
    root = write(*files, "l/0.nii", "l/1.nii", index={"training": listed})
    assert [case.name for case in find_cases(root).cases] == names
    (entry,) = segmentation_data_list(root, "validation")
    first = images[0] if isinstance(images[0], str) else images[0][0] if len(images[0]) == 1 else images[0]
    absolute = str(root / first) if isinstance(first, str) else [str(root / file) for file in first]
    assert entry == {"image": absolute, "label": str(root / "l/0.nii"), "case": names[0]}


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to("gone.json")])
def test_an_index_that_is_no_file_is_named(write, make):
    root = write("imagesTr/a.nii", "labelsTr/a.nii")
    make(root / "dataset.json")
    with pytest.raises(
        ValueError, match=r"dataset\.json is a (folder where a file|link to gone\.json, which does not)"
    ):
        find_cases(root)

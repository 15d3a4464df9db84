"""What the page shows of an image lies where the image and its masks are, and says nothing else."""

from __future__ import annotations

import base64
import gzip
from io import BytesIO

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from custom_networks.workflow.report.page import embedded as embedded_module
from custom_networks.workflow.report.page import pictures
from custom_networks.workflow.report.page.colours import colours_of
from custom_networks.workflow.report.page.embedded import embedded, size_of
from custom_networks.workflow.report.page.pictures import Album
from custom_networks.workflow.report.page.planes import outline_path, planes_of
from custom_networks.workflow.report.page.privacy import naming
from custom_networks.workflow.report.page.scans import (
    Scan,
    Structure,
    around_structures,
    grey_levels,
    is_dicom,
    read_scan,
)
from tests.page.folders import NAMES, SPACING, image, label, save

STRUCTURES = [
    Structure(name, values, colour)
    for (name, values), colour in zip(NAMES.items(), colours_of(list(NAMES)).values(), strict=True)
]


def scan(tmp_path) -> Scan:
    files = [str(save(tmp_path / "a.nii.gz", image(label())))]
    return read_scan(files, {"prediction": save(tmp_path / "m.nii.gz", label())})


def unpacked(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_an_image_is_turned_to_ras_with_its_mask(tmp_path):
    read = scan(tmp_path)
    assert nib.aff2axcodes(read.affine) == ("R", "A", "S")
    assert np.array_equal(read.masks["prediction"], label()[::-1])
    assert read.spacing == pytest.approx(SPACING)
    original = nib.load(tmp_path / "m.nii.gz")
    for volume, affine in ((original.get_fdata(), original.affine), (read.masks["prediction"], read.affine)):
        centre = nib.affines.apply_affine(affine, np.argwhere(volume == 1).mean(axis=0))
        assert centre == pytest.approx([30 - 7.5, -20 + 14.5 * 1.5, 10 + 7.5 * 2])


def test_what_lies_far_from_the_structures_is_cut(tmp_path):
    whole = scan(tmp_path)
    cut = around_structures(whole, 3)
    assert cut.image.shape == (8 + 2 * 3, 12 + 2 * 2, 8 + 2 * 2)
    where = np.argwhere(cut.masks["prediction"] == 1)[0]
    world = nib.affines.apply_affine(cut.affine, where)
    back = np.rint(nib.affines.apply_affine(np.linalg.inv(whole.affine), world)).astype(int)
    assert whole.image[tuple(back)] == cut.image[tuple(where)]


def test_a_mask_of_another_shape_is_refused(tmp_path):
    files = [str(save(tmp_path / "a.nii.gz", image(label())))]
    with pytest.raises(ValueError, match=r"the prediction .*m.nii.gz has shape \(19, 24, 16\) but the image"):
        read_scan(files, {"prediction": save(tmp_path / "m.nii.gz", label()[1:])})


def test_each_half_of_a_head_has_a_sagittal_plane(tmp_path):
    whole = scan(tmp_path)
    front, back = STRUCTURES
    planes = planes_of(whole, STRUCTURES, [back, front])
    assert [plane.name for plane in planes] == ["axial", "coronal", f"sagittal, {back.name}", f"sagittal, {front.name}"]
    for plane, half in zip(planes[2:], (back, front), strict=True):
        assert half.name in {outline.name for outline in plane.outlines}


def test_a_head_is_shown_whole_and_its_viewer_what_lies_around(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(pictures, "embedded", lambda near, structures: shown.append(near) or {"image": "", "masks": []})
    monkeypatch.setattr(pictures, "around_structures", lambda whole: around_structures(whole, 3))
    files = [str(save(tmp_path / "a.nii.gz", image(label())))]
    masks = {"prediction": save(tmp_path / "m.nii.gz", label())}
    called = naming("a", files, 1, tmp_path)
    sizes = []
    for sides in ((), STRUCTURES):
        found = Album().pictures(files, masks, STRUCTURES, called, None, sides)
        sizes.append(found.planes[0].width)
    assert sizes == [(8 + 2 * 3) * SPACING[0], label().shape[0] * SPACING[0]]
    assert [near.image.shape for near in shown] == [(14, 16, 12)] * 2


@pytest.mark.parametrize("fill", [0, 7, np.nan, np.inf])
def test_an_even_image_has_grey_levels(fill):
    levels = grey_levels(np.full((3, 3, 3), fill, dtype=np.float32))
    assert levels.dtype == np.uint8
    assert (levels == levels[0, 0, 0]).all()


def test_planes_are_turned_as_radiologists_have_it(tmp_path):
    """The front box lies left of the middle and in front: right in the picture, and up; left in the sagittal plane."""
    planes = {plane.name: plane for plane in planes_of(scan(tmp_path), STRUCTURES)}
    assert {name: plane.sides for name, plane in planes.items()} == {
        "axial": "RLAP",
        "coronal": "RLSI",
        "sagittal": "APSI",
    }
    assert planes["axial"].width == pytest.approx(20) and planes["axial"].height == pytest.approx(24 * 1.5)
    paths = {outline.name: outline.path for outline in planes["axial"].outlines}
    numbers = np.array([pair.split() for pair in paths["front"].strip("MZ").split("L")], dtype=float)
    # voxels 4 to 11 of the file from the right, 12 to 17 from the back of 24
    assert (numbers[:, 0].min(), numbers[:, 0].max()) == pytest.approx((4, 12))
    assert (numbers[:, 1].min(), numbers[:, 1].max()) == pytest.approx(((24 - 18) * 1.5, (24 - 12) * 1.5))
    pixels = np.asarray(Image.open(BytesIO(base64.b64decode(planes["axial"].picture))))
    assert pixels.shape == (24, 20)
    assert pixels[6:18, 4:12].mean() > pixels[:6].mean() + 30


def test_outlines_follow_every_piece():
    mask = np.array([[1, 0, 1], [0, 0, 0]], dtype=bool)
    assert outline_path(mask, 2, 3).count("M") == 2
    assert outline_path(np.zeros((2, 2), dtype=bool), 1, 1) == ""


@pytest.mark.parametrize("most", [160, 7])
def test_the_viewer_gets_the_mask_where_it_is(tmp_path, monkeypatch, most):
    monkeypatch.setattr(embedded_module, "MOST_VOXELS", most)
    read = scan(tmp_path)
    content = embedded(read, STRUCTURES)
    small, mask = unpacked(content["image"]), unpacked(content["masks"][0]["data"])
    assert max(small.shape) <= most
    assert small.get_data_dtype() == mask.get_data_dtype() == np.uint8
    assert set(np.unique(mask.dataobj)) == {0, 1, 2}
    to_whole = np.linalg.inv(read.affine) @ mask.affine
    classes = np.array([0, 1, 2, 2])
    for voxel in np.ndindex(mask.shape):
        source = np.rint(nib.affines.apply_affine(to_whole, voxel)).astype(int)
        assert classes[read.masks["prediction"][tuple(source)]] == mask.dataobj[voxel]
    step = content["step"]
    first = nib.affines.apply_affine(np.linalg.inv(read.affine), small.affine[:3, 3])
    assert first == pytest.approx([(s - 1) / 2 for s in (-(-n // most) for n in read.image.shape)])
    assert step == max(-(-n // most) for n in read.image.shape)
    assert bytes(small.header["descrip"]).strip(b"\0") == b""


def test_the_inner_of_two_regions_is_shown(tmp_path):
    regions = [Structure("whole", (1, 2, 3), "#000000"), Structure("core", (2,), "#ffffff")]
    mask = np.asarray(unpacked(embedded(scan(tmp_path), regions)["masks"][0]["data"]).dataobj)
    assert np.array_equal(mask, np.array([0, 1, 2, 1])[label()[::-1]])


def test_the_budget_ends_viewers_not_pictures(tmp_path):
    read = around_structures(scan(tmp_path))
    size = size_of(embedded(read, STRUCTURES))
    album = Album(left=int(size * 1.5))
    arguments = ([str(tmp_path / "a.nii.gz")], {"prediction": tmp_path / "m.nii.gz"}, STRUCTURES)
    called = naming("a", ["a.nii.gz"], 1, tmp_path)
    first, second = (album.pictures(*arguments, called) for _ in range(2))
    assert first.viewer and not first.note
    assert second.viewer is None and len(second.planes) == 3
    assert second.note.startswith("No viewer: those of other cases take")


def test_a_missing_file_is_named_without_its_folder(tmp_path):
    file = tmp_path / "DOE_JOHN" / "a.nii.gz"
    shown = Album().pictures([str(file)], {}, STRUCTURES, naming("a", [str(file)], 1, tmp_path))
    assert shown.note == "No pictures: there is no file a.nii.gz; restore it and write the page again."
    assert not shown.planes


def test_nothing_of_a_dicom_file_is_said(tmp_path):
    folder = tmp_path / "DOE_JOHN"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(b"DOE^JOHN")
    called = naming("DOE_JOHN", [str(folder)], 2, tmp_path)
    shown = Album().pictures([str(folder)], {}, STRUCTURES, called)
    assert shown.note == "No pictures: its files are gone or cannot be read."
    assert called.label == "case 2"
    assert naming("DOE_JOHN", [str(folder)], 2, tmp_path, show_names=True).label == "DOE_JOHN"


def test_dicom_is_what_no_other_format_is():
    assert is_dicom(["/data/series"]) and is_dicom(["/data/1.dcm"])
    assert not is_dicom(["a.nii.gz", "b.NRRD"])


def test_every_class_has_a_colour_of_its_own():
    colours = colours_of([str(number) for number in range(21)])
    assert len(set(colours.values())) == 21
    assert all(len(colour) == 7 for colour in colours.values())

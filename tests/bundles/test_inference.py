"""Inference of segmentation bundles: orientations, formats, sizes, and the knobs of its postprocessing."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from tests.bundles.conftest import ORIENTATIONS
from tests.synthetic import (
    KINDS,
    SEGMENTATION,
    config,
    each,
    read_rows,
    volume,
    write_nifti,
    write_nrrd,
    write_oriented,
)

every_bundle, one_bundle = each(SEGMENTATION), each(SEGMENTATION[:1])

# bright voxels are the first class, whatever the network says
BRIGHT = "$lambda inputs, network, *args, **kwargs: torch.cat([inputs * 0 + 1, 2.0 * (inputs > 1), inputs * 0], 1)"
FIRST, SECOND = KINDS["segmentation"].label_names[1:]
LARGEST = [(False, False), (True, True), ([FIRST], True), ([SECOND], False), ([], False)]


@pytest.fixture
def segment(infer):
    """Return a function that segments one image and returns the mask."""

    def call(source, name="seg", **overrides):
        (path,) = infer(source, name, **overrides).iterdir()
        return nib.load(path)

    return call


def two_blobs():
    image = np.zeros((24, 28, 22), np.float32)
    image[3:11, 3:11, 3:11] = 5
    image[15:19, 18:22, 14:18] = 5
    return image


@every_bundle
def test_three_orientations_give_one_mask_in_world_space(segment, tmp_path):
    path = write_nifti(volume(41)[0], tmp_path / "image.nii.gz")
    masks = {}
    for codes in ORIENTATIONS:
        stored = nib.load(write_oriented(path, codes, tmp_path / codes / "image.nii.gz"))
        mask = segment(stored.get_filename(), name=f"seg_{codes}")
        assert mask.shape == stored.shape
        np.testing.assert_allclose(mask.affine, stored.affine, atol=1e-5)
        masks[codes] = nib.as_closest_canonical(mask)
    expected = np.asarray(masks["RAS"].dataobj)
    assert set(np.unique(expected)) == {0, 1, 2}
    assert any((expected != np.flip(expected, axis)).any() for axis in range(3))
    for mask in masks.values():
        np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)
        np.testing.assert_allclose(mask.affine, nib.load(path).affine, atol=1e-5)


@one_bundle
def test_nrrd_gives_the_mask_of_the_same_nifti(segment, tmp_path):
    path = write_nifti(volume(42)[0], tmp_path / "image.nii.gz")
    other = write_nrrd(path, tmp_path / "image.nrrd")
    first, second = segment(path, name="nifti"), segment(other, name="nrrd")
    np.testing.assert_array_equal(np.asarray(first.dataobj), np.asarray(second.dataobj))
    np.testing.assert_allclose(first.affine, second.affine, atol=1e-5)


@one_bundle
def test_dicom_series_gives_a_mask_on_its_grid(segment, series):
    pydicom = pytest.importorskip("pydicom")
    mask = segment(series)
    assert mask.get_filename().endswith(f"/{series.name}_seg.nii.gz")
    assert mask.get_data_dtype() == np.uint8
    slices = [pydicom.dcmread(path) for path in series.glob("*.dcm")]
    assert sorted(mask.shape) == sorted((len(slices), slices[0].Rows, slices[0].Columns))
    corners = np.array([[float(v) for v in item.ImagePositionPatient] for item in slices]) * [-1, -1, 1]
    indices = nib.affines.apply_affine(np.linalg.inv(mask.affine), corners)
    np.testing.assert_allclose(indices, indices.round(), atol=1e-2)
    assert len(np.unique(indices.round(), axis=0)) == len(slices)
    assert (indices.round() >= 0).all()
    assert (indices.round() < mask.shape).all()


@every_bundle
def test_a_volume_smaller_than_the_patch_works(segment, tmp_path):
    image, _ = volume(43, shape=(10, 12, 9))
    mask = segment(write_nifti(image, tmp_path / "small.nii.gz"))
    assert mask.shape == (10, 12, 9)


@one_bundle
def test_a_much_larger_input_gives_a_warning(bundle, segment, tmp_path, caplog):
    knobs = config(bundle, "inference")
    size = knobs["max_shape"][0]
    for length, warns in ((2 * size, False), (2 * size + 1, True)):
        image = volume(44, shape=(length, 8, 8))[0]
        caplog.clear()
        segment(write_nifti(image, tmp_path / f"{length}.nii.gz"), name=str(length))
        assert (knobs["expected_input"] in caplog.text) is warns


@one_bundle
@pytest.mark.parametrize(("largest", "applies"), LARGEST)
def test_largest_component_in_inference(segment, tmp_path, largest, applies):
    path = write_nifti(two_blobs(), tmp_path / "blobs.nii.gz")
    mask = np.asarray(segment(path, inferer=BRIGHT, largest_component=largest).dataobj)
    assert ndimage.label(mask == 1)[1] == (1 if applies else 2)
    assert (mask == 1).sum() == (512 if applies else 576)


@one_bundle
@pytest.mark.parametrize(("largest", "applies"), LARGEST)
def test_largest_component_in_evaluation(evaluate, tmp_path, largest, applies):
    data = tmp_path / "data"
    write_nifti(two_blobs(), data / "imagesTr" / "a.nii.gz")
    write_nifti((two_blobs() > 0).astype(np.uint8), data / "labelsTr" / "a.nii.gz")
    report = evaluate(dataset_dir=str(data), fold="all", largest_component=largest, **{"validate#inferer": BRIGHT})
    row = read_rows(report / "metrics.csv")[0]
    assert (float(row["reference_volume"]), float(row["prediction_volume"])) == (576, 512 if applies else 576)


@one_bundle
def test_mirror_axes_make_the_result_symmetric(segment, tmp_path):
    image = volume(45, shape=(16, 16, 16))[0]
    image += np.random.default_rng(0).normal(0, 1, image.shape).astype(np.float32)
    paths = [
        write_nifti(image, tmp_path / "one.nii.gz"),
        write_nifti(np.ascontiguousarray(image[::-1]), tmp_path / "mirrored.nii.gz"),
    ]
    differing = {}
    for axes in ([], [0]):
        one, other = (np.asarray(segment(p, name=f"{p.name}{axes}", mirror_axes=axes).dataobj) for p in paths)
        differing[bool(axes)] = int((one != other[::-1]).sum())
    assert differing[False] > 10
    assert differing[True] <= 2  # the sum over the flips has another order


@one_bundle
def test_low_memory_gives_the_same_mask(segment, tmp_path):
    path = write_nifti(volume(47, shape=(40, 30, 34))[0], tmp_path / "image.nii.gz")
    knobs = {"patch_size": [16, 16, 16], "mirror_axes": [0]}
    masks = [np.asarray(segment(path, name=f"low_{low}", low_memory=low, **knobs).dataobj) for low in (False, True)]
    assert len(np.unique(masks[0])) > 1
    np.testing.assert_array_equal(*masks)


@one_bundle
def test_air_alone_is_background_with_the_knob(segment, tmp_path):
    image = np.zeros((60, 40, 40), np.float32)
    image[:20, :20, :20] = 1 + volume(49, shape=(20, 20, 20))[0]
    path = write_nifti(image, tmp_path / "image.nii.gz")
    knobs = {"patch_size": [16, 16, 16], "overlap": 0.25, "sw_batch_size": 2, "largest_component": False}
    for low in (False, True):
        mask = np.asarray(segment(path, name=f"air_{low}", skip_air=True, low_memory=low, **knobs).dataobj)
        assert mask.shape == image.shape
        assert not mask[20:].any()
        assert not mask[:, :, 20:].any()


@one_bundle
def test_low_memory_resamples_the_classes(segment, tmp_path):
    affine = np.diag([0.8, 1.25, 1.0, 1.0])
    path = write_nifti(volume(48, shape=(44, 32, 34))[0], tmp_path / "image.nii.gz", affine)
    normal, low = (np.asarray(segment(path, name=f"low_{low}", low_memory=low).dataobj) for low in (False, True))
    assert normal.shape == low.shape == (44, 32, 34)
    assert 0 < (normal != low).mean() < 0.1


@one_bundle
def test_low_memory_evaluates_alike(evaluate):
    normal, low = (read_rows(evaluate(f"low_{low}", low_memory=low) / "metrics.csv") for low in (False, True))
    assert normal == low

"""DICOM segmentations: each frame on its slice, read by highdicom, pydicom and GDCM; patient and study kept."""

from __future__ import annotations

import builtins
import logging
from pathlib import Path

import numpy as np
import pytest

from custom_networks.workflow.data.formats.dicom import read_header
from custom_networks.workflow.infer import dicom_seg
from custom_networks.workflow.infer.dicom_seg import MadeBy, check_dicom_seg, write_dicom_seg
from tests.conftest import SHARED
from tests.workflow.data.formats.dicom_writer import OBLIQUE, change, enhanced, grid, rotation, save, slices, write

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

SHAPE = (7, 5, 6)  # rows x columns is no multiple of eight
IMAGE = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
MASK = np.random.default_rng(3).choice([0, 1, 2], SHAPE, p=[0.7, 0.2, 0.1])
MASK[:, :, 2], MASK[:, :, 3] = 0, np.minimum(MASK[:, :, 3], 1)  # a slice of nothing, and one without the second
STRUCTURES = [{"name": "Anterior", "values": [1]}, {"name": "Posterior", "values": [2]}]
MADE_BY = MadeBy("hippocampus_mr", "0.1.0", "ab" * 32)


def series(folder: Path, affine=OBLIQUE, order=None, **attributes) -> Path:
    """Write a series whose files are named in an order of their own."""
    datasets = slices(IMAGE, affine, **attributes)
    return write(folder, [datasets[z] for z in order or range(SHAPE[2])])


def written(image: Path, voxels=MASK, structures=STRUCTURES, made_by=MADE_BY, uid=None) -> Path:
    target = image.parent / "out" / "a_seg.dcm"
    write_dicom_seg(target, voxels, image, uid, structures, made_by)
    return target


def frames_of(file: Path) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return segment, position and pixels of every frame, from the bare bytes."""
    data = pydicom.dcmread(file)
    bits = np.unpackbits(np.frombuffer(data.PixelData, np.uint8), bitorder="little")
    size = data.Rows * data.Columns
    found = []
    for number, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        pixels = bits[number * size : (number + 1) * size].reshape(data.Rows, data.Columns)
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        found.append((int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber), position, pixels))
    return found


def check_places(file: Path, affine: np.ndarray, masks: list[np.ndarray]) -> None:
    """Every voxel of every structure is where its image says, and each slice that holds one has its frame."""
    data = pydicom.dcmread(file)
    shared = data.SharedFunctionalGroupsSequence[0]
    axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    down, across = (float(size) for size in shared.PixelMeasuresSequence[0].PixelSpacing)
    np.testing.assert_allclose(axes[0] * across, affine[:3, 0], atol=1e-5)
    np.testing.assert_allclose(axes[1] * down, affine[:3, 1], atol=1e-5)
    places = set()
    for segment, position, pixels in frames_of(file):
        index = np.linalg.solve(affine, [*position, 1])[:3]
        np.testing.assert_allclose(index, [0, 0, round(index[2])], atol=1e-4)
        places.add((segment, z := round(index[2])))
        np.testing.assert_array_equal(pixels, masks[segment - 1][:, :, z].T)
    assert places == {(n, z) for n, mask in enumerate(masks, 1) for z in np.flatnonzero(mask.any(axis=(0, 1)))}


def both() -> list[np.ndarray]:
    return [MASK == 1, MASK == 2]


@pytest.mark.parametrize("order", [None, [5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]], ids=["straight", "reversed", "mixed"])
@pytest.mark.parametrize(
    "affine",
    [grid((1, 1, 1)), OBLIQUE, grid((0.5, 0.5, 5), turn=rotation(90, 0, 0)), grid((1, 1, 2), shear=0.7)],
    ids=["axial", "oblique", "coronal", "tilted"],
)
def test_every_voxel_is_in_its_place(tmp_path, affine, order):
    image = series(tmp_path / "s", affine, order)
    # slices that run down the normal are read from the other end
    read = read_header(image).affine
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ read, affine, atol=1e-4)
    file = written(image)
    check_places(file, affine, both())
    sources = {str(data.SOPInstanceUID): data for data in map(pydicom.dcmread, image.iterdir())}
    for group in pydicom.dcmread(file).PerFrameFunctionalGroupsSequence:
        source = sources[group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        np.testing.assert_allclose(
            np.array(source.ImagePositionPatient, float),
            np.array(group.PlanePositionSequence[0].ImagePositionPatient, float),
        )


def test_slices_that_run_against_the_normal(tmp_path):
    """The reader's first slice is then the last of the device's."""
    affine = OBLIQUE @ np.diag([1.0, 1, -1, 1])
    file = written(series(tmp_path / "s", affine), MASK[:, :, ::-1])
    check_places(file, affine, both())


def test_highdicom_reads_the_volume_back(tmp_path):
    seg = highdicom.seg.segread(written(series(tmp_path / "s")))
    volume = seg.get_volume(combine_segments=True, allow_missing_positions=True)
    placed = volume.match_geometry(
        highdicom.VolumeGeometry(_slices_first(OBLIQUE), SHAPE[::-1], coordinate_system="PATIENT")
    )
    np.testing.assert_array_equal(placed.array, MASK.transpose(2, 1, 0))


def _slices_first(affine: np.ndarray) -> np.ndarray:
    return affine[:, [2, 1, 0, 3]]


def test_gdcm_reads_a_segment_where_the_image_is(tmp_path):
    """Of whole bytes, since it drops the last bits of others; highdicom writes the slices from the other end."""
    sitk = pytest.importorskip("SimpleITK")
    mask = np.ones((8, 5, 6), np.uint8)
    mask[2:, 1, 3] = 0
    image = write(tmp_path / "s", slices(mask.astype(np.int16), OBLIQUE))
    read = sitk.ReadImage(str(written(image, mask, STRUCTURES[:1])))
    axes = np.array(read.GetDirection()).reshape(3, 3) * read.GetSpacing()
    np.testing.assert_allclose(axes, OBLIQUE[:3, :3] * [1, 1, -1], atol=1e-5)
    np.testing.assert_allclose(read.GetOrigin(), (OBLIQUE @ [0, 0, 5, 1])[:3], atol=1e-5)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read)[::-1] > 0, mask.transpose(2, 1, 0))


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own groups"])
def test_a_multi_frame_source(tmp_path, own):
    order = [3, 0, 5, 1, 4, 2]
    data = enhanced(IMAGE, OBLIQUE, order)
    if own:  # as many devices write it
        shared = data.SharedFunctionalGroupsSequence[0]
        for group in data.PerFrameFunctionalGroupsSequence:
            group.PlaneOrientationSequence = shared.PlaneOrientationSequence
            group.PixelMeasuresSequence = shared.PixelMeasuresSequence
        del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
    file = written(save(data, tmp_path / "multi.dcm"))
    check_places(file, OBLIQUE, both())
    for group in pydicom.dcmread(file).PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        z = order[int(source.ReferencedFrameNumber) - 1]
        position = (OBLIQUE @ [0, 0, z, 1])[:3]
        np.testing.assert_allclose(group.PlanePositionSequence[0].ImagePositionPatient, position, atol=1e-5)


def test_one_slice(tmp_path):
    image = write(tmp_path / "s", slices(IMAGE[:, :, :1], OBLIQUE))
    file = written(image, MASK[:, :, :1])
    check_places(file, OBLIQUE, [mask[:, :, :1] for mask in both()])
    assert spacings(file) == (2.5, 2.5)


@pytest.mark.parametrize("shear", [0, 0.7])
def test_the_distance_of_slices_is_measured_and_their_thickness_kept(tmp_path, shear):
    affine = grid((1, 1, 2), shear=shear)
    assert spacings(written(series(tmp_path / "s", affine, SliceThickness=3, SpacingBetweenSlices=9))) == (3, 2)
    lacking = series(tmp_path / "t", affine, SliceThickness=None)
    assert spacings(written(lacking)) == (2, 2)


def spacings(file: Path) -> tuple[float, float]:
    measures = pydicom.dcmread(file).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    return float(measures.SliceThickness), float(measures.SpacingBetweenSlices)


def test_one_series_of_several(tmp_path):
    image = series(tmp_path / "s", series="1.7")
    write(image, slices(IMAGE, grid(), series="1.8"), "other_{}.dcm")
    file = written(image, uid="1.7")
    check_places(file, OBLIQUE, both())
    assert pydicom.dcmread(file).ReferencedSeriesSequence[0].SeriesInstanceUID == "1.7"


def test_regions_overlap(tmp_path):
    regions = [{"name": "whole", "values": [1, 2]}, {"name": "core", "values": [2]}, {"name": "none", "values": [7]}]
    file = written(series(tmp_path / "s"), structures=regions)
    check_places(file, OBLIQUE, [MASK > 0, MASK == 2, MASK == 7])
    assert pydicom.dcmread(file).SegmentsOverlap == "YES"


def test_a_structure_that_is_absent_keeps_its_number(tmp_path, caplog):
    image = series(tmp_path / "s")
    for voxels, frames in ((np.where(MASK == 1, 0, MASK), 0), (np.zeros(SHAPE, int), SHAPE[2])):
        data = pydicom.dcmread(file := written(image, voxels))
        assert [(s.SegmentNumber, s.SegmentLabel) for s in data.SegmentSequence] == [(1, "Anterior"), (2, "Posterior")]
        first = [pixels for segment, _, pixels in frames_of(file) if segment == 1]
        assert len(first) == frames and not np.any(first)
    assert "highdicom" not in {record.name.partition(".")[0] for record in caplog.records}


def test_patient_study_and_what_made_it(tmp_path):
    code = {"scheme": "SCT", "value": "5366008", "meaning": "Hippocampus"}
    modifier = {"scheme": "SCT", "value": "255549009", "meaning": "Anterior"}
    coded = {"label": "Anterior hippocampus", "type": code, "modifier": modifier, "cielab": [60.0, 10.0, -20.0]}
    structures = [{**STRUCTURES[0], "codes": coded}, STRUCTURES[1]]
    image = series(tmp_path / "s", AccessionNumber="77", SeriesNumber=4)
    data, source = pydicom.dcmread(written(image, structures=structures)), pydicom.dcmread(next(image.iterdir()))
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "AccessionNumber", "FrameOfReferenceUID"):
        assert data[keyword].value == source[keyword].value
    assert (data.Modality, data.SeriesNumber, data.SegmentationType) == ("SEG", 1004, "BINARY")
    assert data.SeriesInstanceUID != source.SeriesInstanceUID
    assert (data.ContentLabel, data.SeriesDescription) == ("SEGMENTATION", "Segmentation by hippocampus_mr 0.1.0")
    assert (data.Manufacturer, data.DeviceSerialNumber) == ("custom_networks", "ab" * 32)
    assert (data.ManufacturerModelName, data.SoftwareVersions) == ("hippocampus_mr", "0.1.0")
    first, second = data.SegmentSequence
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("hippocampus_mr", "0.1.0")
    assert (first.SegmentLabel, first.SegmentAlgorithmType) == ("Anterior hippocampus", "AUTOMATIC")
    kind = first.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("5366008", "SCT", "Hippocampus")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Anterior"
    assert highdicom.color.CIELabColor.from_dicom_value(first.RecommendedDisplayCIELabValue).l_star == pytest.approx(
        60, abs=0.01
    )
    kind = second.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodingSchemeDesignator, kind.CodeMeaning) == ("99CUSTOMNET", "Posterior")
    assert len(kind.CodeValue) <= 16


def test_private_codes_are_told_once(tmp_path, caplog):
    dicom_seg._say_uncoded.cache_clear()
    image = series(tmp_path / "s")
    for _ in range(2):
        written(image)
    assert caplog.text.count("no standard codes are known for Anterior, Posterior; the DICOM segmentation names") == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("encoding", [None, "ISO_IR 100"])
def test_names_of_any_language(tmp_path, encoding):
    image = series(tmp_path / "s", SpecificCharacterSet=encoding, PatientName="Müller^Jörg" if encoding else "A^B")
    names = ["Großhirn", "海马体\\左", "x" * 80]
    structures = [{"name": name, "values": [value]} for value, name in enumerate(names, 1)]
    data = pydicom.dcmread(written(image, structures=structures))
    assert [s.SegmentLabel for s in data.SegmentSequence] == ["Großhirn", "海马体/左", "x" * 64]
    assert str(data.PatientName) == ("Müller^Jörg" if encoding else "A^B")


def test_a_segmentation_is_replaced_unless_somebody_has_touched_it(tmp_path):
    image = series(tmp_path / "s")
    file = written(image)
    for _ in range(2):
        check_dicom_seg(file, image)
        assert written(image) == file
    assert [path.name for path in file.parent.iterdir()] == ["a_seg.dcm"]
    data = pydicom.dcmread(file)
    data.PixelData = bytes([data.PixelData[0] ^ 1]) + data.PixelData[1:]
    data.save_as(file)
    for again in (lambda: check_dicom_seg(file, image), lambda: written(image)):
        with pytest.raises(ValueError, match=r"a_seg.dcm has been edited since it was written; move it, or"):
            again()
    data.remove_private_tags()
    for save_other in (lambda: data.save_as(file), lambda: file.write_bytes(b"text")):
        save_other()
        with pytest.raises(ValueError, match=r"a_seg.dcm exists and was not written by this program, or another one"):
            check_dicom_seg(file, image)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"FrameOfReferenceUID": None}, "has no FrameOfReferenceUID, which a DICOM segmentation shares"),
        ({"StudyInstanceUID": None}, "cannot be the source of a DICOM segmentation"),
        ({"SOPClassUID": "1.2.3.4.5"}, "cannot be the source of a DICOM segmentation"),
    ],
)
def test_images_that_no_segmentation_refers_to(tmp_path, attributes, words):
    image = write(tmp_path / "s", [change(data, attributes) for data in slices(IMAGE, OBLIQUE)])
    with pytest.raises(ValueError, match=rf"^{image} {words}.*; choose another output format$"):
        written(image)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_several_multi_frame_files(tmp_path):
    for name, part in (("1.dcm", [0, 1, 2]), ("2.dcm", [3, 4, 5])):
        save(enhanced(IMAGE, OBLIQUE, part), tmp_path / "s" / name)
    with pytest.raises(ValueError, match="holds a series of several multi-frame files, of which no DICOM segm"):
        written(tmp_path / "s")


def test_what_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    image, file = series(tmp_path / "s"), tmp_path / "a.nii.gz"
    file.write_bytes(b"no")
    with pytest.raises(ValueError, match=r"a.nii.gz is no DICOM, of which a DICOM segmentation is made; choose"):
        check_dicom_seg(tmp_path / "a_seg.dcm", file)
    with pytest.raises(ValueError, match=r"a mask of \(5, 7, 6\) voxels does not lie on .* of \(7, 5, 6\); give"):
        written(image, MASK.transpose(1, 0, 2))
    plain_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "highdicom":
            raise ImportError(name)
        return plain_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"a_seg.dcm is to be a DICOM segmentation, which needs highdicom: pip"):
        check_dicom_seg(tmp_path / "a_seg.dcm", image)


def test_a_real_series(tmp_path):
    """Its files lack what DICOM wants of them."""
    folders = sorted((SHARED / "data" / "HippoCrop_DICOM").glob("*/*"))
    if not folders:
        pytest.skip("the DICOM series are not at <repository>/../shared/data")
    header = read_header(folders[0])
    voxels = np.zeros(header.shape, np.uint8)
    voxels[3:9, 10:20, 5:12] = 1
    target = tmp_path / "a_seg.dcm"
    write_dicom_seg(target, voxels, folders[0], None, STRUCTURES, MADE_BY)
    check_places(target, np.diag([-1, -1, 1, 1]) @ header.affine, [voxels == 1, voxels == 2])

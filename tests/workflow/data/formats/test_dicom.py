"""DICOM is ordered and measured by where its images lie, and what makes no regular volume is refused by name."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from custom_networks.workflow.data.formats.dicom import Series, is_dicom, read_header, read_voxels, series_of
from tests.workflow.data.formats.dicom_writer import (
    OBLIQUE,
    VOLUME,
    change,
    check,
    grid,
    image,
    ras,
    refused,
    rotation,
    save,
    slices,
    write,
)

pydicom = pytest.importorskip("pydicom")
SHARED = Path(__file__).resolve().parents[5] / "shared"


@pytest.mark.parametrize(
    "affine",
    [grid(), OBLIQUE, grid((1, 1, 2), turn=rotation(0, 0, 180)), grid((1, 2, 3), turn=rotation(90, 0, 90))],
)
def test_every_voxel_returns_to_its_place(tmp_path, affine):
    assert check(write(tmp_path, slices(VOLUME, affine)), VOLUME, affine).notes == ()


def test_positions_give_the_order(tmp_path):
    numbers = [1, 4, 2, 5, 3, 6]
    for name, number in (("interleaved", lambda z: numbers[z]), ("absent", None), ("equal", 7)):
        found = slices(VOLUME, OBLIQUE, InstanceNumber=number)
        check(write(tmp_path / name, found[::2] + found[1::2]), VOLUME, OBLIQUE)


def test_the_order_is_along_the_normal(tmp_path):
    """Slices that were written from the head down come back from the feet up."""
    down = grid((1, 1, -2), origin=(0, 0, 10))
    check(write(tmp_path, slices(VOLUME, down)), VOLUME[:, :, ::-1], grid((1, 1, 2)))


def test_a_gantry_tilt_is_kept_and_said(tmp_path):
    tilted = grid((0.5, 0.5, 3), turn=rotation(15, 0, 0), shear=-3 * math.tan(math.radians(15)))
    header = check(write(tmp_path, slices(VOLUME, tilted)), VOLUME, tilted)
    assert header.notes == ("is sheared by a gantry tilt of 15 degrees, which is kept",)


@pytest.mark.parametrize(("affine", "what"), [(grid((0.5, 0.8, 2)), "plain"), (OBLIQUE, "oblique")])
def test_simpleitk_reads_the_same(tmp_path, affine, what):
    itk = pytest.importorskip("SimpleITK")
    found = slices(VOLUME.astype(np.int16) - 50, affine, RescaleSlope=1, RescaleIntercept=-1000)
    write(tmp_path / what, [found[z] for z in (3, 1, 5, 0, 2, 4)])
    reader = itk.ImageSeriesReader()
    reader.SetFileNames(itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / what)))
    theirs, header = reader.Execute(), read_header(tmp_path / what)
    np.testing.assert_array_equal(read_voxels(tmp_path / what)[0], itk.GetArrayFromImage(theirs).T)
    matrix = np.array(theirs.GetDirection()).reshape(3, 3) @ np.diag(theirs.GetSpacing())
    np.testing.assert_allclose(header.affine[:3, :3], np.diag([-1, -1, 1]) @ matrix, atol=1e-5)
    np.testing.assert_allclose(header.affine[:3, 3], np.diag([-1, -1, 1]) @ theirs.GetOrigin(), atol=1e-5)


def test_a_real_series():
    folders = sorted((SHARED / "data" / "HippoCrop_DICOM").glob("*/*"))
    if not folders:
        pytest.skip("the DICOM series are not at <repository>/../shared/data")
    for folder in folders:
        header, voxels = read_header(folder), read_voxels(folder)
        number = len(list(folder.glob("*.dcm")))
        assert voxels.shape == (1, *header.shape) and header.shape[2] == number
        data = pydicom.dcmread(folder / f"{number}.dcm")
        np.testing.assert_array_equal(voxels[0, :, :, -1], data.pixel_array.T)
        np.testing.assert_allclose(header.affine, ras(grid(origin=(0, 0, 1))))


# --- what belongs to a series


def test_files_that_are_no_images_are_left_out(tmp_path):
    folder = write(tmp_path / "[MR] head*", slices(VOLUME))
    report = image(np.zeros((2, 2), np.uint16), series="1.9", Modality="SR", PixelData=None)
    save(report, folder / "sr.dcm")
    for name in ("notes.txt", "Thumbs.db", ".hidden.dcm"):
        (folder / name).write_bytes(b"text")
    (folder / "inner").mkdir()
    header = check(folder, VOLUME, grid())
    assert header.notes == (
        "leaves out files without pixels: sr.dcm",
        "leaves out files that are no DICOM: Thumbs.db, notes.txt",
    )
    assert not is_dicom(folder / "notes.txt") and not is_dicom(folder) and is_dicom(folder / "sr.dcm")


def test_a_folder_of_several_series_asks_for_one(tmp_path):
    write(tmp_path, slices(VOLUME, series="1.1", SeriesDescription="T1\n3D"), "a{}.dcm")
    write(tmp_path, slices(VOLUME + 7, series="1.2", SeriesDescription="T2"), "b{}.dcm")
    assert series_of(tmp_path) == {"1.1": Series(6, "T1 3D"), "1.2": Series(6, "T2")}
    refused(tmp_path, "holds 2 series: 1.1 (6 slices, T1 3D), 1.2 (6 slices, T2); choose one with --series UID")
    refused(tmp_path, "has no series 1.3, but 1.1 (6 slices", "--series UID", series="1.3", read=read_voxels)
    np.testing.assert_array_equal(read_voxels(tmp_path, "1.2")[0], VOLUME + 7)
    assert read_header(tmp_path, "1.1").shape == VOLUME.shape


def test_a_long_list_of_series_is_cut(tmp_path):
    write(tmp_path, slices(np.zeros((2, 2, 13), np.uint8), series=lambda z: f"1.{z + 100}"))
    refused(tmp_path, "holds 13 series", "1.109 (1 slices), and 3 more;")


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID"])
def test_images_of_two_are_no_series(tmp_path, keyword):
    """As where somebody took the SeriesInstanceUID out; whose they are is not told."""
    write(tmp_path, slices(VOLUME, SeriesInstanceUID=None, **{keyword: lambda z: f"1.{z // 3}"}))
    text = refused(tmp_path, f"holds images with 2 values of {keyword} in one series, such as 002.dcm and 005.dcm")
    assert "1.0" not in text


def test_one_slice_of_a_series_is_no_volume(tmp_path):
    write(tmp_path, slices(VOLUME))
    refused(tmp_path / "002.dcm", "others lie beside it", f"give the folder {tmp_path}")


def test_one_slice_alone(tmp_path):
    for name, tags, thickness, notes in (
        ("a", {}, 2.5, ()),
        ("b", {"SpacingBetweenSlices": 4}, 4, ()),
        ("c", {"SliceThickness": None}, 1, ("has one slice and no SliceThickness, which is taken as 1 mm",)),
    ):
        affine = grid((0.7, 1.3, thickness), turn=rotation(20, -35, 50))
        (data,) = slices(VOLUME[:, :, :1], OBLIQUE, ImagePositionPatient=[0, 0, 0], **tags)
        file = save(data, tmp_path / name / "one.dcm")
        save(image(VOLUME[:, :, 0], series="9.9"), tmp_path / name / "other.dcm")
        assert check(file, VOLUME[:, :, :1], affine).notes == notes


def test_without_preamble(tmp_path):
    files = [write(tmp_path, slices(VOLUME)) / f"{z:03d}.dcm" for z in range(6)]
    for file, syntax in zip(files, [True, False] * 3, strict=True):
        data = pydicom.dcmread(file)
        pydicom.dcmwrite(file, pydicom.Dataset(data), implicit_vr=syntax, little_endian=True, enforce_file_format=False)
        assert file.read_bytes()[128:132] != b"DICM" and is_dicom(file)
    check(tmp_path, VOLUME, grid())
    files[0].rename(tmp_path / "000")
    assert not is_dicom(tmp_path / "000")


def test_files_that_are_absent_or_something_else(tmp_path):
    for read in (read_header, read_voxels):
        with pytest.raises(FileNotFoundError, match=r"there is no file .*absent; restore it"):
            read(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        series_of(tmp_path / "absent")
    refused(tmp_path, "holds no DICOM image")
    (tmp_path / "a.txt").write_text("a")
    refused(tmp_path / "a.txt", "is no DICOM file")
    write(tmp_path, slices(VOLUME))
    (tmp_path / "bad.dcm").write_bytes(b"")
    refused(tmp_path, "bad.dcm is empty")
    (tmp_path / "bad.dcm").write_bytes(b"text " * 100)
    refused(tmp_path, "bad.dcm is no DICOM file, in spite of its name")


def test_pydicom_is_not_installed(tmp_path, monkeypatch):
    write(tmp_path, slices(VOLUME))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    refused(tmp_path, "needs pydicom: pip install pydicom")
    assert is_dicom(tmp_path / "000.dcm")


# --- what makes no regular volume


def without(*gone):
    return [data for z, data in enumerate(slices(VOLUME)) if z not in gone]


def moved(z, *position):
    found = slices(VOLUME)
    found[z].ImagePositionPatient = list(position)
    return found


def changed(z, volume=VOLUME, **attributes):
    found = slices(volume)
    found[z] = change(found[z], attributes)
    return found


def twice(**attributes):
    """Return all slices twice, the second time with other attributes and values."""
    return [*slices(VOLUME, **attributes), *slices(VOLUME + 1, **dict.fromkeys(attributes, 2))]


LOCALISER = slices(VOLUME[:, :, :1], grid(turn=rotation(90, 0, 0)), PixelData=VOLUME[:, :, 0].T.tobytes())
BAD = {
    "gap": (without(2, 3), ["lacks slices", "1 mm apart, but 3 mm between 001.dcm and 002.dcm"]),
    "end": (without(1), ["lacks slices", "1 mm apart, but 2 mm between 000.dcm and 001.dcm"]),
    "unequal": (moved(3, 0, 0, 3.02), ["unequal distances", "1 mm apart, but 1.02 mm between 002.dcm and 003.dcm"]),
    "drift": (moved(3, 0, 0.2, 3), ["not in line: 003.dcm lies 0.2 mm off the line from 000.dcm to 005.dcm"]),
    "localiser": ([*LOCALISER, *slices(VOLUME)], ["ImageOrientationPatient: 000.dcm has 1\\0\\0\\0\\", "001.dcm has"]),
    "spacing": (changed(4, PixelSpacing=[1, 1.01]), ["PixelSpacing: 004.dcm has 1\\1.01, 000.dcm has 1\\1;"]),
    "rows": (changed(4, Rows=4), ["Rows: 004.dcm has 4, 000.dcm has 5;"]),
    "columns": (changed(0, Columns=3), ["Columns: 000.dcm has 3, 001.dcm has 4;"]),
    "time": (twice(TemporalPositionIdentifier=1), ["12 slices at 6 positions, told apart by Temporal", "(1, 2)"]),
    "b-value": (twice(DiffusionBValue=1.0), ["12 slices at 6 positions, told apart by DiffusionBValue (1.0, 2.0)"]),
    "echo": (twice(EchoTime="1", AcquisitionNumber=1), ["told apart by EchoTime (1, 2.0): 000.dcm and 006.dcm lie"]),
    "trigger": (twice(TriggerTime="1"), ["told apart by TriggerTime"]),
    "object": (slices(VOLUME, SOPInstanceUID=lambda z: f"1.{z}") * 2, ["000.dcm and 006.dcm are copies of one object"]),
    "pixels": ([*slices(VOLUME), *slices(VOLUME)], ["000.dcm and 006.dcm are copies with the same pixels"]),
    "unlike": ([*slices(VOLUME), *slices(VOLUME + 1)], ["and no attribute tells 000.dcm and 006.dcm apart"]),
    "one place": (slices(VOLUME, ImagePositionPatient=[0, 0, 0]), ["6 slices at 1 positions"]),
    "colour": (changed(1, SamplesPerPixel=3, PhotometricInterpretation="RGB"), ["001.dcm holds pixels of 3 sample"]),
    "palette": (changed(1, PhotometricInterpretation="PALETTE COLOR"), ["001.dcm", "(PALETTE COLOR)"]),
    "mosaic": (changed(1, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), ["001.dcm is a mosaic", "dcm2niix"]),
    "no position": (changed(1, ImagePositionPatient=None), ["001.dcm has no ImagePositionPatient (MR Image Storage)"]),
    "no orientation": (changed(1, ImageOrientationPatient=None), ["001.dcm has no ImageOrientationPatient"]),
    "no spacing": (changed(1, PixelSpacing=None), ["001.dcm has no PixelSpacing;"]),
    "projection": (changed(1, PixelSpacing=None, ImagerPixelSpacing=[1, 1]), ["only the ImagerPixelSpacing of a"]),
    "long axis": (changed(1, ImageOrientationPatient=[2, 0, 0, 0, 1, 0]), ["001.dcm", "not of length 1"]),
    "not square": (changed(1, ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0]), ["001.dcm", "at a right angle"]),
    "nan": (changed(1, ImagePositionPatient=["0", "0", "nan"]), ["001.dcm has ImagePositionPatient", "not finite"]),
    "two numbers": (changed(1, ImagePositionPatient=[0, 0]), ["001.dcm has 2 numbers in ImagePositionPatient"]),
    "no rows": (changed(1, Rows=0), ["001.dcm has 0 rows and 4 columns"]),
    "rows absent": (changed(1, Rows=None), ["001.dcm has no Rows"]),
    "flat": (changed(1, PixelSpacing=[0, 1]), ["001.dcm has PixelSpacing 0 x 1, not above zero"]),
    "slope": (changed(1, RescaleSlope=0), ["001.dcm has RescaleSlope 0"]),
    "high bit": (changed(1, BitsStored=12), ["001.dcm stores 12 of 16 bits up to bit 15"]),
    "frames": (
        changed(1, NumberOfFrames=3, SOPClassUID="1.2.840.10008.5.1.4.1.1.3.1"),
        ["001.dcm has 3 frames (Ultrasound Multi-frame Image Storage) and no functional groups"],
    ),
    "no pixels": (changed(1, PixelData=None), ["001.dcm ends before its pixels, though it is a file of MR Image"]),
    "few pixels": (changed(1, PixelData=bytes(30)), ["001.dcm is truncated: it holds 30 of 40 bytes"]),
    "many pixels": (changed(1, PixelData=bytes(80)), ["001.dcm holds 80 bytes", "make 40"]),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_volume_is_refused_by_name(tmp_path, what):
    datasets, words = BAD[what]
    folder = write(tmp_path / what, datasets)
    refused(folder, *words)
    refused(folder, *words, read=read_voxels)


def test_slices_that_differ_by_rounding_are_equal(tmp_path):
    rounded = moved(3, 0, 0.01, 3.004)
    rounded[2].ImageOrientationPatient = [0.9999999, 0, 0.00005, 0, 1, 0]
    check(write(tmp_path, rounded), VOLUME, grid())


def test_a_distance_that_is_said_otherwise(tmp_path):
    header = check(write(tmp_path, slices(VOLUME, SpacingBetweenSlices=3)), VOLUME, grid())
    assert header.notes == ("gives SpacingBetweenSlices 3 mm, but positions are 1 mm apart, which counts",)


def test_numbers_that_are_too_long_and_padded_pixels_are_read_without_a_word(tmp_path, caplog):
    long = [
        "0.7071067811865475244",
        "0.7071067811865475244",
        "0",
        "-0.7071067811865475244",
        "0.7071067811865475244",
        "0",
    ]
    numbers = {"ImageOrientationPatient": long, "PixelSpacing": ["1.00000000000000000000"] * 2}
    folder = write(tmp_path, slices(VOLUME, PixelData=lambda z: VOLUME[:, :, z].T.tobytes() + bytes(10), **numbers))
    assert b"7071067811865475244" in (folder / "000.dcm").read_bytes()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        header = check(folder, VOLUME, grid(turn=rotation(0, 0, 45)))
    assert not heard and not caplog.records and header.notes == ()

"""The values of DICOM: each image's own slope, the smallest type that holds them, multi-frame and compressed files."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from custom_networks.workflow.data.formats.dicom import read_header, read_voxels
from tests.workflow.data.formats.dicom_writer import (
    OBLIQUE,
    VOLUME,
    change,
    check,
    enhanced,
    grid,
    refused,
    save,
    slices,
    write,
)

pydicom = pytest.importorskip("pydicom")
LIMITS = {
    "uint8": (np.uint8, None, 0, np.uint8),
    "12 of 16 bits": (np.uint16, 12, 0, np.uint16),
    "CT": (np.uint16, 12, -1024, np.int16),
    "signed": (np.int16, None, 0, np.int16),
    "wide": (np.uint16, None, -1024, np.int32),
    "8 of 16 bits": (np.uint16, 8, 0, np.uint8),
}


@pytest.mark.parametrize("what", LIMITS)
def test_integers_stay_integers(tmp_path, what):
    stored, bits, intercept, expected = LIMITS[what]
    volume = VOLUME.astype(stored)
    folder = write(tmp_path, slices(volume, bits=bits, RescaleSlope=1, RescaleIntercept=intercept))
    check(folder, volume.astype(expected) + expected(intercept), grid(), expected)


def test_bits_above_those_stored_do_not_count(tmp_path):
    signed = (VOLUME.astype(np.int16) - 60) & 0x0FFF
    check(write(tmp_path / "a", slices(signed | 0x3000, bits=12)), VOLUME.astype(np.int16) - 60, grid())
    check(write(tmp_path / "b", slices(VOLUME | 0x3000, bits=12)), VOLUME, grid())


def test_every_slice_has_its_own_slope(tmp_path):
    slope, intercept = (lambda z: [1, 0.5, 2, 0.25, 3, 1][z]), (lambda z: -z)
    folder = write(tmp_path, slices(VOLUME, RescaleSlope=slope, RescaleIntercept=intercept))
    values = VOLUME * np.float32([1, 0.5, 2, 0.25, 3, 1]) - np.arange(6, dtype=np.float32)
    check(folder, values, grid(), np.float32)


def test_a_broken_intercept_makes_real_numbers(tmp_path):
    check(write(tmp_path, slices(VOLUME, RescaleIntercept=0.5)), VOLUME + np.float32(0.5), grid(), np.float32)


def test_a_table_of_values(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [256, 0, 16], "US"
    table["LUTDescriptor"].VR = "US"
    table.add_new("LUTData", "OW", (np.arange(256, dtype=np.uint16) * 3 + 1).tobytes())
    check(write(tmp_path, slices(VOLUME, bits=16, ModalityLUTSequence=[table])), VOLUME * 3 + 1, grid(), np.uint16)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_real_pixels(tmp_path, kind):
    values = VOLUME.astype(kind) / 8
    check(write(tmp_path, slices(values)), values, grid(), np.float32)


@pytest.mark.parametrize("syntax", ["ImplicitVRLittleEndian", "ExplicitVRBigEndian", "DeflatedExplicitVRLittleEndian"])
def test_other_ways_to_write_a_dataset(tmp_path, syntax):
    uid = getattr(pydicom.uid, syntax)
    raw = VOLUME.astype(">u2") if uid.is_little_endian is False else VOLUME
    found = slices(VOLUME, OBLIQUE, PixelData=lambda z: np.ascontiguousarray(raw[:, :, z].T).tobytes())
    for data in found:
        data.file_meta.TransferSyntaxUID = uid
    check(write(tmp_path, found), VOLUME, OBLIQUE)


def packed(volume=VOLUME):
    found = slices(volume)
    for data in found:
        data.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    return found


def test_compressed_pixels(tmp_path):
    check(write(tmp_path, packed()), VOLUME, grid())


def test_no_decoder(tmp_path, monkeypatch):
    unknown = packed()
    for data in unknown:
        data.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000MC
    folder = write(tmp_path / "a", unknown)
    refused(folder, "000.dcm has pixels in JPEG 2000 Part 2 Multi-comp", "pydicom does not decode", read=read_voxels)
    monkeypatch.setattr(type(pydicom.pixels.get_decoder(pydicom.uid.RLELossless)), "is_available", False)
    install = "needs a decoder; pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
    refused(
        write(tmp_path / "b", packed()), f"000.dcm is compressed as RLE Lossless, which {install}", read=read_voxels
    )


@pytest.mark.parametrize("kind", ["plain", "compressed"])
def test_a_file_that_is_cut_is_called_truncated(tmp_path, kind):
    folder = write(tmp_path, slices(VOLUME) if kind == "plain" else packed())
    file = folder / "005.dcm"
    whole = file.read_bytes()
    named = 0
    for length in range(140, len(whole), 3):
        file.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match=r"005\.dcm (is truncated|ends before its pixels|holds no pixels and)"
        ) as caught:
            read_voxels(folder)
        named += "is truncated" in str(caught.value)
    assert named > 0.8 * len(range(140, len(whole), 3))


def test_a_claim_that_the_file_cannot_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "empty", None)  # nothing is allocated
    (data, *_) = packed()
    refused(
        save(change(data, {"Rows": 65535, "Columns": 65535}), tmp_path / "bomb.dcm"),
        "claims 8589672450 bytes of pixels",
        read=read_voxels,
    )
    (data, *_) = slices(VOLUME)
    file = save(change(data, {"Rows": 65535, "Columns": 65535}), tmp_path / "claim" / "bomb.dcm")
    refused(file, "is truncated: it holds 40 of 8589672450 bytes", read=read_voxels)


def test_fragments_against_the_transfer_syntax(tmp_path):
    (data, *_) = packed()
    file = save(data, tmp_path / "a.dcm")
    file.write_bytes(file.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0", 1))
    refused(file, "has pixels in fragments, against its transfer syntax (Explicit VR Little Endian)")


# --- multi-frame


def test_a_multi_frame_file(tmp_path):
    order = [3, 0, 5, 1, 4, 2]
    file = save(enhanced(VOLUME, OBLIQUE, order), tmp_path / "a.dcm")
    assert check(file, VOLUME, OBLIQUE).notes == ()
    check(tmp_path, VOLUME, OBLIQUE)


def test_every_frame_has_its_own_slope(tmp_path):
    data = enhanced(VOLUME, RescaleSlope=lambda number: number + 0.5, RescaleIntercept=lambda number: -number)
    steps = np.arange(6, dtype=np.float32)
    check(save(data, tmp_path / "a.dcm"), VOLUME * (steps + 0.5) - steps, grid(), np.float32)


FRAMES = {
    "time points": (
        enhanced(VOLUME, order=[0, 1, 2] * 2, TemporalPositionIndex=lambda number: 1 + number // 3),
        ["6 slices at 3 positions, told apart by TemporalPositionIndex (1, 2)", "a.dcm frame 1 and a.dcm frame 4"],
    ),
    "stacks": (
        enhanced(VOLUME, order=[0, 1, 2] * 2, StackID=lambda number: str(1 + number // 3)),
        ["told apart by StackID (1, 2)"],
    ),
    "gap": (enhanced(VOLUME, order=[0, 1, 2, 5]), ["1 mm apart, but 3 mm between a.dcm frame 3 and a.dcm frame 4"]),
    "fewer groups": (change(enhanced(VOLUME), {"NumberOfFrames": 5}), ["5 frames but functional groups of 6"]),
    "no groups": (
        change(enhanced(VOLUME), {"PerFrameFunctionalGroupsSequence": None}),
        ["6 frames (Enhanced MR Image"],
    ),
    "no position": (
        change(enhanced(VOLUME), {"PerFrameFunctionalGroupsSequence": [pydicom.Dataset()] * 6}),
        ["has no ImagePositionPatient (Enhanced MR Image Storage)"],
    ),
}


@pytest.mark.parametrize("what", FRAMES)
def test_frames_that_are_no_volume(tmp_path, what):
    data, words = FRAMES[what]
    refused(save(data, tmp_path / "a.dcm"), *words)


# --- what nobody meant to write


def test_elements_that_are_endless_or_deep(tmp_path):
    (data, *_) = slices(VOLUME)
    file = save(data, tmp_path / "a.dcm")
    whole = file.read_bytes()
    at = whole.index(b"\x10\x00\x10\x00PN")
    endless, item = b"\xff" * 4, b"\xfe\xff\x00\xe0"
    long = b"\x09\x00\x10\x10UN\0\0" + b"\xf0\xff\xff\xff"
    file.write_bytes(whole[:at] + long + whole[at:])
    tracemalloc.start()
    refused(file, "is truncated within its header")
    assert tracemalloc.get_traced_memory()[1] < 2**28
    tracemalloc.stop()
    nested = b"\x09\x00\x10\x10SQ\0\0" + (endless + item + endless + b"\x08\x00\x15\x11SQ\0\0") * 5000
    file.write_bytes(whole[:at] + nested + whole[at:])
    refused(file, "cannot be read as DICOM (RecursionError")


def mutated(raw: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with flipped, missing, repeated or foreign bytes."""
    kind, at = rng.integers(5), int(rng.integers(len(raw)))
    length = int(rng.integers(1, 40))
    if kind == 0:
        return raw[:at]
    if kind == 1:
        return raw[:at] + raw[at + length :]
    if kind == 2:
        return raw[:at] + rng.bytes(length) + raw[at:]
    if kind == 3:
        return raw[:at] + b"\xff" * min(length, 8) + raw[at + min(length, 8) :]
    changed = bytearray(raw)
    for place in rng.integers(len(raw), size=int(rng.integers(1, 6))):
        changed[place] = rng.integers(256)
    return bytes(changed)


def storm(folder, number, seed):
    """Spoil a file of each kind of series many times; return how many were still read."""
    rng = np.random.default_rng(seed)
    volume = VOLUME[:, :, :4]
    folders = [
        write(folder / "plain", slices(volume, RescaleSlope="1", RescaleIntercept="-10")),
        write(folder / "packed", packed(volume)),
        save(enhanced(volume), folder / "frames" / "000.dcm").parent,
    ]
    raws = {file: file.read_bytes() for folder in folders for file in sorted(folder.iterdir())}
    files, read = list(raws), 0
    for _ in range(number):
        file = files[rng.integers(len(files))]
        file.write_bytes(mutated(raws[file], rng))
        error = None
        try:
            header, voxels = read_header(file.parent), read_voxels(file.parent)
        except ValueError as caught:
            error = caught
        if error is None:
            assert voxels.shape == (1, *header.shape) and np.isfinite(header.affine).all()
            read += 1
        else:
            assert type(error) is ValueError and "\n" not in str(error) and str(error).startswith(str(file.parent))
        file.write_bytes(raws[file])
    return read


def test_spoiled_files_are_read_or_refused_in_a_sentence(tmp_path):
    assert 0 < storm(tmp_path, 200, 0) < 200


def test_a_single_bit(tmp_path):
    bits = np.zeros((8, 8, 3), np.uint8)
    bits[2:5, 1, 1] = bits[0, 0, 2] = 1
    packed_bits = [np.packbits(bits[:, :, z].T, bitorder="little").tobytes() for z in range(3)]
    found = slices(bits, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=lambda z: packed_bits[z])
    check(write(tmp_path, found), bits, grid())

"""One DICOM file: its header, and where its pixels lie, before one of them is read."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MAGIC = b"DICM"
SUFFIXES = (".dcm", ".ima")
"""Names of files that are tried without the magic word, which old devices leave out."""
START = 8
"""Bytes that pydicom reads of each element first: its tag, and its length or what comes before."""
LARGE = 1 << 20
"""Bytes above which a length is compared with the file."""
UNDEFINED = 0xFFFFFFFF
FRAGMENT = b"\xfe\xff\x00\xe0"
DEFLATED = "1.2.840.10008.1.2.1.99"
PLAIN_SYNTAXES = (None, "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", DEFLATED)
"""Transfer syntaxes whose pixels are not compressed; files without a preamble name none."""
PIXEL_ELEMENTS = {0x0008: "FloatPixelData", 0x0009: "DoubleFloatPixelData", 0x0010: "PixelData"}
"""Elements of group 7FE0 that hold pixels."""
LONG_VR = (b"OB", b"OW", b"OF", b"OD", b"OV", b"UN")
NO_IMAGES = ("DOC", "FID", "KO", "PLAN", "PR", "REG", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV", "SR")
"""Modalities of objects without pixels."""
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Classes of objects that hold masks."""
TRUNCATED = "is truncated within its header, or a length there is broken; copy it again"
BEYOND = 1e9
"""No length in mm and no factor of values is larger."""


class Pixels(NamedTuple):
    """Where the pixels of a file lie.

    Args:
        keyword: of the element that holds them.
        offset: of their first byte in the file, ``None`` where the whole dataset is deflated.
        length: bytes that the header claims, ``None`` for fragments whose number it does not say.
        available: bytes that the file has.
    """

    keyword: str
    offset: int | None
    length: int | None
    available: int


class Header(NamedTuple):
    """A DICOM file without its pixels.

    Args:
        file: the file.
        data: pydicom's dataset.
        pixels: where the pixels lie.
    """

    file: Path
    data: Any
    pixels: Pixels


class Stream(io.BufferedReader):
    """A file of which no more is asked for than it has, however long an element claims to be.

    Args:
        file: to open.

    Attributes:
        cut: whether the file ended where an element had begun.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(io.FileIO(str(file)))
        self.size = os.fstat(self.fileno()).st_size
        self.cut = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, fewer at the end of the file.

        Args:
            size: number of bytes, all that are left where it is negative.
        """
        asked = size or 0
        if asked > LARGE:
            size = max(0, min(asked, self.size - self.tell()))
        found = super().read(size)
        self.cut = self.cut or (asked == START and 0 < len(found) < START)
        return found


def pydicom_for(path: Path) -> Any:
    """Import pydicom, which only those need who read DICOM, and keep its warnings from the user.

    Args:
        path: what is to be read, for the message.

    Raises:
        ValueError: if pydicom is not installed.
    """
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise ValueError(f"{path} is DICOM, which needs pydicom: pip install pydicom") from error
    # what matters is refused here; a filter that stays is safe in threads, where warnings.catch_warnings is not
    warnings.filterwarnings("ignore", module="pydicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return pydicom


def cause(error: BaseException) -> str:
    """Return an error of pydicom on one short line.

    Args:
        error: what was raised.
    """
    return plain(f"{type(error).__name__}: {error}", 160)


def plain(text: object, length: int = 64) -> str:
    """Return a text of a header on one short line of printable characters.

    Args:
        text: anything.
        length: characters at most.
    """
    return "".join(c for c in " ".join(str(text).split()) if c.isprintable())[:length]


def opened(file: Path) -> Stream:
    """Open a file.

    Args:
        file: which.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it cannot be opened.
    """
    try:
        return Stream(file)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file {file}; restore it or correct the path") from error
    except OSError as error:
        raise ValueError(f"{file} cannot be opened ({error.strerror}); make it readable") from error


def is_dicom(path: Path) -> bool:
    """Tell a DICOM file by its magic word, or by its name and the class of object that it holds.

    Args:
        path: any file or folder.

    Raises:
        ValueError: if it cannot be opened, or pydicom is needed and not installed.
    """
    if not path.is_file():
        return False
    with opened(path) as stream:
        if stream.read(132)[128:] == MAGIC:
            return True
        if not path.name.lower().endswith(SUFFIXES) or stream.size == 0:
            return False
        pydicom = pydicom_for(path)
        stream.seek(0)
        try:
            data = pydicom.dcmread(stream, defer_size=LARGE, stop_before_pixels=True, force=True)
            return str(data.get("SOPClassUID") or "").startswith("1.")
        except Exception:
            return False


def is_segmentation(file: Path) -> bool:
    """Tell a DICOM segmentation from images.

    Args:
        file: which; it is one by :func:`is_dicom`.
    """
    pydicom = pydicom_for(file)
    try:
        data = pydicom.dcmread(file, specific_tags=["SOPClassUID"], stop_before_pixels=True, force=True)
        return str(data.get("SOPClassUID")) in SEGMENTATIONS
    except Exception:  # what is wrong with it is said where it is read
        return False


def read_file(file: Path) -> Header | None:
    """Read the header of a DICOM file, ``None`` for an object without pixels, such as a report.

    Args:
        file: which; it is one by :func:`is_dicom`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, ends within its header, or is of a class of images and has no pixels.
    """
    pydicom = pydicom_for(file)
    with opened(file) as stream:
        try:
            data = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
            cut = stream.cut
            pixels = _pixels(stream)
            if pixels is None and data.file_meta.get("TransferSyntaxUID") == DEFLATED:
                # the whole dataset is deflated: it is inflated at once or not at all
                stream.seek(0)
                data = pydicom.dcmread(stream, force=True)
                pixels = _inflated(data)
                cut = False
            cut = cut or _ends_early(data)
        except Exception as error:
            if stream.tell() >= stream.size:
                raise ValueError(f"{file} {TRUNCATED}") from error
            raise ValueError(f"{file} cannot be read as DICOM ({cause(error)}); copy it again or remove it") from error
    if cut:
        raise ValueError(f"{file} {TRUNCATED}")
    if pixels is None:
        _check_no_image(file, data)
        return None
    return Header(file, data, pixels)


def _pixels(stream: Stream) -> Pixels | None:
    """Return where the pixels lie if the header ended before them."""
    start = stream.tell()
    head = stream.read(12)
    little = head[:2] == b"\xe0\x7f"
    order = "little" if little else "big"
    if len(head) < 8 or int.from_bytes(head[:2], order) != 0x7FE0:  # type: ignore[arg-type]
        return None
    keyword = PIXEL_ELEMENTS.get(int.from_bytes(head[2:4], order))  # type: ignore[arg-type]
    if keyword is None:
        return None
    # an implicit element has its length there, which is even, and that of these letters is odd
    explicit = head[4:6] in LONG_VR and head[6:8] == bytes(2)
    length = int.from_bytes(head[8:12] if explicit else head[4:8], order)  # type: ignore[arg-type]
    offset = start + (12 if explicit else 8)
    return Pixels(keyword, offset, None if length == UNDEFINED else length, max(0, stream.size - offset))


def fragments_end_early(header: Header) -> bool:
    """Tell whether a file ends before its compressed pixels do, of which a decoder would make up the rest.

    Args:
        header: of a file whose pixels lie in fragments.
    """
    with opened(header.file) as stream:
        stream.seek(header.pixels.offset or 0)
        while len(head := stream.read(8)) == 8:
            if head[:4] != FRAGMENT:
                # the delimiter, or what the decoder will complain of
                return False
            stream.seek(int.from_bytes(head[4:], "little"), os.SEEK_CUR)
    return True


def _inflated(data: Any) -> Pixels | None:
    for keyword in PIXEL_ELEMENTS.values():
        if keyword in data:
            length = len(data.get(keyword) or b"")
            return Pixels(keyword, None, length, length)
    return None


def _ends_early(data: Any) -> bool:
    """Tell whether the last element of a header is longer than the file."""
    # elements that nobody has asked for yet are the bytes that were read
    return any(
        isinstance(element.value, bytes) and len(element.value) < element.length != UNDEFINED
        for element in [*data.file_meta.values(), *data.values()]
        if hasattr(element, "length")
    )


def _check_no_image(file: Path, data: Any) -> None:
    name = class_of(file, data)
    if not name:
        raise ValueError(f"{file} holds no pixels and no SOPClassUID; copy it again or remove it")
    if "Image Storage" in name and str(value_of(file, data, "Modality")) not in NO_IMAGES:
        raise ValueError(f"{file} ends before its pixels, though it is a file of {name}; copy it again or remove it")


def class_of(file: Path, data: Any) -> str:
    """Return the name of the class of object, such as ``CT Image Storage``, nothing if none is given.

    Args:
        file: for the message.
        data: pydicom's dataset.
    """
    uid = value_of(file, data, "SOPClassUID") or value_of(file, data.file_meta, "MediaStorageSOPClassUID") or ""
    return plain(getattr(uid, "name", uid))


def value_of(file: Path, data: Any, keyword: str) -> Any:
    """Return the value of an attribute, ``None`` where it is absent or empty.

    Args:
        file: for the message.
        data: pydicom's dataset.
        keyword: of the attribute.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        value = data.get(keyword)
        return None if value is None or (hasattr(value, "__len__") and not len(value)) else value
    except Exception as error:
        raise ValueError(
            f"{file} has a broken {keyword} ({cause(error)}); copy it again or correct its header"
        ) from error


def items_of(file: Path, data: Any, keyword: str) -> Sequence[Any]:
    """Return the items of a sequence, none where it is absent.

    Args:
        file: for the message.
        data: pydicom's dataset.
        keyword: of the sequence.

    Raises:
        ValueError: if it is no sequence.
    """
    value = value_of(file, data, keyword)
    if value is None:
        return ()
    if not isinstance(value, Sequence) or not all(hasattr(item, "get") for item in value):
        raise ValueError(f"{file} has a broken {keyword} (it is no sequence); copy it again or correct its header")
    return value


def as_numbers(file: Path, keyword: str, value: Any, count: int) -> np.ndarray | None:
    """Return the numbers of an attribute, however many characters each has, ``None`` where it is absent.

    Args:
        file: for the message.
        keyword: of the attribute, for the message.
        value: of it.
        count: how many numbers.

    Raises:
        ValueError: if they are no numbers, not as many, or not finite.
    """
    if value is None:
        return None
    try:
        given = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        numbers = np.array([float(number) for number in given])
    except Exception as error:
        raise ValueError(f"{file} has a broken {keyword} ({cause(error)}); correct its header") from error
    if len(numbers) != count:
        raise ValueError(
            f"{file} has {len(numbers)} numbers in {keyword} where {count} are expected; correct its header"
        )
    if not (np.abs(numbers) < BEYOND).all():
        raise ValueError(f"{file} has {keyword} {plain(numbers)}, which is not finite; correct its header")
    return numbers


def as_integer(file: Path, keyword: str, value: Any) -> int | None:
    """Return the whole number of an attribute, ``None`` where it is absent.

    Args:
        file: for the message.
        keyword: of the attribute, for the message.
        value: of it.

    Raises:
        ValueError: if it is no whole number.
    """
    numbers = as_numbers(file, keyword, value, 1)
    if numbers is None:
        return None
    if numbers[0] != round(numbers[0]):
        raise ValueError(f"{file} has {keyword} {numbers[0]:g}, which is no whole number; correct its header")
    return int(numbers[0])

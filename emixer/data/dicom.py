"""DICOM radiographs -> gray images, by pydicom and imagecodecs (the extra `dicom`).

What is read of a header stands in `_TAGS` and PATIENT_TAGS, and nothing else is ever parsed: no name, date or
identifier of a patient can reach a shard, a table or a message.

The order of things is that of the standard (PS3.3 C.11 and C.7.6.3): rescale or modality table, then the first VOI
table, else the first window, then MONOCHROME1 is inverted. pydicom's own functions do it, once for each value that a
pixel can have instead of for each pixel; the image is then looked up in that table. Where a header has neither table
nor window, 8-bit images keep their values and deeper ones have the range of `gray_range`.

Shapes: H, W of the image; V values that a pixel can have.
"""

import logging
import struct
import warnings
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emixer.data.dicom_patient import PATIENT_TAGS, age_years_of, sex_of, view_of
from emixer.data.dicom_pixels import require_decodable, stored_pixels
from emixer.data.gray_range import range_of_levels
from emixer.data.image_error import ImageError
from emixer.errors import ConfigError
from emixer.extras import to_install

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DICOM_RULE = (
    "DICOM: rescale or modality table, then the first VOI table, its largest entry white, else the first window, "
    "then MONOCHROME1 inverted; the rule of gray ranges where a header has no table and no window, or one of no width, "
    "over the pixels that are no padding."
)
"""Stands in the manifest."""
DICOM_NAME = r"\.(dcm|dicom)$"
"""How the names of DICOM files end in collections, in whatever case. What is read as DICOM, the bytes decide."""
WHITE = 65535.0
"""Pixels of a `DicomImage` run from 0, black, to this."""

_PACKAGES = ("pydicom", "imagecodecs")
_TAGS = [
    "SOPClassUID", "Modality", "BurnedInAnnotation", "SamplesPerPixel", "PhotometricInterpretation",
    "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "VOILUTSequence", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "FloatPixelData", "DoubleFloatPixelData", "PixelData",
]  # fmt: skip
_MAGIC = slice(128, 132)
_PRESENTATION_STATES = "1.2.840.10008.5.1.4.1.1.11."
_RADIOGRAPHS = ("CR", "DX", "DR", "RG")
_OTHER_MODALITIES = (
    "AU", "BI", "BMD", "CT", "DG", "DOC", "ECG", "ES", "EPS", "GM", "HD", "IO", "IVUS", "KO", "LS", "MG", "MR", "NM",
    "OP", "OT", "PR", "PT", "PX", "REG", "RESP", "RF", "RTDOSE", "RTIMAGE", "RTPLAN", "RTSTRUCT", "SC", "SEG", "SM",
    "SR", "TG", "US", "VA", "XA", "XC",
)  # fmt: skip
"""Those that a reason may name. A value that is none of the standard's could be anything."""
_BLANKED = ("RescaleSlope", "RescaleIntercept", "VOILUTFunction")
"""Anonymisers leave some elements empty. pydicom takes them for values; an element without one is as good as none."""
_MAX_PIXELS = 89_000_000
_MAX_INFLATED = 3 * _MAX_PIXELS
"""Bytes of a deflated file, which is most of them pixels: three bytes each in colour, two in gray."""
_DEPTHS = range(1, 17)
_FAR = 1e15
# what pydicom and its decoders raise for headers and pixels that are damaged
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, LookupError, TypeError, ArithmeticError, RuntimeError,
    AttributeError, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class DicomImage:
    """pixels_HW: uint16, 0 black to WHITE. burnt_in: whether the header says that annotation is part of the pixels.

    sex, age_years: of the patient at the time of the image; None where the header does not say. view: AP or PA.
    """

    pixels_HW: NDArray[np.uint16]
    burnt_in: bool
    sex: str | None
    age_years: int | None
    view: str | None


def is_dicom(content: bytes) -> bool:
    """Whether a file's bytes begin as DICOM files do (PS3.10 7.1)."""
    return content[_MAGIC] == b"DICM"


def require_dicom(what: str) -> None:
    """Raises ConfigError where the packages that read DICOM are not installed. what: e.g. `vindr-cxr`."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{what} needs packages that are not installed ({', '.join(missing)}). Run {to_install('dicom')}."
        )


def read_dicom(content: bytes) -> DicomImage:
    """The image in the bytes of a DICOM file. Raises ImageError for what is no usable radiograph.

    Raises ConfigError where the packages of the extra are missing.
    """
    require_dicom("A DICOM image")
    for name in _PACKAGES:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they quote headers; what matters is raised
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = _header(content)
            _require_radiograph(header)
            pixels_HW = _shown(header, stored_pixels(header))
            burnt_in = header.get("BurnedInAnnotation") == "YES"
            return DicomImage(pixels_HW, burnt_in, sex_of(header), age_years_of(header), view_of(header))
    except (ImageError, ConfigError):
        raise
    except MemoryError as error:
        raise ImageError("image does not fit into memory") from error
    except _damage() as error:
        raise ImageError("DICOM is damaged or cut short") from error


def _damage() -> tuple[type[Exception], ...]:
    """_DAMAGE, and those of pydicom's errors that are no built-in ones."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (*_DAMAGE, BytesLengthException, InvalidDicomError)


def _header(content: bytes) -> "Dataset":
    from pydicom import dcmread

    _require_bounded(content)
    return dcmread(BytesIO(content), specific_tags=[*_TAGS, *PATIENT_TAGS])


def _require_bounded(content: bytes) -> None:
    """Raises ImageError for a deflated file of more than any image needs: pydicom would inflate all of it at once,
    before its sizes can be read."""
    from pydicom.filereader import _read_file_meta_info, read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    file = BytesIO(content)
    read_preamble(file, force=False)
    if _read_file_meta_info(file).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), _MAX_INFLATED + 1)
        if len(inflated) > _MAX_INFLATED:
            raise ImageError("image is too large to be a radiograph")


def _require_radiograph(header: "Dataset") -> None:
    """Raises ImageError for what is not one image of gray or colour pixels that can be decoded."""
    modality = header.get("Modality")
    if str(header.get("SOPClassUID", "")).startswith(_PRESENTATION_STATES) or modality == "PR":
        raise ImageError("DICOM is a presentation state, not an image")
    if modality and modality not in _RADIOGRAPHS:
        named = modality if modality in _OTHER_MODALITIES else "unknown"
        raise ImageError(f"DICOM is not a radiograph (modality {named})")
    if "PixelData" not in header or not header.PixelData:
        raise ImageError("DICOM holds no pixels, or is cut short before them")
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise ImageError("multi-frame DICOM")
    if header.Rows * header.Columns > _MAX_PIXELS:
        raise ImageError("image is too large to be a radiograph")
    if header.BitsStored not in _DEPTHS or header.get("HighBit", header.BitsStored - 1) != header.BitsStored - 1:
        raise ImageError("unsupported DICOM pixel format")
    require_decodable(header)


def _shown(header: "Dataset", pixels_HW: NDArray[Any]) -> NDArray[np.uint16]:
    """Pixels from 0, black, to WHITE."""
    if header.SamplesPerPixel == 3:
        return pixels_HW.astype(np.uint16) * 257
    signed = header.PixelRepresentation == 1
    lowest = -(2 ** (header.BitsStored - 1)) if signed else 0
    codes_HW = _codes(pixels_HW, lowest, 2**header.BitsStored - 1)
    shades_V = _shades(header, lowest + np.arange(2**header.BitsStored, dtype=np.int32), codes_HW)
    white_V = np.floor(np.clip(shades_V, 0, 1) * WHITE + 0.5).astype(np.uint16)
    if header.PhotometricInterpretation == "MONOCHROME1":
        white_V = np.uint16(WHITE) - white_V
    shown_HW: NDArray[np.uint16] = white_V[codes_HW]
    return shown_HW


def _codes(pixels_HW: NDArray[Any], lowest: int, highest_code: int) -> NDArray[np.uint16]:
    """How far above the lowest value that can be stored each pixel is; bits that are not stored do not count.

    Modulo 2**16, in which negative values are what they are in two's complement.
    """
    codes_HW = pixels_HW.astype(np.uint16, copy=False)
    if lowest:
        codes_HW = codes_HW + np.uint16(-lowest)
    if codes_HW.max() > highest_code:
        codes_HW = codes_HW & np.uint16(highest_code)
    return codes_HW


def _shades(header: "Dataset", stored_V: NDArray[np.int32], codes_HW: NDArray[np.uint16]) -> NDArray[np.float64]:
    """For each value that can be stored, ascending: 0 for the darkest that is shown, 1 for the brightest."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

    for name in _BLANKED:
        if name in header and header.get(name) in (None, ""):
            delattr(header, name)
    _widen_entries(header, "ModalityLUTSequence")
    values_V = apply_modality_lut(stored_V, header).astype(np.float64)
    table = _widen_entries(header, "VOILUTSequence")
    shades_V: NDArray[np.float64]
    if table is not None:
        # some devices declare more bits than their entries have, so the largest entry is white
        white = int(apply_voi(table, header).max()) or 1
        shades_V = apply_voi(np.rint(values_V).astype(np.int64), header) / white
        return shades_V
    if _has_window(header):
        # far outside the window are its black and its white, whatever range pydicom takes for them
        black, white = apply_windowing(np.array([-_FAR, _FAR]), header)
        shades_V = (apply_windowing(values_V, header) - black) / (white - black)
        return shades_V
    if header.BitsStored == 8 and np.array_equal(values_V, stored_V) and stored_V[0] == 0:
        return values_V / 255
    order_V = np.argsort(values_V, kind="stable")
    low, high = range_of_levels(values_V[order_V], _pixels_of_each(header, stored_V, codes_HW)[order_V])
    return (values_V - low) / (high - low)


def _pixels_of_each(header: "Dataset", stored_V: NDArray[np.int32], codes_HW: NDArray[np.uint16]) -> NDArray[np.int64]:
    """How many pixels have each value; those that pad the image do not count (PS3.3 C.7.5.1.1.2)."""
    counts_V = np.bincount(codes_HW.ravel(), minlength=len(stored_V))
    padding = header.get("PixelPaddingValue")
    if padding is None:
        return counts_V
    ends = sorted((int(padding), int(header.get("PixelPaddingRangeLimit") or padding)))
    image_V = np.where((stored_V >= ends[0]) & (stored_V <= ends[1]), 0, counts_V)
    return image_V if image_V.any() else counts_V


def _has_window(header: "Dataset") -> bool:
    """Whether there is a first window, and wide enough for its function (PS3.3 C.11.2.1.2)."""
    center, width = header.get("WindowCenter"), header.get("WindowWidth")
    if center is None or width is None:
        return False
    first_width = float(np.atleast_1d(width)[0])
    return first_width > 1 if str(header.get("VOILUTFunction") or "LINEAR").upper() == "LINEAR" else first_width > 0


def _widen_entries(header: "Dataset", sequence: str) -> NDArray[np.int64] | None:
    """The values that a table tells of, whose entries count as 16 bits from then on; None where there is no table.

    pydicom 3.0 knows no modality tables with entries of 10 to 15 bits, and computes places in a VOI table of 8-bit
    entries in 8 bits too, which is wrong from the 257th entry on.
    """
    items = header.get(sequence)
    if not items or None in (items[0].get("LUTDescriptor"), items[0].get("LUTData")):
        return None
    entries, first, _ = items[0].LUTDescriptor
    items[0].LUTDescriptor = [entries, first, 16]
    return np.arange(first, first + (entries or 2**16), dtype=np.int64)

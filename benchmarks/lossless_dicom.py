"""Large DICOM radiographs to measure with: 12 bits, JPEG lossless (ITU-T T.81 annex H, first-order prediction).

Written with numpy over the whole image, since an image of 7.5 million pixels is too large for a loop. Prefix codes are
those of T.81 table K.3, carried on to 13 bits, so that files are about as large as those of devices.

Shapes: H, W of the image; N pixels.
"""

import struct
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1

HEIGHT_PX, WIDTH_PX, BITS = 3000, 2500, 12
_CODE_BITS = np.array([2, 3, 3, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11])
"""Of the code of a difference of 0, 1, ... 13 bits."""


def large_dicom(seed: int, grain: float = 12.0) -> bytes:
    """A smooth chest-like field with grain (sd in stored values) and a black border, as a whole file."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(600, 3500, (14, 12)).astype(np.float32))
    field = np.asarray(coarse.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC))
    pixels_HW = (field + generator.normal(0, grain, field.shape)).clip(0, 2**BITS - 1).astype(np.uint16)
    pixels_HW[:, :150] = pixels_HW[:, -120:] = 0
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = "1.2.840.10008.5.1.4.1.1.1.1", f"2.25.{seed}", "DX"
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
    header.Rows, header.Columns = pixels_HW.shape
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, BITS, BITS - 1
    header.WindowCenter, header.WindowWidth = 2 ** (BITS - 1), 2**BITS
    header.PixelData = encapsulate([lossless_jpeg(pixels_HW)])
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    buffer = BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def lossless_jpeg(pixels_HW: NDArray[np.uint16]) -> bytes:
    """The stream of an image of BITS bits."""
    difference_N = _differences(pixels_HW.astype(np.int32)).ravel()
    length_N = np.frexp(np.abs(difference_N).astype(np.float64))[1]  # bits of each
    counts = np.bincount(_CODE_BITS, minlength=17)[1:]
    code, first = 0, {}
    for size, _ in enumerate(counts, 1):  # canonical codes (annex C)
        for value in np.flatnonzero(size == _CODE_BITS):
            first[int(value)] = code
            code += 1
        code <<= 1
    codes = np.array([first[value] for value in range(len(_CODE_BITS))])
    extra_N = np.where(difference_N > 0, difference_N, difference_N + (1 << length_N) - 1)
    word_N = (codes[length_N] << length_N) | extra_N
    packed = _packed(word_N.astype(np.uint32), _CODE_BITS[length_N] + length_N)
    tables = b"\xff\xc4" + struct.pack(">HB16B", 19 + len(_CODE_BITS), 0, *counts) + bytes(range(len(_CODE_BITS)))
    frame = b"\xff\xc3" + struct.pack(">HBHHBBBB", 11, BITS, *pixels_HW.shape, 1, 1, 0x11, 0)
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 0, 0)
    return b"\xff\xd8" + tables + frame + scan + packed.replace(b"\xff", b"\xff\x00") + b"\xff\xd9"


def _differences(pixels_HW: NDArray[np.int32]) -> NDArray[np.int32]:
    predicted_HW = np.empty_like(pixels_HW)
    predicted_HW[:, 1:] = pixels_HW[:, :-1]
    predicted_HW[1:, 0] = pixels_HW[:-1, 0]
    predicted_HW[0, 0] = 2 ** (BITS - 1)
    return pixels_HW - predicted_HW


def _packed(word_N: NDArray[np.uint32], length_N: NDArray[np.int64]) -> bytes:
    """The low bits of each word, most significant first, end to end, the last byte filled with ones."""
    end_N = np.cumsum(length_N)
    bits = np.ones(-(-int(end_N[-1]) // 8) * 8, np.uint8)
    for place in range(int(length_N.max())):
        there = length_N > place
        bits[end_N[there] - 1 - place] = (word_N[there] >> place) & 1
    return np.packbits(bits).tobytes()

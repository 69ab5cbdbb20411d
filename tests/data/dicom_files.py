"""DICOM files for tests, with a patient in the header who must appear nowhere else."""

import struct
from io import BytesIO

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

SECRET = "Secretname"


def dicom_dataset(pixels_HW: np.ndarray, bits: int, **elements: object) -> Dataset:
    """A DX image of `bits` stored bits, signed if its pixels are; elements by keyword, None to leave one out."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    allocated = 8 if bits <= 8 else 16
    values: dict[str, object] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "SOPInstanceUID": "1.2.3.4", "Modality": "DX",
        "PatientName": f"{SECRET}^Ada", "PatientID": f"{SECRET}-7", "PatientBirthDate": "19511231",
        "InstitutionName": f"{SECRET} Hospital", "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels_HW.shape[0], "Columns": pixels_HW.shape[1], "BitsAllocated": allocated, "BitsStored": bits,
        "HighBit": bits - 1, "PixelRepresentation": int(pixels_HW.dtype.kind == "i"),
        "PixelData": pixels_HW.astype(f"<{pixels_HW.dtype.kind}{allocated // 8}").tobytes(),
    }  # fmt: skip
    for name, value in (values | elements).items():
        if value is not None:
            setattr(header, name, value)
    if "PixelData" in header:
        header["PixelData"].VR = "OW" if allocated == 16 else "OB"
    return header


def dicom_bytes(header: Dataset) -> bytes:
    """The file."""
    buffer = BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def dicom_file(pixels_HW: np.ndarray, bits: int, **elements: object) -> bytes:
    """Both in one."""
    return dicom_bytes(dicom_dataset(pixels_HW, bits, **elements))


def table(entries: np.ndarray, bits: int, first: int = 0) -> Dataset:
    """An item of a VOI or modality LUT sequence."""
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 2**16, first, bits]
    item.add_new(0x00283006, "OW", entries.astype("<u2").tobytes())
    item.ModalityLUTType = "US"
    return item


def compressed(header: Dataset, stream: bytes, syntax: str) -> Dataset:
    """The same image with a stream of that transfer syntax for its pixels."""
    header.PixelData = encapsulate([stream])
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    header.file_meta.TransferSyntaxUID = syntax
    return header


def stored(header: Dataset) -> np.ndarray:
    """Pixels of a header that is not compressed, as unsigned numbers: (H, W), of colour images (H, W, 3)."""
    dtype = f"<u{header.BitsAllocated // 8}"
    colours = [3] if header.SamplesPerPixel == 3 else []
    return np.frombuffer(header.PixelData, dtype).reshape(header.Rows, header.Columns, *colours)


def jpeg_2000(header: Dataset) -> Dataset:
    """The same image, compressed as lossless JPEG 2000."""
    options = {"bitspersample": header.BitsStored, "codecformat": "J2K", "reversible": True}
    return compressed(header, imagecodecs.jpeg2k_encode(stored(header), **options), JPEG2000Lossless)


def jpeg_ls(header: Dataset) -> Dataset:
    """The same image, compressed as lossless JPEG-LS."""
    return compressed(header, imagecodecs.jpegls_encode(stored(header)), JPEGLSLossless)


def jpeg_lossless(header: Dataset, *, marker: bytes = b"", first_id: int = 1) -> Dataset:
    """The same image, compressed as JPEG lossless (ITU-T T.81 annex H) with first-order prediction.

    marker: an application segment before the frame; first_id: number of the first component, the others follow.
    """
    planes_CHW = np.atleast_3d(stored(header)).transpose(2, 0, 1).astype(int)
    ids = range(first_id, first_id + len(planes_CHW))
    differences_CHW = np.stack([_differences(plane_HW, header.BitsStored) for plane_HW in planes_CHW])
    bits = "".join(_difference(int(value)) for value in differences_CHW.transpose(1, 2, 0).ravel())
    bits += "1" * (-len(bits) % 8)
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    # 17 codes of five bits each: a difference's length is its own code
    huffman = b"\xff\xc4" + struct.pack(">HB", 19 + 17, 0) + bytes([0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    frame = struct.pack(">HBHHB", 8 + 3 * len(ids), header.BitsStored, header.Rows, header.Columns, len(ids))
    frame += b"".join(bytes([each, 0x11, 0]) for each in ids)
    scan = struct.pack(">HB", 6 + 2 * len(ids), len(ids)) + b"".join(bytes([each, 0]) for each in ids) + b"\1\0\0"
    stream = b"\xff\xd8" + marker + b"\xff\xc3" + frame + huffman + b"\xff\xda" + scan + packed + b"\xff\xd9"
    return compressed(header, stream, JPEGLosslessSV1)


def _differences(pixels_HW: np.ndarray, bits: int) -> np.ndarray:
    predicted_HW = np.empty_like(pixels_HW)
    predicted_HW[:, 1:] = pixels_HW[:, :-1]
    predicted_HW[1:, 0] = pixels_HW[:-1, 0]
    predicted_HW[0, 0] = 2 ** (bits - 1)
    return (pixels_HW - predicted_HW + 2**15) % 2**16 - 2**15


def _difference(value: int) -> str:
    length = abs(value).bit_length()
    code = format(length, "05b")
    if length == 16:
        return code  # 32768 and -32768 are the same, and need no bits
    return code + (format(value if value > 0 else value + 2**length - 1, f"0{length}b") if length else "")

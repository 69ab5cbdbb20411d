"""One drawn image -> the bytes of a file, as collections store images: JPEG, PNG of 8 or 16 bits, DICOM of 12 bits."""

import io

import numpy as np
from PIL import Image

from emixer.data.dicom import require_dicom
from emixer.data.phantom.radiograph import Radiograph

_JPEG_QUALITY = 92
_BITS = 12
_COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"


def encode_jpeg(image: Radiograph) -> bytes:
    """A grayscale JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def encode_png(image: Radiograph, *, deep: bool = False) -> bytes:
    """A grayscale PNG; deep: of 16 bits, over their whole range."""
    buffer = io.BytesIO()
    Image.fromarray(image.astype(np.uint16) * 257 if deep else image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def encode_dicom(
    image: Radiograph,
    dicom_id: str,
    *,
    white_is_zero: bool,
    sex: str | None = None,
    age: str | None = None,
    view: str | None = None,
) -> bytes:
    """Computed radiography of 12 bits with a window over all of them, whose identifiers are made of `dicom_id`.

    sex, age, view: PatientSex, PatientAge and ViewPosition; the age is written as given, whether or not the standard
    allows it.
    Raises ConfigError where the extra `dicom` is missing.
    """
    require_dicom("A phantom of DICOM images")
    from pydicom.config import IGNORE
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = _COMPUTED_RADIOGRAPHY
    header.SOPInstanceUID = f"2.25.{int(dicom_id.replace('-', '')[:32], 16)}"
    header.Modality = "CR"
    header.PatientID = header.PatientName = "phantom"
    if sex is not None:
        header.PatientSex = sex
    if age is not None:
        header.add(DataElement("PatientAge", "AS", age, validation_mode=IGNORE))
    if view is not None:
        header.ViewPosition = view
    header.SamplesPerPixel, header.PixelRepresentation = 1, 0
    header.PhotometricInterpretation = "MONOCHROME1" if white_is_zero else "MONOCHROME2"
    header.Rows, header.Columns = image.shape
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, _BITS, _BITS - 1
    header.WindowCenter, header.WindowWidth = 2 ** (_BITS - 1), 2**_BITS
    pixels = np.round(image.astype(np.float64) * (2**_BITS - 1) / 255).astype("<u2")
    header.PixelData = (2**_BITS - 1 - pixels if white_is_zero else pixels).astype("<u2").tobytes()
    header["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()

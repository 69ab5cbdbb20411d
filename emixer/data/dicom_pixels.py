"""The pixels of a DICOM image as they are stored, decompressed.

Gray images are decoded by imagecodecs: libjpeg-turbo, CharLS and OpenJPEG, of which the first takes an eighth of the
time of the decoders that pydicom knows for JPEG lossless, and a fifth of that of GDCM; so are colour images in JPEG
lossless and JPEG-LS, for which pydicom has nothing. Other colour images, RLE and what is not compressed are left to
pydicom, which has numpy and Pillow for them.

Decoders allocate and fill what a stream declares, whatever the header around it says: four damaged bytes made 4 kB
ask for 17 GB and minutes. So the two sizes are compared first.

Shapes: H, W of the image, C its three colours.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emixer.data.encoded_size import encoded_size
from emixer.data.image_error import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset
    from pydicom.uid import UID

_GRAY = ("MONOCHROME1", "MONOCHROME2")
_END_OF_IMAGE, _PADDED_END = b"\xff\xd9", 16
"""The last marker of JPEG, and how near the end of a frame it is, which may be padded."""
_LUMA_AND_CHROMA = ("YBR_FULL", "YBR_FULL_422")


def require_decodable(header: "Dataset") -> None:
    """Raises ImageError for a compression that is not read, and where the compressed pixels declare another size than
    the header around them."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import JPEGLossless, JPEGLosslessSV1, JPEGTransferSyntaxes, RLELossless

    syntax = header.file_meta.TransferSyntaxUID
    try:
        known = get_decoder(syntax).is_available or _decoder_of(syntax, header.SamplesPerPixel) is not None
    except NotImplementedError:
        known = False
    if not known:
        raise ImageError("unsupported DICOM transfer syntax")
    if syntax.is_encapsulated and syntax != RLELossless:
        frame = get_frame(header.PixelData, 0, number_of_frames=1)
        if encoded_size(frame) != (header.Rows, header.Columns, header.SamplesPerPixel):
            raise ImageError("DICOM is damaged or cut short")
        is_jpeg = syntax in (*JPEGTransferSyntaxes, JPEGLossless, JPEGLosslessSV1)
        if is_jpeg and _END_OF_IMAGE not in frame[-_PADDED_END:]:  # libjpeg makes what is missing gray
            raise ImageError("DICOM is damaged or cut short")


def stored_pixels(header: "Dataset") -> NDArray[Any]:
    """Integers (H, W), or the luma of colour pixels. Raises ImageError, or what the decoders raise for damage."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.processing import convert_color_space
    from pydicom.pixels.utils import pixel_array

    decode = _decoder_of(header.file_meta.TransferSyntaxUID, header.SamplesPerPixel)
    if decode is None:
        pixels = pixel_array(header)
    else:
        pixels = decode(get_frame(header.PixelData, 0, number_of_frames=1))
        if header.PhotometricInterpretation in _LUMA_AND_CHROMA:
            pixels = convert_color_space(pixels, header.PhotometricInterpretation, "RGB")
    if pixels.ndim == 2 and header.PhotometricInterpretation in _GRAY:
        return pixels
    if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).convert("L"))
    raise ImageError("unsupported DICOM pixel format")


def _decoder_of(syntax: "UID", num_samples: int) -> "Callable[[bytes], NDArray[Any]] | None":
    """Of one frame of a transfer syntax, (H, W) or, as they are stored, (H, W, C); None where pydicom decodes it."""
    import imagecodecs
    from pydicom.uid import (
        JPEG2000TransferSyntaxes,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSTransferSyntaxes,
        JPEGTransferSyntaxes,
    )

    if syntax in JPEGLSTransferSyntaxes:
        return imagecodecs.jpegls_decode
    if num_samples == 1 and syntax in JPEGTransferSyntaxes:
        return imagecodecs.jpeg8_decode
    if num_samples == 1 and syntax in JPEG2000TransferSyntaxes:
        return imagecodecs.jpeg2k_decode
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        # the same space twice: nothing is converted, whatever markers in the stream say, which is DICOM's rule
        return partial(imagecodecs.jpeg8_decode, colorspace="RGB", outcolorspace="RGB")
    return None

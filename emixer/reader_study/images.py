"""Uniform image files: gray PNG of one size in pixels and in bytes, without metadata.

PNG is written without compression, since compressibility distinguishes a smooth generated image from a grainy real one.

Shapes: N images, H = W side [px].
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emixer.generation.encoding import encode_jpeg


def plain_png(image_HW: NDArray[np.uint8]) -> bytes:
    """Encode uint8 gray values as PNG, with the same number of bytes for all images of a size."""
    out = io.BytesIO()
    Image.fromarray(image_HW).save(out, "PNG", compress_level=0)
    return out.getvalue()


def through_jpeg(images_NHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add the artefacts of a dataset stored as JPEG, whose absence would give real images away."""
    return np.stack([np.asarray(Image.open(io.BytesIO(encoded))) for encoded in encode_jpeg(images_NHW)])

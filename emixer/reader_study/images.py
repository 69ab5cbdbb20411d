"""Images that look alike whatever they were: gray PNG of one size in pixels and in bytes, without metadata.

PNG is written without compression, since how well an image compresses tells a smooth generated one from a grainy real
one.

Shapes: N images, H = W side [px].
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emixer.generation.encoding import encode_jpeg


def plain_png(image_HW: NDArray[np.uint8]) -> bytes:
    """The uint8 gray values as PNG; as many bytes for every image of a size."""
    out = io.BytesIO()
    Image.fromarray(image_HW).save(out, "PNG", compress_level=0)
    return out.getvalue()


def through_jpeg(images_NHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """With the artefacts that a dataset written as JPEG has: real images beside it would be known by their absence."""
    return np.stack([np.asarray(Image.open(io.BytesIO(encoded))) for encoded in encode_jpeg(images_NHW)])

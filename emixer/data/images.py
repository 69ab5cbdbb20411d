"""Image files -> square 8-bit gray images: decode cheaply, fit, resize by exact area means.

The rules, which `IMAGE_VERSION` stands for:
1. JPEG, PNG, TIFF, BMP and DICOM are read; colour becomes luma, transparency is ignored, EXIF orientation is applied.
2. Large JPEGs are decoded at 1/2, 1/4 or 1/8 of their size by the DCT itself, never below the size asked for.
3. Gray images of 16 bits or more are scaled from the range of all but their extreme pixels (`gray_range`) to 0..255;
   8-bit images keep their values. DICOM has rules of its own (`emixer.data.dicom`).
4. `crop` takes the central square; `squeeze` changes the aspect; `pad` centres the image on black.
5. Each pixel is the mean of the area it covers, rounded half up. Weights and sums are whole numbers held in float64,
   so the result is the same on every machine, whatever its BLAS. An image that is too small is enlarged the same way.

Shapes: H, W of the file; h, w of the fitted area; S the side [px].
"""

import struct
import warnings
from fractions import Fraction
from functools import lru_cache
from io import BytesIO
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from emixer.data.dicom import WHITE, is_dicom, read_dicom
from emixer.data.gray_range import gray_range
from emixer.data.image_error import ImageError

IMAGE_VERSION = 3
Fit = Literal["crop", "pad", "squeeze"]
BURNT_IN = "annotation is burnt in, says its header"

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
_MAX_SIDE_PX = 2**16 - 1
"""As in JPEG and DICOM: a PNG of 89,000,000 x 1 pixels would take 91 GB of area weights."""
_ORIENTATION = 0x0112
_PHOTOMETRIC = 262
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# what Pillow raises for damaged files, over all of its parsers
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, TypeError, OverflowError)


class ReadImage(NamedTuple):
    """pixels_SS: uint8 (side_px, side_px). remark: what its file says that a user should see; None for nothing.

    sex, age_years, view: what a DICOM header says of the patient and the view; None for nothing.
    """

    pixels_SS: NDArray[np.uint8]
    remark: str | None = None
    sex: str | None = None
    age_years: int | None = None
    view: str | None = None


def read_image(content: bytes, side_px: int, fit: Fit) -> ReadImage:
    """The image in the bytes of a file. Raises ImageError for what cannot be used, ConfigError for a missing extra."""
    if not content:
        raise ImageError("file is empty")
    if is_dicom(content):
        image = read_dicom(content)
        pixels_SS = _square(image.pixels_HW, side_px, fit, 0.0, WHITE)
        return ReadImage(pixels_SS, BURNT_IN if image.burnt_in else None, image.sex, image.age_years, image.view)
    pixels_HW = _decode(content, side_px, fit)
    if max(pixels_HW.shape) > _MAX_SIDE_PX:
        raise ImageError("image is too large to be a radiograph")
    return ReadImage(_square(pixels_HW, side_px, fit, *gray_range(pixels_HW)))


def _square(pixels_HW: NDArray[np.generic], side_px: int, fit: Fit, low: float, high: float) -> NDArray[np.uint8]:
    """The fitted image. Raises ImageError for one of a single value."""
    image_SS = _fitted(pixels_HW, side_px, fit, low, high)
    if image_SS.min() == image_SS.max():
        raise ImageError("image is one uniform value")
    return image_SS


def _decode(content: bytes, side_px: int, fit: Fit) -> NDArray[np.generic]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata; what matters ends in an exception below
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # beyond 89 megapixels
            with Image.open(BytesIO(content), formats=_FORMATS) as image:
                return _pixels(image, side_px, fit)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError("image is too large to be a radiograph") from error
    except UnidentifiedImageError as error:
        raise ImageError("file is not an image") from error
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("image does not fit into memory") from error
    except _DAMAGE as error:
        raise ImageError("image is damaged or cut short") from error


def _pixels(opened: ImageFile, side_px: int, fit: Fit) -> NDArray[np.generic]:
    """Gray pixels (H, W) of 8 bits, 16 bits or more, after orientation."""
    inverted = _white_is_zero(opened)
    _require_all_bits(opened)
    if opened.format == "JPEG":
        opened.draft("L", fitted_size(opened.size, side_px, fit))
    opened.load()  # a TIFF is turned by Pillow as it is loaded, and then no longer says that it has to be
    orientation = opened.getexif().get(_ORIENTATION, 1)
    image: Image.Image = opened
    if not (image.mode.startswith("I") or image.mode == "F" or image.mode == "L"):
        image = (image.convert("RGB") if image.mode in ("P", "PA") else image).convert("L")
    if orientation in _TRANSPOSE:
        image = image.transpose(_TRANSPOSE[orientation])
    pixels_HW = np.asarray(image)
    return np.iinfo(pixels_HW.dtype).max - pixels_HW if inverted and pixels_HW.dtype.kind in "iu" else pixels_HW


def _require_all_bits(image: ImageFile) -> None:
    """Raises ImageError for depths of which Pillow would keep the upper 8 bits: nearly black, if 12 of 16 are used."""
    for tile in image.tile:
        raw_mode = tile.args if isinstance(tile.args, str) else str((tile.args or [""])[0])
        if ";16" in raw_mode and not image.mode.startswith("I"):
            raise ImageError("16-bit colour, or 16-bit gray with transparency; only 16-bit gray is supported")


def _white_is_zero(image: Image.Image) -> bool:
    """True for TIFFs whose zero is white at a depth where Pillow leaves that to the caller."""
    return isinstance(image, TiffImageFile) and image.mode.startswith("I") and image.tag_v2.get(_PHOTOMETRIC) == 0


def _fitted(pixels_HW: NDArray[np.generic], side_px: int, fit: Fit, low: float, high: float) -> NDArray[np.uint8]:
    height, width = pixels_HW.shape
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resize_area(pixels_HW[top : top + side, left : left + side], side_px, side_px, low, high)
    if fit == "squeeze":
        return resize_area(pixels_HW, side_px, side_px, low, high)
    w, h = fitted_size((width, height), side_px, fit)
    image_SS = np.zeros((side_px, side_px), np.uint8)
    top, left = (side_px - h) // 2, (side_px - w) // 2
    image_SS[top : top + h, left : left + w] = resize_area(pixels_HW, h, w, low, high)
    return image_SS


def fitted_size(size: tuple[int, int], side_px: int, fit: Fit) -> tuple[int, int]:
    """Width and height [px] that an image of `size` (width, height) takes before it is cropped or padded."""
    if fit == "squeeze":
        return side_px, side_px
    reference = min(size) if fit == "crop" else max(size)
    width, height = (max(1, round(Fraction(side_px * length, reference))) for length in size)
    return width, height


def resize_area(
    pixels_HW: NDArray[np.generic], height: int, width: int, low: float = 0.0, high: float = 255.0
) -> NDArray[np.uint8]:
    """Means over the areas of the new pixels, low..high mapped to 0..255, rounded half up. uint8 (height, width)."""
    columns_wW = _area_weights(pixels_HW.shape[1], width)
    sums_hw = _sums_over_rows(pixels_HW, height) @ columns_wW.T
    area = float(pixels_HW.shape[0] * pixels_HW.shape[1])
    scaled_hw = np.floor((sums_hw - area * low) * 255 / (area * (high - low)) + 0.5)
    return np.clip(scaled_hw, 0, 255).astype(np.uint8)


def _sums_over_rows(pixels_HW: NDArray[np.generic], height: int) -> NDArray[np.float64]:
    """Sums over the rows that each of `height` new ones covers, in units of 1/height of a row. float64 (height, W).

    Large images of whole numbers take a twelfth of the time of a product with the weights, whose result is the same:
    most rows belong to one new row alone.
    """
    length = pixels_HW.shape[0]
    if pixels_HW.dtype not in (np.uint8, np.uint16) or length < 2 * height:
        return _area_weights(length, height) @ pixels_HW.astype(np.float64, copy=False)
    sums_hW = np.empty((height, pixels_HW.shape[1]))
    for row in range(height):
        start, stop = row * length, (row + 1) * length
        first, last = -(-start // height), stop // height
        # 65,535 rows of 65,535 are below 2**32
        sums_hW[row] = pixels_HW[first:last].sum(axis=0, dtype=np.uint32)
        sums_hW[row] *= height
        if first * height > start:
            sums_hW[row] += pixels_HW[first - 1] * np.float64(first * height - start)
        if stop > last * height:
            sums_hW[row] += pixels_HW[last] * np.float64(stop - last * height)
    return sums_hW


@lru_cache(maxsize=8)  # up to 5 MB each: a collection may have as many sizes as images
def _area_weights(length: int, new_length: int) -> NDArray[np.float64]:
    """Overlap of each new pixel with each old one, (new_length, length), in units of 1/new_length of an old pixel."""
    edges = np.arange(length + 1, dtype=np.int64) * new_length
    new_edges = np.arange(new_length + 1, dtype=np.int64) * length
    overlap = np.minimum(edges[1:], new_edges[1:, None]) - np.maximum(edges[:-1], new_edges[:-1, None])
    weights: NDArray[np.float64] = np.maximum(overlap, 0).astype(np.float64)
    return weights

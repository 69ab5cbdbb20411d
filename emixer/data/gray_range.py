"""Which values of an image become black and white where neither its depth nor its header says so.

A marker burnt in at full scale or a dead pixel would make everything else black if the extremes decided, so the darkest
and the brightest half a percent of the pixels do not count.
"""

import numpy as np
from numpy.typing import NDArray

from emixer.data.image_error import ImageError

GRAY_RANGE_RULE = (
    "8-bit images keep their values. Deeper ones: 0 and 255 are the values that 0.5 % of pixels lie below and above, "
    "or the lowest and the highest value where these two are equal."
)
"""Stands in the manifest."""

_OUTSIDE = 200  # one pixel in so many on either side


def gray_range(pixels: NDArray[np.generic]) -> tuple[float, float]:
    """The values that become 0 and 255, by GRAY_RANGE_RULE. Raises ImageError for one value, or values not finite."""
    if pixels.dtype == np.uint8:
        return 0.0, 255.0
    if pixels.dtype == np.uint16:
        return range_of_levels(np.arange(2**16), np.bincount(pixels.ravel(), minlength=2**16))
    if not np.isfinite(pixels).all():
        raise ImageError("image has values that are not finite")
    return range_of_levels(*np.unique(pixels, return_counts=True))


def range_of_levels(levels_N: NDArray[np.generic], counts_N: NDArray[np.intp]) -> tuple[float, float]:
    """The same of ascending values and how many pixels have each. Raises ImageError for an image of one value."""
    ends_N = np.cumsum(counts_N)
    num_pixels = int(ends_N[-1])
    outside = num_pixels // _OUTSIDE
    low, high = np.searchsorted(ends_N, [outside, num_pixels - 1 - outside], side="right")
    if levels_N[low] == levels_N[high]:
        low, high = np.searchsorted(ends_N, [0, num_pixels - 1], side="right")
    if levels_N[low] == levels_N[high]:
        raise ImageError("image is one uniform value")
    return float(levels_N[low]), float(levels_N[high])

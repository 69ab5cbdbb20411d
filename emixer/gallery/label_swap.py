"""The label-swap strip: the same noise with another label, to see how image and report change.

Shapes: H = W side [px], Y labels, K labels swapped in.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emixer.data.labels import Label
from emixer.gallery.page import Pair, Swapped, SwapStrip, picture_uri

_SEEN_CHANGE = 60
"""Change of a pixel [gray levels of 255] that is drawn in full colour."""
_BRIGHTER, _DARKER = np.array([245, 171, 92]), np.array([90, 160, 255])


def swap_labels(label_names: Sequence[str], label_counts: Sequence[int], num: int) -> list[int]:
    """Labels to swap in: the `num` most frequent ones, except "No Finding"."""
    findings = [y for y in np.argsort(-np.asarray(label_counts), kind="stable") if label_names[y] != Label.NO_FINDING]
    return [int(y) for y in findings[:num] if label_counts[y] > 0]


def swap_vectors(label_names: Sequence[str], labels: Sequence[int]) -> NDArray[np.uint8]:
    """Label vectors (1 + K, Y): first no finding, which is a separate label in some collections; then each label."""
    vectors = np.zeros((1 + len(labels), len(label_names)), np.uint8)
    if Label.NO_FINDING in label_names:
        vectors[0, list(label_names).index(Label.NO_FINDING)] = 1
    vectors[np.arange(1, len(vectors)), labels] = 1
    return vectors


def swap_strip(pairs: Sequence[Pair], labels: Sequence[str], named: Sequence[bool | None]) -> SwapStrip:
    """Strip of pairs that were sampled with one noise and `swap_vectors`.

    labels: those swapped in; named: whether the report of each states it, None if unknown.
    """
    base, *others = pairs
    return SwapStrip(
        base,
        tuple(
            Swapped(label, pair, picture_uri(_change(base.image_HW, pair.image_HW), "PNG"), is_named)
            for label, pair, is_named in zip(labels, others, named, strict=True)
        ),
    )


def _change(before_HW: NDArray[np.uint8], after_HW: NDArray[np.uint8]) -> Image.Image:
    change_HW = after_HW.astype(np.int16) - before_HW
    strength_HW1 = np.minimum(np.abs(change_HW) / _SEEN_CHANGE, 1)[:, :, None]
    colour_HW3 = np.where(change_HW[:, :, None] > 0, _BRIGHTER, _DARKER)
    dim_HW1 = before_HW[:, :, None] * 0.35
    return Image.fromarray((dim_HW1 * (1 - strength_HW1) + colour_HW3 * strength_HW1).astype(np.uint8))

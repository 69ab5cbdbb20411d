"""Images and reports broken on purpose, so that an ingest can be tested on what real collections hold."""

import io
from collections.abc import Iterator
from enum import StrEnum

import numpy as np
from PIL import Image

from emixer.data.phantom.radiograph import Radiograph


class Damage(StrEnum):
    """What was done. The first five concern the study's first image, the next two its report, the last its label
    row."""

    TRUNCATED = "truncated image"
    EMPTY = "empty image"
    NOT_AN_IMAGE = "image is not an image"
    SIXTEEN_BIT = "image is a 16-bit PNG"
    RGB = "image is an RGB JPEG"
    MISSING_REPORT = "missing report"
    NOT_UTF8 = "report is not UTF-8"
    NO_LABEL_ROW = "no label row"


IMAGE_DAMAGES = tuple(Damage)[:5]


def damaged_studies(studies: int, broken_files: int) -> Iterator[tuple[int, Damage]]:
    """(study index, damage): spread evenly over the collection, the kinds in turn."""
    kinds = tuple(Damage)
    for k in range(broken_files):
        yield (2 * k + 1) * studies // (2 * broken_files), kinds[k % len(kinds)]


def broken_image(jpeg: bytes, image: Radiograph, damage: Damage | None) -> bytes:
    """What is stored in place of `jpeg`; `jpeg` itself for damages that are not an image's."""
    if damage is Damage.TRUNCATED:
        return jpeg[: len(jpeg) // 3]
    if damage is Damage.EMPTY:
        return b""
    if damage is Damage.NOT_AN_IMAGE:
        return b"<html><body>503 Service Unavailable</body></html>\n"
    buffer = io.BytesIO()
    if damage is Damage.SIXTEEN_BIT:
        Image.fromarray(image.astype(np.uint16) * 257).save(buffer, format="PNG")
        return buffer.getvalue()
    if damage is Damage.RGB:
        Image.fromarray(image).convert("RGB").save(buffer, format="JPEG", quality=92)
        return buffer.getvalue()
    return jpeg


def broken_report(text: str, damage: Damage | None) -> bytes | None:
    """What is stored as the report; None where the file is to be missing."""
    if damage is Damage.MISSING_REPORT:
        return None
    if damage is Damage.NOT_UTF8:
        return text.replace("the ", "th\xe9 ", 1).encode("latin-1") + b"\xff\xfe\n"
    return text.encode("utf-8")

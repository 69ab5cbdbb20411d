"""The size that a compressed image's own header declares, read without decoding it.

Sources: ITU-T T.81 B.2 (JPEG), T.87 C.2 (JPEG-LS), T.800 A.5.1 (JPEG 2000).
"""

import struct
from typing import NamedTuple

_JPEG_START, _JPEG_2000_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
_JP2_START = b"\0\0\0\x0cjP  "
"""A container around JPEG 2000, which DICOM does not allow and some devices write."""
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""Markers SOF0 to SOF15 but DHT, JPG and DAC; and SOF55."""
_SCAN = 0xDA


class EncodedSize(NamedTuple):
    """What a stream declares."""

    rows: int
    columns: int
    components: int


def encoded_size(stream: bytes) -> EncodedSize | None:
    """The size of a JPEG, JPEG-LS or JPEG 2000 stream; None where it declares none, or more than one."""
    if stream.startswith(_JP2_START):
        stream = stream[max(0, stream.find(_JPEG_2000_START)) :]
    try:
        if stream.startswith(_JPEG_2000_START):
            right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
            (components,) = struct.unpack_from(">H", stream, 40)
            return EncodedSize(bottom - top, right - left, components)
        return _of_jpeg(stream) if stream.startswith(_JPEG_START) else None
    except struct.error:
        return None


def _of_jpeg(stream: bytes) -> EncodedSize | None:
    """Walks over the segments up to the first scan."""
    found: EncodedSize | None = None
    place = len(_JPEG_START)
    while True:
        fill, marker, length = struct.unpack_from(">BBH", stream, place)
        if fill != 0xFF:
            return None
        if marker == 0xFF:  # may be repeated
            place += 1
            continue
        if marker == _SCAN:
            return found
        if marker in _FRAMES:
            if found is not None:
                return None
            found = EncodedSize(*struct.unpack_from(">HHB", stream, place + 5))
        place += 2 + length

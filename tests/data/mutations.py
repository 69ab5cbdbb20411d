"""Files of a collection damaged at random: cut, flipped, reordered, swapped for another kind, oversized on paper."""

import struct
from collections.abc import Callable, Mapping
from io import BytesIO

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from tests.data.dicom_files import dicom_bytes, dicom_dataset, jpeg_2000, jpeg_lossless, jpeg_ls

HEIGHT_PX, WIDTH_PX = 48, 40
_HUGE = (0, 1, 2**15 - 1, 2**16 - 1)
_PNG_SIZE = 16  # width and height in IHDR
_ROWS, _COLUMNS, _FRAMES = b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x11\x00US\x02\x00", b"\x28\x00\x08\x00IS"
_BITS_STORED = b"\x28\x00\x01\x01US\x02\x00"

Mutation = Callable[[bytes, np.random.Generator], bytes]


def whole_images(seed: int) -> dict[str, bytes]:
    """The same image as a file of each kind."""
    return {kind: whole_image(kind, seed) for kind in KINDS}


def whole_image(kind: str, seed: int) -> bytes:
    """An image of noise as a file of a kind."""
    return KINDS[kind](np.random.default_rng(seed).integers(0, 4096, (HEIGHT_PX, WIDTH_PX), dtype=np.uint16))


def _gray(pixels: np.ndarray) -> np.ndarray:
    return (pixels >> 4).astype(np.uint8)


def _run_lengths(pixels: np.ndarray) -> bytes:
    header = _dicom(pixels)
    header.compress(RLELossless, generate_instance_uid=False)
    return dicom_bytes(header)


def _deflated(pixels: np.ndarray) -> bytes:
    header = _dicom(pixels)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return dicom_bytes(header)


def _dicom(pixels: np.ndarray) -> Dataset:
    return dicom_dataset(pixels, 12, WindowCenter=2048, WindowWidth=4096)


def _encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


KINDS: dict[str, Callable[[np.ndarray], bytes]] = {
    "jpeg": lambda pixels: _encoded(_gray(pixels), "JPEG"),
    "colour jpeg": lambda pixels: _encoded(np.dstack([_gray(pixels)] * 3), "JPEG"),
    "progressive jpeg": lambda pixels: _encoded(_gray(pixels), "JPEG", progressive=True),
    "png": lambda pixels: _encoded(_gray(pixels), "PNG"),
    "deep png": lambda pixels: _encoded(pixels << 4, "PNG"),
    "dicom": lambda pixels: dicom_bytes(_dicom(pixels)),
    "jpeg lossless": lambda pixels: dicom_bytes(jpeg_lossless(_dicom(pixels))),
    "jpeg-ls": lambda pixels: dicom_bytes(jpeg_ls(_dicom(pixels))),
    "jpeg 2000": lambda pixels: dicom_bytes(jpeg_2000(_dicom(pixels))),
    "run lengths": _run_lengths,
    "deflated": _deflated,
}


def mutated(
    content: bytes, generator: np.random.Generator, others: Mapping[str, bytes], *, is_text: bool = False
) -> bytes:
    """`content` after one to three mutations of those that suit it. others: files to be mistaken for it."""
    choices: list[Mutation] = [_truncate, _flip_bits, _flip_bits, _swap_sections, _overwrite, lambda *_: b""]
    choices += [_encode_otherwise] if is_text else [_declare_another_size, _declare_another_size]
    choices += [lambda _, g: list(others.values())[g.integers(len(others))]] if others else []
    for _ in range(generator.integers(1, 4)):
        content = choices[generator.integers(len(choices))](content, generator)
    return content


def _truncate(content: bytes, generator: np.random.Generator) -> bytes:
    return content[: generator.integers(len(content) + 1)]


def _flip_bits(content: bytes, generator: np.random.Generator) -> bytes:
    """Half of the time in the first 400 bytes, where headers are."""
    flipped = bytearray(content)
    reach = min(len(flipped), 400) if generator.random() < 0.5 else len(flipped)
    for place in generator.integers(reach, size=generator.integers(1, 12)) if reach else ():
        flipped[place] ^= 1 << int(generator.integers(8))
    return bytes(flipped)


def _swap_sections(content: bytes, generator: np.random.Generator) -> bytes:
    a, b, c = sorted(generator.integers(len(content) + 1, size=3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def _overwrite(content: bytes, generator: np.random.Generator) -> bytes:
    start = int(generator.integers(len(content) + 1))
    length = int(generator.integers(1, 64))
    return content[:start] + generator.bytes(length) + content[start + length :]


def _encode_otherwise(content: bytes, generator: np.random.Generator) -> bytes:
    name = ("utf-16", "utf-32-be", "latin-1", "utf-8-sig", "cp037", "utf-7")[generator.integers(6)]
    return content.decode("utf-8", "replace").encode(name, "replace")


def _declare_another_size(content: bytes, generator: np.random.Generator) -> bytes:
    """Other rows, columns, frames or bits in the header of a JPEG, PNG or DICOM file; anything else stays."""
    sizes = [int(_HUGE[i]) for i in generator.integers(len(_HUGE), size=2)]
    sized = bytearray(content)
    frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"), content.find(b"\xff\xc3"))
    if content.startswith(b"\x89PNG") and len(content) > _PNG_SIZE + 8:
        sized[_PNG_SIZE : _PNG_SIZE + 8] = struct.pack(">II", *(size << int(generator.integers(16)) for size in sizes))
    elif 0 <= frame < len(content) - 9 and generator.random() < 0.7:
        sized[frame + 5 : frame + 9] = struct.pack(">HH", *sizes)
    for tag in (_ROWS, _COLUMNS, _BITS_STORED, _FRAMES):
        place = content.find(tag)
        if 0 <= place < len(content) - 10 and generator.random() < 0.5:
            sized[place + 8 : place + 10] = struct.pack("<H", sizes[0])
    return bytes(sized)

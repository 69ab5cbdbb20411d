"""Image decoding: exact area means, every kind of file, and a reason for everything that cannot be used."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emixer.data.image_error import ImageError
from emixer.data.images import Fit, read_image, resize_area


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return (20 + 200 * (rows / height + columns / width) / 2).astype(np.uint8)


def area_by_loop(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each old pixel cut into height x width equal tiles, each new pixel the mean of the tiles it covers."""
    tiles = np.repeat(np.repeat(pixels.astype(np.int64), height, 0), width, 1)
    blocks = tiles.reshape(height, pixels.shape[0], width, pixels.shape[1])
    area = pixels.shape[0] * pixels.shape[1]
    return (2 * blocks.sum(axis=(1, 3)) + area) // (2 * area)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_area_resize_is_exact_whatever_the_sizes(h: int, w: int, new_h: int, new_w: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (h, w), dtype=np.uint8)
    np.testing.assert_array_equal(resize_area(pixels, new_h, new_w), area_by_loop(pixels, new_h, new_w))


def test_a_hand_computed_mean_is_rounded_half_up() -> None:
    assert resize_area(np.array([[1, 2], [4, 3]], np.uint8), 1, 1).item() == 3  # 2.5
    np.testing.assert_array_equal(resize_area(np.array([[0, 90, 255]], np.uint8), 1, 2), [[30, 200]])


def test_reduced_scale_decoding_differs_little_from_full_decoding() -> None:
    image = gradient(800, 640)
    small = read_image(encoded(image, "JPEG", quality=95), 64, "squeeze").pixels_SS
    assert np.abs(small.astype(int) - resize_area(image, 64, 64)).max() <= 2


@pytest.mark.parametrize(
    ("size", "side", "fit", "scale"),
    [
        ((640, 800), 64, "squeeze", 8),
        ((2500, 3000), 256, "crop", 8),
        ((2500, 3000), 320, "crop", 4),  # an eighth would be below
    ],
)
def test_large_jpegs_are_decoded_at_the_smallest_scale_that_is_not_below_the_target(
    size: tuple[int, int], side: int, fit: Fit, scale: int
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
    content = encoded(noise, "JPEG")
    full, small = (Image.open(BytesIO(content)) for _ in range(2))
    small.draft("L", (size[0] // scale, size[1] // scale))
    assert small.size == (-(-size[0] // scale), -(-size[1] // scale))
    assert min(small.size) >= side
    shown = read_image(content, side, fit).pixels_SS
    # without loss, so that nothing but the scale of the JPEG differs
    by_scale = [read_image(encoded(np.asarray(image)), side, fit).pixels_SS for image in (small, full)]
    np.testing.assert_array_equal(shown, by_scale[0])
    assert (shown != by_scale[1]).mean() > 0.5


def test_crop_takes_the_centre() -> None:
    image = np.zeros((4, 8), np.uint8)
    image[:, 2:6] = [[10, 20, 30, 40]] * 4
    np.testing.assert_array_equal(read_image(encoded(image), 4, "crop").pixels_SS, [[10, 20, 30, 40]] * 4)


def test_pad_centres_on_black_and_squeeze_uses_all() -> None:
    image = np.full((4, 8), 100, np.uint8)
    image[:, 4:] = 200
    padded = read_image(encoded(image), 8, "pad").pixels_SS
    assert padded[:2].max() == 0
    assert padded[6:].max() == 0
    np.testing.assert_array_equal(padded[2:6], image)
    np.testing.assert_array_equal(read_image(encoded(image), 4, "squeeze").pixels_SS, [[100, 100, 200, 200]] * 4)


def test_sixteen_bit_images_are_scaled_from_their_own_range() -> None:
    image = np.array([[100, 1100], [2100, 4100]], np.uint16)
    expected = np.floor((image - 100.0) * 255 / 4000 + 0.5)
    for content in (encoded(image), encoded(image, "TIFF")):
        np.testing.assert_array_equal(read_image(content, 2, "crop").pixels_SS, expected)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_marker_burnt_into_a_deep_image_does_not_blacken_it(dtype: type) -> None:
    image = np.arange(1000, 1400).reshape(20, 20).astype(dtype)
    image[0, 0], image[19, 19] = 65535, 0  # of 400 pixels two on either side are outside
    expected = np.clip(np.floor((image.astype(float) - 1002) * 255 / (1397 - 1002) + 0.5), 0, 255)
    np.testing.assert_array_equal(read_image(encoded(image, "TIFF"), 20, "crop").pixels_SS, expected)


def test_a_deep_image_that_is_nearly_all_background_keeps_its_extremes() -> None:
    image = np.full((30, 30), 500, np.uint16)
    image[15, 15], image[15, 16] = 900, 700
    shown = read_image(encoded(image), 30, "crop").pixels_SS
    assert (shown[15, 15], shown[15, 16], shown[0, 0]) == (255, 128, 0)  # 127.5 is rounded up


def test_sixteen_bit_tiffs_whose_zero_is_white_are_inverted() -> None:
    image = np.array([[0, 65535], [0, 0]], np.uint16)
    content = encoded(image, "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(read_image(content, 2, "crop").pixels_SS, [[255, 0], [255, 255]])


def test_float_images_are_scaled_and_refused_when_not_finite() -> None:
    image = np.array([[0.0, 0.5], [1.0, 0.25]], np.float32)
    np.testing.assert_array_equal(read_image(encoded(image, "TIFF"), 2, "crop").pixels_SS, [[0, 128], [255, 64]])
    image[0, 0] = np.nan
    with pytest.raises(ImageError, match="not finite"):
        read_image(encoded(image, "TIFF"), 2, "crop")


def test_colour_becomes_luma_and_palettes_and_transparency_are_read() -> None:
    colour = np.zeros((2, 2, 3), np.uint8)
    colour[0, 0], colour[1, 1] = (255, 0, 0), (0, 255, 0)
    expected = [[76, 0], [0, 150]]  # 0.299 and 0.587 of 255
    np.testing.assert_array_equal(read_image(encoded(colour), 2, "crop").pixels_SS, expected)
    alpha = np.dstack([colour, np.full((2, 2), 7, np.uint8)])
    np.testing.assert_array_equal(read_image(encoded(alpha), 2, "crop").pixels_SS, expected)
    buffer = BytesIO()
    Image.fromarray(colour).quantize(4).save(buffer, "PNG")
    np.testing.assert_allclose(read_image(buffer.getvalue(), 2, "crop").pixels_SS, expected, atol=1)


def test_colour_jpegs_give_their_luma() -> None:
    colour = np.dstack([gradient(64, 64)] * 3)
    small = read_image(encoded(colour, "JPEG", quality=95), 16, "crop").pixels_SS
    assert np.abs(small.astype(int) - resize_area(gradient(64, 64), 16, 16)).max() <= 2


ORIENTED = {
    1: [[10, 20], [30, 40]], 2: [[20, 10], [40, 30]], 3: [[40, 30], [20, 10]], 4: [[30, 40], [10, 20]],
    5: [[10, 30], [20, 40]], 6: [[30, 10], [40, 20]], 7: [[40, 20], [30, 10]], 8: [[20, 40], [10, 30]],
}  # fmt: skip
"""[[10, 20], [30, 40]] as the first row and column of each orientation say (TIFF 6.0, tag 274)."""


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    """Pillow turns TIFFs as it loads them and leaves other files to the caller."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = np.array([[10, 20], [30, 40]], np.uint8)
    shown = read_image(encoded(image, kind, exif=exif), 2, "crop").pixels_SS
    np.testing.assert_array_equal(shown, ORIENTED[orientation])


def png_of_depth_16(colour_type: int, pixels_HWC: np.ndarray) -> bytes:
    """PNG of 16 bits with colour or transparency, which Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, _ = pixels_HWC.shape
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels_HWC)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_depths_of_which_half_would_be_lost_are_refused(colour_type: int, channels: int) -> None:
    """12-bit values in 16-bit colour: Pillow keeps the upper 8 bits, which leaves 4."""
    pixels = np.random.default_rng(0).integers(0, 4096, (8, 8, channels))
    with pytest.raises(ImageError, match="16-bit colour"):
        read_image(png_of_depth_16(colour_type, pixels), 8, "crop")
    gray = png_of_depth_16(0, pixels[:, :, :1])
    np.testing.assert_array_equal(
        read_image(gray, 8, "crop").pixels_SS,
        read_image(encoded(pixels[:, :, 0].astype(np.uint16)), 8, "crop").pixels_SS,
    )


JPEG = encoded(gradient(64, 64), "JPEG")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "file is empty"),
        (b"this is not an image", "file is not an image"),
        (JPEG[: len(JPEG) // 2], "image is damaged or cut short"),
        (JPEG[:30], "file is not an image|image is damaged or cut short"),
        (encoded(gradient(64, 64))[:100], "image is damaged or cut short"),
        (encoded(np.full((40, 40), 7, np.uint8)), "one uniform value"),
        (encoded(np.full((40, 40), 700, np.uint16)), "one uniform value"),
        (encoded(gradient(8, 8), "GIF"), "file is not an image"),
    ],
)
def test_what_cannot_be_used_has_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        read_image(content, 16, "crop")


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    buffer = BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 100_000
    with pytest.raises(ImageError, match="too large"):
        read_image(buffer.getvalue(), 16, "crop")


def test_an_image_of_one_endless_row_is_refused() -> None:
    pixels = np.arange(70_000, dtype=np.uint16)[None] >> 9
    with pytest.raises(ImageError, match="too large"):
        read_image(encoded(pixels.astype(np.uint8)), 16, "squeeze")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(JPEG) - 1), st.integers(0, 255), st.integers(0, len(JPEG)))
def test_a_damaged_file_gives_an_image_or_a_reason_and_nothing_else(position: int, value: int, length: int) -> None:
    content = bytearray(JPEG)
    content[position] = value
    try:
        image = read_image(bytes(content[: max(length, position)]), 16, "crop").pixels_SS
    except ImageError:
        return
    assert image.shape == (16, 16)

"""Images to files. The reference is Pillow, which did not write them."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from emixer.generation.encoding import ImageFormat, encode, encode_jpeg, encode_png


def _images() -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(0, 256, (2, 24, 17), dtype=np.uint8)
    steps = np.tile(np.array([[0], [255]], np.uint8), (12, 17))  # differences that wrap round
    slope = np.add.outer(np.arange(24), np.arange(17)).astype(np.uint8)
    return np.stack([*noise, np.zeros((24, 17), np.uint8), steps, slope])


def _decoded(content: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(content))
    assert image.mode == "L"
    return np.asarray(image)


def test_png_gives_every_pixel_back() -> None:
    images = _images()
    for image, content in zip(images, encode_png(images), strict=True):
        np.testing.assert_array_equal(_decoded(content), image)


def test_png_of_one_pixel_is_a_png() -> None:
    image = np.array([[[7]]], np.uint8)
    assert _decoded(encode_png(image)[0]).tolist() == [[7]]


def test_png_of_a_view_into_a_larger_array_is_that_of_a_copy() -> None:
    images = _images()
    assert encode_png(images[1::2, ::2, 3:]) == encode_png(images[1::2, ::2, 3:].copy())


def test_smooth_image_takes_less_room_than_its_pixels() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None], (1, 64, 64))
    assert len(encode_png(ramp)[0]) < 64 * 64 / 8


def test_jpeg_is_close() -> None:
    slope = _images()[-1:]
    (content,) = encode_jpeg(slope)
    assert np.abs(_decoded(content).astype(int) - slope[0]).max() <= 2
    assert Image.open(io.BytesIO(content)).quantization[0][0] == 2, "16 * (200 - 2 * 95) / 100, rounded: quality 95"


@pytest.mark.parametrize(("image_format", "signature"), [("png", b"\x89PNG"), ("jpeg", b"\xff\xd8")])
def test_format_decides_the_encoder(image_format: ImageFormat, signature: bytes) -> None:
    assert all(content.startswith(signature) for content in encode(_images(), image_format))

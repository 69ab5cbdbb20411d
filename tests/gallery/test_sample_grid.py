"""Tests of emixer.gallery.sample_grid."""

from pathlib import Path

import numpy as np
from PIL import Image

from emixer.gallery.sample_grid import _font, _wrapped, draw_pairs

LONG = "There is a small left pleural effusion with adjacent atelectasis. " * 20


def images(num: int, side_px: int = 32) -> np.ndarray:
    return np.full((num, side_px, side_px), 200, np.uint8)


def brightness(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def test_each_image_has_its_place_and_text_beneath_it(tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    draw_pairs(
        images(5), [["Edema"], [], ["A_b"], [], []], ["Edema.", "", LONG, "Clear.", "Normal."], path, "After 10 images"
    )
    picture = brightness(path)
    assert (picture == 200).sum() >= 5 * 240 * 240
    rows = np.flatnonzero((picture == 200).sum(1) >= 240)
    below = picture[rows[0] + 240 : rows[0] + 280, 28 : 28 + 240]
    assert below.max() > 100  # the labels


def test_a_row_is_as_high_as_its_longest_report(tmp_path: Path) -> None:
    short, long = tmp_path / "short.png", tmp_path / "long.png"
    draw_pairs(images(2), [[], []], ["Clear.", "Clear."], short, "t")
    draw_pairs(images(2), [[], []], ["Clear.", LONG], long, "t")
    assert brightness(long).shape[0] > brightness(short).shape[0]


def test_text_is_wrapped_to_the_width_of_an_image_and_cut_with_an_ellipsis() -> None:
    lines = _wrapped(LONG + "x" * 200, _font(13), 4)
    assert len(lines) == 4
    assert all(_font(13).getlength(line) <= 240 for line in lines)
    assert lines[-1].endswith("…")
    assert _wrapped("Clear lungs.", _font(13), 4) == ["Clear lungs."]
    assert _wrapped("y" * 200, _font(13), 4)[0].endswith("…")  # a word wider than the image


def test_a_grid_of_no_images_is_a_picture_with_a_title(tmp_path: Path) -> None:
    path = tmp_path / "none.png"
    draw_pairs(images(0), [], [], path, "Nothing yet")
    assert brightness(path).max() > 200

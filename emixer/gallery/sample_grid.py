"""Pictures of images with their labels and reports, for sample grids and contact sheets.

Shapes: N images, H = W side [px].
"""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from emixer.files import write_bytes

_TILE_PX, _GAP_PX, _MARGIN_PX = 240, 20, 28
_TITLE_PX, _LABEL_PX, _REPORT_PX = 21, 14, 13
_LEADING = 1.36
_MAX_LABEL_LINES, _MAX_REPORT_LINES = 3, 9
_BACKGROUND = (13, 17, 22)
_TITLE_INK, _LABEL_INK, _REPORT_INK, _SOFT_INK = (240, 244, 248), (120, 214, 208), (205, 213, 222), (125, 138, 152)

Line = tuple[str, ImageFont.FreeTypeFont, tuple[int, int, int]]


def draw_pairs(
    images_NHW: NDArray[np.uint8],
    labels: Sequence[Sequence[str]],
    reports: Sequence[str],
    path: Path,
    title: str,
    columns: int = 4,
) -> None:
    """Write a PNG of rows of images, each with its labels and report below, wrapped and cut with an ellipsis.

    Raises StorageError when the disk is full.
    """
    assert len(images_NHW) == len(labels) == len(reports), "each image has labels and a report"
    captions = [_caption(*parts) for parts in zip(labels, reports, strict=True)]
    _write(path, _compose(images_NHW, captions, title, columns))


def _compose(
    images_NHW: NDArray[np.uint8], captions: Sequence[Sequence[Line]], title: str, columns: int
) -> Image.Image:
    columns = min(columns, max(len(captions), 1))
    starts = range(0, len(captions), columns)
    caption_px = [max(_height(caption) for caption in captions[start : start + columns]) for start in starts]
    top = _MARGIN_PX + round(_TITLE_PX * 2)
    width = 2 * _MARGIN_PX + columns * _TILE_PX + (columns - 1) * _GAP_PX
    height = top + sum(_TILE_PX + text_px + _GAP_PX for text_px in caption_px) - _GAP_PX + _MARGIN_PX
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    title_font = _font(_TITLE_PX, bold=True)
    title = _fitted(title, title_font, width - 2 * _MARGIN_PX)
    draw.text((_MARGIN_PX, _MARGIN_PX - 6), title, _TITLE_INK, title_font)
    y = top
    for start, text_px in zip(starts, caption_px, strict=True):
        for place, caption in enumerate(captions[start : start + columns]):
            x = _MARGIN_PX + place * (_TILE_PX + _GAP_PX)
            sheet.paste(_tile(images_NHW[start + place]), (x, y))
            _write_lines(draw, caption, x, y + _TILE_PX)
        y += _TILE_PX + text_px + _GAP_PX
    return sheet


def _tile(image_HW: NDArray[np.uint8]) -> Image.Image:
    method = Image.Resampling.BICUBIC if len(image_HW) <= _TILE_PX else Image.Resampling.LANCZOS
    return Image.fromarray(image_HW).resize((_TILE_PX, _TILE_PX), method).convert("RGB")


def _caption(labels: Sequence[str], report: str) -> list[Line]:
    label_font, report_font = _font(_LABEL_PX, bold=True), _font(_REPORT_PX)
    named = ", ".join(labels).replace("_", " ")
    ink = _LABEL_INK if named else _SOFT_INK
    lines = [(text, label_font, ink) for text in _wrapped(named or "no label", label_font, _MAX_LABEL_LINES)]
    ink = _REPORT_INK if report else _SOFT_INK
    lines += [(text, report_font, ink) for text in _wrapped(report or "no report", report_font, _MAX_REPORT_LINES)]
    return lines


def _wrapped(text: str, font: ImageFont.FreeTypeFont, max_lines: int) -> list[str]:
    """Wrap text to the width of a tile; the last line ends in an ellipsis if text is cut."""
    lines, current = [], ""
    for word in text.split():
        longer = f"{current} {word}".strip()
        if current and font.getlength(longer) > _TILE_PX:
            lines.append(current)
            current = word
        else:
            current = longer
    lines.append(current)
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], f"{lines[max_lines - 1]} …"]
    return [_fitted(line, font, _TILE_PX) for line in lines]


def _fitted(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> str:
    """`text`, truncated to fit the width."""
    if font.getlength(text) <= width_px:
        return text
    text = text.removesuffix(" …")
    while text and font.getlength(f"{text}…") > width_px:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _height(lines: Sequence[Line]) -> int:
    return 10 + round(sum(font.size * _LEADING for _, font, _ in lines))


def _write_lines(draw: ImageDraw.ImageDraw, lines: Sequence[Line], x: int, y: int) -> None:
    at = y + 10.0
    for text, font, ink in lines:
        draw.text((x, at), text, ink, font)
        at += font.size * _LEADING


@cache
def _font(size_px: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # matplotlib ships a font with every character of a report; no system font is needed
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), size_px)


def _write(path: Path, picture: Image.Image) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")  # optimize=True: a sixth smaller, but six times as slow, and training waits
    write_bytes(path, buffer.getvalue())

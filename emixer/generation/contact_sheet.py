"""A picture of the first pairs of a dataset: images with their labels and the beginning of their reports."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_TILE_PX, _GAP_PX, _TITLE_PX, _CAPTION_PX = 256, 16, 40, 108
_LINE_PX, _FONT_PX, _CHARACTERS = 16, 13, 40
_LABEL_LINES, _REPORT_LINES = 2, 4
_BACKGROUND, _TITLE_INK, _LABEL_INK, _REPORT_INK = "#101214", "#ffffff", "#f5c46b", "#c8ccd0"


@dataclass(frozen=True)
class CaptionedImage:
    """One tile."""

    image: bytes
    """An encoded image."""
    labels: Sequence[str]
    report: str


def contact_sheet(images: Sequence[CaptionedImage], title: str, columns: int = 4) -> bytes:
    """PNG bytes of a grid. Small images are enlarged without smoothing, so that every pixel can be seen."""
    rows = -(-len(images) // columns)
    step_x, step_y = _TILE_PX + _GAP_PX, _TILE_PX + _CAPTION_PX + _GAP_PX
    sheet = Image.new("RGB", (columns * step_x + _GAP_PX, _TITLE_PX + rows * step_y + _GAP_PX), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP_PX, _GAP_PX), title, _TITLE_INK, ImageFont.load_default(_FONT_PX + 3))
    for place, image in enumerate(images):
        x, y = _GAP_PX + place % columns * step_x, _TITLE_PX + _GAP_PX + place // columns * step_y
        sheet.paste(_tile(image.image), (x, y))
        _write_caption(draw, image, x, y + _TILE_PX + _GAP_PX // 2)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _tile(encoded: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(encoded)).convert("L")
    method = Image.Resampling.NEAREST if image.width <= _TILE_PX else Image.Resampling.BOX
    return image.resize((_TILE_PX, _TILE_PX), method)


def _write_caption(draw: ImageDraw.ImageDraw, image: CaptionedImage, x: int, y: int) -> None:
    font = ImageFont.load_default(_FONT_PX)
    labels = textwrap.wrap(
        ", ".join(image.labels) or "no label", _CHARACTERS, max_lines=_LABEL_LINES, placeholder=" ..."
    )
    report = textwrap.wrap(image.report or "(empty report)", _CHARACTERS, max_lines=_REPORT_LINES, placeholder=" ...")
    for place, line in enumerate([*labels, *report]):
        ink = _LABEL_INK if place < len(labels) else _REPORT_INK
        draw.text((x, y + place * _LINE_PX), line, ink, font)

"""docs/images/phantom.png: fourteen normal images, then one for each label under what its report says.

Run `python -m emixer.data.phantom.contact_sheet OUT.png`.
"""

import io
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from emixer.data.labels import CHEXPERT, Label
from emixer.data.phantom.anatomy import sample_anatomy
from emixer.data.phantom.canvas import Frame
from emixer.data.phantom.findings import Findings, Side
from emixer.data.phantom.radiograph import Exposure, ImageKey, Radiograph, render_frontal
from emixer.data.phantom.randomness import Stream, generator
from emixer.data.phantom.sampling import sample_findings
from emixer.data.phantom.wording import all_clear, positive, without_history
from emixer.files import write_bytes

_COLUMNS = 7
_SEED = 20
_HEIGHT_PX = 512
_MAX_BYTES = 300_000


def one_image(number: int, findings: Findings) -> Radiograph:
    """A PA image of patient `number` with the given findings."""
    anatomy = sample_anatomy(generator(_SEED, Stream.SUBJECT, number))
    columns = round(_HEIGHT_PX * 0.82)
    scale = _HEIGHT_PX / (0.9 * 42.7)
    turn = float(generator(_SEED, Stream.IMAGE, number).normal(0, 0.012))
    frame = Frame(_HEIGHT_PX, columns, scale, -columns / scale / 2, -5.6, turn)
    exposure = Exposure(marker=Side.LEFT if number % 3 else Side.RIGHT, marker_y_cm=2.0)
    return render_frontal(anatomy, findings, findings.heart_ratio, frame, exposure, ImageKey(_SEED, number, 0))


def labelled(number: int, label: Label) -> tuple[Radiograph, str]:
    """An image that shows one label well, and its sentence."""
    rng = generator(_SEED, Stream.FINDINGS, number)
    if label is Label.NO_FINDING:
        return one_image(number, sample_findings(frozenset(), rng)), all_clear(rng).text
    findings = sample_findings(frozenset({label}), rng)
    for _ in range(60):  # a page for readers: take one that is easy to see
        if 0.45 <= findings.severity(label) <= 0.8:
            break
        findings = sample_findings(frozenset({label}), rng)
    findings = replace(findings, devices=findings.devices[:3])
    sentences = [without_history(sentence).text for sentence in positive(rng, findings, label)]
    return one_image(number, findings), " ".join(sentences)


def contact_sheet() -> bytes:
    """The page as a grayscale PNG of at most 300 kB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.8, 7.9), dpi=100)
    drawing = FigureCanvasAgg(figure)
    heights = (1.0, 1.0, 1.42, 1.42)
    grid = figure.add_gridspec(
        4, _COLUMNS, height_ratios=heights, left=0.004, right=0.996, top=0.996, bottom=0.004, wspace=0.03, hspace=0.02
    )
    for position in range(4 * _COLUMNS):
        axes = figure.add_subplot(grid[position // _COLUMNS, position % _COLUMNS])
        axes.set_axis_off()
        axes.set_anchor("N")
        if position < 2 * _COLUMNS:
            healthy = sample_findings(frozenset(), generator(_SEED, Stream.FINDINGS, position))
            axes.imshow(_thumbnail(one_image(position, healthy)), cmap="gray", vmin=0, vmax=255)
            continue
        label = Label(CHEXPERT[position - 2 * _COLUMNS])
        image, caption = labelled(position, label)
        axes.imshow(_thumbnail(image), cmap="gray", vmin=0, vmax=255)
        text = f"{label}\n" + "\n".join(textwrap.wrap(caption, 29)[:6])
        axes.text(0, 1.03 * 166, text, fontsize=5.6, va="top", linespacing=1.25)
    drawing.draw()
    page = Image.fromarray(np.asarray(drawing.buffer_rgba())).convert("L")
    return _small_png(page)


def _thumbnail(image: Radiograph) -> Radiograph:
    return np.asarray(Image.fromarray(image).resize((136, 166), Image.Resampling.BOX))


def _small_png(page: Image.Image) -> bytes:
    """As many gray levels as the limit on bytes allows."""
    for levels in (256, 128, 96, 64, 48, 32, 24):
        step = 256 / levels
        gray = np.asarray(page, dtype=np.float32)
        coarse = np.clip(np.rint(gray / step), 0, levels - 1).astype(np.uint8)
        image = Image.fromarray(coarse)
        image.putpalette([round(k * 255 / (levels - 1)) for k in range(levels) for _ in range(3)])
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", optimize=True)
        if buffer.tell() <= _MAX_BYTES:
            return buffer.getvalue()
    raise AssertionError(f"the page does not fit into {_MAX_BYTES} bytes")


if __name__ == "__main__":
    write_bytes(Path(sys.argv[1]), contact_sheet())

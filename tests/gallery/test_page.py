"""Tests of emixer.gallery.page."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from emixer.gallery.page import Comparison, Facts, Gallery, LabelRow, Pair, label_rows_of, render

IMAGE = np.arange(64, dtype=np.uint8).reshape(8, 8)
ATTACK = '<script>alert(1)</script> & "quoted" </p>'


class Tags(HTMLParser):
    """Counts elements and keeps what they refer to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def gallery(**parts: object) -> Gallery:
    return Gallery(title="Run", lead="What it is.", **parts)  # type: ignore[arg-type]


def test_images_are_in_the_page_pixel_for_pixel() -> None:
    html = render(gallery(comparisons=(Comparison(("Edema",), generated=Pair(IMAGE, "Edema.")),)))
    uri = next(source for source in Tags(html).sources if source.startswith("data:image/png"))
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))
    assert np.array_equal(np.asarray(image), IMAGE)


def test_the_page_refers_to_nothing_outside_itself() -> None:
    html = render(gallery(comparisons=(Comparison((), Pair(IMAGE, "a"), Pair(IMAGE, "b")),)))
    assert all(source.startswith(("data:", "#")) for source in Tags(html).sources)
    assert "http://" not in html
    assert "https://" not in html


def test_all_text_is_escaped() -> None:
    pair = Pair(IMAGE, ATTACK)
    html = render(
        Gallery(
            ATTACK, ATTACK, highlights=((ATTACK, ATTACK),), comparisons=(Comparison((ATTACK,), pair, pair),),
            label_rows=(LabelRow(ATTACK, 0.7, 0.6, None, None),), label_counts=((ATTACK, 3),),
            facts=(Facts(ATTACK, ((ATTACK, ATTACK),)),),
        )
    )  # fmt: skip
    assert "<script>alert" not in html
    assert Tags(html).names.count("script") == 2  # the points of the charts and the page's own


def test_parts_that_are_empty_are_left_out() -> None:
    ids = Tags(render(gallery())).ids
    assert not {"pairs", "grids", "curves", "labels", "counts", "facts"} & set(ids)


def test_a_page_with_real_images_says_so_and_one_without_does_not() -> None:
    pair = Pair(IMAGE, "Clear.")
    with_real = render(gallery(comparisons=(Comparison((), real=pair, generated=pair),)))
    without = render(gallery(comparisons=(Comparison((), generated=pair),)))
    assert "share this page only as the terms" in with_real
    assert "share this page only as the terms" not in without
    assert "Real beside generated" not in without


def test_label_rows_hold_what_was_measured_of_generated_pairs() -> None:
    measured = {
        "validation/label_auc_generated/Edema": 0.6, "validation/label_auc_real/Edema": 0.8,
        "validation/report_f1_generated/Fracture": 0.5, "validation/label_auc_real/Pneumonia": 0.7,
    }  # fmt: skip
    rows = label_rows_of(measured, ["Edema", "Fracture", "Pneumonia"])
    assert rows == (LabelRow("Edema", 0.8, 0.6, None, None), LabelRow("Fracture", None, None, None, 0.5))

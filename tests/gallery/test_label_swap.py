import base64
import io

import numpy as np
from PIL import Image

from emixer.gallery.label_swap import swap_labels, swap_strip, swap_vectors
from emixer.gallery.page import Gallery, Pair, render

NAMES = ("Edema", "No Finding", "Fracture", "Mass")
GRAY = np.full((8, 8), 100, np.uint8)


def test_the_most_frequent_findings_are_swapped_in_and_none_that_no_image_has() -> None:
    assert swap_labels(NAMES, [3, 50, 7, 0], num=2) == [2, 0]
    assert swap_labels(NAMES, [3, 50, 7, 0], num=5) == [2, 0]


def test_a_strip_begins_without_a_finding_which_some_collections_have_a_label_for() -> None:
    assert swap_vectors(NAMES, [2, 0]).tolist() == [[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]
    assert swap_vectors(("Edema", "Mass"), [1]).tolist() == [[0, 0], [0, 1]]


def test_what_became_brighter_is_orange_and_what_became_darker_blue() -> None:
    changed = GRAY.copy()
    changed[0, 0], changed[0, 1] = 160, 40
    strip = swap_strip([Pair(GRAY, "Clear."), Pair(changed, "Edema.")], ["Edema"], [True])
    (swap,) = strip.swapped
    picture = Image.open(io.BytesIO(base64.b64decode(swap.change_uri.partition("base64,")[2])))
    assert picture.getpixel((0, 0)) == (245, 171, 92)
    assert picture.getpixel((1, 0)) == (90, 160, 255)
    assert picture.getpixel((2, 0)) == (35, 35, 35), "what stayed is the dimmed image"


def test_the_page_says_which_reports_name_their_label() -> None:
    pairs = [Pair(GRAY, "Clear."), Pair(GRAY, "Edema."), Pair(GRAY, "Clear."), Pair(GRAY, "Clear.")]
    strip = swap_strip(pairs, ["Edema", "Mass", "Unread"], [True, False, None])
    html = render(Gallery(title="Run", lead="What it is.", swaps=(strip,)))
    section = html.partition('id="swaps"')[2].partition("</section>")[0]
    assert section.count('class="named"') == 1
    assert section.count('class="unnamed"') == 1
    assert "Unread" in section

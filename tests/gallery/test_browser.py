"""The page in a real browser."""

from pathlib import Path

import numpy as np
import pytest

from emixer.config import load_config
from emixer.gallery.charts import charts_of_run
from emixer.gallery.page import Comparison, Gallery, Pair, render
from emixer.stages import gallery

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def html(shown_run: Path, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "page.html"
    keys = {"gallery.run": shown_run, "gallery.out": out, "gallery.pairs": 12, "data.shards": tiny_shards}
    return gallery.run(load_config(extra=keys)).page


def shown(page, selector: str) -> int:  # type: ignore[no-untyped-def]
    return int(
        page.evaluate(f"[...document.querySelectorAll('{selector}')].filter(e => e.offsetParent !== null).length")
    )


def test_it_loads_without_errors_and_asks_the_network_for_nothing(page, html: Path) -> None:  # type: ignore[no-untyped-def]
    page.open(html)
    assert page.errors == []
    assert page.requests == [html.resolve().as_uri()]
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert shown(page, ".comparison") == 12


def test_the_charts_are_drawn_and_tell_values_under_the_pointer(page, html: Path) -> None:  # type: ignore[no-untyped-def]
    page.open(html)
    titles = page.evaluate("[...document.querySelectorAll('.chart h3')].map(h => h.textContent)")
    assert titles[:4] == [
        "Discriminator losses",
        "Generator losses",
        "Fréchet distance of images",
        "Word cross-entropy",
    ]
    assert page.evaluate("[...document.querySelectorAll('.chart path.line')].every(p => p.getTotalLength() > 50)")
    svg = "document.querySelector('svg[data-chart]')"
    at = f"{svg}.getBoundingClientRect().left + 60"
    move = f"new PointerEvent('pointermove', {{clientX: {at}, bubbles: true}})"
    first = f"{svg}.parentElement.querySelector('.legend b').textContent"
    assert page.evaluate(first) == "2"  # the total at the end: 3 - 1000 / 1000
    page.evaluate(f"{svg}.dispatchEvent({move})")
    assert page.evaluate(first).endswith("images")
    page.evaluate(f"{svg}.dispatchEvent(new PointerEvent('pointerleave'))")
    assert page.evaluate(first) == "2"


def test_lines_of_a_chart_differ_in_colour_and_tell_nothing_where_they_are_not(page, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    terms = ("total", "image", "rotation", "joint", "report", "image_labels", "image_conditions", "words", "stops",
             "labels", "conditions")  # fmt: skip
    metrics = [{"images": images, **{f"generator/{term}": 1.0 for term in terms}} for images in range(600, 1001, 100)]
    begun = [{"images": images, "generator/words": 2.0} for images in range(100, 600, 100)]
    (tmp_path / "page.html").write_text(render(Gallery("t", "l", charts=tuple(charts_of_run([*begun, *metrics])))))
    for dark in (False, True):
        page.open(tmp_path / "page.html", dark=dark)
        colours = page.evaluate("[...document.querySelectorAll('.chart path')].map(p => getComputedStyle(p).stroke)")
        assert len(colours) == len(set(colours)) == len(terms)
    svg = "document.querySelector('svg[data-chart]')"
    at = f"{svg}.getBoundingClientRect().left + {svg}.getBoundingClientRect().width * 0.2"
    page.evaluate(f"{svg}.dispatchEvent(new PointerEvent('pointermove', {{clientX: {at}, bubbles: true}}))")
    told = page.evaluate(f"[...{svg}.parentElement.querySelectorAll('.legend b')].map(value => value.textContent)")
    assert sorted(told) == sorted(["- at 100 images", "2", *["-"] * 9])


def test_a_label_button_leaves_only_the_pairs_with_that_label(page, html: Path) -> None:  # type: ignore[no-untyped-def]
    page.open(html)
    button = "[...document.querySelectorAll('.filter button')].find(b => b.dataset.label === 'Edema')"
    count = int(page.evaluate(f"{button}.querySelector('span').textContent"))
    assert 0 < count < 12
    page.evaluate(f"{button}.click()")
    assert shown(page, ".comparison") == count
    assert page.evaluate(f"{button}.getAttribute('aria-pressed')") == "true"
    assert page.evaluate("document.getElementById('filter-status').textContent") == f"{count} of 12 pairs shown"
    page.evaluate("document.querySelector('.filter button').click()")
    assert shown(page, ".comparison") == 12


def test_the_address_may_name_a_label_with_a_space(page, html: Path) -> None:  # type: ignore[no-untyped-def]
    page.open(html, "#label=Pleural%20Effusion")
    labels = page.evaluate(
        "[...document.querySelectorAll('.comparison')].filter(e => !e.hidden).map(e => JSON.parse(e.dataset.labels))"
    )
    assert labels
    assert all("Pleural Effusion" in each for each in labels)
    page.open(html, "#label=%E0%A4%A")  # not even UTF-8
    assert page.errors == []


def test_the_slider_shows_one_grid_at_a_time(page, html: Path) -> None:  # type: ignore[no-untyped-def]
    page.open(html)
    label = "document.getElementById('grid-label').textContent"
    assert (shown(page, ".grids img"), page.evaluate(label)) == (1, "1,000 images")
    page.evaluate("const s = document.getElementById('grid-slider'); s.value = 0; s.dispatchEvent(new Event('input'))")
    assert (shown(page, ".grids img"), page.evaluate(label)) == (1, "200 images")


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_no_window_width_needs_sideways_scrolling(page, html: Path, width: int) -> None:  # type: ignore[no-untyped-def]
    page.open(html, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_theme_follows_the_system_until_it_is_switched(page, html: Path) -> None:  # type: ignore[no-untyped-def]
    background = "getComputedStyle(document.body).backgroundColor"
    page.open(html, dark=True)
    dark = page.evaluate(background)
    page.evaluate("document.getElementById('theme').click()")
    light = page.evaluate(background)
    page.open(html, dark=False)
    assert (page.evaluate(background), light != dark) == (light, True)


def test_text_stands_out_from_its_background_in_both_themes(page, html: Path) -> None:  # type: ignore[no-untyped-def]
    for dark in (False, True):
        page.open(html, dark=dark)
        assert page.evaluate(_WORST_CONTRAST) >= 4.5, f"dark={dark}"


def test_a_report_cannot_run_a_script(page, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    attack = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\"></script>"
    image = np.zeros((8, 8), np.uint8)
    pair = Pair(image, attack)
    path = tmp_path / "attack.html"
    path.write_text(render(Gallery("Safe", attack, comparisons=(Comparison(('"><b>', attack), pair, pair),))))
    page.open(path)
    assert page.evaluate("document.title") == "Safe"
    assert page.evaluate("document.querySelector('.pair p').textContent") == attack
    assert page.evaluate("document.querySelectorAll('script').length") == 2  # the data and ours
    page.evaluate("document.querySelectorAll('.filter button')[1].click()")
    assert shown(page, ".comparison") == 1
    # what the template would let through, the policy stops
    stopped = page.evaluate(
        """new Promise((stop) => {
          document.addEventListener("securitypolicyviolation", (event) => stop(event.violatedDirective));
          document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='document.title = 1'>");
        })"""
    )
    assert stopped == "script-src-attr"
    assert page.evaluate("document.title") == "Safe"


_WORST_CONTRAST = """(() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => [r, g, b].map(linear)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  let worst = 21;
  const texts = "h1, h2, h3, p, li, dt, dd, th, td, button, span, figcaption, output, b, a, text";
  for (const e of document.querySelectorAll(texts)) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    const style = getComputedStyle(e);
    const ink = luminance(parse(e.tagName === "text" ? style.fill : style.color)), ground = luminance(behind(e));
    worst = Math.min(worst, (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05));
  }
  return worst;
})()"""

"""The live page in a real browser: choosing, drawing, swapping, downloading, without a mouse and on a phone."""

import base64
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.browser import Page
from tests.live.live_server import LiveServer
from tests.proxy import proxy_to

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
SHOWN = "document.querySelectorAll('#shown img').length"
IDLE = "!document.querySelector('#draw').disabled"
CAPTIONS = (
    "[...document.querySelectorAll('#shown .chips')].map(list => [...list.children].map(chip => chip.textContent))"
)
SIDEWAYS = "document.documentElement.scrollWidth - innerWidth"


def open_live(page: Page, live: LiveServer, **window: int) -> None:
    page.open_url(live.link, **window)
    page.wait_for(f"{SHOWN} === 4 && {IDLE}")


def choose(page: Page, name: str, value: str) -> None:
    page.evaluate(f"document.querySelector('[name={name}][value=\"{value}\"]').click()")


def draw(page: Page, shown: int) -> None:
    page.evaluate("document.querySelector('#shown').replaceChildren()")
    page.evaluate("document.querySelector('#draw').scrollIntoView({behavior: 'instant', block: 'center'})")
    page.click("#draw")
    page.wait_for(f"{SHOWN} === {shown} && {IDLE}")


def test_pairs_appear_as_chosen_and_markup_is_shown_as_text(page: Page, live: LiveServer) -> None:
    open_live(page, live)
    assert page.evaluate("document.querySelector('main').innerText").count("not for diagnosis") == 1
    choose(page, "labels", "Pleural_Thickening")
    page.evaluate("document.querySelector('[name=sex]').value = 'F'; document.querySelector('[name=num]').value = 9")
    draw(page, 9)
    captions = page.evaluate(CAPTIONS)
    assert len(captions) == 9
    assert all(caption[:2] == ["Pleural Thickening", "F"] for caption in captions)
    sizes = page.evaluate("[...document.querySelectorAll('#shown img')].map(image => image.naturalWidth)")
    assert sizes == [32] * 9
    reports = page.evaluate("[...document.querySelectorAll('#shown figcaption p')].map(report => report.textContent)")
    assert any("<script>alert(1)</script>" in report for report in reports)
    assert page.errors == []
    assert {request.split("/")[2] for request in page.requests} == {f"127.0.0.1:{live.port}"}


def test_swap_is_shown_side_by_side_and_interpolation_in_a_row(page: Page, live: LiveServer) -> None:
    open_live(page, live)
    choose(page, "kind", "swap")
    draw(page, 8)
    tops = page.evaluate("[...document.querySelectorAll('.twins')].map(twins => [...twins.querySelectorAll('img')]"
                         ".map(image => image.getBoundingClientRect().top))")  # fmt: skip
    assert len(tops) == 4
    assert all(left == right for left, right in tops)
    captions = page.evaluate(CAPTIONS)
    assert all(
        base[0] == "no label" and swapped[0] == "Edema" for base, swapped in zip(*[iter(captions)] * 2, strict=True)
    )
    choose(page, "kind", "interpolation")
    choose(page, "to_labels", "No Finding")
    page.evaluate("document.querySelector('[name=steps]').value = 7")
    draw(page, 7)
    assert (
        len(set(page.evaluate("[...document.querySelectorAll('.strip img')].map(i => i.getBoundingClientRect().top)")))
        == 1
    )
    assert page.evaluate("document.querySelector('#parquet').disabled")
    assert page.errors == []


def test_page_works_by_keyboard_alone(page: Page, live: LiveServer) -> None:
    open_live(page, live)
    page.evaluate("document.querySelector('[name=labels]').focus()")
    page.press(" ")
    page.evaluate("document.querySelector('#shown').replaceChildren(); document.querySelector('[name=seed]').select()")
    page.press("5", "Enter")
    page.wait_for(f"{SHOWN} === 4 && {IDLE}")
    assert all(caption[0] == "Edema" for caption in page.evaluate(CAPTIONS))
    assert page.evaluate("document.querySelector('[name=seed]').value") == "5"


def test_download_is_what_is_shown_even_if_the_form_has_changed(page: Page, live: LiveServer, tmp_path: Path) -> None:
    open_live(page, live)
    choose(page, "labels", "Edema")
    draw(page, 4)
    choose(page, "labels", "Edema")
    page.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    for file_format in ("parquet", "png"):
        page.click(f"#{file_format}")
        page.wait_for(f"{IDLE} && document.querySelector('#status').textContent.includes('handed')")
        page.evaluate("document.querySelector('#status').textContent = ''")
    parquet, png = tmp_path / "emixer-pairs-seed-0.parquet", tmp_path / "emixer-pairs-seed-0.png"
    page.wait_for("new Promise(done => setTimeout(() => done(true), 300))")
    rows = pq.read_table(parquet)
    assert rows["Edema"].to_pylist() == [1] * 4
    first = page.evaluate("document.querySelector('#shown img').src").partition(",")[2]
    assert rows["image"][0]["bytes"].as_py() == base64.b64decode(first)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert page.errors == []


def test_page_fits_a_phone(page: Page, live: LiveServer) -> None:
    open_live(page, live, **PHONE)
    for kind, shown in (("pairs", 4), ("swap", 8), ("interpolation", 5)):
        choose(page, "kind", kind)
        draw(page, shown)
        assert page.evaluate(SIDEWAYS) <= 0
    heights = page.evaluate(
        "[...document.querySelectorAll('form button, form select, .numbers input, .choices label')]"
        ".filter(each => each.checkVisibility()).map(each => each.getBoundingClientRect().height)"
    )
    assert min(heights) >= 40


def test_wrong_link_refusal_and_lost_server_are_reported(page: Page, live_run: Path) -> None:
    server = LiveServer(live_run, "--draws-per-minute", "1")
    try:
        problem = (
            "document.querySelector('#problem').checkVisibility() && document.querySelector('#problem').textContent"
        )
        page.open_url(server.link.partition("#")[0])
        assert "whole link" in page.wait_for(problem)
        page.open_url(server.link)
        page.wait_for(f"{SHOWN} === 4 && {IDLE}")
        page.click("#draw")
        assert "at most 1 times a minute" in page.wait_for(problem)
        assert page.evaluate(SHOWN) == 4  # the earlier pairs stay
    finally:
        server.close()
    page.click("#draw")
    page.wait_for("document.querySelector('#problem').textContent.includes('cannot be reached')")


def test_what_a_mail_puts_after_the_link_does_no_harm(page: Page, live: LiveServer) -> None:
    for more in ("”", "%"):
        page.open_url("about:blank")
        page.open_url(live.link + more)
        page.wait_for(f"{SHOWN} === 4 && {IDLE}")
    assert page.errors == []


def test_page_works_behind_a_proxy_and_says_when_that_answers_instead(page: Page, live: LiveServer) -> None:
    with proxy_to(live.port) as proxy:
        page.open_url(f"{proxy.url}#{live.token}")
        page.wait_for(f"{SHOWN} === 4 && {IDLE}")
        proxy.answers = 504
        page.click("#draw")
        page.wait_for("document.querySelector('#problem').textContent.includes('a proxy in front of it answered 504')")
        proxy.answers = 500
        page.wait_for(IDLE)
        page.click("#draw")
        page.wait_for("document.querySelector('#problem').textContent.startsWith('The server failed.')")

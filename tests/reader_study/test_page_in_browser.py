"""The readers' page in a real browser: real keys, clicks and touch, a real server that dies, a network that fails."""

from collections.abc import Callable, Iterator

import pytest

from tests.browser import DevTools, Page
from tests.proxy import proxy_to
from tests.reader_study.study_server import StudyServer, rating

pytestmark = pytest.mark.browser

Score = tuple[int, int, int, str]
OpenPage = Callable[..., Page]
NUM_SHOWINGS = 14
_ENABLED = "!document.getElementById('answers').inert && !document.getElementById('reading').hidden"
_PRELOADED = "performance.getEntriesByType('resource').filter(each => each.name.includes('/pairs/')).length >= 14"
"""The pair shown and the six after it, each with its image."""
_POSITION = "document.getElementById('position').textContent"
_STATUS = "document.getElementById('status').textContent"
_NOTICE = "document.getElementById('notice').hidden ? '' : document.getElementById('notice-text').textContent"


@pytest.fixture
def open_page(browser: DevTools, served: StudyServer) -> Iterator[OpenPage]:
    """open_page(reader): a tab with that reader's link, ready for scores."""
    tabs: list[Page] = []

    def start(reader: int, ready: bool = True, width: int = 1440, height: int = 900) -> Page:
        tab = Page(browser)
        tabs.append(tab)
        tab.open_url(served.link(reader), width, height)
        if ready:
            tab.wait_for(_ENABLED)
            tab.evaluate("document.getElementById('help').close()")
        return tab

    yield start
    for tab in tabs:
        tab.close()


def reach(page: Page, number: int) -> None:
    """Wait until that pair can be scored."""
    page.wait_for(f"({_POSITION}).startsWith('Pair {number} ') && {_ENABLED}")


def give(page: Page, score: Score, then: str = "Enter") -> None:
    """Score a pair by keyboard and move on."""
    before = page.evaluate(_POSITION)
    page.press(*(str(value % 10) for value in score[:3]), score[3][0], then)
    page.wait_for(f"({_POSITION}) !== {before!r} && ({_ENABLED} || !document.getElementById('done').hidden)")


def score_of(position: int, reader: int) -> Score:
    return 1 + (3 * position + reader) % 10, 1 + position % 10, 10 - position % 10, ("real", "synthetic")[position % 2]


def test_two_concurrent_readers_finish_although_the_server_is_killed(
    served: StudyServer, reader: int, open_page: OpenPage
) -> None:
    served.taken += 1  # type: ignore[attr-defined]
    readers = (reader, reader + 1)
    pages = [open_page(each) for each in readers]
    reports = [page.evaluate("document.getElementById('report').textContent") for page in pages]
    assert all(len(report) > 10 for report in reports)
    for position in range(NUM_SHOWINGS):
        if position == 5:
            served.kill()
        for each, page in zip(readers, pages, strict=True):
            give(page, score_of(position, each))
        if position == 6:
            pages[0].wait_for(f"({_STATUS}).includes('kept here, to be sent')")
            served.start()
    for each, page in zip(readers, pages, strict=True):
        expected = [(position, 1, *score_of(position, each), "") for position in range(NUM_SHOWINGS)]
        assert served.wait_for_saved(each, NUM_SHOWINGS) == expected
        page.wait_for(f"({_STATUS}) === 'All scores saved'")
        assert page.evaluate("document.getElementById('done').innerText.includes('You may close this page')")
        assert [error for error in page.errors if '"text": "Failed to load resource' not in error] == []


def test_wrong_link_is_reported_and_shows_nothing(served: StudyServer, page: Page) -> None:
    for link in (served.link(0)[:-4], served.link(0).partition("#")[0]):
        page.open_url("about:blank")
        page.open_url(link)
        page.wait_for("!document.getElementById('problem').hidden")
        assert "Please open the whole link" in page.evaluate("document.getElementById('problem-text').textContent")
        assert page.evaluate("document.getElementById('reading').hidden")
    assert not [url for url in page.requests if "/pairs/" in url]


def test_what_a_mail_puts_after_the_link_does_no_harm(served: StudyServer, reader: int, page: Page) -> None:
    for more in ("”", "%", ">.", "%20"):
        page.open_url("about:blank")
        page.open_url(served.link(reader) + more)
        page.wait_for(_ENABLED)
    assert page.errors == []


def test_double_click_saves_once_and_an_incomplete_pair_says_what_is_missing(
    served: StudyServer, reader: int, open_page: OpenPage
) -> None:
    page = open_page(reader)
    page.press("7", "Enter")
    page.wait_for(f"({_STATUS}).includes('fill in the marked rows')")
    missing = "[...document.querySelectorAll('.missing')].map(row => row.dataset.scale).join()"
    assert page.evaluate(missing) == "report,agreement,guess"
    page.press("8", "9", "s")
    page.click("#save", times=2)
    reach(page, 2)
    assert served.wait_for_saved(reader, 1) == [(0, 1, 7, 8, 9, "synthetic", "")]
    assert page.evaluate(missing) == ""


def test_scores_can_be_changed_and_the_page_reopens_where_it_was(
    served: StudyServer, reader: int, open_page: OpenPage
) -> None:
    page = open_page(reader)
    for position in range(3):
        give(page, score_of(position, 0))
    page.press("c", *"Odd ribs")
    page.press("Escape", "ArrowLeft")
    reach(page, 3)
    assert page.evaluate("document.querySelector('[name=image]:checked').value") == str(score_of(2, 0)[0])
    page.press("ArrowUp", "4")
    page.click("#save")
    served.wait_for_saved(reader, 4)
    reach(page, 4)
    assert page.evaluate("document.getElementById('comment').value") == "Odd ribs"  # a draft
    again = open_page(reader)
    assert again.evaluate(_POSITION).startswith("Pair 4 of 14 · 3 scored")
    give(again, (5, 5, 5, "real"))
    changed = [(2, 1, *score_of(2, 0), ""), (2, 2, 4, *score_of(2, 0)[1:], ""), (3, 1, 5, 5, 5, "real", "Odd ribs")]
    assert served.wait_for_saved(reader, 5)[2:] == changed


def test_scores_are_kept_offline_and_sent_even_by_a_later_page(
    served: StudyServer, reader: int, open_page: OpenPage
) -> None:
    page = open_page(reader)
    page.set_offline(True)
    for position in range(3):
        give(page, score_of(position, 0))
    page.wait_for(f"({_STATUS}) === '3 scores kept here, to be sent'")
    assert served.saved(reader) == []
    page.set_offline(False)
    page.wait_for(f"({_STATUS}) === 'All scores saved'")
    assert len(served.saved(reader)) == 3
    page.set_offline(True)
    give(page, score_of(3, 0))
    assert page.dialogs == []
    page.open_url("about:blank")  # closed before anything could be sent
    assert page.dialogs == ["beforeunload"]
    later = open_page(reader)
    assert served.wait_for_saved(reader, 4) == [(n, 1, *score_of(n, 0), "") for n in range(4)]
    assert later.evaluate(_POSITION).startswith("Pair 5 of 14 · 4 scored")


@pytest.mark.parametrize("status", [403, 502])
def test_scores_that_a_proxy_refuses_are_kept_and_sent_again(
    served: StudyServer, reader: int, page: Page, status: int
) -> None:
    with proxy_to(served.port) as proxy:
        page.open_url(f"{proxy.url}#{served.tokens[reader]}", 1440)
        page.wait_for(_ENABLED)
        page.evaluate("document.getElementById('help').close()")
        give(page, score_of(0, 0))
        page.wait_for(f"({_STATUS}) === 'All scores saved'")
        proxy.answers = status
        give(page, score_of(1, 0))
        page.wait_for(f"({_STATUS}) === '1 score kept here, to be sent'")
        page.wait_for(f"({_NOTICE}).includes('cannot be reached just now (code {status})')")
        proxy.answers = None
        page.wait_for(f"({_STATUS}) === 'All scores saved' && ({_NOTICE}) === ''")
    assert served.saved(reader) == [(n, 1, *score_of(n, 0), "") for n in range(2)]


@pytest.mark.parametrize("status", [401, 404, 409, 429])
def test_scores_outlive_an_answer_that_does_not_concern_them(
    served: StudyServer, reader: int, page: Page, status: int
) -> None:
    with proxy_to(served.port) as proxy:
        page.open_url(f"{proxy.url}#{served.tokens[reader]}", 1440)
        page.wait_for(f"{_ENABLED} && {_PRELOADED}")
        page.evaluate("document.getElementById('help').close()")
        proxy.answers = 502
        give(page, score_of(0, 0))
        page.wait_for(f"({_NOTICE}).includes('cannot be reached just now (code 502)')")
        proxy.answers, proxy.message = status, "Another study is here"
        page.wait_for(f"({_NOTICE}) === 'Another study is here'")
        assert page.evaluate(_STATUS) == "1 score kept here, to be sent"
        proxy.answers = None
        page.wait_for(f"({_STATUS}) === 'All scores saved' && ({_NOTICE}) === ''")
    assert served.saved(reader) == [(0, 1, *score_of(0, 0), "")]


def test_refused_score_is_told_kept_as_a_draft_and_can_be_saved_again(
    served: StudyServer, reader: int, page: Page
) -> None:
    with proxy_to(served.port) as proxy:
        page.open_url(f"{proxy.url}#{served.tokens[reader]}", 1440)
        page.wait_for(f"{_ENABLED} && {_PRELOADED}")
        page.evaluate("document.getElementById('help').close()")
        proxy.answers = 502
        give(page, score_of(0, 0))
        page.wait_for(f"({_NOTICE}).includes('code 502')")
        proxy.answers, proxy.message = 422, "They are not complete."
        page.wait_for(f"({_NOTICE}) === 'The scores of pair 1 were not saved. They are not complete.'")
        proxy.answers = None
        assert "0 scored" in page.evaluate(_POSITION)
        page.press("ArrowLeft")
        reach(page, 1)
        assert page.evaluate("document.querySelector('[name=image]:checked').value") == str(score_of(0, 0)[0])
        assert "Pair 1 of 14 · 0 scored" in page.evaluate(_POSITION)
        page.press("Enter")
        assert served.wait_for_saved(reader, 1) == [(0, 1, *score_of(0, 0), "")]
        assert "were not saved" in page.evaluate(_NOTICE), "until it is closed"
        page.click("#close-notice")
        assert page.evaluate(_NOTICE) == ""


def test_change_of_a_saved_score_is_sent_when_the_pair_is_left_in_any_way(
    served: StudyServer, reader: int, open_page: OpenPage
) -> None:
    page = open_page(reader)
    for position in range(2):
        give(page, score_of(position, 0))
    served.wait_for_saved(reader, 2)
    page.press("ArrowLeft")
    reach(page, 2)
    page.press("9", "ArrowLeft")
    reach(page, 1)
    changed = (1, 2, 9, *score_of(1, 0)[1:], "")
    assert served.wait_for_saved(reader, 3) == [(0, 1, *score_of(0, 0), ""), (1, 1, *score_of(1, 0), ""), changed]
    page.click("#forward")  # unchanged: nothing is sent
    reach(page, 2)
    page.press("ArrowRight")
    reach(page, 3)
    page.press("7", "ArrowLeft")  # not saved yet, nor complete: a draft
    page.wait_for(f"({_POSITION}).startsWith('Pair 2') && {_ENABLED} && ({_STATUS}) === 'All scores saved'")
    assert len(served.saved(reader)) == 3


def test_draft_gives_way_to_a_score_from_another_device_but_not_to_ones_own(
    served: StudyServer, reader: int, open_page: OpenPage
) -> None:
    page = open_page(reader)
    checked = "document.querySelector('[name=image]:checked').value"
    page.wait_for(_PRELOADED)
    page.set_offline(True)
    page.press("7", "8", "9", "r")
    page.press("Enter")
    reach(page, 2)
    page.press("ArrowLeft")
    reach(page, 1)
    page.press("2")  # a draft, begun before the score is sent
    page.set_offline(False)
    served.wait_for_saved(reader, 1)
    page.wait_for(f"({_STATUS}) === 'All scores saved'")
    again = open_page(reader)
    again.press("ArrowLeft")
    reach(again, 1)
    assert again.evaluate(checked) == "2"
    # another device, with a storage of its own
    sent = rating(5) | {"known_version": 1}
    served.ask(f"/api/pairs/{served.places(reader)[0]}/rating", served.tokens[reader], sent)
    later = open_page(reader)
    later.press("ArrowLeft")
    reach(later, 1)
    assert later.evaluate(checked) == "5"
    later.press("ArrowRight")
    reach(later, 2)
    assert [row[:3] for row in served.saved(reader)] == [(0, 1, 7), (0, 2, 5)]


def test_last_page_says_whether_all_scores_have_arrived(served: StudyServer, reader: int, open_page: OpenPage) -> None:
    page = open_page(reader)
    said = "document.getElementById('done').innerText"
    for position in range(NUM_SHOWINGS):
        if position == NUM_SHOWINGS - 1:
            page.wait_for(f"({_STATUS}) === 'All scores saved'")
            page.set_offline(True)
        give(page, score_of(position, 0))
    page.wait_for(f"({_STATUS}) === '1 score kept here, to be sent'")
    assert "leave this page open" in page.evaluate(said)
    assert "You may close this page" not in page.evaluate(said)
    page.set_offline(False)
    page.wait_for(f"({said}).includes('You may close this page')")
    assert "leave this page open" not in page.evaluate(said)
    assert len(served.saved(reader)) == NUM_SHOWINGS


def test_every_replaced_score_is_told_until_the_reader_has_closed_it(
    served: StudyServer, reader: int, page: Page
) -> None:
    with proxy_to(served.port) as proxy:
        page.open_url(f"{proxy.url}#{served.tokens[reader]}", 1440)
        page.wait_for(f"{_ENABLED} && {_PRELOADED}")
        page.evaluate("document.getElementById('help').close()")
        proxy.answers = 502
        for place in served.places(reader)[:2]:  # another device, in the meantime
            served.ask(f"/api/pairs/{place}/rating", served.tokens[reader], rating(9))
        give(page, (2, 3, 4, "synthetic"))
        give(page, (3, 4, 5, "synthetic"))
        page.wait_for(f"({_NOTICE}).includes('code 502')")
        proxy.answers = None
        page.wait_for(f"({_STATUS}) === 'All scores saved'")
        notice = page.evaluate(_NOTICE)
        assert [f"Pair {n} had also been scored in another tab" in notice for n in (1, 2)] == [True, True]
        assert "cannot be reached" not in notice
        page.click("#close-notice")
        assert page.evaluate(_NOTICE) == ""


def test_image_that_the_server_cannot_read_is_told_as_such(
    served: StudyServer, reader: int, open_page: OpenPage
) -> None:
    images = served.study / "images"
    images.rename(served.study / "away")
    try:
        page = open_page(reader, ready=False)
        notice = page.wait_for(_NOTICE)
        assert notice == "The image cannot be read. Please tell the person who runs the study."
        assert page.evaluate(_STATUS) == "Trying again …"
    finally:
        (served.study / "away").rename(images)
    page.wait_for(f"{_ENABLED} && ({_NOTICE}) === ''")


def test_two_tabs_do_not_overwrite_each_other_silently(served: StudyServer, reader: int, open_page: OpenPage) -> None:
    first, second = open_page(reader), open_page(reader)
    give(first, (9, 9, 9, "real"))
    served.wait_for_saved(reader, 1)
    give(second, (2, 3, 4, "synthetic"))
    notice = second.wait_for(_NOTICE)
    assert (
        "Pair 1 had also been scored in another tab or on another device: image 9, report 9, agreement 9, real"
        in notice
    )
    assert "What was saved last counts (version 2): image 2, report 3, agreement 4, synthetic" in notice
    assert [row[1:5] for row in served.saved(reader)] == [(1, 9, 9, 9), (2, 2, 3, 4)]
    assert first.evaluate(_NOTICE) == ""


def brightness(page: Page) -> tuple[float, float]:
    """Return the mean gray value of the middle of the canvas, and its spread."""
    mean, spread = page.evaluate("""new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => {
        const canvas = document.getElementById('canvas');
        const [x, y] = [canvas.width / 2 - 100, canvas.height / 2 - 100].map(Math.round);
        const { data } = canvas.getContext('2d').getImageData(x, y, 200, 200);
        const grays = Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]);
        const mean = grays.reduce((a, b) => a + b, 0) / grays.length;
        resolve([mean, grays.reduce((a, b) => a + Math.abs(b - mean), 0) / grays.length]);
    })))""")
    return mean, spread


def test_window_level_zoom_and_pan_by_keys_mouse_and_touch(reader: int, open_page: OpenPage) -> None:
    page = open_page(reader)
    plain = brightness(page)
    assert 10 < plain[0] < 245
    page.press("b", "b", "b", "b")
    assert brightness(page)[0] > plain[0] + 10
    page.press("f")
    assert brightness(page) == plain
    page.press("n")
    assert brightness(page)[0] == pytest.approx(255 - plain[0], abs=2)
    page.press("f", "l", "l", "l", "l")  # more contrast alone may clip an image that is bright or dark in the middle
    assert brightness(page)[1] < plain[1] / 1.2
    page.press("h", "h", "h", "h")
    assert brightness(page)[1] == pytest.approx(plain[1], rel=0.1)
    page.press("f")
    x, y = page.evaluate("(b => [b.x + b.width / 2, b.y + b.height / 2])(canvas.getBoundingClientRect())")
    for kind, button, place in (
        ("mousePressed", "right", x),
        ("mouseMoved", "right", x - 120),
        ("mouseReleased", "right", x),
    ):
        page.command("Input.dispatchMouseEvent", type=kind, x=place, y=y, button=button, buttons=2, clickCount=1)
    assert brightness(page) != plain
    page.click("#reset")
    assert brightness(page) == plain
    page.command("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-400)
    assert brightness(page) != plain
    page.press("f")
    fingers = lambda gap: [{"x": x - gap, "y": y, "id": 0}, {"x": x + gap, "y": y, "id": 1}]  # noqa: E731
    for kind, points in (("touchStart", fingers(40)), ("touchMove", fingers(120)), ("touchEnd", [])):
        page.command("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    assert brightness(page) != plain


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1024, 768)])
def test_whole_pair_is_visible_without_scrolling(reader: int, open_page: OpenPage, width: int, height: int) -> None:
    page = open_page(reader, width=width, height=height)
    outside = page.evaluate("""[...document.querySelectorAll('#canvas, button, .scores span, textarea, #report')]
        .filter(e => e.offsetParent).map(e => [e.id || e.textContent, e.getBoundingClientRect()])
        .filter(([, b]) => b.left < 0 || b.top < 0 || b.right > innerWidth || b.bottom > innerHeight)
        .map(([name]) => name)
    """)
    assert outside == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    sizes = page.evaluate("[...document.querySelectorAll('.scores span')].map(e => e.getBoundingClientRect().height)")
    assert min(sizes) >= 32  # large enough for fingers
    assert page.errors == []

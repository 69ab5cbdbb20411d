"""The page: one HTML file with inline style and script, the same for everyone; the model's facts are loaded later, with
the token. It requests only its own server's `api/`, by relative URLs.
"""

from functools import cache
from pathlib import Path

from markupsafe import Markup

from emixer._version import __version__
from emixer.gallery.page import page_style
from emixer.live.draw_request import MAX_PAIRS, MAX_SEED, MAX_TEMPERATURE, STEPS, DrawRequest
from emixer.page_templates import render_page
from emixer.web.headers import content_policy

_TEMPLATES = Path(__file__).parent / "templates"


@cache
def page_html() -> str:
    """HTML of the page."""
    values = {
        "style": Markup(_style()), "script": Markup(_script()),  # noqa: S704 - our own files
        "max_pairs": MAX_PAIRS, "max_seed": MAX_SEED, "max_temperature": MAX_TEMPERATURE, "steps": STEPS,
        "first": DrawRequest(), "version": __version__,
    }  # fmt: skip
    return render_page(_TEMPLATES / "page.html", values)


def page_policy() -> str:
    """Content-Security-Policy of the page."""
    return content_policy([_script()], [_style()])


@cache
def _script() -> str:
    return (_TEMPLATES / "page.js").read_text(encoding="utf-8")


@cache
def _style() -> str:
    return f"{page_style()}\n{(_TEMPLATES / 'page.css').read_text(encoding='utf-8')}"

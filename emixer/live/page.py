"""The page: one HTML file with its style and script inside, the same for everybody; the model's facts come later, to
those who have the token. It asks for nothing but its own server's `api/`, by relative addresses.
"""

from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from emixer._version import __version__
from emixer.gallery.page import page_style
from emixer.live.wish import MAX_PAIRS, MAX_SEED, MAX_TEMPERATURE, STEPS, Wish
from emixer.web.headers import content_policy

_TEMPLATES = Path(__file__).parent / "templates"


@cache
def page_html() -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html").render(
        style=Markup(_style()), script=Markup(_script()),  # noqa: S704 - our own files
        max_pairs=MAX_PAIRS, max_seed=MAX_SEED, max_temperature=MAX_TEMPERATURE, steps=STEPS, first=Wish(),
        version=__version__,
    )  # fmt: skip


def page_policy() -> str:
    """Its Content-Security-Policy."""
    return content_policy([_script()], [_style()])


@cache
def _script() -> str:
    return (_TEMPLATES / "page.js").read_text(encoding="utf-8")


@cache
def _style() -> str:
    return f"{page_style()}\n{(_TEMPLATES / 'page.css').read_text(encoding='utf-8')}"

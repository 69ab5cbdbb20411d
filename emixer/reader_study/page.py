"""The readers' page: one HTML file with inline style and script, the same for every reader.

It requests only its own server's `api/`, by relative URLs, so that a proxy may serve it under any prefix.
"""

from functools import cache
from pathlib import Path

from markupsafe import Markup

from emixer.page_templates import render_page
from emixer.reader_study.rating import HIGHEST, LOWEST, MAX_COMMENT
from emixer.web.headers import content_policy

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("viewer.js", "outbox.js", "form.js", "page.js")
_SCALES = (
    ("image", "Image", "Is it a realistic, good radiograph?", "not at all", "beyond doubt"),
    ("report", "Report", "Does it read like a radiologist's?", "not at all", "beyond doubt"),
    ("agreement", "Agreement", "Does it describe this radiograph?", "not at all", "fully"),
)


def page_html(title: str) -> str:
    """HTML of the page of a study."""
    values = {
        "title": title, "scales": _SCALES, "scores": range(LOWEST, HIGHEST + 1), "max_comment": MAX_COMMENT,
        "style": Markup(_style()), "script": Markup(_script()),  # noqa: S704 - our own files
    }  # fmt: skip
    return render_page(_TEMPLATES / "page.html", values)


def page_policy() -> str:
    """Content-Security-Policy of the page."""
    return content_policy([_script()], [_style()])


@cache
def _script() -> str:
    return "\n".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in _SCRIPTS)


@cache
def _style() -> str:
    return (_TEMPLATES / "page.css").read_text(encoding="utf-8")

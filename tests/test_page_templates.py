"""Every page is rendered under the same rules."""

import ast
from pathlib import Path

import jinja2
import pytest
from markupsafe import Markup

from emixer.page_templates import render_page

ROOT = Path(__file__).parents[1]


def render(folder: Path, text: str, **values: object) -> str:
    (folder / "page.html").write_text(text)
    return render_page(folder / "page.html", values, {"loud": lambda value: str(value).upper()})


def test_text_is_escaped_and_markup_is_not(tmp_path: Path) -> None:
    assert render(tmp_path, "{{ a }} {{ b }} {{ a | loud }}", a="<a>", b=Markup("<b>")) == "&lt;a&gt; <b> &lt;A&gt;"


def test_a_name_without_a_value_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="absent"):
        render(tmp_path, "{{ absent }}")


def test_lines_of_statements_leave_no_blank_lines(tmp_path: Path) -> None:
    assert render(tmp_path, "a\n  {% if true %}\nb\n  {% endif %}\nc") == "a\nb\nc"


def test_there_is_no_other_way_to_a_page() -> None:
    importing = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "emixer").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import) and any(name.name == "jinja2" for name in node.names)
    ]
    assert importing == ["emixer/page_templates.py"]

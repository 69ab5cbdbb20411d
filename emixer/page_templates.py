"""Pages from the templates of a package, all under the same rules."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2

Filters = Mapping[str, Callable[[Any], str]]
_NO_FILTERS: Filters = MappingProxyType({})


def render_page(template: Path, values: Mapping[str, Any], filters: Filters = _NO_FILTERS) -> str:
    """Render a file in the folder of a package's templates.

    All text among the values is escaped, but not Markup. A name without a value raises jinja2.UndefinedError instead of
    being left blank.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(filters)
    return environment.get_template(template.name).render(values)

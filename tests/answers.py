"""What `--json` prints of a stage's result."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from emixer.cli.answer import Answer
from emixer.stages.result import StageResult


def answer_of(result: StageResult) -> dict[str, Any]:
    """The object, read back as a strict reader of JSON does; what it names as outputs is there."""
    with redirect_stdout(StringIO()) as printed:
        Answer("stage", as_json=True).result(result)
    told: dict[str, Any] = json.loads(printed.getvalue(), parse_constant=_refuse)
    for paths in told["outputs"].values():
        assert all(Path(path).exists() for path in ([paths] if isinstance(paths, str) else paths))
    return told


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")

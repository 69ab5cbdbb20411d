"""Inputs and times of a folder's finished cells: a plan tells from them why a cell must be redone, and how long it
takes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emixer.config.tree import leaves_of
from emixer.experiments.cells import Cell, ResultsFolder

_SHOWN = 3


@dataclass(frozen=True)
class FinishedCell:
    """A finished cell, as described in its file."""

    name: str
    task: str
    decided_by: Mapping[str, Any]
    """Everything in its key, by dotted names."""
    seconds: float


def finished_cells(folder: ResultsFolder) -> list[FinishedCell]:
    """Finished cells of a folder whose files describe them; files of earlier versions do not."""
    found = []
    for path in folder.result_files():
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            about, seconds = content["about"], float(content["facts"].get("seconds", 0))
            found.append(FinishedCell(about["name"], about["task"], leaves_of(about["decided_by"]), seconds))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def difference(cell: Cell, inputs: Mapping[str, Any], kept: Iterable[FinishedCell]) -> str:
    """How a cell to compute differs from the nearest finished one of its name, e.g. `inputs.downstream.lr 0.001 there,
    0.002 now`; empty if there is none."""
    now = leaves_of(json.loads(json.dumps(cell.decided_by(inputs), default=str)))  # as it would stand in a file
    differing = [
        [f"{key} {_shown(there.get(key))} there, {_shown(now.get(key))} now"
         for key in sorted(there.keys() | now.keys()) if there.get(key) != now.get(key)]
        for there in (other.decided_by for other in kept if other.name == cell.name)
    ]  # fmt: skip
    nearest = min(differing, key=len, default=[])
    more = f"; and {len(nearest) - _SHOWN} more" if len(nearest) > _SHOWN else ""
    return "; ".join(nearest[:_SHOWN]) + more


def seconds_in_words(to_do: Sequence[Cell], kept: Iterable[FinishedCell]) -> str:
    """Mean time of finished cells by task, and an estimate for the remaining cells if run sequentially."""
    of_task: dict[str, list[float]] = {}
    for other in kept:
        of_task.setdefault(other.task, []).append(other.seconds)
    mean = {task: sum(values) / len(values) for task, values in sorted(of_task.items())}
    told = [f"{task} {_duration(seconds)}" for task, seconds in mean.items()]
    unknown = dict.fromkeys(cell.task for cell in to_do if cell.task not in mean)
    total = sum(mean.get(cell.task, 0) for cell in to_do)
    parts = [f"mean time of finished cells: {', '.join(told)}"] if told else []
    parts += [f"remaining cells about {_duration(total)} sequentially"] if told and to_do else []
    parts += [f"time unknown until a cell is done: {', '.join(unknown)}"] if unknown else []
    return "; ".join(parts)


def _duration(seconds: float) -> str:
    for unit_s, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:,.0f} {unit}"
    return f"{seconds:,.0f} s"


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)

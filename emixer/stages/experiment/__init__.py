"""`emixer experiment TABLE`: generators and their datasets, then cells in parallel on Ray, then the table.

Finished work is kept, keyed by its inputs: the same command resumes after an interruption, tables in the same folder
share generators, datasets and cells, and a failed cell is shown as failed while the others continue.

Source: EMIXER §4.4, §4.5, §6.4; docs/tables.md describes how each table is made.
"""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from emixer import files
from emixer.checkpoint import find_checkpoint
from emixer.config import Config
from emixer.data.collection import identify
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, StoppedError, UnfinishedError, find_emixer_error
from emixer.experiments.cells import Cell, CellResult, ResultsFolder
from emixer.experiments.finished_cells import difference, finished_cells, seconds_in_words
from emixer.experiments.plot import plot
from emixer.experiments.plot_gain import plot_gain
from emixer.experiments.render import FilledTable, filled, network_in_words
from emixer.experiments.tables import dataset_rows
from emixer.progress import Progress
from emixer.ray_session import capacity, connect, require_resource
from emixer.stages import generate, train
from emixer.stages.experiment.cell import CellOrder, Generated, decode, judge, run_cell
from emixer.stages.experiment.figures import FiguresResult, draw_figures
from emixer.stages.experiment.plan import (
    Experiment,
    checked,
    inputs_of,
    made_by,
    model_of,
    order_of,
    trained_on,
    write_real_pairs,
)
from emixer.stages.result import StageResult

_RETRIES = 2


@dataclass(frozen=True)
class ExperimentResult(StageResult):
    """A complete table."""

    filled: FilledTable
    paths: tuple[Path, ...]
    computed: int
    kept: int

    @property
    def nothing_to_do(self) -> bool:
        return not self.computed

    @property
    def outputs(self) -> Mapping[str, Sequence[Path]]:
        return {"table": self.paths}

    @property
    def figures(self) -> Mapping[str, Any]:
        cells = {"computed": self.computed, "reused": self.kept}
        return {"title": self.filled.table.title, "cells": cells, "rows": self.filled.rows()}

    def __str__(self) -> str:
        lines = [self.filled.markdown(), f"{self.computed} cells computed, {self.kept} reused.", "Written:"]
        return "\n".join([*lines, *(f"  {path}" for path in self.paths)])


def run(config: Config) -> ExperimentResult | FiguresResult:
    """Fill the table `experiment.table` in the folder `experiment.out`, or draw the figures.

    Raises ConfigError, ShardError or RunFolderError before anything starts, and UnfinishedError, with the table
    written, when generators or cells failed; for figures, whatever training or generation raises.
    """
    experiment = checked(config)
    folder = ResultsFolder.open(experiment.out, trained_on(experiment.shards))
    with files.alone_in(experiment.out, "experiment"), connect(config.ray):
        device = _device(config)
        for made in (folder.decoded, folder.judgements, folder.own_pairs):
            files.remove_partials(made)  # gigabytes after a kill
        if experiment.table.is_drawn:
            (name,) = experiment.generators
            return draw_figures(experiment, _generated(experiment, name))
        generated, failed = _all_generated(experiment, folder)
        cells = [cell for cell in experiment.cells if cell.mix.generator is None or cell.mix.generator in generated]
        inputs = {cell: inputs_of(experiment, cell, generated) for cell in cells}
        keys = {cell: cell.key(inputs[cell]) for cell in cells}
        results: dict[Cell, CellResult | str] = dict.fromkeys(experiment.cells, "failed")
        results |= {cell: found for cell, key in keys.items() if (found := folder.result(key)) is not None}
        to_do = [order_of(experiment, cell, generated, device) for cell in cells if isinstance(results[cell], str)]
        kept = len(cells) - len(to_do)
        for cell, outcome in _computed(to_do, len(cells), kept):
            if isinstance(outcome, CellResult):
                outcome.save(folder.result_path(keys[cell]), cell.about(inputs[cell]))
                folder.failure_path(keys[cell]).unlink(missing_ok=True)
                results[cell] = outcome
            else:
                failed[cell.name] = _noted(outcome, cell.name, folder.failure_path(keys[cell]))
        table = filled(experiment.table, config.experiment.seeds, results, _measured_on(experiment, results))
        paths = _write(folder.tables, table)
    if failed:
        raise _unfinished(experiment.table.name, results, failed, paths)
    return ExperimentResult(table, paths, len(to_do), kept)


def _unfinished(
    table: str, results: Mapping[Cell, CellResult | str], failed: Mapping[str, str], paths: Sequence[Path]
) -> UnfinishedError:
    """Error that lists the failures. failed: reasons by the name of a cell or generator."""
    num = sum(isinstance(result, str) for result in results.values())
    return UnfinishedError("\n".join([
        f"{num} of {len(results)} cells of {table} failed:",
        *(f"  {name}: {why}" for name, why in failed.items()),
        "The table is written without them; run the same command again to retry only these. Written:",
        *(f"  {path}" for path in paths),
    ]))  # fmt: skip


def describe(config: Config) -> str:
    """Describe the cells that `run` would compute, and their cost."""
    experiment = checked(config)
    folder, settings = ResultsFolder(experiment.out), config.experiment
    verb = "draw" if experiment.table.is_drawn else "compute"
    lines = [f"Would {verb} {experiment.table.name} in {experiment.out}: {experiment.table.title}"]
    sizes = "" if experiment.table.name == "gain" else f", sizes of the paper x {settings.scale:g}"
    lines.append(f"  data        {_collection(experiment.shards)}{sizes}")
    known: dict[str, Generated] = {}
    width = max([11, *map(len, experiment.generators)])
    for name in experiment.generators:
        made = made_by(experiment, name)
        if made is not None:
            known[name] = made
        lines.append(f"  {name:<{width}} {_state_of(experiment, name, made)}")
    if experiment.table.is_drawn:
        return "\n".join([*lines, f"  written to  {experiment.out / 'figures'}, each as PNG and PDF"])
    if told := _diseases_in_words(experiment):
        lines += [f"  figures     {told}", "              (with the number of positive test images)"]
    if told := _unknown_in_words(experiment):
        lines.append(f"  unknown     {told}")
    lines.append(
        "  rows        R: real pairs, S: synthetic pairs; a cell is one model trained on a row's pairs, for each seed"
    )
    kept, to_do = finished_cells(folder), []
    seeds: dict[str, list[int]] = {}
    for cell in experiment.cells:
        inputs = None
        if cell.mix.generator is None or cell.mix.generator in known:
            inputs = inputs_of(experiment, cell, known)
        state, other = "done", ""
        if inputs is None or folder.result(cell.key(inputs)) is None:
            to_do.append(cell)
            state, other = "to do", "" if inputs is None else difference(cell, inputs, kept)
        note = f" (a finished one differs in: {other})" if other else ""
        seeds.setdefault(f"  {state:<11} {cell.task} {cell.mix.name}{note}", []).append(cell.seed)
    lines += [f"{line}; seed{'s' * (len(own) > 1)} {', '.join(map(str, own))}" for line, own in seeds.items()]
    shown = f"{settings.downstream.images:,} pairs, with repeats"
    lines.append(f"  {len(to_do)} of {len(experiment.cells)} cells to do, each shown {shown}")
    return "\n".join([*lines, *(f"  {told}" for told in [seconds_in_words(to_do, kept)] if told)])


def _state_of(experiment: Experiment, name: str, made: Generated | None) -> str:
    """State of a generator and its pairs in words: what exists and what remains to be done."""
    if made is not None:
        return f"dataset exists: {made.folder}"
    pairs = f"to generate {dataset_rows(experiment.config.experiment, name):,} pairs"
    run_folder, wanted = experiment.run_of(name), experiment.config.train.images
    if experiment.is_given(name):
        return f"given run: {run_folder}; {pairs}"
    if model_of(name) != name:
        return f"of the model {model_of(name)}; {pairs}"
    found = find_checkpoint(run_folder / "checkpoints", "last") if run_folder.is_dir() else None
    return f"to train on {max(wanted - (found.images if found else 0), 0):,} images, {pairs}"


@dataclass(frozen=True)
class _Failure:
    why: str
    is_known: bool
    """Whether its message is meant for the user."""
    trace: str


def _computed(orders: list[CellOrder], total: int, done: int) -> Iterator[tuple[Cell, CellResult | _Failure]]:
    """Compute cells in parallel, as many as the cluster has room for; yield them as they finish."""
    if not orders:
        return
    settings = orders[0].config.experiment
    on_gpu = orders[0].device == "cuda"
    share: dict[str, Any] = {"num_cpus": settings.cpus_per_cell, "max_retries": _RETRIES}
    share |= {"num_gpus": settings.gpus_per_cell} if on_gpu else {}
    task, judging = ray.remote(**share)(run_cell), ray.remote(**share)(judge)
    decoding = ray.remote(num_cpus=settings.cpus_per_cell)(decode)
    with Progress("experiment", total, "cells", done=done) as progress:
        progress.update(done)
        # once per dataset and per selection, so that cells that start together need not; a failure there fails only
        # the cells that depend on it
        decoded: dict[Generated | None, Any] = {}
        judged: dict[Path | None, Any] = {}
        waiting = {}
        for order in orders:
            if order.generated is not None and order.generated not in decoded:
                decoded[order.generated] = decoding.remote(order)
            if order.judgement is not None and order.judgement not in judged:
                judged[order.judgement] = judging.remote(order, decoded[order.generated])
            after = [each for each in (decoded.get(order.generated), judged.get(order.judgement)) if each is not None]
            waiting[task.remote(order, *after)] = order.cell
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            cell = waiting.pop(ready)
            yield cell, _outcome(ready)
            progress.advance(1)


def _outcome(running: Any) -> Any:
    """Result of a Ray task, or a _Failure."""
    try:
        return ray.get(running)
    except ray.exceptions.RayError as error:
        return _failure(error)


def _failure(error: Exception) -> _Failure:
    known, trace = find_emixer_error(error), "".join(traceback.format_exception(error))
    if known is not None:
        return _Failure(known.message, True, trace)
    return _Failure(type(getattr(error, "cause", None) or error).__name__, False, trace)


def _noted(failure: _Failure, name: str, path: Path) -> str:
    """Write the traceback to `path`; return the message for the user."""
    files.write_text(path, f"{name}\n{failure.trace}")
    return failure.why if failure.is_known else f"{failure.why}, traceback in {path}"


def _all_generated(experiment: Experiment, folder: ResultsFolder) -> tuple[dict[str, Generated], dict[str, str]]:
    """Datasets that the table needs, by generator, and for failed generators the reason.

    Raises RunFolderError when the folder holds a dataset made with other settings.
    """
    found = {name: made_by(experiment, name) for name in experiment.generators}
    generated, failed = {name: made for name, made in found.items() if made is not None}, {}
    for name in (name for name in found if name not in generated):
        noted = folder.failure_path(f"generator-{name}")
        try:
            generated[name] = _generated(experiment, name)
            noted.unlink(missing_ok=True)
        except StoppedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever fails one generator, rows of the others can be filled
            failed[f"generator {name}"] = _noted(_failure(error), f"generator {name}", noted)
    return generated, failed


def _generated(experiment: Experiment, name: str) -> Generated:
    """Dataset of that generator; trains and generates whatever is missing."""
    made = made_by(experiment, name)
    if made is not None:
        return made
    config = experiment.generator_config(name)
    if not experiment.is_given(name):
        write_real_pairs(experiment, name)
        train.run(experiment.generator_config(model_of(name)))
    generate.run(config)
    made = made_by(experiment, name)
    assert made is not None, "a generated dataset is finished"
    return made


def _device(config: Config) -> str:
    """Device of the cells. Raises ConfigError when the cluster has no room for a cell and will not grow."""
    wanted, room = config.experiment.use_gpu, capacity()
    if wanted and not room.get("GPU"):
        raise ConfigError("experiment.use_gpu=true, but the Ray cluster has no GPU. Unset it, or add a GPU.")
    cpus = config.experiment.cpus_per_cell
    require_resource("CPU", cpus, f"experiment.cpus_per_cell={cpus}. Lower it, or join a larger cluster.")
    return "cuda" if room.get("GPU") and wanted is not False else "cpu"


def _collection(shards: ShardSet) -> str:
    sources = ", ".join(identify(shards).sources)
    return f"{sources}, {shards.num_rows('train'):,} training images of {shards.info.side_px} px"


def _measured_on(experiment: Experiment, results: Mapping[Cell, CellResult | str]) -> str:
    facts = [r.facts for r in results.values() if isinstance(r, CellResult)]
    rows = sorted({(f["test_rows"], f["test_subjects"]) for f in facts if "test_rows" in f})
    told = [f"{images:,} test images of {people:,} subjects" for images, people in rows]
    encoders = sorted({words for each in facts if (words := network_in_words(each))})
    parts = [_collection(experiment.covid or experiment.shards), ", ".join(told)]
    parts += [f"pretrained on {_collection(experiment.shards)}"] if experiment.covid else []
    parts += [f"sizes x {experiment.config.experiment.scale:g}"] if experiment.table.has_printed else []
    sentences = [f"Measured on {'; '.join(filter(None, parts))}.", _diseases_in_words(experiment)]
    sentences += [f"FID by {encoder}." for encoder in encoders] + [_unknown_in_words(experiment)]
    return " ".join(filter(None, sentences))


def _unknown_in_words(experiment: Experiment) -> str:
    """A caveat about generators with unknown training data; empty if there are none."""
    told = ", ".join(f"the given run of {name}" for name in experiment.unknown)
    why = "its training shards are gone or may not be read"
    return f"Whether {told} has seen test images is unknown: {why}." if told else ""


def _diseases_in_words(experiment: Experiment) -> str:
    """The diseases a mean is over, with the number of test images of each; empty if no column is of diseases."""
    columns = [column for column in experiment.table.columns if column.task in ("images", "pairs")]
    if not columns:
        return ""
    means = [column.title for column in columns if "/" not in column.figure]
    found = experiment.diseases
    what = f"{' and '.join(means)} over" if means else "Test images with each disease:"
    left_out = f"; excluded: {found.left_out_in_words}" if found.left_out else ""
    return f"{what} {found.measured_in_words}{left_out}."


def _write(folder: Path, table: FilledTable) -> tuple[Path, ...]:
    name = table.table.name
    texts = {"md": table.markdown(), "csv": table.csv(), "tex": table.latex()}
    for kind, text in texts.items():
        files.write_text(folder / f"{name}.{kind}", text)
    files.write_bytes(folder / f"{name}.png", plot(table) if table.table.has_printed else plot_gain(table))
    return tuple(folder / f"{name}.{kind}" for kind in (*texts, "png"))

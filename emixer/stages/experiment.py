"""`emixer experiment TABLE`: generators and their datasets, then cells in parallel on Ray, then the table.

Whatever is finished is kept by what it was made of: the same command goes on after an interruption, other tables of the
same folder share generators, datasets and cells, and a cell that fails is shown as failed while the rest goes on.

Source: EMIXER §4.4, §4.5, §6.4; docs/experiments.md says how each table is made.
"""

import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from emixer import files
from emixer.checkpoint import find_checkpoint
from emixer.config import Config
from emixer.errors import ConfigError, EmixerError
from emixer.experiments.cells import Cell, CellResult, ResultsFolder
from emixer.experiments.plot import plot
from emixer.experiments.render import FilledTable, filled
from emixer.experiments.tables import SYNTHETIC_PAIRS, scaled
from emixer.progress import Progress
from emixer.ray_session import capacity, connect
from emixer.stages.experiment_cell import CellOrder, Generated, decode, run_cell
from emixer.stages.experiment_plan import Experiment, checked, inputs_of, made_by, order_of

_LOCK = ".lock"
_RETRIES = 2


@dataclass(frozen=True)
class ExperimentResult:
    """A table, as far as it could be filled."""

    filled: FilledTable
    paths: tuple[Path, ...]
    computed: int
    kept: int
    failed: Mapping[str, str]
    """What went wrong by the cell's name."""

    def __str__(self) -> str:
        lines = [self.filled.markdown(), f"{self.computed} cells computed, {self.kept} kept from before."]
        for name, why in self.failed.items():
            lines.append(f"FAILED  {name}: {why}")
        if self.failed:
            lines.append("The same command tries those again and keeps the rest.")
        return "\n".join([*lines, "Written:", *(f"  {path}" for path in self.paths)])


def run(config: Config) -> ExperimentResult:
    """Fills the table `experiment.table` in the folder `experiment.out`.

    Raises ConfigError, ShardError or RunFolderError before anything starts, and what training or generating raises.
    """
    experiment = checked(config)
    folder = ResultsFolder.open(experiment.out)
    busy = f"Another `emixer experiment` works in {experiment.out}. Wait for it, or choose another folder."
    with files.locked(experiment.out / _LOCK, busy), connect(config.ray):
        generated = {name: _generated(experiment, name) for name in experiment.table.generators}
        device = _device(config)
        orders = {cell: order_of(experiment, cell, generated, device) for cell in experiment.cells}
        keys = {cell: cell.key(inputs_of(experiment, cell, generated)) for cell in experiment.cells}
        results: dict[Cell, CellResult | str] = {}
        for cell, key in keys.items():
            if (found := folder.result(key)) is not None:
                results[cell] = found
        kept = len(results)
        failed = {}
        for cell, outcome in _computed([orders[c] for c in keys if c not in results], len(keys), kept):
            if isinstance(outcome, CellResult):
                outcome.save(folder.result_path(keys[cell]))
                results[cell] = outcome
            else:
                results[cell], failed[cell.name] = "failed", outcome.why
                files.write_text(folder.path / "failures" / f"{keys[cell]}.txt", f"{cell.name}\n{outcome.trace}")
        table = filled(experiment.table, config.experiment.seeds, results, _measured_on(experiment, results))
        paths = _write(folder.tables, table)
    return ExperimentResult(table, paths, len(results) - kept - len(failed), kept, failed)


def describe(config: Config) -> str:
    """Which cells `run` would work on, and what they cost."""
    experiment = checked(config)
    folder, settings = ResultsFolder(experiment.out), config.experiment
    lines = [f"Would fill {experiment.table.name} in {experiment.out}: {experiment.table.title}"]
    lines.append(f"  data        {_collection(experiment)}, sizes of the paper x {settings.scale:g}")
    known: dict[str, Generated] = {}
    for name in experiment.table.generators:
        made = made_by(experiment, name)
        if made is not None:
            known[name] = made
            lines.append(f"  {name:<11} dataset is there: {made.folder}")
            continue
        run_folder = experiment.run_of(name)
        found = find_checkpoint(run_folder / "checkpoints", "last") if run_folder.is_dir() else None
        there, wanted = (found.images if found else 0), config.train.images
        lines.append(
            f"  {name:<11} to train on {max(wanted - there, 0):,} films, to generate "
            f"{scaled(SYNTHETIC_PAIRS, settings):,} pairs"
        )
    seconds, done = [], 0
    for cell in experiment.cells:
        found_result = None
        if cell.mix.generator is None or cell.mix.generator in known:
            found_result = folder.result(cell.key(inputs_of(experiment, cell, known)))
        if found_result is not None:
            done += 1
            seconds.append(float(found_result.facts.get("seconds", 0)))
        lines.append(f"  {'done ' if found_result else 'to do'}       {cell.name}")
    left = len(experiment.cells) - done
    cost = f"{left} of {len(experiment.cells)} cells to do, each trained on {settings.downstream.images:,} pairs"
    if seconds:
        cost += f"; those done took {sum(seconds) / len(seconds):,.0f} s each"
    return "\n".join([*lines, f"  {cost}"])


@dataclass(frozen=True)
class _Failure:
    why: str
    trace: str


def _computed(orders: list[CellOrder], total: int, done: int) -> Iterator[tuple[Cell, CellResult | _Failure]]:
    """Works on cells in parallel, as many as the cluster has room for; yields them as they finish."""
    if not orders:
        return
    settings = orders[0].config.experiment
    on_gpu = orders[0].device == "cuda"
    share: dict[str, Any] = {"num_cpus": settings.cpus_per_cell, "max_retries": _RETRIES}
    share |= {"num_gpus": settings.gpus_per_cell} if on_gpu else {}
    task = ray.remote(**share)(run_cell)
    by_dataset = {order.generated.decoded: order for order in orders if order.generated is not None}
    with Progress("experiment", total, "cells", done=done) as progress:
        progress.update(done)
        ray.get([ray.remote(num_cpus=settings.cpus_per_cell)(decode).remote(order) for order in by_dataset.values()])
        waiting = {task.remote(order): order.cell for order in orders}
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            cell = waiting.pop(ready)
            yield cell, _outcome(ready)
            progress.advance(1)


def _outcome(ready: Any) -> CellResult | _Failure:
    try:
        result: CellResult = ray.get(ready)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        why = cause.message if isinstance(cause, EmixerError) else type(cause or error).__name__
        return _Failure(why, "".join(traceback.format_exception(error)))
    return result


def _generated(experiment: Experiment, name: str) -> Generated:
    """That generator's dataset, trained and generated as far as it is not there."""
    made = made_by(experiment, name)
    if made is not None:
        return made
    from emixer.stages import generate, train

    config = experiment.generator_config(name)
    if not experiment.is_given(name):
        train.run(config)
    generate.run(config)
    made = made_by(experiment, name)
    assert made is not None, "a generated dataset is finished"
    return made


def _device(config: Config) -> str:
    wanted = config.experiment.use_gpu
    if wanted and not capacity().get("GPU"):
        raise ConfigError("experiment.use_gpu=true, but the Ray cluster has no GPU. Leave it out, or add one.")
    return "cuda" if capacity().get("GPU") and wanted is not False else "cpu"


def _collection(experiment: Experiment) -> str:
    from emixer.data.collection import identify

    sources = ", ".join(identify(experiment.shards).sources)
    return f"{sources}, {experiment.shards.num_rows('train'):,} training films of {experiment.shape.side_px} px"


def _measured_on(experiment: Experiment, results: Mapping[Cell, CellResult | str]) -> str:
    facts = [r.facts for r in results.values() if isinstance(r, CellResult)]
    rows = sorted({(f["test_rows"], f["test_subjects"]) for f in facts if "test_rows" in f})
    told = ", ".join(f"{films:,} test films of {people:,} subjects" for films, people in rows)
    encoders = sorted({f"{f['encoder']} at {f['input_px']} px, {f['films']:,} films a side" for f in facts
                       if "encoder" in f})  # fmt: skip
    measured = f"Measured on {_collection(experiment)}; {told}; sizes x {experiment.config.experiment.scale:g}."
    return measured + "".join(f" FID by {encoder}." for encoder in encoders)


def _write(folder: Path, table: FilledTable) -> tuple[Path, ...]:
    name = table.table.name
    texts = {"md": table.markdown(), "csv": table.csv(), "tex": table.latex()}
    for kind, text in texts.items():
        files.write_text(folder / f"{name}.{kind}", text)
    files.write_bytes(folder / f"{name}.png", plot(table))
    return tuple(folder / f"{name}.{kind}" for kind in (*texts, "png"))

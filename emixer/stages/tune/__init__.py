"""`emixer tune`: hyperparameter search. Combines the study, Ray Tune, ordinary training runs and the report."""

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from emixer import files
from emixer.background import repeated
from emixer.checkpoint import MAX_KEPT
from emixer.config import Config, to_yaml, with_overrides
from emixer.data.loader import open_windows
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, EmixerError
from emixer.evaluation.auc_table import MIN_IMAGES
from emixer.evaluation.report_mentions import LABELER_VERSION, READABLE_LABELS, reads_language
from emixer.models.encoder_facts import read_encoder_facts
from emixer.progress import Progress
from emixer.ray_session import capacity, connect, free_abandoned, keep_data_actors_here
from emixer.run_folder import RunFolder
from emixer.stages import train
from emixer.stages.result import StageResult
from emixer.stages.tune.trial import SearchInputs, run_folder_of, run_trial, trial_config
from emixer.tuning.metrics import AIMS, ValidationRows, require_measurable
from emixer.tuning.report import write_report
from emixer.tuning.searcher import StudyPruning, StudySearcher
from emixer.tuning.space import Space, parse_space, values_of, written
from emixer.tuning.space_syntax import ends, read_space, require_prunable
from emixer.tuning.study import REASON, REPEATS, Basis, best, look_at_study, open_study, outcome, repeat_failed

logger = logging.getLogger(__name__)

BEST = "best.yaml"
_POLL_S = 1.0
_FREE_EVERY_S = 2.0
_LISTED = 8
_TRIAL_BYTES = 10**9
"""Memory of a trial on the node of its driver: half a GB for the driver, 0.4 for Ray Train's controller, 0.1 for its
cleaner (imports alone, measured). It reserves no CPU, and its workers reserve their own resources. A node that offers
less, after Ray's object store, never runs one."""
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # a trial's line already gives the reason
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ray's handler ends a search as if it had finished
}  # fmt: skip


@dataclass(frozen=True)
class TuneResult(StageResult):
    """Result of a finished search."""

    study: Path
    counts: dict[str, int]
    """Trials by outcome."""
    best_number: int | None
    best_values: tuple[float, ...]
    metrics: tuple[str, ...]
    settings: str
    """Settings of the best trial, as text."""
    failures: tuple[str, ...] = ()
    """Distinct reasons of failed trials that were not repeated."""
    was_done: bool = False
    """Whether all trials had finished before."""

    @property
    def nothing_to_do(self) -> bool:
        return self.was_done

    @property
    def outputs(self) -> Mapping[str, Path]:
        best = {} if self.best_number is None else {"best": self.study / BEST}
        return {"study": self.study, "report": self.study / "report.html"} | best

    @property
    def figures(self) -> Mapping[str, Any]:
        best = None
        if self.best_number is not None:
            values = dict(zip(self.metrics, self.best_values, strict=True))
            best = {"trial": self.best_number, "metrics": values, "settings": self.settings}
        return {"trials": self.counts, "failures": self.failures, "best": best}

    def __str__(self) -> str:
        counted = ", ".join(f"{number} {name}" for name, number in self.counts.items())
        lines = [f"Searched with {sum(self.counts.values())} trials ({counted}): {self.study}"]
        lines += [f"  failed      {reason}" for reason in self.failures]
        if self.best_number is None:
            return "\n".join([*lines, "  no trial finished; see trials/*/ and the table in report.html"])
        measured = ", ".join(f"{n} {v:.4g}" for n, v in zip(self.metrics, self.best_values, strict=True))
        return "\n".join([
            *lines,
            f"  best        trial {self.best_number}: {measured}",
            f"  its values  {self.settings}",
            f"Report: {self.study / 'report.html'}",
            "Next, train longer with these values:",
            f"  emixer train --config {self.study / BEST} --images ... --run ...",
        ])  # fmt: skip


def run(config: Config) -> TuneResult:
    """Start or resume the search in `tune.study`.

    Raises ConfigError, ShardError or RunFolderError before anything starts; EmixerError when the search was given up or
    no trial finished.
    """
    folder, space, basis = _checked(config)
    _advise(config)
    with files.alone_in(folder, "tune"):  # two searches at once would run each other's trials
        study = open_study(folder, config, space, basis)
        if not study.get_trials(deepcopy=False):
            files.write_text(folder / "config.yaml", to_yaml(config.without_password()))
            own = values_of(config, space)
            if own is not None:
                study.enqueue_trial(own)
        repeat_failed(study)
        searcher = StudySearcher(study, space, config.tune.num_samples)
        was_done = not searcher.num_left
        if not was_done:
            with connect(config.ray), _followed(study, folder, config):
                _search(config, folder, searcher)
        found = best(study)
        if found is not None:
            trained = RunFolder(run_folder_of(folder, found.number)).config
            free = {"train.run": None, "train.images": config.train.images}
            files.write_text(folder / BEST, to_yaml(with_overrides(trained, free)))
        _show(study, folder, config)
    result = _result(study, folder, config, was_done)
    if searcher.given_up is not None:
        raise EmixerError(f"Search stopped: {searcher.given_up}\n{result}\nRun the same command again to resume.")
    if found is None:
        raise EmixerError(f"No trial finished.\n{result}\nRun the same command again to retry failed trials.")
    return result


def _show(study: Study, folder: Path, config: Config) -> None:
    try:
        write_report(study, folder, config.tune.metrics)
    except Exception as error:
        logger.warning("Cannot write report.html (%s: %s); the search itself is done.", type(error).__name__, error)
        logger.debug("", exc_info=True)


def _result(study: Study, folder: Path, config: Config, was_done: bool) -> TuneResult:
    trials, found = study.get_trials(deepcopy=False), best(study)
    counts = Counter(outcome(trial) for trial in trials)
    repeated = {trial.user_attrs.get(REPEATS) for trial in trials}
    failed = [trial for trial in trials if outcome(trial) == "failed" and trial.number not in repeated]
    return TuneResult(
        study=folder,
        counts={str(name): number for name, number in counts.items()},
        best_number=None if found is None else found.number,
        best_values=() if found is None else tuple(found.values),
        metrics=config.tune.metrics,
        settings="" if found is None else written(found.params),
        failures=tuple(dict.fromkeys(trial.user_attrs.get(REASON, "") for trial in failed)),
        was_done=was_done,
    )


def describe(config: Config) -> str:
    """Describe what `run` would do."""
    folder, space, basis = _checked(config)
    _advise(config)
    tune, study = config.tune, look_at_study(folder, config, space, basis)
    own = values_of(config, space)
    first = "sampled; the config's values are out of range" if own is None else f"the config's values: {written(own)}"
    begun = "" if study is None else f" (resumes: {_num_done(study)} of {tune.num_samples} trials done)"
    prunes = tune.pruner != "none" and len(tune.metrics) == 1
    of_trial = MAX_KEPT * train.checkpoint_bytes(trial_config(SearchInputs(config, folder), 0, {}))
    budget = f"{'up to ' * prunes}{tune.budget_images:,} images"
    return "\n".join([
        f"Would search in {folder}{begun}:",
        *(f"  {'space' if not number else '':<11} {line}" for number, line in enumerate(tune.space)),
        f"  first trial {first}",
        f"  trials      {tune.num_samples}, each on {budget}, proposed by {tune.sampler}, "
        + (f"poor ones stopped early ({tune.pruner})" if prunes else "none stopped early"),
        f"  metrics     {', '.join(tune.metrics)}, measured every {config.train.validate_every_images:,} images",
        f"  each        trains {config.model.kind} at {config.model.side_px} px in {run_folder_of(folder, 0).parent}",
        f"  checkpoints {of_trial / 1e6:,.0f} MB per trial at most, all kept: "
        f"{tune.num_samples * of_trial / 1e9:,.1f} GB for {tune.num_samples}",
    ])  # fmt: skip


def _checked(config: Config) -> tuple[Path, Space, Basis]:
    """Return the folder, the space, and what trials are measured on and by."""
    tune = config.tune
    if tune.study is None:
        raise ConfigError("tune.study is not set. Give --study FOLDER for the search and its trials.")
    fewest, most = config.train.worker_range
    if fewest != most:  # the first trial would reserve the whole cluster
        raise ConfigError(
            f"train.num_workers={config.train.workers_in_words} is for a single run. Give trials one number."
        )
    folder = tune.study.resolve()
    files.require_writable(folder)
    space = parse_space(tune.space, config)
    require_prunable(config)
    own = trial_config(SearchInputs(config, folder), 0, {})
    train.check(own)
    for end in ends(read_space(tune.space, config), own):
        train.check(end)
    assert config.data.shards is not None, "checked with the training"
    shards = ShardSet.open(config.data.shards)
    require_measurable(tune.metrics, _validation_rows(config, shards))
    basis: dict[str, str | int] = {"data": shards.digest()}
    if any(AIMS[name].read for name in tune.metrics):
        basis["labeler"] = LABELER_VERSION
    for name, encoder in (("F's encoder", config.model.chest_encoder), ("encoder", config.validation.encoder)):
        if encoder is not None and encoder.weights is not None:  # a path may come to hold another file
            basis[name] = files.sha256_of(encoder.weights)
    if tune.resume and look_at_study(folder, config, space, basis) is None:
        raise ConfigError(f"There is no study in {folder} to resume. Omit --resume to start one.")
    return folder, space, basis


def _validation_rows(config: Config, shards: ShardSet) -> ValidationRows:
    model = config.model
    reader = open_windows(shards, "validate", config.data, config.seed, model.max_sentences, model.max_words)
    rows = reader.read_rows(config.validation.images)
    encoder, names = config.validation.encoder, shards.info.label_names
    judged: Collection[str] = names
    if config.validation.judge == "encoder" and encoder is not None and encoder.weights is not None:
        facts = read_encoder_facts(encoder.weights)
        judged = () if facts is None else facts.label_names
    return ValidationRows(
        labels_NY=rows.labels[rows.labelled], num_reports=int(rows.has_report.sum()),
        teaches_reports=reads_language(shards.info.report_language) and shards.has_reports("train"),
        label_names=names, judged=judged, readable=READABLE_LABELS, enough=MIN_IMAGES,
    )  # fmt: skip


def _advise(config: Config) -> None:
    if "fid" in config.tune.metrics and config.validation.encoder is None:
        logger.warning(
            "FID uses random features here, which may rank a blur above ribs. Set validation.encoder, or choose other "
            "tune.metrics."
        )


def _search(config: Config, folder: Path, searcher: StudySearcher) -> None:
    from ray import tune
    from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner
    from ray.tune.execution.placement_groups import PlacementGroupFactory

    from emixer.training.workers import require_room

    require_room(config.train)
    keep_data_actors_here()  # not on the node of whichever trial reads first

    def ask_to_stop(number: int) -> None:
        RunFolder(run_folder_of(folder, number)).request_stop()

    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    trainable = tune.with_parameters(run_trial, inputs=SearchInputs(config, folder))
    tuner = Tuner(
        tune.with_resources(trainable, PlacementGroupFactory([{"memory": _TRIAL_BYTES}])),
        tune_config=TuneConfig(
            search_alg=searcher, scheduler=StudyPruning(searcher, ask_to_stop), num_samples=-1,
            max_concurrent_trials=at_once(config, capacity()), reuse_actors=True,
        ),
        run_config=RunConfig(
            name="tune", storage_path=str(folder / "ray"), verbose=0,
            failure_config=FailureConfig(max_failures=config.tune.max_failures),
        ),
    )  # fmt: skip
    with repeated(free_abandoned, _FREE_EVERY_S):  # else a trial whose driver was killed waits for its own resources
        tuner.fit()


def at_once(config: Config, has: Mapping[str, float]) -> int:
    """Return how many trials fit on a cluster with these resources; at least one, which then waits for more."""
    schedule = config.train
    if config.tune.max_concurrent is not None:
        return config.tune.max_concurrent
    workers, _ = schedule.worker_range
    room = int(has.get("CPU", 1)) // schedule.cpus_per_worker
    if schedule.use_gpu or (schedule.use_gpu is None and has.get("GPU")):
        shares = int(1 / schedule.gpus_per_worker + 1e-9)  # per GPU: a worker's share lies on one GPU
        room = min(room, int(has.get("GPU", 0)) * shares)
    return max(1, room // workers)


@contextmanager
def _followed(study: Study, folder: Path, config: Config) -> Iterator[None]:
    """Print a line for each trial that ends, and a progress line that lists the running ones."""
    shown = {t.number for t in study.get_trials(deepcopy=False) if t.state.is_finished()}
    total = config.tune.num_samples
    with Progress("tune", total, "trials", done=_num_done(study)) as progress:

        def look() -> None:
            trials = study.get_trials(deepcopy=False)
            for trial in trials:
                if trial.state.is_finished() and trial.number not in shown:
                    shown.add(trial.number)
                    progress.say(_line(trial, config))
            counts = Counter(outcome(trial) for trial in trials)
            leader = best(study)
            fields = {"running": _running(trials, folder, config)}
            fields |= {name: str(counts[name]) for name in ("pruned", "diverged", "failed") if counts[name]}
            if leader is not None:
                fields["best"] = f"{leader.values[0]:.4g} (trial {leader.number})"
            progress.update(_num_done(study), **fields)

        try:
            with repeated(look, _POLL_S):
                yield
        finally:
            look()


def _line(trial: FrozenTrial, config: Config) -> str:
    measured = ", ".join(f"{n} {v:.4g}" for n, v in zip(config.tune.metrics, trial.values or (), strict=False))
    line = f"trial {trial.number:>3}  {outcome(trial):<9} {measured:<24} {written(trial.params)}"
    return f"{line}\n           {trial.user_attrs[REASON]}" if trial.user_attrs.get(REASON) else line


def _running(trials: Sequence[FrozenTrial], folder: Path, config: Config) -> str:
    """Return the running trials and their progress; only their number when there are many."""
    numbers = [trial.number for trial in trials if outcome(trial) == "running"]
    if not 0 < len(numbers) <= _LISTED:
        return str(len(numbers))
    lines = {number: RunFolder(run_folder_of(folder, number)).last_metrics() or {"images": 0} for number in numbers}
    budget = config.tune.budget_images  # the last batch may exceed it
    return ", ".join(f"{n} ({min(line['images'] / budget, 1):.0%})" for n, line in lines.items())


def _num_done(study: Study) -> int:
    """Return the number of trials that count towards `tune.num_samples`."""
    return sum(outcome(t) in ("finished", "pruned", "diverged") for t in study.get_trials(deepcopy=False))

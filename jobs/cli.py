"""`python -m jobs`: the stages of `emixer` as SLURM jobs. Imports neither torch nor Ray."""

import importlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from emixer.cli.base import StageCommand, readable_errors
from emixer.cli.group import CONTEXT, CommandGroup
from emixer.config import Config, to_yaml, with_overrides
from emixer.errors import ConfigError, EmixerError
from jobs.array import elements
from jobs.check import check_stage
from jobs.status import ALIVE, all_jobs, cancel, find_jobs, statuses, summary, table
from jobs.submit import DEFAULT_FOLDER, Job, folder_of, log_of, output_of, require_slurm, script, submit

_STAGES = {
    "ingest": "Turn a raw collection into shards, as a job.",
    "encoder": "Train the chest encoder, as a job.",
    "train": "Train a model, as a job that saves, requeues itself and goes on.",
    "tune": "Search settings, as a job that goes on when it is requeued.",
    "generate": "Write a synthetic paired dataset, as a job.",
    "evaluate": "Compare a dataset with real films and reports, as a job.",
    "experiment": "Fill a table of the paper, as a job that keeps every finished cell.",
}


class _JobGroup(CommandGroup):
    """Stage commands are made from those of `emixer`, and only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_STAGES, "pipeline", "status", "logs", "cancel"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _STAGES:
            return _job_command(importlib.import_module(f"emixer.cli.{cmd_name}").command, cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        others = [(name, command.get_short_help_str(80)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*_STAGES.items(), *others])


@click.group(cls=_JobGroup, context_settings=CONTEXT)
def main() -> None:
    """The stages of emixer as SLURM jobs: submitted from a login node, resumed by themselves.

    \b
    What a job asks for is the `slurm` section of the config:
      python -m jobs train --config configs/paper.yaml --shards shards --run runs/paper \\
          --set slurm.partition=gpu --set slurm.nodes=2 --set slurm.gpus_per_node=4 --dry-run
      python -m jobs pipeline --config site.yaml --stages train,generate
      python -m jobs train --config site.yaml --array seed=0,1,2 --array loss.alpha=0,0.5
      python -m jobs status

    Inside a job, a Ray cluster is made of its nodes for as long as the stage runs.
    """


def _job_command(command: click.Command, stage: str) -> click.Command:
    """The command of a stage, or the group of its kinds, that submits instead of running."""
    if isinstance(command, click.Group):
        group = CommandGroup(command.name, context_settings=CONTEXT, help=command.help)
        for name, child in command.commands.items():
            group.add_command(_job_command(child, stage), name)
        return group
    assert isinstance(command, StageCommand)

    def invoke(
        print_config: bool, dry_run: bool, debug: bool, executor: str, after: tuple[str, ...], array: tuple[str, ...],
        at_once: int | None, **given: Any,
    ) -> None:  # fmt: skip
        with readable_errors(debug):
            config = command.resolve(check=not print_config, **given)
            if print_config:
                click.echo(to_yaml(config), nl=False)
                return
            configs = {element.label: element.config for element in elements(stage, config, array)}
            for each in configs.values():
                check_stage(stage, each, expected=bool(after))
            _submit(stage, command.stage, configs, executor, after, dry_run, at_once)

    options = [o for o in command.params if o.name != "ray_address"]
    for option in options:
        if option.name == "dry_run":
            assert isinstance(option, click.Option)
            option.help = "Check everything and print the script that sbatch would be given, and stop."
    made = StageCommand(
        command.name, callback=invoke,
        params=[*options, *_job_options()], help=command.help, context_settings=CONTEXT,
    )  # fmt: skip
    made.own_parameters = command.own_parameters
    return made


def _job_options() -> list[click.Parameter]:
    return [
        click.Option(["--executor"], type=click.Choice(["slurm", "local"]), default="slurm",
                     help="local: a process of its own on this machine, without SLURM."),
        click.Option(["--after"], multiple=True, metavar="JOB", help="Start when that job has finished. Repeatable."),
        click.Option(["--array"], multiple=True, metavar="KEY=V1,V2,...",
                     help="A job array with one job for each value of that setting, in a folder of its own below the "
                          "stage's, e.g. --array seed=0,1,2. Repeatable: every combination."),
        click.Option(["--at-once"], type=click.IntRange(min=1), metavar="N",
                     help="How many jobs of the array may run at a time."),
    ]  # fmt: skip


def _submit(
    stage: str, module: str, configs: Mapping[str, Config], executor: Any, after: Sequence[str], dry_run: bool,
    at_once: int | None = None,
) -> list[Job]:  # fmt: skip
    """configs: by label; one for a job of its own."""
    configs = {label: _absolute(config) for label, config in configs.items()}
    (first, *others) = configs.values()
    if any(other.slurm != first.slurm for other in others):
        raise ConfigError("--array: settings of `slurm` hold for all jobs of an array. Submit them one by one.")
    if dry_run:
        for label, config in configs.items():
            if label:
                click.echo(f"# {label}: {output_of(stage, config)}")
        click.echo(script(stage, first, after, len(configs), at_once), nl=False)
        return []
    if executor == "slurm":
        require_slurm()
    _require_free(stage, list(configs.values()))
    jobs = submit(stage, module, configs, executor, after, at_once)
    job, many = jobs[0], len(jobs) > 1
    name = f"array {job.array_id} of {len(jobs)} jobs" if many else f"job {job.job_id}"
    click.echo(f"{stage}: {name}" + (f", after {', '.join(after)}" if after else ""))
    for each in jobs if many else ():
        click.echo(f"  {each.job_id}  {each.label}")
    click.echo(f"  log     {log_of(job)}" + (", ..." if many else ""))
    click.echo(f"  status  python -m jobs status --folder {first.slurm.folder}")
    return jobs


def _require_free(stage: str, configs: Sequence[Config]) -> None:
    """Two jobs that write one folder would undo each other's work."""
    outputs = {str(output_of(stage, config)) for config in configs}
    others = [job for job in all_jobs(folder_of(configs[0].slurm)) if job.run in outputs]
    for found in statuses(others):
        if found.state in ALIVE:
            raise ConfigError(
                f"Job {found.job.job_id} ({found.state}) writes {found.job.run} already, and goes on by itself. Wait "
                f"for it, or take it back with `python -m jobs cancel {found.job.job_id}`."
            )


def _absolute(config: Config) -> Config:
    """The folder of jobs named so that nodes find it too."""
    return with_overrides(config, {"slurm.folder": folder_of(config.slurm)})


@main.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), multiple=True, metavar="FILE",
              help="YAML file of settings. Repeatable: a later file wins.")  # fmt: skip
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any setting. Repeatable.")
@click.option("--stages", default="ingest,train,generate", show_default=True, help="In the order of the work.")
@click.option("--dry-run", is_flag=True, help="Check everything and print the scripts.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def pipeline(config: tuple[Path, ...], overrides: tuple[str, ...], stages: str, dry_run: bool, debug: bool) -> None:
    """Submit several stages, each to start when the one before has finished.

    Outputs are handed on: shards of ingest to encoder, train and evaluate, the run of train to generate, the dataset of
    generate to evaluate, unless the config says otherwise.
    """
    from emixer.config import load_config

    with readable_errors(debug):
        names = [name.strip() for name in stages.split(",") if name.strip()]
        _require_order(names)
        resolved = _absolute(_handed_on(load_config(config, overrides), names))
        for index, name in enumerate(names):
            check_stage(name, resolved, expected=index > 0)
        after: tuple[str, ...] = ()
        for name in names:
            jobs = _submit(name, f"emixer.stages.{name}", {"": resolved}, "slurm", after, dry_run)
            after = tuple(job.job_id for job in jobs) or (f"<job of {name}>",)


def _require_order(names: Sequence[str]) -> None:
    # somebody has to look at a search before training goes on, and a table is no step on the way to another
    stages = [name for name in _STAGES if name not in ("tune", "experiment")]
    unknown = [name for name in names if name not in stages]
    if unknown or not names:
        raise ConfigError(f"--stages names {', '.join(unknown) or 'nothing'}; choose from {', '.join(stages)}.")
    order = [name for name in stages if name in names]
    if list(names) != order:
        raise ConfigError(f"--stages {','.join(names)} is not the order of the work, which is {','.join(order)}.")


def _handed_on(config: Config, names: Sequence[str]) -> Config:
    values: dict[str, Any] = {}
    if "ingest" in names and config.data.shards is None:
        values["data.shards"] = config.ingest.out
    if "train" in names and config.generate.run is None:
        values["generate.run"] = config.train.run
    if "generate" in names and config.evaluate.dataset is None:
        values["evaluate.dataset"] = config.generate.out
    return with_overrides(config, values)


def _folder_option(function: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--folder", type=click.Path(path_type=Path), default=Path(DEFAULT_FOLDER), show_default=True,
        help="slurm.folder of the jobs.",
    )(function)  # fmt: skip


@main.command()
@_folder_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(folder: Path, as_json: bool) -> None:
    """List the jobs: state, progress, and why a pending one waits."""
    with readable_errors(False):
        found = statuses(all_jobs(folder))
        click.echo(json.dumps([summary(s) for s in found], indent=1) if as_json else table(found))


@main.command()
@click.argument("job_id")
@_folder_option
@click.option("--follow", "-f", is_flag=True, help="Go on until the job is over.")
def logs(job_id: str, folder: Path, follow: bool) -> None:
    """Show what a job printed."""
    with readable_errors(False):
        job, *more = find_jobs(folder, job_id)
        if more:
            raise EmixerError(f"{job_id} is an array of {len(more) + 1} jobs. Name one, e.g. {job.job_id}.")
        (found,) = statuses([job])
        if not found.log.exists() and not follow:
            click.echo(
                f"Job {job_id} has printed nothing yet ({found.state}{': ' + found.note if found.note else ''})."
            )
            return
        shown = 0
        while True:
            if found.log.exists():
                with found.log.open(encoding="utf-8", errors="replace") as file:
                    file.seek(shown)
                    click.echo(file.read(), nl=False)
                    shown = file.tell()
            if not follow or found.state not in ALIVE:
                return
            time.sleep(2)
            (found,) = statuses([found.job])


@main.command(name="cancel")
@click.argument("job_id")
@_folder_option
def cancel_command(job_id: str, folder: Path) -> None:
    """Take a job back, or a whole array. What it has written stays, and another job can go on from it."""
    with readable_errors(False):
        jobs = find_jobs(folder, job_id)
        cancel(jobs)
        taken = {job_id, *(job.job_id for job in jobs)}
        waiting = [other.job_id for other in all_jobs(folder) if taken.intersection(other.after)]
        click.echo(f"Cancelled job {job_id}.")
        if waiting:
            click.echo(f"It will never finish, so {', '.join(waiting)} will never start: cancel them too.")

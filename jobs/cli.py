"""`python -m jobs`: the stages of `emixer` as SLURM jobs. Does not import torch or Ray."""

import functools
import importlib
import json
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from emixer.cli.answer import readable_errors
from emixer.cli.base import StageCommand
from emixer.cli.config_file import CONFIG_FILE
from emixer.cli.group import CONTEXT, CommandGroup
from emixer.config import Config, load_config, to_yaml, with_overrides
from emixer.config.slurm import STAGES
from emixer.errors import ConfigError, EmixerError
from emixer.models.encoder_facts import WEIGHTS_NAME
from jobs.after import require_awaited
from jobs.array import elements
from jobs.check import Made, check_stage
from jobs.status import ALIVE, all_jobs, cancel, find_jobs, latest, statuses, summary, table
from jobs.submit import DEFAULT_FOLDER, Job, folder_of, job_name, log_of, output_of, require_slurm, script, submit

_BY_HAND = {"study": ("serve", "report")}
"""Subcommands that do not run as jobs: readers must reach the page, whose database is read where it is served."""
_FOLLOW_S = 5.0


class _JobGroup(CommandGroup):
    """Command group that builds a stage's command from that of `emixer`, and only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*STAGES, "pipeline", "status", "logs", "cancel"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in STAGES:
            return _job_command(importlib.import_module(f"emixer.cli.{cmd_name}").command, cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        others = [(name, command.get_short_help_str(80)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*STAGES.items(), *others])


@click.group(cls=_JobGroup, context_settings=CONTEXT)
def main() -> None:
    """The stages of emixer as SLURM jobs: submitted from a login node, resumed automatically.

    \b
    The `slurm` section of the config sets what a job requests:
      python -m jobs train --config paper --shards shards --run runs/paper \\
          --set slurm.partition=gpu --set slurm.nodes=2 --set slurm.gpus_per_node=4 --dry-run
      python -m jobs pipeline --config site.yaml --stages train,generate
      python -m jobs train --config site.yaml --array seed=0,1,2 --array loss.alpha=0,0.5
      python -m jobs status

    Each job starts a Ray cluster on its nodes for as long as the stage runs.
    """


def _job_command(command: click.Command, stage: str) -> click.Command:
    """Command of a stage, or group of its subcommands, that submits a job instead of running."""
    if isinstance(command, click.Group):
        group = CommandGroup(command.name, context_settings=CONTEXT, help=_examples_as_jobs(command.help or ""))
        for name, child in command.commands.items():
            if name not in _BY_HAND.get(stage, ()):
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
            made = _made_by(after, config) if after else ()
            for each in configs.values():
                check_stage(stage, _asking_as(stage, each), made)
            _submit(stage, command.stage, configs, executor, after, dry_run, at_once)

    options = [o for o in command.params if o.name not in ("ray_address", "as_json")]
    for option in options:
        if option.name == "dry_run":
            assert isinstance(option, click.Option)
            option.help = "Check everything, print the sbatch script and exit."
    made = StageCommand(
        command.name, callback=invoke,
        params=[*options, *_job_options()], help=_examples_as_jobs(command.help or ""), context_settings=CONTEXT,
    )  # fmt: skip
    made.own_parameters = command.own_parameters
    return made


def _examples_as_jobs(text: str) -> str:
    """Help of a stage whose example commands submit jobs: `emixer train ...` as `python -m jobs train ...`."""
    stages = "|".join(STAGES)
    text = re.sub(rf"^( +)emixer (?=(?:{stages})\b)", r"\1python -m jobs ", text, flags=re.MULTILINE)
    return text.replace(" --ray-address auto", "")


_AFTER = "Start when this job has finished. Repeatable."


def _job_options() -> list[click.Parameter]:
    return [
        click.Option(["--executor"], type=click.Choice(["slurm", "local"]), default="slurm",
                     help="local: a background process on this machine, without SLURM."),
        click.Option(["--after"], multiple=True, metavar="JOB", help=_AFTER),
        click.Option(["--array"], multiple=True, metavar="KEY=V1,V2,...",
                     help="Submit a job array with one job per value of this setting, each in its own subfolder of the "
                          "output, e.g. --array seed=0,1,2. Repeatable: every combination."),
        click.Option(["--at-once"], type=click.IntRange(min=1), metavar="N",
                     help="Maximum number of jobs of the array running at a time."),
    ]  # fmt: skip


def _submit(
    stage: str, module: str, configs: Mapping[str, Config], executor: Any, after: Sequence[str], dry_run: bool,
    at_once: int | None = None,
) -> list[Job]:  # fmt: skip
    """Submit a stage as a job or array, or print its script. configs: by label; a single one for a single job."""
    configs = {label: _asking_as(stage, config) for label, config in configs.items()}
    (first, *others) = configs.values()
    if any(other.slurm != first.slurm for other in others):
        raise ConfigError("--array: all jobs of an array share the `slurm` settings. Submit them one by one.")
    if dry_run:
        for label, config in configs.items():
            if label:
                click.echo(f"# {label}: {output_of(stage, config)}")
        click.echo(script(stage, first, after, len(configs), at_once), nl=False)
        return []
    if executor == "slurm":
        folder = folder_of(first.slurm)
        require_slurm(folder)
        require_awaited(after, folder)
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
    """Raise ConfigError if another job writes to the same folder."""
    outputs = {str(output_of(stage, config)) for config in configs}
    others = [job for job in all_jobs(folder_of(configs[0].slurm)) if job.run in outputs]
    for found in statuses(others):
        if found.state == "unknown" and found.may_write:
            raise ConfigError(
                f"Job {found.job.job_id} on {found.job.host} may still be writing to {found.job.run}. Look with "
                f"`python -m jobs status` there. If it is over, or that machine is gone: delete {found.job.folder}."
            )
        if found.may_write:
            raise ConfigError(
                f"Job {found.job.job_id} ({found.state}) already writes to {found.job.run} and resumes automatically. "
                f"Wait for it, or cancel it with `python -m jobs cancel {found.job.job_id}`."
            )


def _asking_as(stage: str, config: Config) -> Config:
    """Config with the SLURM resources of that stage and an absolute jobs folder, which nodes can find too."""
    asked = config.slurm.of(stage).model_dump() | {"folder": folder_of(config.slurm)}
    return with_overrides(config, {f"slurm.{name}": value for name, value in asked.items() if name != "stages"})


def _made_by(job_ids: Sequence[str], config: Config) -> Made:
    """Outputs of those jobs and of the jobs they wait for; None if one of them is unknown here."""
    known = {job.job_id: job for job in all_jobs(folder_of(config.slurm))}
    made: list[Path] = []
    waiting = list(job_ids)
    while waiting:
        job = known.get(waiting.pop())
        if job is None:
            return None
        made += [] if job.run is None else [Path(job.run)]
        waiting += job.after
    return made


@main.command()
@click.option("--config", type=CONFIG_FILE, multiple=True, metavar="FILE",
              help="YAML config file. Repeatable: later files override earlier ones.")  # fmt: skip
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any setting. Repeatable.")
@click.option("--stages", default="ingest,train,generate", show_default=True, help="Stages, in workflow order.")
@click.option("--after", multiple=True, metavar="JOB", help=_AFTER)
@click.option("--dry-run", is_flag=True, help="Check everything and print the scripts.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def pipeline(
    config: tuple[Path, ...],
    overrides: tuple[str, ...],
    stages: str,
    after: tuple[str, ...],
    dry_run: bool,
    debug: bool,
) -> None:
    """Submit several stages, each starting when the previous one has finished.

    Outputs are passed on: shards from ingest to encoder, train, evaluate and audit, the encoder to train's validation,
    the run from train to generate, the dataset from generate to evaluate and audit, unless the config says otherwise;
    also from stages of an earlier pipeline with the same config.
    Resources of a single stage are set in slurm.stages, e.g. --set "slurm.stages={ingest: {gpus_per_node: 0}}".
    """
    with readable_errors(debug):
        names = [name.strip() for name in stages.split(",") if name.strip()]
        _require_order(names)
        resolved = _handed_on(load_config(config, overrides), names)
        made = _made_by(after, resolved) if after else ()
        for name in names:
            check_stage(name, _asking_as(name, resolved), made)
            output = output_of(name, resolved)
            if made is not None and output is not None:
                made = [*made, output]
            if not dry_run:
                _require_free(name, [resolved])
        _submit_in_turn(names, resolved, after, dry_run)


def _submit_in_turn(names: Sequence[str], config: Config, after: Sequence[str], dry_run: bool) -> None:
    submitted: list[Job] = []
    for number, name in enumerate(names, 1):
        if dry_run:
            output = output_of(name, config)
            click.echo(f"# {number} of {len(names)}: {name}" + (f", into {output}" if output else ""))
        try:
            jobs = _submit(name, f"emixer.stages.{name}", {"": config}, "slurm", after, dry_run)
        except EmixerError as error:
            if not submitted:
                raise
            raise EmixerError(f"{name}: {error.message} {_taken_back(submitted)}") from error
        except KeyboardInterrupt as interrupt:
            if not submitted:
                raise
            raise KeyboardInterrupt(_interrupted(name, submitted)) from interrupt
        submitted += jobs
        after = [job.job_id for job in jobs] or [f"<job of {name}>"]
    if dry_run:
        click.echo("# Nothing was submitted: settings and inputs were checked, and these are the scripts.")


def _interrupted(name: str, earlier: Sequence[Job]) -> str:
    """Take back what a pipeline has submitted, as its repetition would be refused. Returns that in words."""
    click.echo("\nInterrupted: cancelling the stages already submitted.", err=True)
    return (
        f"Interrupted at {name}. {_taken_back(earlier)} SLURM may have the job of {name} all the same: look for it "
        f"with `squeue --me --all --name={job_name(name)}`, and cancel it with `scancel`. Then run the same command "
        "again."
    )


def _taken_back(jobs: Sequence[Job]) -> str:
    """Cancel the stages before one that could not be submitted. Returns what became of them, in words."""
    ids = [job.job_id for job in jobs]
    try:
        cancel(jobs)
    except EmixerError as error:
        folder = shlex.quote(str(Path(jobs[0].folder).parent))
        commands = "; ".join(f"python -m jobs cancel {job_id} --folder {folder}" for job_id in ids)
        return f"Earlier stages may still be queued, since cancelling them failed too ({error.message}): `{commands}`."
    return f"Earlier stages were cancelled: {', '.join(ids)}."


def _require_order(names: Sequence[str]) -> None:
    # the result of a search must be reviewed before training, and no other stage needs a table
    stages = [name for name in STAGES if name not in ("tune", "experiment", "study")]
    unknown = [name for name in names if name not in stages]
    if unknown or not names:
        raise ConfigError(f"--stages names {', '.join(unknown) or 'nothing'}; choose from {', '.join(stages)}.")
    order = [name for name in stages if name in names]
    if list(names) != order:
        raise ConfigError(f"--stages {','.join(names)} is in the wrong order; use {','.join(order)}.")


def _handed_on(config: Config, names: Sequence[str]) -> Config:
    values: dict[str, Any] = {}
    if config.data.shards is None:  # of an earlier call, if not of this one
        values["data.shards"] = config.ingest.out
    encoder = config.encoder
    if {"encoder", "train"} <= set(names) and config.validation.encoder is None and encoder.run is not None:
        weights = {"weights": encoder.run / WEIGHTS_NAME, "frozen": True}
        values["validation.encoder"] = encoder.network.model_dump() | weights
    if config.generate.run is None:
        values["generate.run"] = config.train.run
    if config.evaluate.dataset is None:
        values["evaluate.dataset"] = config.generate.out
    if config.audit.dataset is None:
        values["audit.dataset"] = config.generate.out
    return with_overrides(config, values)


def _folder_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add --folder and --config, and pass the folder of the jobs to the command."""

    @click.option(
        "--folder", type=click.Path(path_type=Path), help=f"slurm.folder of the jobs. [default: ./{DEFAULT_FOLDER}]"
    )
    @click.option("--config", type=CONFIG_FILE, multiple=True, metavar="FILE",
                  help="Take slurm.folder from this YAML file, as used to submit the jobs.")  # fmt: skip
    @functools.wraps(function)
    def wrapped(folder: Path | None, config: tuple[Path, ...], **given: Any) -> None:
        with readable_errors(False):
            function(folder=folder or folder_of(load_config(config).slurm), **given)

    return wrapped


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--all", "show_all", is_flag=True, help="Include older finished jobs.")
@_folder_option
def status(folder: Path, as_json: bool, show_all: bool) -> None:
    """List jobs: state, progress, and why a pending job waits."""
    jobs = all_jobs(folder)
    if as_json:
        click.echo(json.dumps([summary(s) for s in statuses(jobs)], indent=1))
        return
    found = statuses(jobs)
    shown = found if show_all else latest(found)
    click.echo(table(shown))
    if len(shown) < len(found):
        click.echo(f"({len(found) - len(shown)} older finished jobs not shown: --all)")
    if shown:
        click.echo(f"Logs: e.g. {log_of(shown[-1].job)}, or `python -m jobs logs {shown[-1].job.job_id}`.")
    else:
        click.echo(f"Looked in {folder}; give another folder with --config or --folder.")


@main.command()
@click.argument("job_id")
@click.option("--follow", "-f", is_flag=True, help="Keep printing until the job ends.")
@_folder_option
def logs(job_id: str, folder: Path, follow: bool) -> None:
    """Show what a job printed."""
    job, *more = find_jobs(folder, job_id)
    if more:
        raise EmixerError(f"{job_id} is an array of {len(more) + 1} jobs. Give one, e.g. {job.job_id}.")
    (found,) = statuses([job])
    shown, told = 0, ""
    while True:
        if not found.log.exists():
            said = f"Job {job_id} has printed nothing yet ({found.state}{': ' + found.note if found.note else ''})."
            if said != told:  # once for each reason to wait
                click.echo(said, err=follow)
                told = said
        else:
            with found.log.open(encoding="utf-8", errors="replace") as file:
                file.seek(shown)
                click.echo(file.read(), nl=False)
                shown = file.tell()
        if not follow or found.state not in ALIVE:
            return
        time.sleep(_FOLLOW_S)
        (found,) = statuses([found.job])


@main.command(name="cancel")
@click.argument("job_id")
@_folder_option
def cancel_command(job_id: str, folder: Path) -> None:
    """Cancel a job or a whole array. Its output is kept, and another job can resume from it."""
    jobs = find_jobs(folder, job_id)
    cancel(jobs)
    taken = {job_id, *(job.job_id for job in jobs)}
    waiting = [other.job_id for other in all_jobs(folder) if taken.intersection(other.after)]
    click.echo(f"Cancelled job {job_id}.")
    if waiting:
        click.echo(f"Jobs waiting for it will never start; cancel them too: {', '.join(waiting)}")

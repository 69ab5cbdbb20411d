"""`python -m cluster`: start, inspect, use and stop a Ray cluster on SLURM from a login node."""

import functools
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from cluster import cleanup, files, rendezvous, slurm
from cluster.config import DEFAULT_FOLDER, ClusterConfig, load_config, validate
from cluster.errors import ClusterError
from cluster.files import CONFIG_NAME, HEAD_LOCK_NAME, STOP_NAME
from cluster.head import programs
from cluster.head.autoscaling import head_options, head_script, worker_options, worker_script
from cluster.login import site
from cluster.login.status import find_home, screen, snapshot, to_json
from cluster.slurm import identity
from cluster.slurm.job_registry import HEAD, key_of, registered_jobs
from cluster.slurm.reasons import in_words

_CONTEXT = {"max_content_width": 110, "help_option_names": ["-h", "--help"]}
_POLL_S = 0.5
_DOWN_WAIT_S, _GRACE_S, _HERE_WAIT_S = 60.0, 20.0, 240.0
_INTERRUPTED = 130


def _readable_errors(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> None:
        try:
            function(*arguments, **options)
        except ClusterError as error:
            click.echo(f"Error: {error.message}", err=True)
            sys.exit(2)
        except BrokenPipeError:  # of a reader such as `head`: click knows what to do
            raise
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            click.echo(
                f"Error: {place}{error.strerror or error}. Free space or quota in the cluster's folder, or check who "
                "may write there, and repeat the command.",
                err=True,
            )
            sys.exit(2)

    return wrapped


@click.group(context_settings=_CONTEXT)
def main() -> None:
    """An autoscaling Ray cluster on SLURM. Needs no administrator.

    \b
      python -m cluster init --out cluster.yaml   a first config for this site
      python -m cluster up --config cluster.yaml  start it
      python -m cluster submit -- emixer train --config paper --shards data/shards --run runs/paper
      python -m cluster status                    what runs, what waits and why
      python -m cluster down

    Nodes are SLURM jobs: submitted when Ray has work for them, ended when they are idle. Guide: docs/cluster.md.
    """


def _of_cluster(function: Callable[..., None]) -> Callable[..., None]:
    """Options that choose a running cluster; hands over its home."""

    @click.option("--name", help="Cluster name. Default: the only one that is up.")
    @click.option("--folder", type=click.Path(path_type=Path), default=DEFAULT_FOLDER, show_default=True,
                  help="`folder` from its config.")  # fmt: skip
    @functools.wraps(function)
    def wrapped(name: str | None, folder: Path, **options: Any) -> None:
        function(find_home(folder, name), **options)

    return wrapped


@main.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Output file. Default: print to stdout.")
@_readable_errors
def init(out: Path | None) -> None:
    """Write a first config, based on the partitions of this site."""
    text = site.first_config(site.look())
    if out is None:
        click.echo(text, nl=False)
        return
    if out.exists():
        raise ClusterError(f"{out} already exists. Give another name, or delete it.")
    out.write_text(text, encoding="utf-8")
    click.echo(f"Wrote {out}. Check it, then: python -m cluster up --config {out}")


@main.command()
@click.option("--config", "path", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="YAML config; `python -m cluster init` writes a first one.")  # fmt: skip
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help="Any setting, e.g. node_types.gpu.max=8. Repeatable.")  # fmt: skip
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until the head answers.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the head and worker scripts and exit.")
@_readable_errors
def up(path: Path, overrides: tuple[str, ...], wait: bool, dry_run: bool) -> None:
    """Start a cluster: the head now, workers when there is work."""
    config = load_config(path, overrides)
    if dry_run:
        click.echo(_scripts(config), nl=False)
        return
    if shutil.which("sbatch") is None:
        raise ClusterError("sbatch is not on PATH: this is not a login node of a SLURM cluster. Log in to one.")
    identity.require_same(config.home)
    _require_down(config)
    attempt = secrets.token_hex(4)
    _prepare_home(config)
    started = time.monotonic()
    head = _start_head(config, attempt)
    click.echo(f"{config.name}: head " + (f"job {head}" if isinstance(head, str) else "on this machine"))
    if wait:
        _wait_for_head(config, attempt, head)
        click.echo(f"Up after {time.monotonic() - started:.0f} s. Next:")
        click.echo(f"  python -m cluster submit{_named(config.home)} -- emixer train --config ...")
        click.echo(f"  python -m cluster status{_named(config.home)}")


def _scripts(config: ClusterConfig) -> str:
    attempt = "ATTEMPT"
    parts = [_shown("head", head_options(config, attempt), head_script(config, attempt))]
    for name, node_type in config.node_types.items():
        parts.append(_shown(name, worker_options(name, node_type, config), worker_script(name, config, attempt)))
    return "\n".join(parts)


def _shown(kind: str, options: Sequence[str], script: str) -> str:
    return f"# {kind}\nsbatch {shlex.join(options)} <<'END'\n{script}END\n"


def _require_down(config: ClusterConfig) -> None:
    head = rendezvous.find(config.home)
    known = registered_jobs(slurm.my_jobs(), key_of(config.home))
    jobs = [each for each in known if not each.job.is_over and not each.job.is_leaving]
    if any(each.kind == HEAD for each in jobs) or (head is not None and head.answers()):
        raise ClusterError(
            f"Cluster {config.name} is up or starting: see `python -m cluster status{_named(config.home)}`. To change "
            "its config, take it down first; to run a second cluster, use another name."
        )
    lock = config.home / HEAD_LOCK_NAME
    if files.is_locked(lock):
        raise ClusterError(
            f"Cluster {config.name} has a head that is starting or ending. Wait half a minute for it, or end it with "
            f"`python -m cluster down{_named(config.home)}`. If its machine is down for good, delete {lock}."
        )
    slurm.cancel([each.job.job_id for each in jobs])  # of a former life


def _prepare_home(config: ClusterConfig) -> None:
    home = config.home
    try:
        (home / "logs").mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
        rendezvous.withdraw(home)
        (home / STOP_NAME).unlink(missing_ok=True)
        identity.remember(home)
        files.write_json(home / CONFIG_NAME, config.model_dump(mode="json"))
    except OSError as error:
        raise ClusterError(f"{home} is not writable ({error.strerror}). Set `folder` to a writable one.") from error


def _start_head(config: ClusterConfig, attempt: str) -> "str | subprocess.Popen[bytes]":
    """Its job, or its process on this machine."""
    script = head_script(config, attempt)
    if config.head.where == "job":
        try:
            return slurm.submit(script, head_options(config, attempt))
        except slurm.SlurmRefusalError as error:
            raise ClusterError(f"SLURM refused the head: {error.message}") from error
        except slurm.SlurmSilenceError as error:
            named = _named(config.home)
            raise ClusterError(
                f"SLURM did not say whether it has the head's job: {error.message}. `python -m cluster status{named}` "
                f"shows it; `python -m cluster down{named}` cancels it."
            ) from error
    with (config.home / "logs" / "head.out").open("ab") as log:
        return subprocess.Popen(
            ["/bin/bash", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env=slurm.environment_of_user(os.environ),
        )  # fmt: skip


def _wait_for_head(config: ClusterConfig, attempt: str, started_as: "str | subprocess.Popen[bytes]") -> None:
    said = ""
    job_id = started_as if isinstance(started_as, str) else None
    log = config.home / "logs" / ("head.out" if job_id is None else f"{job_id}-{HEAD}.out")
    started, ask_at, view = time.monotonic(), 0.0, files.FreshView(config.home)
    while True:
        view.refresh()
        head = rendezvous.find(config.home)
        if head is not None and head.attempt == attempt:
            return
        now = time.monotonic()
        if job_id is not None and now >= ask_at:
            ask_at = now + config.poll_s
            try:
                job = next((j for j in slurm.my_jobs() if j.job_id == job_id), None)
            except slurm.SlurmSilenceError:
                continue
            if job is None or job.is_over or job.is_leaving:
                raise ClusterError(f"The head's job {job_id} ended before it was up{_tail(log)}")
            if job.state == "PENDING" and (words := in_words(job.reason)) != said:
                said = words
                click.echo(f"  pending: {words}")
        elif not isinstance(started_as, str) and started_as.poll() is not None:
            raise ClusterError(f"The head ended before it was up, with code {started_as.returncode}{_tail(log)}")
        elif not isinstance(started_as, str) and now - started > _HERE_WAIT_S:
            os.killpg(started_as.pid, signal.SIGTERM)
            raise ClusterError(f"The head did not come up within {_HERE_WAIT_S:.0f} s{_tail(log)}")
        time.sleep(_POLL_S)


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
    except OSError:
        lines = []
    return f": {' / '.join(lines)} ({log})" if lines else f"; it printed nothing ({log})."


def _named(home: Path) -> str:
    """The options by which that cluster, and no other, is found again."""
    chosen = ["--name", home.name] if len(list(home.parent.glob(f"*/{CONFIG_NAME}"))) > 1 else []
    if home.parent != DEFAULT_FOLDER.expanduser():
        chosen += ["--folder", str(home.parent)]
    return f" {shlex.join(chosen)}" if chosen else ""


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_readable_errors
@_of_cluster
def status(home: Path, as_json: bool) -> None:
    """Show what runs, what waits and why, on one screen."""
    identity.require_same(home)
    shot = snapshot(validate(files.read_json(home / CONFIG_NAME), str(home / CONFIG_NAME)))
    click.echo(json.dumps(to_json(shot), indent=1) if as_json else screen(shot))


@main.command(context_settings={**_CONTEXT, "ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow its output until it ends.")
@_readable_errors
@_of_cluster
def submit(home: Path, command: tuple[str, ...], wait: bool) -> None:
    """Run a program on the cluster's head.

    It runs in this folder and with this shell's environment.

    \b
      python -m cluster submit -- emixer generate --run runs/one --num 600000 --out pairs

    It finds the cluster through RAY_ADDRESS. Ctrl-C stops it; with --no-wait it keeps running after the terminal is
    closed.
    """
    if not _is_up(home):
        raise ClusterError(f"Cluster {home.name} is not up: see `python -m cluster status{_named(home)}`.")
    program = programs.submit(home, command, Path.cwd(), os.environ)
    if not wait:
        status_command = f"python -m cluster status{_named(home)}"
        click.echo(f"program {program.number}\n  log     {program.log}\n  status  {status_command}")
        return
    sys.exit(_follow(home, program))


def _is_up(home: Path) -> bool:
    """Whether its head takes programs: they are files, so that it need not be reachable from here."""
    head = rendezvous.find(home)
    if head is None:
        return False
    if head.answers():
        return True
    identity.require_same(home)
    return any(
        each.kind == HEAD and each.job.state == "RUNNING"
        for each in registered_jobs(slurm.my_jobs(), key_of(home), head.attempt)
    )


def _follow(home: Path, program: programs.Program) -> int:
    shown, view = 0, files.FreshView(program.folder)
    try:
        while True:
            view.refresh()
            state = program.state()
            if program.log.exists():
                with program.log.open("rb") as log:
                    log.seek(shown)
                    while part := log.read(2**16):
                        shown += len(part)
                        sys.stdout.buffer.write(part)
                sys.stdout.flush()
            if state["state"] == "ended":
                code = int(state["code"])
                return code if code >= 0 else 128 - code
            if rendezvous.find(home) is None and program.state()["state"] != "ended":
                raise ClusterError(f"The head went down before the program ended; its output is in {program.log}.")
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        program.ask_to_stop()
        click.echo(f"\nInterrupted: the head is stopping program {program.number}.", err=True)
        return _INTERRUPTED


@main.command()
@_readable_errors
@_of_cluster
def env(home: Path) -> None:
    """Print the environment for programs you start on a node.

    eval "$(python -m cluster env)"
    """
    head = rendezvous.find(home)
    if head is None:
        raise ClusterError(f"Cluster {home.name} is not up: see `python -m cluster status{_named(home)}`.")
    for name, value in (head.environment() | {"RAY_ADDRESS": head.address}).items():
        click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
@_readable_errors
@_of_cluster
def down(home: Path) -> None:
    """Stop the cluster: programs, workers, head and pending jobs."""
    identity.require_same(home)
    started = time.monotonic()
    before = files.read_json(home / rendezvous.RENDEZVOUS)
    try:
        files.write_private(home / STOP_NAME, "")
    except OSError as error:
        click.echo(f"{home} is not writable ({error.strerror}): ending the head through SLURM.", err=True)
        _end_head(home, before)
    told = False
    while True:
        head, waited = rendezvous.find(home), time.monotonic() - started
        jobs = [
            each for each in registered_jobs(slurm.my_jobs(), key_of(home))
            # a node that does not answer keeps its job in COMPLETING for hours
            if not each.job.is_over and not (each.job.is_leaving and waited > _GRACE_S)
        ]  # fmt: skip
        slurm.cancel([each.job.job_id for each in jobs if each.kind == HEAD and each.job.state == "PENDING"])
        is_seen = head is not None or files.is_locked(home / HEAD_LOCK_NAME)  # one that starts is not announced
        if not jobs and (not is_seen or waited > _GRACE_S) and not _is_running_here(before):
            break
        if waited > _DOWN_WAIT_S:
            ids = ", ".join(each.job.job_id for each in jobs) or "none"
            raise ClusterError(f"The cluster is not down after {waited:.0f} s; remaining jobs: {ids}. See squeue.")
        if waited > _GRACE_S and not told:
            told = True
            cleanup.cancel_all(home)
        elif head is None:  # nobody is left to take them back
            slurm.cancel([each.job.job_id for each in jobs if each.kind != HEAD])
        time.sleep(_POLL_S / 2 if waited < _GRACE_S else 2)
    rendezvous.withdraw(home)
    identity.forget(home)
    click.echo(f"Cluster {home.name} is down after {time.monotonic() - started:.1f} s.")


def _end_head(home: Path, announced: dict[str, Any]) -> None:
    """Where it cannot be told through the cluster's folder."""
    jobs = registered_jobs(slurm.my_jobs(), key_of(home))
    slurm.cancel([each.job.job_id for each in jobs if each.kind == HEAD and not each.job.is_over])
    if _is_running_here(announced):
        os.kill(announced["pid"], signal.SIGTERM)


def _is_running_here(announced: dict[str, Any]) -> bool:
    """Whether the process of a head that runs on this machine itself is still there."""
    pid = announced.get("pid")
    if announced.get("host") != rendezvous.own_host() or not isinstance(pid, int):
        return False
    try:
        return b"cluster.head" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False

"""One screen about a cluster: what runs, what waits and why, what is requested, recent events."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import files, rendezvous, slurm
from cluster.config import ClusterConfig
from cluster.errors import ClusterError
from cluster.event_log import Entry, EventLog
from cluster.files import CONFIG_NAME
from cluster.head.programs import Program, programs
from cluster.node.ray_state import ask_ray, shape
from cluster.slurm.job_registry import HEAD, RegisteredJob, key_of, registered_jobs
from cluster.slurm.reasons import in_words

_LATELY, _PROGRAMS_SHOWN, _WORKERS_SHOWN = 5, 5, 20


@dataclass(frozen=True)
class Snapshot:
    """All that the screen shows."""

    config: ClusterConfig
    head: rendezvous.Head | None
    jobs: tuple[RegisteredJob, ...]
    """That are not over."""
    joined: dict[str, str]
    """Ray's state by job: busy, idle, draining."""
    kept: dict[str, str]
    """What keeps a node on whose CPUs nothing runs, by job."""
    demands: tuple[tuple[str, int], ...] | None
    """What waits for resources, and how many of it; None where Ray could not be asked."""
    programs: tuple[Program, ...]
    lately: tuple[Entry, ...]
    at: float


def snapshot(config: ClusterConfig) -> Snapshot:
    """Asks SLURM, and Ray where its head answers. Raises ClusterError when SLURM does not answer."""
    home = config.home
    head = rendezvous.find(home)
    jobs = [each for each in registered_jobs(slurm.my_jobs(), key_of(home)) if not each.job.is_over]
    ray = ask_ray(head) if head is not None and head.answers() else None
    demands = None if ray is None else tuple((shape(d), n) for d, n in ray["demands"])
    joined, kept = ({}, {}) if ray is None else (ray["joined"], ray["kept"])
    return Snapshot(
        config, head, tuple(jobs), joined, kept, demands, tuple(programs(home)), tuple(EventLog(home).last(_LATELY)),
        time.time(),
    )  # fmt: skip


def to_json(shot: Snapshot) -> dict[str, Any]:
    """For programs."""
    return {
        "name": shot.config.name,
        "up": shot.head is not None,
        "address": None if shot.head is None else shot.head.address,
        "jobs": [
            {
                "job": each.job.job_id, "kind": each.kind, "state": _state(shot, each), "node": each.job.node,
                "note": _note(shot, each),
            }
            for each in shot.jobs
        ],
        "demands": None if shot.demands is None else [{"shape": d, "count": n} for d, n in shot.demands],
        "programs": [
            {"number": p.number, "command": p.command(), "log": str(p.log), **p.state()} for p in shot.programs
        ],
        "lately": [{"at": e.at, "what": e.what, "node_type": e.node_type, "detail": e.detail} for e in shot.lately],
    }  # fmt: skip


def screen(shot: Snapshot) -> str:
    """For people."""
    parts = [_headline(shot), _types(shot)]
    workers = [each for each in shot.jobs if each.is_worker]
    if workers:
        chosen = workers
        if len(workers) > _WORKERS_SHOWN:  # those first that something is to be said of
            chosen = sorted(workers, key=lambda each: _state(shot, each) in ("busy", "idle"))[:_WORKERS_SHOWN]
        shown = [
            (each.job.job_id, each.kind, _state(shot, each), each.job.node or "-", _note(shot, each)) for each in chosen
        ]
        more = len(workers) - len(chosen)
        parts.append(_table(("job", "type", "state", "node", ""), shown) + (f"\n({more} more: --json)" if more else ""))
    if shot.demands:
        waits = ", ".join(f"{count} x {shape}" for shape, count in shot.demands)
        parts.append(f"Waiting for resources: {waits}")
    if shot.programs:
        rows = [
            (str(p.number), _program_state(p, shot.at), " ".join(p.command())[:70], str(p.log))
            for p in shot.programs[-_PROGRAMS_SHOWN:]
        ]
        parts.append(_table(("program", "state", "command", "log"), rows))
    if shot.lately:
        lines = [
            f"  {time.strftime('%H:%M:%S', time.localtime(e.at))}  {' '.join(p for p in (e.what, e.node_type) if p)}"
            + (f": {e.detail}" if e.detail else "")
            for e in shot.lately
        ]
        parts.append("\n".join(["Recent events", *lines]))
    return "\n\n".join(parts)


def _headline(shot: Snapshot) -> str:
    name = shot.config.name
    heads = sorted((each for each in shot.jobs if each.kind == HEAD), key=lambda each: each.job.is_leaving)
    own = heads[0] if heads else None  # an earlier one may still be leaving
    if shot.head is None:
        if own is None:
            return f"Cluster {name} is down. `python -m cluster up` starts it."
        if own.job.state == "PENDING":
            return f"Cluster {name}: its head, job {own.job.job_id}, is pending: {in_words(own.job.reason)}"
        state = "ending" if own.job.is_leaving else "starting"
        return f"Cluster {name}: its head, job {own.job.job_id} on {own.job.node}, is {state}"
    where = "on this login node" if own is None else f"job {own.job.job_id} on {own.job.node}, {_left(own)}"
    silent = "" if shot.demands is not None else ". Ray does not answer from here, so its state is not shown"
    return f"Cluster {name} is up at {shot.head.address} ({where}){silent}"


def _types(shot: Snapshot) -> str:
    rows = []
    for name, node_type in shot.config.node_types.items():
        count = Counter(_state(shot, each) for each in shot.jobs if each.kind == name)
        rows.append((
            name, *(str(count[s] or "-") for s in ("busy", "idle", "starting", "pending", "draining", "leaving")),
            f"{node_type.min} to {node_type.max}", node_type.partition or "(default)",
        ))  # fmt: skip
    head = ("type", "busy", "idle", "starting", "pending", "draining", "leaving", "allowed", "partition")
    return _table(head, rows)


def _state(shot: Snapshot, registered: RegisteredJob) -> str:
    state = registered.job.state
    if state == "RUNNING":
        return shot.joined.get(registered.job.job_id, "running" if shot.demands is None else "starting")
    return {"COMPLETING": "leaving", "CONFIGURING": "starting"}.get(state, state.lower())


def _note(shot: Snapshot, registered: RegisteredJob) -> str:
    job = registered.job
    if job.state == "PENDING":
        expected = "" if job.start in ("N/A", "") else f"; expected {job.start.replace('T', ' ')}"
        return in_words(job.reason) + expected
    kept = shot.kept.get(job.job_id) if _state(shot, registered) == "busy" else None
    return "; ".join(part for part in (_left(registered), kept) if part)


def _left(registered: RegisteredJob) -> str:
    left = registered.job.seconds_left
    if left is None:
        return ""
    hours, seconds = divmod(int(left), 3600)
    return f"{hours} h {seconds // 60:02d} min left" if hours else f"{seconds // 60}:{seconds % 60:02d} min left"


def _program_state(program: Program, now: float) -> str:
    state = program.state()
    if state["state"] == "ended":
        return "done" if state["code"] == 0 else f"failed ({state['code']})"
    if state["state"] == "running":
        return f"running {(now - state['at']) / 60:.0f} min"
    return "waiting"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    )


def find_home(folder: Path, name: str | None) -> Path:
    """The folder of a cluster by name, or of the only one that is up. Raises ClusterError."""
    folder = Path(os.path.abspath(folder.expanduser()))  # noqa: PTH100 - a link to a shared disk must stay one
    known = sorted(path.parent for path in folder.glob(f"*/{CONFIG_NAME}"))
    if name is not None:
        if folder / name in known:
            return _as_started(folder / name)
        names = ", ".join(path.name for path in known)
        raise ClusterError(
            f"There is no cluster {name} in {folder}"
            + (f"; existing clusters: {names}." if names else "; none was started yet.")
        )
    up = [path for path in known if rendezvous.find(path) is not None]
    chosen = up or known
    if len(chosen) == 1:
        return _as_started(chosen[0])
    if not chosen:
        raise ClusterError(f"No cluster in {folder}. Start one with `python -m cluster up --config FILE`.")
    raise ClusterError(f"Several clusters; choose one with --name: {', '.join(path.name for path in chosen)}.")


def _as_started(home: Path) -> Path:
    """The same folder by the name that `up` knew it by, which its jobs carry; a link or `..` may lead there too."""
    content = files.read_json(home / CONFIG_NAME)
    known_as = Path(str(content.get("folder"))) / str(content.get("name"))
    try:
        return known_as if known_as.samefile(home) else home
    except OSError:  # the folder was moved
        return home

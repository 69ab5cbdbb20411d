"""The commands of SLURM that are used, and what they answer. The one place that calls them.

Every command may fail, hang or be refused: each has a time limit, and "SLURM did not answer" is told apart from "SLURM
says no".
"""

import calendar
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from cluster.errors import ClusterError

MARK = "RAY_ON_SLURM"
"""Stands in the environment of every process of a cluster: how they are found when it is time to go."""

_TIMEOUT_S = 30
_TIME = "%Y-%m-%dT%H:%M:%S"
"""How SLURM writes a time."""
_OVER = (
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "PREEMPTED",
    "REVOKED", "LAUNCH_FAILED",
)  # fmt: skip
"""States of a job that will not run again."""
_AT_WORK = ("RUNNING", "SIGNALING", "RESIZING", "STOPPED", "SUSPENDED")
_HELD = ("REQUEUE_HOLD", "SPECIAL_EXIT")
"""States of a job that is to run again, but not before somebody releases it."""
_NOT_STARTED = ("launch failed requeued held", "user env retrieval failed")
"""How the reason begins of a job that is pending for the same, as its node could not start it."""
_USERS_OWN = tuple(f"SBATCH_{name}" for name in ("ACCOUNT", "PARTITION", "QOS", "CONSTRAINT", "RESERVATION", "WCKEY"))
"""Variables by which users say who pays for their jobs and where they run. SLURM sets none of them inside of a job."""
_INVALID = "Invalid job id"
_SIGNS_OF_SILENCE = (
    "Socket timed out", "Unable to contact slurm controller", "Connection refused", "Connection timed out",
    "Zero Bytes were transmitted", "Transport endpoint is not connected", "Unable to establish",
)  # fmt: skip


class SlurmRefusalError(ClusterError):
    """SLURM said no; the message is what it said."""


class SlurmSilenceError(ClusterError):
    """SLURM did not answer: nothing is known."""


@dataclass(frozen=True)
class QueuedJob:
    """A job as squeue shows it."""

    job_id: str
    state: str
    """SLURM's word, e.g. PENDING."""
    reason: str
    """Why it is pending; SLURM's word."""
    seconds_left: float | None
    """Until its time limit; None if it has none or has not started."""
    node: str
    start: str
    """When it started, or is expected to, in local time; N/A if SLURM cannot tell."""
    ends: float | None
    """When SLURM will end it: its time limit, or the end of its grace time when it is preempted [s since the epoch]."""
    comment: str

    @property
    def is_over(self) -> bool:
        """Whether it will not run again."""
        return is_end(self.state)

    @property
    def is_leaving(self) -> bool:
        """Whether it is being ended now: its node is not free yet, but it does no more work."""
        return self.state == "COMPLETING"

    @property
    def is_held_for_failure(self) -> bool:
        """Whether it could not be started, or has failed, and SLURM holds it: with a prolog that fails, even a job that
        must not be requeued. Not one that somebody holds."""
        not_started = self.state == "PENDING" and self.reason.replace("_", " ").strip("()").startswith(_NOT_STARTED)
        return not_started or self.state.split("+")[0] in _HELD


def mark(start: str, task: str) -> dict[str, str]:
    """The mark of what one task of a job starts.

    start: the job's id and how often it was started. Two SLURMs count their jobs alike, and a machine may be a node of
    one and the login node of another: their names tell them apart.
    """
    return {MARK: f"{start}-{task}-{os.environ.get('SLURM_CLUSTER_NAME', '')}"}


def is_end(state: str) -> bool:
    """Whether that word of SLURM's means that the job will not run again."""
    return state.split("+")[0] in _OVER


def is_at_work(state: str) -> bool:
    """Whether that word of SLURM's means that the job has its nodes and is not being ended, e.g. SIGNALING, which it is
    called from a signal on until its nodes have answered."""
    return state.split("+")[0] in _AT_WORK


def is_silence(words: str) -> bool:
    """Whether a command says so that the controller did not answer: it may have done what it was asked, or not."""
    return any(sign in words for sign in _SIGNS_OF_SILENCE)


def submit(script: str, options: Sequence[str]) -> str:
    """Gives the script to sbatch. Returns the job's id.

    Raises SlurmRefusalError with sbatch's own words, SlurmSilenceError when it does not answer.
    """
    done = _run(["sbatch", "--parsable", *options], script)
    _require_accepted("sbatch", done)
    ids = re.findall(r"^(\d+)(?:;.*)?$", done.stdout, flags=re.MULTILINE)  # some sites print more
    if not ids:
        raise SlurmSilenceError(f"sbatch returned no job id but {done.stdout.strip()[:200]!r}")
    return str(ids[-1])


def my_jobs() -> list[QueuedJob]:
    """All jobs of this user that SLURM still knows, jobs of arrays one by one. Raises SlurmSilenceError."""
    # without --all, squeue leaves out hidden partitions, the user's own jobs there included
    shown = _ask(
        ["squeue", "--me", "--all", "--noheader", "--array", "--states=all", "--format=%i|%T|%r|%L|%N|%S|%e|%k"]
    )
    return [_parsed(line) for line in shown.splitlines() if line.count("|") >= 7]


def accounted(job_ids: Sequence[str]) -> dict[str, str]:
    """SLURM's word for the end of each job that is over by its accounts; empty where the site keeps none, or they do
    not answer. Jobs of arrays are named one by one."""
    if not job_ids or shutil.which("sacct") is None:
        return {}
    # asked for an array: elements that were taken back before they started have but one entry, `7_[1,3-5%2]`
    asked = dict.fromkeys(job_id.partition("_")[0] for job_id in job_ids)
    try:
        done = _run(
            ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State", "-j", ",".join(asked)]
        )
    except SlurmSilenceError:
        return {}
    states: dict[str, str] = {}
    for shown, bar, state in (line.partition("|") for line in done.stdout.splitlines()):
        word = state.split(" ")[0]  # CANCELLED by 1000
        if bar and word in _OVER:
            states |= dict.fromkeys(_elements(shown), word)
    return {job_id: states[job_id] for job_id in job_ids if job_id in states}


def _elements(shown: str) -> list[str]:
    """The jobs in an id as SLURM writes it: of `7_[1,3-5%2]`, an array of which two may run at a time, 7_1, 7_3, ..."""
    array, bracket, tasks = shown.partition("_[")
    if not bracket:
        return [shown]
    # SLURM cuts a long list short with dots
    spans = [re.match(r"(\d+)(?:-(\d+))?(?::(\d+))?", span) for span in tasks.split(",")]
    return [
        f"{array}_{index}"
        for first, last, step in (span.groups() for span in spans if span is not None)
        for index in range(int(first), int(last or first) + 1, int(step or 1))
    ]


def cancel(job_ids: Sequence[str]) -> None:
    """Takes jobs back; those that are over are no error. Raises SlurmSilenceError."""
    if job_ids:
        _ask(["scancel", "--quiet", *job_ids])


def requeue(job_id: str) -> None:
    """Sends a job that runs back to the queue. Raises SlurmRefusalError with SLURM's words, SlurmSilenceError."""
    _require_accepted("scontrol", _run(["scontrol", "requeue", job_id]))


def cluster_name() -> str:
    """What this SLURM calls itself. Raises SlurmSilenceError."""
    found = re.search(r"^ClusterName\s*=\s*(\S+)", _ask(["scontrol", "show", "config"]), flags=re.MULTILINE)
    if found is None:
        raise SlurmSilenceError("scontrol did not report the name of this SLURM cluster")
    return found[1]


def node_address(node: str) -> str:
    """Name or address by which SLURM reaches the node. Raises SlurmSilenceError, also where it knows no such node."""
    found = re.search(r"\bNodeAddr=(\S+)", _ask(["scontrol", "--oneliner", "show", "node", node]))
    if found is None:
        raise SlurmSilenceError(f"scontrol did not report the address of {node}")
    return found[1]


def partitions(shown: str) -> str:
    """What sinfo says, in lines of that format. Raises SlurmSilenceError."""
    return _ask(["sinfo", "--noheader", f"--format={shown}"])


def state_of(job_id: str) -> str | None:
    """SLURM's word for the job, e.g. RUNNING; "" if it does not know the job, None if it did not answer."""
    found = standing(job_id)
    return None if found is None else found[0]


def standing(job_id: str) -> tuple[str, str] | None:
    """SLURM's words for the job and for the reason, e.g. COMPLETING and TimeLimit; empty if it does not know the job,
    None if it did not answer."""
    try:
        done = _run(["squeue", "-h", "-j", job_id, "-t", "all", "-o", "%T|%r"])
    except SlurmSilenceError:
        return None
    if done.returncode:
        return ("", "") if _INVALID in done.stderr else None
    state, _, reason = done.stdout.strip().partition("|")
    return state, reason


def states_of(job_id: str) -> dict[str, str]:
    """SLURM's word for a job of anybody, or for each of an array; empty if it does not know it. Raises
    SlurmSilenceError."""
    done = _run(["squeue", "-h", "--array", "-j", job_id, "-t", "all", "-o", "%i|%T"])
    if done.returncode and _INVALID not in done.stderr:
        raise SlurmSilenceError(f"squeue failed: {_words(done.stderr) or done.returncode}")
    return {shown: state for shown, bar, state in (line.partition("|") for line in done.stdout.splitlines()) if bar}


def is_over(job_id: str) -> bool:
    """Whether the job will surely not run again; False where SLURM did not answer."""
    state = state_of(job_id)
    return state is not None and (not state or is_end(state))


def seconds_left(job_id: str) -> float | None:
    """Until SLURM ends the job: its time limit, or the end of its grace time when it is preempted. None: not known."""
    try:
        ends = moment(_ask(["squeue", "-h", "-j", job_id, "-o", "%e"]).strip())
    except SlurmSilenceError:
        return None
    return None if ends is None else ends - time.time()


def memory_mb(job_id: str, step: str | None = None) -> int | None:
    """What the job, or that step of it, has of each of its nodes, on the average; None where SLURM shares out none or
    does not answer."""
    what = ["job", job_id] if step is None else ["step", f"{job_id}.{step}"]
    try:
        shown = _ask(["scontrol", "--oneliner", "show", *what])
    except SlurmSilenceError:
        return None
    found = re.search(r"(?<!Req)TRES=(\S*)", shown)
    tres = dict(part.partition("=")[::2] for part in found[1].split(",")) if found is not None else {}
    size = re.fullmatch(r"([\d.]+)([KMGT])", tres.get("mem", ""))
    if size is None or not tres.get("node", "").isdigit():
        return None
    return int(float(size[1]) * {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}[size[2]] / int(tres["node"]))


def environment_of_user(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what SLURM sets inside of a job, which sbatch would take for options, what narrows or changes what squeue
    shows and scancel finds, and the address and token of a cluster. On a login node, a user's own SBATCH_ variables
    stay, but for the one that sends jobs where squeue does not look; inside of a job, those that say who pays and
    where.
    """
    dropped = [
        "SQUEUE_", "SCANCEL_", "SLURM_TIME_FORMAT", "SBATCH_CLUSTERS", "RAY_AUTH_", "RAY_ADDRESS",
        "RAY_CLOUD_INSTANCE_ID", "RAY_NODE_TYPE_NAME", MARK,
    ]  # fmt: skip
    if "SLURM_JOB_ID" in environment:
        # of the others, some are SLURM's (SBATCH_CPU_BIND, SBATCH_MEM_BIND), and some may be of the size of this job
        dropped += ["SLURM_", "SBATCH_", "SRUN_"]
    kept = ("SLURM_CONF", "SLURM_CLUSTERS", *_USERS_OWN)
    return {k: v for k, v in environment.items() if k in kept or not k.startswith(tuple(dropped))}


def duration_s(shown: str) -> float | None:
    """`1-02:03:04`, `02:03:04`, `03:04` or `04` [s]; None for anything else, e.g. UNLIMITED."""
    days, dash, clock = shown.rpartition("-")
    parts = clock.split(":")
    if (dash and not days.isdigit()) or len(parts) > 3 or not all(part.isdigit() for part in parts):
        return None
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + int(part)
    return float(seconds + 86400 * int(days or 0))


def _parsed(line: str) -> QueuedJob:
    job_id, state, reason, left, node, start, end, comment = line.split("|", 7)
    return QueuedJob(job_id, state, reason, duration_s(left), node, _in_local_time(start), moment(end), comment)


def moment(shown: str) -> float | None:
    """`2026-03-01T14:30:00` in UTC, as squeue is asked for it [seconds since the epoch]; None for anything else, e.g.
    N/A."""
    try:
        return float(calendar.timegm(time.strptime(shown, _TIME)))
    except (ValueError, OverflowError):
        return None


def _in_local_time(shown: str) -> str:
    """The same moment as people here write it; what is no moment stays as it is."""
    at = moment(shown)
    return shown if at is None else time.strftime(_TIME, time.localtime(at))


def _ask(command: Sequence[str]) -> str:
    # where clocks are set back, an hour of local time comes twice: a job's end could seem to have moved by an hour
    done = _run(command, more={"TZ": "UTC0"})
    if done.returncode:
        raise SlurmSilenceError(f"{command[0]} failed: {_words(done.stderr) or done.returncode}")
    return done.stdout


def _require_accepted(command: str, done: "subprocess.CompletedProcess[str]") -> None:
    if done.returncode:
        words = _words(done.stderr) or f"{command} ended with code {done.returncode}"
        if is_silence(words):
            raise SlurmSilenceError(f"{command}: {words}")
        raise SlurmRefusalError(words)


def _run(
    command: Sequence[str], script: str | None = None, more: Mapping[str, str] = MappingProxyType({})
) -> "subprocess.CompletedProcess[str]":  # fmt: skip
    """more: environment, over the user's."""
    try:
        return subprocess.run(
            command, input=script, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S,
            errors="replace",  # a comment of any of the user's jobs may be in another encoding
            env=environment_of_user(os.environ) | dict(more),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmSilenceError(
            f"{command[0]} did not answer ({type(error).__name__}): is this a node of the cluster, and its controller "
            "up?"
        ) from error


def _words(stderr: str) -> str:
    """What a command of SLURM said, without the names that it puts before."""
    lines = [line.split(": ", 1)[-1].removeprefix("error: ").strip() for line in stderr.splitlines()]
    said = [line.removeprefix("Batch job submission failed: ") for line in lines if line]
    return "; ".join(dict.fromkeys(said))

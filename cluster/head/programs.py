"""Programs that `python -m cluster submit` runs on the head, as files in the cluster's folder.

A driver has to run on a node of its cluster, and the user's terminal is on another machine and may be closed.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import files, slurm
from cluster.node.ray_node import ignore_warnings

_FOLDER, _REQUEST, _STATE, _LOG, _STOP = "programs", "request.json", "state.json", "log", "stop"
_GRACE_S, _GRACE_AT_END_S = 20.0, 2.0


@dataclass(frozen=True)
class Program:
    """One that was submitted."""

    folder: Path

    @property
    def number(self) -> int:
        """Its name for people: 1, 2, ..."""
        return int(self.folder.name)

    @property
    def log(self) -> Path:
        """All that it printed."""
        return self.folder / _LOG

    def command(self) -> list[str]:
        """As it was given."""
        return [str(part) for part in files.read_json(self.folder / _REQUEST).get("command", [])]

    def state(self) -> dict[str, Any]:
        """`state` is waiting, running or ended; with `code` when ended, and `at`."""
        return files.read_json(self.folder / _STATE) or {"state": "waiting"}

    def ask_to_stop(self) -> None:
        """The head ends it."""
        files.write_private(self.folder / _STOP, "")


def submit(home: Path, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Program:
    """Leaves a request for the head, with the environment of the user's shell."""
    root = home / _FOLDER
    root.mkdir(exist_ok=True)
    number = max((program.number for program in programs(home)), default=0) + 1
    while True:
        folder = root / str(number)
        try:
            folder.mkdir(mode=0o700)
            break
        except FileExistsError:  # another terminal was faster
            number += 1
    kept = {k: v for k, v in slurm.environment_of_user(environment).items() if k != "SLURM_CONF"}
    content = {"command": list(command), "cwd": str(cwd), "environment": kept}
    files.write_json(folder / _REQUEST, content)
    return Program(folder)


def programs(home: Path) -> list[Program]:
    """All of them, in order."""
    found = [Program(path) for path in (home / _FOLDER).glob("*") if path.name.isdigit()]
    return sorted(found, key=lambda program: program.number)


class Programs:
    """The head's side: starts what is requested, and keeps the states."""

    def __init__(self, home: Path, ray: Mapping[str, str]) -> None:
        self._home, self._ray = home, dict(ray)
        self._running: dict[Path, subprocess.Popen[bytes]] = {}
        self._interrupted_at: dict[Path, float] = {}
        self._begun: set[Path] = set()
        self._views: dict[Path, files.FreshView] = {}
        for program in programs(home):  # of a former life of the cluster
            self._begun.add(program.folder)
            if program.state()["state"] != "ended":
                _ended(program, -signal.SIGKILL)

    def look(self) -> None:
        """Starts new ones, and notes those that ended."""
        for program in programs(self._home):
            process = self._running.get(program.folder)
            if process is not None or program.folder not in self._begun:
                self._views.setdefault(program.folder, files.FreshView(program.folder)).refresh()
            if process is not None:
                self._follow(program, process)
            elif program.folder not in self._begun and (program.folder / _REQUEST).exists():
                self._start(program)

    def stop_all(self, first: signal.Signals = signal.SIGINT, grace_s: float = _GRACE_AT_END_S) -> None:
        """Ends those that run, and says so of those that wait. first: the signal that they are told by."""
        for process in self._running.values():
            _signal(process, first)
        end = time.monotonic() + grace_s
        while any(p.poll() is None for p in self._running.values()) and time.monotonic() < end:
            time.sleep(0.1)
        for program in programs(self._home):
            with suppress(OSError):  # a state that cannot be written must not spare the others
                if program.folder in self._running:
                    process = self._running.pop(program.folder)
                    _signal(process, signal.SIGKILL)
                    _ended(program, process.wait())
                elif program.state()["state"] == "waiting":
                    _ended(program, -signal.SIGTERM)

    def _start(self, program: Program) -> None:
        """Once it runs, or has ended, it is not started again; before, what cannot be written is tried again."""
        request = files.read_json(program.folder / _REQUEST)
        if not {"command", "cwd", "environment"} <= set(request):
            program.log.write_text(f"{program.folder / _REQUEST} is damaged; submit the program again.\n")
            self._end_unstarted(program)
            return
        environment = {**request.pop("environment"), **self._ray}
        if "SLURM_CONF" in os.environ:
            environment["SLURM_CONF"] = os.environ["SLURM_CONF"]
        with program.log.open("ab") as log:
            files.write_json(program.folder / _STATE, {"state": "running", "at": time.time()})
            try:
                self._running[program.folder] = subprocess.Popen(
                    request["command"], cwd=request["cwd"], env=environment, stdin=subprocess.DEVNULL, stdout=log,
                    stderr=log, start_new_session=True, preexec_fn=ignore_warnings,
                )  # fmt: skip
            except OSError as error:
                log.write(f"{error.filename or request['command'][0]}: {error.strerror}\n".encode())
                self._end_unstarted(program)
                return
            self._begun.add(program.folder)
        files.write_json(program.folder / _REQUEST, request)  # there may be secrets in an environment

    def _end_unstarted(self, program: Program) -> None:
        _ended(program, 127)
        self._begun.add(program.folder)

    def _follow(self, program: Program, process: "subprocess.Popen[bytes]") -> None:
        if process.poll() is not None:
            _ended(program, process.returncode)  # first: where it cannot be written, it is tried again
            del self._running[program.folder]
        elif (program.folder / _STOP).exists():
            now = time.monotonic()
            if program.folder not in self._interrupted_at:
                self._interrupted_at[program.folder] = now
                _signal(process, signal.SIGINT)
            elif now - self._interrupted_at[program.folder] > _GRACE_S:
                _signal(process, signal.SIGKILL)


def _ended(program: Program, code: int) -> None:
    files.write_json(program.folder / _STATE, {"state": "ended", "code": code, "at": time.time()})
    request = files.read_json(program.folder / _REQUEST)
    if request.pop("environment", None) is not None:  # it never started, or the disk was full when it did
        files.write_json(program.folder / _REQUEST, request)


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    if process.poll() is None:
        os.killpg(process.pid, number)

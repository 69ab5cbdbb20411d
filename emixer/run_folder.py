"""A run folder: the config of a stage, its metrics, and what it needs to resume.

config.yaml     the resolved config          metrics.jsonl   one JSON object per line, in order of `images`
run.json        stage, version, its images   checkpoints/    see emixer.checkpoint
samples/        grids                        tensorboard/    the values of metrics.jsonl
trackers.json   ids of the run in W&B and MLflow, if `train.trackers` names them
mlflow.db, mlartifacts/   of MLflow without a server
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

from cluster.files import FreshView
from emixer import files
from emixer._version import __version__
from emixer.config import Config, load_config, to_yaml
from emixer.config.tree import leaves_of
from emixer.errors import ConfigError, RunFolderError

_RUN_VERSION = 1
_TAIL_BYTES = 2**16

# These sections determine what a run computes ...
_SECTIONS = {"train": ("seed", "data", "model", "loss", "optim", "train"), "encoder": ("seed", "data", "encoder")}
# ... except for these settings (duration, intervals, machines), which may change when it is resumed.
_FREE_KEYS = (
    "train.run", "train.images", "train.num_workers", "train.resize_every_s", "train.use_gpu",
    "train.cpus_per_worker", "train.gpus_per_worker", "train.accumulate", "train.max_failures",
    "train.log_every_images", "train.sample_every_images", "train.validate_every_images", "train.save_every_images",
    "train.trackers", "data.read_tasks", "data.shards",
    "encoder.run", "encoder.num_workers", "encoder.resize_every_s", "encoder.use_gpu", "encoder.cpus_per_worker",
    "encoder.gpus_per_worker", "encoder.accumulate", "encoder.max_failures", "encoder.log_every_images",
    "encoder.validate_every_images", "encoder.save_every_images", "encoder.trackers",
)  # fmt: skip


class RunFolder:
    """An existing run folder at `path`. Create one with `create_or_resume`, read one with `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._requests = FreshView(path)

    @classmethod
    def create_or_resume(cls, path: Path, stage: str, config: Config, data: str | None = None) -> Self:
        """Create the folder, or resume in an existing one of the same stage, config and images. Raises as `check`
        does.

        data: digest of the images, which is kept in run.json.
        """
        folder = cls(path)
        folder.check(stage, config, data)
        path.mkdir(parents=True, exist_ok=True)
        files.write_text(path / "config.yaml", to_yaml(config.without_password()))
        files.write_json(
            folder._run_file,
            {"run_version": _RUN_VERSION, "stage": stage, "package_version": __version__, "data": data},
        )
        return folder

    def check(self, stage: str, config: Config, data: str | None = None) -> None:
        """Raise RunFolderError, saying what differs, if a run of this stage, config and images can neither start nor
        resume here; StorageError if nothing can be read or written here. Touches nothing."""
        path = self.path
        if files.is_there(path) and not path.is_dir():
            raise RunFolderError(f"{path} is a file. A run needs a folder: choose another name.")
        if files.is_there(self._run_file):
            self.require_same(stage, config, data)
        elif path.exists() and any(p for p in path.iterdir() if not _left_by_a_first_start(p)):
            raise RunFolderError(f"{path} is not empty and not a run folder of emixer. Choose a new folder.")
        files.require_writable(path)

    @classmethod
    def open(cls, path: Path, stage: str) -> Self:
        """Open a finished or running run. Raises RunFolderError when there is none of that stage, StorageError when it
        may not be read."""
        folder = cls(path)
        if not files.is_there(folder._run_file):
            raise RunFolderError(
                f"{path} is not a run folder (no run.json). Give a folder written by `emixer {stage}`."
            )
        found = folder._read_run()["stage"]
        if found != stage:
            raise RunFolderError(f"{path} was written by `emixer {found}`, but a run of `emixer {stage}` is needed.")
        return folder

    @property
    def config(self) -> Config:
        """The config with which the run was last started."""
        file = self.path / "config.yaml"
        try:
            return load_config(file)
        except ConfigError as error:
            raise RunFolderError(f"{file} cannot be read as the config of a run. {error}") from error

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Folder of the sample grids."""
        return self.path / "samples"

    @property
    def tensorboard(self) -> Path:
        """Folder of the TensorBoard events."""
        return self.path / "tensorboard"

    def append_metrics(self, values: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl. `values` includes `images`, the images trained on so far."""
        line = json.dumps(dict(values), allow_nan=False)
        try:
            with self._metrics_file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise files.storage_error(self._metrics_file, error) from error

    def metrics(self) -> list[dict[str, Any]]:
        """Return all lines of metrics.jsonl, except a last line cut short by a crash.

        Raises RunFolderError for a file damaged in any other way.
        """
        return self.follow_metrics().lines()

    def follow_metrics(self, prefix: str = "") -> "FollowedMetrics":
        """Follow metrics.jsonl while it is written. prefix: only lines with a key that begins so."""
        return FollowedMetrics(self._metrics_file, prefix)

    def last_metrics(self, key: str = "images") -> dict[str, Any] | None:
        """Return the last whole line with the key, or None; reads only the end of the file, however long the run."""
        try:
            with self._metrics_file.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - _TAIL_BYTES))
                *whole, _ = file.read().split(b"\n")
        except OSError:
            return None
        for line in reversed(whole):
            with suppress(ValueError):  # the first may be truncated
                values = json.loads(line)
                if key in values:
                    return dict(values)
        return None

    def forget_after(self, images: int) -> None:
        """Drop metrics of work that the resumed checkpoint does not contain; that work is redone."""
        if not files.is_there(self._metrics_file):
            files.write_text(self._metrics_file, "")  # shows that training has begun
            return
        with (
            self._metrics_file.open("rb") as content,
            files.written_aside(self._metrics_file) as aside,
            aside.open("wb") as kept,
        ):
            kept.writelines(line for line, values in _whole_lines(content) if values["images"] <= images)

    def tracked_as(self, tracker: str) -> str | None:
        """Return the id that W&B or MLflow has given this run; None if it does not know the run yet."""
        known: str | None = self._tracked().get(tracker)
        return known

    def keep_tracked_as(self, tracker: str, run_id: str) -> None:
        """Keep that id, under which the run is continued when it resumes."""
        if self.tracked_as(tracker) != run_id:
            files.write_json(self._trackers_file, self._tracked() | {tracker: run_id})

    def alone(self, stage: str) -> AbstractContextManager[None]:
        """Reserve the folder for the process that trains here. Raises RunFolderError when another one holds it."""
        return files.alone_in(self.path, stage)

    @property
    def is_busy(self) -> bool:
        """Whether a process is training here."""
        return files.is_taken(self.path)

    def request_save(self) -> None:
        """Ask the process training here, on any node, for a checkpoint at its next log line, if there is a run."""
        if self._run_file.exists():
            files.write_text(self.save_request, "")

    @property
    def save_is_requested(self) -> bool:
        """Whether a checkpoint has been requested."""
        self._requests.refresh()
        return self.save_request.exists()

    def answer_save_request(self) -> None:
        """Clear the request: the checkpoint has been saved."""
        self.save_request.unlink(missing_ok=True)

    def request_stop(self) -> None:
        """Ask the process training here to save a checkpoint at its next log line, and to stop there."""
        if self._run_file.exists():
            files.write_text(self._stop_request, "")

    @property
    def stop_is_requested(self) -> bool:
        """Whether the run has been asked to stop early."""
        self._requests.refresh()
        return self._stop_request.exists()

    def answer_stop_request(self) -> None:
        """Clear the request: the run has stopped."""
        self._stop_request.unlink(missing_ok=True)

    @property
    def _stop_request(self) -> Path:
        return self.path / "stop-requested"

    @property
    def save_request(self) -> Path:
        """File that exists while a checkpoint is requested."""
        return self.path / "save-requested"

    @property
    def _run_file(self) -> Path:
        return self.path / "run.json"

    @property
    def _metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def _trackers_file(self) -> Path:
        return self.path / "trackers.json"

    def _tracked(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads(self._trackers_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found

    def _read_run(self) -> dict[str, Any]:
        try:
            run = json.loads(self._run_file.read_text(encoding="utf-8"))
            if not (isinstance(run, dict) and "stage" in run):
                raise ValueError("it does not name a stage")
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self._run_file} cannot be read: {error}. Train again, in a new folder.") from error
        if run.get("run_version") != _RUN_VERSION:
            raise RunFolderError(
                f"{self.path} was written with run version {run.get('run_version')}, this emixer has {_RUN_VERSION}. "
                "Use the emixer that wrote it, or train again in a new folder."
            )
        return run

    def require_same(self, stage: str, config: Config, data: str | None = None) -> None:
        """Raise RunFolderError if the run here is of another stage, computes something else, naming the keys, or is on
        other images. data: their digest; None: unknown, as in runs of older versions."""
        run = self._read_run()
        if run["stage"] != stage:
            raise RunFolderError(
                f"{self.path} belongs to `emixer {run['stage']}`; choose another folder for `emixer {stage}`."
            )
        config_before = self.config
        before, now = (leaves_of(each.model_dump(mode="json")) for each in (config_before, config))
        differing = [
            f"  {key}: {before.get(key)!r} there, {now.get(key)!r} now"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and decides(key, stage, config)
        ]
        if differing:
            raise RunFolderError(
                f"{self.path} belongs to a run with another config:\n" + "\n".join(differing) + "\n"
                "Use a new run folder, or resume with the settings of that run."
            )
        if data is not None and (run.get("data") or data) != data:
            raise RunFolderError(
                f"{self.path} belongs to a run on other images than those in {config.data.shards}. Use a new run "
                f"folder, or resume with the shards of that run, once in {config_before.data.shards}."
            )


class FollowedMetrics:
    """The lines of a metrics.jsonl that is being written; each is parsed once, however often one looks."""

    def __init__(self, file: Path, prefix: str) -> None:
        self._file, self._prefix = file, prefix
        self._inode = self._read = 0
        self._lines: list[dict[str, Any]] = []

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines so far, except a last one that is not whole. Raises RunFolderError for a damaged file."""
        if not files.is_there(self._file):
            return []
        with self._file.open("rb") as content:
            found = os.fstat(content.fileno())
            if found.st_ino != self._inode or found.st_size < self._read:  # a resumed run has written it anew
                self._inode, self._read, self._lines = found.st_ino, 0, []
            content.seek(self._read)
            for line, values in _whole_lines(content):
                self._read += len(line)
                if any(key.startswith(self._prefix) for key in values):
                    self._lines.append(values)
        return list(self._lines)


def _whole_lines(content: BinaryIO) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the lines of a metrics.jsonl with their values, up to one cut short by a crash."""
    for line in content:
        if not line.endswith(b"\n"):
            return
        try:
            values = json.loads(line)
        except ValueError as error:
            raise RunFolderError(
                f"{content.name} is damaged: the line that ends at byte {content.tell():,} is not JSON. "
                "Delete that line, or the file; the run can resume without it."
            ) from error
        yield line, values


def decides(key: str, stage: str, config: Config) -> bool:
    """Return whether a setting determines what a run of the stage computes."""
    if key == "train.images" and stage == "train" and (config.model.has_phases or config.optim.decay_report_decoder):
        return True  # each update depends on the fraction of the run completed
    return key not in _FREE_KEYS and key.split(".")[0] in _SECTIONS[stage]


def decisive_settings(stage: str, config: Config) -> dict[str, Any]:
    """Return the settings that determine what a run computes, with their JSON values."""
    leaves = leaves_of(config.model_dump(mode="json"))
    return {key: value for key, value in leaves.items() if decides(key, stage, config)}


def _left_by_a_first_start(path: Path) -> bool:
    """config.yaml is written before run.json; a start killed between the two may be repeated."""
    return files.is_bookkeeping(path) or path.name == "config.yaml"

"""Checkpoints: safetensors for numbers, JSON for the rest, nothing pickled, each whole or absent.

checkpoints/
  images-000000064000/
    checkpoint.json       version, progress, model config, what follows from the data (labels, vocabulary), metrics
    sampler.safetensors   moving averages of the sampling networks: all that `emixer.load` reads
    networks.safetensors  every parameter and buffer as trained
    optimizer.safetensors Adam moments
  last.json, best.json    {"name": "images-000000064000"}
"""

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
from torch import Tensor

from emixer import files
from emixer.errors import CheckpointError

CHECKPOINT_VERSION = 1
SAMPLER, NETWORKS, OPTIMIZER = "sampler", "networks", "optimizer"
_STATE = "checkpoint.json"
_LAST_KEPT = 2
"""The second to last covers for a damaged last."""
MAX_KEPT = _LAST_KEPT + 1
"""Most checkpoints that a run folder holds, with the best."""

Which = Literal["best", "last"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk. `state` is the content of checkpoint.json."""

    path: Path
    state: dict[str, Any]

    @property
    def images(self) -> int:
        """Real images trained on."""
        return int(self.state["images"])

    def tensors(self, part: str, device: str = "cpu") -> dict[str, Tensor]:
        """Read one of SAMPLER, NETWORKS, OPTIMIZER. Raises CheckpointError for a damaged file."""
        file = self.path / f"{part}.safetensors"
        files.require_readable(file)
        try:
            with reading(self.path):
                expected = self.state["bytes"][part]
                if file.stat().st_size != expected:
                    raise CheckpointError(
                        f"{file} is damaged: {file.stat().st_size} bytes instead of {expected}. "
                        "Delete this checkpoint's folder; the run then resumes from the previous one."
                    )
                tensors: dict[str, Tensor] = safetensors.torch.load_file(file, device=device)
            return tensors
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            raise CheckpointError(
                f"{file} cannot be read ({type(error).__name__}: {error}). "
                "Delete this checkpoint's folder; the run then resumes from the previous one."
            ) from error


def save_checkpoint(
    folder: Path,
    images: int,
    parts: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    is_best: bool = False,
) -> Checkpoint:
    """Write `parts` (name -> tensors) and `state` as folder/images-<images> and point `last`, and `best`, to it.

    Raises StorageError when the disk is full; older checkpoints stay as they are.
    """
    path = folder / f"images-{images:012d}"
    with files.written_aside(path) as aside:
        aside.mkdir(parents=True)
        sizes = {}
        for name, tensors in parts.items():
            file = aside / f"{name}.safetensors"
            write_tensors(file, tensors)
            sizes[name] = file.stat().st_size
        content = {**state, "version": CHECKPOINT_VERSION, "images": images, "bytes": sizes}
        (aside / _STATE).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    if is_best:  # first: a run that resumes from `last` believes that `best` has the value in its state
        point(folder, "best", path)
    point(folder, "last", path)
    return Checkpoint(path, content)


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file. Raises OSError, as any write does: a full disk and an exceeded quota are told apart."""
    laid_out = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    file.touch()
    permissions = stat.S_IMODE(file.stat().st_mode)
    try:
        safetensors.torch.save_file(laid_out, file, metadata=None if metadata is None else dict(metadata))
        file.chmod(permissions)  # safetensors (0.8) leaves a file that only its owner may read
    except safetensors.SafetensorError as error:
        told = re.search(r"os error (\d+)", str(error))
        number = int(told[1]) if told else errno.EIO
        raise OSError(number, os.strerror(number) if told else str(error)) from error


def point(folder: Path, which: Which, path: Path) -> None:
    """Point `best` or `last` to the checkpoint at `path`."""
    files.write_json(folder / f"{which}.json", {"name": path.name})


def find_checkpoint(folder: Path, which: Which) -> Checkpoint | None:
    """Return the checkpoint that `which` points to, or None if there is none yet. Raises CheckpointError when damaged.

    If it was deleted by hand, as the error for a damaged checkpoint advises, the newest one left is last, and none is
    best.
    """
    path = _pointed(folder, which)
    if path is None:
        return None
    if not path.exists():
        return newest_readable(folder) if which == "last" else None
    return read_checkpoint(path)


def newest_readable(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint that can be opened: `last`, or an older one if `last` was deleted."""
    for path in sorted(folder.glob("images-*"), reverse=True):
        if files.is_there(path / _STATE):
            return read_checkpoint(path)
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint folder. Raises CheckpointError when it is missing, damaged or of another version."""
    files.require_readable(path / _STATE)
    try:
        with reading(path):
            state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        if not isinstance(state, dict):
            raise ValueError(f"{_STATE} does not hold an object")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({type(error).__name__}). Expected a folder `images-...` with "
            f"{_STATE} and .safetensors files; delete a damaged one to resume from the previous one."
        ) from error
    if state.get("version") != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {state.get('version')}, this emixer reads {CHECKPOINT_VERSION}."
        )
    return Checkpoint(path, state)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Reads of the checkpoint at `path`, which a running training may delete meanwhile: raises CheckpointError when a
    file is not there."""
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{error.filename or path} is not there: a running training deletes older checkpoints as it saves. Run the "
            f"same command again. If that does not help, {path} is incomplete: delete that folder."
        ) from error


def prune(folder: Path) -> None:
    """Delete all checkpoints except the last ones and the best."""
    best = _pointed(folder, "best")
    for path in sorted(folder.glob("images-*"))[:-_LAST_KEPT]:
        if path != best:
            # NFS keeps what a process has mapped, here or in a notebook, and with it the folder, until a later pruning
            shutil.rmtree(path, ignore_errors=True)


def _pointed(folder: Path, which: Which) -> Path | None:
    pointer = folder / f"{which}.json"
    if not files.is_there(pointer):
        return None
    try:
        return folder / str(json.loads(pointer.read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f'{pointer} cannot be read ({type(error).__name__}). Expected {{"name": "images-..."}}; '
            "delete the file, and the run resumes from the newest checkpoint."
        ) from error

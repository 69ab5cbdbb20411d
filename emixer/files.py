"""Atomic file writes, where a reader sees the old file or the complete new one, and reads of files from elsewhere.

Everything emixer writes goes through here: written to a temporary path in the same folder, flushed to disk, renamed.
A full disk raises a `StorageError` that names the path and the free space, and leaves no partial files.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from emixer.errors import RunFolderError, StorageError

logger = logging.getLogger(__name__)

_ASIDE = ".partial-"
_OLD = ".replaced-"
_ABANDONED_S = 24 * 3600
LOCK_WAIT = "EMIXER_LOCK_WAIT_S"
"""Environment variable: how long to wait for a place that another process is using [s]. Default: not at all."""
LOCK_OF_THE_DEAD_S = 300
"""So long is enough where whoever used the place may be on a node that has failed: NFS keeps its lock for 90 s."""
_LOCK_POLL_S = 2.0
_LOCK = ".lock"
_KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISSOCK, "socket"),
)


@contextmanager
def written_aside(path: Path, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path` for a file or folder, renamed to `path` if the block succeeds.

    A folder replaces an existing folder of that name; with `replace=False`, for a folder named by its content, the
    existing one stays, since another process may be reading it. Raises StorageError when the disk is full or not
    writable; an OSError about another file (a missing input, say) passes through unchanged.
    """
    aside = path.with_name(f"{_ASIDE}{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        _flush(aside)
        (_replace if replace else _leave_existing)(aside, path)
        _flush_entry(path.parent)
    except OSError as error:
        _remove(aside)
        if _is_about_another_file(error, path.parent):
            raise
        raise storage_error(path, error) from error
    except BaseException:
        _remove(aside)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file atomically."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole binary file atomically."""
    with written_aside(path) as aside:
        aside.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN is rejected, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


class NotRegularError(OSError):
    """A folder, pipe, socket or device was found where a file was expected. kind: which of them."""

    def __init__(self, kind: str) -> None:
        super().__init__(errno.EINVAL, f"not a regular file ({kind})")
        self.kind = kind


def read_regular(path: Path) -> bytes:
    """Return the bytes of a file. Raises NotRegularError for anything else, never blocking; OSError as `open` does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # opening a socket fails this way
            raise NotRegularError("socket") from error
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise NotRegularError(next((kind for is_kind, kind in _KINDS if is_kind(mode)), "unknown kind"))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_partial(path: Path) -> bool:
    """Return whether an interrupted `written_aside` may have left `path` behind."""
    return path.name.startswith((_ASIDE, _OLD))


def remove_partials(folder: Path) -> None:
    """Delete what an interrupted run left behind in `folder`. Call only while no other writer is active there."""
    for left in [path for path in folder.glob(".*") if is_partial(path)]:
        _remove_partial(left)


def remove_partials_of(path: Path) -> None:
    """Delete what interrupted writers of `path` left behind. Call only while it has no other writer."""
    for left in [near for near in path.parent.glob(".*") if is_partial(near) and _name_of(near) == path.name]:
        _remove_partial(left)


def remove_old_partials(folder: Path) -> None:
    """Delete what interrupted writers left behind in `folder`, in which others may be at work: what nobody has written
    to for a day."""
    for left in folder.glob(f"{_ASIDE}*"):
        with suppress(OSError):  # gone meanwhile, or another user's
            if time.time() - max(path.lstat().st_mtime for path in (left, *left.rglob("*"))) > _ABANDONED_S:
                _remove(left)


def _remove_partial(left: Path) -> None:
    path = left.parent / _name_of(left)
    if left.name.startswith(_OLD) and not path.exists():  # killed between the two renames
        left.replace(path)
    else:
        _remove(left)


def _name_of(partial: Path) -> str:
    """Return the name of what `partial` was written for, or replaced."""
    return partial.name.removeprefix(_ASIDE).removeprefix(_OLD).rpartition("-")[0]


def require_readable(path: Path) -> None:
    """Raise StorageError if `path` may not be read, or lies in a folder that may not be searched. What is not there is
    another matter.

    For before anything is read, so that nobody is told to delete as damaged what only is somebody else's.
    """
    try:
        is_closed = path.exists() and not os.access(path, os.R_OK, effective_ids=True)
    except PermissionError:  # a folder above it
        is_closed = True
    if is_closed:
        raise _no_permission(path)


def is_there(path: Path) -> bool:
    """Return whether `path` exists. Raises StorageError as `require_readable` does."""
    require_readable(path)
    return path.exists()


def require_writable(folder: Path) -> None:
    """Raise StorageError if `folder`, or the place where it would be created, is not writable. Writes nothing."""
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
    except PermissionError as error:
        raise _no_permission(folder) from error
    code = errno.EACCES if existing.is_dir() else errno.ENOTDIR
    if code == errno.ENOTDIR or not os.access(existing, os.W_OK | os.X_OK):
        raise storage_error(folder, OSError(code, os.strerror(code)))


@contextmanager
def alone_in(folder: Path, command: str) -> Iterator[None]:
    """Reserve `folder`, created if missing, for one `emixer command` for the duration of the block.

    Raises RunFolderError when another process, on any node, holds it; a killed process releases it at once. On a file
    system without locks, only a warning is logged.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise RunFolderError(f"{folder} is a file. `emixer {command}` needs a folder: choose another name.")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    with _locked(folder / _LOCK, folder, command):
        yield


@contextmanager
def alone_at(file: Path, command: str) -> Iterator[None]:
    """As `alone_in`, for a command that writes one file or folder, whose folder is created if missing.

    What interrupted writers of it left behind is deleted.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(file, error) from error
    with _locked(file.with_name(f".{file.name}{_LOCK}"), file, command):
        remove_partials_of(file)
        yield


def is_taken(folder: Path) -> bool:
    """Return whether a process on any node holds `folder`; on a file system without locks, whether the lock file
    exists."""
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def is_bookkeeping(path: Path) -> bool:
    """Return whether `path` is a file that this module itself may leave in a folder."""
    return is_partial(path) or path.name == _LOCK


@contextmanager
def _locked(path: Path, place: Path, command: str) -> Iterator[None]:
    """Hold the lock file `path`, which is deleted afterwards."""
    try:
        lock = _open_lock_within(path, float(os.environ.get(LOCK_WAIT) or 0))
    except BlockingIOError as error:
        raise RunFolderError(
            f"Another `emixer {command}`{_holder(path)} is already using {place}. Wait for it, stop it, or choose "
            f"another location. If its machine is down for good, delete {path}."
        ) from error
    except OSError as error:
        raise storage_error(path, error) from error
    with lock:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while still locked: a process that has opened it sees that it is gone


def _open_lock_within(path: Path, wait_s: float) -> TextIO:
    """Open and lock the file; while another process holds it, try again for that long."""
    end = time.monotonic() + wait_s
    while True:
        try:
            return _open_lock(path)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(_LOCK_POLL_S)


def _open_lock(path: Path) -> TextIO:
    """Open and lock the file. Raises BlockingIOError when another process holds it."""
    while True:
        lock = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.fstat(lock.fileno()).st_nlink > 0
        except BlockingIOError:
            lock.close()
            raise
        except OSError as error:
            is_there = error.errno != errno.ESTALE  # NFS: the file is gone
            if is_there:
                logger.warning("%s cannot be locked; make sure that no other process uses its folder.", path)
        if is_there:
            break
        lock.close()
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}")
    lock.flush()
    return lock


def _holder(path: Path) -> str:
    """Describe the holder of a lock, as far as the file can be read."""
    with suppress(OSError, UnicodeDecodeError):
        return f" ({path.read_text(encoding='utf-8')})"
    return ""


def _no_permission(path: Path) -> StorageError:
    """Return the StorageError for `path`, which is closed to this user, or the outermost folder above it that is."""
    above = reversed(path.absolute().parents)
    closed = next((folder for folder in above if not os.access(folder, os.X_OK, effective_ids=True)), path)
    return StorageError(
        f"No permission to read {closed}. Ask its owner for access (`chmod g+rX`), or give another path."
    )


def storage_error(path: Path, error: OSError) -> StorageError:
    """Return the StorageError to show the user for an OSError raised while writing `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = free_bytes(path)
        return StorageError(
            f"Cannot write {path}: the disk or quota is full ({free / 2**20:.0f} MiB free). "
            "Finished files are intact. Free space or choose another folder, then run the same command again."
        )
    return StorageError(
        f"Cannot write {path}: {error.strerror or error}. Check that the folder exists and is writable."
    )


def free_bytes(path: Path) -> int:
    """Return the free space of the disk that `path` lies on, or would [bytes]."""
    existing = next((p for p in [path, *path.parents] if p.exists()), Path("/"))
    return shutil.disk_usage(existing).free


def _flush(path: Path) -> None:
    targets = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    for target in targets:
        with target.open("rb") as file:
            os.fsync(file.fileno())


def _flush_entry(folder: Path) -> None:
    """Flush the rename itself, so that it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_about_another_file(error: OSError, folder: Path) -> bool:
    if not isinstance(error.filename, str | os.PathLike):
        return False
    named = Path(error.filename)
    return named != folder and folder not in named.parents and named not in folder.parents


def _replace(aside: Path, path: Path) -> None:
    if not (aside.is_dir() and path.exists()):
        aside.replace(path)
        return
    old = path.with_name(f"{_OLD}{path.name}-{uuid.uuid4().hex[:8]}")
    path.replace(old)  # a folder cannot be renamed over a non-empty one
    try:
        aside.replace(path)
    except OSError:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _leave_existing(aside: Path, path: Path) -> None:
    try:
        aside.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()

"""Check of folders for shards, runs and datasets: space, atomic renames, locks."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from emixer.doctor.finding import Finding, ok, problem, warning

_GIB = 2**30
_LITTLE_GIB = 5
"""MIMIC-CXR's shards take 6 GiB at 128 px, checkpoints of a training run at the paper's size about as much."""


def look(folder: Path) -> list[Finding]:
    """Check a folder by writing a few bytes to it, which are removed again."""
    check = f"folder {folder}"
    if not folder.is_dir():
        return [problem(check, "does not exist", f"mkdir -p {folder}, or choose another.")]
    try:
        with tempfile.TemporaryDirectory(prefix=".emixer-doctor-", dir=folder) as aside:
            locks = _renames_and_locks(Path(aside))
    except OSError as error:
        return [problem(check, f"is not writable ({error.strerror})", "Choose a writable folder.")]
    free_gib = shutil.disk_usage(folder).free / _GIB
    words = f"{free_gib:,.0f} GiB free"
    if free_gib < _LITTLE_GIB:
        return [warning(check, words, "Shards of MIMIC-CXR and checkpoints need more: free space, or choose another.")]
    if not locks:
        return [
            warning(
                check, f"{words}, no file locks",
                "Two commands in one run folder would not detect each other. Use a separate folder for each run, or "
                "mount the file system with locks (NFS: without `nolock`).",
            )
        ]  # fmt: skip
    return [ok(check, f"{words}, atomic renames, file locks")]


def _renames_and_locks(folder: Path) -> bool:
    """Whether files can be locked. Raises OSError if a file cannot be written and renamed."""
    path = folder / "written"
    with path.open("wb") as file:
        file.write(b"emixer")
        file.flush()
        os.fsync(file.fileno())
    path.replace(folder / "renamed")
    with (folder / "renamed").open("rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True

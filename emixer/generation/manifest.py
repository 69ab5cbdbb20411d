"""manifest.json of a generated dataset: what was asked for, and what is there.

It is written before the first row, so that a folder knows from the start which dataset it is becoming, and again at the
end with the files and their checksums.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from emixer.errors import RunFolderError
from emixer.files import is_bookkeeping, is_there, require_readable, sha256_of, write_json
from emixer.generation.dataset_files import DATA_FOLDER, Layout

MANIFEST_NAME = "manifest.json"
AUDIT_FOLDER = "audit"
"""In the folder of a dataset: where an audit leaves audit.json and audit.html, unless it is told otherwise."""
_MANIFEST_VERSION = 1
_READERS = 4
"""Files that are read at once."""


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Short hash of everything that decides the rows and where they stand."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest in a folder that is to be written to, or None if it is new or empty.

    Raises RunFolderError when the folder holds something else, or the manifest is damaged or of another version.
    """
    if is_there(folder / MANIFEST_NAME):
        return _read(folder)
    if is_there(folder) and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file. A dataset needs a folder: choose another name.")
    if folder.exists() and any(not is_bookkeeping(p) for p in folder.iterdir()):
        raise RunFolderError(
            f"{folder} is not empty and not a dataset of emixer (no {MANIFEST_NAME}). Choose a new folder."
        )
    return None


def is_dataset(folder: Path) -> bool:
    """Whether the folder holds a dataset, of whatever version, finished or begun."""
    try:
        return _is_manifest(json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False


def read_finished_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a dataset that is complete. Raises RunFolderError when there is none."""
    if not is_there(folder / MANIFEST_NAME):
        raise RunFolderError(
            f"{folder} is not a finished dataset of `emixer generate` (no {MANIFEST_NAME}). Give the folder of one."
        )
    manifest = _read(folder)
    if not manifest["complete"]:
        raise RunFolderError(
            f"{folder} is not a finished dataset. Run the same `emixer generate` command again to finish it."
        )
    return manifest


def require_unchanged(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compares every file of a finished dataset with the manifest's SHA-256, reading all bytes.

    Raises RunFolderError for a file that is missing or was changed: what is measured of it would be kept, and believed,
    as measured of the file that the manifest names.
    """
    listed = manifest["files"]
    with ThreadPoolExecutor(_READERS) as pool:
        digests = pool.map(lambda file: _digest_of(folder / file["name"]), listed)
        for file, digest in zip(listed, digests, strict=True):
            if digest != file["sha256"]:
                what = "cannot be read" if digest is None else "was changed since it was generated (SHA-256 differs)"
                raise RunFolderError(
                    f"{folder / file['name']} {what}. Restore it, or give the same `emixer generate` command again, "
                    "which makes it anew. To leave out rows, filter them when the dataset is read."
                )


def _digest_of(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_NAME
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({type(error).__name__}). Generate the dataset again, into a new folder."
        ) from error
    if not _is_manifest(manifest):
        raise RunFolderError(
            f"{folder} is not a dataset of `emixer generate`: its {MANIFEST_NAME} is of something else. Choose another "
            "folder."
        )
    if manifest["manifest_version"] != _MANIFEST_VERSION:
        raise RunFolderError(
            f"{folder} was written with manifest version {manifest['manifest_version']}, this emixer has "
            f"{_MANIFEST_VERSION}. Generate the dataset again, into a new folder."
        )
    return manifest


def _is_manifest(content: Any) -> bool:
    """Whether a manifest.json is that of a dataset; shards, for one, have a file of the same name."""
    return isinstance(content, dict) and {"manifest_version", "complete", "settings"} <= content.keys()


def read_audit(folder: Path) -> dict[str, Any] | None:
    """What `emixer audit` wrote beside the dataset in `folder`; None where it was not audited, or elsewhere.

    Raises RunFolderError when it is damaged, StorageError when it may not be read.
    """
    path = folder / AUDIT_FOLDER / "audit.json"
    require_readable(path)
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({type(error).__name__}). Delete it, or give the same `emixer audit` command again."
        ) from error
    return content


def begin_manifest(folder: Path, settings: Mapping[str, Any]) -> None:
    """Claims `folder` for the dataset of these settings.

    Raises RunFolderError, naming what differs, when it belongs to another dataset.
    """
    existing = read_manifest(folder)
    if existing is None:
        write_json(folder / MANIFEST_NAME, _content(settings, complete=False))
    else:
        require_same(existing, settings, folder)


def reopen_manifest(folder: Path) -> None:
    """Says that the dataset in `folder` is not complete any more, before a file of it goes; it keeps what it lists."""
    manifest = _read(folder)
    if manifest["complete"]:
        write_json(folder / MANIFEST_NAME, manifest | {"complete": False})


def require_same(existing: Mapping[str, Any], settings: Mapping[str, Any], folder: Path) -> None:
    """Raises RunFolderError, naming what differs, when the manifest `existing` in `folder` is of other settings."""
    before = existing["settings"]
    differing = [
        f"  {key}: {before.get(key)!r} there, {settings.get(key)!r} now"
        for key in sorted(before.keys() | settings.keys())
        if before.get(key) != settings.get(key)
    ]
    if differing:
        raise RunFolderError(
            f"{folder} belongs to another dataset:\n" + "\n".join(differing) + "\n"
            "Use a new folder, or the settings of that dataset to finish it."
        )


def finish_manifest(
    folder: Path, settings: Mapping[str, Any], layout: Layout, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes the manifest of a complete dataset, with a checksum of every file; returns it. Reads all bytes once.

    What its owner added to an earlier one stays.
    """
    listed: list[dict[str, Any]] = []
    for name, rows in layout.files:
        path = folder / DATA_FOLDER / name
        listed.append({
            "name": f"{DATA_FOLDER}/{name}", "first_row": rows.first, "rows": rows.num, "bytes": path.stat().st_size,
            "sha256": sha256_of(path),
        })  # fmt: skip
    total_bytes = sum(file["bytes"] for file in listed)
    manifest = (read_manifest(folder) or {}) | _content(settings, complete=True) | {
        "rows": layout.num_rows, "bytes": total_bytes, **about, "files": listed
    }  # fmt: skip
    write_json(folder / MANIFEST_NAME, manifest)
    return manifest


def _content(settings: Mapping[str, Any], complete: bool) -> dict[str, Any]:
    return {
        "manifest_version": _MANIFEST_VERSION,
        "complete": complete,
        "fingerprint": fingerprint(settings),
        "settings": dict(settings),
    }

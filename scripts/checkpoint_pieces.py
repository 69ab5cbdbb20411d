#!/usr/bin/env python3
"""Split a run into small files and join them again, for transfers that allow only small files.

    python scripts/checkpoint_pieces.py split RUN --out FOLDER [--piece-mb 16]
    python scripts/checkpoint_pieces.py join FOLDER --run RUN

The pieces hold the last checkpoint, the config and the metrics: what `emixer train` resumes from and `emixer.load`
reads. FOLDER contains piece-000, piece-001, ... and pieces.json with the SHA-256 of each piece and of each file; `join`
writes nothing unless all of them match.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from emixer import files
from emixer.checkpoint import find_checkpoint
from emixer.errors import CheckpointError, EmixerError, StorageError
from emixer.run_folder import RunFolder

PIECE_MB = 16
_INDEX, _VERSION = "pieces.json", 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; errors are printed as messages without a traceback."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = words.add_subparsers(dest="command", required=True)
    apart = commands.add_parser("split", help="take a run apart")
    apart.add_argument("run", type=Path)
    apart.add_argument("--out", type=Path, required=True)
    apart.add_argument("--piece-mb", type=int, default=PIECE_MB, help="of a piece at most, 1 MB = 1,000,000 bytes (16)")
    together = commands.add_parser("join", help="put it together")
    together.add_argument("folder", type=Path)
    together.add_argument("--run", type=Path, required=True)
    args = words.parse_args(arguments)
    try:
        if args.command == "split":
            num = split(args.run, args.out, args.piece_mb * 10**6)
            print(f"{args.run} is in {num} pieces: {args.out}")
        else:
            join(args.folder, args.run)
            print(f"{args.run} is whole; `emixer train --run {args.run} ...` goes on from its checkpoint")
    except EmixerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def split(run: Path, out: Path, piece_bytes: int = PIECE_MB * 10**6) -> int:
    """Write the pieces of a run to `out`, replacing older ones. Returns their number.

    Raises RunFolderError or CheckpointError if there is no run with a checkpoint, StorageError if `out` is a folder
    without pieces.
    """
    folder = RunFolder.open(run, "train")
    checkpoint = find_checkpoint(folder.checkpoints, "last")
    if checkpoint is None:
        raise CheckpointError(f"{run} holds no checkpoint yet. Wait for its training to write the first one.")
    if out.exists() and not (out / _INDEX).exists():
        raise StorageError(f"{out} is there already and holds no pieces of a run. Choose a new folder.")
    paths = [run / "config.yaml", run / "run.json", run / "metrics.jsonl", folder.checkpoints / "last.json"]
    paths += sorted(checkpoint.path.iterdir())
    described = [_described(path, path.relative_to(run).as_posix()) for path in paths]
    with files.written_aside(out) as aside:
        aside.mkdir()
        pieces = []
        for content in _pieces(paths, piece_bytes):
            piece = aside / f"piece-{len(pieces):03d}"
            piece.write_bytes(content)
            pieces.append(_described(piece, piece.name))
        index = {"version": _VERSION, "images": checkpoint.images, "files": described, "pieces": pieces}
        (aside / _INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return len(pieces)


def join(folder: Path, run: Path) -> None:
    """Restore the run folder `run` from its pieces. Raises CheckpointError if one is damaged, or `run` exists."""
    if run.exists():
        raise CheckpointError(f"{run} is there already. Choose a new folder for the run, or move that one away.")
    index = _index(folder)
    for piece in index["pieces"]:
        path = folder / piece["name"]
        if not path.is_file() or _described(path, path.name) != piece:
            raise CheckpointError(
                f"{path} is missing or damaged: expected {piece['bytes']:,} bytes with SHA-256 "
                f"{piece['sha256'][:12]}... Fetch this piece again."
            )
    with files.written_aside(run) as aside:
        pieces = iter([folder / piece["name"] for piece in index["pieces"]])
        rest = b""
        for file in index["files"]:
            path = aside / file["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as target:
                while (missing := file["bytes"] - target.tell()) > 0 and (rest := rest or _next(pieces)):
                    target.write(rest[:missing])
                    rest = rest[missing:]
            if _described(path, file["name"]) != file:
                raise CheckpointError(f"{file['name']} is not what was taken apart. Take the run apart again.")


def _index(folder: Path) -> dict[str, Any]:
    path = folder / _INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        names = [PurePosixPath(entry["name"]) for entry in (*index["files"], *index["pieces"])]
        if index["version"] != _VERSION or any(name.is_absolute() or ".." in name.parts for name in names):
            raise ValueError("it is of another version, or names files outside of a run")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Expected a folder that `split` wrote."
        ) from error
    return dict(index)


def _described(path: Path, name: str) -> dict[str, Any]:
    return {"name": name, "bytes": path.stat().st_size, "sha256": files.sha256_of(path)}


def _pieces(paths: list[Path], piece_bytes: int) -> Iterator[bytes]:
    """Concatenate the files and cut them into pieces."""
    content = bytearray()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(piece_bytes - len(content)):
                content += chunk
                if len(content) == piece_bytes:
                    yield bytes(content)
                    content.clear()
    if content:
        yield bytes(content)


def _next(pieces: Iterator[Path]) -> bytes:
    """Bytes of the next piece; empty after the last."""
    path = next(pieces, None)
    return b"" if path is None else path.read_bytes()


if __name__ == "__main__":
    sys.exit(main())

"""A run taken apart and put together: a run that trained goes on."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emixer.config import Config, with_overrides
from emixer.errors import StorageError

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
from checkpoint_pieces import join, main, split

TrainLocally = Callable[..., Any]
PIECE_BYTES = 100_000


def losses(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k.startswith(("generator", "discriminator"))} for line in lines]


def test_a_run_in_pieces_goes_on_as_one_that_was_never_taken_apart(
    tiny_config: Config, train_locally: TrainLocally, tmp_path: Path
) -> None:
    config = with_overrides(tiny_config, {"train.images": 128})
    whole = train_locally(config, tmp_path / "whole").folder.metrics()
    train_locally(config, tmp_path / "first", killed_after=64)
    num = split(tmp_path / "first", tmp_path / "pieces", PIECE_BYTES)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "pieces").glob("piece-*"))]
    assert len(sizes) == num > 5
    assert all(size == PIECE_BYTES for size in sizes[:-1])
    join(tmp_path / "pieces", tmp_path / "second")
    again = train_locally(config, tmp_path / "second").folder.metrics()
    assert again[-1]["images"] == 128
    assert losses(again) == losses(whole)


def test_what_is_missing_or_damaged_is_named_and_nothing_is_made(
    tiny_config: Config, train_locally: TrainLocally, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, pieces = tmp_path / "run", tmp_path / "pieces"
    train_locally(with_overrides(tiny_config, {"train.images": 32}), run)
    assert main(["split", str(run), "--out", str(pieces)]) == 0
    piece = pieces / "piece-000"
    content = bytearray(piece.read_bytes())
    content[len(content) // 2] ^= 1
    piece.write_bytes(content)
    for damage in ("changed", "gone"):
        assert main(["join", str(pieces), "--run", str(tmp_path / "joined")]) == 1, damage
        assert "piece-000 is missing or damaged" in capsys.readouterr().err
        piece.unlink(missing_ok=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pieces", "run"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    with pytest.raises(StorageError, match="holds no pieces"):
        split(run, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()
    assert main(["join", str(pieces), "--run", str(run)]) == 1

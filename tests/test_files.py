"""A reader sees the old file or the complete new one, and a full disk harms nothing."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emixer import files
from emixer.errors import RunFolderError, StorageError
from tests.closed import closed, open_folder


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_complete_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    files.write_text(path, "grün\n")
    assert path.read_bytes() == "grün\n".encode()
    assert contents(path.parent) == ["a.txt"]


def test_nothing_appears_under_the_name_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with files.written_aside(path) as aside:
        aside.write_text("half")
        assert not path.exists()
        assert files.is_partial(aside)
        assert aside.parent == path.parent  # a rename from another file system would fail
    assert path.read_text() == "half"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_interruption_leaves_the_old_file_intact_and_no_debris(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(error), files.written_aside(path) as aside:  # noqa: PT012 - the block is what is interrupted
        aside.write_text("new, but only half of i")
        raise error
    assert path.read_text() == "old"
    assert contents(tmp_path) == ["a.txt"]


def test_killed_writer_leaves_the_old_file_intact(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    code = (
        "import os, sys; from pathlib import Path; from emixer.files import written_aside\n"
        "with written_aside(Path(sys.argv[1])) as aside:\n"
        "    aside.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert killed.returncode == -9
    assert path.read_text() == "old"
    assert len(contents(tmp_path)) == 2
    files.remove_partials(tmp_path)
    assert contents(tmp_path) == ["a.txt"]


def folder_named(path: Path, content: str) -> None:
    with files.written_aside(path) as aside:
        aside.mkdir()
        (aside / "a.txt").write_text(content)


def test_old_folder_comes_back_if_the_new_one_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = tmp_path / "model", Path.replace
    folder_named(path, "old")

    def full(source: Path, target: Path) -> Path:
        if target == path and source.name.startswith(".partial-"):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(source), None, str(target))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError):
        folder_named(path, "new")
    assert (path / "a.txt").read_text() == "old"
    assert contents(tmp_path) == ["model"]


def test_folder_of_a_writer_killed_between_its_renames_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "my-model"
    folder_named(path, "old")
    code = (
        "import os, sys; from pathlib import Path; from emixer.files import written_aside\n"
        "replace = Path.replace\n"
        "def killed_after(*names): replace(*names); os.kill(os.getpid(), 9)\n"
        "Path.replace = killed_after\n"
        "with written_aside(Path(sys.argv[1])) as aside: aside.mkdir()\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert killed.returncode == -9
    assert not path.exists()
    assert all(map(files.is_partial, tmp_path.iterdir()))
    files.remove_partials(tmp_path)
    assert contents(tmp_path) == ["my-model"]
    assert (path / "a.txt").read_text() == "old"


def test_folder_replaces_a_folder(tmp_path: Path) -> None:
    for value in ("first", "second"):
        with files.written_aside(tmp_path / "folder") as aside:
            aside.mkdir()
            (aside / value).write_text(value)
    assert contents(tmp_path) == ["folder"]
    assert contents(tmp_path / "folder") == ["second"]


def test_place_that_is_in_use_is_waited_for_only_if_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a requeued job: the node that failed, or its file server, may hold the lock a while longer
    with ExitStack() as other:
        other.enter_context(files.alone_in(tmp_path, "train"))
        message = "already using .* If its machine is down for good, delete "
        with pytest.raises(RunFolderError, match=message), files.alone_in(tmp_path, "train"):
            pass
        monkeypatch.setenv(files.LOCK_WAIT, "60")
        threading.Timer(0.5, other.pop_all().close).start()
        with files.alone_in(tmp_path, "train"):
            pass


def test_folder_named_by_its_content_stays_when_another_process_finishes_later(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    code = (
        "import sys; from pathlib import Path; from emixer.files import written_aside\n"
        "with written_aside(Path(sys.argv[1]), replace=False) as aside:\n"
        "    aside.mkdir(); (aside / 'content').write_text(sys.argv[2]); print('written', flush=True); input()\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, path, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for name in ("first", "second")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
    writers[0].communicate(b"\n")
    before = path.stat().st_ino
    writers[1].communicate(b"\n")
    assert [writer.returncode for writer in writers] == [0, 0]
    assert path.stat().st_ino == before, "who reads in the first one finds it where it was"
    assert (path / "content").read_text() == "first"
    assert contents(tmp_path) == ["folder"]


def test_interrupted_folder_leaves_the_old_folder(tmp_path: Path) -> None:
    with files.written_aside(tmp_path / "folder") as aside:
        aside.mkdir()
        (aside / "old").write_text("old")
    with pytest.raises(RuntimeError), files.written_aside(tmp_path / "folder") as aside:  # noqa: PT012 - as above
        (aside / "deep").mkdir(parents=True)
        (aside / "deep" / "new").write_text("new")
        raise RuntimeError
    assert contents(tmp_path) == ["folder"]
    assert contents(tmp_path / "folder") == ["old"]


def test_full_disk_is_reported_and_leaves_the_old_file(small_disk: Callable[[int], Path]) -> None:
    path = small_disk(1024) / "a.bin"
    files.write_bytes(path, b"old")
    with pytest.raises(StorageError, match=r"a\.bin: the disk or quota is full \(\d MiB free\)"):
        files.write_bytes(path, os.urandom(2 * 2**20))
    assert path.read_bytes() == b"old"
    assert contents(small_disk(1024)) == ["a.bin"]
    files.write_bytes(path, b"new")  # the failed attempt holds no space
    assert path.read_bytes() == b"new"


def test_disk_that_fills_while_arrow_writes_is_a_storage_error(small_disk: Callable[[int], Path]) -> None:
    table = pa.table({"noise": np.random.default_rng(0).integers(0, 2**62, 2**18)})
    with (
        pytest.raises(StorageError, match="disk or quota is full"),
        files.written_aside(small_disk(1024) / "a.parquet") as aside,
    ):
        pq.write_table(table, aside)
    assert contents(small_disk(1024)) == []


def test_path_under_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Check that the folder exists"):
        files.write_text(tmp_path / "file" / "a.txt", "x")


def test_what_is_closed_is_named_whether_it_is_the_file_or_a_folder_above_it() -> None:
    with open_folder() as folder:
        file = folder / "run" / "deep" / "run.json"
        file.parent.mkdir(parents=True)
        file.write_text("{}")
        for path in (file, folder / "run"):
            with closed(path), pytest.raises(StorageError, match=f"No permission to read {path}. Ask its owner"):
                files.require_readable(file)
        with closed(folder / "run"), pytest.raises(StorageError, match=f"No permission to read {folder / 'run'}. Ask"):
            files.is_there(folder / "run" / "absent")
        assert files.is_there(file)
        assert not files.is_there(folder / "absent" / "file")


def test_place_in_somebody_elses_folder_is_not_writable(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    with closed(private):
        with pytest.raises(StorageError, match="No permission to read"):
            files.require_writable(private / "new" / "run")
        with pytest.raises(StorageError, match="Cannot write"), files.alone_in(private / "new", "train"):
            pass


def test_missing_input_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    absent = tmp_path / "in" / "absent.txt"
    with pytest.raises(FileNotFoundError, match="absent"), files.written_aside(tmp_path / "out" / "a.txt") as aside:
        aside.write_text(absent.read_text())
    assert contents(tmp_path / "out") == []


def test_json_refuses_non_json_values_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"grün": [1, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"grün": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"grün": [1, None]}
    assert contents(tmp_path) == ["a.json"]


def test_checksum_is_that_of_sha256sum(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert files.sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def left_behind(path: Path, age_s: float = 0.0) -> Path:
    """A half-written folder, as a killed writer of `path` leaves it."""
    left = path.with_name(f".partial-{path.name}-01234567")
    left.mkdir(parents=True)
    (left / "a.txt").write_text("half")
    for each in (left / "a.txt", left):
        os.utime(each, (time.time() - age_s,) * 2)
    return left


def test_leftovers_for_one_path_go_once_it_is_taken_and_those_for_others_stay(tmp_path: Path) -> None:
    path, near = tmp_path / "study", [tmp_path / "study-2", tmp_path / "a"]
    of_path, of_others = left_behind(path), [left_behind(other) for other in near]
    with files.alone_at(path, "study make"):
        assert not of_path.exists()
        assert all(left.exists() for left in of_others)


def test_leftovers_in_a_shared_folder_go_when_nobody_has_written_to_them_for_a_day(tmp_path: Path) -> None:
    old, young, written = (left_behind(tmp_path / name, age_s) for name, age_s in (("a", 9e4), ("b", 8e4), ("c", 9e4)))
    (written / "a.txt").write_text("by a live process, which makes no new entry in its folder")
    os.utime(written, (time.time() - 9e4,) * 2)
    (tmp_path / "kept").touch()
    os.utime(tmp_path / "kept", (0, 0))
    files.remove_old_partials(tmp_path)
    assert contents(tmp_path) == [young.name, written.name, "kept"]
    assert not old.exists()
    files.remove_old_partials(tmp_path / "missing")

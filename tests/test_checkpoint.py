"""Checkpoints are complete or absent, and a damaged one says what to do."""

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emixer.checkpoint import (
    NETWORKS,
    OPTIMIZER,
    SAMPLER,
    Checkpoint,
    find_checkpoint,
    newest_readable,
    point,
    prune,
    read_checkpoint,
    save_checkpoint,
)
from emixer.errors import CheckpointError, StorageError
from tests.closed import closed, open_folder

PARTS = (SAMPLER, NETWORKS, OPTIMIZER)


def save(folder: Path, images: int, **state: Any) -> Checkpoint:
    weights = torch.arange(6.0).reshape(2, 3) + images
    return save_checkpoint(folder, images, {name: {"layer.weight": weights} for name in PARTS}, state)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_checkpoint_round_trips(tmp_path: Path) -> None:
    tensors = {
        "float": torch.randn(3, 4),
        "half": torch.randn(5).to(torch.bfloat16),
        "counter": torch.tensor(7),
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "with_gradient": torch.randn(2, requires_grad=True),
        "empty": torch.empty(0, 3),
    }
    save_checkpoint(tmp_path, 64, {NETWORKS: tensors}, {"vocabulary": ["grün"]})
    found = find_checkpoint(tmp_path, "last")
    assert found is not None
    assert found.images == 64
    assert found.state["vocabulary"] == ["grün"]
    read = found.tensors(NETWORKS)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach()), name


def test_all_files_of_a_checkpoint_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    """A colleague draws from a run in a shared folder. safetensors itself (0.8) writes files for their owner only."""
    before = os.umask(0o027)
    try:
        written = list(save(tmp_path, 64).path.iterdir())
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in written} == {"0o640"}


def test_nothing_is_pickled(tmp_path: Path) -> None:
    path = save(tmp_path, 1).path
    assert names(path) == ["checkpoint.json", "networks.safetensors", "optimizer.safetensors", "sampler.safetensors"]
    assert names(tmp_path) == ["images-000000000001", "last.json"]


def test_there_is_no_checkpoint_before_the_first(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path / "absent", "last") is None
    assert find_checkpoint(tmp_path, "best") is None
    assert newest_readable(tmp_path) is None


def test_last_follows_each_save_and_best_only_on_request(tmp_path: Path) -> None:
    first = save(tmp_path, 1)
    point(tmp_path, "best", first.path)
    save(tmp_path, 2)
    best, last = find_checkpoint(tmp_path, "best"), find_checkpoint(tmp_path, "last")
    assert best is not None
    assert last is not None
    assert (best.images, last.images) == (1, 2)


def test_saving_the_same_progress_again_replaces_the_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1, attempt="first")
    save(tmp_path, 1, attempt="second")
    assert read_checkpoint(tmp_path / "images-000000000001").state["attempt"] == "second"
    assert names(tmp_path) == ["images-000000000001", "last.json"]


@pytest.mark.parametrize("part", PARTS)
def test_truncated_file_is_named_with_what_to_do(tmp_path: Path, part: str) -> None:
    checkpoint = save(tmp_path, 1)
    file = checkpoint.path / f"{part}.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=rf"{part}\.safetensors is damaged: \d+ bytes instead of \d+.*Delete"):
        checkpoint.tensors(part)


def test_overwritten_file_of_the_same_length_is_reported_as_damaged(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 1)
    file = checkpoint.path / "networks.safetensors"
    file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(CheckpointError, match=r"networks\.safetensors cannot be read.*Delete"):
        checkpoint.tensors(NETWORKS)


def test_missing_part_is_a_checkpoint_error(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 1)
    (checkpoint.path / "sampler.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"sampler\.safetensors is not there"):
        checkpoint.tensors(SAMPLER)
    with pytest.raises(CheckpointError, match="other"):
        checkpoint.tensors("other")


@pytest.mark.parametrize("content", ["", '{"version": 1, "ima', "[1]", "null", '"text"'])
def test_damaged_checkpoint_json_is_a_checkpoint_error(tmp_path: Path, content: str) -> None:
    path = save(tmp_path, 1).path
    (path / "checkpoint.json").write_text(content)
    with pytest.raises(CheckpointError, match="delete"):
        find_checkpoint(tmp_path, "last")


def test_checkpoint_that_a_training_has_deleted_meanwhile_is_to_be_read_again(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 1)
    shutil.rmtree(checkpoint.path)
    for read in (lambda: read_checkpoint(checkpoint.path), lambda: checkpoint.tensors(NETWORKS)):
        with pytest.raises(CheckpointError, match=r"is not there.*training deletes older.*Run the same command again"):
            read()


def test_checkpoint_of_another_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = save(tmp_path, 1).path
    state = json.loads((path / "checkpoint.json").read_text())
    (path / "checkpoint.json").write_text(json.dumps(state | {"version": 99}))
    with pytest.raises(CheckpointError, match="version 99, this emixer reads 1"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"nam'])
def test_damaged_pointer_is_a_checkpoint_error(tmp_path: Path, content: str) -> None:
    save(tmp_path, 1)
    (tmp_path / "last.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"last\.json cannot be read"):
        find_checkpoint(tmp_path, "last")


def test_previous_checkpoint_is_last_after_deleting_a_damaged_one(tmp_path: Path) -> None:
    save(tmp_path, 1)
    damaged = save(tmp_path, 2)
    for file in damaged.path.iterdir():
        file.unlink()
    damaged.path.rmdir()
    found = find_checkpoint(tmp_path, "last")
    assert found is not None
    assert found.images == 1


def test_there_is_no_best_after_deleting_a_damaged_one(tmp_path: Path) -> None:
    best = save(tmp_path, 1)
    save(tmp_path, 2)
    point(tmp_path, "best", best.path)
    shutil.rmtree(best.path)
    assert find_checkpoint(tmp_path, "best") is None


@pytest.mark.parametrize("part", ["last.json", "images-000000000001", "images-000000000001/checkpoint.json"])
def test_somebody_elses_checkpoint_is_not_called_damaged(part: str) -> None:
    with open_folder() as folder:
        save(folder, 1)
        with closed(folder / part), pytest.raises(StorageError, match=f"No permission to read {folder / part}"):
            find_checkpoint(folder, "last")


def test_somebody_elses_tensors_are_not_called_damaged() -> None:
    with open_folder() as folder:
        checkpoint = save(folder, 1)
        file = checkpoint.path / "networks.safetensors"
        with closed(file), pytest.raises(StorageError, match=f"No permission to read {file}"):
            checkpoint.tensors(NETWORKS)


def test_pruning_keeps_the_best_and_the_last_two(tmp_path: Path) -> None:
    saved = {images: save(tmp_path, images) for images in (1, 2, 3, 10, 200)}
    point(tmp_path, "best", saved[2].path)
    prune(tmp_path)
    assert [int(path.name[7:]) for path in sorted(tmp_path.glob("images-*"))] == [2, 10, 200]


def test_pruning_works_with_a_missing_best(tmp_path: Path) -> None:
    for images in (1, 2, 3):
        save(tmp_path, images)
    (tmp_path / "best.json").write_text('{"name": "images-000000000099"}')
    prune(tmp_path)
    assert [int(path.name[7:]) for path in sorted(tmp_path.glob("images-*"))] == [2, 3]


def test_pruning_leaves_what_nfs_keeps_for_a_process_that_has_mapped_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, kept = os.unlink, "networks.safetensors"

    def unlink_on_nfs(name: str, *, dir_fd: int | None = None) -> None:
        if name == kept:
            os.rename(name, ".nfs0001", src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        elif name != ".nfs0001":
            real(name, dir_fd=dir_fd)

    for images in (1, 2, 3):
        save(tmp_path, images)
    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", unlink_on_nfs)
        prune(tmp_path)
    left = tmp_path / "images-000000000001"
    assert names(left) == [".nfs0001"]
    for path in (tmp_path / "images-000000000002", tmp_path / "images-000000000003"):
        shutil.rmtree(path)
    assert newest_readable(tmp_path) is None, "what is left is no checkpoint"
    for images in (4, 5):
        save(tmp_path, images)
    prune(tmp_path)
    assert not left.exists(), "nobody has it mapped any more"


def test_numbers_not_in_json_are_refused_before_anything_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        save(tmp_path, 2, loss=float("inf"))
    assert names(tmp_path) == ["images-000000000001", "last.json"]


def test_a_write_that_fails_is_told_by_the_systems_own_reason(tmp_path: Path) -> None:
    """A limit on the size of files stands for a quota: safetensors reports both as text with the system's number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(StorageError, match="File too large") as raised:
            save_checkpoint(tmp_path, 1, {NETWORKS: {"weight": torch.zeros(100_000)}}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.EFBIG


def test_full_disk_leaves_the_previous_checkpoint_intact(small_disk: Callable[[int], Path]) -> None:
    folder = small_disk(2048)
    megabyte = {NETWORKS: {"weight": torch.randn(2**18)}}
    save_checkpoint(folder, 1, megabyte, {})
    with pytest.raises(StorageError, match="disk or quota is full"):
        save_checkpoint(folder, 2, megabyte, {})
    assert names(folder) == ["images-000000000001", "last.json"]
    found = find_checkpoint(folder, "last")
    assert found is not None
    assert torch.equal(found.tensors(NETWORKS)["weight"], megabyte[NETWORKS]["weight"])

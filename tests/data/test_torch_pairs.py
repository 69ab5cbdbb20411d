"""Shards as datasets of torch and Ray, against what stands in the Parquet files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

import emixer
from emixer import ShardPairs, ShardStream
from emixer.data.labels import CHEXPERT
from emixer.errors import ConfigError, ShardError


@pytest.fixture(scope="module")
def shards(tiny_shards: Path) -> ShardPairs:
    """96 rows in row groups of 16; every eighth has no labels, every tenth no report."""
    return emixer.open_shards(tiny_shards)


@pytest.fixture(scope="module")
def rows(tiny_shards: Path) -> list[dict[str, object]]:
    return pq.read_table(tiny_shards / "train-00000.parquet").to_pylist()  # type: ignore[no-any-return]


def fingerprints(batches: object) -> list[bytes]:
    return [image.numpy().tobytes() for batch in batches for image in batch["image"]]


def test_any_row_by_its_number(shards: ShardPairs, rows: list[dict[str, object]]) -> None:
    assert (len(shards), shards.side_px, shards.label_names) == (96, 32, CHEXPERT)
    for index in (0, 7, 9, 16, 95, -1):
        item, row = shards[index], rows[index]
        assert item["image"].shape == (1, 32, 32)
        assert item["image"].numpy().tobytes() == row["image"]
        assert item["report"] == (row["report"] or "")
        assert item["known"].all() == (row["labels"] is not None)
        assert item["labels"].tolist() == (row["labels"] or [0] * 14)
    with pytest.raises(IndexError):
        shards[96]


def test_batches_in_any_order_are_the_rows_asked_for(shards: ShardPairs, rows: list[dict[str, object]]) -> None:
    order = np.random.default_rng(0).permutation(96).tolist()
    loader = DataLoader(shards, batch_size=40, sampler=order, num_workers=1)
    assert fingerprints(loader) == [rows[index]["image"] for index in order]


def test_a_stream_without_a_seed_keeps_the_order_and_the_size_of_batches(
    shards: ShardPairs, rows: list[dict[str, object]]
) -> None:
    batches = list(DataLoader(shards.stream(20), batch_size=None))
    assert [len(batch["report"]) for batch in batches] == [20, 20, 20, 20, 16]
    assert fingerprints(batches) == [row["image"] for row in rows]
    assert batches[0]["labels"].dtype == torch.float32


def test_a_shuffled_stream_keeps_together_what_belongs_together(
    shards: ShardPairs, rows: list[dict[str, object]]
) -> None:
    row_of = {row["image"]: row for row in rows}
    batches = list(shards.stream(20, seed=5, window_rows=48))
    assert [len(batch["report"]) for batch in batches] == [20, 20, 20, 20, 16]
    assert sorted(fingerprints(batches)) == sorted(row_of)
    assert fingerprints(batches) != [row["image"] for row in rows]
    for batch in batches:
        for image, report, labels, known in zip(*batch.values(), strict=True):
            row = row_of[image.numpy().tobytes()]
            assert report == (row["report"] or "")
            assert labels.tolist() == (row["labels"] or [0] * 14)
            assert known.all() == (row["labels"] is not None)


def test_ranks_and_workers_share_an_epoch_and_another_one_has_another_order(
    shards: ShardPairs, rows: list[dict[str, object]]
) -> None:
    everything = sorted(row["image"] for row in rows)
    orders = []
    for epoch in (0, 1):
        seen: list[bytes] = []
        for rank in range(2):
            stream = shards.stream(10, seed=3, rank=rank, world_size=2, window_rows=16)
            stream.epoch = epoch
            part = fingerprints(DataLoader(stream, batch_size=None, num_workers=2))
            if rank == epoch == 0:
                assert part == fingerprints(DataLoader(stream, batch_size=None, num_workers=2))
            assert len(part) < len(everything)
            seen += part
        assert sorted(seen) == everything  # all of them, none twice
        orders.append(seen)
    assert orders[0] != orders[1]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("num_given", [0, 1, 3, 5, 7])
def test_a_stream_resumes_with_the_batch_after_the_last_one_given(
    shards: ShardPairs, seed: int | None, num_given: int
) -> None:
    def stream() -> ShardStream:  # 48 of the 96 rows in batches of 7: six whole ones and one of six rows
        return shards.stream(7, seed=seed, rank=1, world_size=2, window_rows=48)

    whole = stream()
    whole.epoch = 2
    batches = list(DataLoader(whole, batch_size=None))
    assert len(batches) == 7
    stopped = stream()
    stopped.epoch = 2
    given = iter(stopped)
    for batch in batches[:num_given]:
        assert torch.equal(next(given)["image"], batch["image"])
    resumed = stream()
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    assert resumed.epoch == 2
    assert fingerprints(DataLoader(resumed, batch_size=None)) == fingerprints(batches[num_given:])
    assert fingerprints(DataLoader(resumed, batch_size=None)) == fingerprints(batches), "then a whole epoch"


def test_a_position_between_two_epochs_is_the_beginning_of_the_next(shards: ShardPairs) -> None:
    stream = shards.stream(16, seed=3)
    assert len(list(stream)) == 6
    stream.epoch = 1
    resumed = shards.stream(16, seed=3)
    resumed.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    resumed.epoch = 1  # as a loop does that goes on with the number it stopped at
    assert fingerprints(resumed) == fingerprints(stream)
    given = iter(stream)
    next(given)
    resumed.load_state_dict(stream.state_dict())
    resumed.epoch = 1
    assert len(list(resumed)) == 5, "the same number keeps the position"


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more workers than a machine's CPUs
def test_a_position_is_refused_by_a_loader_with_other_workers(shards: ShardPairs) -> None:
    stopped = shards.stream(16, seed=3, window_rows=16)
    resumed = shards.stream(16, seed=3, window_rows=16)
    resumed.load_state_dict(stopped.state_dict())
    assert len(list(DataLoader(resumed, batch_size=None, num_workers=2))) == 6, "none had been given"
    given = iter(stopped)
    for _ in range(3):
        next(given)
    resumed.load_state_dict(stopped.state_dict())
    with pytest.raises(ConfigError, match=r"parts 1 there, 2 here.*loader workers"):
        list(DataLoader(resumed, batch_size=None, num_workers=2))
    assert len(list(resumed)) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 8}, "batch_size 7 there, 8 here"),
        ({"seed": 4}, "seed 3 there, 4 here"),
        ({"rank": 0}, "part 1 there, 0 here"),
        ({"window_rows": 16}, "window_rows 48 there, 16 here"),
    ],
)
def test_a_position_in_another_stream_is_refused(shards: ShardPairs, settings: dict[str, int], message: str) -> None:
    own = {"batch_size": 7, "seed": 3, "rank": 1, "world_size": 2, "window_rows": 48}
    state = shards.stream(**own).state_dict()
    with pytest.raises(ConfigError, match=message):
        shards.stream(**own | settings).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "1 or more"),
        ({"batch_size": 1, "rank": 0}, "go together"),
        ({"batch_size": 1, "rank": 2, "world_size": 2}, "count from 0"),
        ({"batch_size": 1, "rank": 0, "world_size": 7}, "cannot share 96 rows in 6 row group"),
        ({"batch_size": 1, "seed": 0, "rank": 0, "world_size": 2}, "cannot share 96 rows in 1 window"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(shards: ShardPairs, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shards.stream(**arguments)


def test_a_folder_without_shards_and_a_shard_that_went_away_are_told(
    make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ShardError, match="holds no shards"):
        emixer.open_shards(tmp_path)
    shards = emixer.open_shards(make_shards(tmp_path / "shards", train=16))
    (tmp_path / "shards" / "train-00000.parquet").unlink()
    with pytest.raises(ShardError, match="cannot be read any more"):
        shards[0]


def test_shards_that_replaced_others_give_their_own_rows(make_shards: Callable[..., Path], tmp_path: Path) -> None:
    before = emixer.open_shards(make_shards(tmp_path / "shards", train=16))[0]
    after = emixer.open_shards(make_shards(tmp_path / "shards", seed=1, train=16))
    assert not torch.equal(before["image"], after[0]["image"])
    assert torch.equal(after[0]["image"], next(iter(after.stream(1)))["image"][0])


@pytest.mark.parametrize("wrong", [{"uncertain": "one"}, {"unmentioned": "ones"}])
def test_a_policy_that_there_is_not_is_refused(tiny_shards: Path, wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError, match=rf"{name}='{value}' is not a policy\. Choose from: ignore, zeros"):
        emixer.open_shards(tiny_shards, **wrong)


def test_a_folder_below_home_is_found(tiny_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_shards.parent))
    assert len(emixer.open_shards(f"~/{tiny_shards.name}")) == 96


@pytest.mark.ray
def test_ray_data_holds_the_same_rows(shards: ShardPairs, rows: list[dict[str, object]], ray_cluster: None) -> None:
    dataset = shards.to_ray()
    found = {row["image"].tobytes(): row for row in dataset.take_all()}
    assert len(found) == 96
    for index in (3, 7, 9):
        row = found[rows[index]["image"]]
        assert row["image"].shape == (32, 32)
        assert row["report"] == (rows[index]["report"] or "")
        assert row["known"].all() == (rows[index]["labels"] is not None)
        np.testing.assert_array_equal(row["labels"], rows[index]["labels"] or [0] * 14)

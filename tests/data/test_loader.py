"""Shards -> batches: the right rows, in the promised order, as views where it matters."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from emixer.config import Config
from emixer.config.training import DataConfig
from emixer.data.labels import CHEXPERT
from emixer.data.loader import BatchStream, HostBatch, WindowReader, open_windows, read_ahead
from emixer.data.order import Position
from emixer.data.shards import ShardSet
from tests.processes import wait_until


def reader_of(folder: Path, **settings: object) -> WindowReader:
    config = DataConfig(window_rows=32, **settings)  # type: ignore[arg-type]
    return open_windows(ShardSet.open(folder), "train", config, seed=3, max_sentences=4, max_words=6)


def local_stream(reader: WindowReader, rows: int, position: Position, worker: int = 0) -> BatchStream:
    return BatchStream(reader, rows, position, worker, lambda windows: map(reader.read, windows))


def same(left: HostBatch, right: HostBatch) -> bool:
    return all(np.array_equal(getattr(left, f), getattr(right, f)) for f in left.__dataclass_fields__)


def test_a_window_holds_the_rows_of_its_row_groups_with_matching_columns(tiny_shards: Path) -> None:
    reader = reader_of(tiny_shards)
    table = pq.read_table(tiny_shards / "train-00000.parquet")
    by_pixels = {row["image"]: row for row in table.to_pylist()}
    tokens = reader.vocabulary.tokens
    window = reader.read(5)
    assert len(window) == reader.order.rows_in(5)
    for index in range(len(window)):
        row = by_pixels[window.image[index].tobytes()]
        assert window.labelled[index] == (row["labels"] is not None)
        assert window.labels[index].tolist() == (row["labels"] or [0] * len(CHEXPERT))
        assert window.has_report[index] == (row["sentences"] is not None)
        read = [[tokens[i] for i in sentence if i not in (0, 2)] for sentence in window.words[index] if sentence.any()]
        assert read == [s[:5] for s in (row["sentences"] or [])[:4]]


def test_an_epoch_of_batches_shows_every_image_once(tiny_shards: Path) -> None:
    stream = local_stream(reader_of(tiny_shards), 16, Position(1))
    images = [image.tobytes() for batch in islice(stream, 6) for image in batch.image]
    assert sorted(images) == sorted(pq.read_table(tiny_shards / "train-00000.parquet")["image"].to_pylist())


def test_batches_that_straddle_windows_keep_the_order(tiny_shards: Path) -> None:
    reader = reader_of(tiny_shards)
    whole = np.concatenate([reader.read(window).image for window in range(4)])
    cut = np.concatenate([batch.image for batch in islice(local_stream(reader, 7, Position(1)), 12)])
    assert np.array_equal(cut, whole[: len(cut)])


@pytest.mark.parametrize("worker", [0, 1])
def test_resuming_at_a_position_continues_with_the_very_next_image(tiny_shards: Path, worker: int) -> None:
    reader = reader_of(tiny_shards)
    stream = local_stream(reader, 7, Position(2), worker)
    list(islice(stream, 9))
    resumed = local_stream(reader, 7, stream.position, worker)
    assert all(same(a, b) for a, b in zip(islice(stream, 9), islice(resumed, 9), strict=True))


def test_two_workers_never_share_an_image_within_an_epoch(tiny_shards: Path) -> None:
    reader = reader_of(tiny_shards)  # three windows of 32: each worker reads one of this epoch
    streams = [local_stream(reader, 16, Position(2), worker) for worker in range(2)]
    seen = [image.tobytes() for stream in streams for batch in islice(stream, 2) for image in batch.image]
    assert len(set(seen)) == len(seen) == 64


@pytest.mark.parametrize(("rows", "read"), [(0, 2), (21, 3)])
def test_no_window_is_read_that_nobody_will_ask_for(tiny_shards: Path, rows: int, read: int) -> None:
    """44 images of windows of 32, from the first image or from the 22nd."""
    reader = reader_of(tiny_shards)
    assert [reader.order.rows_in(window) for window in range(4)] == [32] * 4
    numbers: list[int] = []

    def all_ahead(wanted: Iterable[int]) -> Iterator[HostBatch]:
        numbers.extend(islice(wanted, 100))
        return map(reader.read, numbers)

    stream = BatchStream(reader, 11, Position(1, rows=rows), 0, all_ahead, images=44)
    assert [len(batch) for batch in islice(stream, 4)] == [11] * 4
    assert len(numbers) == read


def test_pixels_of_a_batch_inside_a_window_are_a_view(tiny_shards: Path) -> None:
    reader = reader_of(tiny_shards)
    window = reader.read(0)
    stream = BatchStream(reader, 8, Position(1), 0, lambda windows: iter([window]))
    assert np.shares_memory(next(stream).image, window.image)


def test_uncertain_labels_count_as_configured(tiny_shards: Path) -> None:
    import pyarrow as pa

    labels = pa.array([[-1] + [1] * 13, None, [0] + [None] * 13], pa.list_(pa.int8(), 14))
    table = pa.table({"labels": labels})
    for uncertain, expected in {"zeros": 0, "ones": 1}.items():
        values, labelled, known = reader_of(tiny_shards, uncertain=uncertain)._labels(table)
        assert values.tolist() == [[expected] + [1] * 13, [0] * 14, [0] * 14]
        assert labelled.tolist() == [True, False, True]
        assert known.tolist() == [[True] * 14, [False] * 14, [True] * 14]


def test_a_share_of_the_labels_can_be_withheld_and_stays_the_same(tiny_shards: Path) -> None:
    full, half = reader_of(tiny_shards).read_rows(96), reader_of(tiny_shards, labelled_fraction=0.5).read_rows(96)
    assert not np.any(half.labelled & ~full.labelled)
    assert half.labelled.sum() == full.labelled.sum() // 2
    assert np.abs(half.labels.sum(0, np.int64) - full.labels.sum(0, np.int64) / 2).max() <= 1.5, "of each class"
    assert not half.labels[~half.labelled].any()
    reader = reader_of(tiny_shards, labelled_fraction=0.5)
    assert same(half, reader.read_rows(96))
    kept_images = {image.tobytes() for image in half.image[half.labelled]}
    for window in map(reader.read, range(reader.order.num_windows)):
        assert {image.tobytes() for image in window.image[window.labelled]} <= kept_images, "whatever reads them"
    assert reader.label_counts()[1].sum() == half.labelled.sum()


def test_labels_are_withheld_from_training_alone(tiny_shards: Path) -> None:
    shards = ShardSet.open(tiny_shards)
    whole, few = (
        open_windows(shards, "validate", DataConfig(labelled_fraction=fraction), 0, 4, 8).read_rows(32)
        for fraction in (1.0, 0.3)
    )
    assert whole.labelled.sum() == 28, "every eighth has none"
    assert same(whole, few), "what is measured is measured with all labels"


def test_label_counts_are_those_of_the_labelled_images(tiny_shards: Path) -> None:
    vectors, counts = reader_of(tiny_shards).label_counts()
    rows = [tuple(r) for r in pq.read_table(tiny_shards / "train-00000.parquet")["labels"].to_pylist() if r is not None]
    assert {tuple(map(int, v)): int(c) for v, c in zip(vectors, counts, strict=True)} == {
        r: rows.count(r) for r in rows
    }


def test_known_counts_are_those_that_the_policy_reads(tiny_shards: Path) -> None:
    shards = ShardSet.open(tiny_shards)
    rows = [r for r in pq.read_table(tiny_shards / "train-00000.parquet")["labels"].to_pylist() if r is not None]
    present, absent = reader_of(tiny_shards).known_counts()
    assert present.tolist() == [sum(row[y] == 1 for row in rows) for y in range(len(CHEXPERT))]
    assert (present + absent).tolist() == [len(rows)] * len(CHEXPERT)
    assert shards.num_rows("train") == 96 > len(rows), "images without labels are known to have, or not to have, none"


@pytest.mark.ray
def test_reading_ahead_on_ray_gives_the_same_batches_as_reading_in_place(
    ray_cluster: None, tiny_config: Config
) -> None:
    assert tiny_config.data.shards is not None
    reader = reader_of(tiny_config.data.shards)
    position = Position(2, rows=21)
    ahead = BatchStream(reader, 16, position, 1, partial(read_ahead, reader, num_tasks=2))
    here = local_stream(reader, 16, position, 1)
    for left, right in zip(islice(ahead, 20), islice(here, 20), strict=True):
        assert same(left, right)


@dataclass(frozen=True)
class Recording(WindowReader):
    """Leaves a file for each window it has read."""

    folder: Path = Path()

    def read(self, window: int) -> HostBatch:
        (self.folder / str(window)).touch()
        return super().read(window)


@pytest.mark.ray
def test_no_more_is_read_ahead_than_two_spans_hold(
    ray_cluster: None, tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Recording(**vars(reader_of(tiny_shards)), folder=tmp_path)
    monkeypatch.setattr("emixer.data.loader._SPAN_BYTES", 8 * reader.window_bytes)
    windows = read_ahead(reader, range(200), num_tasks=2)
    next(windows)
    assert wait_until(lambda: len(list(tmp_path.iterdir())) >= 16, 60)
    time.sleep(1)  # in which it would read more
    assert len(list(tmp_path.iterdir())) == 16
    assert sum(1 for _ in islice(windows, 11)) == 11  # into the next span
    windows.close()


@pytest.mark.ray
def test_reading_goes_on_when_training_workers_hold_every_cpu(ray_cluster: None, tiny_shards: Path) -> None:
    import ray

    @ray.remote(num_cpus=2)
    class Hog:
        def hold(self) -> bool:
            return True

    hog = Hog.remote()
    assert ray.get(hog.hold.remote())
    reader = reader_of(tiny_shards)
    assert len(next(read_ahead(reader, [0], num_tasks=1))) == reader.order.rows_in(0)
    ray.kill(hog)

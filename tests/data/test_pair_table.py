"""Real and generated pairs as arrays: the right rows beside each other, nothing copied whole."""

import errno
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emixer.data import array_file, pair_table
from emixer.data.labels import CHEXPERT, LabelPolicy
from emixer.data.pair_table import ChosenPairs, Mixture, PairTable, RealPairs, TableShape, open_generated, read_real
from emixer.data.shards import ShardSet
from emixer.data.vocabulary import END, SPECIAL_TOKENS, UNK, Vocabulary
from emixer.errors import ShardError, StorageError

KNOWN = LabelPolicy("ignore", "zeros")
LABELS = ("Edema", "Atelectasis")
SHAPE = TableShape(LABELS, 8, 2, 4, Vocabulary((*SPECIAL_TOKENS, "the", "heart", "is", "large")))


def tiny_shape(shards: ShardSet) -> TableShape:
    return TableShape(LABELS, 32, 4, 6, shards.vocabulary)


def counted(num: int, first: int = 0) -> PairTable:
    """Pairs that say which they are: each array of pair i is filled with first + i."""
    number_N = np.arange(first, first + num)
    return PairTable(
        np.broadcast_to(number_N[:, None, None], (num, 3, 3)).astype(np.uint8),
        np.broadcast_to(number_N[:, None], (num, 2)).astype(np.float32),
        np.broadcast_to(number_N[:, None, None], (num, 2, 4)).astype(np.int32),
    )


def numbers(table: PairTable) -> list[list[int]]:
    """Which pairs they are, by each array."""
    return [array.reshape(len(array), -1)[:, -1].astype(int).tolist()
            for array in (table.image_NHW, table.labels_NY, table.words_NSW)]  # fmt: skip


def generated_file(path: Path, images: list[np.ndarray], reports: list[str], labels: list[tuple[int, int]]) -> None:
    """A Parquet file as `emixer generate` writes it, in row groups of two."""

    def png(image: np.ndarray) -> bytes:
        out = io.BytesIO()
        Image.fromarray(image).save(out, format="png")
        return out.getvalue()

    columns = {
        "image": pa.array([{"bytes": png(image), "path": f"{i}.png"} for i, image in enumerate(images)]),
        "report": reports,
        "Atelectasis": pa.array([a for a, _ in labels], pa.int8()),
        "Edema": pa.array([e for _, e in labels], pa.int8()),
        "index": list(range(len(images))),
    }
    pq.write_table(pa.table(columns), path, row_group_size=2)


def with_image(path: Path, encoded: bytes) -> None:
    """Put those bytes in place of the file's first image."""
    table = pq.read_table(path)
    images = [{"bytes": encoded, "path": "0.png"}, *table["image"].to_pylist()[1:]]
    pq.write_table(table.set_column(table.schema.get_field_index("image"), "image", pa.array(images)), path)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Five pairs in two files."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    images = list(np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8))
    np.save(folder / "images.npy", images)
    reports = ["The heart is large. <UNK> is.", "", "The heart.", "Heart heart heart heart heart.", "Is. Is. Is."]
    labels = [(1, 0), (0, 1), (1, 1), (0, 0), (0, 1)]
    generated_file(folder / "a.parquet", images[:3], reports[:3], labels[:3])
    generated_file(folder / "b.parquet", images[3:], reports[3:], labels[3:])
    return folder


def test_real_pairs_stand_in_the_order_of_the_shards_with_their_subject_and_report(tiny_shards: Path) -> None:
    shards = ShardSet.open(tiny_shards)
    pairs = RealPairs.read(shards, "test", tiny_shape(shards), KNOWN)
    rows = pq.read_table(tiny_shards / "test-00000.parquet").to_pylist()
    tokens = shards.vocabulary.tokens
    assert len(pairs.table) == len(rows) == 16
    for n, row in enumerate(rows):
        assert pairs.table.image_NHW[n].tobytes() == row["image"]
        expected = [np.nan] * 2 if row["labels"] is None else [row["labels"][CHEXPERT.index(name)] for name in LABELS]
        np.testing.assert_array_equal(pairs.table.labels_NY[n], expected)
        words = [[tokens[i] for i in s if i not in (0, END)] for s in pairs.table.words_NSW[n] if s.any()]
        assert words == [s[:5] for s in (row["sentences"] or [])[:4]]
        assert (pairs.subjects[n], pairs.reports[n]) == (f"tiny/{row['subject_id']}", row["sentences"])


def test_people_of_two_collections_are_two_even_if_both_have_the_same_number(tiny_shards: Path, tmp_path: Path) -> None:
    shards = ShardSet.open(tiny_shards)
    table = pq.read_table(tiny_shards / "test-00000.parquet")
    for name, values in {"subject_id": ["1"] * 16, "source": ["a", "b"] * 8}.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    pq.write_table(table, tmp_path / "test-00000.parquet", row_group_size=16)
    pairs = RealPairs.read(replace(shards, folder=tmp_path), "test", tiny_shape(shards), KNOWN)
    assert len(set(pairs.subjects)) == 2


def test_uncertain_and_unmentioned_labels_count_as_the_policy_says(tiny_shards: Path, tmp_path: Path) -> None:
    shards = ShardSet.open(tiny_shards)
    table = pq.read_table(tiny_shards / "test-00000.parquet")
    labels = [[None] * 14, [-1] * 14, None, *table["labels"].to_pylist()[3:]]
    changed = table.set_column(table.schema.get_field_index("labels"), table.schema.field("labels"),
                               pa.array(labels, table.schema.field("labels").type))  # fmt: skip
    pq.write_table(changed, tmp_path / "test-00000.parquet", row_group_size=16)
    moved = replace(shards, folder=tmp_path)
    expected = {("ignore", "zeros"): [0, np.nan, np.nan], ("ones", "ignore"): [np.nan, 1, np.nan],
                ("zeros", "zeros"): [0, 0, np.nan]}  # fmt: skip
    for (uncertain, unmentioned), values in expected.items():
        policy = LabelPolicy(uncertain, unmentioned)  # type: ignore[arg-type]
        read = RealPairs.read(moved, "test", tiny_shape(shards), policy).table.labels_NY[:3, 0]
        np.testing.assert_array_equal(read, np.array(values, np.float32))


def test_fewer_real_pairs_are_the_first_of_more_and_all_are_each_image_once(tiny_shards: Path) -> None:
    shards = ShardSet.open(tiny_shards)
    shape = tiny_shape(shards)
    every = read_real(shards, "train", shape, KNOWN, 96)
    images = pq.read_table(tiny_shards / "train-00000.parquet")["image"].to_pylist()
    drawn = [image.tobytes() for image in every.image_NHW]
    assert sorted(drawn) == sorted(images)
    assert drawn != images, "drawn, not taken from the front"
    for num in (1, 17, 95):
        some = read_real(shards, "train", shape, KNOWN, num)
        assert len(some) == num
        for name in ("image_NHW", "labels_NY", "words_NSW"):
            np.testing.assert_array_equal(getattr(some, name), getattr(every, name)[:num])
    other = read_real(shards, "train", shape, KNOWN, 96, seed=1)
    assert [image.tobytes() for image in other.image_NHW] != drawn


def test_what_shards_do_not_hold_is_told_with_what_they_hold(tiny_shards: Path) -> None:
    shards = ShardSet.open(tiny_shards)
    shape = tiny_shape(shards)
    with pytest.raises(ShardError, match=r"97 real images are needed; the train split of .* has 96. Lower"):
        read_real(shards, "train", shape, KNOWN, 97)
    with pytest.raises(ShardError, match=r"have no label Measles. They have: Atelectasis, "):
        read_real(shards, "train", replace(shape, label_names=("Edema", "Measles")), KNOWN, 5)
    with pytest.raises(ShardError, match=r"has images of 32 px, not 64"):
        RealPairs.read(shards, "test", replace(shape, side_px=64), KNOWN)


def test_a_generated_dataset_is_decoded_row_for_row_over_files_and_row_groups(dataset: Path, tmp_path: Path) -> None:
    table = open_generated(dataset, ["a.parquet", "b.parquet"], SHAPE, tmp_path / "cache")
    np.testing.assert_array_equal(table.image_NHW, np.load(dataset / "images.npy"))
    assert table.labels_NY.tolist() == [[0, 1], [1, 0], [1, 1], [0, 0], [1, 0]], "Edema first, as the shape has it"
    the, heart, is_, large = range(4, 8)
    assert table.words_NSW.tolist() == [
        [[the, heart, is_, END], [UNK, is_, END, 0]], [[0] * 4] * 2, [[the, heart, END, 0], [0] * 4],
        [[heart, heart, heart, END], [0] * 4], [[is_, END, 0, 0]] * 2,
    ]  # fmt: skip
    assert large not in table.words_NSW


def test_the_second_opening_maps_the_same_files_and_no_head_or_batch_copies_them(dataset: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    open_generated(dataset, ["a.parquet", "b.parquet"], SHAPE, cache)
    for file in dataset.glob("*.parquet"):
        file.unlink()  # what is decoded needs them no more
    table = open_generated(dataset, ["a.parquet", "b.parquet"], SHAPE, cache)
    for array in (table.image_NHW, table.labels_NY, table.words_NSW):
        assert isinstance(array, np.memmap)
        assert array.mode == "r"
        assert not array.flags.writeable
    assert np.shares_memory(table.head(3).image_NHW, table.image_NHW)
    batches = list(table.batches(2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert all(np.shares_memory(batch.words_NSW, table.words_NSW) for batch in batches)
    taken = table.take(np.array([4, 0]))
    assert not np.shares_memory(taken.image_NHW, table.image_NHW)
    np.testing.assert_array_equal(taken.image_NHW, table.image_NHW[[4, 0]])


def test_arrays_that_another_process_decoded_meanwhile_stay(dataset: Path, tmp_path: Path) -> None:
    cache, files = tmp_path / "cache", ["a.parquet", "b.parquet"]
    of_another: list[Path] = []

    class Files(list[str]):
        """Read once decoding has begun: just then another one finishes."""

        def __iter__(self) -> Iterator[str]:
            if not cache.exists():
                open_generated(dataset, files, SHAPE, cache)
                of_another.append(cache / "images.npy")
                os.link(of_another[0], tmp_path / "the same file")
            return super().__iter__()

    table = open_generated(dataset, Files(files), SHAPE, cache)
    assert len(table) == 5
    assert of_another[0].samefile(tmp_path / "the same file")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_mixture_takes_the_pairs_of_its_parts_end_to_end_and_changes_none(tmp_path: Path) -> None:
    parts = (counted(3), counted(4, first=10), counted(2, first=20))
    mixture = Mixture(parts)
    assert len(mixture) == 9
    order = np.array([8, 0, 3, 2, 6, 7, 3])
    assert numbers(mixture.take(order)) == [[21, 0, 10, 2, 13, 20, 10]] * 3
    taken = mixture.take(np.arange(9))
    taken.image_NHW[...] = 255
    taken.labels_NY[...] = -1
    taken.words_NSW[...] = -1
    assert [numbers(part) for part in parts] == [[[0, 1, 2]] * 3, [[10, 11, 12, 13]] * 3, [[20, 21]] * 3]


def test_a_mixture_copies_no_more_than_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = PairTable.take
    monkeypatch.setattr(PairTable, "take", lambda self, index_B: asked.append(len(index_B)) or real(self, index_B))
    Mixture((counted(50), counted(100, first=50))).take(np.array([3, 149, 60]))
    assert asked == [1, 2]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.write_bytes(f.read_bytes()[:-9]), r"b\.parquet, of a generated dataset, is damaged"),
        (lambda f: f.unlink(), r"b\.parquet, of a generated dataset, is damaged \(FileNotFoundError\). Delete it and"),
        (
            lambda f: f.write_bytes(f.read_bytes().replace(b"\x89PNG", b"XXXX")),
            r"damaged \(an image that cannot be decoded as PNG or JPEG\)",
        ),
    ],
)
def test_a_damaged_file_of_a_dataset_is_named_and_leaves_nothing_behind(
    dataset: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(dataset / "b.parquet")
    with pytest.raises(ShardError, match=message):
        open_generated(dataset, ["a.parquet", "b.parquet"], SHAPE, tmp_path / "caches" / "cache")
    assert not list((tmp_path / "caches").iterdir())


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_no_other_kind_of_image_is_opened_than_datasets_hold(dataset: Path, tmp_path: Path, kind: str) -> None:
    out = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(out, kind)
    with_image(dataset / "b.parquet", out.getvalue())
    with pytest.raises(ShardError, match=r"b\.parquet.*an image that cannot be decoded as PNG or JPEG"):
        open_generated(dataset, ["a.parquet", "b.parquet"], SHAPE, tmp_path / "cache")


def test_an_image_that_declares_a_huge_size_is_one_that_cannot_be_decoded(dataset: Path, tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "PNG")
    huge = bytearray(out.getvalue())
    struct.pack_into(">II", huge, 16, 20_000, 20_000)
    struct.pack_into(">I", huge, 29, zlib.crc32(huge[12:29]))
    with_image(dataset / "b.parquet", bytes(huge))
    with pytest.raises(ShardError, match=r"b\.parquet.*an image that cannot be decoded as PNG or JPEG"):
        open_generated(dataset, ["a.parquet", "b.parquet"], SHAPE, tmp_path / "cache")


def test_images_of_another_size_and_labels_without_a_column_are_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"holds images of 8 x 8 px; the real ones have 16"):
        open_generated(dataset, ["a.parquet"], replace(SHAPE, side_px=16), tmp_path / "cache")
    with pytest.raises(ShardError, match=r"The pairs in .*a\.parquet have no label Fracture"):
        open_generated(dataset, ["a.parquet"], replace(SHAPE, label_names=("Fracture",)), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_decoded_folder_that_is_cut_short_is_told_with_the_remedy(dataset: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    open_generated(dataset, ["a.parquet"], SHAPE, cache)
    os.truncate(cache / "images.npy", 200)
    with pytest.raises(ShardError, match=r"The array cache .*cache is damaged .*Delete that folder"):
        open_generated(dataset, ["a.parquet"], SHAPE, cache)


def test_a_full_disk_is_an_error_before_the_first_image_is_decoded(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(array_file.os, "posix_fallocate", full)
    monkeypatch.setattr(pair_table, "decode_image", lambda encoded: pytest.fail("an image was decoded"))
    with pytest.raises(StorageError, match="the disk or quota is full"):
        open_generated(dataset, ["a.parquet"], SHAPE, tmp_path / "caches" / "cache")
    assert not list((tmp_path / "caches").iterdir())


def test_space_for_all_arrays_is_taken_at_once(small_disk: Callable[[int], Path], dataset: Path) -> None:
    disk = small_disk(600)
    with pytest.raises(StorageError, match="the disk or quota is full"):
        open_generated(dataset, ["a.parquet"], replace(SHAPE, max_sentences=200, max_words=300), disk / "cache")
    assert not list(disk.iterdir())


def test_whatever_changes_an_array_changes_the_digest_of_the_shape() -> None:
    others = [
        replace(SHAPE, label_names=("Atelectasis", "Edema")), replace(SHAPE, side_px=16),
        replace(SHAPE, max_sentences=3), replace(SHAPE, max_words=5),
        replace(SHAPE, vocabulary=Vocabulary((*SPECIAL_TOKENS, "heart", "the", "is", "large"))),
    ]  # fmt: skip
    digests = [shape.digest for shape in (SHAPE, *others)]
    assert len(set(digests)) == len(digests)
    assert replace(SHAPE).digest == SHAPE.digest


def test_chosen_pairs_stand_in_a_mixture_like_a_table() -> None:
    chosen = ChosenPairs(counted(10, first=50), np.array([7, 1, 4]))
    mixture = Mixture((chosen, counted(2)))
    assert len(mixture) == 5
    assert numbers(mixture.take(np.array([3, 0, 2, 4, 1, 0]))) == [[0, 57, 54, 1, 51, 57]] * 3

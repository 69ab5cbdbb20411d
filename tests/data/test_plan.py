"""The plan: a fixed order, fair shards, and a fingerprint that changes with what changes a byte."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from emixer.config.ingest import ImageFolderSource, IngestConfig
from emixer.data import plan as plan_module
from emixer.data.plan import IMAGES_PER_BLOCK, Plan, Workspace, make_plan, read_aligned, write_aligned
from emixer.data.sources import Collection
from emixer.data.sources.collection import image_table
from emixer.errors import RunFolderError


def collection(num_images: int, root: str = "/a", label: int = 1) -> Collection:
    ids = [f"image-{n}" for n in range(num_images)]
    splits = [("train", "train", "train", "test")[n % 4] for n in range(num_images)]
    labels = pa.array([[label]] * num_images, pa.list_(pa.int8(), 1))
    columns = {"dicom_id": ids, "study_id": ids, "subject_id": ids, "split": splits, "image_path": ids}
    images = image_table(1, **{name: pa.array(values) for name, values in columns.items()}, labels=labels)
    return Collection("test", images, ("Edema",), images_root=Path(root))


def config(**settings: object) -> IngestConfig:
    source = ImageFolderSource(root=Path("/a"), label_csv=Path("/a/labels.csv"))
    return IngestConfig(source=source, **settings)


def plan(num_images: int = 2000, **settings: object) -> Plan:
    return make_plan(collection(num_images), config(**settings))


def test_shards_cut_each_split_and_blocks_cut_each_shard() -> None:
    planned = plan(2000, rows_per_shard=600)
    sizes = {shard.name: shard.num_images for shard in planned.shards}
    assert sizes == {
        "train-00000.parquet": 600, "train-00001.parquet": 600, "train-00002.parquet": 300, "test-00000.parquet": 500,
    }  # fmt: skip
    assert [block for shard in planned.shards for block in shard.blocks] == list(range(planned.num_blocks))
    lengths = [stop - start for start, stop in zip(planned.block_starts, planned.block_starts[1:], strict=False)]
    assert lengths == [256, 256, 88, 256, 256, 88, 256, 44, 256, 244]
    assert max(lengths) == IMAGES_PER_BLOCK
    assert planned.num_images([0, 2]) == 344


def test_the_order_is_shuffled_and_the_same_whatever_order_the_tables_have() -> None:
    forward = collection(400)
    backward = Collection("test", forward.images.take(pa.array(range(399, -1, -1))), ("Edema",), Path("/a"))
    plans = [make_plan(each, config()) for each in (forward, backward)]
    assert plans[0].images.equals(plans[1].images)
    assert plans[0].fingerprint == plans[1].fingerprint
    train = plans[0].images.filter(pc.equal(plans[0].images["split"], "train"))["dicom_id"].to_pylist()
    assert train != sorted(train, key=lambda name: int(name.split("-")[1]))


def test_labels_stay_with_their_image_in_collections_of_any_size() -> None:
    num = 140_000  # more than are put in order at once
    large = collection(num)
    labels = pa.array([None if n % 10 == 7 else [n % 3 - 1] for n in range(num)], pa.list_(pa.int8(), 1))
    at = large.images.schema.get_field_index("labels")
    large = replace(large, images=large.images.set_column(at, large.images.schema.field(at), labels))
    planned = make_plan(large, config()).images
    numbers = [int(name.removeprefix("image-")) for name in planned["dicom_id"].to_pylist()]
    assert sorted(numbers) == list(range(num))
    assert planned["labels"].to_pylist() == [None if n % 10 == 7 else [n % 3 - 1] for n in numbers]


def test_the_fingerprint_changes_with_what_changes_a_byte_and_not_with_where_things_lie() -> None:
    fingerprint = plan(40).fingerprint
    assert make_plan(collection(40, root="/elsewhere"), config(out=Path("/b"))).fingerprint == fingerprint
    others = [
        plan(41), plan(40, side_px=64), plan(40, fit="pad"), plan(40, rows_per_shard=7), plan(40, min_token_count=2),
        plan(40, missing_findings="drop"), make_plan(collection(40, label=0), config()),
        make_plan(replace(collection(40), report_language="de"), config()),
        make_plan(replace(collection(40), from_headers=("sex",)), config()),
    ]  # fmt: skip
    assert len({fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1


@pytest.mark.parametrize(("before", "now"), [("de", "en"), ("en", "de")])
def test_a_folder_of_reports_in_another_language_is_another_ingest(tmp_path: Path, before: str, now: str) -> None:
    plans = {name: make_plan(replace(collection(4), report_language=name), config()) for name in (before, now)}
    with Workspace(tmp_path).opened(plans[before]):
        pass
    with pytest.raises(RunFolderError, match="belongs to another ingest: report_language was"):
        Workspace(tmp_path).check(plans[now])


@pytest.mark.parametrize(
    ("side_px", "row_group_bytes", "rows"), [(32, 4 * 2**20, 4096), (256, 4 * 2**20, 64), (256, 4096, 1)]
)
def test_row_groups_stay_below_their_bytes(side_px: int, row_group_bytes: int, rows: int) -> None:
    assert plan(4, side_px=side_px, row_group_bytes=row_group_bytes).row_group_rows == rows


def test_a_block_is_one_row_group_of_an_aligned_table(tmp_path: Path) -> None:
    planned = plan(700)
    workspace = Workspace(tmp_path)
    write_aligned(workspace.plan_table, planned.images, planned.block_starts)
    start, stop = planned.block_starts[1:3]
    assert read_aligned(workspace.plan_table, 1).equals(planned.images.slice(start, stop - start))


def test_of_the_images_nothing_stays_in_memory_once_they_are_in_the_workspace(tmp_path: Path) -> None:
    planned = plan(700)
    assert planned.collection.images.get_total_buffer_size() < 100  # the offsets of no rows
    workspace = Workspace(tmp_path)
    with workspace.opened(planned) as stored:
        assert stored.images.get_total_buffer_size() < 100 < planned.images.get_total_buffer_size()
        assert stored.num_planned == 700
        assert workspace.columns("split", "dicom_id").equals(planned.images.select(["split", "dicom_id"]))


def test_folder_taken_by_another_ingest_since_it_was_checked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, alone_in = Workspace(tmp_path), plan_module.alone_in

    @contextmanager
    def waited_for(folder: Path, command: str) -> Iterator[None]:
        with monkeypatch.context() as first:
            first.setattr(plan_module, "alone_in", alone_in)
            with workspace.opened(plan(8, side_px=32)):
                pass
        with alone_in(folder, command):
            yield

    monkeypatch.setattr(plan_module, "alone_in", waited_for)
    refused = pytest.raises(RunFolderError, match="belongs to another ingest: side_px")
    with refused, workspace.opened(plan(8, side_px=64)):
        pass


def test_ingest_killed_before_its_plan_was_whole_goes_on(tmp_path: Path) -> None:
    workspace, planned = Workspace(tmp_path / "out"), plan(8)
    workspace.state.mkdir(parents=True)
    write_aligned(workspace.plan_table, planned.images, planned.block_starts)
    (workspace.state / ".partial-plan.json-12345678").touch()
    (workspace.out / ".lock").touch()
    with workspace.opened(planned):
        assert sorted(path.name for path in workspace.state.iterdir()) == ["plan.json", "plan.parquet"]

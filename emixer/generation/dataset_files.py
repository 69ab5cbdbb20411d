"""The dataset on disk: which rows stand in which Parquet file, what a row is, and writing a file whole or not at all.

    out/
      README.md            dataset card of the Hugging Face hub
      manifest.json        settings, checkpoint, files with checksums, counts
      contact_sheet.png
      data/train-00000-of-00074.parquet ...

A file's name and rows are a pure function of the layout, so a run that was killed finds what is finished by looking.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emixer.data.conditions import NO_CONDITIONS, Conditions
from emixer.data.labels import RESERVED_NAMES
from emixer.data.row_group_writer import RowGroupWriter
from emixer.errors import ConfigError
from emixer.files import is_partial, written_aside
from emixer.generation.encoding import ImageFormat, encode

DATA_FOLDER = "data"
_SPLIT = "train"
_METADATA_KEY = b"emixer"
_MAX_GROUP_BYTES = 300 * 10**6
_REPORT_BYTES = 1_000


@dataclass(frozen=True)
class Rows:
    """Rows [first, first + num) of the dataset."""

    first: int
    num: int

    @property
    def end(self) -> int:
        """The row after the last one."""
        return self.first + self.num

    def split(self, size: int) -> "list[Rows]":
        """Consecutive parts of `size` rows; the last may be shorter."""
        return [Rows(first, min(size, self.end - first)) for first in range(self.first, self.end, size)]


@dataclass(frozen=True)
class Layout:
    """How the rows of a dataset are spread over files and row groups."""

    num_rows: int
    rows_per_file: int
    rows_per_group: int

    @property
    def files(self) -> list[tuple[str, Rows]]:
        """Name and rows of each file, in order. Names as the hub writes them."""
        parts = Rows(0, self.num_rows).split(self.rows_per_file)
        return [(f"{_SPLIT}-{i:05d}-of-{len(parts):05d}.parquet", rows) for i, rows in enumerate(parts)]


@dataclass(frozen=True)
class RowFormat:
    """What one row is made of."""

    label_names: tuple[str, ...]
    seed: int
    image_format: ImageFormat
    conditions: Conditions = NO_CONDITIONS
    is_screened: bool = False
    """Whether columns say how many draws of each row were withheld (`redraws`), and why each was (`withheld_for`)."""

    def __post_init__(self) -> None:
        taken = sorted(set(self.label_names) & set(RESERVED_NAMES))
        if taken:
            raise ConfigError(
                f"The model has a label named {taken[0]!r}, which is the name of another column of datasets. "
                "Rename the label when you ingest."
            )

    def schema(self) -> pa.Schema:
        """Columns, with the feature types that the `datasets` library and the hub's viewer read from the metadata."""
        fields = [
            pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            pa.field("report", pa.string()),
            *(pa.field(name, pa.int8()) for name in self.label_names),
            *(pa.field(name, pa.string()) for name in self.conditions.names),
            pa.field("seed", pa.int64()),
            pa.field("index", pa.int64()),
            *([pa.field("redraws", pa.int8()), pa.field("withheld_for", pa.string())] if self.is_screened else []),
        ]
        features: dict[str, dict[str, str]] = {
            field.name: {"dtype": str(field.type), "_type": "Value"} for field in fields if field.name != "image"
        }
        features = {"image": {"_type": "Image"}, **features}
        return pa.schema(fields, metadata={b"huggingface": json.dumps({"info": {"features": features}}).encode()})

    def table(
        self, first_row: int, images_NHW: NDArray[np.uint8], reports: Sequence[str], labels_NY: NDArray[np.uint8],
        redraws_N: NDArray[np.int8] | None = None, withheld_for_N: NDArray[np.str_] | None = None,
    ) -> pa.Table:  # fmt: skip
        """Encodes the images and puts the columns together. labels_NY: with the columns of conditions behind them.
        redraws_N, withheld_for_N: of screened rows, None of others."""
        index_N = np.arange(first_row, first_row + len(reports))
        suffix = "jpg" if self.image_format == "jpeg" else self.image_format
        names = [f"{index:09d}.{suffix}" for index in index_N.tolist()]
        image = pa.StructArray.from_arrays(
            [pa.array(encode(images_NHW, self.image_format), pa.binary()), pa.array(names)], names=["bytes", "path"]
        )
        labels_NL, beside_NC = np.split(labels_NY, [len(self.label_names)], axis=1)
        labels = [pa.array(column.astype(np.int8)) for column in labels_NL.T]
        labels += [pa.array(values, pa.string()) for values in self.conditions.values_in_rows(beside_NC).values()]
        seed_N = np.full(len(index_N), self.seed, np.int64)
        columns = [image, pa.array(reports, pa.string()), *labels, pa.array(seed_N), pa.array(index_N)]
        if redraws_N is not None and withheld_for_N is not None:
            columns += [pa.array(redraws_N), pa.array([text or None for text in withheld_for_N.tolist()], pa.string())]
        return pa.Table.from_arrays(columns, schema=self.schema())


class FileWriter:
    """Appends tables of any length to the file of `rows`, in row groups. See `open_file`."""

    def __init__(self, groups: RowGroupWriter, rows: Rows) -> None:
        self._groups = groups
        self._rows = rows

    @property
    def next_row(self) -> int:
        """The row of the dataset that comes next."""
        return self._rows.first + self._groups.num_rows

    @property
    def is_full(self) -> bool:
        """Whether every row of the file was given."""
        return self.next_row == self._rows.end

    def write(self, table: pa.Table) -> None:
        """Adds the next rows; holds back less than one row group in memory."""
        index_N = table["index"].to_numpy()
        expected_N = np.arange(self.next_row, self.next_row + table.num_rows)
        assert np.array_equal(index_N, expected_N), "rows arrive in order, without gap or double"
        assert expected_N[-1] < self._rows.end, "a table never reaches into the next file"
        self._groups.write(table)


@contextmanager
def open_file(path: Path, rows: Rows, layout: Layout, row_format: RowFormat, fingerprint: str) -> Iterator[FileWriter]:
    """Yields a writer of `path`; the file appears whole when the block ends, or not at all.

    Raises StorageError when the disk is full.
    """
    schema = row_format.schema()
    mark = json.dumps({"fingerprint": fingerprint, "first_row": rows.first}).encode()
    schema = schema.with_metadata({**schema.metadata, _METADATA_KEY: mark})
    plain = ("image.bytes",)  # compressed already: neither a codec nor a dictionary nor min/max would be of use
    columns = ["image.bytes", "image.path", *(name for name in schema.names if name != "image")]
    others = [name for name in columns if name not in plain]
    with (
        written_aside(path) as aside,
        pq.ParquetWriter(
            aside,
            schema,
            compression=dict.fromkeys(others, "zstd") | dict.fromkeys(plain, "none"),
            use_dictionary=[name for name in others if name not in ("image.path", "index")],
            write_statistics=[name for name in others if name not in ("image.path", "report")],
        ) as parquet,
    ):
        groups = RowGroupWriter(parquet, layout.rows_per_group)
        writer = FileWriter(groups, rows)
        yield writer
        assert writer.is_full, "a file is closed when all its rows are there"
        groups.finish()


def is_finished(path: Path, rows: Rows, fingerprint: str) -> bool:
    """Whether `path` is a whole file with just these rows of the dataset with this fingerprint. Reads the footer."""
    try:
        metadata = pq.read_metadata(path)
        mark: dict[str, Any] = json.loads((metadata.metadata or {}).get(_METADATA_KEY, b"{}"))
    except (OSError, ValueError):  # pyarrow's errors of a damaged footer are ValueErrors
        return False
    return metadata.num_rows == rows.num and mark == {"fingerprint": fingerprint, "first_row": rows.first}


def unlisted_files(folder: Path, layout: Layout) -> list[str]:
    """Parquet files in the data folder that do not belong to this layout; `datasets` would read them along."""
    names = {name for name, _ in layout.files}
    found = [path for path in (folder / DATA_FOLDER).glob("*.parquet") if not is_partial(path)]
    return sorted(path.name for path in found if path.name not in names)


def check_layout(layout: Layout, batch_size: int, side_px: int) -> None:
    """Raises ConfigError when blocks, row groups and files do not nest, or a row group could pass 300 MB."""
    group, file = layout.rows_per_group, layout.rows_per_file
    for large, small, large_name, small_name in (
        (group, batch_size, "rows_per_group", "batch_size"),
        (file, group, "rows_per_file", "rows_per_group"),
    ):
        if large % small:
            nearest = max(1, round(large / small)) * small
            raise ConfigError(
                f"generate.{large_name}={large} is not a multiple of generate.{small_name}={small}. "
                f"Use e.g. {large_name}={nearest}."
            )
    row_bytes = side_px**2 + _REPORT_BYTES  # an image of pure noise does not compress
    if group * row_bytes > _MAX_GROUP_BYTES:
        most = max(1, _MAX_GROUP_BYTES // row_bytes // batch_size) * batch_size
        raise ConfigError(
            f"generate.rows_per_group={group} images of {side_px} px could make row groups of "
            f"{group * row_bytes / 1e6:.0f} MB; the hub's viewer reads at most {_MAX_GROUP_BYTES / 1e6:.0f} MB. "
            f"Use at most rows_per_group={most}."
        )

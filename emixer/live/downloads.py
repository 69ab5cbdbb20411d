"""Downloads of the shown pairs: a sheet as PNG, or Parquet with the columns of a generated dataset."""

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emixer.generation.dataset_files import RowFormat
from emixer.generation.sampler import Sampler
from emixer.live.draw_request import DrawRequest
from emixer.live.drawing import Drawn
from emixer.web.requests import RefusedError

FORMATS = ("png", "parquet")


@dataclass(frozen=True)
class Download:
    """A file and its media type."""

    content: bytes
    media_type: str


def download(sampler: Sampler, wanted: DrawRequest, drawn: Drawn, file_format: str) -> Download:
    """Make a download. file_format: one of FORMATS. Raises RefusedError for interpolated labels in Parquet, whose
    labels are 0 or 1."""
    if file_format == "png":
        return Download(_sheet(wanted, drawn), "image/png")
    if wanted.kind == "interpolation":
        raise RefusedError(
            422,
            "A dataset's labels are 0 or 1, so the steps between two sets of labels do not go into Parquet. Download "
            "the sheet as PNG.",
        )
    return Download(_parquet(sampler, wanted, drawn), "application/vnd.apache.parquet")


def _sheet(wanted: DrawRequest, drawn: Drawn) -> bytes:
    title = f"Synthetic, not for clinical use. EMIXER, seed {wanted.seed}"
    out = io.BytesIO()
    drawn.pairs.grid(drawn.columns, title, drawn.captions).save(out, "PNG")
    return out.getvalue()


def _parquet(sampler: Sampler, wanted: DrawRequest, drawn: Drawn) -> bytes:
    row_format = RowFormat(sampler.label_names, wanted.seed, "png", sampler.trained.spec.conditions)
    pairs = drawn.pairs
    vectors_NY = np.concatenate([pairs.labels.astype(np.uint8), sampler.columns_of(pairs)], axis=1)
    tables = []
    for place, row in enumerate(pairs.rows.tolist()):
        here = slice(place, place + 1)
        tables.append(row_format.table(row, pairs.images[here], pairs.reports[here], vectors_NY[here]))
    out = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), out, compression="zstd")
    return out.getvalue()

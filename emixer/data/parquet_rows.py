"""Rows of Parquet files by number, whatever the files and row groups they lie in."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emixer.errors import EmixerError


def rows_of(
    paths: Sequence[Path], columns: Sequence[str], rows: Sequence[int], damaged: Callable[[Path, str], EmixerError]
) -> pa.Table:
    """Those rows of the files, counted from the first of the first file, in the order given; rows behind the end are
    left out, and at least one must be there.

    Only row groups that hold one of them are read, and files behind the last are not opened. damaged: the error to
    raise for a file that cannot be read, of its path and why.
    """
    row_N = np.asarray(rows, np.int64)
    places, tables = [], []
    first = 0
    for path in paths:
        if first > row_N.max():
            break
        try:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    end = first + file.metadata.row_group(group).num_rows
                    here = np.flatnonzero((row_N >= first) & (row_N < end))
                    if len(here):
                        table = file.read_row_group(group, columns=list(columns))
                        tables.append(table.take(pa.array(row_N[here] - first)))
                        places.append(here)
                    first = end
        except (OSError, pa.ArrowException) as error:
            raise damaged(path, type(error).__name__) from error
    return pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(places)))).combine_chunks()

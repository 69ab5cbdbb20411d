"""Parquet files of row groups of one size, however long the tables are that rows come in."""

import pyarrow as pa
import pyarrow.parquet as pq


class RowGroupWriter:
    """Appends tables to one Parquet file, in row groups of `rows_per_group`; the last may be shorter."""

    def __init__(self, parquet: pq.ParquetWriter, rows_per_group: int) -> None:
        self._parquet = parquet
        self._rows_per_group = rows_per_group
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0
        self.num_rows = 0

    def write(self, table: pa.Table) -> None:
        """Adds rows, in the columns and types of the file; holds back less than one row group in memory.

        Raises ValueError when a column is missing or does not fit its type.
        """
        schema = self._parquet.schema
        self._waiting.append(table.select(schema.names).cast(schema))
        self._num_waiting += table.num_rows
        self.num_rows += table.num_rows
        if self._num_waiting < self._rows_per_group:
            return
        waiting = pa.concat_tables(self._waiting)
        whole = waiting.num_rows - waiting.num_rows % self._rows_per_group
        for first in range(0, whole, self._rows_per_group):
            self._write_group(waiting.slice(first, self._rows_per_group))
        rest = waiting.slice(whole)
        self._waiting, self._num_waiting = [rest], rest.num_rows

    def finish(self) -> None:
        """Writes the last, shorter row group; an empty one into a file without rows."""
        if self._num_waiting or not self.num_rows:
            self._write_group(pa.concat_tables([self._parquet.schema.empty_table(), *self._waiting]))
        self._waiting, self._num_waiting = [], 0

    def _write_group(self, table: pa.Table) -> None:
        self._parquet.write_table(table.combine_chunks(), row_group_size=self._rows_per_group)

"""Reading the CSV tables of a collection strictly: every problem names file, column and row, never a patient.

Rows are counted from 1, the header being row 1.
"""

import ast
import csv
import difflib
import gzip
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from emixer.data.ages import whole_years
from emixer.data.arrow_memory import release_unused
from emixer.data.schema import OLDEST_YEARS
from emixer.data.sorted_keys import sorted_rows
from emixer.errors import SourceError

_FIRST_ROW = 2  # of the data; the header is row 1
_KEYS_AT_ONCE = 65_536
"""Keys that are hashed together: a hash table takes 180 bytes a key, more than the keys themselves."""
_MAX_NAMES, _MAX_NAME_LENGTH = 40, 40
_SHOWN_LENGTH = 3
"""Of a cell: 2, N/A and yes, but hardly a name or an id."""
LABELS = "\0labels"
"""Name for a column of labels that have been read, beside those of a CSV, none of which is named so."""
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, as `surrogateescape` reads them."""
_UTF16 = ("\udcff\udcfe", "\udcfe\udcff")
"""The byte order marks of UTF-16, likewise."""
_NO_PATHS = {
    r"\\": "has backslashes; write paths with / instead",
    r"^(/|[A-Za-z]:)": "is an absolute path; write paths relative to ingest.source.root",
    r"(^|/)\.\.(/|$)|\x00": "is outside ingest.source.root; write paths relative to it",
}
"""What no image's path may have, and what to tell whoever wrote it."""
_SEXES = {"f": "F", "female": "F", "m": "M", "male": "M"}
SEX_EXPECTED, AGE_EXPECTED = "F, M, female or male", f"an age up to {OLDEST_YEARS} years"
"""What a remark says of cells that were not read."""
_LABELS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}


def read_header(path: Path) -> list[str]:
    """Column names of a CSV or CSV.GZ. Raises SourceError when it cannot be read or names a column twice."""
    try:
        with _opened(path) as file:
            header = next(csv.reader(file), [])
    except FileNotFoundError as error:
        raise SourceError(
            f"There is no table {path}. Check ingest.source.root and that the download is complete."
        ) from error
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error
    if not header:
        raise SourceError(f"{path} is empty. Expected a CSV table with a header.")
    if len(header) == 1:
        _require_commas(path, header[0])
    first: dict[str, int] = {}
    for place, name in enumerate(header, 1):
        if first.setdefault(name, place) != place:
            raise SourceError(
                f"{path}: columns {first[name]} and {place} have the same name. Column names, the first row, must be "
                "unique."
            )
    return header


def _require_commas(path: Path, header: str) -> None:
    """Raises SourceError when a header that has no comma is one of columns that something else separates."""
    found = next((separator for separator in _SEPARATORS if separator in header), None)
    if found is not None:
        raise SourceError(
            f"{path}: columns are separated by {_SEPARATORS[found]}, expected commas. Convert the table, e.g.: "
            'python -c "import csv, sys; csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, '
            f'delimiter={found!r}))" < OLD.csv > NEW.csv'
        )


def read_table(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pa.Table:
    """The named columns as trimmed text, blank cells null; without the optional columns that the table lacks.

    Raises SourceError for a missing column, a row of another length, or bytes that are not UTF-8.
    """
    header = read_header(path)
    require_columns(path, header, columns, optional)
    wanted = [*columns, *(name for name in optional if name in header and name not in columns)]
    ragged: list[Any] = []

    def note(row: Any) -> str:
        ragged.append(row)
        return "error"

    try:
        table = pa_csv.read_csv(
            path,
            # one thread, so that a bad row has a number
            read_options=pa_csv.ReadOptions(use_threads=False),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                include_columns=wanted,
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        if ragged:
            row = ragged[0]
            raise SourceError(
                f"{path}, row {row.number}: {row.actual_columns} columns, the header has {row.expected_columns}. "
                "Repair or download the table again."
            ) from None  # Arrow's message quotes the row
        raise _unreadable(path, error) from None
    table = _trimmed(table)
    release_unused()
    return table


def _trimmed(table: pa.Table) -> pa.Table:
    """The same without white space around cells: "P1 " would be another patient than "P1"."""
    for place, name in enumerate(table.column_names):
        trimmed = pc.utf8_trim_whitespace(table[name])
        if pc.any(pc.not_equal(pc.binary_length(trimmed), pc.binary_length(table[name]))).as_py():
            table = table.set_column(
                place, name, pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
            )
    return table


def require_columns(path: Path, header: Sequence[str], names: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Raises SourceError, with the columns there are and the nearest name, when a column is absent."""
    missing = next((name for name in names if name not in header), None)
    if missing is None:
        return
    _require_names(path, header, [missing, *names, *optional])
    near = difflib.get_close_matches(missing, header, n=1, cutoff=0.6)
    hint = f" Did you mean {_short(near[0])!r}?" if near else ""
    columns = ", ".join(map(_short, header[:_MAX_NAMES]))
    raise SourceError(f"{path} has no column {missing!r}. Its columns are: {columns}.{hint}")


def _require_names(path: Path, header: Sequence[str], names: Sequence[str]) -> None:
    """Raises SourceError when the first row has none of the names in whatever case: it may be a patient's, and must
    not be shown."""
    if not {name.lower() for name in names} & {name.lower() for name in header}:
        raise SourceError(
            f"{path} has no column {names[0]!r}, nor any other that is expected. If its first row holds data, insert a "
            "row of column names above it; otherwise check that the settings name its columns."
        )


def require_version(path: Path, versions: Mapping[str, Sequence[str]]) -> str:
    """The published version whose columns a table has. Raises SourceError that names the nearest and what it lacks."""
    header = read_header(path)
    missing = {version: [name for name in columns if name not in header] for version, columns in versions.items()}
    nearest = min(missing, key=lambda version: len(missing[version]))
    if missing[nearest]:
        raise SourceError(
            f"{path} is of an unknown version. The closest is {nearest}, but the table lacks "
            f"{', '.join(missing[nearest])}. Get that version, or use `emixer ingest image-folder` with the columns of "
            "this one."
        )
    return nearest


def find_table(root: Path, *patterns: str) -> Path:
    """The one file of a folder that fits the first pattern that any fits. Raises SourceError for none or several."""
    for pattern in patterns:
        found = sorted(root.glob(pattern))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise SourceError(f"{root} holds more than one table {pattern}: {names}. Keep the one of the images.")
        if found:
            return found[0]
    raise SourceError(f"There is no table {' or '.join(patterns)} in {root}. Check the folder and the download.")


def require_file(path: Path, setting: str) -> None:
    """Raises SourceError when the table that a setting names is not there."""
    if not path.is_file():
        raise SourceError(f"There is no table {path}. Check {setting}.")


def require_inside(path: Path, table: pa.Table, name: str) -> None:
    """Raises SourceError for an image's path that leaves the folder it is relative to."""
    for pattern, problem in _NO_PATHS.items():
        wrong = pc.match_substring_regex(table[name], pattern)
        if pc.any(wrong).as_py():
            raise SourceError(f"{path}, row {_first(wrong)}: {name} {problem}.")


def require_known_labels(path: Path, cells: pa.DictionaryArray, column: str, known: Collection[str]) -> None:
    """Raises SourceError for a cell of `label_lists` with a label that is not known."""
    strange = [i for i, names in enumerate(cells.dictionary.to_pylist()) if not set(names) <= set(known)]
    wrong = pa.chunked_array([pc.fill_null(pc.is_in(cells.indices, pa.array(strange, pa.int32())), False)])
    if pc.any(wrong).as_py():
        raise SourceError(
            f"{path}, row {_first(wrong)}: {column} has an unknown label. Known labels: {', '.join(known)}."
        )


def require_only(path: Path, columns: Sequence[str]) -> None:
    """Raises SourceError when the table has a column that is not expected: it may be a label nobody would see."""
    header = read_header(path)
    unknown = [name for name in header if name not in columns]
    if unknown:
        _require_names(path, header, columns)
        raise SourceError(
            f"{path} has an unknown column {_short(unknown[0])!r}. Expected exactly: {', '.join(columns)}."
        )


def require_present(path: Path, table: pa.Table, name: str) -> None:
    """Raises SourceError when a cell of a key column is blank."""
    if table[name].null_count:
        row = _first(pc.is_null(table[name]))
        raise SourceError(f"{path}, row {row}: {name} is blank. Every row needs one.")


def require_unique(path: Path, table: pa.Table, name: str) -> None:
    """Raises SourceError when a key stands in two rows."""
    require_present(path, table, name)
    order, is_same = sorted_rows(table[name])
    if is_same.any():
        twice = np.flatnonzero(is_same)
        first = twice[np.argmin(order[twice])]
        earlier, later = order[first : first + 2] + _FIRST_ROW
        raise SourceError(f"{path}: rows {earlier} and {later} have the same {name}. Each must be in one row only.")


def require_safe_ids(path: Path, table: pa.Table, name: str) -> None:
    """Raises SourceError for a blank id, or one that could not be part of a path."""
    require_present(path, table, name)
    wrong = pc.invert(pc.match_substring_regex(table[name], r"^[A-Za-z0-9][A-Za-z0-9._-]*$"))
    if pc.any(wrong).as_py():
        raise SourceError(
            f"{path}, row {_first(wrong)}: {name} is not an id (letters, digits, '.', '_' and '-'). "
            "Check that the columns are not shifted."
        )


def require_one_of(path: Path, table: pa.Table, name: str, allowed: Sequence[str]) -> None:
    """Raises SourceError for a value that is not allowed; null is let through."""
    wrong = pc.and_(pc.is_valid(table[name]), pc.invert(pc.is_in(table[name], pa.array(allowed, pa.string()))))
    if pc.any(wrong).as_py():
        row = _first(wrong)
        value = shown(table[name][row - _FIRST_ROW].as_py())
        raise SourceError(f"{path}, row {row}: {name} is {value}. Expected one of {', '.join(allowed)}.")


def label_vectors(path: Path, table: pa.Table, columns: Sequence[str]) -> pa.FixedSizeListArray:
    """Label columns as vectors of int8, blank cells null. Raises SourceError for any value but 1, 0, -1 and blank."""
    texts = pa.array(list(_LABELS), pa.string())
    numbers = np.array([*_LABELS.values(), 0], np.int8)
    values_NY = np.empty((table.num_rows, len(columns)), np.int8)
    is_blank_NY = np.empty((table.num_rows, len(columns)), bool)
    for y, name in enumerate(columns):
        found = pc.index_in(table[name], value_set=texts)
        wrong = pc.and_(pc.is_valid(table[name]), pc.is_null(found))
        if pc.any(wrong).as_py():
            row = _first(wrong)
            value = shown(table[name][row - _FIRST_ROW].as_py())
            raise SourceError(
                f"{path}, row {row}, column {name!r}: the label is {value}. Expected 1 (present), 0 (absent), "
                "-1 (uncertain) or blank (not mentioned)."
            )
        codes_N = pc.fill_null(found, len(_LABELS)).to_numpy()
        values_NY[:, y], is_blank_NY[:, y] = numbers[codes_N], codes_N == len(_LABELS)
    flat = pa.array(values_NY.ravel(), mask=is_blank_NY.ravel())
    return pa.FixedSizeListArray.from_arrays(flat, len(columns))


def label_lists(path: Path, table: pa.Table, column: str, separator: str | None) -> pa.DictionaryArray:
    """Cells that list labels, `A|B` or `['A', 'B']`, as lists of names; null for a blank cell and an empty list.

    Raises SourceError for a cell that opens a Python list and is none.
    """
    cells = table[column].combine_chunks().dictionary_encode()
    lists = [_listed(text, separator) for text in cells.dictionary.to_pylist()]
    if None in lists:
        wrong = pa.chunked_array([pc.equal(cells.indices, lists.index(None))])
        raise SourceError(
            f"{path}, row {_first(wrong)}, column {column!r}: not a readable list of labels. "
            "Expected e.g. ['cardiomegaly', 'nodule']."
        )
    listed = pa.DictionaryArray.from_arrays(cells.indices, pa.array(lists, pa.list_(pa.string())))
    return without(listed, [place for place, names in enumerate(lists) if not names])


def without(cells: pa.DictionaryArray, places: Sequence[int]) -> pa.DictionaryArray:
    """The same with null instead of the dictionary's values at `places`."""
    blank = pc.is_in(cells.indices, pa.array(places, cells.indices.type))
    indices = pc.if_else(blank, pa.scalar(None, cells.indices.type), cells.indices)
    return pa.DictionaryArray.from_arrays(indices, cells.dictionary)


def named_label_vectors(cells: pa.DictionaryArray, names: Sequence[str]) -> pa.Array:
    """Vectors of int8 from lists of names: 1 for a label that is named, 0 for one that is not, null for no list.

    What `names` does not know is left out.
    """
    place = {name: y for y, name in enumerate(names)}
    vectors_LY = np.zeros((len(cells.dictionary), len(names)), np.int8)
    for row, listed in zip(vectors_LY, cells.dictionary.to_pylist(), strict=True):
        row[[place[name] for name in listed if name in place]] = 1
    table = pa.FixedSizeListArray.from_arrays(pa.array(vectors_LY.ravel()), len(names))
    return table.take(cells.indices)


def _listed(text: str, separator: str | None) -> list[str] | None:
    """Names of one cell, each once and trimmed; None for what is not the list that it seems to be."""
    if text.startswith("["):
        try:
            names = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        if not all(isinstance(name, str) for name in names):
            return None
    else:
        names = text.split(separator) if separator else [text]
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def sexes(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """F or M of cells F, M, female and male, in whatever case; null for anything else."""
    return _read_each(texts, lambda text: _SEXES.get(text.lower()), pa.string())


def ages(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Years, int16, of cells as `whole_years` reads them; null for anything else."""
    return _read_each(texts, whole_years, pa.int16())


def unread_cells(column: str, expected: str, texts: pa.ChunkedArray, values: pa.ChunkedArray) -> dict[str, int]:
    """A remark that counts the cells of which `sexes` or `ages` made nothing; empty if there are none."""
    count = values.null_count - texts.null_count
    return {f"images whose {column!r} is not {expected}, so that it is unknown": count} if count else {}


def _read_each(texts: pa.ChunkedArray, read: Callable[[str], Any], kind: pa.DataType) -> pa.ChunkedArray:
    """What `read` makes of each cell that is not blank: each distinct text is read once."""
    cells = texts.combine_chunks().dictionary_encode()
    values = pa.array([read(text) for text in cells.dictionary.to_pylist()], kind)
    return pa.chunked_array([values.take(cells.indices)])


def whole_numbers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """int64 of cells of digits; null for anything else."""
    digits = pc.struct_field(pc.extract_regex(texts, r"^(?P<digits>\d{1,9})$"), "digits")
    return digits.cast(pa.int64())


def lookup(keys: pa.ChunkedArray, table_keys: pa.ChunkedArray) -> pa.Array:
    """Row of each key in another table, the first one; null where it has none."""
    rows = pa.nulls(len(keys), pa.int32())
    for start in range(0, len(table_keys), _KEYS_AT_ONCE):
        part = table_keys.slice(start, _KEYS_AT_ONCE).combine_chunks()
        found = pc.add(pc.index_in(keys, value_set=part).combine_chunks(), pa.scalar(start, pa.int32()))
        rows = pc.coalesce(rows, found)
    release_unused()
    return rows


def shown(value: str) -> str:
    """A cell's value as far as it may be shown: short ones only, since a shifted column could hold an id or text."""
    return repr(value) if len(value) <= _SHOWN_LENGTH else f"a text of {len(value)} characters"


def _short(name: str) -> str:
    """A column's name, or as much as shows that it is none."""
    return name if len(name) <= _MAX_NAME_LENGTH else f"{name[:_MAX_NAME_LENGTH]}..."


def _opened(path: Path, errors: str = "strict") -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="", errors=errors)
    return path.open(encoding="utf-8-sig", newline="", errors=errors)


def _first(mask: pa.ChunkedArray) -> int:
    return int(np.flatnonzero(mask.to_numpy())[0]) + _FIRST_ROW


def _unreadable(path: Path, error: Exception) -> SourceError:
    row, encoding = _first_not_utf8(path)
    if row:
        return SourceError(
            f"{path}, row {row}: the text is not UTF-8. Save the table as UTF-8, or convert it, e.g.: "
            f"iconv -f {encoding} -t UTF-8 OLD.csv > NEW.csv. If it was downloaded, check that it is complete."
        )
    return SourceError(
        f"{path} cannot be read as a UTF-8 CSV table ({type(error).__name__}). Check that the download is complete."
    )


def _first_not_utf8(path: Path) -> tuple[int, str]:
    """The first row with bytes that are not UTF-8, and what they may be instead; 0 where there is none, or the file
    cannot be read as rows of text."""
    try:
        with _opened(path, errors="surrogateescape") as file:
            for number, cells in enumerate(csv.reader(file), 1):
                text = "".join(cells)
                if not text.isascii() and _NOT_UTF8.search(text):
                    return number, "UTF-16" if text.startswith(_UTF16) else "CP1252"
    except (OSError, EOFError, csv.Error):
        pass
    return 0, ""

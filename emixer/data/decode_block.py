"""One block of the plan -> its images decoded and its reports as sentences. The work of one Ray task.

Every image of the block gets a row, in order, whatever is wrong with it; nothing here knows of other blocks.
"""

import errno
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from emixer.data.image_error import ImageError
from emixer.data.images import Fit, read_image
from emixer.data.plan import Workspace, read_aligned
from emixer.data.schema import ENGLISH, HEADER_COLUMNS
from emixer.data.sections import MissingFindings, Outcome, findings_of, findings_or_whole, whole_of_another_language
from emixer.data.text import tokenize
from emixer.errors import SourceError
from emixer.files import NotRegularError, read_regular, written_aside

_SENTENCES = pa.list_(pa.list_(pa.string()))
_COMPRESSION = {"image": "none", "pixel_hash": "none"}
_STORAGE_IS_AWAY = (errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN)
_MACHINE_LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""None of these says anything of the one file: it is not quarantined for what passes."""
_MISSING = "file is missing"
_TELLING_FILES = 8
"""So many that are all missing are not each missing by itself."""
_GO_ON = "then run the same command again: what was decoded is kept, and nothing was quarantined for this."


class _ImageRow(NamedTuple):
    """What a block holds of one image: its pixels, or the reason why there are none; what its file remarks and tells.

    Fields are named as the columns are.
    """

    image: bytes | None = None
    image_reason: str | None = None
    image_remark: str | None = None
    sex: str | None = None
    age_years: int | None = None
    view: str | None = None


@dataclass(frozen=True)
class BlockDecoder:
    """How images and reports are read: a report is text of the image table, or a file below reports_root.

    from_headers: columns that DICOM headers fill in.
    """

    workspace: Workspace
    images_root: Path
    reports_root: Path | None
    side_px: int
    fit: Fit
    missing_findings: MissingFindings
    has_reports: bool
    report_language: str = ENGLISH
    from_headers: tuple[str, ...] = ()

    def decode(self, block: int) -> int:
        """Writes the decoded block; returns its number of images.

        Raises StorageError when it cannot be written, and SourceError, with nothing written, when the storage of the
        collection is away: the block is decoded when the same ingest is run again.
        """
        planned = read_aligned(self.workspace.plan_table, block)
        paths = planned["image_path"].to_pylist()
        rows = [self._decode_image(path) for path in paths]
        if all(row.image_reason == _MISSING for row in rows):
            _require_storage(self.images_root, paths)
        hashes = [None if row.image is None else hashlib.blake2b(row.image, digest_size=16).digest() for row in rows]
        reports, sentences, outcomes = self._read_reports(planned)
        if self.reports_root is not None and all(outcome == Outcome.MISSING for outcome in outcomes):
            _require_storage(self.reports_root, [path for path in planned["report_path"].to_pylist() if path])
        columns = {
            "image": pa.array([row.image for row in rows], pa.binary(self.side_px**2)),
            "pixel_hash": pa.array(hashes, pa.binary(16)),
            "image_reason": pa.array([row.image_reason for row in rows], pa.string()),
            "image_remark": pa.array([row.image_remark for row in rows], pa.string()),
            "report": pa.array(reports, pa.string()),
            "sentences": pa.array(sentences, _SENTENCES),
            "outcome": pa.array(outcomes, pa.string()),
        }
        for name in self.from_headers:
            columns[name] = pa.array([getattr(row, name) for row in rows], HEADER_COLUMNS[name])
        table = pa.table(columns)
        with written_aside(self.workspace.block(block)) as aside:
            pq.write_table(table, aside, compression={name: _COMPRESSION.get(name, "zstd") for name in _leaves(table)})
        return len(rows)

    def _decode_image(self, path: str) -> _ImageRow:
        try:
            read = read_image(_read(self.images_root, path), self.side_px, self.fit)
        except ImageError as error:
            return _ImageRow(image_reason=error.reason)
        return _ImageRow(read.pixels_SS.tobytes(), None, read.remark, read.sex, read.age_years, read.view)

    def _read_reports(self, images: pa.Table) -> tuple[list[str | None], list[list[list[str]] | None], list[str]]:
        """Findings, their sentences, and the outcome of each image's report; each report is parsed once a block."""
        parsed: dict[tuple[str | None, str | None], tuple[str | None, list[list[str]] | None, Outcome]] = {}
        rows = []
        for key in zip(images["report_path"].to_pylist(), images["report"].to_pylist(), strict=True):
            if key not in parsed:
                text, outcome = self._findings(*key)
                readable = text if self.report_language == ENGLISH else None
                parsed[key] = text, None if readable is None else tokenize(readable), outcome
            rows.append(parsed[key])
        return [row[0] for row in rows], [row[1] for row in rows], [row[2].value for row in rows]

    def _findings(self, path: str | None, text: str | None) -> tuple[str | None, Outcome]:
        if not self.has_reports:
            return None, Outcome.NOT_GIVEN
        if self.report_language != ENGLISH:  # nothing reads it, so no image is left out for want of one
            return whole_of_another_language(text or "")
        if text is not None:
            return findings_or_whole(text, self.missing_findings)
        if path is None or self.reports_root is None:
            return None, Outcome.MISSING
        try:
            content = read_regular(self.reports_root / path)
            return findings_of(content.decode("utf-8-sig"), self.missing_findings)
        except UnicodeDecodeError:
            return None, Outcome.NOT_UTF8
        except NotRegularError:
            return None, Outcome.NOT_REGULAR
        except OSError as error:
            _raise_if_passing(error, self.reports_root)
            return None, Outcome.MISSING


def _read(root: Path, path: str) -> bytes:
    try:
        return read_regular(root / path)
    except FileNotFoundError as error:
        raise ImageError(_MISSING) from error
    except NotRegularError as error:
        raise ImageError(f"not a regular file ({error.kind})") from error
    except OSError as error:
        _raise_if_passing(error, root)
        raise ImageError(f"file cannot be read ({error.strerror or type(error).__name__})") from error


def _raise_if_passing(error: OSError, root: Path) -> None:
    """Raises SourceError for what concerns the storage or the machine and not the file."""
    if error.errno in _STORAGE_IS_AWAY:
        raise _away(root, os.strerror(error.errno)) from error
    if error.errno in _MACHINE_LACKS:
        raise SourceError(
            f"Files under {root} cannot be read for now ({os.strerror(error.errno)}). Free memory, or raise the limit "
            f"of open files (`ulimit -n`) on the machines of the ingest, {_GO_ON}"
        ) from error


def _require_storage(root: Path, paths: Sequence[str]) -> None:
    """For files that are all missing: raises SourceError if the folders that they lie in are missing too, or empty as a
    mount point is without its storage. Of a collection that is only there in part, some folder is."""
    if len(paths) < _TELLING_FILES:
        return
    outermost = {root / Path(path).parts[0] if len(Path(path).parts) > 1 else root for path in paths}
    if not any(_holds_anything(folder) for folder in outermost):
        raise _away(root, "there is nothing where its files should be")


def _holds_anything(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def _away(root: Path, why: str) -> SourceError:
    return SourceError(
        f"{root} is not available ({why}). Check that it is there, and mounted on every machine of the ingest, {_GO_ON}"
    )


def _leaves(table: pa.Table) -> list[str]:
    """Column paths as Parquet names them."""
    return [f"{name}.list.element.list.element" if name == "sentences" else name for name in table.column_names]

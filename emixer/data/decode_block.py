"""One block of the plan -> its images decoded and its reports as sentences. The work of one Ray task.

Every image of the block gets a row, in order, whatever is wrong with it; nothing here knows of other blocks.
"""

import hashlib
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
from emixer.files import NotRegularError, read_regular, written_aside

_SENTENCES = pa.list_(pa.list_(pa.string()))
_COMPRESSION = {"image": "none", "pixel_hash": "none"}


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
        """Writes the decoded block; returns its number of images. Raises StorageError when it cannot be written."""
        planned = read_aligned(self.workspace.plan_table, block)
        rows = [self._decode_image(path) for path in planned["image_path"].to_pylist()]
        hashes = [None if row.image is None else hashlib.blake2b(row.image, digest_size=16).digest() for row in rows]
        reports, sentences, outcomes = self._read_reports(planned)
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
            read = read_image(_read(self.images_root / path), self.side_px, self.fit)
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
        except OSError:
            return None, Outcome.MISSING


def _read(path: Path) -> bytes:
    try:
        return read_regular(path)
    except FileNotFoundError as error:
        raise ImageError("file is missing") from error
    except NotRegularError as error:
        raise ImageError(f"not a regular file ({error.kind})") from error
    except OSError as error:
        raise ImageError(f"file cannot be read ({error.strerror or type(error).__name__})") from error


def _leaves(table: pa.Table) -> list[str]:
    """Column paths as Parquet names them."""
    return [f"{name}.list.element.list.element" if name == "sentences" else name for name in table.column_names]

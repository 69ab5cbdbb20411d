"""One block of the plan -> its images decoded and its reports as sentences. The work of one Ray task.

Every image of the block gets a row, in order, whatever is wrong with it; nothing here knows of other blocks.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from emixer.data.image_error import ImageError
from emixer.data.images import Fit, read_image
from emixer.data.plan import Workspace, read_aligned
from emixer.data.schema import ENGLISH
from emixer.data.sections import MissingFindings, Outcome, findings_of, findings_or_whole, whole_of_another_language
from emixer.data.text import tokenize
from emixer.files import NotRegularError, read_regular, written_aside

_SENTENCES = pa.list_(pa.list_(pa.string()))
_COMPRESSION = {"image": "none", "pixel_hash": "none"}


@dataclass(frozen=True)
class BlockDecoder:
    """How images and reports are read: a report is text of the image table, or a file below reports_root."""

    workspace: Workspace
    images_root: Path
    reports_root: Path | None
    side_px: int
    fit: Fit
    missing_findings: MissingFindings
    has_reports: bool
    report_language: str = ENGLISH

    def decode(self, block: int) -> int:
        """Writes the decoded block; returns its number of images. Raises StorageError when it cannot be written."""
        planned = read_aligned(self.workspace.plan_table, block)
        images, reasons, remarks = self._decode_images(planned["image_path"].to_pylist())
        hashes = [None if image is None else hashlib.blake2b(image, digest_size=16).digest() for image in images]
        reports, sentences, outcomes = self._read_reports(planned)
        columns = {
            "image": pa.array(images, pa.binary(self.side_px**2)),
            "pixel_hash": pa.array(hashes, pa.binary(16)),
            "image_reason": pa.array(reasons, pa.string()),
            "image_remark": pa.array(remarks, pa.string()),
            "report": pa.array(reports, pa.string()),
            "sentences": pa.array(sentences, _SENTENCES),
            "outcome": pa.array(outcomes, pa.string()),
        }
        table = pa.table(columns)
        with written_aside(self.workspace.block(block)) as aside:
            pq.write_table(table, aside, compression={name: _COMPRESSION.get(name, "zstd") for name in _leaves(table)})
        return len(images)

    def _decode_images(self, paths: list[str]) -> tuple[list[bytes | None], list[str | None], list[str | None]]:
        """Pixels, or the reason why there are none, and what the files remark."""
        images: list[bytes | None] = []
        reasons: list[str | None] = []
        remarks: list[str | None] = []
        for path in paths:
            try:
                image = read_image(_read(self.images_root / path), self.side_px, self.fit)
                images.append(image.pixels_SS.tobytes())
                reasons.append(None)
                remarks.append(image.remark)
            except ImageError as error:
                images.append(None)
                reasons.append(error.reason)
                remarks.append(None)
        return images, reasons, remarks

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
        if text is not None and self.report_language != ENGLISH:
            return whole_of_another_language(text)
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

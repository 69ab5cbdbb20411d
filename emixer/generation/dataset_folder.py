"""The folder of a dataset: what of a plan is there, what is missing, and what is written beside the rows."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emixer.errors import RunFolderError
from emixer.files import remove_partials, sha256_of, write_bytes, write_text
from emixer.generation.card import CARD_NAME, dataset_card
from emixer.generation.contact_sheet import CaptionedImage, contact_sheet
from emixer.generation.dataset_files import DATA_FOLDER, FileWriter, Rows, is_finished, open_file, unlisted_files
from emixer.generation.generation_plan import GenerationPlan
from emixer.generation.manifest import (
    MANIFEST_NAME,
    begin_manifest,
    finish_manifest,
    read_manifest,
    reopen_manifest,
    require_same,
)
from emixer.generation.screening import count_reasons
from emixer.generation.training_data import TrainingData

logger = logging.getLogger(__name__)

_SHEET_IMAGES = 12


@dataclass(frozen=True)
class DatasetFolder:
    """A folder that the dataset of a plan is being written to, or was."""

    path: Path
    plan: GenerationPlan

    @classmethod
    def of(cls, path: Path, plan: GenerationPlan) -> Self:
        """Touches nothing. Raises RunFolderError when the folder belongs to another dataset, or holds anything else."""
        existing = read_manifest(path)
        if existing is not None:
            require_same(existing, plan.settings, path)
            found = unlisted_files(path, plan.layout)
            if found:
                raise RunFolderError(
                    f"{path / DATA_FOLDER} holds {len(found)} Parquet file(s) that are not of this dataset, e.g. "
                    f"{found[0]}; whoever opens the folder would read them along. Choose a new folder, or move them "
                    "away."
                )
        return cls(path, plan)

    @property
    def data(self) -> Path:
        """Where the Parquet files are."""
        return self.path / DATA_FOLDER

    def missing_files(self) -> list[tuple[str, Rows]]:
        """Files that are not there, or not whole, or not of this dataset."""
        mark = self.plan.fingerprint
        return [(name, rows) for name, rows in self.plan.layout.files if not is_finished(self.data / name, rows, mark)]

    def drop_damaged(self) -> None:
        """Deletes files that are not what the manifest of the finished dataset says, so that they are made again; else
        the next manifest would vouch for them. Reads all bytes."""
        listed = {file["name"]: file["sha256"] for file in (read_manifest(self.path) or {}).get("files", [])}
        for name, _ in self.plan.layout.files:
            path, expected = self.data / name, listed.get(f"{DATA_FOLDER}/{name}")
            if expected is not None and path.exists() and not _has_digest(path, expected):
                logger.warning("%s is not what %s says of it: its rows are generated again.", path, MANIFEST_NAME)
                reopen_manifest(self.path)
                path.unlink()

    def begin(self) -> None:
        """Claims the folder, and clears away what a killed process left half-written."""
        begin_manifest(self.path, self.plan.settings)
        reopen_manifest(self.path)  # of a finished dataset, a file of which was deleted
        self.data.mkdir(parents=True, exist_ok=True)
        remove_partials(self.data)

    def open_file(self, name: str, rows: Rows) -> AbstractContextManager[FileWriter]:
        """See `dataset_files.open_file`."""
        plan = self.plan
        return open_file(self.data / name, rows, plan.layout, plan.row_format, plan.fingerprint)

    def finish(self, screen: Mapping[str, Any] | None) -> dict[str, Any]:
        """Writes the manifest, which it returns, and the contact sheet of the complete dataset; the card too, unless
        there is one, which its owner may have edited.

        screen: by what pairs were judged; None: they were not.
        """
        label_counts, condition_counts = self.plan.counts()
        about: dict[str, Any] = {
            "label_counts": label_counts, "trained_on": TrainingData.of(self.plan.trained).to_json()
        }  # fmt: skip
        if condition_counts:
            about |= {"conditions": asdict(self.plan.row_format.conditions), "condition_counts": condition_counts}
        if screen is not None:
            about |= {"audit": {**screen, **self._withheld()}}
        manifest = finish_manifest(self.path, self.plan.settings, self.plan.layout, about)
        if not (self.path / CARD_NAME).exists():
            write_text(self.path / CARD_NAME, dataset_card(self.plan, manifest))
        write_bytes(self.path / "contact_sheet.png", self._contact_sheet())
        return manifest

    def _withheld(self) -> dict[str, Any]:
        """What the screen kept out, from two columns of the files: the same however often it was resumed."""
        columns = ["redraws", "withheld_for"]
        told = pa.concat_tables(pq.read_table(self.data / name, columns=columns) for name, _ in self.plan.layout.files)
        rows_by_redraws = np.bincount(told["redraws"].to_numpy())
        return {
            "withheld": int((rows_by_redraws * np.arange(len(rows_by_redraws))).sum()),
            "rows_redrawn": int(rows_by_redraws[1:].sum()),
            "rows_by_redraws": rows_by_redraws.tolist(),
            "withheld_by_reason": dict(sorted(count_reasons(told["withheld_for"].drop_null().to_pylist()).items())),
        }

    def _contact_sheet(self) -> bytes:
        name, _ = self.plan.layout.files[0]
        group = pq.ParquetFile(self.data / name).read_row_group(0).slice(0, _SHEET_IMAGES)
        images = [CaptionedImage(row["image"]["bytes"], self._caption(row), row["report"]) for row in group.to_pylist()]
        title = f"Synthetic, not for diagnosis: the first {len(images)} of {self.plan.layout.num_rows:,} pairs"
        return contact_sheet(images, title)

    def _caption(self, row: Mapping[str, Any]) -> list[str]:
        row_format = self.plan.row_format
        known = [row[name] for name in row_format.conditions.names if row[name]]
        return [*(name for name in row_format.label_names if row[name]), *known]


def _has_digest(path: Path, expected: str) -> bool:
    try:
        return sha256_of(path) == expected
    except OSError:  # of a bad block
        return False

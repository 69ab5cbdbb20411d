"""Finished datasets, as `emixer generate` leaves them, with pairs chosen by a test."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emixer.data.conditions import NO_CONDITIONS, Conditions
from emixer.generation.dataset_files import DATA_FOLDER, Layout, RowFormat, open_file
from emixer.generation.manifest import begin_manifest, fingerprint, finish_manifest

_ROWS_PER_FILE = 64


def write_pairs(
    folder: Path, image_NHW: NDArray[np.uint8], reports: Sequence[str], labels_NY: NDArray[np.uint8],
    names: tuple[str, ...], settings: Mapping[str, Any], image_format: Literal["png", "jpeg"] = "png",
    conditions: Conditions = NO_CONDITIONS,
) -> Path:  # fmt: skip
    """Write a dataset in files of 64 rows. settings: for the manifest. labels_NY: labels, then condition columns."""
    layout, row_format = Layout(len(image_NHW), _ROWS_PER_FILE, 16), RowFormat(names, 0, image_format, conditions)
    begin_manifest(folder, dict(settings))
    for file, part in layout.files:
        where = slice(part.first, part.end)
        path = folder / DATA_FOLDER / file
        with open_file(path, part, layout, row_format, fingerprint(dict(settings))) as writer:
            writer.write(row_format.table(part.first, image_NHW[where], reports[where], labels_NY[where]))
    known = {"conditions": asdict(conditions)} if conditions.names else {}
    finish_manifest(folder, dict(settings), layout, {"label_counts": dict.fromkeys(names, 1)} | known)
    return folder

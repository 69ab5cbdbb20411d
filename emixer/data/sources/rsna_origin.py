"""Which image of NIH ChestX-ray14 each image of the RSNA challenge is, from the mapping that RSNA publishes.

    pneumonia-challenge-dataset-mappings_2018.json   [{"subset_img_id": RSNA's id, "img_id": "00000001_000.png", ...}]

The first eight digits of NIH's name are the patient. Source: Shih et al. 2019, https://doi.org/10.1148/ryai.2019180041.
"""

import json
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from emixer.data.sources.tables import lookup
from emixer.errors import SourceError

_RSNA, _NIH = "subset_img_id", "img_id"
_NAME = r"^(?P<image>0*(?P<patient>\d+)_\d{3})(?:\.png)?$"


class Origin(NamedTuple):
    """Of each image: its name in NIH's tables and lists, and its patient as in NIH's tables."""

    names: pa.Array
    patients: pa.Array


def read_origin(path: Path, images: pa.ChunkedArray) -> Origin:
    """The origins of images. Raises SourceError for what is not that mapping, or does not know all of them."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        pairs = [(entry[_RSNA], entry[_NIH]) for entry in entries]
        rsna, nih = (pa.chunked_array([pa.array(column, pa.string())]) for column in zip(*pairs, strict=True))
    except FileNotFoundError as error:
        raise SourceError(f"There is no file {path}. Check ingest.source.nih_mapping.") from error
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise _is_no_mapping(path) from error
    parts = pc.extract_regex(nih, _NAME)
    if parts.null_count or pc.count_distinct(rsna).as_py() < len(rsna):
        raise _is_no_mapping(path)
    rows = lookup(images, rsna)
    if rows.null_count:
        raise SourceError(
            f"{path} does not have {rows.null_count:,} of the {len(rows):,} images. Download it and the challenge's "
            "tables again."
        )
    found = parts.take(rows).combine_chunks()
    names = pc.binary_join_element_wise(pc.struct_field(found, "image"), ".png", "")
    return Origin(names, pc.struct_field(found, "patient"))


def _is_no_mapping(path: Path) -> SourceError:
    return SourceError(
        f"{path} is not RSNA's mapping. Expected a JSON list of objects, each with {_RSNA!r} and {_NIH!r}, as "
        "pneumonia-challenge-dataset-mappings_2018.json."
    )

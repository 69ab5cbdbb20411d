"""The last step of the pipeline: pixels and token ids to rows of the dataset. Imports no torch.

Shapes: N rows, H = W side [px], S sentences, W words, Y labels and columns of conditions.
"""

from typing import Any

import pyarrow as pa
import ray
from numpy.typing import NDArray

from emixer.data.vocabulary import Vocabulary
from emixer.generation.dataset_files import RowFormat


def encode_rows(drawn: dict[str, NDArray[Any]], row_format: RowFormat, vocabulary: Vocabulary) -> pa.Table:
    """`drawn` holds index (N), image uint8 (N, H, W), words int32 (N, S, W), labels uint8 (N, Y) and, of screened rows,
    redraws int8 (N) and withheld_for text (N)."""
    reports = vocabulary.decode(drawn["words"])
    first_row = int(drawn["index"][0])
    return row_format.table(
        first_row, drawn["image"], reports, drawn["labels"], drawn.get("redraws"), drawn.get("withheld_for")
    )


def encode_rows_with(drawn: dict[str, NDArray[Any]], shared: "ray.ObjectRef[tuple[RowFormat, Vocabulary]]") -> pa.Table:
    """`encode_rows` as a task of Ray Data, whose further arguments are in the object store."""
    return encode_rows(drawn, *ray.get(shared))

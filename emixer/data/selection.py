"""Which images are kept, decided once over the whole collection from the decoded blocks.

1. An image that could not be decoded is left out, stage "image".
2. An image whose report has no usable text is left out, stage "report", unless missing_findings is keep-without-report:
   then it stays without a report, and is listed all the same.
3. Of images with identical pixels in the shards one stays, stage "duplicate" for the others: one of test before one of
   validate before one of train (so that no test image is in train), then the first id in alphabetical order.

An image of which its file remarks something (annotation burnt in) stays, and is listed at stage "image".

Images are read as four small columns: 400,000 images are some 30 MB.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emixer.data.arrow_memory import release_unused
from emixer.data.plan import Plan, Workspace, read_columns, write_aligned
from emixer.data.sections import MissingFindings, Outcome
from emixer.data.sorted_keys import first_rows, repeated_rows

_USABLE = (Outcome.FINDINGS, Outcome.IMPRESSION, Outcome.LAST_PARAGRAPH, Outcome.WHOLE_TEXT, Outcome.OTHER_LANGUAGE)
_KEEP_ORDER = ("test", "validate", "train")
_COLUMNS = ["pixel_hash", "image_reason", "image_remark", "outcome"]


def decide(plan: Plan, workspace: Workspace, missing_findings: MissingFindings) -> None:
    """Writes selection.parquet: keep, stage, reason, outcome and counts_report of each image of the plan.

    counts_report marks the one image of each train study through which its report counts for the vocabulary.
    """
    with ThreadPoolExecutor(8) as pool:
        blocks = pool.map(lambda i: read_columns(workspace.block(i), _COLUMNS), range(plan.num_blocks))
        decoded = pa.concat_tables(blocks)
    release_unused()  # what the threads have left
    images = workspace.columns("dicom_id", "study_id", "split")
    selection = judge(images, decoded, missing_findings)
    write_aligned(workspace.selection, selection, plan.block_starts)


def judge(images: pa.Table, decoded: pa.Table, missing_findings: MissingFindings) -> pa.Table:
    """The rules above. images: dicom_id, study_id and split of the plan's; decoded: pixel_hash, image_reason,
    image_remark and outcome, row for row."""
    columns = {name: decoded[name].combine_chunks() for name in _COLUMNS}
    outcome, remark, image_reason = columns["outcome"], columns["image_remark"], columns["image_reason"]
    broken = pc.is_valid(image_reason)
    has_text = pc.is_in(outcome, pa.array([*_USABLE, Outcome.NOT_GIVEN], pa.string()))
    without_text = pc.and_not(pc.invert(broken), has_text)
    dropped = pc.and_(without_text, missing_findings != "keep-without-report")
    original = _original_split(images, columns["pixel_hash"], pc.invert(pc.or_(broken, dropped)))
    duplicate = pc.is_valid(original)
    keep = pc.invert(pc.or_(pc.or_(broken, dropped), duplicate))
    cases = pa.StructArray.from_arrays([broken, duplicate, dropped, without_text, pc.is_valid(remark)], names="abcde")
    reasons = [
        image_reason,
        pc.binary_join_element_wise("same pixels as another image, which is in ", original, ""),
        outcome,
        pc.binary_join_element_wise(
            pc.if_else(without_text, outcome, None),
            "image kept without it",
            remark,
            "; ",
            null_handling="skip",
        ),
        pc.binary_join_element_wise(remark, "; image kept", ""),
    ]
    stages = [pa.scalar(stage) for stage in ("image", "duplicate", "report", "report", "image")]
    return pa.table(
        {
            "keep": keep,
            "stage": pc.case_when(cases, *stages),
            "reason": pc.case_when(cases, *reasons),
            "outcome": outcome,
            "counts_report": _counts_report(images, keep, outcome),
        }
    )


def _original_split(images: pa.Table, pixel_hash: pa.Array, candidate: pa.Array) -> pa.Array:
    """For each image that has to go as a duplicate: the split of the image that stays; null for those that stay."""
    rows = np.flatnonzero(candidate.to_numpy(zero_copy_only=False))
    rows = rows[repeated_rows(pixel_hash.take(rows))]
    few = images.select(["split", "dicom_id"]).take(rows)
    rank = pc.index_in(few["split"], value_set=pa.array(_KEEP_ORDER))
    keys = pa.table({"rank": rank, "dicom_id": few["dicom_id"]})
    order = rows[pc.sort_indices(keys, [("rank", "ascending"), ("dicom_id", "ascending")]).to_numpy()]
    codes = pixel_hash.take(order).dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    place = np.full(images.num_rows, -1)
    place[order] = order[first[codes]]
    place[order[first]] = -1
    return images["split"].combine_chunks().take(pa.array(place, mask=place < 0))


def _counts_report(images: pa.Table, keep: pa.Array, outcome: pa.Array) -> pa.Array:
    """True for the first image of each train study whose report is part of the shards."""
    of_train = pc.equal(images["split"].combine_chunks(), "train")
    counts = pc.and_(pc.and_(keep, of_train), pc.is_in(outcome, pa.array(_USABLE, pa.string())))
    rows = np.flatnonzero(counts.to_numpy(zero_copy_only=False))
    counted = np.zeros(images.num_rows, bool)
    counted[rows[first_rows(images["study_id"].take(rows))]] = True
    return pa.array(counted)

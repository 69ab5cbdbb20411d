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
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from emixer.data.plan import Plan, Workspace, write_aligned
from emixer.data.sections import MissingFindings, Outcome

_USABLE = (Outcome.FINDINGS, Outcome.IMPRESSION, Outcome.LAST_PARAGRAPH, Outcome.WHOLE_TEXT, Outcome.OTHER_LANGUAGE)
_KEEP_ORDER = {"test": 0, "validate": 1, "train": 2}
_COLUMNS = ["pixel_hash", "image_reason", "image_remark", "outcome"]


def decide(plan: Plan, workspace: Workspace, missing_findings: MissingFindings) -> None:
    """Writes selection.parquet: keep, stage, reason, outcome and counts_report of each image of the plan.

    counts_report marks the one image of each train study through which its report counts for the vocabulary.
    """
    with ThreadPoolExecutor(8) as pool:
        blocks = pool.map(lambda i: pq.read_table(workspace.block(i), columns=_COLUMNS), range(plan.num_blocks))
        decoded = pa.concat_tables(blocks)
    selection = judge(plan.images, decoded, missing_findings)
    write_aligned(workspace.selection, selection, plan.block_starts)


def judge(images: pa.Table, decoded: pa.Table, missing_findings: MissingFindings) -> pa.Table:
    """The rules above. images: the plan's; decoded: pixel_hash, image_reason, image_remark and outcome, row for row."""
    table = images.select(["dicom_id", "study_id", "split"]).to_pandas()
    table["pixel_hash"] = decoded["pixel_hash"].to_pandas()
    outcome = decoded["outcome"].to_pandas()
    image_reason = decoded["image_reason"].to_pandas()
    image_remark = decoded["image_remark"].to_pandas()

    broken = image_reason.notna()
    without_text = ~broken & ~outcome.isin([*_USABLE, Outcome.NOT_GIVEN])
    dropped = without_text & (missing_findings != "keep-without-report")
    original = _original_split(table[~broken & ~dropped])
    duplicate = original.notna().reindex(table.index, fill_value=False)

    remarked = image_remark.notna() & ~without_text & ~duplicate
    stage = np.select([broken | remarked, without_text, duplicate], ["image", "report", "duplicate"], "")
    reason = image_reason.where(broken, outcome.where(without_text, ""))
    reason = reason.mask(without_text & ~dropped, reason + "; image kept without it")
    reason = reason.mask(duplicate, "same pixels as another image, which is in " + original.reindex(table.index))
    reason = reason.mask(remarked, image_remark + "; image kept")
    keep = ~broken & ~dropped & ~duplicate

    countable = table[keep & (table["split"] == "train") & outcome.isin(_USABLE)]
    counted = ~countable["study_id"].duplicated()
    listed = stage != ""
    return pa.table(
        {
            "keep": pa.array(keep),
            "stage": pa.array(stage.astype(object), pa.string(), mask=~listed),
            "reason": pa.array(reason.to_numpy(object), pa.string(), mask=~listed),
            "outcome": pa.array(outcome, pa.string()),
            "counts_report": pa.array(counted.reindex(table.index, fill_value=False)),
        }
    )


def _original_split(candidates: pd.DataFrame) -> pd.Series:
    """For each image that has to go as a duplicate: the split of the image that stays; missing for those that stay."""
    rank = candidates["split"].map(_KEEP_ORDER)
    ordered = candidates.assign(rank=rank).sort_values(["rank", "dicom_id"], kind="stable")
    first = ordered.groupby("pixel_hash", sort=False)["split"].transform("first")
    return first[ordered["pixel_hash"].duplicated()]

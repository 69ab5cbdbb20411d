"""From measured images and reports to the figures of an audit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emixer.audit.balance import Groups, make_groups, uneven_remarks
from emixer.audit.critic import image_critic, real_logits
from emixer.audit.images import (
    Distances,
    FlaggedImages,
    any_of,
    by_label,
    duplicates,
    find_near_images,
    image_figures,
    share_of,
)
from emixer.audit.matching import SPACES, Matches, Side
from emixer.audit.membership import membership_auc
from emixer.audit.verdict import checks, verdict
from emixer.audit.work import Search
from emixer.config import Config
from emixer.data.loader import fixed_binary_view
from emixer.evaluation.features import Network
from emixer.evaluation.spread import spread_rows
from emixer.generation.trained_model import TrainedModel
from emixer.progress import Progress
from emixer.stages.audit.attributes import attribute_figures
from emixer.stages.audit.control import NUM_MEASURES, control_searches, measured_and_matched
from emixer.stages.audit.reports import AuditedReports
from emixer.stages.audit.sides import GeneratedSide, RealSide, codes

_MEMBERS = 4_000
"""Maximum number of images on each side for membership inference."""
_BATCH = 64
"""Fewest images that the critic is asked about at a time: row groups have a few of them each."""
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Audited:
    """The three sides of an audit, and the networks that measure them."""

    generated: GeneratedSide
    train: RealSide
    held_out: RealSide
    labels: tuple[str, ...]
    network: Network
    trained: TrainedModel | None
    kept: Path


@dataclass(frozen=True)
class Closest:
    """The generated images nearest to training images, nearest first."""

    rows: Rows
    train_rows: Rows
    spaces: tuple[str, ...]
    """Space in which each training image was found."""


def findings(config: Config, audited: Audited) -> tuple[dict[str, Any], Closest]:
    """Content of audit.json, and the pairs that the page shows. Needs a Ray connection."""
    level = config.audit.false_alarm / NUM_MEASURES
    train_codes, held_out_codes = codes(audited.train.subjects(), audited.held_out.subjects())
    groups = make_groups(train_codes, held_out_codes)
    matches = _matches(config, audited, train_codes, held_out_codes, groups)
    distances = Distances(*(matches[name] for name in (
        "generated_to_train", "generated_to_held_out", "held_out_to_train", "held_out_to_held_out"
    )))  # fmt: skip
    near = find_near_images(distances, level)
    labels_NY = audited.generated.labels(audited.labels)
    digests = audited.generated.measured.digests()
    images: dict[str, Any] = image_figures(distances, near, groups, level) | {
        "flagged": share_of(near.flagged),
        "copies": int(near.copies.sum()),
        "labels": by_label(near.flagged, labels_NY, audited.labels),
        "duplicates": {
            "identical": len(digests) - len(np.unique(digests)),
            "near": duplicates(matches["generated_pairs"], matches["train_pairs"], config.audit.false_alarm),
        },
    }
    reports = AuditedReports.read(config, audited.generated, audited.train, audited.held_out, train_codes, level)
    membership = _membership(config, audited, matches)
    members, others = _asked(audited)
    attributes = attribute_figures(
        audited.generated,
        (
            (audited.train, members, matches["members_to_generated"]),
            (audited.held_out, others, matches["others_to_generated"]),
        ),
        config.audit.resamples,
    )
    found = checks(images, reports.figures, reports.traces, membership, level, attributes)
    reasons = {f"image_{space}": near.spaces[space].flagged for space in SPACES} | reports.reasons
    flagged, copies = any_of(list(reasons.values())), near.copies | reports.copies
    index_N = audited.generated.index()
    content = {
        "verdict": verdict(found),
        "summary": " ".join([_summary(flagged, copies), *reports.remarks]),
        "checks": [check.to_json() for check in found],
        "false_alarm": config.audit.false_alarm,
        "level": level,
        "images": images,
        "reports": reports.figures,
        "traces": reports.traces,
        "membership": membership,
        "attributes": attributes,
        "withhold": [
            {"index": int(index_N[row]), "reasons": [name for name, is_so in reasons.items() if is_so[row]]}
            for row in np.flatnonzero(flagged)
        ],
        "remarks": [*uneven_remarks(train_codes, held_out_codes), *reports.remarks],
    }  # fmt: skip
    closest = _closest(distances, near, config.audit.pairs)
    content["closest"] = [
        {"index": int(index_N[row]), "flagged": bool(flagged[row]), "copy": bool(copies[row])} | where
        for row, where in zip(closest.rows, _nearness(closest, distances, near), strict=True)
    ]
    return content, closest


def _nearness(closest: Closest, distances: Distances, near: FlaggedImages) -> list[dict[str, Any]]:
    """How near each of the pairs is to its training image."""
    of_train = distances.generated_to_train
    return [
        {
            "pixel_distance": float(of_train.pixel_distance[row]),
            "feature_distance": float(of_train.feature_distance[row]),
            "closeness": float(near.closeness_N[row]),
            "nearest_by": space,
        }
        for row, space in zip(closest.rows, closest.spaces, strict=True)
    ]


def _matches(
    config: Config, audited: Audited, train_codes: Rows, held_out_codes: Rows, groups: Groups | None
) -> dict[str, Matches]:
    """Measure all images, then search for the nearest."""
    everything = [*audited.train.files, *audited.held_out.files, *audited.generated.files]
    searches = partial(_searches, config, audited, train_codes, held_out_codes, groups)
    return measured_and_matched(config.audit, everything, audited.network, searches, audited.kept)


def _searches(
    config: Config, audited: Audited, train_codes: Rows, held_out_codes: Rows, groups: Groups | None
) -> dict[str, Search]:
    train, held_out, generated = audited.train.measured, audited.held_out.measured, audited.generated.measured
    all_train, all_held_out, all_generated = (np.arange(len(side)) for side in (train, held_out, generated))
    made = Side(generated, all_generated)
    grouped: tuple[tuple[int, Rows | None], tuple[int, Rows | None]] = ((0, None), (0, None))
    if groups is not None:
        grouped = (groups.num_train, groups.train), (groups.num_held_out, groups.held_out)
    num = min(len(train), len(generated), config.audit.duplicate_rows)
    some_train, some_generated = spread_rows(len(train), num), spread_rows(len(generated), num)
    pairs_of_train = Side(train, some_train, train_codes[some_train])
    pairs_of_generated = Side(generated, some_generated, some_generated)
    members, others = _asked(audited)
    return {
        "generated_to_train": Search(made, Side(train, all_train, None, *grouped[0])),
        "generated_to_held_out": Search(made, Side(held_out, all_held_out, None, *grouped[1])),
        **control_searches(train, held_out, held_out_codes),
        "train_pairs": Search(pairs_of_train, pairs_of_train),
        "generated_pairs": Search(pairs_of_generated, pairs_of_generated),
        "members_to_generated": Search(Side(train, members), made),
        "others_to_generated": Search(Side(held_out, others), made),
    }


def _asked(audited: Audited) -> tuple[Rows, Rows]:
    """Rows of equally many training and held-out images for membership inference."""
    num = min(len(audited.train), len(audited.held_out), _MEMBERS)
    return spread_rows(len(audited.train), num), spread_rows(len(audited.held_out), num)


def _membership(config: Config, audited: Audited, matches: dict[str, Matches]) -> dict[str, Any]:
    members, others = _asked(audited)
    subjects = [*audited.train.subjects()[members].tolist(), *audited.held_out.subjects()[others].tolist()]
    scores = {
        space: (-matches["members_to_generated"].distance(space), -matches["others_to_generated"].distance(space))
        for space in SPACES
    }
    trained = audited.trained
    critic = None if trained is None else image_critic(trained.path, trained.config, trained.spec)
    if critic is not None and trained is not None:
        num_columns = trained.spec.num_labels + trained.spec.num_conditions
        with Progress("membership", len(members) + len(others), "images") as progress:
            scores["discriminator"] = tuple(
                real_logits(critic, _batches(_images(side, rows), progress), trained.config.channels, num_columns)
                for side, rows in ((audited.train, members), (audited.held_out, others))
            )  # type: ignore[assignment]
    figures: dict[str, Any] = {}
    for name, (member_N, other_M) in scores.items():
        auc, between = membership_auc(member_N, other_M, subjects, config.audit.resamples)
        figures[name] = {"auc": auc, "interval": list(between), "images_per_side": len(members)}
    return figures


def _images(side: RealSide, rows: Rows) -> Iterator[NDArray[np.uint8]]:
    """Gray values of the rows (ascending), file by file and row group by row group."""
    side_px, first = side.shards.info.side_px, 0
    for file in side.files:
        with pq.ParquetFile(file.path) as parquet:
            for group in range(parquet.num_row_groups):
                num = parquet.metadata.row_group(group).num_rows
                wanted = rows[(rows >= first) & (rows < first + num)] - first
                first += num
                if len(wanted):
                    column = parquet.read_row_group(group, columns=["image"])["image"]
                    yield np.array(fixed_binary_view(column, np.uint8, (side_px, side_px))[wanted])


def _batches(parts: Iterable[NDArray[np.uint8]], progress: Progress) -> Iterator[NDArray[np.uint8]]:
    """Joins small parts, and counts the images that were dealt with."""
    waiting: list[NDArray[np.uint8]] = []

    def joined() -> Iterator[NDArray[np.uint8]]:
        batch = np.concatenate(waiting)
        waiting.clear()
        yield batch
        progress.advance(len(batch))

    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= _BATCH:
            yield from joined()
    if waiting:
        yield from joined()


def _closest(distances: Distances, near: FlaggedImages, num: int) -> Closest:
    rows = np.argsort(near.closeness_N, kind="stable")[:num]
    matches = distances.generated_to_train
    spaces = tuple(SPACES[space] for space in near.closest_space_N[rows])
    train_rows = np.array([matches.row(space)[row] for row, space in zip(rows, spaces, strict=True)], np.int64)
    return Closest(rows, train_rows, spaces)


def _summary(flagged: NDArray[np.bool_], copies: NDArray[np.bool_]) -> str:
    rows, copied = int(flagged.sum()), int(copies.sum())
    what = f"{copied:,} of them copy training data" if copied else "none is a plain copy"
    return f"{rows:,} of {len(flagged):,} rows are to be withheld; {what}." if rows else "No row is to be withheld."

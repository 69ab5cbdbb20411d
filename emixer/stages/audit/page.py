"""From the content of an audit to its page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emixer.audit.matching import SPACES
from emixer.audit.page import AuditPage, CheckRow, ClosePair, Table
from emixer.config import Config
from emixer.data.loader import fixed_binary_view
from emixer.data.parquet_rows import rows_of
from emixer.data.row_groups import unreadable_shard
from emixer.gallery.page import Facts, Pair
from emixer.generation.stored_pairs import read_stored_pairs
from emixer.stages.audit.findings import Audited, Closest
from emixer.stages.audit.sides import RealSide


def page_of(config: Config, audited: Audited, content: Mapping[str, Any], closest: Closest) -> AuditPage:
    """Build the page. content: of audit.json. Reads the closest pairs, and training pairs only if they are shown."""
    return AuditPage(
        title=f"Privacy audit: {audited.generated.dataset.name}",
        passed=content["verdict"] == "pass",
        has_copies=any(entry["copy"] for entry in content["closest"]),
        summary=content["summary"],
        remarks=content["remarks"],
        checks=[_check(check) for check in content["checks"]],
        pairs=_pairs(config, audited, content["closest"], closest),
        tables=[
            table
            for table in (
                _distances(content),
                _labels(content),
                _reports(content),
                _members(content),
                _attributes(content),
            )
            if table
        ],
        facts=_facts(content),
    )


def _check(check: Mapping[str, Any]) -> CheckRow:
    between = "" if check["interval"] is None else _between(check["interval"])
    return CheckRow(check["what"], f"{check['value']:.4g}", between, f"{check['limit']:.4g}", check["passed"])


def _pairs(config: Config, audited: Audited, listed: Sequence[Mapping[str, Any]], closest: Closest) -> list[ClosePair]:
    made = audited.generated
    names = [file.path.relative_to(made.dataset).as_posix() for file in made.files]
    stored = read_stored_pairs(made.dataset, names, audited.labels, closest.rows.tolist())
    train_rows = closest.train_rows.tolist()
    of_train = _real_pairs(audited.train, train_rows) if config.audit.show_real else [None] * len(train_rows)
    pairs = []
    for place, (entry, real) in enumerate(zip(listed, of_train, strict=True)):
        mark = "a copy" if entry["copy"] else "flagged" if entry["flagged"] else "not flagged"
        note = (
            f"closeness {entry['closeness']:.2f} by {entry['nearest_by']}; distance {entry['pixel_distance']:.3f} by "
            f"pixels, {entry['feature_distance']:.3g} by features"
        )
        generated = Pair(stored.images_NHW[place], stored.reports[place])
        pairs.append(ClosePair(f"Row {entry['index']:,}: {mark}", note, generated, real))
    return pairs


def _real_pairs(side: RealSide, rows: Sequence[int]) -> list[Pair]:
    """Raises ShardError when a file is damaged."""
    table = rows_of([file.path for file in side.files], ["image", "report"], rows, unreadable_shard)
    side_px = side.files[0].side_px
    images_NHW = fixed_binary_view(table["image"], np.uint8, (side_px, side_px))
    return list(map(Pair, images_NHW, table["report"].fill_null("").to_pylist()))


def _distances(content: Mapping[str, Any]) -> Table:
    rows = []
    for space in SPACES:
        found = content["images"][space]
        for to, target in (("to_train", "training"), ("to_held_out", "held-out")):
            for kind, name in (("generated", "generated"), ("held_out", "held-out")):
                values = found[to][kind]
                rows.append((
                    f"{space}: {name} to the nearest {target} image",
                    *(f"{values[key]:.4g}" for key in ("least", "percent_1", "percent_5", "median")),
                ))  # fmt: skip
    return Table(
        "Distances between images",
        "A distance to the nearest of N images falls with N: compare generated with held-out images to the same "
        "images, not training with held-out ones.",
        ("Distance", "least", "1 %", "5 %", "median"), tuple(rows),
    )  # fmt: skip


def _labels(content: Mapping[str, Any]) -> Table | None:
    rows = tuple(
        (name.replace("_", " "), f"{found['of']:,}", f"{found['count']:,}", f"{found['share']:.2%}",
         _percents(found["interval"]))
        for name, found in content["images"]["labels"].items()
    )  # fmt: skip
    note = f"By chance {2 * content['level']:.2%} of images are flagged, of any label."
    columns = ("Label", "images", "flagged", "share", "95 % interval")
    return Table("Flagged images by label", note, columns, rows) if rows else None


def _reports(content: Mapping[str, Any]) -> Table:
    rows = [] if content["reports"] is None else _repeated(content["reports"])
    rows += [
        (f"reports with {kind}", *(_share(found[side]) for side in ("generated", "held_out")))
        for kind, found in content["traces"].items()
    ]
    note = (
        "A sequence points to one patient when no other patient's training reports hold it. Stock sentences do not, "
        "and chance coincidences are as frequent in held-out reports."
    )
    return Table("Reports", note, ("Figure", "generated", "held-out"), tuple(rows))


def _share(found: Mapping[str, Any] | None) -> str:
    return "no reports" if found is None else f"{found['share']:.2%}"


def _repeated(reports: Mapping[str, Any]) -> list[tuple[str, ...]]:
    sides = [reports[kind] for kind in ("generated", "held_out")]
    names = {
        "shared_sequences": "word sequences that stand in any training report",
        "identifying_sequences_percent_99": "sequences that point to one patient, 99th percentile of reports",
        "identifying_sequences_most": "... most in one report",
        "longest_span_words_percent_99": "words of the longest such stretch, 99th percentile of reports",
        "longest_span_words": "... longest of all",
    }
    return [(name, *(f"{side[key]:.4g}" for side in sides)) for key, name in names.items()]


def _members(content: Mapping[str, Any]) -> Table:
    rows = tuple(
        (f"by {name}", f"{found['auc']:.3f}", _between(found["interval"]), f"{found['images_per_side']:,}")
        for name, found in content["membership"].items()
    )
    note = (
        "Area under the curve of an attacker who tells training from held-out images; 0.5 is guessing. By pixels and "
        "by features, he has the dataset; by the discriminator, the run folder, of which the dataset holds nothing."
    )
    return Table("Membership inference", note, ("Attack", "AUC", "95 % interval", "images a side"), rows)


def _attributes(content: Mapping[str, Any]) -> Table:
    rows: list[tuple[str, ...]] = []
    for name, figures in content["attributes"].items():
        if "not_measured" in figures:
            rows.append((f"{name}: not measured; {figures['not_measured']}", *("",) * 4))
            continue
        for space, found in figures.items():
            sides = [f"{found[s]['right']:.1%} ({found[s]['baseline']:.1%})" for s in ("train", "held_out")]
            rows.append((f"{name}, by {space}", *sides, f"{found['disclosed']:+.3f}", _between(found["interval"])))
    note = (
        "An attacker who holds a person's image guesses that the person has what the nearest generated image was made "
        "for. Right guesses, and in brackets what always guessing the most frequent value of the dataset gets right. "
        "Disclosed: how much more the image adds for people whom the model was trained on than for held-out ones."
    )
    columns = ("Attribute", "training people", "held-out people", "disclosed", "95 % interval")
    return Table("Attribute disclosure", note, columns, tuple(rows))


def _facts(content: Mapping[str, Any]) -> list[Facts]:
    near = content["images"]["duplicates"]["near"]
    return [
        Facts("Compared", (
            ("Generated pairs", f"{content['dataset']['rows']:,}"),
            ("Training images", f"{content['real']['train']:,}"),
            ("Held-out images", f"{content['real']['held_out']:,}"),
            ("Collection", ", ".join(content["real"]["collection"])),
            ("Shards", content["real"]["shards_digest"]),
            ("Found to be the model's training data by", content["real"]["checked_by"]),
            ("Features", f"{content['encoder']['name']}, {content['encoder']['resized']}"),
        )),
        Facts("Within the dataset", (
            ("Identical to another image", f"{content['images']['duplicates']['identical']:,}"),
            ("Near-duplicates", f"{near['share']:.2%} of {near['of']:,}"),
            ("As near among training images", f"{near['expected']:.2%}"),
        )),
        Facts("Flagging", (
            ("False alarms in all", f"{content['false_alarm']:.2%}"),
            ("By each of pixels, features, reports", f"{content['level']:.2%}"),
            ("Rows to withhold", f"{len(content['withhold']):,}"),
        )),
    ]  # fmt: skip


def _between(interval: Sequence[float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def _percents(interval: Sequence[float]) -> str:
    return f"{interval[0]:.2%} to {interval[1]:.2%}"

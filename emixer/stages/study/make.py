"""`emixer study make`: shards and a generated dataset -> the folder of a reader study."""

import csv
import io
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emixer import files
from emixer._version import __version__
from emixer.config import Config
from emixer.config.study import StudyConfig
from emixer.reader_study.design import orders
from emixer.reader_study.folder import (
    IMAGES_FOLDER,
    KEY_NAME,
    READERS_NAME,
    SCORES_NAME,
    StudyFacts,
    require_free,
    write_facts,
    write_key,
    write_private,
)
from emixer.reader_study.images import plain_png
from emixer.reader_study.store import NewReader, Store
from emixer.stages.result import StageResult
from emixer.stages.study.plan import StudyPlan, study_plan
from emixer.web.access import digest_of, new_token

_NAME_BYTES = 8


@dataclass(frozen=True)
class MadeStudy(StageResult):
    """A study that is ready for its readers."""

    folder: Path
    facts: StudyFacts
    left_out: tuple[str, ...]
    """Labels with too few pairs on one side."""

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"study": self.folder, "key": self.folder / KEY_NAME, "readers": self.folder / READERS_NAME}

    @property
    def figures(self) -> Mapping[str, Any]:
        facts = self.facts
        return {
            "pairs": facts.pairs,
            "repeats": facts.repeats,
            "readers": facts.readers,
            "showings": facts.showings,
            "side_px": facts.side_px,
            "strata": facts.strata,
            "left_out": self.left_out,
        }

    def __str__(self) -> str:
        facts = self.facts
        lines = [f"Study of {facts.pairs} real and {facts.pairs} generated pairs, {facts.side_px} px: {self.folder}"]
        lines.append(f"  each reader scores {facts.showings} pairs, {facts.repeats} of them repeats")
        lines += _balance_in_words(facts.strata, self.left_out)
        lines.append(f"  {KEY_NAME} says which are real; {READERS_NAME} has the tokens of {facts.readers} readers.")
        lines.append("  Both are readable only by you: keep it that way. The images and reports are subject to the")
        lines.append("  terms of their collection: show them only to readers whom these allow.")
        lines.append(f"Next: emixer study serve --study {self.folder}")
        return "\n".join(lines)


def run(config: Config) -> MadeStudy:
    """Write the study's folder atomically.

    Raises ConfigError, ShardError or RunFolderError when inputs are missing or do not fit; RunFolderError too when
    another process makes a study there.
    """
    plan = study_plan(config)
    pairs = plan.read()
    items = _new_names(2 * plan.settings.pairs)
    facts = _facts(plan)
    images = [image_HW for side in pairs for image_HW in side.images_PHW]
    reports = dict(zip(items, [report for side in pairs for report in side.reports], strict=True))
    with files.alone_at(plan.folder, "study make"), files.written_aside(plan.folder) as aside:
        require_free(plan.folder)  # another may have made one since the plan, and it may be served already
        (aside / IMAGES_FOLDER).mkdir(parents=True)
        # sorted by random name: in the order drawn, the first half would be the real ones
        for item, image_HW in sorted(zip(items, images, strict=True), key=lambda named: named[0]):
            (aside / IMAGES_FOLDER / f"{item}.png").write_bytes(plain_png(image_HW))
        write_facts(aside, facts, {item: reports[item] for item in sorted(items)})
        write_key(aside, facts.study_id, plan.key(items))
        _write_readers(aside, facts.study_id, items, plan.settings)
    return MadeStudy(plan.folder, facts, plan.left_out)


def describe(config: Config) -> str:
    """Describe what `run` would do. Writes nothing."""
    plan = study_plan(config)
    settings, (real, generated) = plan.settings, plan.sides
    lines = [
        f"Would write {plan.folder}:",
        f"  {settings.pairs} of {len(real):,} real pairs in the {settings.split} split of {plan.shards.folder}",
        f"  {settings.pairs} of {len(generated):,} generated pairs in {plan.dataset}",
        *_balance_in_words(plan.strata, plan.left_out),
        f"  for {settings.readers} readers, {2 * settings.pairs + settings.repeats} pairs each",
    ]
    return "\n".join(lines)


def _facts(plan: StudyPlan) -> StudyFacts:
    settings = plan.settings
    return StudyFacts(
        study_id=secrets.token_hex(_NAME_BYTES), title=settings.title, side_px=plan.shards.info.side_px,
        pairs=settings.pairs, repeats=settings.repeats, readers=settings.readers, strata=plan.strata,
        seed=settings.seed, shards=str(plan.shards.folder), dataset=str(plan.dataset), split=settings.split,
        sources=plan.sides[0].sources, package_version=__version__,
    )  # fmt: skip


def _write_readers(folder: Path, study_id: str, items: Sequence[str], settings: StudyConfig) -> None:
    """Write the database, with digests of the tokens, and readers.csv, with the tokens themselves."""
    tokens = [new_token() for _ in range(settings.readers)]
    width = len(str(settings.readers))
    names = [f"reader-{number:0{width}d}" for number in range(1, settings.readers + 1)]
    # not from settings.seed: whoever knows that, and it is written down, could compute which places are real
    seen = orders(2 * settings.pairs, settings.repeats, settings.readers, seed=secrets.randbits(128))
    readers = []
    for name, token, order in zip(names, tokens, seen, strict=True):
        places = zip(_new_names(len(order)), (items[index] for index in order), strict=True)
        readers.append(NewReader(name, digest_of(token), tuple(places)))
    Store.create(folder / SCORES_NAME, study_id, readers)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("reader", "token"), *zip(names, tokens, strict=True)])
    write_private(folder / READERS_NAME, out.getvalue())


def _new_names(num: int) -> list[str]:
    """Distinct random names."""
    names: dict[str, None] = {}
    while len(names) < num:
        names[secrets.token_hex(_NAME_BYTES)] = None
    return list(names)


def _balance_in_words(strata: dict[str, int], left_out: Sequence[str]) -> list[str]:
    counted = ", ".join(f"{name} {count}" for name, count in strata.items())
    lines = [f"  real and generated pairs per label: {counted} each"]
    if left_out:
        lines.append(f"  labels with too few pairs, not used: {', '.join(left_out)}")
    return lines

"""`emixer generate --audit`: from the shards to the screen that samplers judge by."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emixer.audit.matching import Matches, Side
from emixer.audit.measured import Network
from emixer.audit.screen import REASONS, Screen
from emixer.config import Config
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError
from emixer.generation.trained_model import TrainedModel
from emixer.stages.audit.control import (
    NUM_MEASURES,
    check_control,
    control_searches,
    encoder_remarks,
    find_encoder,
    measured_and_matched,
)
from emixer.stages.audit.reports import read_report_control
from emixer.stages.audit.sides import HELD_OUT, TRAIN, RealSide, codes

_MEASURED = Path("audit", "measured")
"""In the run folder, not in that of the dataset, which may be given away: it holds small pictures of real images."""


@dataclass(frozen=True)
class ScreenPlan:
    """What was checked before anything is measured."""

    shards: ShardSet
    network: Network
    measured: Path
    remarks: tuple[str, ...]

    @property
    def num_train(self) -> int:
        """Images among which copies are looked for."""
        return sum(self.shards.num_rows(split) for split in TRAIN)

    @property
    def num_held_out(self) -> int:
        """Images of the control."""
        return sum(self.shards.num_rows(split) for split in HELD_OUT)

    def settings(self, config: Config) -> dict[str, Any]:
        """All that decides what is flagged, as plain values. Other shards have another digest, wherever they are."""
        files = sorted((file.split, file.name, file.sha256) for file in self.shards.shard_files)
        return {
            "audit_shards_digest": hashlib.sha256(repr(files).encode()).hexdigest()[:16],
            "audit_encoder": f"{self.network.name} {hashlib.sha256(self.network.identity.encode()).hexdigest()[:16]}",
            "audit_false_alarm": config.audit.false_alarm,
            "audit_span_words": config.audit.span_words,
            "audit_reasons": ", ".join(REASONS),
        }


def check_screen(config: Config, trained: TrainedModel) -> ScreenPlan | None:
    """None where nothing is to be judged. Raises ConfigError or ShardError when it cannot be."""
    settings = config.generate
    if settings.audit is None:
        return None
    shards = ShardSet.open(settings.audit)
    _check_trained_on(shards, trained)
    check_control(shards, config.audit.false_alarm)
    run = trained.path.parents[1]
    encoder = find_encoder(config, run)
    measured = (config.audit.measured or run / _MEASURED).resolve()
    return ScreenPlan(shards, Network(encoder), measured, tuple(encoder_remarks(encoder, shards)))


def make_screen(config: Config, plan: ScreenPlan) -> tuple[Screen, list[str]]:
    """Measures the control, unless that was done; with remarks for people. Needs a Ray connection."""
    level = config.audit.false_alarm / NUM_MEASURES
    identity = plan.network.identity
    train, held_out = (RealSide.of(plan.shards, splits, identity, plan.measured) for splits in (TRAIN, HELD_OUT))
    train_codes, held_out_codes = codes(train.subjects(), held_out.subjects())
    control, _ = read_report_control(config, train, held_out, train_codes, level)
    matches = _match_control(config, plan, train, held_out, held_out_codes)
    screen = Screen(
        train=Side(train.measured, np.arange(len(train))),
        held_out=Side(held_out.measured, np.arange(len(held_out))),
        held_out_to_train=matches["held_out_to_train"],
        held_out_to_held_out=matches["held_out_to_held_out"],
        reports=None if isinstance(control, str) else control,
        network=plan.network,
        level=level,
    )
    return screen, [*plan.remarks, *([control] if isinstance(control, str) else [])]


def describe_screen(screen: Screen, plan: ScreenPlan, remarks: Sequence[str]) -> dict[str, Any]:
    """For manifest.json, from where the card has it."""
    return {
        "train": plan.num_train,
        "held_out": plan.num_held_out,
        "encoder": plan.network.name,
        "thresholds": dict(screen.thresholds),
        "remarks": list(remarks),
    }


def _match_control(
    config: Config, plan: ScreenPlan, train: RealSide, held_out: RealSide, held_out_codes: NDArray[np.int64]
) -> dict[str, Matches]:
    return measured_and_matched(
        config.audit, [*train.files, *held_out.files], plan.network,
        lambda: control_searches(train.measured, held_out.measured, held_out_codes), plan.measured / "matches",
    )  # fmt: skip


def _check_trained_on(shards: ShardSet, trained: TrainedModel) -> None:
    """The vocabulary is made of the training reports: hardly any other shards have the same."""
    spec, side_px = trained.spec, trained.config.side_px
    same = shards.info.side_px == side_px and shards.info.label_names == spec.label_names
    if not same or tuple(shards.vocabulary.tokens) != spec.tokens:
        raise ConfigError(
            f"generate.audit={shards.folder} is not what the run was trained on: its images have "
            f"{shards.info.side_px} px, its vocabulary {len(shards.vocabulary.tokens):,} tokens; the model has "
            f"{side_px} px and {len(spec.tokens):,} tokens. Give --audit the run's shards: copies are looked for among "
            f"their training images."
        )

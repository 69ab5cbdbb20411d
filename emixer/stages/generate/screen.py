"""`emixer generate --audit`: from the shards to the screen that samplers judge by."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from emixer.audit.matching import Matches, Side
from emixer.audit.reports import COPIED_REPORT
from emixer.audit.screen import REASONS, Screen
from emixer.config import Config
from emixer.config.model import ChestEncoderConfig
from emixer.data.shards import ShardSet
from emixer.evaluation.features import Network
from emixer.generation.trained_model import TrainedModel
from emixer.generation.training_data import TrainingData
from emixer.stages.audit.control import (
    NUM_MEASURES,
    check_control,
    control_searches,
    encoder_remarks,
    find_encoder,
    measured_and_matched,
    measured_in,
)
from emixer.stages.audit.reports import read_report_control, why_no_control
from emixer.stages.audit.sides import HELD_OUT, TRAIN, RealSide, codes
from emixer.stages.audit.training_data import Checked, remarks_on, require_trained_on, shards_digest


@dataclass(frozen=True)
class ScreenPlan:
    """What was checked before anything is measured."""

    shards: ShardSet
    network: Network
    measured: Path
    remarks: tuple[str, ...]
    compares_reports: bool
    """Whether reports are compared with training reports."""

    @classmethod
    def of(
        cls, config: Config, shards: ShardSet, encoder: ChestEncoderConfig | None, measured: Path, checked: Checked
    ) -> Self:
        """Plan for these shards, which are enough of a control for images. encoder: None for random weights."""
        network = Network(encoder)
        missing = why_no_control(*_sides(shards, network, measured), _level(config))
        remarks = [*remarks_on(checked), *encoder_remarks(encoder, shards), *([] if missing is None else [missing])]
        return cls(shards, network, measured, tuple(remarks), compares_reports=missing is None)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why a pair may be withheld."""
        return tuple(reason for reason in REASONS if reason != COPIED_REPORT or self.compares_reports)

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
        return {
            "audit_shards_digest": shards_digest(self.shards),
            "audit_encoder": f"{self.network.name} {hashlib.sha256(self.network.identity.encode()).hexdigest()[:16]}",
            "audit_false_alarm": config.audit.false_alarm,
            "audit_span_words": config.audit.span_words,
            "audit_reasons": ", ".join(self.reasons),
        }


def check_screen(config: Config, trained: TrainedModel) -> ScreenPlan | None:
    """None where nothing is to be judged. Raises ConfigError or ShardError when it cannot be."""
    settings = config.generate
    if settings.audit is None:
        return None
    shards = ShardSet.open(settings.audit)
    checked = require_trained_on(shards, TrainingData.of(trained), "generate.audit")
    check_control(shards, config.audit.false_alarm)
    encoder = find_encoder(config, trained.run_folder)
    assert settings.out is not None, "checked"
    measured = measured_in(config, trained.run_folder, shards, settings.out)
    return ScreenPlan.of(config, shards, encoder, measured, checked)


def make_screen(config: Config, plan: ScreenPlan) -> Screen:
    """Measures the control, unless that was done. Needs a Ray connection."""
    level = _level(config)
    train, held_out = _sides(plan.shards, plan.network, plan.measured)
    train_codes, held_out_codes = codes(train.subjects(), held_out.subjects())
    reports = read_report_control(config, train, held_out, train_codes, level) if plan.compares_reports else None
    matches = _match_control(config, plan, train, held_out, held_out_codes)
    return Screen(
        train=Side(train.measured, np.arange(len(train))),
        held_out=Side(held_out.measured, np.arange(len(held_out))),
        held_out_to_train=matches["held_out_to_train"],
        held_out_to_held_out=matches["held_out_to_held_out"],
        reports=reports,
        network=plan.network,
        level=level,
    )


def describe_screen(screen: Screen, plan: ScreenPlan) -> dict[str, Any]:
    """For manifest.json, from where the card has it."""
    return {
        "train": plan.num_train,
        "held_out": plan.num_held_out,
        "encoder": plan.network.name,
        "thresholds": dict(screen.thresholds),
        "remarks": list(plan.remarks),
    }


def _level(config: Config) -> float:
    return config.audit.false_alarm / NUM_MEASURES


def _sides(shards: ShardSet, network: Network, measured: Path) -> tuple[RealSide, RealSide]:
    """Training and held-out images."""
    train, held_out = (RealSide.of(shards, splits, network.identity, measured) for splits in (TRAIN, HELD_OUT))
    return train, held_out


def _match_control(
    config: Config, plan: ScreenPlan, train: RealSide, held_out: RealSide, held_out_codes: NDArray[np.int64]
) -> dict[str, Matches]:
    return measured_and_matched(
        config.audit, [*train.files, *held_out.files], plan.network,
        lambda: control_searches(train.measured, held_out.measured, held_out_codes), plan.measured / "matches",
    )  # fmt: skip

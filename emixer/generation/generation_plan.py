"""The plan of a generation: everything that decides what a dataset is.

It is made once, before anything is drawn, and from then on only handed down: to the dataset's folder, the pipeline and
every sampler. The screen, which takes minutes of measuring, travels beside it.

Shapes: N rows, Y labels and columns of conditions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from emixer._version import __version__
from emixer.config.generation import GenerateConfig
from emixer.generation.dataset_files import Layout, RowFormat, check_layout
from emixer.generation.manifest import fingerprint
from emixer.generation.plan import make_plan
from emixer.generation.plan_kinds import LabelPlan, plan_digest
from emixer.generation.trained_model import TrainedModel
from emixer.models.cuda import Device
from emixer.models.paired_model import ModelSpec

_DEFAULT_ROWS = 1000
_COUNT_ROWS = 2**20


@dataclass(frozen=True)
class Screening:
    """That flagged pairs are drawn again. settings: all that decides what is flagged, as plain values."""

    settings: Mapping[str, Any]
    max_redraws: int


@dataclass(frozen=True)
class GenerationPlan:
    """What stands in which row of which file, and how it is drawn. Picklable: it travels to every sampler."""

    trained: TrainedModel
    labels: LabelPlan
    layout: Layout
    row_format: RowFormat
    batch_size: int
    temperature: float
    device: Device
    cpus_per_sampler: int
    screening: Screening | None = None
    """None: every pair that is drawn is written."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The same as plain values, for the manifest; two datasets with equal settings have equal rows."""
        return {
            "weights_sha256": self.trained.digest,
            "num": self.layout.num_rows,
            "seed": self.row_format.seed,
            "labels": self.labels.description,
            "labels_digest": plan_digest(self.labels),
            "image_format": self.row_format.image_format,
            "rows_per_file": self.layout.rows_per_file,
            "rows_per_group": self.layout.rows_per_group,
            "batch_size": self.batch_size,
            "temperature": self.temperature,
            "device": self.device,
            "cpus_per_sampler": self.cpus_per_sampler if self.device == "cpu" else None,
            "emixer": __version__,
            "torch": torch.__version__,
            # by the rule until 2026-11-30, a temperature below 1 made reports of a hierarchical decoder longer
            **({"sentences": 2} if self.trained.config.report_decoder.kind == "hierarchical" else {}),
            **({} if self.screening is None else self.screening.settings),
        }

    @cached_property
    def fingerprint(self) -> str:
        """What each file of the dataset is marked with."""
        return fingerprint(self.settings)

    @property
    def estimated_bytes(self) -> float:
        """Of all files together, as measured on real images: a rough guide."""
        a_pixel = 0.6 if self.row_format.image_format == "png" else 0.45
        return self.layout.num_rows * (self.trained.config.side_px**2 * a_pixel + 300)

    def counts(self) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
        """Rows with each label, and with each value of each condition."""
        rows = self.layout.num_rows
        totals_Y: Any = sum(
            self.labels.labels(first, min(_COUNT_ROWS, rows - first)).sum(axis=0, dtype=np.int64)
            for first in range(0, rows, _COUNT_ROWS)
        )
        spec = self.trained.spec
        of_labels, of_conditions = np.split(totals_Y, [spec.num_labels])
        spans, values = spec.conditions.column_slices, spec.conditions.values
        beside = {
            name: dict(zip(named, of_conditions[span].tolist(), strict=True))
            for (name, span), named in zip(spans.items(), values, strict=True)
        }
        return dict(zip(spec.label_names, of_labels.tolist(), strict=True)), beside


def plan_labels(settings: GenerateConfig, spec: ModelSpec) -> LabelPlan:
    """Labels and conditions of the rows that the settings ask of such a model. Raises ConfigError."""
    given: dict[str, str | int | None] = {"sex": settings.sex, "age": settings.age, "view": settings.view}
    conditions = {name: value for name, value in given.items() if value is not None}
    return make_plan(settings.plan, settings.labels, spec, settings.seed, conditions, settings.balance_by)


def plan_generation(
    settings: GenerateConfig, trained: TrainedModel, screening: Screening | None = None
) -> Callable[[Device], GenerationPlan]:
    """Checks what is asked for; what it returns makes the plan, once it is known which device draws.

    That may need Ray, and what is wrong is to be said before Ray starts. Raises ConfigError.
    """
    spec = trained.spec
    labels = plan_labels(settings, spec)
    num_rows = settings.num or labels.num_rows or _DEFAULT_ROWS
    layout = Layout(num_rows, settings.rows_per_file, settings.rows_per_group)
    check_layout(layout, settings.batch_size, trained.config.side_px)
    row_format = RowFormat(
        spec.label_names, settings.seed, settings.image_format, spec.conditions, is_screened=screening is not None
    )

    def plan_on(device: Device) -> GenerationPlan:
        return GenerationPlan(
            trained=trained,
            labels=labels,
            layout=layout,
            row_format=row_format,
            batch_size=settings.batch_size,
            temperature=settings.temperature,
            device=device,
            cpus_per_sampler=settings.cpus_per_sampler,
            screening=screening,
        )

    return plan_on

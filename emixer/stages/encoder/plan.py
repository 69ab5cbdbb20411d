"""Parts of `emixer encoder` besides the training loop: AUCs, and the final weights file. Runs inside the workers.

Shapes: B images of a batch, N images, Y labels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn import functional

from emixer import files
from emixer.config import Config
from emixer.data.collection import CollectionIdentity
from emixer.data.labels import LabelPolicy
from emixer.data.loader import HostBatch, WindowReader, open_without_reports
from emixer.data.patients import PATIENT, subjects_in
from emixer.data.shards import ShardSet
from emixer.evaluation.auc_table import Auc, AucTable, auc_table, measurable
from emixer.evaluation.label_faithfulness import roc_auc
from emixer.models.encoder_facts import WEIGHTS_NAME, EncoderFacts
from emixer.models.encoder_weights import save_encoder_weights
from emixer.run_folder import RunFolder
from emixer.training.encoder import EncoderPlan, EncoderReporter, EncoderState, encoder_plan
from emixer.training.step import autocast, images_to_device

EVALUATION_NAME = "evaluation.json"
_BATCH = 64


@dataclass(frozen=True)
class _Reporting:
    """Picklable factory of a worker's reporter."""

    collection: CollectionIdentity

    def __call__(self, plan: EncoderPlan, state: EncoderState) -> EncoderReporter:
        splits = _Splits(plan.config)

        def conclude(state: EncoderState, images: int) -> None:
            _conclude(plan.run, self.collection, splits, state, images)

        return EncoderReporter(RunFolder(plan.run), state, plan.reader.order, splits.validation_metrics, conclude)


def make_encoder_plan(config: Config, shards: ShardSet, run: Path, collection: CollectionIdentity) -> EncoderPlan:
    """Picklable plan with everything a worker needs."""
    reader = open_labelled(config, shards, "train")
    return encoder_plan(config, shards.info.label_names, reader, run, _Reporting(collection))


def open_labelled(config: Config, shards: ShardSet, split: str) -> WindowReader:
    """Images of a split, labels read by `encoder.uncertain` and `encoder.unmentioned`. Reports are truncated."""
    policy = LabelPolicy(config.encoder.uncertain, config.encoder.unmentioned)
    return open_without_reports(shards, split, config.data, config.seed, policy)


class _Splits:
    """Images that the encoder is evaluated on, read on first use."""

    def __init__(self, config: Config) -> None:
        assert config.data.shards is not None, "checked before the workers started"
        self._config = config
        self._shards = ShardSet.open(config.data.shards)
        self._validation: HostBatch | None = None

    def validation_metrics(self, state: EncoderState) -> dict[str, float]:
        """loss, auc (mean over labels with enough images on both sides) and auc/<label> on the validation split."""
        if self._validation is None:
            self._validation = self._read("validate")
        host = self._validation
        logits_NY, labels_NY = _logits(state, host), _labels(host)
        known_NY = ~labels_NY.isnan()
        loss = functional.binary_cross_entropy_with_logits(logits_NY[known_NY], labels_NY[known_NY])
        area_Y = roc_auc(logits_NY, labels_NY)
        each = {
            f"auc/{name}": area.item()
            for name, area, enough in zip(state.label_names, area_Y, measurable(labels_NY), strict=True)
            if enough
        }
        return {"loss": loss.item(), **({"auc": sum(each.values()) / len(each)} if each else {}), **each}

    def table(self, state: EncoderState, split: str) -> AucTable:
        """AUC of each label with intervals."""
        host = self._validation if split == "validate" and self._validation else self._read(split)
        whose = pa.concat_tables(pq.read_table(file, columns=list(PATIENT)) for file in self._shards.files(split))
        subjects = subjects_in(whose).tolist()
        return auc_table(_logits(state, host), _labels(host), subjects, state.label_names, self._config.seed)

    @property
    def measured(self) -> list[str]:
        """Splits of the final evaluation."""
        return [split for split in ("validate", "test") if self._shards.num_rows(split)]

    def _read(self, split: str) -> HostBatch:
        return open_labelled(self._config, self._shards, split).read_rows(self._shards.num_rows(split))


def _conclude(run: Path, collection: CollectionIdentity, splits: _Splits, state: EncoderState, images: int) -> None:
    tables = {split: splits.table(state, split) for split in splits.measured}
    network = state.config.encoder.network
    facts = EncoderFacts.of(
        network,
        label_names=state.label_names,
        collection=collection.digest,
        sources=collection.sources,
        images=images,
        test_auc={row.label: row.auc for row in tables["test"].rows} if "test" in tables else {},
    )
    save_encoder_weights(run / WEIGHTS_NAME, state.model, facts, state.model.input_range)
    content = {
        split: {
            "labels": {row.label: _fields(row) for row in table.rows},
            "mean": None if table.mean is None else _fields(table.mean),
            "unmeasured": list(table.unmeasured),
            "text": str(table),
        }
        for split, table in tables.items()
    }
    files.write_json(run / EVALUATION_NAME, content)


def _fields(row: Auc) -> dict[str, float | None]:
    """None for the bounds of an interval that is not defined."""
    return {name: None if math.isnan(value) else value for name, value in vars(row).items() if name != "label"}


@torch.no_grad()
def _logits(state: EncoderState, host: HostBatch) -> Tensor:
    def batches() -> Iterator[Tensor]:
        for start in range(0, len(host), _BATCH):
            image_BCHW = images_to_device(host.image[start : start + _BATCH], state.device)
            with autocast(state.config.encoder.precision, state.device):
                yield state.model.logits(state.model.final_features(image_BCHW)).cpu()

    return torch.cat(list(batches()))


def _labels(host: HostBatch) -> Tensor:
    return torch.from_numpy(np.where(host.known, host.labels.astype(np.float32), np.nan).astype(np.float32))

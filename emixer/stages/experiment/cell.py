"""One cell of an experiment, in one process: data as arrays, a downstream model or a distance, figures with resamples.

Runs as a Ray task on any node with room; its small order holds everything it needs.

Shapes: N test rows, Y labels.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emixer import files
from emixer.config import Config
from emixer.config.experiment import DownstreamConfig
from emixer.data.labels import LabelPolicy
from emixer.data.pair_table import (
    ChosenPairs,
    Mixture,
    PairTable,
    RealPairs,
    TableShape,
    open_generated,
    read_real,
)
from emixer.data.shards import ShardSet
from emixer.downstream.fit import Fit
from emixer.downstream.judge import agreement, most_agreed
from emixer.downstream.models import Data, classify_classes, classify_images, classify_pairs, write_reports
from emixer.downstream.scores import class_figures, label_figures
from emixer.evaluation.features import FeatureExtractor, Network
from emixer.evaluation.fid import FeatureStatistics, frechet_distance
from emixer.evaluation.resampling import ALL, Measure, resampled_figures
from emixer.evaluation.text_scores import text_scores
from emixer.experiments.cells import Cell, CellResult, Mix
from emixer.models.cuda import require_cuda

_RESAMPLE_SEED = 20200711
_BATCH = 128
_DIGITS = 6
"""Digits of resampled figures, of which a result holds thousands."""
_ONE_HOT = LabelPolicy("zeros", "zeros")


@dataclass(frozen=True)
class Generated:
    """A finished dataset, as cells use it."""

    folder: Path
    files: tuple[str, ...]
    decoded: Path


@dataclass(frozen=True)
class CellOrder:
    """Everything that a cell needs. Sent to the node that computes it."""

    cell: Cell
    config: Config
    generated: Generated | None
    device: str
    shape: TableShape
    covid_shape: TableShape | None = None
    judgement: Path | None = None
    """File of the judge's scores, if generated pairs are selected by them."""


def run_cell(order: CellOrder, *after: object) -> CellResult:
    """Compute one cell. Raises EmixerError for errors that the user can fix.

    after: tasks that must finish first; Ray waits for them.
    """
    start = time.monotonic()
    _use_device(order)
    work: Callable[[CellOrder], tuple[CellResult, Fit | None]] = {
        "images": _images, "pairs": _pairs, "reports": _reports, "classes": _classes, "distance": _distance
    }[order.cell.task]  # fmt: skip
    result, fit = work(order)
    facts = {**result.facts, "device": order.device, "seconds": round(time.monotonic() - start, 1)}
    if fit is not None:
        facts |= {"best_at_pairs": fit.images, "validation_loss": round(fit.validation_loss, 6)}
    return CellResult(result.figures, result.resampled, facts)


def _use_device(order: CellOrder) -> None:
    """Raises ConfigError where torch cannot use the GPU that Ray has for this task."""
    if order.device == "cpu":
        torch.set_num_threads(order.config.experiment.cpus_per_cell)
    else:
        require_cuda("experiment.use_gpu")


def decode(order: CellOrder) -> int:
    """Decode the order's dataset, so that cells that start together need not. Returns the number of pairs."""
    assert order.generated is not None
    return len(_generated(order, order.shape))


def judge(order: CellOrder, *after: object) -> None:
    """Write the agreement with their labels of the pairs that the cell may select from, unless it exists.

    after: tasks that must finish first; Ray waits for them.
    """
    path, mix = order.judgement, order.cell.mix
    assert path is not None
    if _judgement(path, mix.chosen_from) is not None:
        return
    _use_device(order)
    real, _ = _data(replace(order, cell=replace(order.cell, mix=Mix(mix.real, draw=mix.draw))))
    settings, _, device = _how(order)
    agreement_N = agreement(real, _generated(order, order.shape).head(mix.chosen_from), settings, device)
    with files.written_aside(path) as aside, aside.open("wb") as file:
        np.save(file, agreement_N)


def _images(order: CellOrder) -> tuple[CellResult, Fit]:
    data, test = _data(order)
    logits_NY, fit = classify_images(data, *_how(order))
    return _measured(order, label_figures(logits_NY, _labels(test), data.shape.label_names), test.subjects), fit


def _pairs(order: CellOrder) -> tuple[CellResult, Fit]:
    data, test = _data(order)
    logits_NY, fit = classify_pairs(data, *_how(order))
    return _measured(order, label_figures(logits_NY, _labels(test), data.shape.label_names), test.subjects), fit


def _reports(order: CellOrder) -> tuple[CellResult, Fit]:
    data, test = _data(order)
    words_NSW, fit = write_reports(data, *_how(order))
    rows = [n for n, report in enumerate(test.reports) if report and any(report)]
    written = [data.shape.vocabulary.sentences_of(words_NSW[n]) for n in rows]
    scores = text_scores(written, [[report] for n in rows if (report := test.reports[n])])
    return _measured(order, scores.figures, [test.subjects[n] for n in rows]), fit


def _classes(order: CellOrder) -> tuple[CellResult, Fit]:
    """Table 5: a model pretrained on images with diseases, then trained and tested on images of four classes."""
    covid, shape = order.config.experiment.covid, order.covid_shape
    assert covid is not None, "checked before anything started"
    assert shape is not None, "checked before anything started"
    test, validation = (_real(covid, split, shape, _ONE_HOT) for split in ("test", "validate"))
    shards = ShardSet.open(covid)
    train = read_real(shards, "train", shape, _ONE_HOT, shards.num_rows("train"))
    data = Data(Mixture((train,)), validation.table, test.table, shape)
    pretraining = _data(order)[0] if order.cell.mix != Mix(0) else None
    logits_NY, fit = classify_classes(pretraining, data, *_how(order))
    return _measured(order, class_figures(logits_NY, _labels(test), shape.label_names), test.subjects), fit


def _distance(order: CellOrder) -> tuple[CellResult, None]:
    """FID of generated images, as many as there are real test images."""
    config, device = order.config, torch.device(order.device)
    assert config.data.shards is not None, "checked before anything started"
    real = _real(config.data.shards, "test", order.shape, policy_of(config)).table
    generated = _generated(order, order.shape).head(len(real))
    extractor = Network(config.validation.encoder).load(device)
    of_real, of_generated = (_statistics(extractor, table.head(len(generated))) for table in (real, generated))
    facts = {"encoder": extractor.name, "images": len(generated), "input_px": extractor.input_px}
    return CellResult({"fid": frechet_distance(of_real, of_generated)}, {}, facts), None


def _how(order: CellOrder) -> tuple[DownstreamConfig, int, torch.device]:
    return order.config.experiment.downstream, order.cell.seed, torch.device(order.device)


def _data(order: CellOrder) -> tuple[Data, RealPairs]:
    config, mix, shape = order.config, order.cell.mix, order.shape
    assert config.data.shards is not None, "checked before anything started"
    policy = policy_of(config)
    test, validation = (_real(config.data.shards, split, shape, policy) for split in ("test", "validate"))
    real = [_real_train(config.data.shards, shape, policy, mix.real, mix.draw)] if mix.real else []
    synthetic = [_synthetic(order, shape)] if mix.synthetic else []
    if mix.pretrains:
        return Data(Mixture((*real,)), validation.table, test.table, shape, first=Mixture((*synthetic,))), test
    return Data(Mixture((*real, *synthetic)), validation.table, test.table, shape), test


def _synthetic(order: CellOrder, shape: TableShape) -> PairTable | ChosenPairs:
    mix, table = order.cell.mix, _generated(order, shape)
    if not mix.chosen_from:
        return table.head(mix.synthetic)
    assert order.judgement is not None, "judged before the cell started"
    agreement_N = _judgement(order.judgement, mix.chosen_from)
    assert agreement_N is not None, "judged before the cell started"
    return ChosenPairs(table, most_agreed(agreement_N, table.head(mix.chosen_from).labels_NY, mix.synthetic))


def _judgement(path: Path, num: int) -> NDArray[np.float32] | None:
    """Stored agreement of `num` pairs; None if it is missing or unreadable, so that it is computed again."""
    try:
        agreement_N: NDArray[np.float32] = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return agreement_N if agreement_N.shape == (num,) else None


def _generated(order: CellOrder, shape: TableShape) -> PairTable:
    made = order.generated
    assert made is not None, "checked before anything started"
    return open_generated(made.folder, made.files, shape, made.decoded)


def _real(folder: Path, split: str, shape: TableShape, policy: LabelPolicy) -> RealPairs:
    return _kept_real(folder, ShardSet.open(folder).digest((split,)), split, shape, policy)


def _real_train(folder: Path, shape: TableShape, policy: LabelPolicy, num: int, draw: int) -> PairTable:
    return _kept_real_train(folder, ShardSet.open(folder).digest(("train",)), shape, policy, num, draw)


# kept because Ray reuses its processes, by digest because other shards may have come to the folder since


@lru_cache(maxsize=4)
def _kept_real(folder: Path, digest: str, split: str, shape: TableShape, policy: LabelPolicy) -> RealPairs:
    return RealPairs.read(ShardSet.open(folder), split, shape, policy)


@lru_cache(maxsize=1)
def _kept_real_train(
    folder: Path, digest: str, shape: TableShape, policy: LabelPolicy, num: int, draw: int
) -> PairTable:  # fmt: skip
    return read_real(ShardSet.open(folder), "train", shape, policy, num, seed=draw)


def policy_of(config: Config) -> LabelPolicy:
    """How downstream models read the labels of real images."""
    downstream = config.experiment.downstream
    return LabelPolicy(downstream.uncertain, downstream.unmentioned)


def _labels(pairs: RealPairs) -> Tensor:
    return torch.from_numpy(np.array(pairs.table.labels_NY))


def _measured(order: CellOrder, measure: Measure, subjects: Sequence[str]) -> CellResult:
    resampled = resampled_figures(measure, subjects, order.config.experiment.resamples, _RESAMPLE_SEED)
    rounded = {name: values_R.round(_DIGITS) for name, values_R in resampled.items()}
    return CellResult(measure(ALL), rounded, {"test_rows": len(subjects), "test_subjects": len(set(subjects))})


def _statistics(extractor: FeatureExtractor, table: PairTable) -> FeatureStatistics:
    statistics = FeatureStatistics.empty(extractor.num_features, extractor.device)
    for batch in table.batches(_BATCH):
        statistics += FeatureStatistics.of(extractor(torch.from_numpy(np.array(batch.image_NHW)).unsqueeze(1)))
    return statistics

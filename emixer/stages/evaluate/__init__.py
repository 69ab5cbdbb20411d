"""`emixer evaluate`: compare a generated dataset with the real images and reports of a held-out split.

Everything is measured twice: on generated pairs, and on equally many real pairs of the train split, which show what a
perfect generator would score. Image features are cached by content.

Shapes: N images, F features, Y labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emixer import files
from emixer.config import Config
from emixer.config.base import beside
from emixer.data.collection import identify
from emixer.data.pair_table import PairTable
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, ShardError
from emixer.evaluation.chexbert import check_chexbert
from emixer.evaluation.features import FeatureExtractor
from emixer.evaluation.image_metrics import LabelledImages, image_figures, label_distances
from emixer.evaluation.label_faithfulness import EncoderJudge, Judge, LabelJudge
from emixer.evaluation.outside_features import check_inception, check_rad_dino
from emixer.evaluation.pair_metrics import agreement, label_aucs
from emixer.evaluation.radgraph_f1 import check_radgraph
from emixer.evaluation.report_mentions import mentions
from emixer.evaluation.summary import markdown
from emixer.generation.manifest import read_finished_manifest, require_unchanged
from emixer.models.cuda import choose_device
from emixer.models.encoder_facts import checked_facts, require_judge
from emixer.progress import Progress
from emixer.stages.evaluate.features import FeatureNetwork, all_features, feature_networks
from emixer.stages.evaluate.groups import Side, Split, by_groups
from emixer.stages.evaluate.intervals import Measured, side_by_side
from emixer.stages.evaluate.reports import Readers, readers_in_words, report_figures
from emixer.stages.evaluate.sides import (
    DECODED,
    Sides,
    compared_labels,
    labels_in_json,
    num_images,
    read_sides,
    split_by,
)
from emixer.stages.real_measurements import kept_in, same_collection_remarks
from emixer.stages.result import StageResult


@dataclass(frozen=True)
class EvaluateResult(StageResult):
    """Figures of a dataset, and where they were written."""

    out: Path
    content: dict[str, Any]

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"evaluation": self.out / "evaluation.json", "text": self.out / "evaluation.md"}

    @property
    def figures(self) -> Mapping[str, Any]:
        return self.content

    def __str__(self) -> str:
        return "\n".join([markdown(self.content), f"Written: {self.out / 'evaluation.json'}, evaluation.md"])


def run(config: Config) -> EvaluateResult:
    """Write evaluation.json and evaluation.md to `evaluate.out`.

    Raises ConfigError, RunFolderError or ShardError when an input is missing.
    """
    dataset, manifest, shards, out, kept = _checked(config)
    with files.alone_in(out, "evaluate"):
        require_unchanged(dataset, manifest)
        files.remove_partials(out / DECODED)
        files.remove_old_partials(kept)  # other evaluations may be writing there
        content = _evaluated(config, dataset, manifest, shards, out, kept)
        files.write_json(out / "evaluation.json", content)
        files.write_text(out / "evaluation.md", markdown(content) + "\n")
    return EvaluateResult(out, content)


def _evaluated(
    config: Config, dataset: Path, manifest: dict[str, Any], shards: ShardSet, out: Path, kept: Path
) -> dict[str, Any]:
    networks = feature_networks(config)
    device = torch.device(choose_device(config.evaluate.use_gpu, "evaluate.use_gpu"))
    readers = Readers.of(config, device)
    sides = read_sides(config, dataset, manifest, shards, out)
    images: dict[str, Any] = {}
    judged: dict[str, Any] = {}
    by: dict[str, Any] = {}
    with Progress("evaluate", 3 * sides.num * len(networks), "images") as progress:
        for network in networks:
            features = all_features(network, device, kept, sides, progress)
            real, generated = features["real"], features["generated"]
            images[network.name] = {
                "resized": network.resized,
                "generated": image_figures(real, generated, config.evaluate.neighbours),
                "real": image_figures(real, features["sample"], config.evaluate.neighbours),
                "labels": label_distances(
                    _labelled(sides.real, real), _labelled(sides.generated, generated),
                    _labelled(sides.sample, features["sample"]), sides.shape.label_names,
                ),
            }  # fmt: skip
            if not judged:
                judged, scores = _pairs(config, network, device, sides, features)
                by = by_groups(_split(config, sides, features, scores))
    return {
        "dataset": {"folder": dataset.name, "fingerprint": sides.fingerprint},
        "real": {
            "collection": list(identify(shards).sources), "split": sides.split, "side_px": shards.info.side_px,
            "vocabulary": len(shards.vocabulary),
        },
        "labels": labels_in_json(manifest, shards, sides.shape.label_names),
        "images_per_side": sides.num,
        "images": images,
        "pairs": judged,
        "reports": report_figures(config, sides, readers),
        **({"remarks": remarks} if (remarks := _remarks(config, shards)) else {}),
        **_unread(sides),
        **({"by": by} if by else {}),
    }  # fmt: skip


def describe(config: Config) -> str:
    """Describe what `run` would do."""
    dataset, manifest, shards, out, kept = _checked(config)
    split = config.evaluate.split
    num = num_images(config, manifest, shards)
    return "\n".join([
        f"Would compare {num:,} of the {manifest['rows']:,} pairs in {dataset}",
        f"  with        {num:,} of {shards.num_rows(split):,} real {split} images and {num:,} train images, "
        f"{shards.folder}",
        f"  labels      {', '.join(compared_labels(dataset, manifest, shards))}",
        *([f"  split by    {', '.join(config.evaluate.by)}"] if config.evaluate.by else []),
        f"  networks    {', '.join(f'{n.name} ({n.resized})' for n in feature_networks(config))}",
        f"  reports by  {', '.join(readers_in_words(config))}",
        *(f"  remark      {remark}" for remark in _remarks(config, shards)),
        f"  kept in     {kept}: features of the images",
        f"  output      {out}",
    ])  # fmt: skip


def _remarks(config: Config, shards: ShardSet) -> list[str]:
    """Caveats for distances by the encoder."""
    _, encoder = config.measuring_encoder("evaluate")
    if encoder is None:
        return []
    return same_collection_remarks(
        encoder, shards,
        "real distances by it, from held-out to training images, are larger than a perfect generator's would be, so do "
        "not take them for its score",
    )  # fmt: skip


def _unread(sides: Sides) -> dict[str, Any]:
    """Number and language of real reports in an unsupported language; empty if there are none."""
    if not sides.num_unread:
        return {}
    return {"reports_not_read": {"real": sides.num_unread, "language": sides.shards.info.report_language}}


def _split(config: Config, sides: Sides, features: Mapping[str, Tensor], scores: Mapping[str, Tensor]) -> Split:
    real_reports = sides.held_out.reports[: sides.num]
    each = {"generated": (sides.generated, sides.generated_reports), "real": (sides.real, real_reports)}
    return Split(
        sides.conditions,
        sides.shape.label_names,
        {
            kind: Side(
                features[kind], sides.columns[kind], torch.from_numpy(np.array(table.labels_NY)), scores[kind],
                reports, sides.subjects(kind),
            )
            for kind, (table, reports) in each.items()
        },
        features["sample"],
        sides.columns["sample"],
        config.evaluate.resamples,
    )  # fmt: skip


def _checked(config: Config) -> tuple[Path, dict[str, Any], ShardSet, Path, Path]:
    """Dataset, its manifest, real images, and the folders of the output and of features, after all checks."""
    settings = config.evaluate
    if settings.dataset is None:
        raise ConfigError("evaluate.dataset is not set. Give --dataset FOLDER, written by `emixer generate`.")
    if config.data.shards is None:
        raise ConfigError("data.shards is not set. Give --shards FOLDER with the real images to compare with.")
    dataset = settings.dataset.resolve()
    manifest = read_finished_manifest(dataset)
    shards = ShardSet.open(config.data.shards)
    _require_neighbours(config, dataset, manifest, shards)
    for key, check in {
        "inception": check_inception, "rad_dino": check_rad_dino, "chexbert": check_chexbert, "radgraph": check_radgraph
    }.items():  # fmt: skip
        path = getattr(settings, key)
        if path is not None:
            if not path.exists():
                raise ConfigError(
                    f"evaluate.{key}={path} does not exist. Nothing is downloaded automatically; give its location."
                )
            check(path)
    _check_encoder(config, compared_labels(dataset, manifest, shards))
    split_by(config, dataset, manifest, shards)
    kept = kept_in(settings.features, beside(shards.folder, "features"), "evaluate.features", dataset)
    out = (settings.out or beside(dataset, "evaluation")).resolve()
    files.require_writable(out)
    return dataset, manifest, shards, out, kept


def _require_neighbours(config: Config, dataset: Path, manifest: Mapping[str, Any], shards: ShardSet) -> None:
    """Raise ShardError or ConfigError if a side has too few images for the nearest neighbours."""
    settings = config.evaluate
    needed = f"but more than evaluate.neighbours={settings.neighbours} are needed"
    for split in (settings.split, "train"):
        if shards.num_rows(split) <= settings.neighbours:
            raise ShardError(
                f"The {split} split of {shards.folder} has {shards.num_rows(split)} images, {needed}. "
                "Set evaluate.split=validate, or ingest more."
            )
    if manifest["rows"] <= settings.neighbours:
        raise ShardError(
            f"{dataset} has {manifest['rows']} pairs, {needed}. Generate more, or set evaluate.neighbours lower."
        )
    if num_images(config, manifest, shards) <= settings.neighbours:
        raise ConfigError(f"evaluate.images={settings.images}, {needed}. Set it higher, or evaluate.neighbours lower.")


def _check_encoder(config: Config, labels: Sequence[str]) -> None:
    """Raise ConfigError if the encoder's file is missing or does not fit its settings, or if its outputs are to judge
    labels but cannot."""
    key, encoder = config.measuring_encoder("evaluate")
    facts = None if encoder is None else checked_facts(key, encoder)
    if config.validation.judge == "encoder":
        require_judge(facts, f"{key}.weights", labels, "is compared")


def _labelled(table: PairTable, features_NF: Tensor) -> LabelledImages:
    return LabelledImages(features_NF, torch.from_numpy(np.array(table.labels_NY)))


def _pairs(
    config: Config, network: FeatureNetwork, device: torch.device, sides: Sides, features: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Figures of a label judge on images, against the labels the images were generated from and what their reports
    state; and its scores."""
    judge, name = _judge(config, network, device, sides, features["sample"])
    names = sides.shape.label_names
    reports = {
        "generated": sides.generated_reports, "real": [report or [] for report in sides.held_out.reports[: sides.num]]
    }  # fmt: skip
    scores: dict[str, Tensor] = {}
    of_labels, of_reports = {}, {}
    for kind, table in (("generated", sides.generated), ("real", sides.real)):
        scores_NY = scores[kind] = judge.score(features[kind].to(device)).cpu()
        labels_NY = torch.from_numpy(np.array(table.labels_NY))
        told_N = [n for n, report in enumerate(reports[kind]) if report]
        stated_NY = mentions((reports[kind][n] for n in told_N), names)
        subjects = sides.subjects(kind)
        of_labels[kind] = Measured(partial(label_aucs, scores_NY, labels_NY, names), subjects)
        of_reports[kind] = Measured(
            partial(agreement, scores_NY[told_N], stated_NY, names), [subjects[n] for n in told_N]
        )
    measured = side_by_side({"label_auc": of_labels, "pair_agreement": of_reports}, config.evaluate.resamples)
    return {"judge": name, **measured.in_json()}, scores


def _judge(
    config: Config, network: FeatureNetwork, device: torch.device, sides: Sides, sample: Tensor
) -> tuple[Judge, str]:
    if config.validation.judge == "encoder":
        extractor = network.make(device)
        assert isinstance(extractor, FeatureExtractor), "checked before anything was measured"
        return EncoderJudge(extractor, sides.shape.label_names), f"outputs of {network.name}"
    labels_NY = torch.from_numpy(np.array(sides.sample.labels_NY))
    is_labelled_N = ~labels_NY.isnan().any(dim=1)
    if is_labelled_N.sum() < 2:
        raise ShardError(
            f"{sides.shards.folder}: hardly any of {len(sample):,} train images has labels, and the judge needs some. "
            "Set evaluate.images higher, or validation.judge=encoder."
        )
    judge = LabelJudge.fit(sample[is_labelled_N].to(device), labels_NY[is_labelled_N].to(device))
    return judge, f"linear probe of {network.name}, fitted on {is_labelled_N.sum():,} train images"

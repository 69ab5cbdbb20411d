"""`emixer evaluate`: compare a generated dataset with the real images and reports of a held-out split.

Everything is measured twice: on generated pairs, and on equally many real pairs of the train split, which show what a
perfect generator would score. Image features are cached by content.

Shapes: N images, F features, Y labels.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from emixer import files
from emixer.checkpoint import write_tensors
from emixer.config import Config
from emixer.config.base import beside
from emixer.config.model import ChestEncoderConfig
from emixer.data.collection import identify
from emixer.data.pair_table import PairTable
from emixer.data.shards import ShardSet
from emixer.data.text import detokenize
from emixer.errors import ConfigError, ShardError
from emixer.evaluation.chexbert import CONDITIONS, Chexbert, check_chexbert
from emixer.evaluation.features import FeatureExtractor, Features, Network
from emixer.evaluation.image_metrics import LabelledImages, image_figures, label_distances
from emixer.evaluation.label_faithfulness import EncoderJudge, Judge, LabelJudge
from emixer.evaluation.outside_features import check_inception, check_rad_dino, inception, rad_dino
from emixer.evaluation.pair_metrics import Report, agreement, faithfulness, label_areas, variety
from emixer.evaluation.radgraph_f1 import Radgraph, check_radgraph
from emixer.evaluation.report_mentions import mentions
from emixer.evaluation.resampling import Figures
from emixer.evaluation.same_labels import References, same_label_references
from emixer.evaluation.spread import spread_rows
from emixer.evaluation.summary import markdown
from emixer.evaluation.text_scores import distinct_n, text_scores, verbatim_share
from emixer.generation.manifest import read_finished_manifest
from emixer.models.encoder_facts import read_encoder_facts, require_judge
from emixer.progress import Progress
from emixer.stages.evaluate.groups import Side, Split, by_groups
from emixer.stages.evaluate.intervals import Measured, Spread, side_by_side, with_intervals
from emixer.stages.evaluate.sides import (
    Sides,
    compared_labels,
    content_of,
    labels_in_json,
    num_images,
    read_sides,
    split_by,
    train_reports,
)
from emixer.stages.real_measurements import kept_in
from emixer.stages.result import StageResult

_BATCH = 64
_OUT = "evaluation"
_LONGEST_DISTINCT = 3
_T = TypeVar("_T")


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


@dataclass(frozen=True)
class _Network:
    """A feature network, ours or another's, not yet loaded. identity: of its weights and preprocessing."""

    name: str
    identity: str
    resized: str
    make: Callable[[torch.device], Features]

    @classmethod
    def of(cls, encoder: ChestEncoderConfig | None) -> "_Network":
        """The network of a chest encoder, or the random one."""
        network = Network(encoder)
        return cls(network.name, network.identity, network.resized, network.load)


@dataclass(frozen=True)
class _Readers:
    """Networks that read reports; None where the user gave none."""

    chexbert: Chexbert | None
    radgraph: Radgraph | None

    @classmethod
    def of(cls, config: Config, device: torch.device) -> "_Readers":
        """Load the networks before anything is measured, so that a wrong file is reported at once."""
        chexbert, radgraph = config.evaluate.chexbert, config.evaluate.radgraph
        return cls(
            None if chexbert is None else Chexbert(chexbert, device),
            None if radgraph is None else Radgraph(radgraph, device),
        )


def run(config: Config) -> EvaluateResult:
    """Write evaluation.json and evaluation.md to `evaluate.out`.

    Raises ConfigError, RunFolderError or ShardError when an input is missing.
    """
    dataset, manifest, shards, out, kept = _checked(config)
    with files.alone_in(out, "evaluate"):
        content = _evaluated(config, dataset, manifest, shards, out, kept)
        files.write_json(out / "evaluation.json", content)
        files.write_text(out / "evaluation.md", markdown(content) + "\n")
    return EvaluateResult(out, content)


def _evaluated(
    config: Config, dataset: Path, manifest: dict[str, Any], shards: ShardSet, out: Path, kept: Path
) -> dict[str, Any]:
    networks = _networks(config)
    device = torch.device(_device(config))
    readers = _Readers.of(config, device)
    sides = read_sides(config, dataset, manifest, shards, out)
    images: dict[str, Any] = {}
    judged: dict[str, Any] = {}
    by: dict[str, Any] = {}
    with Progress("evaluate", 3 * sides.num * len(networks), "images") as progress:
        for network in networks:
            features = _all_features(network, device, kept, sides, progress)
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
        "dataset": {"folder": str(dataset), "fingerprint": sides.fingerprint},
        "real": {
            "collection": list(identify(shards).sources), "split": sides.split, "side_px": shards.info.side_px,
            "vocabulary": len(shards.vocabulary),
        },
        "labels": labels_in_json(manifest, shards, sides.shape.label_names),
        "images_a_side": sides.num,
        "images": images,
        "pairs": judged,
        "reports": _reports(config, sides, readers),
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
        f"  networks    {', '.join(f'{n.name} ({n.resized})' for n in _networks(config))}",
        f"  reports by  {', '.join(_readers_in_words(config))}",
        f"  kept in     {kept}: features of the images",
        f"  output      {out}",
    ])  # fmt: skip


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


def _readers_in_words(config: Config) -> list[str]:
    given = {"CheXbert": config.evaluate.chexbert, "RadGraph": config.evaluate.radgraph}
    return ["rule-based labeler", *(name for name, folder in given.items() if folder is not None)]


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
    out = (settings.out or dataset / _OUT).resolve()
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
    """Raise ConfigError if the encoder's file is missing, or its outputs are to judge labels but cannot."""
    encoder = config.evaluate.encoder or config.validation.encoder
    if encoder is not None and (encoder.weights is None or not encoder.weights.exists()):
        raise ConfigError(f"evaluate.encoder.weights={encoder.weights} does not exist. Give a weights file.")
    if config.validation.judge != "encoder":
        return
    facts = read_encoder_facts(encoder.weights) if encoder is not None and encoder.weights is not None else None
    require_judge(facts, "evaluate.encoder.weights", labels, "is compared")


def _networks(config: Config) -> list[_Network]:
    """Feature networks, a chest encoder first if there is one; the label judge uses features of the first."""
    settings = config.evaluate
    found: list[_Network] = []
    encoder = settings.encoder or config.validation.encoder
    if encoder is not None:
        found.append(_Network.of(encoder))
    found.append(_Network.of(None))
    if settings.inception is not None:
        weights = settings.inception
        found.append(_outside("inception", weights, "bilinear to 299 px", lambda device: inception(weights, device)))
    if settings.rad_dino is not None:
        folder = settings.rad_dino
        found.append(_outside("rad_dino", folder, "by its preprocessor", lambda device: rad_dino(folder, device)))
    return found


def _outside(name: str, weights: Path, resized: str, make: Callable[[torch.device], Features]) -> _Network:
    parts = sorted(p for p in weights.rglob("*") if p.is_file()) if weights.is_dir() else [weights]
    digest = hashlib.sha256("".join(map(files.sha256_of, parts)).encode()).hexdigest()
    return _Network(name, f"{name}/{digest}", resized, make)


def _all_features(
    network: _Network, device: torch.device, kept: Path, sides: Sides, progress: Progress
) -> dict[str, Tensor]:
    """Features (N, F) on the CPU of the real, generated and train images, cached in files by network and images."""
    tables = {
        "real": (sides.real, content_of(sides.shards, sides.split, sides.num)),
        "generated": (sides.generated, sides.made_of),
        "sample": (sides.sample, content_of(sides.shards, "train", sides.num)),
    }
    found, extractor = {}, None
    for kind, (table, content) in tables.items():
        key = hashlib.sha256(f"{network.identity}\n{content}".encode()).hexdigest()[:24]
        path = kept / f"{key}.safetensors"
        features = _kept_features(path)
        if len(features) != len(table):
            extractor = extractor or network.make(device)
            features = _measured(extractor, table, progress)
            with files.written_aside(path) as aside:
                write_tensors(aside, {"features": features})
        else:
            progress.advance(len(table))
        found[kind] = features
    return found


def _labelled(table: PairTable, features_NF: Tensor) -> LabelledImages:
    return LabelledImages(features_NF, torch.from_numpy(np.array(table.labels_NY)))


def _measured(extractor: Features, table: PairTable, progress: Progress) -> Tensor:
    parts = []
    for batch in table.batches(_BATCH):
        parts.append(extractor(torch.from_numpy(np.array(batch.image_NHW)).unsqueeze(1)).cpu())
        progress.advance(len(batch), by=extractor.name)
    return torch.cat(parts)


def _kept_features(path: Path) -> Tensor:
    """Cached features; empty if there are none or they cannot be read, so that they are computed again."""
    try:
        features: Tensor = load_file(path)["features"]
    except (OSError, KeyError, SafetensorError):
        return torch.empty(0)
    return features


def _pairs(
    config: Config, network: _Network, device: torch.device, sides: Sides, features: Mapping[str, Tensor]
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
        of_labels[kind] = Measured(partial(label_areas, scores_NY, labels_NY, names), subjects)
        of_reports[kind] = Measured(
            partial(agreement, scores_NY[told_N], stated_NY, names), [subjects[n] for n in told_N]
        )
    measured = side_by_side({"label_auc": of_labels, "pair_agreement": of_reports}, config.evaluate.resamples)
    return {"judge": name, **measured.in_json()}, scores


def _judge(config: Config, network: _Network, device: torch.device, sides: Sides, sample: Tensor) -> tuple[Judge, str]:
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


def _reports(config: Config, sides: Sides, readers: _Readers) -> dict[str, Any]:
    """Figures of reports: what they state, their variety, and their similarity to real reports of the same labels."""
    held_out, labels_NY = sides.held_out, sides.held_out.table.labels_NY
    references: References = {}
    for study, subject, report, vector_Y in zip(
        sides.studies, held_out.subjects, held_out.reports, labels_NY, strict=True
    ):
        # images of a study share one report, which counts as one reference; unlabelled ones have no labels to share
        if report and not np.isnan(vector_Y).any():
            references.setdefault(vector_Y.tobytes(), {})[study] = subject, report
    told = [n for n in range(sides.num) if held_out.reports[n]]
    first_of_study = np.sort(np.unique([sides.studies[n] for n in told], return_index=True)[1])
    distinct = first_of_study if told else np.arange(sides.num)
    subjects = sides.subjects("real")
    written = {
        "generated": _Written(
            sides.generated_reports, sides.generated.labels_NY, [None] * sides.num, sides.subjects("generated"),
            spread_rows(sides.num, len(distinct)),
        )
    }  # fmt: skip
    if told:
        whose = [subjects[n] for n in told]
        real = [held_out.reports[n] or [] for n in told]
        written["real"] = _Written(real, labels_NY[told], whose, whose, distinct)
    figures = _stated(config, sides, readers, written)
    for kind, side in written.items():
        found, between = _texts(config, sides, readers, side, references)
        figures[kind] |= found
        figures["intervals"][kind] |= between
    return figures


@dataclass(frozen=True)
class _Written:
    """Reports of one side."""

    reports: list[Report]
    labels_NY: NDArray[np.float32]
    people: Sequence[str | None]
    """Whose each report is; None for generated ones. A person's reports are no references for each other."""
    subjects: Sequence[str]
    """What is resampled."""
    varied: NDArray[np.int64]
    """Rows whose variety is measured: the images of a real study share one report, and variety falls with the number,
    so these are one report of each study, and as many generated ones."""


def _stated(config: Config, sides: Sides, readers: _Readers, written: Mapping[str, _Written]) -> dict[str, Any]:
    """Figures of what the reports of each side state."""
    names = sides.shape.label_names
    by_rules, by_chexbert = {}, {}
    for kind, side in written.items():
        labels_NY, stated_NY = torch.from_numpy(np.array(side.labels_NY)), mentions(side.reports, names)
        by_rules[kind] = Measured(partial(faithfulness, stated_NY, labels_NY, names), side.subjects)
        if readers.chexbert is not None:
            read_NY = readers.chexbert.mentions([detokenize(report) for report in side.reports], names)
            by_chexbert[kind] = Measured(partial(faithfulness, read_NY, labels_NY, names, CONDITIONS), side.subjects)
    found = side_by_side({"report_f1": by_rules}, config.evaluate.resamples)
    others = side_by_side({"report_f1": by_chexbert} if by_chexbert else {}, config.evaluate.resamples)
    found.means_over.update(_prefixed("chexbert", others.means_over))
    for kind in by_chexbert:
        found.figures[kind] |= _prefixed("chexbert", others.figures[kind])
        found.intervals[kind] |= _prefixed("chexbert", others.intervals[kind])
    return found.in_json()


def _texts(
    config: Config, sides: Sides, readers: _Readers, written: _Written,
    references: References,
) -> tuple[Figures, Spread]:  # fmt: skip
    """Figures of the wording of one side's reports: variety, copies, similarity to real ones of the same labels."""
    reports = written.reports
    spread: Spread = {}
    varied = [reports[row] for row in written.varied]
    figures: Figures = variety(varied) | {"varied_reports": float(len(varied))}
    figures |= {f"distinct_{n}": distinct_n(varied, n) for n in range(1, _LONGEST_DISTINCT + 1)}
    if sides.shards.num_reports("train"):
        copied = verbatim_share(reports, train_reports(sides.shards), sides.shards.vocabulary.tokens)
        figures |= {"copied_reports": copied.reports, "copied_sentences": copied.sentences}
    vectors = [vector_Y.tobytes() for vector_Y in written.labels_NY]
    beside = same_label_references(vectors, written.people, references, config.evaluate.references)
    if not beside:
        return figures, spread
    scored = list(beside)
    scores = text_scores([reports[row] for row in scored], list(beside.values()))
    graph_N = None
    if readers.radgraph is not None:
        texts = ([detokenize(reports[row]) for row in scored], [detokenize(first) for first, *_ in beside.values()])
        graph_N = readers.radgraph.f1(*texts)

    def near(rows_R: NDArray[np.int64]) -> Figures:
        found = scores.figures(rows_R)
        return found if graph_N is None else found | {"radgraph_f1": float(graph_N[rows_R].mean())}

    found, between = with_intervals(near, [written.subjects[row] for row in scored], config.evaluate.resamples)
    figures |= _prefixed("same_labels", found) | {"same_labels_scored": len(scored) / len(reports)}
    return figures, spread | _prefixed("same_labels", between)


def _prefixed(prefix: str, figures: Mapping[str, _T]) -> dict[str, _T]:
    return {f"{prefix}_{name}": value for name, value in figures.items()}


def _device(config: Config) -> str:
    if config.evaluate.use_gpu and not torch.cuda.is_available():
        raise ConfigError("evaluate.use_gpu=true, but this machine has no GPU. Unset it, or use a machine with one.")
    return "cuda" if torch.cuda.is_available() and config.evaluate.use_gpu is not False else "cpu"

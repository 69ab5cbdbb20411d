"""Content of the page about a run: highlights, sample grids, and facts of its config and data."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emixer.config import Config
from emixer.data.schema import SPLITS
from emixer.data.shards import ShardSet
from emixer.errors import RunFolderError
from emixer.gallery.page import Facts, Grid, read_grid
from emixer.metric_names import METRIC_NAMES, fid_name

_GRID_NAME = re.compile(r"images-(\d+)\.png")
_VALIDATION = "validation/"
_FID = "validation/fid_"
_HIGHLIGHTS = {
    "validation/report_f1_generated": METRIC_NAMES["report_f1"],
    "validation/pair_agreement_generated": METRIC_NAMES["pair_agreement"],
    "validation/label_auc_generated": METRIC_NAMES["label_auc"],
    "validation/word_cross_entropy": METRIC_NAMES["word_cross_entropy"],
}


def read_grids(samples: Path, num: int) -> tuple[Grid, ...]:
    """Up to `num` evenly spaced sample grids, including the first and the last.

    Raises RunFolderError when a picture cannot be read.
    """
    found = sorted(
        (int(match[1]), path) for path in samples.glob("*.png") if (match := _GRID_NAME.fullmatch(path.name))
    )
    if len(found) > num:
        last = len(found) - 1
        found = [found[round(i * last / max(num - 1, 1))] for i in range(num - 1)] + found[-1:] if num else []
    try:
        return tuple(read_grid(path, images) for images, path in found)
    except OSError as error:
        raise RunFolderError(
            f"A sample grid in {samples} cannot be read ({error}). Delete it and try again."
        ) from error


def last_validation(metrics: Sequence[Mapping[str, float]], images: int) -> dict[str, float]:
    """The last validation pass up to `images` images, with its own `images`; empty if there was none."""
    passes = [line for line in metrics if line["images"] <= images and any(k.startswith(_VALIDATION) for k in line)]
    return dict(passes[-1]) if passes else {}


def highlights_of_run(images: int, measured: Mapping[str, float]) -> tuple[tuple[str, str], ...]:
    """Key figures: value and name."""
    shown = []
    for key, name in _HIGHLIGHTS.items():
        if key in measured:
            real = measured.get(key.replace("_generated", "_real")) if "_generated" in key else None
            beside = "" if real is None else f" (real: {real:.2f})"
            shown.append((f"{measured[key]:.2f}", name + beside))
    for key in sorted(measured):
        if key.startswith(_FID):
            shown.append((f"{measured[key]:.3g}", fid_name(key)))
    shown.append((f"{images:,}", "images trained on"))
    return tuple(shown)


def facts_of_run(config: Config, name: str, checkpoint: str, num_tokens: int) -> tuple[Facts, ...]:
    """Facts of the model and its training that matter for judging the pairs. Contains no paths."""
    model, train, optim, loss = config.model, config.train, config.optim, config.loss
    return (
        Facts("Model", (
            ("Run", name),
            ("Kind", model.kind.upper()),
            ("Image size", f"{model.side_px} px square, {model.channels} channel(s)"),
            ("Vocabulary", f"{num_tokens:,} tokens"),
            ("Report limits", f"{model.max_sentences} sentences of {model.max_words} words"),
            ("Checkpoint shown", checkpoint),
        )),
        Facts("Training", (
            ("Planned", f"{train.images:,} images"),
            ("Batch", f"{train.batch_size} over {train.workers_in_words} worker(s)"),
            ("Discriminator steps a generator step", str(optim.discriminator_steps)),
            ("Learning rates", f"{optim.lr_generator:g} generators, {optim.lr_discriminator:g} discriminators"),
            ("Adversarial loss", loss.adversarial),
            ("Rotation loss", f"alpha {loss.alpha:g}, beta {loss.beta:g}"),
            ("Labels kept", f"{config.data.labelled_fraction:.0%}"),
            ("Precision", train.precision),
            ("Seed", str(config.seed)),
        )),
    )  # fmt: skip


def facts_of_shards(shards: ShardSet) -> Facts:
    """Facts of the training data: counts and rules."""
    info, manifest = shards.info, shards.manifest
    counts = [(f"Images in {split}", f"{shards.num_rows(split):,}") for split in SPLITS if shards.num_rows(split)]
    source = manifest.get("settings", {}).get("source")
    kind = source.get("kind") if isinstance(source, dict) else source
    left_out = sum(n for stage in manifest.get("left_out", {}).values() for n in stage.values())
    rows = [("Collection", str(kind))] if kind else []
    rows += [*counts, ("Labels", str(len(info.label_names))), ("Report text", info.section_rule.replace("-", " "))]
    return Facts("Real data", (*rows, ("Left out at ingest", f"{left_out:,}")))


def facts_of_dataset(manifest: Mapping[str, Any]) -> Facts:
    """Facts of a generated dataset, from its manifest."""
    settings = manifest["settings"]
    return Facts("Dataset", (
        ("Pairs", f"{manifest['rows']:,}"),
        ("Size", f"{manifest['bytes'] / 1e6:,.1f} MB in {len(manifest['files'])} file(s)"),
        ("Labels", str(settings["labels"])),
        ("Seed", str(settings["seed"])),
        ("Word temperature", f"{settings['temperature']:g}"),
        ("Weights (SHA-256)", str(settings["weights_sha256"])[:16]),
        ("Made with", f"emixer {settings['emixer']}, torch {settings['torch']}"),
    ))  # fmt: skip

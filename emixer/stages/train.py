"""`emixer train`: shards -> run folder. Composes the loop with metrics and pictures."""

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from emixer.checkpoint import find_checkpoint
from emixer.config import Config
from emixer.data.loader import WindowReader, open_windows
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, ShardError
from emixer.models.paired_model import ModelSpec
from emixer.progress import Progress
from emixer.ray_session import connect
from emixer.run_folder import RunFolder

_POLL_S = 0.5


@dataclass(frozen=True)
class TrainResult:
    """What a finished run came to."""

    run: Path
    images: int
    best: float | None
    metric: str
    last: dict[str, float]

    def __str__(self) -> str:
        names = [k for k in self.last if k.startswith("validation/") and k.count("/") == 1]  # not those by label
        measured = {name.removeprefix("validation/"): self.last[name] for name in names}
        lines = [f"Trained on {self.images:,} films: {self.run}"]
        lines += [f"  {name:<32} {value:.4g}" for name, value in measured.items()]
        if self.best is not None:
            lines.append(f"  best {self.metric:<27} {self.best:.4g}  (checkpoints/best.json)")
        lines += [
            "Next:",
            f"  emixer generate --run {self.run} --num 1000 --out ...",
            f"  emixer gallery --run {self.run}",
        ]
        return "\n".join(lines)


def run(config: Config) -> TrainResult:
    """Trains, or resumes, the run at `train.run`.

    Raises ConfigError, ShardError or RunFolderError before anything starts; DivergenceError when losses are not finite.
    """
    from emixer.stages.train_plan import make_plan
    from emixer.training.workers import run_workers

    config, shards, reader = _checked(config)
    path = _run_path(config)
    folder = RunFolder.create_or_resume(path, "train", config)
    with connect(config.ray), _progress(folder, config.train.images):
        run_workers(make_plan(config, shards, reader, path))
    last = find_checkpoint(folder.checkpoints, "last")
    assert last is not None, "a finished run has a checkpoint"
    measured: dict[str, float] = next(
        (line for line in reversed(folder.metrics()) if any("validation/" in k for k in line)), {}
    )
    return TrainResult(path, last.images, last.state["best"], config.validation.metric, measured)


def describe(config: Config) -> str:
    """What `run` would do."""
    from emixer.models.build import build_model

    config, shards, reader = _checked(config)
    train, path = config.train, _run_path(config)
    spec = model_spec(shards, reader)
    model = build_model(config.model, spec)
    generators = sum(p.numel() for group in model.generator_parameters().values() for p in group)
    critics = sum(p.numel() for p in model.discriminator_parameters())
    rows = shards.num_rows("train")
    found = find_checkpoint(path / "checkpoints", "last")
    where = f"resumes at {found.images:,} films" if found else "new run"
    return "\n".join([
        f"Would train {config.model.kind} at {config.model.side_px} px in {path} ({where}):",
        f"  data        {rows:,} films in train, {shards.num_rows('validate'):,} in validate, {config.data.shards}",
        f"  labels      {len(spec.label_names)} ({len(spec.label_vectors):,} distinct vectors); "
        f"{len(spec.tokens):,} tokens",
        f"  schedule    {train.images:,} films = {train.images / rows:,.1f} epochs, batch {train.batch_size} over "
        f"{train.num_workers} worker(s) x {train.accumulate} micro-batch(es), {train.precision}",
        f"  parameters  {generators:,} in the generators, {critics:,} in the critics",
        f"  checkpoint  {_checkpoint_bytes(generators, critics) / 1e6:,.0f} MB each, at most three kept",
    ])  # fmt: skip


def model_spec(shards: ShardSet, reader: WindowReader) -> ModelSpec:
    """What the training data decides about the model. Raises ShardError when no film has labels."""
    vectors, counts = reader.label_counts()
    if not len(vectors):
        raise ShardError(
            f"No film in the train split of {shards.folder} has labels, and generation is conditioned on labels. "
            "Ingest with label columns, or raise data.labelled_fraction."
        )
    return ModelSpec(
        label_names=shards.info.label_names,
        tokens=tuple(shards.vocabulary.tokens),
        label_vectors=tuple(tuple(int(v) for v in vector) for vector in vectors),
        label_counts=tuple(int(count) for count in counts),
    )


def _checked(config: Config) -> tuple[Config, ShardSet, WindowReader]:
    """Everything that can be wrong before a worker starts."""
    model = config.model
    if config.data.shards is None:
        raise ConfigError("data.shards is not set. Give --shards FOLDER, a folder written by `emixer ingest`.")
    shards = ShardSet.open(config.data.shards)
    if shards.info.side_px != model.side_px:
        raise ConfigError(
            f"model.side_px={model.side_px}, but the shards in {config.data.shards} hold films of "
            f"{shards.info.side_px} px. Set model.side_px={shards.info.side_px}, "
            f"or ingest with side_px={model.side_px}."
        )
    _check_batch_size(config)
    _check_weights(config)
    _check_trackers(config)
    for split in ("train", "validate"):
        if not shards.num_rows(split):
            raise ShardError(f"The {split} split of {config.data.shards} is empty. Ingest again so that it has films.")
    reader = open_windows(shards, "train", config.data, config.seed, model.max_sentences, model.max_words)
    return config, shards, reader


def _check_batch_size(config: Config) -> None:
    train = config.train
    share = train.num_workers * train.accumulate
    if train.batch_size % share:
        lower = max(1, train.batch_size // share) * share
        raise ConfigError(
            f"train.batch_size={train.batch_size} cannot be split over {train.num_workers} worker(s) x "
            f"{train.accumulate} micro-batch(es). Use a multiple of {share}, e.g. {lower} or {lower + share}."
        )


def _check_weights(config: Config) -> None:
    judge = config.validation.encoder
    if judge is not None and judge.weights is None:
        raise ConfigError(
            "validation.encoder is given without validation.encoder.weights. Give a weights file, or leave the whole "
            "section out: then a fixed random DenseNet measures, and the metric's name says so."
        )
    encoders = {"model.report_decoder.encoder": config.model.chest_encoder, "validation.encoder": judge}
    for key, encoder in encoders.items():
        if encoder is not None and encoder.weights is not None and not encoder.weights.exists():
            raise ConfigError(f"{key}.weights={encoder.weights} does not exist. Give a weights file, or null.")


def _check_trackers(config: Config) -> None:
    for name in config.train.trackers:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"train.trackers names {name}, which is not installed. "
                f"Run `pip install 'emixer[{name}]'`, or leave it out."
            )


def _run_path(config: Config) -> Path:
    if config.train.run is None:
        raise ConfigError("train.run is not set. Give --run FOLDER, where checkpoints and metrics are written.")
    return config.train.run.resolve()


def _checkpoint_bytes(generators: int, critics: int) -> int:
    averaged, networks, moments = generators, generators + critics, 2 * (generators + critics)
    return 4 * (averaged + networks + moments)


@contextmanager
def _progress(folder: RunFolder, images: int) -> Iterator[None]:
    """Shows the run's own metrics as a progress line; the workers may be on other nodes, the run folder is shared."""
    stop = threading.Event()
    lines = folder.metrics()
    done = lines[-1]["images"] if lines else 0
    with Progress("train", images, "films", done=done) as progress:

        def follow() -> None:
            while not stop.wait(_POLL_S):
                for line in reversed(folder.metrics()):
                    if "images_per_s" in line:
                        progress.update(line["images"], **_shown(line))
                        break

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _shown(line: dict[str, float]) -> dict[str, str]:
    fields = {"waiting": f"{line['wait_share']:.0%}"}
    for name, key in {"D": "discriminator/total", "G": "generator/total", "words": "generator/words"}.items():
        if key in line:
            fields[name] = f"{line[key]:.3f}"
    return fields

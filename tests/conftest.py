"""Fixtures shared by all tests."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from emixer.config import Config, load_config, with_overrides
from emixer.data.known_of_images import find_conditions
from emixer.data.labels import CHEXPERT
from emixer.data.loader import open_windows
from emixer.data.schema import ShardInfo
from emixer.data.shards import ShardSet, shard_name, write_shard
from emixer.data.vocabulary import SPECIAL_TOKENS, Vocabulary
from emixer.files import sha256_of
from emixer.models.paired_model import END, Batch, ModelSpec
from emixer.run_folder import RunFolder
from emixer.stages.model_spec import model_spec
from emixer.training.game import GamePlan, game_plan
from emixer.training.plan import train_from_last
from emixer.training.reporter import RunReporter
from emixer.training.state import TrainState
from tests.browser import browser as browser  # fixtures
from tests.browser import page as page

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--until", type=float, metavar="EPOCH_S", help="Skip every test that has not begun by then.")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    until = item.config.getoption("--until")
    if until is not None and time.time() > until:
        pytest.skip("time is up (--until)")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """If several processes share the files (`make test`), run the longest first, then those that start Ray, so that
    short ones are left for the end and no process waits long for another."""
    if hasattr(config, "workerinput"):
        ranks = {marker: {item.path for item in items if item.get_closest_marker(marker)} for marker in ("long", "ray")}
        items.sort(key=lambda item: tuple(item.path not in paths for paths in ranks.values()))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A real local Ray cluster for the whole session: two CPUs, no dashboard, 200 MiB of object store."""
    from emixer.config import RayConfig
    from emixer.ray_session import connect

    with connect(RayConfig(num_cpus=2, object_store_mb=200)):
        yield


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished shard folder: 96 train, 32 validate and 16 test images of 32 px, every eighth without labels, every
    tenth without a report. Each label brightens its own stripe and the report names it, so there is something to learn.
    """
    return _write_shards(tmp_path_factory.mktemp("tiny-shards"), {"train": 96, "validate": 32, "test": 16})


@pytest.fixture(scope="session")
def make_shards() -> Callable[..., Path]:
    """make_shards(folder, train=96, validate=32, test=16): as `tiny_shards`, of any size; another seed, other images.
    known: with sex, age and view, sometimes null; F and LATERAL brighten stripes below those of the labels."""

    def make(folder: Path, seed: int = 0, known: bool = False, **counts: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return _write_shards(folder, counts, seed, known)

    return make


def _write_shards(folder: Path, counts_of: dict[str, int], seed: int = 0, known: bool = False) -> Path:
    info = ShardInfo(32, CHEXPERT, "findings", 1, "test", known_of_images=("sex", "age_years") if known else ())
    generator = np.random.default_rng(seed)
    entries, counts = [], {}
    for split, count in counts_of.items():
        path = folder / shard_name(split, 0)
        images = _tiny_images(generator, split, count, replace(info, known_of_images=()))
        if known:
            images = _with_people(images, generator, info)
        write_shard(path, images, info, row_group_rows=16)
        labels = np.array([row for row in images["labels"].to_pylist() if row])
        counts[split] = {"unlabelled_images": count - len(labels), "names": {
            name: {"present": int(y.sum()), "absent": int((1 - y).sum()), "uncertain": 0, "not_mentioned": 0}
            for name, y in zip(CHEXPERT, labels.T, strict=True)
        }}  # fmt: skip
        entries.append({
            "name": path.name, "split": split, "num_rows": count, "num_bytes": path.stat().st_size,
            "sha256": sha256_of(path),
        })  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"shards": entries, "labels": counts}))
    words = sorted({word for name in CHEXPERT for word in name.lower().split()} | {"is", "present", "no", "seen"})
    Vocabulary(SPECIAL_TOKENS + tuple(words)).save(folder / "vocabulary.json")
    return folder


def _tiny_images(generator: np.random.Generator, split: str, count: int, info: ShardInfo) -> pa.Table:
    labels = (generator.random((count, len(CHEXPERT))) < 0.2).astype(np.int8)
    image_NHW = generator.integers(60, 100, (count, 32, 32), dtype=np.uint8)
    for index, row in enumerate(labels):
        for label in np.flatnonzero(row):
            image_NHW[index, 2 * label : 2 * label + 2] += 120
    present = [
        [[*name.lower().split(), "is", "present"] for name, y in zip(CHEXPERT, row, strict=True) if y] for row in labels
    ]
    sentences = [found or [["no", "finding", "is", "seen"]] for found in present]
    has_report = [index % 10 != 9 for index in range(count)]
    ids = [f"{split}-{index}" for index in range(count)]
    return pa.table(
        {
            "dicom_id": ids, "study_id": ids, "subject_id": ids, "view": ["PA"] * count, "split": [split] * count,
            "image": pa.array([image.tobytes() for image in image_NHW], pa.binary(32 * 32)),
            "report": [
                " ".join(" ".join(s) for s in text) if has else None
                for text, has in zip(sentences, has_report, strict=True)
            ],
            "sentences": [text if h else None for text, h in zip(sentences, has_report, strict=True)],
            "labels": [None if index % 8 == 7 else row.tolist() for index, row in enumerate(labels)],
            "source": ["tiny"] * count,
        },
        schema=info.arrow_schema(),
    )  # fmt: skip


def _with_people(images: pa.Table, generator: np.random.Generator, info: ShardInfo) -> pa.Table:
    count = images.num_rows
    sex, view = generator.choice(["F", "M"], count), generator.choice(["AP", "PA", "LATERAL"], count)
    age = generator.integers(18, 95, count)
    image_NHW = np.stack([np.frombuffer(image, np.uint8).reshape(32, 32) for image in images["image"].to_pylist()])
    image_NHW[sex == "F", 28:30] += 120
    image_NHW[view == "LATERAL", 30:32] += 120
    unknown = np.arange(count) % 9 == 4
    known = {
        "image": pa.array([image.tobytes() for image in image_NHW], pa.binary(32 * 32)),
        "view": pa.array(view, pa.string()),
        "sex": pa.array(sex, pa.string(), mask=unknown),
        "age_years": pa.array(age, pa.int16(), mask=unknown),
    }
    columns = {name: images[name] for name in images.column_names} | known
    return pa.table({name: columns[name] for name in info.arrow_schema().names}, schema=info.arrow_schema())


KINDS = ("emixer", "cogan", "jointgan", "smgan")

TINY_MODEL = {
    "model.side_px": 32, "model.max_sentences": 4, "model.max_words": 6,
    "model.image_generator.channels": 4, "model.image_generator.label_embedding": 8,
    "model.image_generator.noise_chunk": 4,
    "model.image_discriminator.channels": 4,
    "model.report_decoder.encoder.growth": 4, "model.report_decoder.encoder.blocks": [1, 1, 1, 1],
    "model.report_decoder.encoder.stem_channels": 8, "model.report_decoder.encoder.input_px": 32,
    "model.report_decoder.encoder.frozen": False,
    "model.report_decoder.sentence_hidden": 16, "model.report_decoder.word_embedding": 16,
    "model.report_decoder.word_hidden": 16,
    "model.report_discriminator.word_embedding": 8, "model.report_discriminator.hidden": 16,
    "model.joint_discriminator.channels": 4, "model.joint_discriminator.word_embedding": 8,
    "model.joint_discriminator.hidden": 16,
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny_config(tiny_shards: Path) -> Config:
    """The smallest EMIXER, on the tiny shards, with batches of 16 images."""
    training = {
        "data.shards": tiny_shards, "data.window_rows": 32, "train.batch_size": 16, "train.images": 160,
        "train.log_every_images": 32, "train.save_every_images": 64, "train.sample_every_images": 160,
        "train.validate_every_images": 160, "validation.images": 32, "optim.lr_generator": 1e-3,
        "optim.lr_discriminator": 1e-3,
    }  # fmt: skip
    return load_config(extra=TINY_MODEL | training)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as training leaves it, with a 32 px EMIXER of random weights, for sampling from a run."""
    import torch

    from emixer.checkpoint import SAMPLER, point, save_checkpoint
    from emixer.model_kinds import build_model
    from emixer.models.paired_model import ModelSpec
    from emixer.run_folder import RunFolder

    config = load_config(extra=TINY_MODEL)
    words = [
        "the",
        "heart",
        "is",
        "enlarged",
        "normal",
        "lungs",
        "are",
        "clear",
        "no",
        "effusion",
        "left",
        "right",
        "small",
        "moderate",
        "pneumothorax",
    ]
    vectors = ((0,) * 8 + (1,) + (0,) * 5, (0,) * 14, (1, 1) + (0,) * 12, (0, 0, 1, 1) + (0,) * 10)
    spec = ModelSpec(CHEXPERT, (*SPECIAL_TOKENS, *words), vectors, (50, 20, 20, 10))
    torch.manual_seed(0)
    model = build_model(config.model, spec)
    sampling = tuple(model.ema_modules())
    tensors = {key: value for key, value in model.state_dict().items() if key.startswith(sampling)}
    run = RunFolder.create_or_resume(tmp_path_factory.mktemp("runs") / "tiny", "train", config)
    state = {"model": config.model.model_dump(mode="json"), "spec": spec.to_json()}
    checkpoint = save_checkpoint(run.checkpoints, 1000, {SAMPLER: tensors}, state)
    point(run.checkpoints, "best", checkpoint.path)
    return run.path


@pytest.fixture(params=KINDS)
def kind_config(request: pytest.FixtureRequest, tiny_config: Config) -> Config:
    """`tiny_config` for each kind of model."""
    return with_overrides(tiny_config, {"model.kind": request.param})


@pytest.fixture(scope="session")
def tiny_spec() -> ModelSpec:
    """A model spec with three labels and twelve tokens."""
    tokens = (*SPECIAL_TOKENS, "heart", "lungs", "clear", "large", "no", "effusion", "left", "right")
    return ModelSpec(("A", "B", "C"), tokens, ((0, 0, 0), (1, 0, 1)), (3, 1))


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """make_batch(num_rows, side_px=32): random rows; row 1 has no labels, row 2 no report."""

    def make(num_rows: int, side_px: int = 32) -> Batch:
        generator = torch.Generator().manual_seed(5)
        words_BSW = torch.zeros(num_rows, 4, 6, dtype=torch.int64)
        for row in range(num_rows):
            for sentence in range(0 if row == 2 else 1 + row % 3):
                length = 1 + (row + sentence) % 5
                words_BSW[row, sentence, :length] = torch.randint(3, 12, (length,), generator=generator)
                words_BSW[row, sentence, length] = END
        rows = torch.arange(num_rows)
        return Batch(
            image_BCHW=torch.rand(num_rows, 1, side_px, side_px, generator=generator) * 2 - 1,
            labels_BY=(torch.rand(num_rows, 3, generator=generator) < 0.4).float(),
            labelled_B=rows != 1,
            words_BSW=words_BSW,
            has_report_B=rows != 2,
        )

    return make


@dataclass
class LocalRun:
    """The result of `train_locally`."""

    folder: RunFolder
    states: list[TrainState] = field(default_factory=list)


class WorkerKilledError(Exception):
    """Raised in place of the death of a worker."""


@pytest.fixture
def train_locally() -> Callable[..., LocalRun]:
    """Run a Ray worker's function in this process, reading windows in place. `killed_after`: die right after the
    checkpoint at that many images."""

    def run(config: Config, path: Path, killed_after: int | None = None) -> LocalRun:
        torch.set_num_threads(config.train.cpus_per_worker)
        assert config.data.shards is not None
        shards = ShardSet.open(config.data.shards)
        model = config.model
        conditions = find_conditions(shards, model.conditions, model.age_bounds)
        reader = open_windows(
            shards, "train", config.data, config.seed, model.max_sentences, model.max_words, conditions=conditions
        )
        result = LocalRun(RunFolder.create_or_resume(path, "train", config))

        class Reporter(RunReporter):
            def save(self) -> None:
                super().save()
                if self._state.images == killed_after:
                    raise WorkerKilledError

        def make_reporter(plan: GamePlan, state: TrainState) -> RunReporter:
            result.states.append(state)
            measure = lambda model: {"word_cross_entropy": float(state.images)}  # noqa: E731
            return Reporter(result.folder, state, reader.order, lambda *_: None, measure)

        plan = game_plan(config, model_spec(shards, reader), reader, path, make_reporter)
        with suppress(WorkerKilledError):
            train_from_last(plan, torch.device("cpu"), lambda windows: map(reader.read, windows))
        return result

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """small_disk(size_kb): a file system of that many KiB; call it again to resize."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size_kb: int) -> Path:
        options = f"size={size_kb}k" + (",remount" if folder.is_mount() else "")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)

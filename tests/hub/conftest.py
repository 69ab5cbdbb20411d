"""A trained run with much that must not leave it, what is published of it, and a Hub on this machine."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from emixer.checkpoint import NETWORKS, SAMPLER, point, save_checkpoint
from emixer.config import Config, with_overrides
from emixer.data.loader import open_windows
from emixer.data.schema import read_shard_info
from emixer.data.shards import ShardSet, write_shard
from emixer.data.vocabulary import Vocabulary
from emixer.files import sha256_of
from emixer.model_kinds import build_model
from emixer.run_folder import RunFolder
from emixer.stages.model_spec import model_spec
from emixer.stages.publish import PublishResult, run
from tests.hub.hub_server import TOKEN, Hub, serve_hub

SECRET = "secret-place-of-patients"
COUNTS = (40, 30, 9, 6, 2, 1)
"""Images of the combinations of labels, one label more in each: the last two are rare, and the six before are one
patient's."""


def rewrite_train(shards: Path, **columns: list[Any]) -> None:
    """Other values of some columns of the train shard, in the manifest too."""
    path = shards / "train-00000.parquet"
    info, table = read_shard_info(path), pq.read_table(path)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    write_shard(path, table, info, row_group_rows=16)
    manifest = json.loads((shards / "manifest.json").read_text())
    for shard in manifest["shards"]:
        if shard["name"] == path.name:
            shard |= {"num_bytes": path.stat().st_size, "sha256": sha256_of(path)}
    (shards / "manifest.json").write_text(json.dumps(manifest))


LENIENT: dict[str, Any] = {"min_token_count": 1, "min_token_patients": 1}
"""Words of the tiny vocabulary are rare."""


@pytest.fixture(scope="package")
def shards_of_patients(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path) -> Path:
    """The tiny shards with those combinations of labels in train; the word `mass` is in six reports of one patient."""
    folder = tmp_path_factory.mktemp("shards") / "of-patients"
    shutil.copytree(tiny_shards, folder)
    table = pq.read_table(folder / "train-00000.parquet")
    labels = [[int(label < number) for label in range(14)] for number, count in enumerate(COUNTS) for _ in range(count)]
    subjects, sentences = table["subject_id"].to_pylist(), table["sentences"].to_pylist()
    first = sum(COUNTS[:3])
    for row in range(first, first + 6):
        subjects[row], sentences[row] = "one", [["mass", "seen"]]
    unlabelled = [None] * (table.num_rows - len(labels))
    rewrite_train(folder, labels=labels + unlabelled, subject_id=subjects, sentences=sentences)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    Vocabulary((*vocabulary.tokens, "mass")).save(folder / "vocabulary.json")
    return folder


@pytest.fixture(scope="package")
def trained_run(tmp_path_factory: pytest.TempPathFactory, shards_of_patients: Path, tiny_config: Config) -> Path:
    """Random weights; the encoder's weights came from a file, and the run knows where the shards are."""
    weights = {f"model.report_decoder.encoder.{key}": value for key, value in
               {"weights": f"/{SECRET}/encoder.safetensors", "frozen": True}.items()}  # fmt: skip
    config = with_overrides(tiny_config, weights | {"data.shards": shards_of_patients})
    shards = ShardSet.open(shards_of_patients)
    reader = open_windows(shards, "train", config.data, 0, config.model.max_sentences, config.model.max_words)
    spec = model_spec(shards, reader)
    assert spec.label_counts == COUNTS
    torch.manual_seed(0)
    model = build_model(config.model, spec, load_weights=False)
    tensors = {key: value for key, value in model.state_dict().items() if key.startswith(tuple(model.ema_modules()))}
    validation = {
        "report_f1_generated": 0.625,
        "report_f1_real": 0.875,
        "report_f1_generated/Fracture": 0.123456,
        "fid_random_densenet": 1.5,
    }
    folder = RunFolder.create_or_resume(tmp_path_factory.mktemp("runs") / SECRET, "train", config)
    state = {"model": config.model.model_dump(mode="json"), "spec": spec.to_json(), "source": {"root": f"/{SECRET}"},
             "position": {"epoch": 3}, "validation": validation}  # fmt: skip
    saved = save_checkpoint(folder.checkpoints, 64_000, {SAMPLER: tensors, NETWORKS: model.state_dict()}, state)
    point(folder.checkpoints, "best", saved.path)
    folder.append_metrics({"images": 64_000, **{f"validation/{name}": value for name, value in validation.items()}})
    return folder.path


@pytest.fixture
def publish(trained_run: Path, tmp_path: Path) -> Callable[..., PublishResult]:
    """publish(**settings) of the run, by default under a licence and into tmp_path/published."""

    def publish(**settings: object) -> PublishResult:
        given = LENIENT | {"run": trained_run, "out": tmp_path / "published", "license": "cc-by-nc-4.0"}
        return run(with_overrides(Config(), {f"publish.{key}": value for key, value in (given | settings).items()}))

    return publish


@pytest.fixture(scope="package")
def published(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is published of the run. To be read only."""
    out = tmp_path_factory.mktemp("published") / "model"
    values = LENIENT | {"run": trained_run, "out": out, "license": "cc-by-nc-4.0"}
    return run(with_overrides(Config(), {f"publish.{key}": value for key, value in values.items()})).folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub on the loopback that huggingface_hub, here and in processes started from here, takes for the Hub."""
    from huggingface_hub import constants, file_download

    with serve_hub() as hub:
        home = tmp_path / "hub-home"
        for name, value in {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_TOKEN": TOKEN}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)  # read from the environment at its import
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, file_download):  # its versions differ in where they look
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        yield hub


def read_json(path: Path) -> dict[str, object]:
    return dict(json.loads(path.read_text()))

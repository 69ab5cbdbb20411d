"""What a process of Ray that is used again keeps from one audit for the next."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from emixer.audit import work
from emixer.audit.measured import ImageFile, Measured
from emixer.audit.work import TaskResources, measure_all
from emixer.config.model import ChestEncoderConfig
from emixer.evaluation.features import Network
from emixer.models.chest_encoder import ChestEncoder
from emixer.models.encoder_facts import EncoderFacts
from emixer.models.encoder_weights import save_encoder_weights
from tests.audit_data import SIDE_PX, images, write_shards

NUM = 3


class OneProcess:
    """Ray with a single process, this one."""

    def remote(self, **options: object) -> Callable[[Callable[..., Any]], Any]:
        return lambda function: SimpleNamespace(remote=function)

    def wait(self, pending: list[object], num_returns: int) -> tuple[list[object], list[object]]:
        return pending[:num_returns], pending[num_returns:]

    def get(self, reference: object) -> object:
        return reference

    def cancel(self, reference: object) -> None:
        raise AssertionError("nothing failed")


def test_an_encoder_that_replaced_another_at_its_path_measures_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "ray", OneProcess())
    shards = write_shards(tmp_path / "shards", {"train": (images(NUM, seed=0), None)}) / "train-00000.parquet"
    config = ChestEncoderConfig(
        growth=4, blocks=(1, 1, 1, 1), stem_channels=4, input_px=32, weights=tmp_path / "encoder.safetensors"
    )
    network, found = Network(config), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        encoder = ChestEncoder(config.model_copy(update={"weights": None}), num_labels=1)
        facts = EncoderFacts.of(
            config, label_names=("Edema",), collection="c", sources=("made",), images=9, test_auc={}
        )
        save_encoder_weights(tmp_path / "encoder.safetensors", encoder, facts)
        file = ImageFile.of(shards, "shard", NUM, SIDE_PX, "sha256", network.identity, tmp_path / "kept")
        measure_all([file], network, TaskResources(cpus=1, gpu=False), on_images=lambda num: None)
        found.append(Measured.open([file]).features(np.arange(NUM)))
    assert not np.array_equal(*found)

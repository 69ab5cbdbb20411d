"""Small data from which a downstream model can learn something."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from emixer.config.experiment import DownstreamConfig
from emixer.data.pair_table import Mixture, PairTable, TableShape
from emixer.data.vocabulary import END, SPECIAL_TOKENS, Vocabulary
from emixer.downstream.models import Data

LABELS = ("Cardiomegaly", "Edema")
SHAPE = TableShape(LABELS, 32, 2, 4, Vocabulary((*SPECIAL_TOKENS, "cardiomegaly", "edema", "normal", "seen")))
_NETWORK = {"growth": 4, "blocks": (1, 1, 1, 1), "stem_channels": 8, "input_px": 32, "frozen": False}

MakePairs = Callable[..., PairTable]
MakeSettings = Callable[..., DownstreamConfig]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_pairs() -> MakePairs:
    """make_pairs(num, seed): each of two labels brightens its own stripe, and the report names those present; every
    tenth label is unknown, every eighth pair has no report. told=False: images of noise."""

    def make(num: int, seed: int, told: bool = True) -> PairTable:
        generator = np.random.default_rng(seed)
        labels_NY = (generator.random((num, 2)) < 0.4).astype(np.float32)
        image_NHW = generator.integers(60, 100, (num, 32, 32), dtype=np.uint8)
        words_NSW = np.zeros((num, 2, 4), np.int32)
        for n, row in enumerate(labels_NY):
            for y in np.flatnonzero(row):
                image_NHW[n, 12 * y + 4 : 12 * y + 10] += np.uint8(100 * told)
            named = [4 + y for y in np.flatnonzero(row)] or [6]
            for s, word in enumerate(named if n % 8 else []):
                words_NSW[n, s, :3] = word, 7, END
        labels_NY[generator.random((num, 2)) < 0.1] = np.nan
        return PairTable(image_NHW, labels_NY, words_NSW)

    return make


@pytest.fixture(scope="session")
def make_settings() -> MakeSettings:
    """make_settings(**settings): the smallest networks."""

    def make(**settings: Any) -> DownstreamConfig:
        values = {
            "network": _NETWORK, "joint_hidden": 8, "images": 1920, "batch_size": 32, "lr": 1e-2, "augment": (),
            "validate_every_images": 320,
            "report_decoder": {"kind": "attentive", "encoder": _NETWORK, "width": 16, "heads": 2, "layers": 1},
        }  # fmt: skip
        return DownstreamConfig.model_validate(values | settings)

    return make


@pytest.fixture(scope="session")
def data(make_pairs: MakePairs) -> Data:
    """Data whose training pairs are half "real" and half "generated"."""
    train = Mixture((make_pairs(120, 0), make_pairs(120, 1)))
    return Data(train, make_pairs(64, 2), make_pairs(100, 3), SHAPE)

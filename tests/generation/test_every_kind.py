"""A trained run of any kind of model is loaded, sampled from and described by the same two lines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import emixer
from emixer.config import Config, with_overrides


def test_a_run_of_any_kind_is_sampled_from_in_two_lines(
    kind_config: Config, tmp_path: Path, train_locally: Callable[..., Any]
) -> None:
    train_locally(with_overrides(kind_config, {"train.images": 64}), tmp_path / "run")
    pairs = emixer.load(tmp_path / "run").sample(labels=["Pneumothorax", "Edema"], num=5, seed=3)
    assert pairs.images.shape == (5, 32, 32)
    assert pairs.images.dtype == np.uint8
    assert len(pairs.reports) == 5
    assert all(set(pairs.labels_of(row)) == {"Pneumothorax", "Edema"} for row in range(5))
    again = emixer.load(tmp_path / "run").sample(labels=["Pneumothorax", "Edema"], num=3, seed=3)
    assert np.array_equal(again.images, pairs.images[:3])
    assert again.reports == pairs.reports[:3]

"""What a step does to a batch before the losses see it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from emixer.config import Config, with_overrides
from emixer.models.noise import RowNoise
from emixer.training.step import mirrored


def noise(num_rows: int, first_row: int = 0) -> RowNoise:
    return RowNoise(seed=1, step=4, first_row=first_row, num_rows=num_rows, device=torch.device("cpu"))


def test_about_half_of_the_images_are_mirrored_and_otherwise_unchanged() -> None:
    images = torch.rand(400, 1, 6, 8)
    seen = mirrored(images, noise(400))
    flipped = (seen == images.flip(3)).flatten(1).all(1)
    same = (seen == images).flatten(1).all(1)
    assert (flipped ^ same).all()
    assert 160 < flipped.sum() < 240


def test_mirroring_depends_on_the_row_in_the_step() -> None:
    images = torch.rand(32, 1, 4, 4)
    whole = mirrored(images, noise(32))
    halves = [mirrored(images[first : first + 16], noise(16, first)) for first in (0, 16)]
    assert torch.equal(whole, torch.cat(halves))


def test_mirroring_is_off_by_default(
    tiny_config: Config, tmp_path: Path, train_locally: Callable[[Config, Path], Any]
) -> None:
    def first_loss(config: Config, name: str) -> float:
        lines = train_locally(with_overrides(config, {"train.images": 32}), tmp_path / name).folder.metrics()
        return float(lines[0]["discriminator/rotation"])

    assert not tiny_config.data.horizontal_flip
    plain = first_loss(tiny_config, "plain")
    assert first_loss(with_overrides(tiny_config, {"data.horizontal_flip": False}), "off") == plain
    assert first_loss(with_overrides(tiny_config, {"data.horizontal_flip": True}), "on") != plain

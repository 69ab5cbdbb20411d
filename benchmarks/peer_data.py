"""Phantom images and reports in plain files, the same for every loader. Nothing to run.

    FOLDER/SIDE/images.npy       uint8 (N, SIDE, SIDE)
    FOLDER/SIDE/png/0000000.png  the same images
    FOLDER/reports.json          N texts

A few radiographs of the phantom are drawn; every image is one of them, shifted, mirrored and with grain of its
own, so that no two are alike and PNGs have the size of a radiograph's.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emixer.data.phantom.study import Settings, make_study

_DRAWN_SIDE_PX = 256
_GRAIN = 2.0
"""Standard deviation of the noise in gray values."""


def write_source(folder: Path, counts: dict[int, int], num_drawn: int) -> None:
    """counts: how many images for each side [px]."""
    drawn = np.stack([draw(number, _DRAWN_SIDE_PX) for number in range(num_drawn)])
    for side_px, num in counts.items():
        images = vary(drawn, num, side_px)
        (folder / str(side_px) / "png" / "all").mkdir(parents=True)
        np.save(folder / str(side_px) / "images.npy", images)
        for number, image in enumerate(images):
            Image.fromarray(image).save(folder / str(side_px) / "png" / "all" / f"{number:07d}.png")
    (folder / "reports.json").write_text(json.dumps(reports(max(counts.values()))))


def vary(drawn_KSS: NDArray[np.uint8], num: int, side_px: int, seed: int = 0) -> NDArray[np.uint8]:
    """`num` images of `side_px`, no two alike, from a few larger ones."""
    random = np.random.default_rng([seed, side_px])
    images = np.empty((num, side_px, side_px), np.uint8)
    block = drawn_KSS.shape[1] // side_px
    for row in range(num):
        image = drawn_KSS[row % len(drawn_KSS)].astype(np.float32)
        image = np.roll(image, random.integers(-8, 9, 2), (0, 1))[:, :: random.choice([-1, 1])]
        small = image.reshape(side_px, block, side_px, block).mean((1, 3))
        images[row] = (small * random.uniform(0.9, 1) + random.normal(0, _GRAIN, small.shape)).clip(0, 255)
    return images


def reports(num: int) -> list[str]:
    """The reports of as many studies."""
    return [" ".join(make_study(Settings(seed=0), number).report.text.split()) for number in range(num)]


def draw(number: int, side_px: int) -> NDArray[np.uint8]:
    """The first image of a study, as a square."""
    study = make_study(Settings(seed=0, height_px=2 * side_px), number)
    image = Image.fromarray(np.asarray(study.render(study.images[0])))
    return np.asarray(image.resize((side_px, side_px), Image.Resampling.BOX))

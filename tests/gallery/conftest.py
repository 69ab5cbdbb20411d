"""A run folder worth showing."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from emixer.gallery.sample_grid import draw_pairs
from emixer.run_folder import RunFolder


@pytest.fixture(scope="session")
def shown_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny run with curves, two validation passes and three sample grids."""
    folder = RunFolder(shutil.copytree(tiny_run, tmp_path_factory.mktemp("runs") / "shown"))
    for images in range(20, 1001, 20):
        losses = {"discriminator/total": 3 - images / 1000, "discriminator/image": 1.0, "generator/words": 900 / images}
        folder.append_metrics({"images": images, **losses})
        if images in (500, 1000):
            folder.append_metrics({
                "images": images, "validation/fid_random_densenet": 5000 / images, "validation/word_cross_entropy": 2.5,
                "validation/label_auc_generated": 0.6, "validation/label_auc_real": 0.8,
                "validation/label_auc_generated/Edema": 0.61, "validation/label_auc_real/Edema": 0.82,
                "validation/report_f1_generated/Edema": images / 2000, "validation/report_f1_real/Edema": 0.9,
            })  # fmt: skip
    image_NHW = np.random.default_rng(0).integers(0, 255, (4, 32, 32), dtype=np.uint8)
    for images in (200, 600, 1000):
        path = folder.samples / f"images-{images:012d}.png"
        draw_pairs(image_NHW, [["Edema"], [], [], []], ["Mild edema.", "", "", ""], path, f"After {images} images")
    return folder.path

"""Two commands writing to one place at once: the second is refused and leaves the first one's files alone."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from emixer.cli.main import main
from emixer.config import Config, to_yaml, with_overrides
from emixer.data.labels import CHEXPERT
from emixer.files import alone_at, alone_in
from tests.datasets import write_pairs

PLACES: Mapping[str, str] = {
    "phantom": "phantom.out", "train": "train.run", "encoder": "encoder.run", "generate": "generate.out",
    "evaluate": "evaluate.out", "tune": "tune.study", "gallery": "gallery.out",
}  # fmt: skip
"""Where each command writes, by its config key."""


@pytest.mark.parametrize("command", PLACES)
def test_second_writer_to_one_place_is_refused(
    tiny_config: Config, tiny_run: Path, tmp_path: Path, command: str
) -> None:
    place = tmp_path / ("page.html" if command == "gallery" else "place")
    given = {"tune.space": ["loss.alpha float 0 1"], "tune.metrics": ["word_cross_entropy"], PLACES[command]: place}
    if command in ("generate", "gallery"):
        given |= {f"{command}.run": tiny_run}
    if command == "evaluate":
        images, labels = np.zeros((16, 32, 32), np.uint8), np.zeros((16, len(CHEXPERT)), np.uint8)
        dataset = write_pairs(tmp_path / "dataset", images, [""] * 16, labels, CHEXPERT, {})
        given |= {"evaluate.dataset": dataset, "evaluate.split": "test", "evaluate.neighbours": 3}
    (tmp_path / "config.yaml").write_text(to_yaml(with_overrides(tiny_config, given)))
    hold = alone_at if command == "gallery" else alone_in
    with hold(place, command):
        before = sorted(tmp_path.rglob("*"))
        shown = CliRunner().invoke(main, [command, "--config", str(tmp_path / "config.yaml")])
        assert sorted(tmp_path.rglob("*")) == before, "nothing is written or swept away"
    assert shown.exit_code == 2
    assert f"Another `emixer {command}`" in shown.output
    assert "Wait for it, stop it, or choose another location." in shown.output

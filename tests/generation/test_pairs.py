"""Pairs in memory: a sequence that shows itself, saves itself and trains, here of three rows made by hand."""

import csv
import re
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageShow
from torch.utils.data import DataLoader

from emixer import Pair, Pairs
from emixer.errors import ConfigError, RunFolderError, StorageError

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
REPORTS = ['<b>No</b> edema, "none".', "", "Über & out."]
LABELS = np.array([[0, 1], [0, 0], [1, 1]], np.uint8)


@pytest.fixture
def pairs() -> Pairs:
    return Pairs(IMAGES, REPORTS, LABELS, ("Edema", "Clear"), {"sex": np.array(["F", None, "M"], object)})


def test_they_are_a_sequence_of_image_report_and_labels(pairs: Pairs) -> None:
    image, report, labels, conditions = pairs[2]
    np.testing.assert_array_equal(image, IMAGES[2])
    assert (report, labels, conditions) == ("Über & out.", ("Edema", "Clear"), {"sex": "M"})
    assert [pair.report for pair in pairs] == REPORTS
    assert isinstance(pairs[-1], Pair)
    assert pairs[-1].conditions == {"sex": "M"}
    with pytest.raises(IndexError):
        pairs[3]


def test_a_slice_is_pairs_again(pairs: Pairs) -> None:
    part = pairs[1:]
    assert isinstance(part, Pairs)
    assert (len(part), part[0].report, part[1].conditions) == (2, "", {"sex": "M"})
    np.testing.assert_array_equal(part.labels, LABELS[1:])


def test_saved_pairs_are_png_files_and_a_table(pairs: Pairs, tmp_path: Path) -> None:
    folder = pairs.save(tmp_path / "saved")
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000001.png", "000002.png", "pairs.csv"]
    with (folder / "pairs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["report"] for row in rows] == REPORTS
    assert [(row["Edema"], row["Clear"], row["sex"]) for row in rows] == [
        ("0", "1", "F"),
        ("0", "0", ""),
        ("1", "1", "M"),
    ]
    for row, image in zip(rows, IMAGES, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(folder / row["image"])), image)


def test_a_folder_that_holds_something_is_left_alone(pairs: Pairs, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="is not empty"):
        pairs.save(tmp_path)
    with pytest.raises(RunFolderError, match="is not empty"):
        pairs.save(tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert len(list(pairs.save(tmp_path / "empty").iterdir())) == 4


def test_folder_may_be_below_home_but_not_the_working_directory_itself(
    pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert pairs.save("~/four") == tmp_path / "four"
    assert pairs.save("there") == tmp_path / "here" / "there"
    with pytest.raises(RunFolderError, match=r"is the working directory\. Choose a new folder"):
        pairs.save(".")


def test_pairs_that_do_not_fit_on_the_disk_leave_nothing(pairs: Pairs, small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(4)
    with pytest.raises(StorageError, match="full"):
        pairs.save(disk / "saved")
    assert list(disk.iterdir()) == []


def test_the_grid_has_a_tile_a_pair(pairs: Pairs) -> None:
    one_row, three_rows = pairs.grid(), pairs.grid(columns=1)
    assert one_row.width > 2 * three_rows.width
    assert three_rows.height > 2 * one_row.height
    with pytest.raises(ConfigError, match="no pair to draw"):
        pairs[:0].grid()


def test_showing_without_a_program_that_shows_says_what_to_do(pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageShow, "_viewers", [])
    with pytest.raises(ConfigError, match=r"pairs\.save"):
        pairs.show()


def test_a_notebook_gets_inline_images_and_escaped_text(pairs: Pairs) -> None:
    page = pairs._repr_html_()
    assert "&lt;b&gt;No&lt;/b&gt; edema" in page
    assert "<b>No</b>" not in page
    encoded = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert [b64decode(each)[:4] for each in encoded] == [b"\x89PNG"] * 3
    assert "http" not in page
    many = Pairs(np.repeat(IMAGES, 10, axis=0), REPORTS * 10, np.repeat(LABELS, 10, axis=0), ("Edema", "Clear"))
    assert many._repr_html_().count("<img") == 24
    assert "and 6 more" in many._repr_html_()


def test_torch_trains_on_them(pairs: Pairs) -> None:
    (batch,) = DataLoader(pairs.to_dataset(), batch_size=3)
    np.testing.assert_array_equal(batch["image"], IMAGES[:, None])
    assert batch["report"] == REPORTS
    assert batch["labels"].dtype == torch.float32
    np.testing.assert_array_equal(batch["labels"], LABELS)
    assert batch["known"].all()

"""Cells are stored under what determines them, and an unreadable result counts as none."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emixer.config.experiment import DownstreamConfig
from emixer.errors import RunFolderError
from emixer.experiments import cells
from emixer.experiments.cells import Cell, CellResult, Mix, ResultsFolder

CELL = Cell("images", Mix(1000, 500, "emixer"), 0)
INPUTS = {"shards": "abc", "downstream": {"lr": 1e-3, "augment": ["translation"]}}
RESULT = CellResult(
    {"auc": 0.8125, "auc/Edema": math.nan}, {"auc": np.array([0.8, math.nan, 0.9])}, {"seconds": 1.5, "test_rows": 20}
)


def test_key_depends_on_all_inputs_but_not_on_their_order() -> None:
    others = [
        Cell("pairs", CELL.mix, 0), Cell("images", Mix(1001, 500, "emixer"), 0),
        Cell("images", Mix(1000, 501, "emixer"), 0), Cell("images", Mix(1000, 500, "cogan"), 0),
        Cell("images", CELL.mix, 1),
    ]  # fmt: skip
    keys = [cell.key(INPUTS) for cell in (CELL, *others)]
    changed: list[dict[str, Any]] = [INPUTS | {"shards": "abd"}, INPUTS | {"downstream": {"lr": 1e-3, "augment": []}}]
    keys += [CELL.key(inputs) for inputs in changed]
    assert len(set(keys)) == len(keys)
    assert CELL.key(dict(reversed(INPUTS.items()))) == keys[0]


def test_keys_of_earlier_cells_are_unchanged() -> None:
    # another value here means that all finished cells everywhere would be recomputed
    kept = {"images": "b122e27f295ba4f48d0c", "pairs": "a06a01202a6beb86ee9b",
            "distance": "2a95ee82cd223ddf9a87"}  # fmt: skip
    for task, key in kept.items():
        assert Cell(task, Mix(1000, 500, "emixer"), 0).key({}) == key  # type: ignore[arg-type]
    # AUC ranks images at any level of confidence; a report generator's encoder is taught labels, words select it
    later_versions = {"classes": "1fa02d5135d41e44ef67", "reports": "4a8b4ee12876186e89c8"}
    for task, key in later_versions.items():
        assert Cell(task, Mix(1000, 500, "emixer"), 0).key({}) == key  # type: ignore[arg-type]
    later = [Mix(1000, 500, "emixer", pretrains=True), Mix(1000, 500, "emixer", chosen_from=600)]
    assert len({Cell("images", mix, 0).key({}) for mix in (CELL.mix, *later)}) == 3


def test_new_code_version_changes_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    before = CELL.key(INPUTS)
    monkeypatch.setattr(cells, "CODE_VERSION", cells.CODE_VERSION + 1)
    assert CELL.key(INPUTS) != before


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("images", {"network"}), ("pairs", {"network", "joint_hidden"}), ("reports", {"report_decoder"}),
        ("classes", {"network"}),
    ],
)  # fmt: skip
def test_only_settings_of_the_trained_model_determine_the_key(task: Any, changes: set[str]) -> None:
    network = {"growth": 16, "frozen": False}
    other = {"network": network, "report_decoder": {"kind": "attentive", "encoder": network}, "joint_hidden": 32}
    plain = Cell(task, Mix(10), 0).downstream_settings(DownstreamConfig())
    for name, value in other.items():
        found = Cell(task, Mix(10), 0).downstream_settings(DownstreamConfig.model_validate({name: value}))
        assert (found != plain) == (name in changes)
    trained_with: dict[str, Any] = {"images": 5, "lr": 0.02, "augment": ["cutout"], "precision": "bf16"}
    taught = {"uncertain": "ones", "unmentioned": "ignore"}  # a report generator's encoder is taught labels, too
    for name, value in (trained_with | taught | {"batch_size": 8}).items():
        assert Cell(task, Mix(10), 0).downstream_settings(DownstreamConfig.model_validate({name: value})) != plain


def test_cells_have_readable_names() -> None:
    assert CELL.name == "images R1000 + S500 emixer, seed 0"
    assert Cell("reports", Mix(10), 2).name == "reports R10, seed 2"
    assert Cell("images", Mix(0, 500, "emixer-30"), 1).name == "images S500 emixer-30, seed 1"
    assert Cell("classes", Mix(0), 0).name == "classes no pretraining, seed 0"


def test_result_round_trips_exactly_with_undefined_values(tmp_path: Path) -> None:
    exact = CellResult({"auc": 1 / 3, "acc": math.nan}, {"auc": np.array([0.1 + 0.2, math.nan])}, {"device": "cpu"})
    exact.save(tmp_path / "cells" / "a.json", {})
    found = CellResult.load(tmp_path / "cells" / "a.json")
    assert found is not None
    assert found.figures["auc"] == 1 / 3
    assert math.isnan(found.figures["acc"])
    assert found.resampled["auc"][0] == 0.1 + 0.2
    assert math.isnan(found.resampled["auc"][1])
    assert found.facts == {"device": "cpu"}
    json.loads((tmp_path / "cells" / "a.json").read_text(), parse_constant=lambda name: pytest.fail(name))


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '"text"', '{"figures": {}}', '{"figures": null, "resampled": {}, "facts": {}}',
     '{"figures": {"auc": "high"}, "resampled": {}, "facts": {}}',
     '{"figures": {}, "resampled": {"auc": 3}, "facts": {}}', '{"figures": {}, "resampled": {}, "facts": 3}'],
)  # fmt: skip
def test_unreadable_result_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    assert CellResult.load(tmp_path / "a.json") is None


def test_truncated_result_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    RESULT.save(path, {})
    whole = path.read_bytes()
    for length in range(len(whole.rstrip())):
        path.write_bytes(whole[:length])
        assert CellResult.load(path) is None, length
    path.write_bytes(b"\xff\xfe" + whole)
    assert CellResult.load(path) is None
    assert CellResult.load(tmp_path / "there-is-none.json") is None


def test_folder_keeps_results_by_key_and_reopens(tmp_path: Path) -> None:
    folder = ResultsFolder.open(tmp_path / "new", "digest")
    RESULT.save(folder.result_path("k1"), {})
    again = ResultsFolder.open(tmp_path / "new", "digest")
    found = again.result("k1")
    assert found is not None
    assert found.figures["auc"] == 0.8125
    assert again.result("k2") is None


def test_checking_a_missing_folder_does_not_create_it(tmp_path: Path) -> None:
    ResultsFolder.check(tmp_path / "new", "digest")
    assert not list(tmp_path.iterdir())
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".partial-experiment.json-0").touch()  # of a first start that was killed
    ResultsFolder.open(tmp_path / "empty", "digest")


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (
            '{"experiment_version": 99, "trained_on": "digest"}',
            r"of experiment version 99; this emixer has 1\. Its tabl",
        ),
        ('{"experiment_version": 1, "trained_on": "another"}', r"use other shards than those given"),
        ("{}", r"experiment\.json cannot be read \(KeyError\)"),
        ("[1]", r"experiment\.json cannot be read"),
        ('{"experiment_ver', r"experiment\.json cannot be read"),
    ],
)
def test_folder_of_another_version_or_other_shards_is_refused_and_left_alone(
    tmp_path: Path, about: str, message: str
) -> None:
    (tmp_path / "experiment.json").write_text(about)
    (tmp_path / "cells").mkdir()
    for look in (ResultsFolder.check, ResultsFolder.open):
        with pytest.raises(RunFolderError, match=message) as told:
            look(tmp_path, "digest")
        assert "\n" not in str(told.value)
    assert (tmp_path / "experiment.json").read_text() == about


def test_folder_with_other_files_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="is not empty and not an experiment"):
        ResultsFolder.open(tmp_path, "digest")
    with pytest.raises(RunFolderError, match=r"notes\.txt is a file"):
        ResultsFolder.open(tmp_path / "notes.txt", "digest")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

"""What finished cells add to a plan: how others differ from them, and how long others will take."""

from pathlib import Path

from emixer.experiments.cells import Cell, CellResult, Mix, ResultsFolder
from emixer.experiments.finished_cells import difference, finished_cells, seconds_in_words

REAL, MIXED = Cell("images", Mix(100), 0), Cell("reports", Mix(100, 50, "emixer"), 1)
INPUTS = {"shards": "abc", "downstream": {"lr": 1e-3, "augment": ["translation"], "network": {"growth": 32}}}


def keep(folder: ResultsFolder, cell: Cell, inputs: dict[str, object], seconds: float) -> None:
    CellResult({}, {}, {"seconds": seconds}).save(folder.result_path(cell.key(inputs)), cell.about(inputs))


def test_difference_is_from_the_nearest_cell_of_the_same_name(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    keep(folder, REAL, INPUTS, 1)
    keep(folder, REAL, INPUTS | {"shards": "abd", "downstream": None}, 1)
    changed = INPUTS | {"downstream": {"lr": 2e-3, "augment": [], "network": {"growth": 32}}}
    assert difference(REAL, changed, finished_cells(folder)) == (
        'inputs.downstream.augment ["translation"] there, [] now; inputs.downstream.lr 0.001 there, 0.002 now'
    )
    assert difference(REAL, INPUTS | {"subjects": "by source"}, finished_cells(folder)) == (
        'inputs.subjects nothing there, "by source" now'
    )
    assert difference(MIXED, INPUTS, finished_cells(folder)) == ""
    many = {"shards": "x", **{str(n): n for n in range(5)}, "downstream": INPUTS["downstream"]}
    assert difference(REAL, many, finished_cells(folder)).endswith("; and 3 more")


def test_damaged_cells_and_cells_of_earlier_versions_are_ignored(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    keep(folder, REAL, INPUTS, 1)
    folder.result_path("old").write_text('{"figures": {}, "resampled": {}, "facts": {"seconds": 3}}')
    folder.result_path("damaged").write_text('{"about": ')
    assert [cell.name for cell in finished_cells(folder)] == ["images R100, seed 0"]
    assert finished_cells(ResultsFolder(tmp_path / "new")) == []


def test_times_are_given_by_task_with_a_total_and_missing_timings(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    for seed, seconds in enumerate((6.0, 8.0)):
        keep(folder, Cell("images", Mix(100), seed), INPUTS, seconds)
    to_do = [Cell("images", Mix(200), seed) for seed in range(60)]
    assert seconds_in_words(to_do, finished_cells(folder)) == (
        "mean time of finished cells: images 7 s; remaining cells about 7 min sequentially"
    )
    assert seconds_in_words([MIXED], finished_cells(folder)).endswith("time unknown until a cell is done: reports")
    assert seconds_in_words(to_do, []) == "time unknown until a cell is done: images"
    assert seconds_in_words([], finished_cells(folder)) == "mean time of finished cells: images 7 s"

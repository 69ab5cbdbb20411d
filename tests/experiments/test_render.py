"""From results to a written table, worked out by hand and compared whole."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emixer.experiments.cells import Cell, CellResult, Mix
from emixer.experiments.paper import Printed
from emixer.experiments.plot import plot
from emixer.experiments.render import FilledTable, filled
from emixer.experiments.tables import Column, Row, Table

AUC = Column("auc", "AUC", "films", "auc")
FID = Column("fid", "FID_50 & more", "distance", "fid", digits=2)
REAL, MIXED, OTHER = Mix(100), Mix(100, 50, "emixer"), Mix(100, 50, "cogan")
TABLE = Table(
    "made-up", "A made-up table", (AUC, FID),
    (
        Row("Only real", "R100", REAL, {"auc": Printed(0.8, 0.002)}),
        Row("EMIXER", "R100 + S50 | 30 % of labels", MIXED, {"auc": Printed(0.9, None), "fid": Printed(11.31, 0.0028)}),
        Row("CoGAN", "R100 + S50", OTHER, {}),
    ),
    ("A note of its own.",),
)  # fmt: skip
MEASURED = "Measured on tiny, 100 training films of 32 px."


def films(auc: float, resampled: list[float] | None = None) -> CellResult:
    return CellResult({"auc": auc}, {} if resampled is None else {"auc": np.array(resampled)}, {})


def results() -> dict[Cell, CellResult | str]:
    spread = np.linspace(-0.04, 0.04, 41)  # its 2.5th and 97.5th percentiles are -0.038 and 0.038
    return {
        Cell("films", REAL, 0): films(0.70, list(0.70 + spread)),
        Cell("films", REAL, 1): films(0.74, list(0.74 + spread)),
        Cell("films", MIXED, 0): films(0.76, list(0.78 + 2 * spread)),
        Cell("films", MIXED, 1): films(0.80, list(0.78 + 2 * spread)),
        Cell("films", OTHER, 0): films(0.75, list(0.75 + spread)), Cell("films", OTHER, 1): "failed",
        Cell("distance", replace(REAL, real=0), 0): CellResult({}, {}, {}),
        Cell("distance", replace(MIXED, real=0), 0): CellResult({"fid": 12.345}, {}, {}),
        Cell("distance", replace(OTHER, real=0), 0): CellResult({"fid": 20.0}, {}, {}),
    }  # fmt: skip


@pytest.fixture
def table() -> FilledTable:
    return filled(TABLE, (0, 1), results(), MEASURED)


def test_an_entry_is_the_mean_over_seeds_with_intervals_and_the_paired_gain_over_the_first_row(
    table: FilledTable,
) -> None:
    real, mixed = table.entries[0, 0], table.entries[1, 0]
    assert real is not None
    assert mixed is not None
    assert (real.mean, real.sd) == (pytest.approx(0.72), pytest.approx(0.02 * math.sqrt(2)))
    assert (real.low, real.high) == (pytest.approx(0.682), pytest.approx(0.758))
    assert math.isnan(real.gain)
    assert (mixed.mean, mixed.low, mixed.high) == (pytest.approx(0.78), pytest.approx(0.704), pytest.approx(0.856))
    assert mixed.gain == pytest.approx(0.06)
    # the two go up and down together: their difference spreads by 0.038, where independent ones would by 0.085
    assert (mixed.gain_low, mixed.gain_high) == (pytest.approx(0.022), pytest.approx(0.098))
    assert mixed.num_seeds == 2


def test_the_table_as_markdown(table: FilledTable) -> None:
    assert table.markdown() == "\n".join([
        "## A made-up table",
        "",
        "| Method | Data | AUC | AUC (paper) | FID_50 & more | FID_50 & more (paper) |",
        "| --- | --- | --- | --- | --- | --- |",
        "| Only real | R100 | 0.720 ± 0.028 [0.682, 0.758] | 0.800 | not defined |  |",
        r"| EMIXER | R100 + S50 \| 30 % of labels | 0.780 ± 0.028 [0.704, 0.856] ▲ | 0.900 | 12.35 | 11.31 |",
        "| CoGAN | R100 + S50 | failed |  | 20.00 |  |",
        "",
        "- Ours: mean ± sd over 2 seeds [95 % interval of that mean, test subjects resampled]. Measured on tiny, 100 "
        "training films of 32 px. The paper's figures are of MIMIC-CXR: ours are no reproduction of them.",
        "- ▲ above, ▼ below the first row (of the same class, where there are classes) on the same resamples of test "
        "subjects, by an interval that excludes 0; how far is in the CSV. Of many entries, one in twenty would be "
        "marked so by chance.",
        "- A note of its own.",
        "",
    ])  # fmt: skip


def test_the_table_as_csv(table: FilledTable) -> None:
    assert table.csv() == "\n".join([
        "method,data,metric,mean,sd,low,high,gain,gain_low,gain_high,seeds,paper_mean,paper_sd",
        "Only real,R100,AUC,0.72,0.0282843,0.682,0.758,,,,2,0.8,0.002",
        "Only real,R100,FID_50 & more,,,,,,,,,,",
        "EMIXER,R100 + S50 | 30 % of labels,AUC,0.78,0.0282843,0.704,0.856,0.06,0.022,0.098,2,0.9,",
        "EMIXER,R100 + S50 | 30 % of labels,FID_50 & more,12.345,,,,,,,1,11.31,0.0028",
        "CoGAN,R100 + S50,AUC,,,,,,,,,,",
        "CoGAN,R100 + S50,FID_50 & more,20,,,,,,,1,,",
        "",
    ])  # fmt: skip
    assert len(list(csv.DictReader(io.StringIO(table.csv())))) == 6


def test_the_table_as_latex(table: FilledTable) -> None:
    assert table.latex() == "\n".join([
        "% A made-up table",
        "% Ours: mean ± sd over 2 seeds [95 % interval of that mean, test subjects resampled]. Measured on tiny, 100 "
        "training films of 32 px. The paper's figures are of MIMIC-CXR: ours are no reproduction of them.",
        r"% \uparrow above, \downarrow below the first row (of the same class, where there are classes) on the same "
        "resamples of test "
        "subjects, by an interval that excludes 0; how far is in the CSV. Of many entries, one in twenty would be "
        "marked so by chance.",
        "% A note of its own.",
        r"\begin{tabular}{llrrrr}",
        r"\toprule",
        r"Method & Data & AUC & (paper) & FID\_50 \& more & (paper) \\",
        r"\midrule",
        r"Only real & R100 & $0.720 \pm 0.028$ & 0.800 & -- & -- \\",
        r"EMIXER & R100 + S50 | 30 \% of labels & $0.780 \pm 0.028^{\uparrow}$ & 0.900 & $12.35$ & 11.31 \\",
        r"CoGAN & R100 + S50 & -- & -- & $20.00$ & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ])  # fmt: skip


def test_one_seed_has_no_spread_and_the_note_says_one_seed() -> None:
    one = filled(TABLE, (0,), results(), MEASURED)
    assert "| CoGAN | R100 + S50 | 0.750 [0.712, 0.788] ▲ |" in one.markdown()
    assert "mean ± sd over 1 seed [" in one.markdown()


def test_a_figure_that_one_seed_leaves_undefined_is_not_defined() -> None:
    changed = results() | {Cell("films", MIXED, 1): films(math.nan, [math.nan] * 41)}
    assert filled(TABLE, (0, 1), changed, MEASURED).missing[1, 0] == "not defined"
    halved = results() | {Cell("films", MIXED, 1): films(0.8, [math.nan] * 20 + [0.8] * 21)}
    entry = filled(TABLE, (0, 1), halved, MEASURED).entries[1, 0]
    assert entry is not None
    assert math.isfinite(entry.low), "by the resamples that define it"


def test_where_the_first_row_is_missing_nothing_is_compared_with_another_in_its_place() -> None:
    changed = results() | {Cell("films", REAL, 0): "failed"}
    table = filled(TABLE, (0, 1), changed, MEASURED)
    assert table.missing[0, 0] == "failed"
    entry = table.entries[1, 0]
    assert entry is not None
    assert math.isnan(entry.gain)


def test_classes_are_compared_with_the_first_row_of_their_own_class() -> None:
    column = Column("ppv", "PPV", "classes", "ppv")
    mixes = {"none": Mix(0), "real": Mix(100), "both": MIXED}
    rows = tuple(Row(kind, name, mix, {}, f"/{name}") for kind, mix in mixes.items() for name in ("A", "B"))
    found = {
        Cell("classes", mix, 0): CellResult({"ppv/A": 0.1 * n, "ppv/B": math.nan if n == 1 else 0.3 * n}, {}, {})
        for n, mix in enumerate(mixes.values(), start=1)
    }
    table = filled(Table("t", "T", (column,), rows), (0,), found, MEASURED)
    gains = {key: entry and entry.gain for key, entry in table.entries.items()}
    assert gains[2, 0] == pytest.approx(0.1)
    assert gains[4, 0] == pytest.approx(0.2)
    assert gains[1, 0] is None
    assert all(math.isnan(gains[index, 0] or 0) for index in (0, 3, 5)), "class B has no first row to compare with"


def test_the_plot_is_a_picture_with_a_mark_for_ours_and_one_for_the_papers(table: FilledTable) -> None:
    picture = Image.open(io.BytesIO(plot(table)))
    assert picture.format == "PNG"
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    for red, green, blue in ((0x1B, 0x5E, 0x86), (0xB0, 0x53, 0x2B)):
        assert (np.abs(pixels - [red, green, blue]).sum(2) < 30).sum() > 20
    empty = filled(TABLE, (0, 1), dict.fromkeys(results(), "failed"), MEASURED)
    assert plot(empty).startswith(b"\x89PNG")


@pytest.mark.parametrize("num_columns", [1, 7])
def test_no_text_of_the_plot_runs_over_its_edge(table: FilledTable, num_columns: int, tmp_path: Path) -> None:
    wide = replace(TABLE, title="Image classification and report generation with real and synthetic pairs (paper: 1)",
                   columns=(AUC,) * num_columns)  # fmt: skip
    measured = (
        "Measured on mimic-cxr-jpg, 368,960 training films of 128 px; 5,159 test films of 293 subjects, 3,858 test "
        "films of 285 subjects; sizes x 0.01. FID by chexpert_encoder at 224 px, 5,159 films a side."
    )
    picture = Image.open(io.BytesIO(plot(filled(wide, (0, 1), results(), measured))))
    picture.save(tmp_path / "plot.png")
    pixels = np.asarray(picture.convert("L"))
    assert (pixels[:, -6:] > 250).all()
    assert (pixels[:4] > 250).all()
    assert (pixels[-4:] > 250).all()

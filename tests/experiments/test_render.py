"""From results to a written table, worked out by hand and compared in full."""

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

AUC = Column("auc", "AUC", "images", "auc")
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
MEASURED = "Measured on tiny, 100 training images of 32 px."


def images(auc: float, resampled: list[float] | None = None) -> CellResult:
    return CellResult({"auc": auc}, {} if resampled is None else {"auc": np.array(resampled)}, {"test_subjects": 41})


def results() -> dict[Cell, CellResult | str]:
    spread = np.linspace(-0.04, 0.04, 41)  # its 2.5th and 97.5th percentiles are -0.038 and 0.038
    return {
        Cell("images", REAL, 0): images(0.70, list(0.70 + spread)),
        Cell("images", REAL, 1): images(0.74, list(0.74 + spread)),
        Cell("images", REAL, 2): images(0.72, list(0.72 + spread)),
        Cell("images", MIXED, 0): images(0.75, list(0.78 + 2 * spread)),
        Cell("images", MIXED, 1): images(0.81, list(0.78 + 2 * spread)),
        Cell("images", MIXED, 2): images(0.78, list(0.78 + 2 * spread)),
        Cell("images", OTHER, 0): images(0.75, list(0.75 + spread)), Cell("images", OTHER, 1): "failed",
        Cell("images", OTHER, 2): images(0.77, list(0.77 + spread)),
        Cell("distance", replace(REAL, real=0), 0): CellResult({}, {}, {}),
        Cell("distance", replace(MIXED, real=0), 0): CellResult(
            {"fid": 12.345}, {}, {"encoder": "chexpert", "input_px": 224, "images": 1200}
        ),
        Cell("distance", replace(OTHER, real=0), 0): "failed",
    }  # fmt: skip


@pytest.fixture
def table() -> FilledTable:
    return filled(TABLE, (0, 1, 2), results(), MEASURED)


def test_entry_is_the_mean_over_seeds_with_intervals_and_a_paired_gain(
    table: FilledTable,
) -> None:
    real, mixed = table.entries[0, 0], table.entries[1, 0]
    assert real is not None
    assert mixed is not None
    assert (real.mean, real.sd) == (pytest.approx(0.72), pytest.approx(0.02))
    assert (real.low, real.high) == (pytest.approx(0.682), pytest.approx(0.758))
    assert math.isnan(real.gain)
    assert (mixed.mean, mixed.low, mixed.high) == (pytest.approx(0.78), pytest.approx(0.704), pytest.approx(0.856))
    assert mixed.gain == pytest.approx(0.06)
    # by seed 0.05, 0.07, 0.06: variance of their mean 0.0001 / 3. The two rows move together, so their
    # difference over the resamples varies by 0.002^2 41 42 / 12 and not by five times as much. Together 0.000607,
    # of 0.000607^2 / (0.0000333^2 / 2 + 0.000574^2 / 40) = 41.9 degrees of freedom: half is 2.018 sqrt(0.000607)
    assert (mixed.gain_low, mixed.gain_high) == (pytest.approx(0.01027, abs=1e-4), pytest.approx(0.10973, abs=1e-4))
    assert mixed.num_seeds == 3


def one_mixture_twice(generator: np.random.Generator, by_seed: float, gain: float = 0.0) -> FilledTable:
    """Return a table of downstream models that differ by training noise and by `gain`; resamples are shared."""
    luck_SR = generator.normal(0, 0.01, 100)
    found = {
        Cell("images", mix, seed): images(value := base + generator.normal(0, by_seed), list(value + luck_SR))
        for mix, base in ((REAL, 0.8), (MIXED, 0.8 + gain)) for seed in (0, 1, 2)
    }  # fmt: skip
    return filled(replace(TABLE, columns=(AUC,), rows=TABLE.rows[:2]), (0, 1, 2), found, MEASURED)


def test_training_noise_is_rarely_marked_and_real_gains_are() -> None:
    generator = np.random.default_rng(0)

    def marked(by_seed: float, gain: float) -> float:
        tables = (one_mixture_twice(generator, by_seed, gain) for _ in range(600))
        return sum(" ▲ |" in table.markdown() for table in tables) / 600

    assert marked(0.02, 0.0) < 0.04, "half of one in twenty is above"
    assert marked(0.002, 0.02) > 0.95


def several_trainings(values: dict[str, list[float]], real: list[float]) -> FilledTable:
    """Table of one mixture with pairs of several generators, whose figures all test subjects give. values: figures of
    the models that use a generator, by its name; real: those of models on real pairs alone, by seed."""
    names = list(values)
    found: dict[Cell, CellResult | str] = {
        Cell("images", REAL, seed): images(value, [value] * 41) for seed, value in enumerate(real)
    }
    for seed in range(len(real)):
        value = values[names[seed % len(names)]][seed // len(names)]
        mix = replace(MIXED, generator=names[seed % len(names)])
        found[Cell("images", mix, seed)] = images(value, [value] * 41)
    table = replace(TABLE, columns=(AUC,), rows=TABLE.rows[:2], trainings=len(names))
    return filled(table, tuple(range(len(real))), found, MEASURED)


def test_seeds_that_share_a_generator_count_once_in_an_interval() -> None:
    entry = several_trainings(
        {"emixer": [0.84, 0.86], "emixer.1": [0.80, 0.80], "emixer.2": [0.82, 0.82]}, [0.8] * 6
    ).entries[1, 0]
    assert entry is not None
    assert (entry.mean, entry.num_seeds) == (pytest.approx(0.8233, abs=1e-4), 6)
    # one value a generator: 0.05, 0, 0.02; mean 0.0233, sd 0.02517; Student with 2 degrees of freedom, other subjects
    # change nothing: 4.3027 x 0.02517 / sqrt(3) = 0.0625. Six independent values would have given 0.0252
    assert entry.gain == pytest.approx(0.02333, abs=1e-5)
    assert (entry.gain_low, entry.gain_high) == (pytest.approx(-0.0392, abs=1e-4), pytest.approx(0.0859, abs=1e-4))


def test_luck_of_a_generator_is_rarely_marked() -> None:
    generator = np.random.default_rng(1)

    def marked(trainings: bool) -> float:
        hits = 0
        for _ in range(400):
            names = ("emixer", "emixer.1", "emixer.2")
            values = {
                name: list(0.8 + generator.normal(0, 0.02) + generator.normal(0, 0.003, 2)) for name in names
            }  # fmt: skip
            table = several_trainings(values, list(0.8 + generator.normal(0, 0.003, 6)))
            if not trainings:  # the same figures, as if all came from one generator
                results = {
                    Cell("images", replace(MIXED, generator="emixer"), seed): images(v, [v] * 41)
                    for seed, v in enumerate(values[names[seed % 3]][seed // 3] for seed in range(6))
                } | {Cell("images", REAL, seed): images(0.8, [0.8] * 41) for seed in range(6)}
                table = filled(replace(table.table, trainings=1), tuple(range(6)), results, MEASURED)
            hits += " ▲ |" in table.markdown()
        return hits / 400

    assert marked(trainings=True) < 0.05, "half of one in twenty is above"
    assert marked(trainings=False) > 0.05, "six values of three generators are not six independent ones"


def test_note_says_what_intervals_cover() -> None:
    real, better = [0.80, 0.801, 0.799] * 2, [0.9, 0.901]
    table = several_trainings({"emixer": better, "emixer.1": better, "emixer.2": better}, real)
    assert (
        "over retrained generators, retrained downstream models (paired by seed) and test subjects" in table.markdown()
    )
    assert "Each generator is trained 3 times" in table.markdown()
    redrawn = replace(table, table=replace(table.table, redraws=True))
    assert "(paired by seed), other draws of the real pairs and test subjects, excludes 0" in redrawn.markdown()


def test_fewer_than_three_seeds_mark_nothing_and_the_note_says_so(table: FilledTable) -> None:
    for seeds in ((0,), (0, 1)):
        few = filled(TABLE, seeds, results(), MEASURED)
        entry = few.entries[1, 0]
        assert entry is not None
        assert entry.gain == pytest.approx(0.05 if seeds == (0,) else 0.06)
        assert math.isnan(entry.gain_low)
        assert "▲" not in few.markdown()
        assert f"{len(seeds)} seed{'s' * (len(seeds) > 1)} cannot separate a gain" in few.markdown()
    assert "▲" in table.markdown()
    assert "cannot separate" not in table.markdown()


NOTES = [
    "Ours: mean ± sd over 3 seeds [95 % interval of the mean of these models, test subjects resampled]. Measured "
    "on tiny, 100 training images of 32 px. The paper's figures are for MIMIC-CXR: ours do not reproduce them.",
    "▲ above, ▼ below the first row (of the same class, or with the same number of real pairs): the 95 % interval "
    "of the difference, over retrained downstream models (paired by seed) and test subjects, excludes 0; differences "
    "are in the CSV. Each generator is trained once, so variation between generator trainings is not included. One in "
    "twenty entries that do not differ would be marked.",
    "A note of its own.",
]


def test_distances_of_several_generators_are_said_to_be_over_these() -> None:
    one, two = (Table("made-up", "", (AUC, FID), (), trainings=trainings) for trainings in (1, 2))
    note = "test subjects resampled]; FID_50 & more: over 2 trainings of the generator, without an interval. Measured"
    assert note in filled(two, (0, 1, 2), {}, MEASURED).markdown()
    assert "without an interval" not in filled(one, (0, 1, 2), {}, MEASURED).markdown()


def test_table_as_markdown(table: FilledTable) -> None:
    assert table.markdown() == "\n".join([
        "## A made-up table",
        "",
        "| Method | Data | AUC | AUC (paper) | FID_50 & more | FID_50 & more (paper) |",
        "| --- | --- | --- | --- | --- | --- |",
        "| Only real | R100 | 0.720 ± 0.020 [0.682, 0.758] | 0.800 | not defined |  |",
        r"| EMIXER | R100 + S50 \| 30 % of labels | 0.780 ± 0.030 [0.704, 0.856] ▲ | 0.900 | 12.35 | 11.31 |",
        "| CoGAN | R100 + S50 | 0.760 ± 0.014 [0.722, 0.798] (failed: 1 of 3 seeds) |  | failed |  |",
        "",
        *(f"- {note}" for note in NOTES),
        "",
    ])  # fmt: skip


def test_table_as_csv_states_what_is_missing_and_what_was_measured(table: FilledTable) -> None:
    rows = list(csv.reader(io.StringIO(table.csv())))
    assert ",".join(rows[0]) == (
        "method,data,metric,mean,sd,low,high,gain,gain_low,gain_high,seeds,paper_mean,paper_sd,status,encoder,"
        "measured_on"
    )
    network = "chexpert at 224 px, 1,200 images per side"
    assert [row[13:14] + row[3:4] + row[7:8] + row[10:13] + row[14:15] for row in rows[1:]] == [
        ["done", "0.72", "", "3", "0.8", "0.002", ""],
        ["not defined", "", "", "", "", "", ""],
        ["done", "0.78", "0.06", "3", "0.9", "", ""],
        ["done", "12.345", "", "1", "11.31", "0.0028", network],
        ["failed: 1 of 3 seeds", "0.76", "0.05", "2", "", "", ""],
        ["failed", "", "", "", "", "", ""],
    ]
    assert {row[-1] for row in rows[1:]} == {MEASURED}
    assert rows[3][:8] == ["EMIXER", "R100 + S50 | 30 % of labels", "AUC", "0.78", "0.03", "0.704", "0.856", "0.06"]


def test_table_as_latex_has_intervals_failures_and_notes(table: FilledTable) -> None:
    def printed(text: str) -> str:
        signs = {"%": r"\%", "_": r"\_", "±": r"$\pm$", "▲": r"$\uparrow$", "▼": r"$\downarrow$"}
        for letter, latex in signs.items():
            text = text.replace(letter, latex)
        return text

    assert table.latex() == "\n".join([
        "% A made-up table",
        r"\begin{tabular}{llrrrr}",
        r"\toprule",
        r"Method & Data & AUC & (paper) & FID\_50 \& more & (paper) \\",
        r"\midrule",
        r"Only real & R100 & 0.720 $\pm$ 0.020 [0.682, 0.758] & 0.800 & not defined & -- \\",
        r"EMIXER & R100 + S50 \textbar{} 30 \% of labels & 0.780 $\pm$ 0.030 [0.704, 0.856] $\uparrow$ & 0.900 & 12.35 "
        r"& 11.31 \\",
        r"CoGAN & R100 + S50 & 0.760 $\pm$ 0.014 [0.722, 0.798] (failed: 1 of 3 seeds) & -- & failed & -- \\",
        r"\bottomrule",
        *(rf"\multicolumn{{6}}{{p{{\linewidth}}}}{{\footnotesize {printed(note)}}} \\" for note in NOTES),
        r"\end{tabular}",
        "",
    ])  # fmt: skip


def test_one_seed_has_no_spread_and_the_note_says_one_seed() -> None:
    one = filled(TABLE, (0,), results(), MEASURED)
    assert "| CoGAN | R100 + S50 | 0.750 [0.712, 0.788] |" in one.markdown()
    assert "mean ± sd over 1 seed [" in one.markdown()


def test_figure_undefined_for_one_seed_is_not_defined() -> None:
    changed = results() | {Cell("images", MIXED, 1): images(math.nan, [math.nan] * 41)}
    assert filled(TABLE, (0, 1, 2), changed, MEASURED).missing[1, 0] == "not defined"
    for undefined, has_interval in ((8, True), (20, False)):  # a fifth of 41 at most
        resampled = [math.nan] * undefined + [0.8] * (41 - undefined)
        changed = results() | {Cell("images", MIXED, 1): images(0.8, resampled)}
        entry = filled(TABLE, (0, 1, 2), changed, MEASURED).entries[1, 0]
        assert entry is not None
        assert math.isfinite(entry.low) == math.isfinite(entry.gain_low) == has_interval


def test_nothing_is_compared_if_the_first_row_is_missing() -> None:
    changed = results() | {Cell("images", REAL, seed): "failed" for seed in range(3)}
    table = filled(TABLE, (0, 1, 2), changed, MEASURED)
    assert table.missing[0, 0] == "failed"
    entry = table.entries[1, 0]
    assert entry is not None
    assert math.isnan(entry.gain)


def test_failed_seed_hides_no_other_and_gains_use_the_seeds_of_both_rows() -> None:
    changed = results() | {Cell("images", REAL, 0): "failed"}
    table = filled(TABLE, (0, 1, 2), changed, MEASURED)
    real, mixed = table.entries[0, 0], table.entries[1, 0]
    assert real is not None
    assert mixed is not None
    assert (real.mean, real.num_seeds, table.missing[0, 0]) == (pytest.approx(0.73), 2, "failed: 1 of 3 seeds")
    assert mixed.gain == pytest.approx((0.81 + 0.78) / 2 - 0.73)
    assert math.isnan(mixed.gain_low), "two pairs are too few"
    assert "1 of 3 seeds" in table.latex()


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


def test_plot_has_a_mark_for_our_figures_and_one_for_the_papers(table: FilledTable) -> None:
    picture = Image.open(io.BytesIO(plot(table)))
    assert picture.format == "PNG"
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    for red, green, blue in ((0x1B, 0x5E, 0x86), (0xB0, 0x53, 0x2B)):
        assert (np.abs(pixels - [red, green, blue]).sum(2) < 30).sum() > 20
    empty = filled(TABLE, (0, 1), dict.fromkeys(results(), "failed"), MEASURED)
    assert plot(empty).startswith(b"\x89PNG")


@pytest.mark.parametrize("num_columns", [1, 7])
def test_no_text_runs_over_the_edge_of_the_plot(table: FilledTable, num_columns: int, tmp_path: Path) -> None:
    wide = replace(TABLE, title="Image classification and report generation with real and synthetic pairs (paper: 1)",
                   columns=(AUC,) * num_columns)  # fmt: skip
    measured = (
        "Measured on mimic-cxr-jpg, 368,960 training images of 128 px; 5,159 test images of 293 subjects, 3,858 test "
        "images of 285 subjects; sizes x 0.01. FID by chexpert_encoder at 224 px, 5,159 images per side."
    )
    picture = Image.open(io.BytesIO(plot(filled(wide, (0, 1), results(), measured))))
    picture.save(tmp_path / "plot.png")
    pixels = np.asarray(picture.convert("L"))
    assert (pixels[:, -6:] > 250).all()
    assert (pixels[:4] > 250).all()
    assert (pixels[-4:] > 250).all()

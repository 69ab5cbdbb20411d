"""The figures printed in the paper, typed a second time by hand, and column sums that expose a swapped line."""

import pytest

from emixer.experiments import paper
from emixer.experiments.paper import Printed

TABLES = {"1": paper.TABLE1, "2": paper.TABLE2, "3": paper.TABLE3, "5": paper.TABLE5, "9": paper.TABLE9,
          "10": paper.TABLE10}  # fmt: skip
SHAPES = {"1": (17, 7), "2": (5, 2), "3": (6, 3), "5": (12, 3), "9": (4, 5), "10": (17, 2)}


@pytest.mark.parametrize(
    ("table", "row", "column", "mean", "sd"),
    [
        ("1", ("real", "R100k"), "auc", 0.824, 0.0034),
        ("1", ("real", "R100k"), "bleu4", 0.074, 0.0012),
        ("1", ("jointgan", "R100k + S600k"), "auc", 0.831, 0.0009),
        ("1", ("jointgan", "R100k + S600k"), "bleu1", 0.313, 0.0011),
        ("1", ("cogan", "R100k + S100k"), "cider", 0.692, 0.0014),
        ("1", ("cogan", "R100k + S600k"), "bleu4", 0.081, 0.0019),
        ("1", ("smgan", "R100k + S300k"), "acc", 0.847, 0.0019),
        ("1", ("emixer", "R100k + S100k"), "bleu2", 0.216, 0.0050),
        ("1", ("emixer", "R100k + S600k"), "auc", 0.873, 0.0025),
        ("1", ("emixer", "R100k + S600k"), "bleu3", 0.169, 0.0018),
        ("2", ("real", "R100k"), "acc", 0.868, 0.0021),
        ("2", ("jointgan", "R100k + S300k"), "acc", 0.905, 0.0023),
        ("2", ("emixer", "R100k + S300k"), "auc", 0.905, 0.0019),
        ("3", ("cogan", "100 % of labels"), "fid", 15.23, 0.0015),
        ("3", ("emixer-30", "30 % of labels"), "acc", 0.838, 0.0013),
        ("3", ("emixer-50", "50 % of labels"), "fid", 11.73, 0.0023),
        ("3", ("emixer", "100 % of labels"), "bleu1", 0.271, 0.0014),
        ("5", ("none", "Normal"), "auc", 0.853, 0.0023),
        ("5", ("real", "Viral Pneumonia"), "ppv", 0.745, 0.0009),
        ("5", ("real + synthetic", "COVID-19"), "sensitivity", 0.898, 0.0034),
        ("9", ("real", "R100k"), "Consolidation", 0.847, None),
        ("9", ("cogan", "S100k"), "Edema", 0.682, None),
        ("9", ("emixer", "S100k"), "Pleural_Effusion", 0.728, None),
        ("10", ("real", "R100k"), "auc", 0.824, None),
        ("10", ("jointgan", "R60k + S40k"), "acc", 0.764, None),
        ("10", ("emixer", "R20k + S80k"), "auc", 0.756, None),
    ],
)
def test_figures_are_those_of_the_paper(
    table: str, row: tuple[str, str], column: str, mean: float, sd: float | None
) -> None:
    assert TABLES[table][row][column] == Printed(mean, sd)


@pytest.mark.parametrize("name", TABLES)
def test_table_has_all_rows_and_columns_of_the_paper(name: str) -> None:
    rows, columns = SHAPES[name]
    assert len(TABLES[name]) == rows
    assert {len(figures) for figures in TABLES[name].values()} == {columns}


@pytest.mark.parametrize(
    ("name", "column", "total"),
    [
        ("1", "auc", 14.122), ("1", "acc", 14.426), ("1", "cider", 12.478), ("1", "bleu1", 4.585),
        ("1", "bleu2", 3.623), ("1", "bleu3", 1.910), ("1", "bleu4", 1.440), ("2", "auc", 4.377), ("2", "acc", 4.495),
        ("3", "acc", 4.978), ("3", "bleu1", 1.487), ("3", "fid", 84.27), ("5", "auc", 10.889),
        ("5", "sensitivity", 9.626), ("5", "ppv", 10.142), ("9", "Cardiomegaly", 3.069), ("9", "Consolidation", 3.183),
        ("9", "Pleural_Effusion", 2.913), ("9", "Pneumothorax", 2.844), ("9", "Edema", 2.845), ("10", "auc", 13.015),
        ("10", "acc", 13.382),
    ],
)  # fmt: skip
def test_columns_add_up_to_the_totals_in_the_papers_text(name: str, column: str, total: float) -> None:
    """The totals were taken from the text of the paper by another program."""
    assert sum(figures[column].mean for figures in TABLES[name].values()) == pytest.approx(total, abs=1e-9)


def test_figures_are_printed_as_in_the_paper() -> None:
    assert str(Printed(0.85, 0.0034)) == "0.850"
    assert str(Printed(12.8, 0.0021)) == "12.80"

"""Which cells make up the tables, and their sizes."""

from typing import Any

import pytest

from emixer.config.experiment import ExperimentConfig
from emixer.config.generator_name import GeneratorName
from emixer.experiments import paper
from emixer.experiments.cells import Cell, Mix
from emixer.experiments.tables import Row, Table, dataset_rows, scaled, size_in_words, table_of


def table(name: str, **settings: Any) -> Table:
    return table_of(ExperimentConfig.model_validate({"table": name} | settings), num_train=1_000_000)


def row(found: Table, method: str, data: str) -> Row:
    (one,) = (row for row in found.rows if (row.method, row.data) == (method, data))
    return one


def test_table1_mixes_one_real_set_with_four_sizes_per_method() -> None:
    found = table("table1")
    assert [row.mix for row in found.rows[:5]] == [
        Mix(100_000), Mix(100_000, 50_000, "jointgan"), Mix(100_000, 100_000, "jointgan"),
        Mix(100_000, 300_000, "jointgan"), Mix(100_000, 600_000, "jointgan"),
    ]  # fmt: skip
    assert [row.method for row in found.rows[:17]] == ["Only real"] + [
        name for name in ("JointGAN", "CoGAN", "SM-GAN", "EMIXER") for _ in range(4)
    ]
    assert row(found, "EMIXER", "R100k + S600k").paper["auc"].mean == 0.873
    assert [column.title for column in found.columns] == ["AUC", "ACC", "CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]
    assert found.generators((0, 1, 2)) == ["jointgan", "cogan", "smgan", "emixer"]


def test_table1_extends_the_paper_in_three_ways_for_requested_methods() -> None:
    rows = table("table1", scale=0.01).rows[17:]
    assert [(row.method, row.data, row.mix) for row in rows] == [
        ("EMIXER", "R1k + S5k", Mix(1000, 5000, "emixer")),
        ("EMIXER", "S6k, then R1k", Mix(1000, 6000, "emixer", pretrains=True)),
        ("EMIXER", "R1k + S3k chosen from S6k", Mix(1000, 3000, "emixer", chosen_from=6000)),
    ]
    assert all(not row.paper for row in rows)
    assert any("ChexGen" in note for note in table("table1").notes)
    more = table("table1", beyond=["cogan", "emixer"], methods=["cogan", "smgan"])
    assert [row.method for row in more.rows[9:]] == ["CoGAN"] * 3
    plain = table("table1", beyond=[])
    assert (len(plain.rows), plain.notes) == (17, ())


def test_figures_have_no_cells_and_one_generator() -> None:
    for methods, generator in ((["cogan", "emixer"], "emixer"), (["smgan", "cogan"], "smgan")):
        found = table("figures", methods=methods)
        assert (found.all_cells((0,)), found.generators((0,))) == ([], [generator])


def test_one_factor_scales_all_sizes_and_names() -> None:
    settings = ExperimentConfig(scale=0.01)
    assert [scaled(images, settings) for images in (50_000, 100_000, 600_000)] == [500, 1000, 6000]
    assert [size_in_words(images, settings, "S") for images in (50_000, 100_000, 600_000)] == ["S500", "S1k", "S6k"]
    assert row(table("table1", scale=0.01), "EMIXER", "R1k + S6k").mix == Mix(1000, 6000, "emixer")
    assert row(table("table10", scale=0.0105), "CoGAN", "R945 + S105").mix == Mix(945, 105, "cogan")
    assert scaled(100_000, ExperimentConfig(scale=1e-9)) == 1


@pytest.mark.parametrize(
    ("name", "cells", "generators"),
    [
        ("table1", 2 * 20 * 3, 4), ("table2", 5 * 3, 4), ("table3", 2 * 6 * 3 + 6, 6), ("table5", 3 * 3, 1),
        ("table9", 4 * 3, 3), ("table10", 17 * 3, 4),
    ],
)  # fmt: skip
def test_number_of_cells_for_three_seeds(name: str, cells: int, generators: int) -> None:
    found = table(name)
    assert len(found.all_cells((0, 1, 2))) == cells
    assert len(set(found.all_cells((0, 1, 2)))) == cells
    assert len(found.generators((0, 1, 2))) == generators


def test_table10_replaces_real_images_by_generated_ones_at_one_size() -> None:
    rows = table("table10").rows
    assert {row.mix.real + row.mix.synthetic for row in rows} == {100_000}
    assert [row.mix.real for row in rows[:5]] == [100_000, 90_000, 80_000, 60_000, 20_000]
    assert table("table1").rows[0].mix == rows[0].mix, "one cell of both"


def test_table9_trains_on_generated_images_only_with_a_column_per_disease() -> None:
    found = table("table9", diseases=["Edema", "Pleural Effusion", "Fracture"])
    assert [row.mix for row in found.rows] == [
        Mix(100_000), *(Mix(0, 100_000, name) for name in ("cogan", "jointgan", "emixer"))
    ]  # fmt: skip
    assert [column.figure for column in found.columns] == ["auc/Edema", "auc/Pleural Effusion", "auc/Fracture"]
    printed = [found.rows[0].paper.get(column.paper) for column in found.columns]
    assert [figure and figure.mean for figure in printed] == [0.732, 0.753, None]


def test_table3_is_of_generated_pairs_alone_and_has_one_distance_per_generator() -> None:
    """The paper's rows are none of its table 1, so they cannot be of the mixtures there."""
    found = table("table3")
    assert row(found, "EMIXER", "30 % of labels").mix == Mix(0, 100_000, "emixer-30")
    printed = {(figures["acc"].mean, figures["bleu1"].mean) for figures in paper.TABLE1.values()}
    assert not printed & {(figures["acc"].mean, figures["bleu1"].mean) for figures in paper.TABLE3.values()}
    assert not set(found.all_cells((0,))) & set(table("table1").all_cells((0,)))
    shared = set(found.all_cells((0,))) & set(table("table9").all_cells((0,)))
    assert {(cell.task, cell.mix.generator) for cell in shared} == {
        ("images", name) for name in ("cogan", "jointgan", "emixer")
    }
    distances = [cell for cell in found.all_cells((0, 1, 2)) if cell.task == "distance"]
    assert len(distances) == 6
    assert {cell.mix.real for cell in distances} == {0}, "R is no part of a distance"


def test_table5_has_three_initialisations_and_a_row_per_class() -> None:
    found = table("table5", covid_classes=["healthy", "bacteria", "virus", "sars2"], scale=0.1)
    assert [row.data for row in found.rows] == ["healthy", "bacteria", "virus", "sars2"] * 3
    assert [row.mix for row in found.rows[::4]] == [Mix(0), Mix(10_000), Mix(10_000, 25_000, "emixer")]
    last = found.rows[-1]
    assert (last.suffix, last.paper["ppv"].mean) == ("/sars2", 0.943)
    assert found.cells(last, found.columns[0], (7,)) == (Cell("classes", Mix(10_000, 25_000, "emixer"), 7),)
    assert any("hospital" in note for note in found.notes)


def test_methods_not_requested_have_no_row_and_no_generator() -> None:
    found = table("table3", methods=["emixer", "cogan"])
    assert [row.method for row in found.rows] == ["CoGAN", "EMIXER", "EMIXER", "EMIXER"]
    assert found.generators((0, 1, 2)) == ["cogan", "emixer-30", "emixer-50", "emixer"]
    assert len(table("table9", methods=["smgan"]).rows) == 1


def test_gain_has_a_group_of_rows_per_number_of_real_pairs() -> None:
    settings = ExperimentConfig.model_validate(
        {
            "table": "gain",
            "real_pairs": [300, 100],
            "multiples": [1, 4],
            "methods": ["emixer"],
            "gain_tasks": ["images"],
        }
    )
    found = table_of(settings, num_train=700)
    assert [(row.method, row.data, row.mix) for row in found.rows] == [
        ("Only real", "R100", Mix(100)),
        ("EMIXER", "R100 + S100", Mix(100, 100, "emixer")),
        ("EMIXER", "R100 + S400", Mix(100, 400, "emixer")),
        ("EMIXER", "S400, then R100", Mix(100, 400, "emixer", pretrains=True)),
        ("EMIXER", "R100 + S200 chosen from S400", Mix(100, 200, "emixer", chosen_from=400)),
        ("EMIXER", "R100 + S400 balanced", Mix(100, 400, "emixer-balanced")),
        ("More real", "R100 + R100", Mix(200)),
        ("More real", "R100 + R400", Mix(500)),
        ("Only real", "R300", Mix(300)),
        ("EMIXER", "R300 + S300", Mix(300, 300, "emixer")),
        ("EMIXER", "R300 + S1200", Mix(300, 1200, "emixer")),
        ("EMIXER", "S1200, then R300", Mix(300, 1200, "emixer", pretrains=True)),
        ("EMIXER", "R300 + S600 chosen from S1200", Mix(300, 600, "emixer", chosen_from=1200)),
        ("EMIXER", "R300 + S1200 balanced", Mix(300, 1200, "emixer-balanced")),
        ("More real", "R300 + R300", Mix(600)),
    ]  # there are not 1,500 real ones
    assert {row.group for row in found.rows} == {("", 100), ("", 300)}
    assert [column.title for column in found.columns] == ["AUC"]
    assert found.generators((0, 1, 2)) == ["emixer", "emixer-balanced"]
    assert dataset_rows(settings, "emixer") == 1200


def test_seeds_use_several_trainings_of_a_generator_in_turn() -> None:
    found = table("gain", real_pairs=[100], multiples=[1], methods=["emixer"], generators=3, seeds=list(range(6)))
    seeds = tuple(range(6))
    assert found.generators((0, 1, 2)) == [
        f"emixer{number}{variant}" for number in ("", ".1", ".2") for variant in ("", "-balanced")
    ]
    mixed = found.cells(row(found, "EMIXER", "R100 + S100"), found.columns[0], seeds)
    assert [(cell.mix, cell.seed) for cell in mixed] == [
        (Mix(100, 100, name), seed) for seed, name in enumerate(["emixer", "emixer.1", "emixer.2"] * 2)
    ]
    assert [found.unit_of(cell) for cell in mixed] == ["emixer", "emixer.1", "emixer.2"] * 2
    alone = found.cells(row(found, "Only real", "R100"), found.columns[0], seeds)
    assert [cell.mix for cell in alone] == [Mix(100)] * 6
    assert len({found.unit_of(cell) for cell in alone}) == 6


def test_each_training_has_a_distance_of_its_own() -> None:
    found = table("table3", scale=0.01, methods=["emixer"], generators=3)
    cells = found.cells(row(found, "EMIXER", "30 % of labels"), found.columns[-1], (0, 1, 2))
    assert [(cell.mix.generator, cell.mix.real, cell.seed) for cell in cells] == [
        ("emixer-30", 0, 0), ("emixer.1-30", 0, 1), ("emixer.2-30", 0, 2)
    ]  # fmt: skip


def test_redrawn_real_pairs_are_the_same_in_all_rows_of_a_seed() -> None:
    found = table("gain", real_pairs=[100], multiples=[1], methods=["emixer"], redraw=True)
    draws = [[cell.mix.draw for cell in found.cells(row, found.columns[0], (0, 4))] for row in found.rows]
    assert draws == [[1, 5]] * len(found.rows)
    assert [cell.mix for cell in table("table9", redraw=True).all_cells((0,)) if not cell.mix.real] == [
        Mix(0, 100_000, name) for name in ("cogan", "jointgan", "emixer")
    ], "no real pairs, nothing to draw"


def test_own_generators_know_the_real_pairs_of_their_row_and_seed_and_no_others() -> None:
    settings = {"real_pairs": [100, 300], "multiples": [1, 2], "methods": ["emixer"], "generators_from": "real"}
    found = table("gain", redraw=True, seeds=[0, 1], **settings)
    assert found.generators((0, 1)) == [
        f"emixer@R{real}.{draw}{variant}"
        for real in (100, 300) for variant in ("", "-balanced") for draw in (1, 2)
    ]  # fmt: skip
    for cell in found.all_cells((0, 1)):
        if cell.mix.generator:
            name = GeneratorName.parse(cell.mix.generator)
            assert (name.real, name.draw) == (cell.mix.real, cell.mix.draw)
    assert "Each generator is trained on the real pairs of its row alone" in found.notes[-1]
    same = table("gain", seeds=[0, 1], **settings)
    assert same.generators((0, 1)) == ["emixer@R100", "emixer@R100-balanced", "emixer@R300", "emixer@R300-balanced"]
    gain = ExperimentConfig(table="gain", **settings)
    assert [dataset_rows(gain, name) for name in ("emixer@R100", "emixer@R300.2-balanced")] == [200, 600]

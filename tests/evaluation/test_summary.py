"""The readable summary of an evaluation."""

from typing import Any

from emixer.evaluation.summary import markdown


def evaluation(**reports: Any) -> dict[str, Any]:
    return {
        "dataset": {"folder": "/data/made"},
        "real": {"collection": ["phantom"], "split": "test", "side_px": 32},
        "labels": {"compared": ["Edema"], "only_generated": [], "only_real": []},
        "images_per_side": 100,
        "images": {},
        "pairs": {"judge": "nobody"},
        "reports": reports,
    }


def test_reports_are_listed_by_label_with_chance_and_real_ones() -> None:
    generated = {
        "report_f1": 0.5, "report_f1_chance": 0.125, "report_f1_over_chance": 0.375,
        "report_f1/Edema": 0.75, "report_f1_over_chance/Edema": 0.5,
        "report_f1/Fracture": 0.25, "report_f1_over_chance/Fracture": 0.25,
    }  # fmt: skip
    intervals = {"report_f1/Edema": (0.625, 0.875), "report_f1_over_chance/Edema": (0.375, 0.625)}
    said = markdown(
        evaluation(generated=generated, real={"report_f1/Edema": 1.0}, intervals={"generated": intervals})
    ).splitlines()
    assert "| ... of as many random statements | 0.125 |  |" in said
    table = said[said.index("| F1 of | generated | above chance | real |") :]
    assert table[2:] == [
        "| Edema | 0.750 [0.625, 0.875] | 0.500 [0.375, 0.625] | 1.000 |",
        "| Fracture | 0.250 | 0.250 |  |",
    ]


def test_no_table_of_labels_without_a_measurable_label() -> None:
    said = markdown(evaluation(generated={"words_per_report": 3.0}, intervals={"generated": {}}))
    assert "| F1 of |" not in said

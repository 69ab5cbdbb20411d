"""SDMetrics' distances to the closest record; run by benchmarks/peer_privacy.py in an environment of its own.

python peer_sdmetrics.py TABLES.npz       prints a line of JSON

The tables are numbers, a row an image: `train`, `held_out`, and one for each dataset. Each measure is computed on all
rows, which is the default, and on samples of as many rows of each table as there are held-out ones, five times over:
its documentation asks for a validation table of at least half the rows of the training table.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sdmetrics.single_table import DCRBaselineProtection, DCROverfittingProtection

_TIMES = 5
_NAME = "images"


def main() -> None:
    """{dataset: {measure: {"score": ..., "sampled": ..., "cpu_s": ...}}}; cpu_s is that of all rows."""
    np.random.seed(0)  # pandas draws samples from this generator
    warnings.simplefilter("ignore")  # that the validation table is small, which is why there are samples
    tables = {name: pd.DataFrame(table).add_prefix("number") for name, table in np.load(sys.argv[1]).items()}
    train, held_out = tables.pop("train"), tables.pop("held_out")
    columns = {name: {"sdtype": "numerical"} for name in train.columns}
    about = {"metadata": {"tables": {_NAME: {"columns": columns}}}, "table_name": _NAME}
    sampled = {"num_rows_subsample": len(held_out), "num_iterations": _TIMES}

    def overfitting(table: pd.DataFrame, **settings: int) -> Any:
        return DCROverfittingProtection.compute_breakdown(
            real_training_data=train, synthetic_data=table, real_validation_data=held_out, **about, **settings
        )

    def baseline(table: pd.DataFrame, **settings: int) -> Any:
        return DCRBaselineProtection.compute_breakdown(real_data=train, synthetic_data=table, **about, **settings)

    measures = {"overfitting": overfitting, "baseline": baseline}
    print(json.dumps({
        kind: {name: measured(measure, table, sampled) for name, measure in measures.items()}
        for kind, table in tables.items()
    }))  # fmt: skip


def measured(measure: Callable[..., Any], table: pd.DataFrame, sampled: dict[str, int]) -> dict[str, float]:
    """Scores of one measure, and the CPU seconds of the one over all rows."""
    start = time.process_time()
    score = float(measure(table)["score"])
    cpu_s = time.process_time() - start
    return {"score": score, "sampled": float(measure(table, **sampled)["score"]), "cpu_s": cpu_s}


if __name__ == "__main__":
    main()

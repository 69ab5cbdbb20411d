"""SDMetrics' distance to the closest record; run by benchmarks/privacy_peers.py in its environment.

python peer_privacy.py TABLES.npz       prints {"score": ..., "closer_to_training": ...}
"""

import json
import sys

import numpy as np
import pandas as pd
from sdmetrics.single_table import DCROverfittingProtection


def main() -> None:
    """generated, train, held_out: tables of numbers, a row an image."""
    tables = {name: pd.DataFrame(table).add_prefix("p") for name, table in np.load(sys.argv[1]).items()}
    columns = {name: {"sdtype": "numerical"} for name in tables["train"].columns}
    found = DCROverfittingProtection.compute_breakdown(
        real_training_data=tables["train"],
        synthetic_data=tables["generated"],
        real_validation_data=tables["held_out"],
        metadata={"tables": {"images": {"columns": columns}}},
        table_name="images",
    )
    nearer = found["synthetic_data_percentages"]["closer_to_training"]
    print(json.dumps({"score": float(found["score"]), "closer_to_training": float(nearer)}))


if __name__ == "__main__":
    main()

"""What a search may aim at: metrics of the validation pass, and which way is better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from emixer.config.tune import TuneMetric
from emixer.errors import ConfigError


@dataclass(frozen=True)
class Aim:
    """One metric."""

    prefix: str
    """How its name in metrics.jsonl begins, after `validation/`."""
    direction: Literal["minimize", "maximize"]
    needs: str
    """What the validation films must have."""


AIMS: Mapping[TuneMetric, Aim] = {
    "fid": Aim("fid_", "minimize", "films"),
    "word_cross_entropy": Aim("word_cross_entropy", "minimize", "reports"),
    "label_auc": Aim("label_auc_generated", "maximize", "labels, some present and some absent"),
    "report_f1": Aim("report_f1_generated", "maximize", "reports and labels"),
    "pair_agreement": Aim("pair_agreement_generated", "maximize", "reports and labels"),
}


def directions(metrics: Sequence[TuneMetric]) -> list[Literal["minimize", "maximize"]]:
    """Optuna's words, in order."""
    return [AIMS[name].direction for name in metrics]


def measured(metrics: Sequence[TuneMetric], line: Mapping[str, float]) -> list[float]:
    """The values in a line of metrics.jsonl. Raises ConfigError when the validation pass does not report one."""
    found = []
    for name in metrics:
        aim = AIMS[name]
        prefix = f"validation/{aim.prefix}"
        matching = [value for key, value in line.items() if key.startswith(prefix) and "/" not in key[len(prefix) :]]
        if not matching:
            raise ConfigError(
                f"tune.metrics names {name}, which the validation pass does not report here: it needs {aim.needs} in "
                "the validate split. Choose another metric, or shards that have them."
            )
        found.append(matching[0])
    return found

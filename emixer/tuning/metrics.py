"""What a search may aim at: metrics of the validation pass, and which way is better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from emixer.config.tune import TuneMetric
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError


@dataclass(frozen=True)
class Aim:
    """One metric."""

    prefix: str
    """How its name in metrics.jsonl begins, after `validation/`."""
    direction: Literal["minimize", "maximize"]
    needs: str
    """What the validation films must have."""
    of_reports: bool = False
    of_labels: bool = False


AIMS: Mapping[TuneMetric, Aim] = {
    "fid": Aim("fid_", "minimize", "films"),
    "word_cross_entropy": Aim("word_cross_entropy", "minimize", "reports", of_reports=True),
    "label_auc": Aim("label_auc_generated", "maximize", "labels, some present and some absent", of_labels=True),
    "report_f1": Aim("report_f1_generated", "maximize", "labels, some present and some absent", of_labels=True),
    "pair_agreement": Aim(
        "pair_agreement_generated", "maximize", "labels, some present and some absent", of_labels=True
    ),
}


def directions(metrics: Sequence[TuneMetric]) -> list[Literal["minimize", "maximize"]]:
    """Optuna's words, in order."""
    return [AIMS[name].direction for name in metrics]


def require_measurable(metrics: Sequence[TuneMetric], shards: ShardSet, enough: int) -> None:
    """Raises ConfigError, naming what is missing, for a metric that no validation pass on these shards will report.

    enough: so many films must carry a label, and so many not, for figures of it.
    """
    for name in metrics:
        aim = AIMS[name]
        lacks_reports = aim.of_reports and not shards.num_reports("validate")
        if lacks_reports or (aim.of_labels and not _has_measurable_label(shards, enough)):
            raise _not_reported(name)


def _has_measurable_label(shards: ShardSet, enough: int) -> bool:
    """Whether a label is on enough films of the split, and missing on enough, for an AUC or F1 of it."""
    counts = shards.manifest["labels"]["validate"]
    labelled = shards.num_rows("validate") - counts["unlabelled_films"]
    present = [of_label["present"] for of_label in counts["names"].values()]
    return any(min(number, labelled - number) >= enough for number in present)


def _not_reported(name: TuneMetric) -> ConfigError:
    return ConfigError(
        f"tune.metrics names {name}, which the validation pass does not report here: it needs {AIMS[name].needs} in "
        "the validate split. Choose another metric, or shards that have them."
    )


def measured(metrics: Sequence[TuneMetric], line: Mapping[str, float]) -> list[float]:
    """The values in a line of metrics.jsonl. Raises ConfigError when the validation pass does not report one."""
    found = []
    for name in metrics:
        aim = AIMS[name]
        prefix = f"validation/{aim.prefix}"
        matching = [value for key, value in line.items() if key.startswith(prefix) and "/" not in key[len(prefix) :]]
        if not matching:
            raise _not_reported(name)
        found.append(matching[0])
    return found

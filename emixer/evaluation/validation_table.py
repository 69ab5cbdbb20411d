"""The last validation pass for people: what `emixer train` prints when a run is done."""

from collections.abc import Mapping

from emixer.metric_names import METRIC_NAMES, fid_network

_PAIRED = {
    "report_f1": METRIC_NAMES["report_f1"], "report_f1_over_chance": "... above as many random statements",
    "report_precision": "... precision", "report_recall": "... recall",
    "pair_agreement": METRIC_NAMES["pair_agreement"], "label_auc": METRIC_NAMES["label_auc"],
    "report_positive_statements": "findings stated per report",
    "report_negative_statements": "findings denied per report",
    "report_negative_precision": "... share of correct denials", "words_per_report": METRIC_NAMES["words_per_report"],
    "distinct_reports": METRIC_NAMES["distinct_reports"],
}  # fmt: skip
"""Measured on generated and on real held-out pairs: `<key>_generated` and `<key>_real`."""
_SINGLE = {"word_cross_entropy": METRIC_NAMES["word_cross_entropy"]}
_FRECHET = "fid_"
_IMPLIED = ("word_perplexity", "report_f1_chance_generated", "report_f1_chance_real")
"""Follows from what is shown."""
_NAME, _VALUE = 38, 11


def validation_table(metrics: Mapping[str, float]) -> list[str]:
    """Lines of a table of generated beside real values. Empty without metrics.

    metrics: names as in `emixer.evaluation.validation`, with the prefix `validation/`; those by label are left out.
    """
    values = {name.removeprefix("validation/"): value for name, value in metrics.items()
              if name.startswith("validation/") and name.count("/") == 1}  # fmt: skip
    if not values:
        return []
    rows = [(text, [f"{key}_generated", f"{key}_real"]) for key, text in _PAIRED.items()]
    rows += [(f"Fréchet distance, {fid_network(key)}", [key])
             for key in values if key.startswith(_FRECHET)]  # fmt: skip
    rows += [(text, [key]) for key, text in _SINGLE.items()]
    shown = {key for _, keys in rows for key in keys}.union(_IMPLIED)
    rows += [(key, [key]) for key in values if key not in shown]
    return [_line("last validation pass", ["generated", "real"])] + [
        _line(text, [f"{values[key]:.3g}" if key in values else "" for key in keys])
        for text, keys in rows if any(key in values for key in keys)
    ]  # fmt: skip


def _line(text: str, cells: list[str]) -> str:
    return f"  {text:<{_NAME}}{''.join(f'{cell:>{_VALUE}}' for cell in cells)}".rstrip()

"""An evaluation as Markdown, as `emixer evaluate` prints it and writes it beside its JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emixer.evaluation.group_summary import group_tables
from emixer.markdown import table_row
from emixer.metric_names import METRIC_NAMES

_SHOWN = {
    "fid": "Fréchet distance", "kid": "kernel distance", "precision": "precision", "recall": "recall",
    "density": "density", "coverage": "coverage", "label_auc": METRIC_NAMES["label_auc"],
    "pair_agreement": METRIC_NAMES["pair_agreement"],
    "report_f1": METRIC_NAMES["report_f1"],
    "report_f1_chance": "... of as many random statements",
    "report_f1_over_chance": "... above chance",
    "chexbert_report_f1": "... labelled by CheXbert",
    "same_labels_bleu_1": "BLEU-1 against real reports of the same labels", "same_labels_bleu_4": "... BLEU-4",
    "same_labels_rouge_l": "... ROUGE-L", "same_labels_cider": "... CIDEr",
    "same_labels_radgraph_f1": "... RadGraph F1, against one of them",
    "same_labels_scored": "... share of reports with such references",
    "distinct_1": "distinct words", "distinct_2": "distinct pairs of words", "distinct_3": "distinct triples of words",
    "varied_reports": "reports whose variety is measured, one a study",
    "distinct_reports": METRIC_NAMES["distinct_reports"],
    "words_per_report": METRIC_NAMES["words_per_report"],
    "copied_reports": "share of reports copied from train", "copied_sentences": "share of sentences copied from train",
}  # fmt: skip


def markdown(content: Mapping[str, Any]) -> str:
    """Content of evaluation.json as Markdown, every figure beside that of real images."""
    real, num = content["real"], content["images_per_side"]
    lines = [
        f"# {Path(content['dataset']['folder']).name}", "",
        f"{num:,} generated images compared with {num:,} of the {real['split']} split of "
        f"{', '.join(real['collection'])} at {real['side_px']} px. The column `real` is the same measurement for real "
        f"images: {num:,} train images for images, the held-out ones themselves for pairs and reports. In brackets: "
        "95 % confidence intervals, subjects resampled. Compare figures only at the same number of images and with the "
        "same network.", "", _labels_in_words(content["labels"]),
    ]  # fmt: skip
    lines += [part for remark in content.get("remarks", ()) for part in ("", f"**{remark}**")]
    for name, network in content["images"].items():
        lines += ["", f"## Images, by {name} ({network['resized']})", "", *_table(network)]
        if network["labels"]:
            lines += ["", "| Fréchet distance of images with | generated | real | images per side |",
                      "| --- | ---: | ---: | ---: |"]  # fmt: skip
            lines += [
                table_row([name, _number(label["fid"]), _number(label["real_fid"]), f"{label['images']:,.0f}"])
                for name, label in network["labels"].items()
            ]
    lines += ["", f"## Pairs, by the label judge: {content['pairs']['judge']}", "", *_table(content["pairs"])]
    lines += ["", "## Reports", "", *_table(content["reports"]), *_by_label(content["reports"])]
    unread = content.get("reports_not_read")
    if unread:
        lines += ["", f"{unread['real']:,} real reports were not labelled: they are in the language "
                  f"{unread['language']!r}, and the labeler supports only English. No figure uses them."]  # fmt: skip
    return "\n".join([*lines, *group_tables(content.get("by", {}), _entry)])


def _by_label(reports: Mapping[str, Any]) -> list[str]:
    """Report F1 by label."""
    figures, spread = reports["generated"], reports["intervals"]["generated"]
    names = [key.removeprefix("report_f1/") for key in figures if key.startswith("report_f1/")]
    if not names:
        return []
    columns = [("report_f1", "generated"), ("report_f1_over_chance", "above chance")]
    lines = ["", table_row(["F1 of", *(text for _, text in columns), "real"]), "| --- | ---: | ---: | ---: |"]
    for name in names:
        entries = [_entry(f"{key}/{name}", figures, spread) for key, _ in columns]
        real = _number(reports.get("real", {}).get(f"report_f1/{name}"))
        lines.append(table_row([name, *entries, real]))
    return lines


def _labels_in_words(labels: Mapping[str, Sequence[str]]) -> str:
    compared = f"Labels: {', '.join(labels['compared'])}."
    left_out = "; ".join(
        f"only {side} have {', '.join(labels[key])}"
        for key, side in (("only_generated", "generated pairs"), ("only_real", "real ones")) if labels[key]
    )  # fmt: skip
    return f"{compared} Not compared: {left_out}." if left_out else compared


def _table(columns: Mapping[str, Any]) -> list[str]:
    kinds = ("generated", "real")
    spread = columns.get("intervals", {})
    rows = [
        table_row([text, *(_entry(k, columns.get(kind, {}), spread.get(kind, {})) for kind in kinds)])
        for k, text in _SHOWN.items() if any(k in columns.get(kind, {}) for kind in kinds)
    ]  # fmt: skip
    means = "; ".join(
        f"{_SHOWN[name]}: {', '.join(labels)}" for name, labels in columns.get("means_over", {}).items() if labels
    )
    told = [f"Means are over the labels that can be measured on both sides. {means}.", ""] if means else []
    return [*told, "| | generated | real |", "| --- | ---: | ---: |", *rows]


def _entry(name: str, figures: Mapping[str, float], spread: Mapping[str, tuple[float, float]]) -> str:
    between = spread.get(name)
    return _number(figures.get(name)) + (f" [{_number(between[0])}, {_number(between[1])}]" if between else "")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if abs(value) < 0.1 else f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"

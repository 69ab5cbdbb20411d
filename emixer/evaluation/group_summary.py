"""Figures by image group, as Markdown."""

from collections.abc import Callable, Mapping
from typing import Any

from emixer.markdown import table_row

_KINDS = ("generated", "real")
_FIGURES = {
    "label_auc": "AUC against labels", "pair_agreement": "AUC against own reports", "report_f1": "report F1",
}  # fmt: skip


def group_tables(
    by: Mapping[str, Any], entry: Callable[[str, Mapping[str, float], Mapping[str, tuple[float, float]]], str]
) -> list[str]:
    """One table per condition; unmeasured entries say why. entry: formats a figure with its interval."""
    lines: list[str] = []
    for name, content in by.items():
        groups = content["groups"].items()
        shown = [key for key in _FIGURES if any(key in group.get("generated", {}) for _, group in groups)]
        columns = [name, "images", f"AUC of the {name} judge", "Fréchet distance", *(_FIGURES[key] for key in shown)]
        lines += ["", f"## By {name}", "", *_told(name, content), "",
                  table_row(columns), f"| --- |{' ---: |' * (len(columns) - 1)}"]  # fmt: skip
        for value, group in groups:
            cells = [value, " / ".join(f"{group['images'][kind]:,}" for kind in _KINDS), _judged(group["shown"])]
            if "too_few" in group:
                cells += [f"not measured: fewer than {group['too_few']} images per side", *([""] * len(shown))]
            else:
                cells.append(_distance(group))
                cells += [_both(key, group, entry) for key in shown]
            lines.append(table_row(cells))
    return lines


def _told(name: str, content: Mapping[str, Any]) -> list[str]:
    labels = "; ".join(f"{text}: {', '.join(content['means_over'][key]) or 'none'}" for key, text in _FIGURES.items())
    unknown = ", ".join(f"{num:,} {kind}" for kind, num in content["not_known"].items())
    return [
        f"Each cell: generated / real. The {name} judge is fitted on real train images. Means are over the labels "
        f"that can be measured on both sides in every measured group ({labels}). Images of unknown {name}: {unknown}."
    ]


def _judged(shown: Mapping[str, Any]) -> str:
    return " / ".join(_area(shown[kind]) if kind in shown else "-" for kind in _KINDS)


def _area(measured: Mapping[str, Any]) -> str:
    between = measured["interval"]
    return f"{measured['auc']:.3f}" + (f" [{between[0]:.3f}, {between[1]:.3f}]" if between else "")


def _distance(group: Mapping[str, Any]) -> str:
    if "fid" not in group:
        return "not measured: too few train images"
    return f"{group['fid']:.3g} / {group['real_fid']:.3g} at {group['fid_images']:,.0f} images"


def _both(key: str, group: Mapping[str, Any], entry: Callable[..., str]) -> str:
    return " / ".join(entry(key, group[kind], group["intervals"][kind]) or "-" for kind in _KINDS)

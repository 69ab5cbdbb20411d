"""Report of a search: one HTML page with the trials and Optuna's plots, the plots as PNG, and the importance of each
setting as CSV."""

import base64
import io
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from emixer import files
from emixer.page_templates import render_page
from emixer.tuning.study import REASON, STARTS, best, finished, outcome

_PLOTS = "plots"
_MIN_FOR_IMPORTANCE = 5
_WIDTH_IN, _HEIGHT_IN, _DPI = 10.0, 4.6, 110
_TEMPLATE = Path(__file__).parent / "templates" / "report.html.jinja"


def write_report(study: Study, folder: Path, metrics: Sequence[str]) -> None:
    """Write report.html, importances.csv and plots/*.png into the folder. Plots that need more trials are left out."""
    trials = study.get_trials(deepcopy=False)
    leader = best(study)
    shares = importances(study)
    plots = {}
    (folder / _PLOTS).mkdir(exist_ok=True)
    for name, picture in _pictures(study, metrics):
        files.write_bytes(folder / _PLOTS / f"{name.lower().replace(' ', '-')}.png", picture)
        plots[name] = "data:image/png;base64," + base64.b64encode(picture).decode()
    if shares:
        lines = ["setting,importance", *(f"{name},{share:.6f}" for name, share in shares.items())]
        files.write_text(folder / "importances.csv", "\n".join(lines) + "\n")
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    counts = Counter(outcome(trial) for trial in trials)
    counted = ", ".join(f"{count} {name}" for name, count in counts.items())
    values = {
        "title": f"Search in {folder.name}", "metrics": metrics, "keys": keys, "importances": shares, "plots": plots,
        "summary": f"{len(trials)} trials ({counted})." + ("" if leader is None else f" Best: trial {leader.number}."),
        "rows": [_row(trial, keys, len(metrics), trial is leader or trial == leader) for trial in trials],
    }  # fmt: skip
    files.write_text(folder / "report.html", render_page(_TEMPLATE, values))


def importances(study: Study) -> dict[str, float]:
    """Return each setting's share of importance for the first metric, largest first; empty with too few trials."""
    done = finished(study.get_trials(deepcopy=False))
    varied = {key for t in done for key in t.params if len({repr(o.params.get(key)) for o in done}) > 1}
    if len(done) < _MIN_FOR_IMPORTANCE or not varied:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=_first_of_several(study))
    total = sum(found.values())
    return {name: share / total for name, share in found.items()} if total > 0 and math.isfinite(total) else {}


def _first_of_several(study: Study) -> Callable[[FrozenTrial], float] | None:
    """Return the first metric of a study of several as importances are measured: Optuna takes low values for good."""
    if len(study.directions) == 1:
        return None
    sign = -1 if study.directions[0] is StudyDirection.MAXIMIZE else 1
    return lambda trial: sign * trial.values[0]


def _row(trial: FrozenTrial, keys: Sequence[str], num_values: int, is_best: bool) -> dict[str, Any]:
    values: Sequence[float | None] = trial.values or [*trial.intermediate_values.values()][-1:]
    started, ended = trial.datetime_start, trial.datetime_complete
    return {
        "number": trial.number,
        "outcome": outcome(trial),
        "best": is_best,
        "measured": [_short(value) for value in [*values, *[None] * num_values][:num_values]],
        "params": [_short(trial.params.get(key)) for key in keys],
        "minutes": "" if started is None or ended is None else f"{(ended - started).total_seconds() / 60:.1f}",
        "starts": trial.user_attrs.get(STARTS, ""),
        "reason": trial.user_attrs.get(REASON, ""),
    }


def _short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _pictures(study: Study, metrics: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    import matplotlib as mpl

    mpl.use("Agg")
    from optuna.visualization import matplotlib as drawn

    done = finished(study.get_trials(deepcopy=False))
    if not done:
        return
    several = len(metrics) > 1
    chosen: dict[str, Any] = {"target": lambda t: t.values[0], "target_name": metrics[0]} if several else {}
    named: Mapping[str, Any] = chosen or {"target_name": metrics[0]}
    keys = [key for key in done[0].params if len({repr(t.params.get(key)) for t in done}) > 1]
    plots: dict[str, Callable[[], Any]] = {
        "Optimization history": lambda: drawn.plot_optimization_history(study, **named)
    }
    if 1 < len(metrics) < 4:  # Optuna draws no more
        plots["Pareto front"] = lambda: drawn.plot_pareto_front(study)
    elif not several and any(len(t.intermediate_values) > 1 for t in study.get_trials(deepcopy=False)):
        plots["Validation passes"] = lambda: drawn.plot_intermediate_values(study)
    if keys and len(done) > 1:
        plots["Slices"] = lambda: drawn.plot_slice(study, params=keys, **named)
    if len(keys) > 1 and len(done) > 1:
        plots["Parallel coordinates"] = lambda: drawn.plot_parallel_coordinate(study, params=keys, **named)
    if len(keys) > 1 and len(done) > 3:
        plots["Contours"] = lambda: drawn.plot_contour(study, params=keys, **named)
    if importances(study):
        evaluator = PedAnovaImportanceEvaluator()
        target = _first_of_several(study)
        plots["Importances"] = lambda: drawn.plot_param_importances(study, evaluator=evaluator, target=target)
    for name, draw in plots.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield name, _drawn(draw, tall=name == "Contours")


def _drawn(draw: Callable[[], Any], tall: bool) -> bytes:
    from matplotlib import pyplot as plt

    draw()
    figure = plt.gcf()
    figure.set_size_inches(_WIDTH_IN, _HEIGHT_IN * (2 if tall else 1))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight")
    plt.close("all")
    return buffer.getvalue()

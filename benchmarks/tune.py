"""Is a search worth it? TPE with pruning against chance, at an equal number of films, over several seeds.

    python benchmarks/tune.py [--config configs/demo.yaml] [--shards SHARDS] [--films 200000] [--seeds 3] [--out FOLDER]

Each search has the same budget of films in all, not of trials: one that stops poor trials early begins more of them.
The outcome is the best word cross-entropy that was known after so many films, with its spread over seeds: a table, and
a plot.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from emixer.config import Config, load_config, with_overrides
from emixer.run_folder import RunFolder
from emixer.stages import tune

METRIC = "validation/word_cross_entropy"
WAYS: dict[str, dict[str, Any]] = {
    "chance": {"tune.sampler": "random", "tune.pruner": "none"},
    "TPE + ASHA": {"tune.sampler": "tpe", "tune.pruner": "asha"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--shards", type=Path, default=Path("demo/shards"))
    parser.add_argument("--films", type=int, default=200_000, help="of one search")
    parser.add_argument("--budget", type=int, default=8_000, help="films of one trial")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("tune-benchmark"))
    options = parser.parse_args()
    base = with_overrides(load_config(options.config), {
        "data.shards": options.shards, "tune.budget_images": options.budget, "tune.metrics": ["word_cross_entropy"],
        "train.validate_every_images": options.budget // 8, "train.sample_every_images": 10**9,
        "tune.max_concurrent": 1, "tune.startup_trials": 5,
    })  # fmt: skip
    curves: dict[str, list[list[tuple[int, float]]]] = {name: [] for name in WAYS}
    for seed in range(options.seeds):
        for name, settings in WAYS.items():
            folder = options.out / f"{name.replace(' ', '')}-{seed}"
            started = time.monotonic()
            search_until(with_overrides(base, settings | {"seed": seed, "tune.study": folder}), options.films)
            curves[name].append(best_so_far(folder))
            print(json.dumps({
                "way": name, "seed": seed, "trials": len(list(folder.glob("trials/*"))), "films": films_of(folder),
                "best": curves[name][-1][-1][1], "minutes": (time.monotonic() - started) / 60,
            }), flush=True)  # fmt: skip
    draw(curves, options.out / "best-so-far.png")
    for name, runs in curves.items():
        last = [run[-1][1] for run in runs]
        spread = statistics.stdev(last) if len(last) > 1 else 0.0
        print(f"{name:<12} best after {options.films:,} films: {statistics.mean(last):.4f} +- {spread:.4f}")


def search_until(config: Config, films: int) -> None:
    """Adds trials, one by one, until so many films were trained on."""
    assert config.tune.study is not None
    trials = 0
    while films_of(config.tune.study) < films:
        trials += 1
        tune.run(with_overrides(config, {"tune.num_samples": trials}))


def films_of(folder: Path) -> int:
    """Films that all trials of a search have trained on."""
    lines = [RunFolder(path).metrics() for path in folder.glob("trials/*")]
    return sum(int(run[-1]["images"]) for run in lines if run)


def best_so_far(folder: Path) -> list[tuple[int, float]]:
    """(films of the search so far, best validation value so far), trial after trial."""
    curve: list[tuple[int, float]] = []
    before, best = 0, float("inf")
    for path in sorted(folder.glob("trials/*")):
        lines = RunFolder(path).metrics()
        for line in lines:
            if METRIC in line:
                best = min(best, line[METRIC])
                curve.append((before + int(line["images"]), best))
        before += int(lines[-1]["images"]) if lines else 0
    return curve


def draw(curves: dict[str, list[list[tuple[int, float]]]], path: Path) -> None:
    """Medians as lines, the range over seeds as bands."""
    import matplotlib as mpl
    import numpy as np

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    end = max(run[-1][0] for runs in curves.values() for run in runs)
    grid = np.linspace(0, end, 200)
    for name, runs in curves.items():
        values = np.array([[min((v for f, v in run if f <= x), default=np.nan) for x in grid] for run in runs])
        line = axes.plot(grid, np.nanmedian(values, axis=0), label=name)[0]
        axes.fill_between(grid, np.nanmin(values, 0), np.nanmax(values, 0), alpha=0.2, color=line.get_color())
    axes.set(xlabel="films trained on, all trials", ylabel="best word cross-entropy so far")
    axes.legend()
    figure.savefig(path, dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()

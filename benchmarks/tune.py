"""Is a search worth it? TPE with pruning against chance, at an equal number of images, over several seeds.

    python benchmarks/tune.py --shards SHARDS [--images 32000] [--budget 4000] [--seeds 3] [--out FOLDER] \\
        [--set "tune.metrics=[fid]" --set ...]

Each search has the same budget of images in all, not of trials: one that stops poor trials early begins more of them.
The outcome is the best value of the first of `tune.metrics` that was known after so many images, with its spread over
seeds: a table, and a plot.

`--overhead` measures something else: what a search of 20 short trials takes beside its trials' own time, from
the making of a run folder to the last file written there; and five of them again as runs of `emixer train` in the same
Ray session, to see that a trial is no slower than a run.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emixer.config import Config, load_config, with_overrides
from emixer.ray_session import connect
from emixer.run_folder import RunFolder
from emixer.stages import train, tune
from emixer.tuning.metrics import directions, measured

WAYS: dict[str, dict[str, Any]] = {
    "chance": {"tune.sampler": "random", "tune.pruner": "none"},
    "TPE + ASHA": {"tune.sampler": "tpe", "tune.pruner": "asha"},
}


def main() -> None:
    """Compares the two ways, or measures the overhead."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--shards", type=Path, default=Path("demo/shards"))
    parser.add_argument("--images", type=int, default=32_000, help="of one search")
    parser.add_argument("--budget", type=int, default=4_000, help="images of one trial")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("tune-benchmark"))
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--trials", type=int, default=20, help="of --overhead")
    options = parser.parse_args()
    base = load_config(options.config, options.overrides, {
        "data.shards": options.shards, "tune.budget_images": options.budget, "tune.max_concurrent": 1,
        "train.validate_every_images": options.budget // 4, "train.sample_every_images": 10**9,
        "train.save_every_images": 10**9, "tune.startup_trials": 5,
    })  # fmt: skip
    with connect(base.ray):
        if options.overhead:
            measure_overhead(base, options.out, options.trials)
        else:
            compare(base, options.out, options.images, options.seeds)


def compare(base: Config, out: Path, images: int, seeds: int) -> None:
    """Each seed by chance and by the search, one after the other; prints a line a search, then the table."""
    curves: dict[str, list[list[tuple[int, float]]]] = {name: [] for name in WAYS}
    for seed in range(seeds):
        for name, settings in WAYS.items():
            config = with_overrides(base, settings | {"seed": seed, "tune.study": out / f"{slug(name)}-{seed}"})
            minutes = taken(lambda config=config: search_until(config, images)) / 60  # type: ignore[misc]
            curves[name].append(best_so_far(config))
            print(json.dumps({
                "way": name, "seed": seed, "trials": len(trials_of(config)), "images": images_of(config),
                "best": curves[name][-1][-1][1], "minutes": round(minutes, 1),
            }), flush=True)  # fmt: skip
    draw(curves, base.tune.metrics[0], images, out / "best-so-far.png")
    for name, runs in curves.items():
        print(f"| {name} | " + " | ".join(known_after(runs, images * share // 4) for share in (1, 2, 3, 4)) + " |")


def measure_overhead(base: Config, out: Path, trials: int) -> None:
    """A search of so many trials by chance, then the first five of them as plain runs, in the same Ray session."""
    config = with_overrides(base, WAYS["chance"] | {"tune.study": out / "search", "tune.num_samples": trials})
    searched = taken(lambda: tune.run(config))
    again = [RunFolder(path).config for path in trials_of(config)[:5]]
    plain = [
        taken(lambda run=run, i=i: train.run(with_overrides(run, {"train.run": out / f"plain-{i}"})))  # type: ignore[misc]
        for i, run in enumerate(again)
    ]
    own = [own_time(path) for path in trials_of(config)]
    print(json.dumps({
        "trials": trials, "search_s": round(searched, 1), "trials_own_s": round(sum(own), 1),
        "search / own": round(searched / sum(own), 3), "own_of_five_s": [round(seconds, 1) for seconds in own[:5]],
        "as_plain_runs_s": [round(seconds, 1) for seconds in plain],
    }))  # fmt: skip


def own_time(run: Path) -> float:
    """Seconds from the making of a run folder to the last file written in it."""
    last = max(path.stat().st_mtime for path in run.rglob("*") if path.is_file())
    return last - (run / "run.json").stat().st_mtime


def taken(work: Callable[[], object]) -> float:
    """Seconds that it took."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def slug(name: str) -> str:
    """For a folder."""
    return name.replace(" ", "").replace("+", "-")


def search_until(config: Config, images: int) -> None:
    """Adds trials until so many images were trained on: never more of them than could be needed."""
    trials = 0
    while (left := images - images_of(config)) > 0:
        trials += -(-left // config.tune.budget_images)
        tune.run(with_overrides(config, {"tune.num_samples": trials}))


def trials_of(config: Config) -> list[Path]:
    """Run folders of a search, in their order."""
    assert config.tune.study is not None
    return sorted(config.tune.study.glob("trials/*"))


def images_of(config: Config) -> int:
    """Images that all trials of a search have trained on."""
    lines = [RunFolder(path).metrics() for path in trials_of(config)]
    return sum(int(run[-1]["images"]) for run in lines if run)


def best_so_far(config: Config) -> list[tuple[int, float]]:
    """(images of the search so far, best validation value so far), trial after trial."""
    curve: list[tuple[int, float]] = []
    before, best = 0, float("nan")
    better = min if directions(config.tune.metrics)[0] == "minimize" else max
    for path in trials_of(config):
        lines = RunFolder(path).metrics()
        for line in lines:
            if any(key.startswith("validation/") for key in line):
                value, *_ = measured(config.tune.metrics, line)
                best = value if best != best else better(best, value)
                curve.append((before + int(line["images"]), best))
        before += int(lines[-1]["images"]) if lines else 0
    return curve


def known_after(runs: list[list[tuple[int, float]]], images: int) -> str:
    """Mean +- sd over seeds of the best value known after so many images."""
    values = [([float("nan")] + [value for at, value in run if at <= images])[-1] for run in runs]
    return f"{statistics.mean(values):.3g} +- {statistics.stdev(values) if len(values) > 1 else 0:.2g}"


def draw(curves: dict[str, list[list[tuple[int, float]]]], metric: str, images: int, path: Path) -> None:
    """Medians as lines, the range over seeds as bands."""
    import matplotlib as mpl
    import numpy as np

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.style.use("default")  # Optuna's plots choose another
    figure, axes = plt.subplots(figsize=(8, 4.5))
    grid = np.linspace(0, images, 200)
    for name, runs in curves.items():
        values = np.array([[([np.nan] + [v for f, v in run if f <= x])[-1] for x in grid] for run in runs])
        seen = ~np.isnan(values).any(axis=0)
        line = axes.plot(grid[seen], np.median(values[:, seen], axis=0), label=name)[0]
        axes.fill_between(grid[seen], values[:, seen].min(0), values[:, seen].max(0), alpha=0.2, color=line.get_color())
    axes.set(xlabel="images trained on, all trials", ylabel=f"best {metric} so far")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()

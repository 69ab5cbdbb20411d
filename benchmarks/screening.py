"""What `emixer generate --audit` adds to the cost of a pair: CPU time of drawing one, and of judging it.

    python benchmarks/screening.py [--config configs/demo.yaml] [--train 2000] [--pairs 512] [--run RUN --shards SHARDS]

In one process with one thread, which is what a sampler on CPUs is. Without --run, random weights and smooth random
training images without reports, a seventh as many held out: drawing and the search cost what they cost with real ones;
with --run and --shards, a trained run and its shards, reports among them. Features of the small random network. A
pair that is drawn again costs sixteen more draws, and as many judgements: a pair in a hundred makes a sixth more.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from audit import write_shards
from generation import TEMPERATURE, random_model

from emixer.audit.screen import Screen
from emixer.config import Config, RayConfig, load_config
from emixer.data.shards import ShardSet
from emixer.generation.plan import make_plan
from emixer.generation.sampler import Sampler
from emixer.generation.trained_model import read_trained_model
from emixer.ray_session import connect
from emixer.stages.generate.screen import ScreenPlan, make_screen

_BATCH = 64


def main() -> None:
    """Prints three lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--shards", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config([args.config], extra={"audit.false_alarm": 0.02})
    trained = random_model(config) if args.run is None else read_trained_model(args.run)
    with tempfile.TemporaryDirectory() as folder:
        counts = {"train": args.train, "test": max(300, args.train // 7)}
        shards = args.shards or write_shards(Path(folder) / "shards", counts, trained.config.side_px)
        measure(Sampler(trained, "cpu", _BATCH), *control(config, shards, Path(folder)), args.pairs)


def control(config: Config, shards: Path, folder: Path) -> tuple[Screen, ScreenPlan]:
    """The screen, measured in a Ray of its own."""
    plan = ScreenPlan.of(config, ShardSet.open(shards), None, folder / "measured", "nothing")
    with connect(RayConfig()):
        return make_screen(config, plan), plan


def measure(sampler: Sampler, screen: Screen, plan: ScreenPlan, pairs: int) -> None:
    """Draws and judges block after block."""
    started = time.process_time()
    judge = screen.open("cpu")
    loaded_s = time.process_time() - started
    labels = make_plan("train", (), sampler.trained.spec, 0)
    drawn_s = judged_s = 0.0
    flagged = 0
    for first in range(-_BATCH, pairs, _BATCH):  # the first block warms up
        begun = time.process_time()
        images, words = sampler.draw(labels.labels(max(first, 0), _BATCH), max(first, 0), 0, TEMPERATURE)
        then = time.process_time()
        found = judge(images, sampler.trained.vocabulary.decode(words))
        if first >= 0:
            drawn_s, judged_s = drawn_s + then - begun, judged_s + time.process_time() - then
            flagged += int(np.logical_or.reduce(list(found.values())).sum())
    told = "with" if screen.reports is not None else "without"
    print(
        f"{sampler.trained.config.kind}, {sampler.trained.config.side_px} px, {plan.num_train:,} training and "
        f"{plan.num_held_out:,} held-out images, {told} reports, one thread, {pairs:,} pairs, {flagged} flagged\n"
        f"  drawing {drawn_s / pairs * 1e3:.1f} ms CPU a pair\n"
        f"  judging {judged_s / pairs * 1e3:.1f} ms CPU a pair; {loaded_s:.2f} s once a sampler"
    )


if __name__ == "__main__":
    main()

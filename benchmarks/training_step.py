"""Images a CPU second (user + system) of whole training steps: of this tree, beside those of another commit.

    python benchmarks/training_step.py --against 22f196f [--config configs/demo.yaml] [--set KEY=VALUE ...] \
[--threads 1] [--images-alone] [--rounds 5]

An iteration is what the config says: at the paper's 2:1, two steps of the critics and one of the generating side. Each
tree reads its own copy of --config, and trains in a process of its own on the same phantom images and reports; the two
take turns, so that whatever else the machine does meets both. The other tree is checked out into a temporary folder.
Before the first round each trains for --warm-up iterations, after which reports end where real ones do.

--set is for both trees; --set-here and --set-there are for one, where their settings differ:
    --set-here model.report_decoder.kind=hierarchical
--images-alone plays for images only: no report decoder, no critics that read reports.
A chest encoder whose weights the config names is made of random ones: they cost the same.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from emixer.config import load_config
from emixer.data.loader import HostBatch
from emixer.data.order import Position
from emixer.model_kinds import build_model, build_phases
from emixer.models.paired_model import ModelSpec
from emixer.training.state import TrainState
from emixer.training.step import train_iteration

if TYPE_CHECKING:
    from emixer.data.phantom.study import Study

REPOSITORY = Path(__file__).resolve().parents[1]
IMAGES_ALONE = ("loss.report=0", "loss.joint=0", "loss.teacher_forcing=0")
_STUDIES = 400
"""That the vocabulary comes from."""
_IMAGES = 64


def main() -> None:
    """Times the trees in turn and prints the medians and their ratio."""
    args = parser().parse_args()
    if args.tree:
        serve(args)
        return
    overrides = [*args.set, *(IMAGES_ALONE if args.images_alone else ())]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_rows(folder / "rows", args.config, [*overrides, *args.set_here])
        trees = {"here": (REPOSITORY, args.set_here)}
        with checkout(args.against, folder / "there") as there:
            if there:
                trees[args.against] = (there, args.set_there)
            runs = {name: Run(tree, folder / "rows", args, [*overrides, *own]) for name, (tree, own) in trees.items()}
            try:
                report(args, {name: run.facts for name, run in runs.items()}, timed(runs, args))
            finally:
                for run in runs.values():
                    run.close()


def parser() -> argparse.ArgumentParser:
    """The words on the command line."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--against", metavar="REV", help="a commit of this repository; without it, this tree alone")
    words.add_argument("--config", type=Path, default=Path("configs/demo.yaml"), help="relative to the repository")
    words.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    words.add_argument("--set-here", action="append", default=[], metavar="KEY=VALUE")
    words.add_argument("--set-there", action="append", default=[], metavar="KEY=VALUE")
    words.add_argument("--images-alone", action="store_true")
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--warm-up", type=int, default=20)
    words.add_argument("--iterations", type=int, default=5, help="of each tree in a round")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--tree", type=Path, help=argparse.SUPPRESS)  # a process that trains: see Run
    words.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    return words


def timed(runs: dict[str, "Run"], args: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """What each round of each run took."""
    for run in runs.values():
        run.train(args.warm_up)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            rounds[name].append(run.train(args.iterations))
    return rounds


def report(
    args: argparse.Namespace, facts: dict[str, dict[str, Any]], rounds: dict[str, list[dict[str, float]]]
) -> None:
    """Prints a line a tree; the ratio is the median over rounds, each of which ran the trees one after the other."""
    first = next(iter(facts.values()))
    part = ", images alone" if args.images_alone else ""
    print(f"\n{args.config}{part}, batch {first['batch_size']}, {args.threads} thread(s), {args.rounds} rounds")
    for name, spent in rounds.items():
        images = facts[name]["images_per_iteration"] * args.iterations
        cpu_s = statistics.median(one["cpu_s"] for one in spent)
        wall_s = statistics.median(one["wall_s"] for one in spent)
        print(
            f"  {name:<10} {images / cpu_s:8.2f} images a CPU s {cpu_s / args.iterations:9.3f} CPU s an iteration "
            f"{wall_s / args.iterations:9.3f} s of wall time, {facts[name]['parameters']:,} parameters"
        )
    if args.against:
        pairs = zip(rounds["here"], rounds[args.against], strict=True)
        ratios = [there["cpu_s"] / here["cpu_s"] for here, there in pairs]
        print(f"  ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


class Run:
    """A process that trains as the code of `tree` does, when it is told to."""

    def __init__(self, tree: Path, rows: Path, args: argparse.Namespace, settings: list[str]) -> None:
        command = [sys.executable, __file__, "--tree", str(tree), "--rows", str(rows), "--config", str(args.config)]
        command += ["--threads", str(args.threads), *(f"--set={setting}" for setting in settings)]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        self._process = subprocess.Popen(
            command, env=environment, cwd=tree, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.facts = self._answer()

    def train(self, iterations: int) -> dict[str, float]:
        """cpu_s and wall_s of so many iterations."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{iterations}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("A process that trains has ended; what it said stands above.")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def checkout(revision: str | None, folder: Path) -> Iterator[Path | None]:
    """A work tree of that commit, gone after the block."""
    if revision is None:
        yield None
        return
    git = ("git", "-C", str(REPOSITORY), "worktree")
    subprocess.run([*git, "add", "--detach", "--quiet", str(folder), revision], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def serve(args: argparse.Namespace) -> None:
    """The process of a `Run`: trains for as many iterations as each line of its input says."""
    torch.set_num_threads(args.threads)
    config = load_config(args.tree / args.config, args.set)
    spec = ModelSpec.from_json(json.loads((args.rows / "spec.json").read_text()))
    torch.manual_seed(config.seed)
    model, phases = build_model(config.model, spec, load_weights=False), build_phases(config.model, config.loss)
    state = TrainState.create(config, spec, model, phases, torch.device("cpu"), Position(1))
    batches = Rows.load(args.rows).batches(config.train.batch_size)
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "batch_size": config.train.batch_size,
        "images_per_iteration": state.images_per_iteration,
    }
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(int(line)):
            train_iteration(state, batches)
        print(json.dumps({"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}), flush=True)


class Rows:
    """Images and reports in memory, over and over."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self._all = HostBatch(**columns)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `write_rows` wrote."""
        read = {field.name for field in fields(HostBatch)}  # an older tree knows fewer columns
        with np.load(folder / "rows.npz") as columns:
            return cls({name: column for name, column in columns.items() if name in read})

    def batches(self, size: int) -> Iterator[HostBatch]:
        """Endless batches of `size` rows."""
        whole = HostBatch.concatenate([self._all] * -(-size // len(self._all)))
        starts = range(0, len(whole) - size + 1, size)
        return cycle([whole.rows(start, start + size) for start in starts])


def write_rows(folder: Path, config_file: Path, overrides: list[str]) -> None:
    """Phantom images, labels and reports at the sizes of the config, and the `ModelSpec` that goes with them.

    Only this tree runs it, so what only it needs is imported here: another commit may keep it elsewhere.
    """
    from emixer.data.labels import CHEXPERT
    from emixer.data.phantom.study import Settings, make_study
    from emixer.data.sections import findings_of
    from emixer.data.text import tokenize
    from emixer.data.vocabulary import Vocabulary

    config = load_config(REPOSITORY / config_file, overrides)
    model = config.model
    studies = [make_study(Settings(config.seed, config.phantom.height_px), index) for index in range(_STUDIES)]
    sentences = [tokenize(findings_of(study.report.text, "impression")[0] or "") for study in studies]
    counts = Counter(token for report in sentences for sentence in report for token in sentence)
    vocabulary = Vocabulary.from_counts(counts, config.ingest.min_token_count)
    shown, reports = studies[:_IMAGES], pa.array(sentences[:_IMAGES], pa.list_(pa.list_(pa.string())))
    words = vocabulary.encode_sentences(reports, model.max_sentences, model.max_words)
    labels = np.array([[state == 1 for state in study.report.row()] for study in shown], dtype=np.uint8)
    vectors, vector_counts = np.unique(labels, axis=0, return_counts=True)
    spec = ModelSpec(
        tuple(CHEXPERT), tuple(vocabulary.tokens), tuple(map(tuple, vectors.tolist())), tuple(vector_counts.tolist())
    )
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps(spec.to_json()))
    np.savez(
        folder / "rows.npz",
        image=np.stack([_image(study, model.side_px) for study in shown]),
        labels=labels,
        labelled=np.ones(len(shown), bool),
        known=np.ones(labels.shape, bool),
        words=words,
        has_report=(words != 0).any(axis=(1, 2)),
    )


def _image(study: "Study", side_px: int) -> np.ndarray:
    from emixer.data.images import read_image

    jpeg = BytesIO()
    Image.fromarray(study.render(study.images[0])).save(jpeg, "JPEG", quality=92)
    return read_image(jpeg.getvalue(), side_px, "crop").pixels_SS


if __name__ == "__main__":
    main()

"""Do generated images show the sex, age group and view that they were made for? A linear judge of pixels answers.

    python benchmarks/conditions.py --dataset DIR --shards DIR [--split test] [--resamples 500]

DIR are a dataset whose model had `model.conditions`, and the shards that it was trained on. The judge of a condition is
ridge regression from pixels, each image at mean 0 and variance 1, fitted on all train images; it is asked of generated
images and, as its ceiling, of real held-out ones: all of them, and each view apart, since views differ more than people
do. Intervals are 95 % bootstrap intervals over subjects. Prints a Markdown table.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from emixer.data.conditions import VIEW, Columns, Conditions
from emixer.data.known_of_images import columns_of_values
from emixer.data.labels import LabelPolicy
from emixer.data.pair_table import RealPairs, TableShape, open_generated
from emixer.data.shards import ShardSet
from emixer.evaluation.label_faithfulness import LabelJudge
from emixer.evaluation.pair_metrics import label_aucs
from emixer.generation.manifest import read_finished_manifest
from emixer.stages.evaluate.intervals import with_intervals


@dataclass(frozen=True)
class _Side:
    pixels_NP: Tensor
    columns_NC: Columns
    subjects: tuple[str, ...]


def main() -> None:
    """Prints the judge's AUC of each value."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--split", choices=["validate", "test"], default="test")
    parser.add_argument("--resamples", type=int, default=500)
    args = parser.parse_args()
    shards, conditions = ShardSet.open(args.shards), _conditions(args.dataset)
    train, real = (_real(shards, split, conditions) for split in ("train", args.split))
    generated = _generated(args.dataset, shards, conditions)
    print(f"{len(train.subjects):,} train images taught the judge.\n\n| images | value | generated | real | numbers |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name, span in conditions.column_slices.items():
        for where, sides in _parts(name, conditions, (train, generated, real)):
            values = conditions.values_of(name)
            for line in _lines(where, span, values, sides, args.resamples):
                print(line)


def _conditions(dataset: Path) -> Conditions:
    return Conditions.from_json(read_finished_manifest(dataset).get("conditions"))


def _standardized(image_NHW: np.ndarray) -> Tensor:
    pixels_NP = torch.from_numpy(np.array(image_NHW)).flatten(1).float()
    return (pixels_NP - pixels_NP.mean(1, keepdim=True)) / pixels_NP.std(1, keepdim=True).clamp_min(1e-6)


def _shape(shards: ShardSet) -> TableShape:
    return TableShape(shards.info.label_names, shards.info.side_px, 1, 2, shards.vocabulary)


def _real(shards: ShardSet, split: str, conditions: Conditions) -> _Side:
    pairs = RealPairs.read(shards, split, _shape(shards), LabelPolicy("zeros", "zeros"), conditions)
    return _Side(_standardized(pairs.table.image_NHW), pairs.columns_NC, pairs.subjects)


def _generated(dataset: Path, shards: ShardSet, conditions: Conditions) -> _Side:
    files = [listed["name"] for listed in read_finished_manifest(dataset)["files"]]
    told = pa.concat_tables(pq.read_table(dataset / name, columns=list(conditions.names)) for name in files)
    with tempfile.TemporaryDirectory() as folder:
        table = open_generated(dataset, files, _shape(shards), Path(folder) / "decoded")
        pixels_NP = _standardized(table.image_NHW)
    return _Side(pixels_NP, columns_of_values(told, conditions), tuple(map(str, range(len(pixels_NP)))))


def _parts(name: str, conditions: Conditions, sides: tuple[_Side, ...]) -> list[tuple[str, tuple[_Side, ...]]]:
    parts = [("all", sides)]
    if name != VIEW and VIEW in conditions.names:
        first = conditions.column_slices[VIEW].start
        for place, view in enumerate(conditions.values_of(VIEW)):
            parts.append((view, tuple(_rows(side, side.columns_NC[:, first + place] == 1) for side in sides)))
    return parts


def _rows(side: _Side, wanted_N: np.ndarray) -> _Side:
    index_N = np.flatnonzero(wanted_N)
    subjects = tuple(side.subjects[n] for n in index_N.tolist())
    return _Side(side.pixels_NP[index_N], side.columns_NC[index_N], subjects)


def _lines(where: str, span: slice, values: tuple[str, ...], sides: tuple[_Side, ...], resamples: int) -> list[str]:
    train, *asked = (_rows(side, side.columns_NC[:, span].any(axis=1)) for side in sides)
    judge = LabelJudge.fit(train.pixels_NP, torch.from_numpy(train.columns_NC[:, span]).float())
    found = []
    for side in asked:
        columns_NC = torch.from_numpy(np.ascontiguousarray(side.columns_NC[:, span])).float()
        areas = label_aucs(judge.score(side.pixels_NP), columns_NC, values)
        found.append(with_intervals(areas, side.subjects, resamples))
    lines = []
    for place, value in enumerate(values if len(values) > 2 else values[:1]):  # of two, the other has the same AUC
        cells = []
        for figures, spread in found:
            low, high = spread.get(f"label_auc/{value}", (float("nan"), float("nan")))
            cells.append(f"{figures.get(f'label_auc/{value}', float('nan')):.3f} [{low:.3f}, {high:.3f}]")
        numbers = " / ".join(str(int(side.columns_NC[:, span][:, place].sum())) for side in asked)
        lines.append(f"| {where} | {value} | {' | '.join(cells)} | {numbers} |")
    return lines


if __name__ == "__main__":
    main()

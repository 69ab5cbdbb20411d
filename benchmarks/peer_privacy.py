"""`emixer audit` beside SDMetrics' distances to the closest record, on datasets with planted copies.

    python benchmarks/peer_privacy.py --dataset demo/dataset --shards demo/shards --false-alarm 0.02

Four datasets: the generated one as it is; the same with one image in twenty replaced by a training image; the same
with noise on these, of a standard deviation of 5 and of 10 gray values. The rows keep their labels and reports. Each is
audited with a Ray and measurements of its own, as the command does. SDMetrics runs in an environment apart
(--environments names a folder where it stays), on features that the audit measured, as tables of 32 numbers: their
principal components over the training images. More would take long: it makes a table of all pairs of rows, and goes
through it once for each number.
"""

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from peer_environments import environment, run_in
from worker_memory import Watch

from emixer.audit.measured import Measured
from emixer.config import load_config
from emixer.data.loader import fixed_binary_view
from emixer.data.shards import ShardSet
from emixer.evaluation.features import Network
from emixer.files import sha256_of, write_json
from emixer.generation.encoding import encode_png
from emixer.generation.manifest import AUDIT_FOLDER, MANIFEST_NAME, read_finished_manifest
from emixer.stages import audit
from emixer.stages.audit.sides import HELD_OUT, TRAIN, GeneratedSide, RealSide

_EVERY = 20
"""One image in so many is planted."""
_NOISES = (5, 10)
"""Standard deviations in gray values."""
_COMPONENTS = 32
Images = NDArray[np.uint8]
Table = NDArray[np.float32]


@dataclass(frozen=True)
class Audited:
    """What the audit says of a dataset, and the features that it measured."""

    verdict: str
    failed: list[str]
    copies: int
    flagged: int
    flagged_planted: int
    cpu_s: float
    features: Table


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--false-alarm", type=float, default=0.01)
    parser.add_argument("--environments", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = environment("sdmetrics", args.environments or folder / "environments")
        datasets = planted(args.dataset, training_images(args.shards), folder)
        audits = {kind: audited(made, args.shards, args.false_alarm) for kind, made in datasets.items()}
        real = real_features(args.shards, measured_of(folder / "clean"))
        tables = components({kind: found.features for kind, found in audits.items()} | real)
        np.savez(folder / "tables.npz", **tables)
        scores = json.loads(run_in(python, "peer_sdmetrics.py", str(folder / "tables.npz")).splitlines()[-1])
    print(table(audits, scores))


def training_images(shards: Path) -> Images:
    """All training images."""
    opened = ShardSet.open(shards)
    shape = (opened.info.side_px, opened.info.side_px)
    columns = [pq.read_table(path, columns=["image"])["image"].combine_chunks() for path in opened.files("train")]
    return np.concatenate([fixed_binary_view(column, np.uint8, shape) for column in columns])


def planted(dataset: Path, train: Images, folder: Path) -> dict[str, Path]:
    """The datasets by name. Row 0 and every twentieth after it are copies of training images far apart."""
    num = -(-read_finished_manifest(dataset)["rows"] // _EVERY)
    copies = train[np.arange(num) * len(train) // num]
    noise = np.random.default_rng(0).normal(0, 1, copies.shape)
    kinds: dict[str, Images | None] = {"clean": None, "exact": copies}
    for deviation in _NOISES:
        kinds[f"noise{deviation}"] = (copies + deviation * noise).round().clip(0, 255).astype(np.uint8)
    return {kind: with_planted(dataset, images, folder / kind) for kind, images in kinds.items()}


def with_planted(dataset: Path, images: Images | None, folder: Path) -> Path:
    """A copy of the dataset, unaudited, with these images in its planted rows."""
    shutil.copytree(dataset, folder, ignore=shutil.ignore_patterns(AUDIT_FOLDER))
    manifest = read_finished_manifest(folder)
    for file in manifest["files"] if images is not None else []:
        path = folder / file["name"]
        rows = pq.read_table(path)
        cells = rows["image"].to_pylist()
        for row in range(-file["first_row"] % _EVERY, len(cells), _EVERY):
            number = (file["first_row"] + row) // _EVERY
            cells[row]["bytes"] = encode_png(images[number : number + 1])[0]
        column = pa.array(cells, rows.schema.field("image").type)
        pq.write_table(rows.set_column(rows.schema.get_field_index("image"), rows.schema.field("image"), column), path)
        file |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    write_json(folder / MANIFEST_NAME, manifest)
    return folder


def audited(dataset: Path, shards: Path, false_alarm: float) -> Audited:
    """`emixer audit` of one dataset, Ray's start among its CPU seconds."""
    settings = {
        "data.shards": shards, "audit.dataset": dataset, "audit.false_alarm": false_alarm,
        "audit.measured": measured_of(dataset),
    }  # fmt: skip
    start = time.process_time()
    with Watch() as watch:
        result = audit.run(load_config(extra=settings))
    content = result.content
    images = [row["index"] for row in content["withhold"] if any("image" in reason for reason in row["reasons"])]
    made = GeneratedSide.of(
        dataset.resolve(), read_finished_manifest(dataset), content["real"]["side_px"], Network(None).identity,
        measured_of(dataset),
    )  # fmt: skip
    return Audited(
        content["verdict"], [check["name"] for check in content["checks"] if not check["passed"]],
        content["images"]["copies"], len(images), sum(row % _EVERY == 0 for row in images),
        watch.cpu_s - start, all_features(made.measured),
    )  # fmt: skip


def measured_of(dataset: Path) -> Path:
    """Where its audit keeps measurements, of real images too: measured anew for each dataset, for the time it takes."""
    return dataset.with_name(f"{dataset.name}-measured")


def real_features(shards: Path, measured: Path) -> dict[str, Table]:
    """Features of the training and the held-out images."""
    identity, opened = Network(None).identity, ShardSet.open(shards)
    return {
        name: all_features(RealSide.of(opened, splits, identity, measured).measured)
        for name, splits in (("train", TRAIN), ("held_out", HELD_OUT))
    }


def all_features(measured: Measured) -> Table:
    """Features of all images."""
    features: Table = measured.features(np.arange(len(measured)))
    return features


def components(features: dict[str, Table]) -> dict[str, Table]:
    """Principal components of each side, those of the training images."""
    centre = features["train"].mean(0)
    _, values, directions = np.linalg.svd(features["train"] - centre, full_matrices=False)
    share = np.square(values[:_COMPONENTS]).sum() / np.square(values).sum()
    print(f"{_COMPONENTS} of {len(directions)} components have {share:.1%} of the variance of the features")
    return {name: (each - centre) @ directions[:_COMPONENTS].T for name, each in features.items()}


def table(audits: dict[str, Audited], scores: dict[str, Any]) -> str:
    """Markdown: a row a dataset."""
    lines = [
        "| dataset | audit | copies | rows flagged (of them planted) | CPU s | DCROverfittingProtection (samples) "
        "| CPU s | DCRBaselineProtection (samples) | CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, found in audits.items():
        flagged = str(found.flagged) if kind == "clean" else f"{found.flagged} ({found.flagged_planted})"
        peers = [
            f"{peer['score']:.3f} ({peer['sampled']:.3f}) | {peer['cpu_s']:.1f}"
            for peer in (scores[kind][name] for name in ("overfitting", "baseline"))
        ]
        lines.append(
            f"| {kind} | {found.verdict} | {found.copies} | {flagged} | {found.cpu_s:.1f} | {' | '.join(peers)} |"
        )
    failed = [f"{kind}: fails {', '.join(found.failed)}" for kind, found in audits.items() if found.failed]
    return "\n".join([*lines, "", *failed])


if __name__ == "__main__":
    main()

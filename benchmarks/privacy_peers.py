"""`emixer audit` beside other privacy measures, on phantom datasets whose answer is known.

    python benchmarks/privacy_peers.py [--train 600] [--environments FOLDER]

Three datasets of as many images as are held out: none repeats a training image; a tenth are exact copies of training
images; a tenth are copies with noise. Every image is another study of the phantom, 64 px, without reports.

SDMetrics     DCROverfittingProtection, from its package in an environment apart, on images of 16 x 16 px as tables of
              256 numbers: a distance takes a pass through a table for each column.
CheXGenBench  its pixel distance (root mean square difference) as its paper defines it, to the nearest training image
              instead of that of the same prompt. Its re-identification score and its latent distance need the weights
              of two trained networks, which no package holds: they are not measured here.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from audit import write_dataset_of, write_shards_of
from numpy.typing import NDArray
from peer_data import draw
from peer_environments import environment, run_in

from emixer.config import RayConfig, load_config
from emixer.ray_session import connect
from emixer.stages import audit

SIDE_PX, _TABLE_PX = 64, 16
_PLANTED = 10
"""One image in so many."""
_NOISE = 10.0
"""Standard deviation in gray values."""
Images = NDArray[np.uint8]


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=600)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--environments", type=Path)
    args = parser.parse_args()
    ends = np.cumsum([args.train, args.held_out, args.held_out])
    drawn = np.stack([draw(number, SIDE_PX) for number in range(ends[-1])])
    train, held_out, clean = np.split(drawn, ends[:-1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = environment("privacy", args.environments or folder / "environments")
        datasets = planted(clean, train)
        audits = audited(datasets, train, held_out, folder)
        rows = [
            (
                kind,
                audits[kind],
                table_distances(python, images, train, held_out, folder),
                pixel_distance(images, train),
            )
            for kind, images in datasets.items()
        ]
    print(
        f"{args.train} training, {args.held_out} held-out and {args.held_out} generated images of {SIDE_PX} px\n\n"
        "| dataset | emixer audit: verdict | rows withheld (of them planted) | copies | SDMetrics score | nearer to "
        "training | CheXGenBench pixel distance: least | mean |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for kind, found, table, distance_N in rows:
        print(
            f"| {kind} | {found['verdict']} | {found['withheld']} ({found['planted']}) | {found['copies']} "
            f"| {table['score']:.2f} | {table['closer_to_training']:.1%} | {distance_N.min():.1f} "
            f"| {distance_N.mean():.1f} |"
        )


def planted(clean: Images, train: Images) -> dict[str, Images]:
    """The datasets by name; the first rows are those that are planted."""
    num = len(clean) // _PLANTED
    exact, noisy = clean.copy(), clean.copy()
    exact[:num] = train[:num]
    noise = np.random.default_rng(0).normal(0, _NOISE, train[:num].shape)
    noisy[:num] = (train[:num] + noise).round().clip(0, 255)
    return {"no copies": clean, f"{num} exact copies": exact, f"{num} copies with noise": noisy}


def audited(datasets: dict[str, Images], train: Images, held_out: Images, folder: Path) -> dict[str, dict[str, Any]]:
    """What our audit says of each."""
    shards = write_shards_of(folder / "shards", {"train": train, "test": held_out})
    found = {}
    with connect(RayConfig()):
        for number, (kind, images) in enumerate(datasets.items()):
            dataset = write_dataset_of(folder / f"dataset{number}", images)
            settings = {"data.shards": shards, "audit.dataset": dataset, "audit.measured": folder / "measured"}
            content = audit.run(load_config(extra=settings)).content
            rows = [row["index"] for row in content["withhold"]]
            found[kind] = {
                "verdict": content["verdict"],
                "withheld": len(rows),
                "planted": sum(row < len(images) // _PLANTED for row in rows) if number else 0,
                "copies": max(figures["copies"] for figures in content["images"].values()),
            }
    return found


def table_distances(python: Path, images: Images, train: Images, held_out: Images, folder: Path) -> dict[str, float]:
    """SDMetrics, in its environment."""
    path = folder / "tables.npz"
    np.savez(path, generated=as_table(images), train=as_table(train), held_out=as_table(held_out))
    found: dict[str, float] = json.loads(run_in(python, "peer_privacy.py", str(path)).splitlines()[-1])
    return found


def as_table(image_NHW: Images) -> NDArray[np.float32]:
    """Area means (N, pixels)."""
    block = SIDE_PX // _TABLE_PX
    small = image_NHW.reshape(-1, _TABLE_PX, block, _TABLE_PX, block).mean((2, 4), dtype=np.float32)
    return small.reshape(len(image_NHW), -1)


def pixel_distance(images: Images, train: Images) -> NDArray[np.float32]:
    """Root mean square difference to the nearest training image, in gray values (N)."""
    flat_NP, train_MP = (side.reshape(len(side), -1).astype(np.float32) for side in (images, train))
    square_NM = (flat_NP**2).sum(1)[:, None] + (train_MP**2).sum(1) - 2 * flat_NP @ train_MP.T
    return np.sqrt(square_NM.min(1).clip(0) / flat_NP.shape[1])


if __name__ == "__main__":
    main()

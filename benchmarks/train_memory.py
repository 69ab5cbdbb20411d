"""Peak memory of training against the number of rows in the shards.

    python benchmarks/train_memory.py [--rows 10000 100000] [--images 1280]

`emixer train`'s own path on procedural images of 32 px, each number of rows in a process of its own, for the same
number of steps. Anonymous memory: pages of the object store, which has a fixed size, are not counted.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from loader import write_images
from worker_memory import Watch

from emixer.config import load_config
from emixer.stages import train

CONFIG = Path("configs/demo.yaml")


def main() -> None:
    """One process for each number of rows, since a process does not give its peak back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--images", type=int, default=1_280)
    args = parser.parse_args()
    if len(args.rows) == 1:
        measure(args.rows[0], args.images)
        return
    for rows in args.rows:
        command = [sys.executable, __file__, "--rows", str(rows), "--images", str(args.images)]
        subprocess.run(command, check=True)


def measure(rows: int, images: int) -> None:
    """Trains on so many rows and prints the peaks of the driver and of the largest Ray worker."""
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        write_images(shards, rows, load_config(CONFIG).model.side_px)
        never = {f"train.{name}_every_images": 10**9 for name in ("sample", "save", "validate")}
        settings = {"data.shards": shards, "train.run": Path(folder) / "run", "train.images": images}
        with Watch() as watch:
            train.run(load_config(CONFIG, extra=settings | never))
    print(f"{rows:>8,} rows: driver {watch.driver_mb:,.0f} MB, largest worker {watch.worker_mb:,.0f} MB at peak")


if __name__ == "__main__":
    main()

"""Our loaders beside those of others on the same phantom images: CPU seconds, memory, and whether they resume exactly.

    python benchmarks/peers.py [--images 4096] [--sides 64 128 256] [--environments FOLDER]

MosaicML Streaming, LitData, WebDataset, Hugging Face datasets, SPDL and torchvision's ImageFolder, each from its
package in an environment apart, with the data stored as its documentation has it: peer_loaders.py says how. The
environments take some GB; --environments names a folder where they stay for the next time. Every loader gives shuffled
batches of uint8 images, and that these are the same pixels is checked, as is whether a loader that is stopped goes on
where it was. CPU seconds are those of all processes, over whole passes after a first one.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from peer_data import write_source
from peer_environments import environment, run_in

PEERS = {
    "streaming": ("streaming", ("PNG", "raw")),
    "litdata": ("loaders", ("raw (PIL)",)),
    "webdataset": ("loaders", ("PNG", "npy")),
    "datasets": ("loaders", ("PNG",)),
    "spdl": ("loaders", ("PNG",)),
    "imagefolder": ("loaders", ("PNG",)),
}
OURS = ("open-shards", "ray-data", "pyarrow")
Cell = dict[str, Any]


def main() -> None:
    """Prints a table for each side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4096, help="at 64 px; less at larger sides, half at 128 px")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--drawn", type=int, default=32, help="radiographs that the images are varied from")
    parser.add_argument("--least-cpu-s", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--environments", type=Path)
    parser.add_argument("--only", nargs="+", choices=[*OURS, *PEERS], default=[*OURS, *PEERS])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        environments = args.environments or Path(temporary) / "environments"
        source = Path(temporary) / "source"
        write_source(source, {side: args.images * 64 // side for side in args.sides}, args.drawn)
        cells: list[Cell] = []
        for name in args.only:
            cells += run_one(name, source, args.sides, args.min_cpu_s, environments)
    for side in args.sides:
        print(table([cell for cell in cells if cell["side_px"] == side], side, args.images * 64 // side))


def run_one(name: str, source: Path, sides: list[int], min_cpu_s: float, environments: Path) -> list[Cell]:
    """All measurements of a loader, in each form that it stores images in."""
    numbers = [str(side) for side in sides]
    if name in OURS:
        printed = [run_in(Path(sys.executable), "peer_ours.py", str(source), name, str(min_cpu_s), *numbers)]
    else:
        where, forms = PEERS[name]
        python = environment(where, environments)
        printed = [
            run_in(python, "peer_loaders.py", str(source), name, form, str(min_cpu_s), *numbers) for form in forms
        ]
    cells = [json.loads(line) for text in printed for line in text.splitlines() if line.startswith('{"peer"')]
    for cell in cells:
        print(json.dumps(cell), file=sys.stderr, flush=True)
    return cells


def table(cells: list[Cell], side_px: int, num_images: int) -> str:
    """Markdown: loaders by cost, and how many times the CPU seconds of open-shards each takes."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in cells:
        row = rows.setdefault((cell["peer"], cell["form"]), {})
        if "resume" in cell:
            row["resume"] = cell["resume"]
        else:
            row[cell["reports"]] = cell
    lines = [
        f"\n{side_px} px, {num_images:,} images; per 1,000 images\n",
        "| loader | stored as | images: CPU s | wall s | x ours | with reports: CPU s | wall s | x ours | memory MB "
        "| resumes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    ours = rows.get(("open-shards", "raw, Parquet"), {})
    for (peer, form), row in rows.items():
        parts = [part for reports in (False, True) for part in costs(row.get(reports), ours.get(reports))]
        memory = max(row[reports]["memory_mb"] for reports in (False, True) if reports in row)
        lines.append(f"| {peer} | {form} | " + " | ".join(parts) + f" | {memory:,.0f} | {row.get('resume', '')} |")
    return "\n".join(lines)


def costs(cell: Cell | None, ours: Cell | None) -> list[str]:
    """CPU and wall seconds per 1,000 images, and the CPU seconds over ours."""
    if cell is None:
        return ["-", "-", "-"]
    cpu_s, wall_s = (1000 * cell[name] / cell["images"] for name in ("cpu_s", "wall_s"))
    ratio = f"{cpu_s / (1000 * ours['cpu_s'] / ours['images']):.1f}" if ours else "-"
    return [f"{cpu_s:.4f}", f"{wall_s:.4f}", ratio]


if __name__ == "__main__":
    main()

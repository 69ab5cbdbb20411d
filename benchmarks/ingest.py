"""Ingest: images/s of large images against Pillow, and memory against the number of images.

    python benchmarks/ingest.py decode [--images 12]            one core, in turn, medians of processor time
    python benchmarks/ingest.py dicom [--images 40]             the same for DICOM, against pydicom + Pillow
    python benchmarks/ingest.py collection [--images 2000]      a folder of them at once: `emixer ingest` on all cores,
                                       [--peer PYTHON]          beside the peers' loop in a process for each core
    python benchmarks/ingest.py memory [--images 10000 100000]  each in a process of its own, on Ray
    python benchmarks/ingest.py driver [--images 10000 100000]  the same of the driver's part alone, in a minute;
                                       [--tables mimic-cxr]     of tables as MIMIC-CXR's instead of a CSV with reports

decode    JPEGs of 2500 x 3000 at quality 95, with little grain (0.6 MB, as the phantom's) and with as much as gives
          them the mean size of the images of MIMIC-CXR-JPG (1.5 MB). Ours: emixer's read_image to 128 px. Peers:
          Pillow's full decode, convert("L") and resize with its default filter (bicubic) and two others. The ratio
          falls with grain: every coefficient has to be parsed, whether or not it is used.
dicom     DICOM files of 2500 x 3000, 12 bits, JPEG lossless (benchmarks/lossless_dicom.py), read from disk. Peers: a
          plain loop of pydicom's dcmread, pixel_array and LUT functions and Pillow's resize, with each decoder for JPEG
          lossless that pydicom finds installed (`pip install pylibjpeg pylibjpeg-libjpeg`, or python-gdcm).
collection  The files are links to --distinct ones, so that most rows are dropped as duplicates after all have been
          decoded. --peer: a Python with pydicom, Pillow and a decoder. Wall time, and CPU seconds of all processes.
memory    Peak resident memory of the driver and of all Ray workers while small images are ingested.
driver    The same of the driver without Ray: tables to plan, selection from made-up blocks, manifest.
"""

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # as in a Ray task of one CPU; a second BLAS thread only spins

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from worker_memory import Watch

from emixer.config import Config, load_config, with_overrides
from emixer.data.images import read_image

SIDE_PX = 128


def main() -> None:
    """Runs the part that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    decode = parts.add_parser("decode")
    decode.add_argument("--images", type=int, default=12)
    decode.add_argument("--grain", type=float, nargs="+", default=[0.5, 2.3], help="sd of the noise in gray values")
    decode.add_argument("--rounds", type=int, default=5)
    dicom = parts.add_parser("dicom")
    dicom.add_argument("--images", type=int, default=40)
    dicom.add_argument("--distinct", type=int, default=4, help="images drawn; the files are copies of them in turn")
    dicom.add_argument("--rounds", type=int, default=3)
    collection = parts.add_parser("collection")
    collection.add_argument("--images", type=int, default=2000)
    collection.add_argument("--distinct", type=int, default=8, help="images drawn")
    collection.add_argument("--peer", default=sys.executable, help="Python that runs the peers' loop")
    for part in ("memory", "driver"):
        memory = parts.add_parser(part)
        memory.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
        one = parts.add_parser(f"{part}-of-one")
        one.add_argument("images", type=int)
        for each in (memory, one) if part == "driver" else ():
            each.add_argument("--tables", choices=["image-folder", "mimic-cxr"], default="image-folder")
    args = parser.parse_args()
    if args.part == "decode":
        for grain in args.grain:
            compare_decoding(args.images, args.rounds, grain)
    elif args.part == "dicom":
        compare_dicom(args.images, args.distinct, args.rounds)
    elif args.part == "collection":
        compare_collection(args.images, args.distinct, args.peer)
    elif args.part in ("memory", "driver"):
        for images in args.images:  # apart, since a process does not give its peak back
            tables = ["--tables", args.tables] if args.part == "driver" else []
            subprocess.run([sys.executable, __file__, f"{args.part}-of-one", str(images), *tables], check=True)
    elif args.part == "driver-of-one":
        measure_driver(args.images, args.tables)
    else:
        measure_memory(args.images)


def compare_decoding(num_images: int, rounds: int, grain: float) -> None:
    """Times all methods on the same images in turn, `rounds` times; prints medians and ratios."""
    images = [large_image(seed, grain) for seed in range(num_images)]
    methods: dict[str, Callable[[bytes], object]] = {
        "emixer read_image, area means": lambda content: read_image(content, SIDE_PX, "squeeze").pixels_SS,
        "Pillow full decode + bicubic (its default)": lambda content: full(content, Image.Resampling.BICUBIC),
        "Pillow full decode + Lanczos": lambda content: full(content, Image.Resampling.LANCZOS),
        "Pillow full decode + box": lambda content: full(content, Image.Resampling.BOX),
    }
    size = sum(map(len, images)) / num_images / 1e6
    print(
        f"{num_images} images of 2500 x 3000, {size:.2f} MB each, to {SIDE_PX} px, one core, median of {rounds} rounds"
    )
    time_in_turn(methods, images, rounds)


def compare_dicom(num_images: int, num_distinct: int, rounds: int) -> None:
    """The same for DICOM files on disk."""
    from lossless_dicom import large_dicom
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import JPEGLosslessSV1

    drawn = [large_dicom(seed) for seed in range(num_distinct)]
    plugins = get_decoder(JPEGLosslessSV1).available_plugins
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.dcm" for number in range(num_images)]
        for number, file in enumerate(files):
            file.write_bytes(drawn[number % num_distinct])
        methods: dict[str, Callable[[Path], object]] = {
            "emixer read_image": lambda file: read_image(file.read_bytes(), SIDE_PX, "squeeze").pixels_SS
        }
        for plugin in plugins:
            methods[f"pydicom ({plugin}) + Pillow"] = lambda file, plugin=plugin: plain_dicom(file, plugin)
        print(
            f"{num_images} DICOM files of 2500 x 3000, JPEG lossless, {np.mean([len(d) for d in drawn]) / 1e6:.2f} MB "
            f"each, to {SIDE_PX} px, one core, median of {rounds} rounds; pydicom's decoders: {', '.join(plugins)}"
        )
        time_in_turn(methods, files, rounds)


def compare_collection(num_images: int, num_distinct: int, peer: str) -> None:
    """A folder of DICOM files through `emixer ingest`, and through a pool of plain loops."""
    from lossless_dicom import large_dicom

    from emixer.stages import ingest

    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "source"
        write_table(root, num_images, ".dcm")
        for number in range(num_images):
            file = root / image_name(number, ".dcm")
            file.parent.mkdir(parents=True, exist_ok=True)
            if number < num_distinct:
                file.write_bytes(large_dicom(number))
            else:
                file.hardlink_to(root / image_name(number % num_distinct, ".dcm"))
        config = small_config(root, Path(folder) / "out")
        with Watch() as watch:
            start = time.monotonic()
            result = ingest.run(with_overrides(config, {"ingest.side_px": SIDE_PX, "ray.num_cpus": cores}))
            own_s = time.monotonic() - start
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.monotonic()
        subprocess.run([peer, "-c", POOL_OF_LOOPS, str(root), str(cores), str(SIDE_PX)], check=True)
        peer_s = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    peer_cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{num_images:,} DICOM files of 2500 x 3000, JPEG lossless, to {SIDE_PX} px, {cores} cores: {result}")
    print(f"  emixer ingest, with the start of Ray{own_s:>8.0f} s{watch.cpu_s:>8.0f} CPU s")
    print(f"  pydicom + Pillow in {cores} processes   {peer_s:>8.0f} s{peer_cpu_s:>8.0f} CPU s")
    print(f"  ratio                              {peer_s / own_s:>8.2f}  {peer_cpu_s / watch.cpu_s:>8.2f}")


POOL_OF_LOOPS = """
import multiprocessing, pathlib, sys
import numpy as np, pydicom
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

def read(file):
    header = pydicom.dcmread(file)
    shown = apply_voi_lut(apply_modality_lut(pixel_array(header), header), header)
    shades = (shown - shown.min()) / (shown.max() - shown.min()) * 255
    return np.asarray(Image.fromarray(shades.astype(np.uint8)).resize((int(sys.argv[3]),) * 2))

with multiprocessing.Pool(int(sys.argv[2])) as pool:
    files = sorted(pathlib.Path(sys.argv[1]).rglob("*.dcm"))
    for image in pool.imap(read, files, chunksize=8):
        pass
"""


def plain_dicom(file: Path, plugin: str) -> np.ndarray:
    """What most preprocessing scripts do."""
    import pydicom
    from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

    header = pydicom.dcmread(file)
    shown = apply_voi_lut(apply_modality_lut(pixel_array(header, decoding_plugin=plugin), header), header)
    shades = (shown - shown.min()) / (shown.max() - shown.min()) * 255
    return np.asarray(Image.fromarray(shades.astype(np.uint8)).resize((SIDE_PX, SIDE_PX)))


def time_in_turn(methods: dict[str, Callable[[Any], object]], inputs: Sequence[Any], rounds: int) -> None:
    """Each method on all inputs, `rounds` times; prints medians of processor time, and how the first compares."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.process_time()
            for each in inputs:
                method(each)
            times[name].append((time.process_time() - start) / len(inputs))
    own = float(np.median(times[next(iter(methods))]))
    for name, values in times.items():
        seconds = float(np.median(values))
        print(f"  {name:<46}{1 / seconds:>8.1f} images/s   emixer is {seconds / own:.2f} x as fast")


def full(content: bytes, resampling: Image.Resampling) -> np.ndarray:
    """What most preprocessing scripts do."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("L").resize((SIDE_PX, SIDE_PX), resampling))


def large_image(seed: int, grain: float) -> bytes:
    """A smooth chest-like field with grain, a black border as from collimation, as a JPEG of 2500 x 3000."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(40, 215, (14, 12), dtype=np.uint8))
    field = np.asarray(coarse.resize((2500, 3000), Image.Resampling.BICUBIC), np.float32)
    image = field + generator.normal(0, grain, field.shape).astype(np.float32)
    image[:, :150] = image[:, -120:] = 0
    buffer = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def measure_memory(num_images: int) -> None:
    """Ingests so many small images and prints the peak memory of the driver and of the workers."""
    from emixer.stages import ingest

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "source"
        write_small_images(root, num_images)
        with Watch() as watch:
            start = time.monotonic()
            ingest.run(small_config(root, Path(folder) / "out"))
            seconds = time.monotonic() - start
    print(
        f"{num_images:>8,} images: driver {watch.driver_mb:,.0f} MB, largest worker {watch.worker_mb:,.0f} MB at peak; "
        f"{num_images / seconds:,.0f} images/s with the start of Ray"
    )


def measure_driver(num_images: int, tables: str) -> None:
    """Prints the driver's peak memory of planning so many images and of what follows their decoding."""
    from emixer.data.ingest import plan_ingest
    from emixer.data.manifest import write_manifest
    from emixer.data.selection import decide

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "source"
        if tables == "mimic-cxr":
            script = Path(__file__).with_name("mimic_tables.py")
            subprocess.run([sys.executable, script, root, str(num_images)], check=True)
            config = mimic_config(root, Path(folder) / "out")
        else:
            write_table(root, num_images)
            config = small_config(root, Path(folder) / "out")
        with Watch() as watch:
            ingest = plan_ingest(config)
            with ingest.workspace.opened(ingest.plan) as plan:
                ingest = replace(ingest, plan=plan)
                pa.default_memory_pool().release_unused()  # as `run_ingest` does
                planned_mb = watch.driver_mb
                for block in range(plan.num_blocks):
                    write_block(ingest.workspace.block(block), plan.num_images([block]), block)
                decide(plan, ingest.workspace, config.ingest.missing_findings)
                write_manifest(plan, ingest.workspace, [], 1)
                time.sleep(0.2)  # for a last sample
    print(f"{num_images:>8,} images: planning {planned_mb:,.0f} MB, all of it {watch.driver_mb:,.0f} MB at peak")


def write_block(path: Path, num_images: int, seed: int) -> None:
    """As decoding leaves one, without pixels and reports: images that all differ and are all kept."""
    hashes = np.random.default_rng(seed).bytes(16 * num_images)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {
        "pixel_hash": pa.array([hashes[i : i + 16] for i in range(0, len(hashes), 16)], pa.binary(16)),
        "image_reason": pa.nulls(num_images, pa.string()), "image_remark": pa.nulls(num_images, pa.string()),
        "outcome": pa.repeat("whole text", num_images),
    }  # fmt: skip
    pq.write_table(pa.table(table), path)


def small_config(root: Path, out: Path) -> Config:
    """How the small images are ingested."""
    settings = {
        "ingest.source.kind": "image-folder", "ingest.source.root": root, "ingest.source.name": "small",
        "ingest.source.label_csv": root / "labels.csv", "ingest.source.label_columns": ["Edema"],
        "ingest.source.report_column": "report", "ingest.out": out, "ingest.side_px": 64, "ray.num_cpus": 2,
        "ray.object_store_mb": 200,
    }  # fmt: skip
    return load_config(extra=settings)


def mimic_config(root: Path, out: Path) -> Config:
    """All images, whatever their view."""
    settings = {
        "ingest.source.kind": "mimic-cxr", "ingest.source.root": root, "ingest.source.keep_missing_view": True,
        "ingest.source.views": ["PA", "AP", "LATERAL", "LL"], "ingest.out": out, "ingest.side_px": 64,
    }  # fmt: skip
    return load_config(extra=settings)


def write_small_images(root: Path, num_images: int) -> None:
    """64 px JPEGs of noise, each another one, with a report each."""
    generator = np.random.default_rng(0)
    write_table(root, num_images)
    for name in map(image_name, range(num_images)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (64, 64), dtype=np.uint8)).save(path)


def write_table(root: Path, num_images: int, suffix: str = ".jpg") -> None:
    """The CSV of the small images, line by line: what this process keeps counts as the driver's."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "labels.csv").open("w") as file:
        file.write("image,Edema,report\n")
        for number in range(num_images):
            file.write(f"{image_name(number, suffix)},{number % 2},The lungs are clear. Nodule of {number % 97} mm.\n")


def image_name(number: int, suffix: str = ".jpg") -> str:
    """The path of an image in the collection."""
    return f"{number // 1000:04d}/{number:07d}{suffix}"


if __name__ == "__main__":
    main()

"""Training images a second of one GPU, by batch size, and the share of its bf16 peak that is.

    python benchmarks/gpu_step.py --out FILE.json [--config configs/paper.yaml] [--mode eager | compile | cuda-graphs]
        [--precision fp32 bf16] [--batch-sizes 32 64 128 256 512] [--profile] [--set KEY=VALUE ...] [--device cuda]

Whole iterations of the game, optimizers and the copy of images to the device included, on phantom images and reports in
memory. FLOPs are those of convolutions and products, forward and backward, as torch.utils.flop_counter sees them with
the recurrent kernels off that it does not look into. A batch that does not fit, or a mode that fails, is a row that
says so.

compile      torch.compile on the networks of convolutions: G, the blocks of the critics, F's encoder
cuda-graphs  the same with mode="reduce-overhead", whose kernels are replayed from CUDA graphs
--profile    instead: a table of where the time of an iteration goes
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from training_step import REPOSITORY, Rows, write_rows

from emixer.config import load_config
from emixer.data.loader import HostBatch
from emixer.data.order import Position
from emixer.files import write_json, write_text
from emixer.model_kinds import build_model, build_phases
from emixer.models.paired_model import ModelSpec
from emixer.training.kernels import use_fast_kernels
from emixer.training.state import TrainState
from emixer.training.step import train_iteration

PEAK_BF16_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "A40": 149.7, "L4": 121.0}
"""Dense, of the SXM form where there are several, from NVIDIA's data sheets."""
_ROUNDS = 5


@dataclass(frozen=True)
class Bench:
    """What the measurements of a call have in common."""

    config: Path
    overrides: list[str]
    rows: Path
    device: torch.device

    def game(self, precision: str, batch_size: int) -> tuple[TrainState, Iterator[HostBatch]]:
        """A run with random weights that has not begun, and what it reads."""
        given = {"train.precision": precision, "train.batch_size": batch_size}
        config = load_config(REPOSITORY / self.config, self.overrides, given)
        spec = ModelSpec.from_json(json.loads((self.rows / "spec.json").read_text()))
        torch.manual_seed(config.seed)
        model, phases = build_model(config.model, spec, load_weights=False), build_phases(config.model, config.loss)
        state = TrainState.create(config, spec, model, phases, self.device, Position(1))
        return state, Rows.load(self.rows).batches(batch_size)

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def main() -> None:
    """Measures, prints, and writes a file of rows."""
    args = parser().parse_args()
    use_fast_kernels()
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "rows", args.config, args.set)
        bench = Bench(args.config, args.set, Path(folder) / "rows", torch.device(args.device))
        if args.profile:
            write_text(args.out, profiled(bench, args.precision[-1], args.batch_sizes[-1]) + "\n")
            return
        tflop = tflop_of_an_image(bench, args.batch_sizes[0])
        name, peak = chip(bench.device)
        facts = {"device": name, "bf16_peak_tflops": peak, "gflop_an_image": round(tflop * 1e3, 3)}
        facts |= {"config": str(args.config), "torch": torch.__version__}
        rows: list[dict[str, Any]] = []
        for precision in args.precision:
            for batch_size in args.batch_sizes:
                row = {"mode": args.mode, "precision": precision, "batch": batch_size}
                rows.append(row | attempted(lambda p=precision, b=batch_size: measured(bench, args, p, b, tflop, peak)))  # type: ignore[misc]
                print(json.dumps(rows[-1]), flush=True)
                write_json(args.out, {"facts": facts, "rows": rows})
                if "failed" in rows[-1]:
                    break


def parser() -> argparse.ArgumentParser:
    """The words on the command line."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--config", type=Path, default=Path("configs/paper.yaml"), help="relative to the repository")
    words.add_argument("--mode", choices=["eager", "compile", "cuda-graphs"], default="eager")
    words.add_argument("--precision", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    words.add_argument("--batch-sizes", nargs="+", type=int, default=[32, 64, 128, 256, 512])
    words.add_argument("--round-s", type=float, default=1.0, help="about how many seconds each of five rounds takes")
    words.add_argument("--profile", action="store_true")
    words.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    words.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return words


def measured(
    bench: Bench, args: argparse.Namespace, precision: str, batch_size: int, tflop: float, peak: float | None
) -> dict[str, Any]:
    """images_per_s (median of the rounds), its range, TFLOP/s, their share of the peak, and memory at its peak."""
    torch._dynamo.reset()  # another batch size is another program
    torch._dynamo.config.recompile_limit = 256  # it counts all nn.Sequential together; those beyond it are not compiled
    state, batches = bench.game(precision, batch_size)
    if args.mode != "eager":
        for network in of_convolutions(state.model):
            network.compile(dynamic=False, mode="reduce-overhead" if args.mode == "cuda-graphs" else None)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
    began = time.perf_counter()
    for _ in range(3):  # compiles, and lets cuDNN choose
        iterate(state, batches)
    bench.wait()
    warm_up_s = time.perf_counter() - began
    rates = [rate(bench, state, batches, args.round_s) for _ in range(_ROUNDS)]
    found: dict[str, Any] = {
        "images_per_s": round(statistics.median(rates), 1),
        "range": f"{min(rates):.1f} to {max(rates):.1f}",
        "tflop_per_s": round(statistics.median(rates) * tflop, 3),
    }
    if peak:
        found["share_of_bf16_peak"] = round(statistics.median(rates) * tflop / peak, 4)
    if bench.device.type == "cuda":
        found["memory_gb"] = round(torch.cuda.max_memory_allocated(bench.device) / 1e9, 2)
    return found | {"warm_up_s": round(warm_up_s, 1)}


def rate(bench: Bench, state: TrainState, batches: Iterator[HostBatch], least_s: float) -> float:
    """Images a second over iterations that take about so long, without a wait between them, as in training."""
    one_s = elapsed_s(bench, state, batches, 1)
    num = max(1, round(least_s / one_s))
    return num * state.images_per_iteration / elapsed_s(bench, state, batches, num)


def elapsed_s(bench: Bench, state: TrainState, batches: Iterator[HostBatch], num: int) -> float:
    """Seconds that so many iterations take, until the device is done."""
    bench.wait()
    start = time.perf_counter()
    for _ in range(num):
        iterate(state, batches)
    bench.wait()
    return time.perf_counter() - start


def iterate(state: TrainState, batches: Iterator[HostBatch]) -> None:
    """One iteration of the game."""
    torch.compiler.cudagraph_mark_step_begin()
    train_iteration(state, batches)


def attempted(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` gives, or why it failed: a benchmark says what does not go, and goes on."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - compilers raise whatever they like
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        return {"failed": f"{type(error).__name__}: {lines[0][:200]}"}
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def tflop_of_an_image(bench: Bench, batch_size: int) -> float:
    """TFLOP of an iteration for each real image that it shows to the critics."""
    state, batches = bench.game("fp32", batch_size)
    cudnn, mkldnn = torch.backends.cudnn.flags(enabled=False), torch.backends.mkldnn.flags(enabled=False)
    with cudnn, mkldnn, FlopCounterMode(display=False) as counter:
        train_iteration(state, batches)
    return counter.get_total_flops() / state.images_per_iteration / 1e12


def of_convolutions(model: nn.Module) -> list[nn.Module]:
    """The networks of a model that are called as a whole and hold no recurrence."""
    found = dict(model.named_modules())
    names = ("image_generator", "image_discriminator.blocks", "joint_discriminator.blocks")
    stages = list(found["report_decoder.encoder.features"].children())  # F's encoder is called stage by stage
    return [found[name] for name in names] + stages


def chip(device: torch.device) -> tuple[str, float | None]:
    """Its name, and its peak in dense bf16 products where that is known [TFLOP/s]."""
    if device.type != "cuda":
        return "CPU", None
    name = torch.cuda.get_device_name(device)
    if "MIG" in name.split():  # a part of the chip
        return name, None
    return name, next((peak for part, peak in PEAK_BF16_TFLOPS.items() if part in name.replace("-", " ").split()), None)


def profiled(bench: Bench, precision: str, batch_size: int) -> str:
    """The operators on which an iteration spent the most time of the device themselves."""
    state, batches = bench.game(precision, batch_size)
    for _ in range(3):
        train_iteration(state, batches)
    bench.wait()
    is_cuda = bench.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
    with profile(activities=activities) as seen:
        train_iteration(state, batches)
        bench.wait()
    table = seen.key_averages().table(
        sort_by="self_device_time_total" if is_cuda else "self_cpu_time_total", row_limit=25, max_name_column_width=50
    )
    return f"{chip(bench.device)[0]}, {bench.config}, batch {batch_size}, {precision}, one iteration\n{table}"


if __name__ == "__main__":
    main()

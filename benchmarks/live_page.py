"""The live page of a run: how long `emixer serve` takes to answer, from the request to the last byte of the pairs.

    python benchmarks/live_page.py --run demo/run [--rounds 40] [--num 4]

Starts the server and asks one thing after the other, as one visitor does. Each answer holds pairs and images. CPU time
is that of the server for one answer: the figure to look at on a machine that others use too.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np


@contextmanager
def served(run: str) -> Iterator[tuple[str, int, float]]:
    """The link of a server of the run, its process, and what its start took [s]."""
    command = [sys.executable, "-m", "emixer", "serve", "--run", run, "--port", "0", "--draws-per-minute", "100000"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[1], process.pid, time.perf_counter() - start
        finally:
            process.terminate()


def took_ms(link: str, wish: dict[str, Any]) -> float:
    """One answer."""
    address = urlsplit(link)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=600)
    start = time.perf_counter()
    connection.request("POST", "/api/draw", json.dumps(wish), {"Authorization": f"Bearer {address.fragment}"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(content.decode())
    return (time.perf_counter() - start) * 1000


def cpu_ms(pid: int) -> float:
    """CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--num", type=int, default=4)
    args = parser.parse_args()
    with served(args.run) as (link, pid, start_s):
        print(f"start {start_s:.1f} s; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        kinds = {
            f"{args.num} pairs": {"num": args.num},
            "the same, a label swapped": {"kind": "swap", "swapped": "Cardiomegaly", "num": args.num},
            "strip of 7": {"kind": "interpolation", "to_labels": ["Cardiomegaly"], "steps": 7},
        }
        print(f"{'request':<28} {'p50 [ms]':>9} {'p95 [ms]':>9} {'CPU [ms]':>9}")
        for name, wish in kinds.items():
            took_ms(link, wish)
            before_ms = cpu_ms(pid)
            took = [took_ms(link, wish | {"seed": seed}) for seed in range(args.rounds)]
            used_ms = (cpu_ms(pid) - before_ms) / args.rounds
            p50_ms, p95_ms = np.percentile(took, [50, 95])
            print(f"{name:<28} {p50_ms:>9.0f} {p95_ms:>9.0f} {used_ms:>9.0f}")


if __name__ == "__main__":
    main()

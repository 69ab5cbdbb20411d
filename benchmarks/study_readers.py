"""Many readers at once: how long `emixer study serve` takes to answer them, and whether it keeps what it acknowledged.

Starts the server of a study and as many readers as it has. Each asks for a pair and its image, thinks, sends a rating,
and goes on. Afterwards every acknowledged rating is looked for in the database.

    emixer study make --dataset data/synthetic --shards data/shards --study studies/load --readers 100
    python benchmarks/study_readers.py --study studies/load --seconds 120
"""

import argparse
import asyncio
import csv
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np


class Reader:
    """One reader: a connection that is kept open, as a browser does."""

    def __init__(self, port: int, token: str, think_s: float) -> None:
        self.port, self.token, self.think_s = port, token, think_s
        self.took_ms: dict[str, list[float]] = defaultdict(list)
        self.errors: Counter[str] = Counter()
        self.acknowledged: list[tuple[str, str]] = []

    async def run(self, until: float) -> None:
        self.input, self.output = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.sleep(random.uniform(0, self.think_s))
        places = [each["place"] for each in json.loads(await self.ask("list", "/api/study"))["places"]]
        turn = 0
        while time.monotonic() < until:
            place = places[turn % len(places)]
            await self.ask("pair", f"/api/pairs/{place}")
            await self.ask("image", f"/api/pairs/{place}/image")
            await asyncio.sleep(random.uniform(0.5, 1.5) * self.think_s)
            request = f"{self.token[:8]}-{turn:06d}"
            score = {"image": 1 + turn % 10, "report": 5, "agreement": 5, "guess": "real", "comment": ""}
            body = {"rating": score, "known_version": turn // len(places), "request": request}
            await self.ask("rating", f"/api/pairs/{place}/rating", json.dumps(body).encode())
            self.acknowledged.append((place, request))
            turn += 1
        self.output.close()

    async def ask(self, kind: str, path: str, body: bytes | None = None) -> bytes:
        """Raises ConnectionError for anything but 200."""
        method, length = ("GET", "") if body is None else ("POST", f"Content-Length: {len(body)}\r\n")
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n{length}\r\n"
        start = time.perf_counter()
        self.output.write(head.encode() + (body or b""))
        answer = (await self.input.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(answer.partition("content-length: ")[2].partition("\r\n")[0])
        content = await self.input.readexactly(size)
        self.took_ms[kind].append(1000 * (time.perf_counter() - start))
        if " 200 " not in answer.partition("\r\n")[0]:
            self.errors[answer.partition("\r\n")[0]] += 1
            raise ConnectionError(answer)
        return content


async def read_all(port: int, tokens: list[str], seconds: float, think_s: float) -> list[Reader]:
    readers = [Reader(port, token, think_s) for token in tokens]
    until = time.monotonic() + seconds
    ended = await asyncio.gather(*(reader.run(until) for reader in readers), return_exceptions=True)
    for reader, error in zip(readers, ended, strict=True):
        if error is not None:
            reader.errors[type(error).__name__] += 1
    return readers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--think", type=float, default=2.0, help="mean time between a pair and its rating [s]")
    given = parser.parse_args()
    command = [sys.executable, "-m", "emixer", "study", "serve", "--study", str(given.study), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = urlsplit(server.stdout.readline().rpartition(" ")[2].strip()).port
    assert port is not None, "the server did not start"
    with (given.study / "readers.csv").open() as file:
        tokens = [row["token"] for row in csv.DictReader(file)]
    try:
        readers = asyncio.run(read_all(port, tokens, given.seconds, given.think))
    finally:
        server.terminate()
        _, _, used = os.wait4(server.pid, 0)
    errors = sum((reader.errors for reader in readers), Counter())
    print(f"{len(readers)} readers, {given.seconds:.0f} s, a rating about every {given.think:.1f} s each")
    print(f"{'request':<10}{'answers':>10}{'p50 [ms]':>10}{'p95 [ms]':>10}{'p99 [ms]':>10}{'max [ms]':>10}")
    for kind in ("list", "pair", "image", "rating"):
        took = np.concatenate([reader.took_ms[kind] for reader in readers])
        p50, p95, p99 = np.percentile(took, [50, 95, 99])
        print(f"{kind:<10}{len(took):>10,}{p50:>10.1f}{p95:>10.1f}{p99:>10.1f}{took.max():>10.1f}")
    with closing(sqlite3.connect(given.study / "scores.sqlite")) as database:
        kept = set(database.execute("SELECT place, request FROM ratings"))
    acknowledged = [each for reader in readers for each in reader.acknowledged]
    cpu_ms = 1000 * (used.ru_utime + used.ru_stime) / len(acknowledged)
    load, memory_mb = os.getloadavg()[1], used.ru_maxrss / 1024
    print(f"server: {cpu_ms:.1f} ms of CPU a pair and its rating, {memory_mb:.0f} MiB; load of the machine {load:.0f}")
    print(f"errors: {dict(errors) or 'none'}; acknowledged and not in the database: {len(set(acknowledged) - kept)}")


if __name__ == "__main__":
    main()

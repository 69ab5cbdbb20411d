"""How fast a cluster follows demand on SLURM: this project's, and dask-jobqueue's `adapt`, on the same four nodes.

    python benchmarks/cluster_growth.py [--rounds 3] [--nodes 3] [--dask PYTHON]

Brings up the test bed of tests/slurm (root, Debian packages of SLURM), so that nothing but the two differs. Each round:

    SLURM       as many jobs of one node by sbatch: how long until their script runs; from scancel until the last has
                left the queue. Nobody can be faster.
    jobs        one job of 4 nodes, as `python -m jobs` submits it: from the command to the first task of its stage,
                which begins when all four are in one Ray cluster.
    emixer      a cluster of 0 to 3 nodes that is up and idle; two tasks of one CPU a node come. Until the first task
                runs, until all nodes work; after the last task, until the last job is gone, less the idle time.
    dask        the same with SLURMCluster.adapt(minimum=0, maximum=3), where --dask names a Python that has it.

Then: `cluster down` with all nodes busy, and what is left. Prints seconds, medians, and ratios to SLURM and to dask.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests" / "slurm"))
from testbed import TestBed  # noqa: E402 - the tests' own bed, which is no part of the package

IDLE_S, TASK_S = 6, 8

STAGE = """
import time, ray
def run(config):
    ray.init(address=config.ray.address, log_to_driver=False, logging_level="ERROR")
    return ray.get(ray.remote(lambda: time.time()).remote())
"""
SUBMIT = """
import sys
from pathlib import Path
from emixer.config import load_config
from jobs.submit import submit
(job,) = submit("ingest", "first_task", {"": load_config([Path(sys.argv[1])])}, "slurm")
print(job.job_id)
"""
RAY = """
import json, time, ray
ray.init(log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=1)
def work():
    began = time.time()
    time.sleep(SECONDS)
    return began, ray.get_runtime_context().get_node_id(), time.time()
time.sleep(1)
asked = time.time()
done = ray.get([work.remote() for _ in range(COUNT)])
print("RESULT", json.dumps({"asked": asked, "done": done}))
"""
DASK = """
import json, os, sys, time
from dask.distributed import Client
from dask_jobqueue import SLURMCluster

def work(index):
    import os, time
    began = time.time()
    time.sleep(SECONDS)
    return began, os.environ["SLURM_JOB_ID"], time.time()

cluster = SLURMCluster(
    cores=2, processes=1, memory="1500MB", queue="main", walltime="00:30:00", local_directory=sys.argv[1],
    log_directory=sys.argv[1], python=sys.executable, death_timeout=60,
)
cluster.adapt(minimum=0, maximum=NODES, interval="1s", wait_count=IDLE)
client = Client(cluster)
time.sleep(3)
asked = time.time()
done = client.gather(client.map(work, range(COUNT), pure=False))
print("RESULT", json.dumps({"asked": asked, "done": done}), flush=True)
time.sleep(60)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=3, choices=range(1, 5))
    parser.add_argument("--dask", help="a Python that has dask-jobqueue and distributed")
    options = parser.parse_args()
    reason = TestBed.why_not()
    if reason is not None:
        sys.exit(reason)
    bed = TestBed.start(nodes=4)
    results: dict[str, list[dict[str, float]]] = {"SLURM": [], "jobs": [], "emixer": [], "dask": []}
    try:
        for _ in range(options.rounds):
            results["SLURM"].append(slurm_latency(bed, options.nodes))
            results["jobs"].append(jobs_round(bed, 4))
            results["emixer"].append(emixer_round(bed, options.nodes))
            if options.dask:
                results["dask"].append(dask_round(bed, options.dask, options.nodes))
            print(json.dumps({name: rounds[-1] for name, rounds in results.items() if rounds}), flush=True)
    finally:
        bed.stop()
    report(results)


def slurm_latency(bed: Any, nodes: int) -> dict[str, float]:
    """Seconds from sbatch to the running script, for `nodes` jobs at once, and from scancel to their end."""
    folder = Path(tempfile.mkdtemp(dir=bed.folder))
    asked = time.time()
    for index in range(nodes):
        bed.run([
            "sbatch", "--parsable", "--job-name=bare", "--cpus-per-task=2", "--mem=1500M", "--time=5",
            "--output=/dev/null", f"--wrap=date +%s.%N > {folder}/{index}; exec sleep 300",
        ])  # fmt: skip
    bed.wait_for(lambda: len([p for p in folder.glob("*") if p.read_text().strip()]) == nodes)
    began = [float((folder / str(index)).read_text()) for index in range(nodes)]
    cancelled = time.time()
    bed.run(["scancel", "--name=bare"])
    gone = wait_for_no_worker(bed, "bare")
    return {"first": min(began) - asked, "all": max(began) - asked, "shrink": gone - cancelled}


def jobs_round(bed: Any, nodes: int) -> dict[str, float]:
    """One job over all nodes: from its submission to its stage's first task, and from its last line to its end."""
    folder = Path(tempfile.mkdtemp(dir=bed.folder))
    (folder / "first_task.py").write_text(STAGE)
    slurm = {
        "nodes": nodes, "cpus": 2, "memory_gb": 1.5, "time_min": 30, "folder": str(folder), "local_disk": str(bed.disk),
    }  # fmt: skip
    (folder / "site.yaml").write_text(yaml.safe_dump({"slurm": slurm}))
    asked = time.time()
    job_id = bed.run(
        [sys.executable, "-c", SUBMIT, str(folder / "site.yaml")], cwd=folder,
        environment={"PYTHONPATH": f"{ROOT}:{folder}"},
    ).stdout.strip()  # fmt: skip
    state = folder / "cluster" / job_id / "state.json"
    bed.wait_for(lambda: state.exists() and json.loads(state.read_text())["state"] == "finished", 120, "the job's end")
    ended = state.stat().st_mtime
    gone = wait_for_no_worker(bed, "emixer-ingest")
    return {"first": float(json.loads(state.read_text())["summary"]) - asked, "shrink": gone - ended}


def emixer_round(bed: Any, nodes: int) -> dict[str, float]:
    """One cluster from `up` to `down`."""
    folder = Path(tempfile.mkdtemp(dir=bed.folder))
    config = {
        "name": "bench", "folder": str(folder / "rays"), "local_disk": str(bed.disk), "idle_timeout_s": IDLE_S,
        "warn_s": 30, "poll_s": 1, "head": {"cpus": 1, "memory_gb": 1, "time_min": 60},
        "node_types": {"cpu": {"cpus": 2, "memory_gb": 1.5, "time_min": 30, "max": nodes, "partition": "main"}},
    }  # fmt: skip
    (folder / "cluster.yaml").write_text(yaml.safe_dump(config))

    def cluster(*arguments: str) -> str:
        environment = {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "cluster", *arguments]
        return str(bed.run(command, timeout_s=300, cwd=folder, environment=environment).stdout)

    chosen = ("--folder", str(folder / "rays"))
    start = time.time()
    cluster("up", "--config", str(folder / "cluster.yaml"))
    up_s = time.time() - start
    shown = cluster("submit", *chosen, "--", sys.executable, "-c", filled(RAY, TASK_S, nodes))
    grown = latencies(shown)
    gone = wait_for_no_worker(bed, "ray-bench-cpu")
    cluster("submit", *chosen, "--no-wait", "--", sys.executable, "-c", filled(RAY, 60, nodes))
    bed.wait_for(lambda: len(running(bed, "ray-bench-cpu")) == nodes)
    time.sleep(5)
    start = time.time()
    cluster("down", *chosen)
    down_s = time.time() - start
    left = len(bed.processes_of("RAY_ON_SLURM="))
    return {
        "up": up_s, "first": grown["first"], "all": grown["all"], "shrink": gone - grown["ended"] - IDLE_S,
        "down": down_s, "processes_left": left,
    }  # fmt: skip


def dask_round(bed: Any, python: str, nodes: int) -> dict[str, float]:
    """The same with dask-jobqueue: a scheduler on the login node, workers as jobs."""
    folder = Path(tempfile.mkdtemp(dir=bed.folder))
    text = filled(DASK, TASK_S, nodes)
    with subprocess.Popen(
        [*bed.in_login, python, "-c", text, str(folder)], env={**bed.environment(), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        shown = next(line for line in process.stdout if line.startswith("RESULT"))
        grown = latencies(shown)
        gone = wait_for_no_worker(bed, "dask-worker")
        os.killpg(process.pid, 9)
    return {"first": grown["first"], "all": grown["all"], "shrink": gone - grown["ended"] - IDLE_S}


def filled(program: str, seconds: float, nodes: int) -> str:
    """The program with its numbers."""
    numbers = {"SECONDS": seconds, "COUNT": 2 * nodes, "NODES": nodes, "IDLE": IDLE_S}
    for name, value in numbers.items():
        program = program.replace(name, str(value))
    return program


def latencies(shown: str) -> dict[str, float]:
    """From the line that a program printed: until the first task, until all nodes work, when the last task ended."""
    result = json.loads(next(line for line in shown.splitlines() if line.startswith("RESULT"))[7:])
    first_of_node: dict[str, float] = {}
    for began, node, _ in result["done"]:
        first_of_node[node] = min(began, first_of_node.get(node, began))
    began = sorted(first_of_node.values())
    return {
        "first": began[0] - result["asked"],
        "all": began[-1] - result["asked"],
        "nodes": len(began),
        "ended": max(end for _, _, end in result["done"]),
    }


def running(bed: Any, name: str) -> list[str]:
    """Jobs of that name that run."""
    shown = bed.run(["squeue", "-h", "-t", "running", "-o", "%j"]).stdout.split()
    return [job for job in shown if job == name]


def wait_for_no_worker(bed: Any, name: str) -> float:
    """When the last job of that name left the queue."""
    bed.wait_for(lambda: name not in bed.run(["squeue", "-h", "-o", "%j"]).stdout.split(), 120, "the end of workers")
    return time.time()


def report(results: dict[str, list[dict[str, float]]]) -> None:
    """Medians and ratios."""
    rows = {"first": "first task [s]", "all": "all nodes work [s]", "shrink": "last job gone, less idle time [s]"}
    middle = {
        name: {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
        for name, rounds in results.items()
        if rounds
    }
    print(f"\n{'median of rounds':<36}" + "".join(f"{name:>10}" for name in middle))
    for key, words in rows.items():
        cells = [f"{found[key]:>10.2f}" if key in found else f"{'':>10}" for found in middle.values()]
        print(f"{words:<36}" + "".join(cells))
    ours = middle["emixer"]
    print(f"up {ours['up']:.1f} s, down with all nodes busy {ours['down']:.1f} s, "
          f"{max(r['processes_left'] for r in results['emixer']):.0f} processes left")  # fmt: skip
    if "dask" in middle:
        for key, words in rows.items():
            print(f"emixer / dask, {words}: {ours[key] / middle['dask'][key]:.2f}")


if __name__ == "__main__":
    main()

"""`python -m jobs` on a real SLURM: submitting, following, interrupting in every way, and resuming."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from optuna import load_study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from emixer.checkpoint import find_checkpoint
from emixer.cli.main import main
from emixer.config import load_config, with_overrides
from emixer.run_folder import RunFolder
from emixer.stages import train

from .conftest import failing_starts, hanging_starts

pytestmark = pytest.mark.slurm

RATES = ("images_per_s", "wait_share")
LONG = ("--images", "200000", "--set", "train.save_every_images=1000000", "--set", "train.log_every_images=64",
        "--set", "train.validate_every_images=1000000", "--set", "train.sample_every_images=1000000")  # fmt: skip
"""Arguments of a run that no test waits for and that saves only on request."""


def losses(folder: Path) -> list[dict[str, float]]:
    lines = [line for line in RunFolder(folder).metrics() if "images_per_s" in line]
    return [{k: v for k, v in line.items() if k not in RATES} for line in lines]


def images(folder: Path) -> int:
    """Return the image count of the last log line; 0 before the first."""
    lines = RunFolder(folder).metrics()
    return int(lines[-1]["images"]) if lines else 0


def saved(folder: Path) -> int:
    """Return the image count of the last checkpoint; 0 before the first."""
    found = find_checkpoint(folder / "checkpoints", "last")
    return 0 if found is None else found.images


def lines_until(folder: Path, images: int) -> list[str]:
    """Return the lines of metrics.jsonl for the first `images` images, verbatim. They contain rates, so training again
    from the start would not write the same lines."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [line for line in lines if json.loads(line)["images"] <= images]


def assert_nothing_left(site: Any, job: str) -> None:
    site.bed.wait_for(lambda: not site.bed.processes_of(f"RAY_ON_SLURM={job}-"), 10, "the end of Ray's processes")
    site.bed.wait_for(
        lambda: not any(list(site.bed.disk_of(node).iterdir()) for node in site.bed.names()), 10, "clean local disks"
    )


def signal_task(site: Any, job: str, number: signal.Signals, program: str = "submitit.core._submit") -> None:
    """Send a signal to the job's task, or to another of its programs, alone, as SLURM does where it has cgroups."""
    of_job = site.bed.processes_of(program, f"SLURM_JOB_ID={job}\0")
    pids = [pid for pid, command in of_job.items() if program in command and "srun" not in command]
    assert pids
    for pid in pids:
        os.kill(pid, number)


def goes_on(site: Any, job: str, run: Path) -> int:
    """Wait until the job, which has just been stopped, has trained further than before. Return the image count of the
    checkpoint that it went on from."""
    at, reached = saved(run), images(run)  # lines beyond the checkpoint stand there until the training begins
    before = lines_until(run, at)
    further = lambda: site.bed.state_of(job) == "RUNNING" and images(run) > reached  # noqa: E731
    site.bed.wait_for(further, 180, "going on from the checkpoint")
    assert lines_until(run, at) == before
    return at


def used_s(site: Any, job: str) -> int:
    """Return for how long the job has run [s], according to SLURM."""
    minutes, _, seconds = site.bed.run(["squeue", "-h", "-j", job, "-o", "%M"]).stdout.strip().rpartition(":")
    return 60 * int(minutes) + int(seconds)


def set_time_limit(site: Any, job: str, limit_s: int) -> None:
    """Let the job end after that long at the earliest; SLURM counts whole minutes."""
    site.bed.run(["scontrol", "update", f"jobid={job}", f"timelimit={-(-limit_s // 60)}"])


@pytest.mark.slurm_core
def test_two_node_job_matches_two_local_workers_and_cleans_up(ray_cluster: None, site: Any, tmp_path: Path) -> None:
    job = site.submit("train", "--num-workers", "2", "--set", "slurm.nodes=2")
    status = site.wait(job, "finished")
    assert status["progress"].endswith("of 160 images")
    here = {"train.run": tmp_path / "local", "train.num_workers": 2}
    train.run(with_overrides(load_config(site.config_file), here))
    on_slurm, local = losses(tmp_path / "run"), losses(tmp_path / "local")
    assert len(on_slurm) == len(local) == 3
    for one, other in zip(on_slurm, local, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    assert_nothing_left(site, job)
    assert not list((tmp_path / "slurm-jobs" / "cluster" / job).glob("token*"))
    assert "Trained on 192 images" in site.jobs("logs", job).stdout


def test_array_elements_train_in_separate_folders(ray_cluster: None, site: Any, tmp_path: Path) -> None:
    shown = site.jobs("train", "--config", str(site.config_file), "--array", "seed=1,2", "--at-once", "1").stdout
    array = shown.split("array ")[1].split()[0]
    site.submitted.append(array)
    assert [line.split() for line in shown.splitlines()[1:3]] == [[f"{array}_0", "seed=1"], [f"{array}_1", "seed=2"]]
    site.bed.wait_for(lambda: site.status(f"{array}_0")["state"] == "running", 60, "the first element")
    waiting = site.status(f"{array}_1")
    assert (waiting["state"], waiting["label"]) == ("pending", "seed=2")
    assert "the array's limit of running tasks is reached" in waiting["note"]
    again = site.jobs("train", "--config", str(site.config_file), "--array", "seed=2,3", check=False)
    assert again.returncode == 2
    assert f"Job {array}_1 (pending) already writes to" in again.stderr
    finished = [site.wait(f"{array}_{index}", "finished") for index in (0, 1)]
    assert all("Trained on 192 images" in one["note"] for one in finished)
    seeds = [load_config(tmp_path / "run" / f"seed={seed}" / "config.yaml").seed for seed in (1, 2)]
    assert seeds == [1, 2]
    assert losses(tmp_path / "run" / "seed=1") != losses(tmp_path / "run" / "seed=2")
    assert "an array of 2 jobs" in site.jobs("logs", array, check=False).stderr
    assert "Trained on 192 images" in site.jobs("logs", f"{array}_1").stdout
    over = site.jobs("cancel", array, check=False)
    assert over.returncode == 2
    assert "nothing to cancel" in over.stderr


def test_finished_stage_says_so_and_stops(site: Any, tmp_path: Path) -> None:
    first = site.submit("train")
    assert site.jobs("logs", first, "--follow", timeout_s=450).stdout == site.log(first)
    assert site.status(first)["state"] == "finished"
    assert "Trained on 192 images" in site.log(first)
    before = [(p, p.stat().st_mtime_ns) for p in sorted((tmp_path / "run" / "checkpoints").rglob("*"))]
    # submitted from inside another job, whose variables sbatch would read as conflicting options
    inside = {"SLURM_JOB_ID": first, "SLURM_MEM_PER_CPU": "100", "SLURM_NTASKS": "3", "RAY_ADDRESS": "10.0.0.1:1"}
    again = site.submit("train", environment=inside)
    site.wait(again, "finished")
    assert "Already trained on 192 images" in site.log(again)
    assert [(p, p.stat().st_mtime_ns) for p in sorted((tmp_path / "run" / "checkpoints").rglob("*"))] == before


@pytest.mark.slurm_core
@pytest.mark.long
def test_job_saves_and_goes_on_when_it_is_preempted_and_at_its_time_limit(site: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = site.submit("train", *LONG, "--set", "slurm.warn_s=90")

    def restarts() -> int:
        shown = site.bed.run(["squeue", "-h", "-j", job, "-O", "RestartCnt"], check=False).stdout.strip()
        return int(shown or 0)

    site.bed.wait_for(lambda: images(run) >= 128, 90, "the first lines")
    RunFolder(run).request_save()  # the grace time may be too short for it on a busy machine
    site.bed.wait_for(lambda: saved(run) >= 128, 60, "a checkpoint")
    asked = ["-p", "high", "-N", "4", "-n", "16", "--mem=4G", "-o", "/dev/null", "--wrap", "sleep 8"]
    rival = site.bed.run(["sbatch", "--parsable", *asked]).stdout.strip()
    site.bed.wait_for(lambda: site.bed.state_of(rival) in ("RUNNING", "COMPLETED"), 60, "the rival running")
    preempted_at = goes_on(site, job, run)
    assert restarts() == 1

    set_time_limit(site, job, used_s(site, job) + 90)
    site.bed.wait_for(lambda: restarts() == 2, 180, "the requeue")
    set_time_limit(site, job, 600)
    assert goes_on(site, job, run) > preempted_at, "a checkpoint outside of its turn"
    lines = [line["images"] for line in RunFolder(run).metrics()]
    assert lines == list(range(64, lines[-1] + 1, 64)), "no line twice, none missing"
    site.jobs("cancel", job)
    assert_nothing_left(site, job)


def test_terminated_task_requests_a_checkpoint_first(site: Any, tmp_path: Path) -> None:
    """As in preemption on a SLURM with cgroups: SIGTERM reaches only the task and the grace time begins."""
    run = tmp_path / "run"
    job = site.submit("train", *LONG)
    site.bed.wait_for(lambda: images(run) >= 128, 90, "the first lines")
    signal_task(site, job, signal.SIGTERM)
    site.bed.wait_for(lambda: saved(run) >= 128, 60, "a checkpoint outside of its turn")
    at = images(run)
    site.bed.wait_for(lambda: images(run) > at, 30, "still training")
    site.jobs("cancel", job)
    assert_nothing_left(site, job)


@pytest.mark.parametrize("by", ["the warning of its time limit", "the end of its grace time"])
def test_job_waits_for_a_silent_slurm_to_be_requeued(site: Any, tmp_path: Path, by: str) -> None:
    run = tmp_path / "run"
    job = site.submit("train", *LONG)
    site.bed.wait_for(lambda: images(run) >= 128, 90, "the first lines")
    controller = site.bed.processes["slurmctld"].pid
    os.kill(controller, signal.SIGSTOP)
    try:
        if by == "the warning of its time limit":
            signal_task(site, job, signal.SIGUSR2)
        else:
            signal_task(site, job, signal.SIGTERM)
            site.bed.wait_for(lambda: saved(run) > 0, 60, "the checkpoint")
            signal_task(site, job, signal.SIGTERM, "jobs.run_stage")
        site.bed.wait_for(lambda: "SLURM does not answer" in site.log(job), 90, "saying what it waits for")
    finally:
        os.kill(controller, signal.SIGCONT)
    restarts = ["squeue", "-h", "-j", job, "-O", "RestartCnt"]
    site.bed.wait_for(lambda: site.bed.run(restarts, check=False).stdout.strip() == "1", 120, "the requeue")
    assert goes_on(site, job, run) >= 128
    site.jobs("cancel", job)
    assert_nothing_left(site, job)


IN_A_JOB = (
    "from emixer.config import RayConfig; from emixer.ray_session import connect; import ray\n"
    "from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager as driver\n"
    "driver.get_current_node_num_accelerators = staticmethod(lambda: 4)\n"
    "with connect(RayConfig()):\n"
    "    has = ray.cluster_resources()\n"
    "    memory, store = (round(has[name] / 2**20) for name in ('memory', 'object_store_memory'))\n"
    "    print(f\"offers {has['CPU']:g} CPU, {has.get('GPU', 0):g} GPU, {memory} + {store} MB\")"
)
"""What a command's Ray offers on a node where NVIDIA's driver shows four GPUs to every process."""


@pytest.mark.parametrize(
    ("by_hand", "offered"),
    [
        # 450 of the 1,500 MB are the object store's
        (["srun", "-n1", "-c1", "--mem=1500"], ["1 CPU, 0 GPU, 1050 + 450 MB"]),
        (["srun", "-n1", "-c1", "--mem=1500", "--gres=gpu:1"], ["1 CPU, 1 GPU, 1050 + 450 MB"]),
        (["srun", "-N1", "-n2", "-c1", "--mem=3000"], ["1 CPU, 0 GPU, 1050 + 450 MB"] * 2),
        # a step without --exact may use all CPUs of the job, whatever its number of tasks
        (["salloc", "--quiet", "-n2", "--mem=2000", "srun", "-n1", "--mem=1500"], ["2 CPU, 0 GPU, 1050 + 450 MB"]),
        (
            ["salloc", "--quiet", "-n2", "--mem=2000", "srun", "-n1", "--exact", "--mem=1500"],
            ["1 CPU, 0 GPU, 1050 + 450 MB"],
        ),
        (["salloc", "--quiet", "-n2", "-N1", "--mem=2000"], ["2 CPU, 0 GPU, 1400 + 600 MB"]),
    ],
)
def test_emixer_run_by_hand_in_a_job_offers_ray_the_resources_of_the_job(
    site: Any, by_hand: list[str], offered: list[str]
) -> None:
    """On a node of 5,000 MB and two GPUs, on a machine with more of everything."""
    program = [*by_hand, sys.executable, "-c", IN_A_JOB]
    done = site.bed.run(program, environment={"PYTHONPATH": str(Path(__file__).parents[2])}, timeout_s=300)
    assert [line.removeprefix("offers ") for line in done.stdout.splitlines() if "offers" in line] == offered


@pytest.mark.slurm_core
def test_job_cancelled_while_saving_is_not_requeued(site: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # the requested checkpoint is written at the next log line: a minute or more away
    job = site.submit("train", *LONG, "--set", "train.log_every_images=1000000", "--set", "slurm.warn_s=60")
    site.bed.wait_for(lambda: RunFolder(run).is_busy, 90, "the training")
    site.bed.run(["scancel", "--signal=USR2", f"{job}.0"])
    site.bed.wait_for(lambda: RunFolder(run).save_is_requested, 30, "the request for a checkpoint")
    site.jobs("cancel", job)
    site.bed.wait_for(lambda: site.bed.state_of(job) == "CANCELLED", 60, "the end of the job")
    time.sleep(5)  # a requeue would come now, and SLURM starts what it requeues
    assert site.bed.state_of(job) == "CANCELLED"
    assert site.status(job)["state"] == "cancelled"
    assert_nothing_left(site, job)


def test_job_cancelled_as_it_is_requeued_ends_at_once(site: Any, tmp_path: Path) -> None:
    job = site.submit("train", *LONG)
    site.bed.wait_for(lambda: images(tmp_path / "run") > 0, 90, "the training")
    site.jobs("cancel", job)
    site.bed.wait_for(lambda: site.bed.state_of(job) == "CANCELLED", 60, "the end of the job")
    at = images(tmp_path / "run")
    site.bed.run(["scontrol", "requeue", job])
    restarts = ["squeue", "-h", "-t", "all", "-j", job, "-O", "RestartCnt"]
    site.bed.wait_for(lambda: site.bed.run(restarts).stdout.strip() == "1", 30, "the requeue")
    site.bed.wait_for(lambda: site.bed.state_of(job) == "CANCELLED", 60, "the end of its new life")
    assert images(tmp_path / "run") == at
    assert "cancelled with `python -m jobs cancel`" in site.log(job)
    assert_nothing_left(site, job)


def test_job_resumes_after_a_node_failure_or_a_manual_requeue(site: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    often = ("--set", "train.save_every_images=128")
    job = site.submit("train", "--num-workers", "2", "--set", "slurm.nodes=2", *LONG, *often)
    site.bed.wait_for(lambda: saved(run) > 0, 90, "a checkpoint")
    node = site.bed.run(["squeue", "-h", "-j", job, "-o", "%N"]).stdout.strip()
    last = site.bed.run(["scontrol", "show", "hostnames", node]).stdout.split()[-1]
    site.bed.fail_node(last)
    at = saved(run)
    before = lines_until(run, at)
    site.bed.wait_for(lambda: site.bed.state_of(job) == "RUNNING" and images(run) > at + 64, 150, "going on elsewhere")
    assert lines_until(run, at) == before
    site.bed.restore_node(last)
    at = saved(run)
    before = lines_until(run, at)
    site.bed.run(["scontrol", "requeue", job])
    restarts = ["squeue", "-h", "-j", job, "-O", "RestartCnt"]
    site.bed.wait_for(lambda: site.bed.run(restarts, check=False).stdout.strip() == "2", 60, "the requeue")
    site.bed.wait_for(lambda: images(run) > at + 64 and site.bed.state_of(job) == "RUNNING", 150, "going on once more")
    assert lines_until(run, at) == before
    site.jobs("cancel", job)
    site.bed.wait_for(lambda: site.status(job)["state"] == "cancelled", 30, "being cancelled")
    assert_nothing_left(site, job)


def test_two_node_search_survives_a_lost_node_and_keeps_finished_trials(site: Any, tmp_path: Path) -> None:
    settings = {
        "slurm.nodes": 2, "tune.study": tmp_path / "study", "tune.num_samples": 3, "tune.budget_images": 448,
        "tune.metrics": "[word_cross_entropy]", "tune.pruner": "none", "tune.max_concurrent": 2,
        "train.cpus_per_worker": 2, "train.save_every_images": 64, "tune.space": '["loss.alpha float 0 1"]',
    }  # fmt: skip
    job = site.submit("tune", *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")))
    trials = tmp_path / "study" / "trials"
    # two run at once, so one has ended when the third starts
    site.bed.wait_for(lambda: saved(trials / "0002") > 0, 240, "a third trial at work")
    study = load_study(
        study_name="emixer", storage=JournalStorage(JournalFileBackend(str(tmp_path / "study" / "study.journal")))
    )
    done = [trials / f"{trial.number:04d}" for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert done
    before = {path: path.stat().st_mtime_ns for run in done for path in run.rglob("*.safetensors")}
    node = site.bed.run(["squeue", "-h", "-j", job, "-o", "%N"]).stdout.strip()
    last = site.bed.run(["scontrol", "show", "hostnames", node]).stdout.split()[-1]
    site.bed.fail_node(last)
    site.wait(job, "finished", timeout_s=400)
    site.bed.restore_node(last)
    assert "Searched with 3 trials (3 finished)" in site.log(job)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "no finished trial is run again"
    assert load_config(tmp_path / "study" / "best.yaml").ray.address is None, "that of the job's cluster, which is gone"
    assert site.status(job)["progress"] == "3 trials started"
    assert_nothing_left(site, job)


@pytest.mark.slurm_core
def test_status_and_logs_say_why_a_job_is_pending(site: Any) -> None:
    blocker = site.bed.run(["sbatch", "--parsable", "-N", "4", "-n", "16", "--mem=4G", "-o", "/dev/null",
                            "--wrap", "sleep 60"]).stdout.strip()  # fmt: skip
    site.submitted.append(blocker)
    job = site.submit("train")
    site.bed.wait_for(lambda: "become free" in site.status(job)["note"] or "come first" in site.status(job)["note"], 30)
    assert site.status(job)["state"] == "pending"
    assert "has printed nothing yet (pending: " in site.jobs("logs", job).stdout
    with subprocess.Popen(
        [*site.bed.in_login, sys.executable, "-m", "jobs", "logs", job, "--follow"], cwd=site.folder, text=True,
        env={**site.bed.environment(), "PYTHONPATH": str(Path(__file__).parents[2])}, stderr=subprocess.PIPE,
    ) as following:  # fmt: skip
        assert following.stderr is not None
        assert "has printed nothing yet (pending: " in following.stderr.readline()
        assert following.poll() is None, "it goes on waiting"
        following.terminate()


@pytest.mark.slurm_core
def test_sbatch_refusal_is_quoted(site: Any) -> None:
    done = site.jobs("train", "--config", str(site.config_file), "--set", "slurm.partition=nowhere", check=False)
    assert done.returncode == 2
    assert "SLURM refused the job: " in done.stderr
    assert "invalid partition" in done.stderr.lower()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("array", "gpus"),
    [((), "slurm.gres='gpu:2'"), (("--array", "seed=1,2"), "slurm.gres='gpu:2'"), ((), "slurm.gpus_per_node=2")],
)
def test_settings_take_precedence_over_variables_of_sbatch(site: Any, array: tuple[str, ...], gpus: str) -> None:
    of_user = {
        "SBATCH_PARTITION": "short", "SBATCH_TIMELIMIT": "1", "SBATCH_NO_REQUEUE": "1", "SBATCH_MEM_PER_CPU": "10",
        "SBATCH_GPUS_PER_NODE": "1", "SBATCH_OUTPUT": "/nowhere", "SBATCH_ARRAY_INX": "0-9", "SBATCH_ACCOUNT": "chest",
        "SBATCH_GRES": "gpu:1", "SBATCH_GPUS_PER_SOCKET": "1", "SBATCH_CPUS_PER_GPU": "1",
    }  # fmt: skip
    asked = ("slurm.partition=main", gpus, "slurm.extra=[--hold]")
    settings = (part for setting in asked for part in ("--set", setting))
    job = site.submit("train", *settings, *array, environment=of_user)
    (shown,) = site.bed.run(["scontrol", "--oneliner", "show", "job", job]).stdout.splitlines()
    expected = {
        "Partition": "main", "TimeLimit": "00:30:00", "Requeue": "1", "MinMemoryNode": "2G",
        "TresPerNode": "gres:gpu:2", "TresPerSocket": None, "CpusPerTres": None, "CPUs/Task": "2",
        "ArrayTaskId": "0-1%2" if array else None,
        "Account": "chest",  # what is not set is left to the user's variables
    }  # fmt: skip
    found = dict(part.partition("=")[::2] for part in shown.split())
    assert {name: found.get(name) for name in expected} == expected
    assert found["StdOut"].startswith(f"{site.folder}/slurm-jobs/")


def test_nodes_of_a_job_are_started_again_where_ray_does_not_come_up(site: Any, tmp_path: Path) -> None:
    once = failing_starts(tmp_path, 1)
    job = site.submit("train", "--num-workers", "2", "--set", "slurm.nodes=2", environment=once)
    site.wait(job, "finished")
    assert len(list(tmp_path.glob("failed-*"))) == 2
    assert site.log(job).count("Starting it again") == 1
    assert_nothing_left(site, job)


@pytest.mark.parametrize("by", ["python -m jobs cancel", "a preemption, with cgroups"])
def test_job_told_to_end_while_ray_is_starting_leaves_nothing_behind(site: Any, tmp_path: Path, by: str) -> None:
    job = site.submit("train", environment=hanging_starts(tmp_path))
    start = ("ray.scripts.scripts", f"SLURM_JOB_ID={job}\0")
    site.bed.wait_for(lambda: site.bed.processes_of(*start), 60, "the start of Ray")
    (first,) = site.bed.processes_of(*start)
    if by == "a preemption, with cgroups":
        signal_task(site, job, signal.SIGTERM)
        restarts = ["squeue", "-h", "-j", job, "-O", "RestartCnt"]
        site.bed.wait_for(lambda: site.bed.run(restarts, check=False).stdout.strip() == "1", 60, "the requeue")
        site.bed.wait_for(lambda: first not in site.bed.processes_of(*start), 30, "the end of its first life")
        assert not list((tmp_path / "slurm-jobs" / "cluster" / job).glob(f"token-{job}-0"))
    site.jobs("cancel", job)
    site.bed.wait_for(lambda: site.bed.state_of(job) == "CANCELLED", 60, "the end of the job")
    assert_nothing_left(site, job)
    assert not list((tmp_path / "slurm-jobs" / "cluster" / job).glob("token-*"))


def test_job_fails_where_ray_never_comes_up(site: Any, tmp_path: Path) -> None:
    job = site.submit("train", environment=failing_starts(tmp_path, 9))
    site.bed.wait_for(lambda: site.status(job)["state"] == "failed", 180, "failing")
    assert len(list(tmp_path.glob("failed-*"))) == 3
    assert "Ray's head ended with code 1" in site.status(job)["note"]
    log = (tmp_path / "slurm-jobs" / "cluster" / job / "ray-0.log").read_text()
    assert log.count("Exception: The current node timed out during startup") == 3
    assert "--- the end of raylet.out" in log, "which goes with the node's disk"
    assert_nothing_left(site, job)


def test_stage_error_is_one_paragraph_in_status_and_log(site: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something").write_text("else")
    job = site.submit("train")
    site.bed.wait_for(lambda: site.status(job)["state"] == "failed", 90, "failing")
    assert "is not empty and not a run folder" in site.status(job)["note"]
    assert "Traceback" not in site.log(job)
    assert_nothing_left(site, job)


def pipeline(site: Any, stages: str, **more: Any) -> list[str]:
    """Submit a chain of stages whose dataset is `made`. Return the ids of its jobs."""
    settings = {"generate.out": site.folder / "made", "generate.num": 20, "generate.rows_per_group": 64,
                "generate.rows_per_file": 64, "evaluate.neighbours": 3, **more}  # fmt: skip
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    done = site.jobs("pipeline", "--config", str(site.config_file), "--stages", stages, *given)
    found = [line.split("job ")[1].split(",")[0].split()[0] for line in done.stdout.splitlines() if "job " in line]
    site.submitted += found
    return found


def test_pipeline_runs_from_raw_images_to_an_evaluation(site: Any, tmp_path: Path) -> None:
    phantom = ["phantom", "--studies", "80", "--out", str(tmp_path / "images"), "--set", "phantom.height_px=64"]
    assert CliRunner().invoke(main, phantom).exit_code == 0
    network = "{growth: 4, blocks: [1, 1, 1, 1], stem_channels: 8, input_px: 32, frozen: false}"
    jobs = pipeline(
        site, "ingest,encoder,train,generate,evaluate",
        **{
            "ingest.source": f"{{kind: mimic-cxr, root: {tmp_path / 'images'}}}", "ingest.out": tmp_path / "shards",
            "ingest.side_px": 32, "ingest.min_token_count": 1, "data.shards": "null", "encoder.network": network,
            "encoder.run": tmp_path / "eyes", "encoder.images": 64, "encoder.batch_size": 16, "validation.images": 4,
            "encoder.validate_every_images": 64, "slurm.stages": "{ingest: {cpus: 1}}",
        },
    )  # fmt: skip
    last = jobs[-1]  # pends for as long as four stages take
    site.bed.wait_for(lambda: "waiting for the job it depends on" in site.status(last)["note"], 30, "its reason")
    for job in jobs:
        site.wait(job, "finished")
    assert list((tmp_path / "made" / "data").glob("*.parquet"))
    assert json.loads((tmp_path / "made-evaluation" / "evaluation.json").read_text())["images_per_side"] > 0
    judged = RunFolder(tmp_path / "run").last_metrics("validation/fid_eyes")
    assert judged is not None, "the encoder that was trained measures the training"


@pytest.mark.slurm_core
def test_failed_stage_stops_the_stages_that_depend_on_it(site: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something").write_text("else")
    first, second = pipeline(site, "train,generate")
    site.bed.wait_for(lambda: site.status(first)["state"] == "failed", 90, "failing")
    site.bed.wait_for(lambda: "will never start" in site.status(second)["note"], 60, "saying so")
    assert "the job it depends on failed" in site.status(second)["note"]
    assert not (tmp_path / "made").exists()


def test_two_node_job_fills_a_table_of_the_paper_and_reuses_its_cells(
    site: Any, make_shards: Any, tmp_path: Path
) -> None:
    network = "{growth: 4, blocks: [1, 1, 1, 1], stem_channels: 8, input_px: 32, frozen: false}"
    settings = {
        "slurm.nodes": 2, "data.shards": make_shards(tmp_path / "shards", train=96, validate=32, test=64),
        "experiment.scale": "3.0e-4", "experiment.seeds": "[0]", "experiment.methods": "[emixer]",
        "experiment.diseases": "[Atelectasis, Edema]", "experiment.resamples": 20, "experiment.downstream.images": 64,
        "experiment.downstream.batch_size": 16, "experiment.downstream.network": network,
        "experiment.out": tmp_path / "results", "train.images": 32, "generate.batch_size": 16,
    }  # fmt: skip
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    job = site.submit("experiment table10", *given)
    assert site.wait(job, "finished", timeout_s=300)["progress"] == "5 cells"
    table = (tmp_path / "results" / "tables" / "table10.md").read_text()
    assert "| EMIXER | R6 + S24 | 0." in table
    assert_nothing_left(site, job)
    again = site.submit("experiment table10", *given)
    site.wait(again, "finished")
    assert "0 cells computed, 5 reused." in site.log(again)


@pytest.mark.slurm_core
def test_two_jobs_on_one_node_are_isolated_and_see_only_their_share(site: Any, tmp_path: Path) -> None:
    """Each has its own ports, folder and token; a client without the right token is refused."""
    on_n1 = ["--set", "slurm.extra=[--nodelist=n1]"]
    runs = [tmp_path / "run0", tmp_path / "run1"]
    jobs = [
        site.submit("train", *LONG, *on_n1, "--run", str(run), "--set", f"slurm.gpus_per_node={gpus}")
        for gpus, run in enumerate(runs)
    ]
    folders = [tmp_path / "slurm-jobs" / "cluster" / job for job in jobs]
    site.bed.wait_for(lambda: all((folder / "head.json").exists() for folder in folders), 120, "both heads")
    heads = [json.loads((folder / "head.json").read_text())["address"] for folder in folders]
    assert heads[0] != heads[1]
    tokens = [next(folder.glob("token-*")) for folder in folders]
    assert all(token.stat().st_mode & 0o077 == 0 for token in tokens)
    ask = (
        "import os, sys, ray; ray.init(address=sys.argv[1], log_to_driver=False); "
        "has = ray.cluster_resources(); nodes = sum(node['Alive'] for node in ray.nodes()); "
        "print(f\"{nodes} node, {has['CPU']:g} CPU, {has.get('GPU', 0):g} GPU, {has['memory'] / 2**20:.0f} MB\")"
    )

    def client(address: str, token: Path | None) -> "subprocess.CompletedProcess[str]":
        """Run a program in its own step on the node that both jobs share."""
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)} if token else {"RAY_AUTH_MODE": "disabled"}
        own["RAY_NUM_REDIS_GET_RETRIES"] = "5"  # how often to ask a head that gives no answer, a second apart
        step = ["srun", "--overlap", f"--jobid={jobs[0]}", "-n1", "--mem=500M", sys.executable, "-c", ask, address]
        done: subprocess.CompletedProcess[str] = site.bed.run(step, check=False, environment=own)
        return done

    # of a node of 4 CPUs, 2 GPUs and 5,000 MB; 614 of the 2,048 MB requested are the object store's
    assert "1 node, 2 CPU, 0 GPU, 1434 MB" in client(heads[0], tokens[0]).stdout
    assert "1 node, 2 CPU, 1 GPU, 1434 MB" in client(heads[1], tokens[1]).stdout
    assert client(heads[0], tokens[1]).returncode != 0
    assert client(heads[0], None).returncode != 0
    site.bed.wait_for(lambda: all(images(run) > 64 for run in runs), 150, "both training")
    for job in jobs:
        site.jobs("cancel", job)
    for job in jobs:
        assert_nothing_left(site, job)


def test_paths_may_contain_spaces_quotes_and_dollars(site: Any, tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s $HOME; a "run" & more'
    job = site.submit(
        "train", "--run", str(folder / "run"), "--set", f"slurm.folder={json.dumps(str(folder / 'jobs'))}"
    )
    shown = json.loads(site.jobs("status", "--json", "--folder", str(folder / "jobs")).stdout)
    assert [line["job"] for line in shown] == [job]
    site.bed.wait_for(lambda: saved(folder / "run") == 192, 120, "the end of the run")


def test_doctor_lists_the_partitions(site: Any) -> None:
    command = [sys.executable, "-m", "emixer", "doctor", "--json", "--folder", str(site.folder)]
    told = json.loads(site.bed.run(command, check=False, timeout_s=120).stdout)
    found = {finding["check"]: finding for finding in told["findings"]}
    assert found["SLURM"]["state"] == "ok", found["SLURM"]
    assert "partitions main" in found["SLURM"]["what"]
    assert found["Ray"]["state"] == "ok", found["Ray"]

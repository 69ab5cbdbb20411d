"""SLURM's environment variables, as srun sets them on common sites."""

import pytest

from cluster.slurm.allocation import Allocation, OwnShare

STEP = {
    "SLURM_JOB_ID": "77", "SLURM_PROCID": "1", "SLURM_JOB_NODELIST": "gpu1,gpu2", "SLURMD_NODENAME": "gpu2",
    "SLURM_CPUS_ON_NODE": "16",
}  # fmt: skip


def test_there_is_no_allocation_outside_a_job_step() -> None:
    assert Allocation.from_environment({}) is None
    assert Allocation.from_environment({"SLURM_JOB_ID": "77"}) is None, "the batch script itself is no task"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, (16, 0, None)),
        ({"SLURM_CPUS_PER_TASK": "8", "SLURM_MEM_PER_NODE": "4096"}, (8, 0, 4096)),
        ({"SLURM_MEM_PER_CPU": "500"}, (16, 0, 8000)),
        ({"SLURM_MEM_PER_NODE": "0"}, (16, 0, None)),
        ({"SLURM_GPUS_ON_NODE": "4"}, (16, 4, None)),
        ({"SLURM_JOB_GPUS": "2,3", "CUDA_VISIBLE_DEVICES": "0,1"}, (16, 2, None)),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, (16, 0, None)),
    ],
)
def test_cpus_gpus_and_memory_of_this_node(more: dict[str, str], expected: tuple[int, int, int | None]) -> None:
    found = Allocation.from_environment(STEP | more)
    assert found is not None
    assert (found.cpus, found.gpus, found.memory_mb) == expected


def test_job_rank_and_nodes() -> None:
    found = Allocation.from_environment(STEP | {"SLURM_RESTART_COUNT": "3"})
    assert found is not None
    assert (found.job_id, found.restarts, found.rank, found.node, found.nodes) == ("77", 3, 1, "gpu2", ("gpu1", "gpu2"))


@pytest.mark.parametrize(
    ("by", "environment", "expected"),
    [
        ("srun -n1 -c4", {"SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_CPUS_ON_NODE": "4"}, 4),
        (
            "srun -N2 -n4 -c2",
            {"SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_CPUS_ON_NODE": "4"},
            2,
        ),
        ("srun -n3, two CPUs", {"SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "3", "SLURM_CPUS_ON_NODE": "2"}, 1),
        ("salloc -N2 -n3", {"SLURM_JOB_CPUS_PER_NODE": "2,1"}, 2),
        ("sbatch -n3", {"SLURM_CPUS_ON_NODE": "3", "SLURM_JOB_CPUS_PER_NODE": "3"}, 3),
    ],
)
def test_share_of_a_process_started_by_hand(by: str, environment: dict[str, str], expected: int) -> None:
    found = OwnShare.from_environment({"SLURM_JOB_ID": "77", **environment})
    assert found is not None
    assert found.cpus == expected, by


@pytest.mark.parametrize(
    ("more", "gpus"),
    [
        ({}, 0), ({"SLURM_JOB_GPUS": "2"}, None), ({"SLURM_GPUS_ON_NODE": "1", "CUDA_VISIBLE_DEVICES": "0"}, None),
        ({"CUDA_VISIBLE_DEVICES": ""}, None),
    ],
)  # fmt: skip
def test_share_has_no_gpu_where_slurm_says_nothing_of_any(more: dict[str, str], gpus: int | None) -> None:
    found = OwnShare.from_environment({"SLURM_JOB_ID": "77", **more})
    assert found is not None
    assert found.gpus == gpus


def test_there_is_no_share_outside_a_job() -> None:
    assert OwnShare.from_environment({"SLURM_CONF": "/etc/slurm.conf"}) is None

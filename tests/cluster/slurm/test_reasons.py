import pytest

from cluster.slurm.reasons import in_words


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("Priority", "other jobs come first (Priority)"),
        ("(Resources)", "waiting for nodes, CPUs, memory or GPUs to become free (Resources)"),
        ("QOSMaxGRESPerUser", "you have reached your limit in this QOS (QOSMaxGRESPerUser)"),
        ("QOSMaxWallDurationPerJobLimit", "it asks for more than one job may have in this QOS or account, so it will "
         "never start: lower time_min, cpus, memory_gb, GPUs or nodes (QOSMaxWallDurationPerJobLimit)"),
        ("AssocMaxCpuPerJobLimit", "it asks for more than one job may have in this QOS or account, so it will never "
         "start: lower time_min, cpus, memory_gb, GPUs or nodes (AssocMaxCpuPerJobLimit)"),
        ("AssocGrpCPUMinutesLimit", "your account has reached its limit (AssocGrpCPUMinutesLimit)"),
        ("ReqNodeNotAvail, UnavailableNodes:n3", "the nodes it needs are down, drained or reserved "
         "(ReqNodeNotAvail, UnavailableNodes:n3)"),
        ("SomethingNew", "SomethingNew"),
        ("None", "just submitted; SLURM has not considered it yet"),
    ],
)  # fmt: skip
def test_reasons_are_explained_and_keep_slurms_own(reason: str, expected: str) -> None:
    assert in_words(reason) == expected

"""GPUs in what users write for --gres and in what sinfo shows."""

import pytest

from cluster.slurm.gres import gpus
from emixer.config.slurm import SlurmConfig


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("gpu", [(None, 1)]),
        ("gpu:2", [(None, 2)]),
        ("gpu:a100", [("a100", 1)]),
        ("gpu:a100:4", [("a100", 4)]),
        ("gpu:2080ti:4", [("2080ti", 4)]),
        ("gpu:2080ti", [("2080ti", 1)]),
        ("gpu:1g.10gb:1", [("1g.10gb", 1)]),
        ("gpu:4090:2(S:0-1)", [("4090", 2)]),
        ("gpu:4(S:0,1)", [(None, 4)]),
        ("gpu:tesla_v100-sxm2:8", [("tesla_v100-sxm2", 8)]),
        ("nvme:2,gpu:a100:2(S:0),gpu:4090:1,lustre", [("a100", 2), ("4090", 1)]),
        ("(null)", []),
        ("", []),
        ("nogpu:2", []),
    ],
)
def test_types_and_numbers(gres: str, expected: list[tuple[str | None, int]]) -> None:
    assert gpus(gres) == expected
    assert SlurmConfig(gres=gres).gpus == sum(number for _, number in expected)

"""Which device a stage takes. There is no GPU here to see, so torch is told of one."""

import pytest
import torch

from emixer.errors import ConfigError
from emixer.models.cuda import choose_device


@pytest.mark.parametrize(
    ("environment", "use_gpu", "device"),
    [
        ({}, None, "cuda"),
        ({}, False, "cpu"),
        ({"SLURM_JOB_ID": "77"}, None, "cpu"),  # the GPU that the driver shows is another job's
        ({"SLURM_JOB_ID": "77"}, True, "cuda"),
        ({"SLURM_JOB_ID": "77", "SLURM_JOB_GPUS": "0"}, None, "cuda"),
    ],
)
def test_gpu_is_taken_unasked_only_where_it_is_ours(
    environment: dict[str, str], use_gpu: bool | None, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert choose_device(use_gpu, "serve.use_gpu") == device


def test_missing_gpu_that_was_required_is_an_error_that_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"serve\.use_gpu=true, but torch sees no GPU here"):
        choose_device(True, "serve.use_gpu")

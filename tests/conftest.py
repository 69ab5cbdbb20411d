"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One real local Ray cluster for the whole session: two CPUs, no dashboard, 200 MiB of object store."""
    from emixer.config import RayConfig
    from emixer.ray_session import connect

    with connect(RayConfig(num_cpus=2, object_store_mb=200)):
        yield

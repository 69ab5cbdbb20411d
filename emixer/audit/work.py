"""The heavy part of an audit as Ray tasks: a task measures a file, or matches a block of images.

The result of a task is a file named by its inputs. So nothing is computed twice, and a killed audit resumes. Tasks read
and write the folder of the audit, which several machines must share.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ray
import torch

from cluster.files import FreshView
from emixer.audit.matching import QUERY_ROWS, Matches, Side, match_block, read_matches
from emixer.audit.measured import ImageFile, measure
from emixer.errors import find_emixer_error
from emixer.evaluation.features import FeatureExtractor, Network
from emixer.models.cuda import require_cuda


@dataclass(frozen=True)
class TaskResources:
    """Resources of one task."""

    cpus: int
    gpu: bool

    @property
    def options(self) -> dict[str, Any]:
        """Options of the Ray task."""
        return {"num_cpus": self.cpus, "num_gpus": 1 if self.gpu else 0, "max_retries": 3}

    def device(self) -> torch.device:
        """Device of the calling task, whose torch threads are set to its CPUs.

        Raises ConfigError where torch cannot use the GPU.
        """
        torch.set_num_threads(self.cpus)
        if self.gpu:
            require_cuda("audit.use_gpu")
        return torch.device("cuda" if self.gpu else "cpu")


@dataclass(frozen=True)
class Search:
    """A search for the nearest references of each query."""

    queries: Side
    references: Side

    @property
    def blocks(self) -> range:
        """First query of each block."""
        return range(0, len(self.queries), QUERY_ROWS)


def measure_all(
    image_files: Sequence[ImageFile], network: Network, resources: TaskResources, on_images: Callable[[int], None]
) -> None:
    """Measure files that are not measured yet. Raises what a task raised; results of other tasks are kept."""
    missing = [file for file in image_files if not file.is_measured]
    on_images(sum(file.num_rows for file in image_files) - sum(file.num_rows for file in missing))
    task = ray.remote(**resources.options)(_measure)
    identity = network.identity if missing else ""
    pending = {task.remote(file, network, identity, resources): file for file in missing}
    for reference in _as_they_end(list(pending)):
        on_images(pending[reference].num_rows)
    for folder in {file.kept.parent for file in missing}:
        FreshView(folder).refresh()


def match_all(
    searches: Mapping[str, Search], kept: Path, resources: TaskResources, on_images: Callable[[int], None]
) -> dict[str, Matches]:
    """Matches of all queries, by name of the search."""
    task = ray.remote(**resources.options)(_match)
    pending: dict[Any, tuple[str, int]] = {}
    for name, search in searches.items():
        shared = ray.put(search)  # owners and groups of all images, stored once for all its tasks
        pending |= {task.remote(shared, first, resources, kept): (name, first) for first in search.blocks}
    paths: dict[tuple[str, int], Path] = {}
    for reference in _as_they_end(list(pending)):
        name, first = pending[reference]
        paths[name, first] = ray.get(reference)
        on_images(min(QUERY_ROWS, len(searches[name].queries) - first))
    return {
        name: Matches.concatenate([read_matches(paths[name, first]) for first in search.blocks])
        for name, search in searches.items()
    }


def _as_they_end(pending: list[Any]) -> Iterator[Any]:
    """Yield tasks as they succeed; an EmixerError of a task is raised unwrapped."""
    try:
        while pending:
            (ready,), pending = ray.wait(pending, num_returns=1)
            ray.get(ready)
            yield ready
    except Exception as error:
        ours = find_emixer_error(error)
        if ours is None:
            raise
        raise ours from error
    finally:
        for reference in pending:
            ray.cancel(reference)


def _measure(file: ImageFile, network: Network, identity: str, resources: TaskResources) -> None:
    measure(file, _extractor(network, identity, resources.device()))


def _match(search: Search, first: int, resources: TaskResources, kept: Path) -> Path:
    return match_block(search.queries, first, search.references, resources.device(), kept)


@cache
def _extractor(network: Network, identity: str, device: torch.device) -> FeatureExtractor:
    """Encoder, cached because Ray reuses its processes. identity: the file of its weights may have been replaced."""
    return network.load(device)

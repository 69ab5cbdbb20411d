"""A first config for a site, from what sinfo says of its partitions and nodes."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from re import sub

from cluster import slurm
from cluster.errors import ClusterError
from cluster.slurm import duration_s
from cluster.slurm.gres import gpus

_FORMAT = "%R|%a|%l|%c|%m|%G|%D|%f"
_MAX_MINUTES = 24 * 60
_MIN_MINUTES = 5
"""Shorter ones leave no time beside `warn_s`."""
_MEMORY_SHARE = 0.95


@dataclass(frozen=True)
class NodeGroup:
    """Like nodes of a partition."""

    partition: str
    is_default: bool
    time_limit_min: int | None
    cpus: int
    memory_mb: int
    gres: str
    count: int
    features: str

    @property
    def gpus(self) -> int:
        """GPUs of a node."""
        return sum(number for _, number in gpus(self.gres))

    @property
    def gpu_model(self) -> str | None:
        """As the site names it, e.g. `a100`."""
        return next((model for model, _ in gpus(self.gres) if model is not None), None)


def look() -> list[NodeGroup]:
    """Asks sinfo. Raises ClusterError where there is none."""
    try:
        shown, default = slurm.partitions(_FORMAT), slurm.partitions("%P")
    except slurm.SlurmSilenceError as error:
        raise ClusterError(
            f"{error.message.rstrip('.')}. Without sinfo this is not a login node of a SLURM cluster. Log in to one."
        ) from error
    return groups(shown, {name.rstrip("*") for name in default.split() if name.endswith("*")})


def groups(shown: str, default: set[str]) -> list[NodeGroup]:
    """From sinfo's lines; partitions that are down are left out."""
    counts: dict[NodeGroup, int] = defaultdict(int)
    for line in shown.splitlines():
        parts = line.strip().split("|")
        if len(parts) != 8 or parts[1] != "up":
            continue
        partition, _, limit, cpus, memory, gres, count, features = parts
        seconds = duration_s(limit)
        group = NodeGroup(
            partition, partition in default, None if seconds is None else int(seconds // 60),
            int(cpus.rstrip("+")), int(memory.rstrip("+")), gres, 0, "" if features == "(null)" else features,
        )  # fmt: skip
        counts[group] += int(count)
    return [NodeGroup(**{**vars(group), "count": count}) for group, count in counts.items()]


def first_config(found: Sequence[NodeGroup]) -> str:
    """YAML with comments. Raises ClusterError when no partition is up."""
    long_enough = [g for g in found if g.time_limit_min is None or g.time_limit_min >= _MIN_MINUTES]
    if not long_enough:
        raise ClusterError(
            f"sinfo shows no available partition with a time limit of at least {_MIN_MINUTES} minutes: ask the site's "
            "administrators."
        )
    ordered = sorted(_by_model(_merged(long_enough)), key=lambda g: (not g.is_default, g.partition, -g.gpus, g.gres))
    cpu_only = [g for g in ordered if not g.gpus]
    home = (cpu_only or ordered)[0]
    lines = [
        "# An autoscaling Ray cluster on SLURM, generated from this site's sinfo. Settings are explained in",
        "# docs/cluster.md. Check the partitions, and add an account or a qos if you need one.",
        "name: emixer",
        "idle_timeout_s: 300        # idle nodes are released after this",
        "# pending_timeout_s: 600   # cancel a job pending this long and try another suitable type",
        "# setup: [module load cuda]",
        "head:                      # Ray's own services and your programs; needs little",
        "  where: job               # `here` runs it on this machine, if the site allows it",
        f"  partition: {home.partition}",
        f"  cpus: {min(2, home.cpus)}",
        f"  memory_gb: {_round(min(8.0, home.memory_mb * _MEMORY_SHARE / 1024))}",
        f"  time_min: {_time(home)}",
        "node_types:",
    ]
    names: set[str] = set()
    for group in ordered:
        lines += _node_type(_name(group, names), group)
    return "\n".join(lines) + "\n"


def _merged(found: Sequence[NodeGroup]) -> list[NodeGroup]:
    """Nodes that differ in their features alone, e.g. in their racks, are one type: a job asks for none of them."""
    alike: dict[NodeGroup, list[NodeGroup]] = defaultdict(list)
    for group in found:
        alike[replace(group, count=0, features="")].append(group)
    return [
        replace(key, count=sum(g.count for g in groups), features=" or ".join(g.features for g in groups if g.features))
        for key, groups in alike.items()
    ]


def _by_model(found: Sequence[NodeGroup]) -> list[NodeGroup]:
    """One type for each model of GPU of a node that has several."""
    split = []
    for group in found:
        each = [f"gpu:{number}" if model is None else f"gpu:{model}:{number}" for model, number in gpus(group.gres)]
        split += [replace(group, gres=gres) for gres in each] if len(each) > 1 else [group]
    return split


def _node_type(name: str, group: NodeGroup) -> list[str]:
    what = f"{group.count} node(s) of {group.cpus} CPUs, {group.memory_mb / 1024:.0f} GB"
    what += f", {group.gpus} GPU(s)" if group.gpus else ""
    what += f"; features: {group.features}" if group.features else ""
    lines = [f"  {name}:  # {what}", f"    partition: {group.partition}"]
    if group.gpus:
        lines.append(f"    gpus: {group.gpus}")
        if group.gpu_model:
            lines.append(f"    gres: gpu:{group.gpu_model}:{group.gpus}")
    return [
        *lines,
        f"    cpus: {group.cpus}",
        f"    memory_gb: {_round(group.memory_mb * _MEMORY_SHARE / 1024)}",
        f"    time_min: {_time(group)}",
        "    min: 0",
        f"    max: {min(group.count, 4)}",
    ]


def _name(group: NodeGroup, taken: set[str]) -> str:
    parts = [group.partition, group.gpu_model or ""]
    base = sub(r"[^a-z0-9]+", "-", "-".join(p for p in parts if p).lower()).strip("-")[:28].strip("-") or "nodes"
    base = f"{base}-nodes" if base in ("head", "cleanup") else base
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    taken.add(name)
    return name


def _time(group: NodeGroup) -> int:
    return min(group.time_limit_min or _MAX_MINUTES, _MAX_MINUTES)


def _round(gb: float) -> str:
    return f"{int(gb * 10) / 10:g}"

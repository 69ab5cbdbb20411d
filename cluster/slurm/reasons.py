"""Why a job is pending, in words. SLURM's own are names; each says what it means and what a user can do."""

_WORDS = {
    "Priority": "other jobs come first",
    "Resources": "waiting for nodes, CPUs, memory or GPUs to become free",
    "Dependency": "waiting for the job it depends on",
    "DependencyNeverSatisfied": "the job it depends on failed, so it will never start: cancel it and fix that job",
    "BeginTime": "requeued; may start again shortly",
    "JobHeldUser": "held by you: scontrol release JOB",
    "JobHeldAdmin": "held by the administrators: ask them",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition does not start jobs at present",
    "PartitionNodeLimit": "more nodes than the partition allows: lower nodes",
    "PartitionTimeLimit": "more time than the partition allows: lower time_min",
    "PartitionConfig": "the partition has no such nodes: check cpus, memory_gb and slurm.gpus_per_node",
    "BadConstraints": "no node meets the request: check constraint, cpus, memory_gb and GPUs",
    "ReqNodeNotAvail": "the nodes it needs are down, drained or reserved",
    "NodeDown": "a node it needs is down",
    "Reservation": "waiting for its reservation to start",
    "Licenses": "waiting for a licence",
    "QOSNotAllowed": "this QOS is not allowed there: check qos",
    "InvalidQOS": "no such QOS: check qos",
    "InvalidAccount": "no such account for you: check account",
    "MaxMemPerLimit": "more memory than a job may use: lower memory_gb",
    "JobArrayTaskLimit": "the array's limit of running tasks is reached",
    "launch failed requeued held": "a node could not start it: scontrol release JOB, and tell the administrators",
}
_MORE_THAN_ALLOWED = (
    "it asks for more than one job may have in this QOS or account, so it will never start: lower time_min, cpus, "
    "memory_gb, GPUs or nodes"
)
_LIMITS = {
    "QOSMax": "you have reached your limit in this QOS",
    "QOSGrp": "all users of the QOS together have reached its limit",
    "AssocMax": "you have reached your limit in this account",
    "AssocGrp": "your account has reached its limit",
    "MaxSubmit": "you have too many jobs queued",
    "MaxJobs": "you have reached your limit of running jobs",
    "QOSMin": "the QOS requires larger jobs",
}


def in_words(reason: str) -> str:
    """`Priority` -> `other jobs come first (Priority)`. A reason that is not known is given as it is."""
    name = reason.strip("()")
    key = name.split(",")[0].strip().replace("_", " ") if name.startswith("launch") else name.split(",")[0].strip()
    words = _WORDS.get(key) or (_MORE_THAN_ALLOWED if "PerJob" in key or "PerNode" in key else None)
    words = words or next((text for start, text in _LIMITS.items() if key.startswith(start)), None)
    if not name or name == "None":
        return "just submitted; SLURM has not considered it yet"
    return f"{words} ({name})" if words else name

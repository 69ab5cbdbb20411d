"""Why a job is pending, in words. SLURM's own are names; each says what it means and what a user can do."""

_WORDS = {
    "Priority": "other jobs come first",
    "Resources": "waiting for nodes, CPUs, memory or GPUs to become free",
    "Dependency": "waiting for the job before it",
    "DependencyNeverSatisfied": "the job before it failed, so this one will never start: cancel it, mend that one",
    "BeginTime": "requeued; it may start again in a moment",
    "JobHeldUser": "held by you: scontrol release JOB",
    "JobHeldAdmin": "held by the administrators: ask them",
    "PartitionDown": "the partition is down for now",
    "PartitionInactive": "the partition takes no jobs for now",
    "PartitionNodeLimit": "more nodes than the partition gives one job: lower nodes",
    "PartitionTimeLimit": "more time than the partition allows: lower time_min",
    "PartitionConfig": "the partition has no such nodes: check cpus, memory_gb and slurm.gpus_per_node",
    "BadConstraints": "no node meets the request: check constraint, cpus, memory_gb and GPUs",
    "ReqNodeNotAvail": "the nodes it needs are down, drained or reserved",
    "NodeDown": "a node it needs is down",
    "Reservation": "waiting for its reservation to begin",
    "Licenses": "waiting for a licence",
    "QOSNotAllowed": "this QOS may not be used there: check qos",
    "InvalidQOS": "there is no such QOS: check qos",
    "InvalidAccount": "there is no such account for you: check account",
    "MaxMemPerLimit": "more memory than a job may have: lower memory_gb",
    "JobArrayTaskLimit": "as many tasks of the array run as may",
    "launch failed requeued held": "a node could not start it: scontrol release JOB, and tell the administrators",
}
_LIMITS = {
    "QOSMax": "the QOS allows you no more at once",
    "QOSGrp": "all users of the QOS together have reached its limit",
    "AssocMax": "your account allows you no more at once",
    "AssocGrp": "your account has reached its limit",
    "MaxSubmit": "you have too many jobs queued",
    "MaxJobs": "you have as many jobs running as you may",
    "QOSMin": "the QOS asks for larger jobs than this",
}


def in_words(reason: str) -> str:
    """`Priority` -> `other jobs come first (Priority)`. A reason that is not known is given as it is."""
    name = reason.strip("()")
    key = name.split(",")[0].strip().replace("_", " ") if name.startswith("launch") else name.split(",")[0].strip()
    words = _WORDS.get(key) or next((text for start, text in _LIMITS.items() if key.startswith(start)), None)
    if not name or name == "None":
        return "just submitted: SLURM has not looked at it yet"
    return f"{words} ({name})" if words else name

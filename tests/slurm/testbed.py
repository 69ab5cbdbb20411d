"""A real SLURM on one Debian machine, up in seconds: munged, slurmctld and several slurmd, without systemd.

    bed = TestBed.start(nodes=4)        as root: each node in its own network, mount, UTS and PID namespaces
    bed.run(["sinfo"])                  on the login node
    bed.stop()

Each node has its own address, /dev/shm and local disk (`bed.disk`, one path that is a different folder on every node);
the rest of the file system is shared, as on a cluster with a shared home. Where root or namespaces are missing,
`TestBed.why_not()` says so. Needs the Debian packages in PACKAGES; writes nothing outside the bed's folder except
network namespaces, whose names begin with the bed's.

`TestBed.start(isolated=False)` needs neither root nor namespaces: several slurmd on 127.0.0.1 that run jobs as the user
who started them or, if that is root, as `owner`, who then owns the whole bed. Its nodes share everything and
cannot be unplugged, and there are no GPUs.

`TestBed.start(accounting=True)` adds slurmdbd and a MariaDB for the bed, so that sacct answers; it needs
ACCOUNTING_PACKAGES too. `forgets_s` is how long squeue still lists an ended job (SLURM checks every ten seconds).
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "iproute2", "util-linux")
ACCOUNTING_PACKAGES = ("slurmdbd", "mariadb-server-core")
_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
_ISOLATING = ("ip", "unshare")
_ACCOUNTING = ("slurmdbd", "mariadbd", "sacct", "sacctmgr")
_PATIENCE = 2.5
"""Factor by which a wait may exceed its stated time on an idle machine; larger on a busy one."""


@dataclass
class TestBed:
    """A running SLURM."""

    __test__ = False

    folder: Path
    num_nodes: int
    cpus: int
    memory_mb: int
    gpus: int
    subnet: str
    isolated: bool = True
    accounting: bool = False
    forgets_s: int = 3600
    owner: str | None = None
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @staticmethod
    def why_not(isolated: bool = True, accounting: bool = False) -> str | None:
        """Return what this machine lacks, in words; None if a bed can be started."""
        wanted = (*_PROGRAMS, *(_ISOLATING if isolated else ()), *(_ACCOUNTING if accounting else ()))
        missing = [name for name in wanted if shutil.which(name, path=_path()) is None]
        if missing:
            packages = (*PACKAGES, *(ACCOUNTING_PACKAGES if accounting else ()))
            return f"no such SLURM here ({', '.join(missing)} not found): apt-get install {' '.join(packages)}"
        if not isolated:
            return None
        if os.geteuid() != 0:
            return "a SLURM of one's own needs root: slurmd starts jobs as other users"
        with tempfile.TemporaryDirectory() as folder:
            # Try once all the privileges a bed uses: namespaces, a cable, mounts, a device
            inside = (
                f"ip link set lo up && ip link add sbprobe0 type veth peer name sbprobe1 && "
                f"mount -t tmpfs tmpfs /dev/shm && mount --bind {folder} {folder} && mknod {folder}/device c 1 3"
            )
            probe = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "sh", "-ec", inside]
            tried = subprocess.run(probe, capture_output=True, text=True, check=False, env={"PATH": _path()})
        if tried.returncode:
            return f"namespaces, mounts or devices are refused here: {tried.stderr.strip()}"
        return None

    @classmethod
    def start(
        cls, nodes: int = 4, cpus: int = 4, memory_mb: int = 5000, gpus: int = 2, isolated: bool = True,
        accounting: bool = False, forgets_s: int = 3600, owner: str | None = None,
    ) -> Self:  # fmt: skip
        """Start the daemons and wait until all nodes are idle. owner: the user who runs a bed without namespaces that
        root starts for them."""
        if owner is not None and (isolated or accounting or os.geteuid() != 0):
            raise ValueError("an owner is for a bed without namespaces and without accounting that root starts")
        folder = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
        folder.chmod(0o755)
        subnet = f"10.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 250}"
        bed = cls(
            folder, nodes, cpus, memory_mb, gpus if isolated else 0, subnet, isolated, accounting, forgets_s, owner
        )  # fmt: skip
        bed.processes["reaper"] = _clear_when_we_are_gone(folder)
        try:
            bed._start()
        except BaseException:
            bed.stop()
            raise
        return bed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def disk(self) -> Path:
        """The local disk of the node it is read on."""
        return self.folder / "d"

    def disk_of(self, node: str) -> Path:
        """Return that node's local disk as the test sees it."""
        return self.folder / f"disk-{node}" if self.isolated else self.disk

    def names(self) -> list[str]:
        """Return the names of the nodes."""
        return [f"n{index}" for index in range(1, self.num_nodes + 1)]

    def run(
        self, command: Sequence[str], check: bool = True, timeout_s: float = 120, cwd: Path | None = None,
        environment: Mapping[str, str] | None = None, user: str | None = None,
    ) -> "subprocess.CompletedProcess[str]":  # fmt: skip
        """Run a command on the login node, as this user or another. check: raise an AssertionError with the command's
        output if it fails."""
        done = subprocess.run(
            [*self.in_login, *_as(user), *command], capture_output=True, text=True, timeout=_patience() * timeout_s,
            cwd=cwd, env={**self.environment(), **(environment or {})}, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def environment(self) -> dict[str, str]:
        """Return the environment of a login shell."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "RAY_", "SUBMITIT"))}
        return {**kept, "SLURM_CONF": str(self._conf), "PATH": _path(), "USER": self.user}

    @property
    def cluster_name(self) -> str:
        """The name of this SLURM cluster, unique to the bed."""
        return self.folder.name.replace("-", "")

    @property
    def user(self) -> str:
        """The user who runs the jobs."""
        return self.owner or pwd.getpwuid(os.geteuid()).pw_name

    def wait_for(self, what: Callable[[], object], timeout_s: float = 90, message: str = "") -> None:
        """Wait until `what` returns true, with some patience on a busy machine. Raises TimeoutError.

        Polling takes at most a sixth of the time: `what` may run a program that takes a second to start, and what is
        waited for needs the processor too.
        """
        began = time.monotonic()
        while True:
            asked = time.monotonic()
            if what():
                return
            now = time.monotonic()
            if now > began + _patience() * timeout_s:
                raise TimeoutError(f"{message or 'it'} did not happen within {timeout_s:.0f} s\n{self.describe()}")
            time.sleep(min(max(0.2, 5 * (now - asked)), 4.0))

    def state_of(self, job_id: str) -> str:
        """Return the job's state in SLURM, e.g. RUNNING; empty if SLURM does not know the job."""
        shown = self.run(["squeue", "-h", "-t", "all", "-j", job_id, "-o", "%T"], check=False).stdout.split()
        return shown[0] if shown else ""

    def processes_of(self, *marks: str) -> dict[int, str]:
        """Return the processes on any node of this bed whose command line or environment contains all of `marks`:
        command lines by process id."""
        return _processes_of(str(self.folder), *marks)

    def kill(self, *marks: str) -> None:
        """Kill those processes; one that has ended in the meantime is ignored."""
        _kill(self.processes_of(*marks))

    def fail_node(self, node: str) -> None:
        """Pull the plug: everything on the node dies at once, and it is gone from the network."""
        self._stop_process(node, signal.SIGKILL)
        self.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=test"])

    def restore_node(self, node: str) -> None:
        """Bring the node back."""
        self._start_node(node)
        self.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)
        self.wait_for(lambda: self._idle() >= 1, message=f"{node} coming back")

    def describe(self) -> str:
        """Return the queue and the nodes, for a message."""
        shown = [
            self.run(command, check=False).stdout
            for command in (["sinfo", "-N", "-o", "%N %T %E"], ["squeue", "-t", "all", "-o", "%i %j %T %r %N"])
        ]
        return "\n".join(shown)

    def stop(self) -> None:
        """End everything that was started."""
        for name in reversed(list(self.processes)):
            self._stop_process(name, signal.SIGKILL)
        _clear(self.folder)

    # Construction

    @property
    def _conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def in_login(self) -> list[str]:
        if not self.isolated:
            return _as(self.owner)
        return ["ip", "netns", "exec", self._ns("ctl"), "unshare", "--uts", "sh", "-c", 'hostname ctl; exec "$@"', "_"]

    def _ns(self, node: str) -> str:
        return f"{self.folder.name}-{node}"

    def _address(self, node: str) -> str:
        if not self.isolated:
            return "127.0.0.1"
        return f"{self.subnet}.{1 if node == 'ctl' else 10 + int(node[1:])}"

    def _start(self) -> None:
        for name in ("run", "log", "state", "gpu", "d"):
            (self.folder / name).mkdir()
        if self.isolated:
            self._make_network()
        self._write_config()
        self._write_key()
        if self.owner is not None:
            for path in (self.folder, *self.folder.rglob("*")):
                shutil.chown(path, self.owner)
        self._start_munge()
        if self.accounting:
            self._start_accounting()
        self._daemon("slurmctld", [*self.in_login, "slurmctld", "-D", "-f", str(self._conf)])
        self.wait_for(lambda: "UP" in self.run(["scontrol", "ping"], check=False).stdout, message="slurmctld")
        for node in self.names():
            self._start_node(node)
        self.wait_for(lambda: self._idle() == self.num_nodes, message="all nodes idle")

    def _idle(self) -> int:
        return len(self.run(["sinfo", "-h", "-N", "-t", "idle,mix,alloc", "-p", "main", "-o", "%N"]).stdout.split())

    def _make_network(self) -> None:
        """Create a bridge in the login node's namespace and a cable from each node to it."""
        hosts = "127.0.0.1 localhost\n" + "".join(f"{self._address(n)} {n}\n" for n in ("ctl", *self.names()))
        for node in ("ctl", *self.names()):
            folder = Path("/etc/netns") / self._ns(node)
            folder.mkdir(parents=True)
            (folder / "hosts").write_text(hosts)
            _sh(f"ip netns add {self._ns(node)}; ip -n {self._ns(node)} link set lo up")
        ctl = self._ns("ctl")
        _sh(
            f"ip -n {ctl} link add name br0 type bridge; ip -n {ctl} addr add {self._address('ctl')}/24 dev br0; "
            f"ip -n {ctl} link set br0 up"
        )
        for node in self.names():
            name, cable = self._ns(node), f"v{node}"
            _sh(
                f"ip link add {cable} netns {ctl} type veth peer name eth0 netns {name}; "
                f"ip -n {ctl} link set {cable} master br0 up; ip -n {name} addr add {self._address(node)}/24 dev eth0; "
                f"ip -n {name} link set eth0 up; ip -n {name} route add default via {self._address('ctl')}"
            )

    def _write_config(self) -> None:
        for index in range(self.gpus):
            os.mknod(self.folder / "gpu" / f"nvidia{index}", 0o020666, os.makedev(1, 3))  # SLURM expects a device
        host = socket.gethostname()
        nodes = "".join(
            f"NodeName={n} NodeAddr={self._address(n)} NodeHostname={n if self.isolated else host} CPUs={self.cpus} "
            f"RealMemory={self.memory_mb} State=UNKNOWN"
            + (f" Gres=gpu:{self.gpus}" if self.gpus else "")
            + ("\n" if self.isolated else f" Port={_free_port()}\n")
            for n in self.names()
        )
        ports = "" if self.isolated else f"SlurmctldPort={_free_port()}\n"
        conf = _CONF.format(
            folder=self.folder, address=self._address("ctl"), user=self.user, ctl="ctl" if self.isolated else host,
            forgets_s=self.forgets_s, name=self.cluster_name,
        )  # fmt: skip
        if self.accounting:
            conf += self._write_accounting_config()
        self._conf.write_text(conf + ports + nodes + _PARTITIONS)
        devices = f"Name=gpu File={self.folder}/gpu/nvidia[0-{self.gpus - 1}]\n" if self.gpus else ""
        (self.folder / "gres.conf").write_text(devices)
        version = subprocess.run(["slurmd", "-V"], capture_output=True, text=True, check=True, env={"PATH": _path()})
        old = tuple(map(int, version.stdout.split()[1].split(".")[:2])) < (23, 11)
        (self.folder / "cgroup.conf").write_text(f"CgroupPlugin={'cgroup/v1' if old else 'disabled'}\n")

    def _write_accounting_config(self) -> str:
        """Write the configuration of slurmdbd. Return the accounting part of slurm.conf."""
        names = {"folder": self.folder, "address": self._address("ctl"), "user": self.user, "port": _free_port()}
        path = self.folder / "slurmdbd.conf"
        path.write_text(_DBD_CONF.format(**names))
        path.chmod(0o600)  # slurmdbd requires it
        return _ACCOUNTING_CONF.format(**names)

    def _start_accounting(self) -> None:
        """Start a database without users or network in the bed's folder, then slurmdbd in front of it."""
        run, data = self.folder / "run", self.folder / "mariadb"
        data.mkdir(mode=0o700)
        self._daemon("mariadbd", [
            "mariadbd", "--no-defaults", f"--user={self.user}", f"--datadir={data}", f"--socket={run}/mariadb.socket",
            f"--pid-file={run}/mariadbd.pid", "--skip-networking", "--skip-grant-tables",
            "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0",
        ])  # fmt: skip
        self.wait_for(lambda: (run / "mariadb.socket").exists(), message="mariadbd")
        socket_of_bed = ["env", f"MYSQL_UNIX_PORT={run}/mariadb.socket"]
        self._daemon("slurmdbd", [*self.in_login, *socket_of_bed, "slurmdbd", "-D"])
        known = ["sacctmgr", "--noheader", "--immediate", "add", "cluster", self.cluster_name]
        self.wait_for(lambda: self.run(known, check=False).returncode == 0, message="slurmdbd")

    @property
    def _key(self) -> Path:
        return self.folder / "munge.key"

    def _write_key(self) -> None:
        self._key.write_bytes(os.urandom(1024))
        self._key.chmod(0o400)

    def _start_munge(self) -> None:
        run, log = self.folder / "run", self.folder / "log"
        self._daemon("munged", [
            *_as(self.owner), "munged", "--foreground", "--force", f"--key-file={self._key}",
            f"--socket={run}/munge.socket", f"--pid-file={run}/munged.pid", f"--log-file={log}/munged.log",
            f"--seed-file={run}/munge.seed",
        ])  # fmt: skip
        self.wait_for(lambda: (run / "munge.socket").exists(), message="munged")

    def _start_node(self, node: str) -> None:
        if not self.isolated:
            self._daemon(node, [*_as(self.owner), "slurmd", "-D", "-f", str(self._conf), "-N", node])
            return
        disk = self.disk_of(node)
        shutil.rmtree(disk, ignore_errors=True)
        disk.mkdir()
        disk.chmod(0o1777)
        inside = (
            f"hostname {node}; mount --bind {disk} {self.disk}; mount -t tmpfs -o size=2g,mode=1777 tmpfs /dev/shm; "
            f"slurmd -D -f {self._conf} -N {node} & wait $!"  # slurmd must not be process 1 of its namespace
        )
        self._daemon(node, [
            "ip", "netns", "exec", self._ns(node), "unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child",
            "--mount-proc", "sh", "-c", inside,
        ])  # fmt: skip

    def _daemon(self, name: str, command: Sequence[str]) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                command,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                env=self.environment(),
                start_new_session=True,
            )

    def _stop_process(self, name: str, how: signal.Signals) -> None:
        process = self.processes.pop(name, None)
        if process is not None and process.poll() is None:
            os.killpg(process.pid, how)
            process.wait()
        if process is not None and process.stdin is not None:
            process.stdin.close()


def _patience() -> float:
    """Return the factor by which waits are longer than on an idle machine: the number of processes per core, with
    some margin."""
    return _PATIENCE * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _processes_of(*marks: str) -> dict[int, str]:
    found, wanted = {}, [mark.encode() for mark in marks]
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if all(mark in command or mark in environment for mark in wanted):
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _clear(folder: Path) -> None:
    """Remove a bed: processes, network, files."""
    _kill(_processes_of(str(folder)))
    for namespace in Path("/run/netns").glob(f"{folder.name}-*"):
        subprocess.run(["ip", "netns", "delete", namespace.name], capture_output=True, check=False)
        shutil.rmtree(Path("/etc/netns") / namespace.name, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _clear_when_we_are_gone(folder: Path) -> "subprocess.Popen[bytes]":
    """Start a process that removes the bed once this one has ended in any way: interrupted tests clean up nothing.
    It reads the folder from stdin, where `_clear` does not look."""
    code = "import sys, testbed; folder = input(); sys.stdin.read(); testbed._clear(testbed.Path(folder))"
    reaper = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    assert reaper.stdin is not None
    reaper.stdin.write(f"{folder}\n".encode())
    reaper.stdin.flush()
    return reaper


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _as(user: str | None) -> list[str]:
    if user is None:
        return []
    entry = pwd.getpwnam(user)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "env", f"USER={user}"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _sh(script: str) -> None:
    subprocess.run(["sh", "-ec", script], check=True, capture_output=True, env={**os.environ, "PATH": _path()})


_CONF = """\
ClusterName={name}
SlurmctldHost={ctl}({address})
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=100000,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
KillWait=30
MinJobAge={forgets_s}
SlurmctldTimeout=30
SlurmdTimeout=15
CompleteWait=0
GresTypes=gpu
DefMemPerCPU=500
"""
_ACCOUNTING_CONF = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={address}
AccountingStoragePort={port}
AccountingStoragePass={folder}/run/munge.socket
"""
_DBD_CONF = """\
DbdHost=localhost
DbdAddr={address}
DbdPort={port}
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={user}
StorageLoc=slurm
PidFile={folder}/run/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
"""
_PARTITIONS = """\
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=high Nodes=ALL Default=NO MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=short Nodes=ALL Default=NO MaxTime=5 State=UP PriorityTier=1
"""

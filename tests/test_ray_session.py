"""A private Ray: at the niceness of its parent, on the loopback, and gone with its process."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster.node.ray_node import kill_marked
from cluster.slurm import MARK
from emixer.config import Config, RayConfig, to_yaml, with_overrides
from emixer.ray_session import _share, address_of
from tests.processes import assert_listen_on_the_loopback, children_of, command_line, wait_until

pytestmark = pytest.mark.ray

LOOK = """
import json, os, sys
from emixer.config import RayConfig
from emixer.ray_session import connect
import ray
with connect(RayConfig(num_cpus=1, object_store_mb=80)):
    worker = ray.get(ray.remote(lambda: os.getpriority(os.PRIO_PROCESS, 0)).remote())
    folder = ray._private.worker._global_node.get_session_dir_path()
    print(json.dumps({
        "own": os.getpriority(os.PRIO_PROCESS, 0), "worker": worker, "folder": folder, "owner": os.stat(folder).st_uid,
        "mode": oct(os.stat(os.path.dirname(os.path.dirname(folder))).st_mode)[-3:],
        "address": ray.get_runtime_context().gcs_address, "nodes": len(ray.nodes()),
    }), flush=True)
    sys.stdin.read()
"""
"""A program that prints facts about its Ray and stays until its input ends."""


def environment(**changed: str) -> dict[str, str]:
    """Return an environment without the Ray of the session that runs these tests."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return own | {"PYTHONPATH": os.pathsep.join(sys.path)} | changed


def begin(before: Sequence[str] = (), **changed: str) -> "subprocess.Popen[str]":
    command = [*before, sys.executable, "-c", LOOK]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(**changed), stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def told(process: "subprocess.Popen[str]") -> tuple[dict[str, Any], str]:
    """Return the program's facts and its standard error."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(output), errors


@pytest.mark.thorough
def test_workers_of_a_nice_process_are_as_nice() -> None:
    look, errors = told(begin(["nice", "-n", "5"]))
    assert look["worker"] == look["own"] == min(os.getpriority(os.PRIO_PROCESS, 0) + 5, 19)
    assert "niceness" not in errors


def test_forbidden_niceness_is_reported_in_one_line_and_work_continues() -> None:
    without_rights = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    if without_rights and shutil.which("setpriv") is None:
        pytest.skip("root needs setpriv to give up its rights")
    text = "from cluster.node.fair_share import worker_environment; print(worker_environment())"
    ran = subprocess.run(
        [*without_rights, sys.executable, "-c", text], env=environment(RAY_worker_niceness="-3"), text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == "{'RAY_worker_niceness': '0'}"
    (line,) = ran.stderr.splitlines()
    assert "RAY_worker_niceness=-3: niceness may not be lowered on this machine" in line


@pytest.fixture
def strangers_ray() -> Iterator[str]:
    """The address of another user's `ray start --head` on this machine."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        mark = folder
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--port=0", "--num-cpus=1",
            f"--temp-dir={folder}", "--include-dashboard=false", "--object-store-memory=80000000",
        ]  # fmt: skip
        try:
            started = subprocess.run(
                command, env=environment(**{MARK: mark}), text=True, capture_output=True, check=True, timeout=300
            )
            (address,) = set(re.findall(r"--address='([\d.]+:\d+)'", started.stdout))
            yield address
        finally:
            kill_marked(mark)


def as_somebody_else() -> list[str]:
    """Return a prefix that runs as another user who may read this one's Python; empty if that is not possible."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return []
    rights = "+dac_read_search"
    return ["setpriv", "--reuid=65534", "--clear-groups", f"--inh-caps={rights}", f"--ambient-caps={rights}"]


def test_concurrent_users_get_private_rays_on_a_machine_with_another_ray(strangers_ray: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o777)
    killed, *others = programs = [begin(), begin(), begin(as_somebody_else(), HOME=str(home))]
    looks = []
    for program in programs:
        assert program.stdout is not None
        looks.append(program.stdout.readline())  # all of them are alive when the last one reports
    its_own = children_of(killed.pid)
    assert any(command_line(pid).startswith("ray::") for pid in its_own)
    killed.kill()
    # five seconds on an idle machine; this one may be busy with other tests
    is_gone = wait_until(lambda: not any(map(command_line, its_own)), 20)
    assert is_gone, "\n".join(line for pid in its_own if (line := command_line(pid)))
    killed.communicate()
    for program in others:
        assert told_nothing_more(program) == ""
    looks = [json.loads(look) for look in looks]
    assert len({strangers_ray, *(look["address"] for look in looks)}) == 4
    assert [look["nodes"] for look in looks] == [1, 1, 1]
    assert [look["mode"] for look in looks] == ["700"] * 3
    assert len({Path(look["folder"]).parents[1] for look in looks}) == 3
    if as_somebody_else():
        assert [look["owner"] for look in looks] == [0, 0, 65534]
    assert all(look["worker"] == look["own"] for look in looks), "as nice as who started it"
    assert wait_until(lambda: not any(Path(look["folder"]).parents[1].exists() for look in looks), 20)


def told_nothing_more(process: "subprocess.Popen[str]") -> str:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


@pytest.mark.usefixtures("ray_cluster")
def test_clients_without_the_token_are_refused(tmp_path: Path) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    assert address.startswith("127.0.0.1:")
    join = (
        "import sys, ray; from emixer.config import RayConfig; from emixer.errors import EmixerError\n"
        "from emixer.ray_session import connect\n"
        "try:\n"
        f"    with connect(RayConfig(address={address!r})): print(len(ray.nodes()))\n"
        "except EmixerError as error: sys.exit(str(error))"
    )

    def joined(tokens: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
        own = environment(HOME=str(tmp_path), RAY_NUM_REDIS_GET_RETRIES="3", **tokens)  # Ray's 20 would take 20 s
        return subprocess.run([sys.executable, "-c", join], env=own, text=True, capture_output=True, check=False)

    with ThreadPoolExecutor() as at_once:
        ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.environ["RAY_AUTH_TOKEN"]}
        theirs = ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "disabled"}, {})
        let_in, *kept_out = at_once.map(joined, (ours, *theirs))
    assert let_in.stdout == "1\n"
    for refused in kept_out:
        assert refused.returncode != 0
        assert refused.stdout == ""
        assert "Traceback" not in refused.stderr
        words = rf"No Ray cluster answers at {address}, .*Authentication token is missing.*RAY_AUTH_TOKEN_PATH=FILE"
        assert re.search(words, refused.stderr), refused.stderr[-2000:]


@pytest.fixture
def endless(tiny_config: Config, tiny_run: Path, tmp_path: Path) -> Mapping[str, Config]:
    """Configs of commands that would run forever, with Ray processes at work."""
    schedule = {"train.images": 10**7, "train.run": tmp_path / "run", "train.num_workers": 2}
    samplers = {"generate.run": tiny_run, "generate.num": 10**6, "generate.out": tmp_path / "dataset"}
    return {"train": with_overrides(tiny_config, schedule), "generate": with_overrides(tiny_config, samplers)}


@pytest.mark.skipif(shutil.which("ss") is None, reason="ss tells who listens")
@pytest.mark.parametrize(
    ("command", "worker"),
    [("train", "ray::RayTrainWo"), ("generate", "ray::MapWorker")],
)
@pytest.mark.thorough
def test_command_listens_only_on_the_loopback_and_leaves_nothing_after_kill_9(
    endless: Mapping[str, Config], command: str, worker: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(endless[command]))
    arguments = [sys.executable, "-m", "emixer", command, "--config", str(tmp_path / "config.yaml")]
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=errors)
    seen: set[int] = set()

    def works() -> bool:
        seen.update(children_of(process.pid))
        assert process.poll() is None, (tmp_path / "errors").read_text()
        trains = command != "train" or (tmp_path / "run/metrics.jsonl").exists()
        return trains and any(command_line(pid).startswith(worker) for pid in seen)

    try:
        assert wait_until(works, 300), [command_line(pid) for pid in seen]
        assert_listen_on_the_loopback(seen | {process.pid})
        folders = {
            found[0] for pid in seen if (found := re.search(r"/\S*/emixer-\w+(?=/ray/session)", command_line(pid)))
        }
    finally:
        process.kill()
        process.wait()
    # five seconds on an idle machine; this one may be busy with other tests
    is_gone = wait_until(lambda: not any(map(command_line, seen)), 20)
    assert is_gone, "\n".join(line for pid in seen if (line := command_line(pid)))
    assert len(folders) == 1
    assert wait_until(lambda: not any(map(os.path.exists, folders)), 20)


@pytest.mark.parametrize(
    "begun",
    ["ray::", pytest.param("gcs_server", marks=pytest.mark.thorough)],
    ids=["while it works", "while Ray starts"],
)
def test_stage_that_sigterm_ends_says_so_with_its_exit_code(begun: str, tmp_path: Path) -> None:
    """Ray (2.60) itself would end it with code 15 and print a C++ stack."""
    command = [sys.executable, "-m", "emixer", "phantom", "--studies", "2000", "--out", str(tmp_path / "out"), "--json"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*command, "--set", "ray.num_cpus=1"], env=environment(), stdout=pipe, stderr=pipe, text=True
    )
    assert wait_until(lambda: any(begun in command_line(pid) for pid in children_of(process.pid)), 300)
    children = children_of(process.pid)
    process.terminate()
    answer, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    told = json.loads(answer)
    assert (told["outcome"], told["exit_code"], told["error"]["class"]) == ("stopped", 143, "StoppedError")
    assert "Stopped by SIGTERM. Run the same command again to resume." in said
    assert "***" not in said
    assert "Traceback" not in said
    assert wait_until(lambda: not any(map(command_line, children)), 20)


def test_local_address_means_a_private_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_of(RayConfig()) is None
    assert address_of(RayConfig(address="10.0.0.1:6379")) == "10.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert address_of(RayConfig()) is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:6379")
    assert address_of(RayConfig()) == "10.0.0.2:6379"


@pytest.mark.parametrize(
    ("limits", "cpus"),
    [
        pytest.param({}, 64, id="no cgroup"),
        pytest.param({"cpu.max": "max 100000\n"}, 64, id="v2, no limit"),
        pytest.param({"cpu.max": "400000 100000\n"}, 4, id="v2, --cpus 4"),
        pytest.param({"cpu.max": "9900000 100000\n"}, 64, id="v2, more than there are"),
        pytest.param({"cpu.max": "50000 100000\n"}, 1, id="v2, half a CPU"),
        pytest.param({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64, id="v1, no limit"),
        pytest.param({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2, id="v1, --cpus 2.5"),
    ],
)
def test_limit_of_a_container_counts_beside_the_cpus_it_shows(
    limits: Mapping[str, str], cpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in limits.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("emixer.ray_session._CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert _share(RayConfig())["num_cpus"] == cpus
    assert _share(RayConfig(num_cpus=3))["num_cpus"] == 3


def test_gpus_of_the_config_count_in_a_job_that_slurm_gave_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM") or name == "CUDA_VISIBLE_DEVICES"]:
        monkeypatch.delenv(name)
    assert "num_gpus" not in _share(RayConfig()), "all that Ray finds"
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert _share(RayConfig())["num_gpus"] == 0
    assert _share(RayConfig(num_gpus=2))["num_gpus"] == 2


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (["phantom", "--studies", "1", "--out", "out"], 2, "Error: emixer's stages run on Linux, and this is Darwin."),
        (["doctor"], 1, "problem Ray: does not start\n        -> emixer's stages run on Linux, and this is Darwin."),
    ],
)
def test_another_operating_system_is_an_error_in_words(
    command: list[str], code: int, told: str, tmp_path: Path
) -> None:
    macos = (
        "import os, platform, emixer.doctor; from emixer.cli.main import main\n"
        f"del os.sched_getaffinity; platform.system = lambda: 'Darwin'; main({command})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", macos], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert ran.returncode == code
    assert told in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


class TestSessionFolderAndNiceness:
    """The folder holds Ray's sockets, whose paths may have 107 bytes."""

    def test_long_path_and_nonsense_niceness_are_skipped_with_a_line_each(self, tmp_path: Path) -> None:
        long = tmp_path / ("long" * 20)
        long.mkdir()
        look, errors = told(begin(TMPDIR=str(long), RAY_worker_niceness="fast"))
        assert look["folder"].startswith("/tmp/emixer-")
        assert f"TMPDIR={long} is" in errors
        assert look["worker"] == look["own"]
        assert "RAY_worker_niceness='fast' is not a whole number from -20 to 19" in errors
        assert errors.count("niceness") == 2, "one line"
        assert list(long.iterdir()) == []

    def test_short_path_and_wanted_niceness_are_used(self) -> None:
        with tempfile.TemporaryDirectory(dir="/tmp") as short:
            look, errors = told(begin(RAY_TMPDIR=short, RAY_worker_niceness="4"))
            assert look["worker"] == min(look["own"] + 4, 19), "as the user wants it"
            assert look["folder"].startswith(f"{short}/emixer-")
            assert errors == ""
            assert list(Path(short).iterdir()) == []


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host.invalid:6379"])
def test_address_without_a_listener_is_an_error_at_once(address: str) -> None:
    """Ray 2.60 retries for ten minutes and more, line by line, and then ends the process."""
    code = (
        "from emixer.config import RayConfig; from emixer.ray_session import connect\n"
        f"with connect(RayConfig(address={address!r})): print('joined')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert f"EmixerError: No Ray cluster answers at {address}" in done.stderr
    assert "joined" not in done.stdout

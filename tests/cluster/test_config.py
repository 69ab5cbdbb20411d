"""The YAML of a cluster: what is refused, in a paragraph that names the key; and the sbatch commands, verbatim."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cluster.config import ClusterConfig, load_config
from cluster.errors import ClusterError
from cluster.head.autoscaling import autoscaling_config
from cluster.login.cli import main
from cluster.slurm.job_registry import key_of

ROOT = Path(__file__).parents[2]
PLAIN: dict[str, Any] = {"name": "one", "folder": "/shared/rays", "node_types": {"cpu": {"max": 3}}}


def write(tmp_path: Path, **settings: Any) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, **settings}))
    return path


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nam": "x"}, r"there is no setting nam\. Did you mean name\?"),
        ({"node_types": {"cpu": {"max": 1, "gpu": 2}}}, r"no setting node_types\.cpu\.gpu\. Did you mean gpus\?"),
        ({"head": {"wheer": "here"}}, r"no setting head\.wheer\. Did you mean where\?"),
        ({"name": "My Cluster"}, r"name: must be lower-case letters.*'My Cluster'"),
        ({"name": "a:b"}, r"name: must be lower-case letters"),
        ({"node_types": {}}, r"node_types is empty"),
        ({"node_types": {"cpu": {}}}, r"node_types\.cpu\.max: Field required"),
        ({"node_types": {"cpu": {"max": 2, "min": 3}}}, r"node_types\.cpu: min=3 is more than max=2"),
        ({"node_types": {"head": {"max": 2}}}, r"the name head is reserved"),
        ({"node_types": {"gpu": {"max": 1, "gres": "gpu:a100:2"}}}, r"also set `gpus`"),
        ({"node_types": {"gpu": {"max": 1, "gres": "gpu:a100:4", "gpus": 1}}}, r"gres=gpu:a100:4 requests 4 GPUs"),
        ({"node_types": {"gpu": {"max": 1, "gres": "lustre,shard:2"}}}, r"shards of GPUs, which are not supported"),
        ({"node_types": {"cpu": {"max": 1, "extra": ["--clusters=b"]}}}, r"--clusters would send .* SLURM_CLUSTERS"),
        ({"node_types": {"cpu": {"max": 1, "extra": ["--cluster=b"]}}}, r"--cluster would send .* SLURM_CLUSTERS"),
        ({"node_types": {"cpu": {"max": 1, "time_min": 4}}}, r"warn_s=120 is at least half of the time limit"),
        ({"head": {"time_min": 4}}, r"at least half of the time limit of head \(time_min=4\)"),
        ({"node_types": {"cpu": {"max": True}}}, r"node_types\.cpu\.max: must not be true or false"),
        ({"node_types": {"cpu": {"max": 1, "extra": ["--mem=1G"]}}}, r"--mem is set by this program"),
        ({"node_types": {"cpu": {"max": 1, "extra": ["--nodes=4"]}}}, r"--nodes is set by this program"),
        ({"node_types": {"cpu": {"max": 1, "extra": ["--wait"]}}}, r"--wait is set by this program"),
        ({"node_types": {"cpu": {"max": 1, "extra": ["--open-mode=truncate"]}}}, r"--open-mode is set by this program"),
        ({"node_types": {"gpu": {"max": 1, "extra": ["--gres=gpu:2"]}}}, r"--gres is set .* use the setting for it"),
        ({"head": {"extra": ["--ntasks-per-node=4"]}}, r"head\.extra: --ntasks-per-node is set by this program"),
        ({"node_types": {"cpu": {"max": 1, "extra": ["-x n1"]}}}, r"'-x n1' is not a long sbatch option"),
        ({"node_types": {"cpu": {"max": 1, "extra": ["--hold\nrm"]}}}, r"is not a long sbatch option"),
        ({"node_types": {"cpu": {"max": 1, "resources": {"CPU": 4}}}}, r"CPU is set by cpus"),
        ({"pending_timeout_s": 60}, r"there is only one type"),
        ({"folder": "/shared/100%"}, r"folder: .* contains a %"),
        ({"local_disk": "/a/very/long/path/to/the/disk"}, r"is too long.*socket paths"),
    ],
)
def test_invalid_settings_are_named_before_submission(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ClusterError, match=message) as caught:
        load_config(write(tmp_path, **settings))
    assert len(caught.value.message.splitlines()) == 1


def test_set_overrides_the_file_and_is_checked_like_it(tmp_path: Path) -> None:
    path = write(tmp_path)
    config = load_config(path, ["node_types.cpu.max=8", "node_types.cpu.partition=fast", "idle_timeout_s=60"])
    assert (config.node_types["cpu"].max, config.node_types["cpu"].partition, config.idle_timeout_s) == (8, "fast", 60)
    with pytest.raises(ClusterError, match="write KEY=VALUE"):
        load_config(path, ["node_types.cpu.max"])
    with pytest.raises(ClusterError, match="is not a section"):
        load_config(path, ["name.x=1"])


def test_missing_or_broken_file_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"cannot be read .*cluster init"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ClusterError, match="is not valid YAML"):
        load_config(tmp_path / "bad.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "cluster" / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configs_are_valid(path: Path) -> None:
    assert load_config(path).node_types


def test_scripts_of_head_and_workers(tmp_path: Path) -> None:
    head = {"partition": "cpu", "time_min": 2880}
    gpu = {"max": 2, "gpus": 2, "partition": "gpu", "account": "chest", "constraint": "a100", "cpus": 16,
           "memory_gb": 90.5, "time_min": 240, "extra": ["--exclusive", "--reservation=night shift"]}  # fmt: skip
    path = write(tmp_path, head=head, node_types={"gpu": gpu}, setup=["module load cuda"])
    shown = CliRunner().invoke(main, ["up", "--config", str(path), "--dry-run"])
    assert shown.exit_code == 0, shown.output
    python, key = sys.executable, key_of(Path("/shared/rays/one"))
    assert (
        shown.output
        == f"""\
# head
sbatch --job-name=ray-one-head --nodes=1 --ntasks=1 --cpus-per-task=2 --mem=8192M --time=2880 --partition=cpu \
--output=/shared/rays/one/logs/%j-head.out --open-mode=append --no-requeue \
--comment=ray:{key}:ATTEMPT:head:- <<'END'
#!/bin/bash
module load cuda
{python} -m cluster.head /shared/rays/one ATTEMPT &
head=$!
trap 'kill -TERM $head 2>/dev/null || :' TERM
while kill -0 $head 2>/dev/null; do wait $head || :; done
wait $head && code=0 || code=$?
{python} -m cluster.cleanup /shared/rays/one ATTEMPT
exit $code
END

# gpu
sbatch --job-name=ray-one-gpu --nodes=1 --ntasks=1 --cpus-per-task=16 --mem=92672M --time=240 --partition=gpu \
--account=chest --constraint=a100 --output=/shared/rays/one/logs/%j-gpu.out --open-mode=append --no-requeue \
--gpus-per-node=2 --signal=B:USR2@120 --exclusive '--reservation=night shift' <<'END'
#!/bin/bash
module load cuda
exec {python} -m cluster.worker /shared/rays/one ATTEMPT gpu
END
"""
    )


def test_ray_gets_the_true_resources_of_a_node() -> None:
    """Heap: 10 GiB less 30 % for objects; with more than the node has, tasks would wait for it forever."""
    gpu = {"max": 2, "min": 1, "gpus": 4, "cpus": 8, "memory_gb": 10, "resources": {"fast_disk": 1}}
    config = ClusterConfig.model_validate({**PLAIN, "idle_timeout_s": 90, "node_types": {"gpu": gpu}})
    tree = autoscaling_config(config, "abc", "n1:1")
    offered = tree["available_node_types"]["gpu"]["resources"]
    assert offered == {"CPU": 8, "GPU": 4, "memory": (10240 - 3072) * 2**20, "fast_disk": 1}
    assert tree["available_node_types"]["gpu"]["min_workers"] == 1
    assert tree["available_node_types"]["head"]["resources"] == {"CPU": 0}
    assert tree["max_workers"] == 2
    assert tree["idle_timeout_minutes"] == 1.5


def test_commands_report_missing_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    runner = CliRunner()
    up = runner.invoke(main, ["up", "--config", str(write(tmp_path))])
    assert (up.exit_code, "not a login node of a SLURM cluster" in up.output) == (2, True)
    init = runner.invoke(main, ["init"])
    assert (init.exit_code, "not a login node of a SLURM cluster" in init.output) == (2, True)
    status = runner.invoke(main, ["status", "--folder", str(tmp_path / "rays")])
    assert (status.exit_code, "No cluster in " in status.output) == (2, True)

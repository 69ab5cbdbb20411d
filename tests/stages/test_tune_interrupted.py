"""`emixer tune` on the tiny shards: failed trials, killed leaders and searches, and how they resume.

Separate from test_tune.py so that two processes share the searches of both."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from optuna.trial import TrialState

from emixer.background import repeated
from emixer.checkpoint import find_checkpoint
from emixer.config import Config, to_yaml, with_overrides
from emixer.errors import EmixerError
from emixer.run_folder import RunFolder
from emixer.stages import tune
from tests.stages.searches import opened, search

pytestmark = [pytest.mark.long, pytest.mark.thorough]


def leader_pid() -> int:
    """Return the id of the process in this test's cluster that leads a trial."""
    found = [p for p in Path("/proc").glob("[0-9]*") if _command(p).startswith("ray::ImplicitFunc")]
    (ours,) = [int(p.name) for p in found if str(os.getpid()) in _ancestors(p)]
    return ours


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


def _ancestors(process: Path) -> list[str]:
    found = [process.name]
    while found[-1] != "0":
        found.append((Path("/proc") / found[-1] / "stat").read_text().rpartition(")")[2].split()[1])
    return found


@pytest.mark.ray
def test_trial_whose_leader_is_killed_regains_its_slot_and_resumes(
    ray_cluster: None, tiny_config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    one_place = {"train.cpus_per_worker": 2, "train.log_every_images": 16, "train.save_every_images": 16}
    config = with_overrides(search(tiny_config, folder, tune__num_samples=1, tune__budget_images=256), one_place)
    killed: list[int] = []

    def kill_the_leader() -> None:
        if not killed and (folder / "trials" / "0000" / "checkpoints" / "last.json").exists():
            killed.append(leader_pid())
            os.kill(killed[0], signal.SIGKILL)

    with repeated(kill_the_leader, 0.2):
        assert tune.run(config).counts == {"finished": 1}
    assert killed
    assert RunFolder(folder / "trials" / "0000").metrics()[-1]["images"] == 256


@pytest.mark.ray
def test_failed_trial_says_why_frees_its_slot_and_is_retried_next_time(
    ray_cluster: None, tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "study"
    config = search(tiny_config, folder, tune__num_samples=2, train__cpus_per_worker=2, tune__budget_images=32)

    def stand_in_the_way() -> None:  # of the first run folder, as soon as the search has started
        if (folder / "config.yaml").exists() and not (folder / "trials").exists():
            (folder / "trials").mkdir()
            (folder / "trials" / "0000").touch()

    with repeated(stand_in_the_way, 0.01):
        result = tune.run(config)
    assert result.counts == {"failed": 1, "finished": 1}
    assert "0000 is a file. `emixer train` needs a folder" in str(result)
    shown = capsys.readouterr().err
    assert "0000 is a file" in shown
    assert "Traceback" not in shown
    assert "0000 is a file" in (folder / "report.html").read_text()
    assert opened(folder).trials[0].user_attrs["starts"] == 1, "a message is not started again"
    assert tune.run(config).counts == {"failed": 1, "finished": 2}, "two are asked for: one that failed is none"
    assert opened(folder).trials[2].params == opened(folder).trials[0].params


@pytest.mark.ray
def test_failing_leader_ends_its_training_first(
    ray_cluster: None, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "study"
    config = search(
        tiny_config, folder, tune__num_samples=1, train__cpus_per_worker=2, tune__budget_images=10**6,
        tune__metrics=["fid"], train__validate_every_images=10**6, train__log_every_images=16,
    )  # fmt: skip
    line = json.dumps({"images": 0, "validation/words_per_report": 3.0})

    def spoil() -> None:  # a validation pass without the objective, while training continues
        path = folder / "trials" / "0000" / "metrics.jsonl"
        if path.exists() and line not in path.read_text():
            path.write_text(path.read_text() + line + "\n")

    config = with_overrides(config, {"tune.metrics": ["label_auc"], "tune.max_failures": 0})
    with repeated(spoil, 0.5), pytest.raises(EmixerError, match=r"No trial finished(.|\n)*label_auc"):
        tune.run(config)
    assert find_checkpoint(folder / "trials" / "0000" / "checkpoints", "last") is not None
    assert not (folder / "trials" / "0000" / "stop-requested").exists()
    end = time.monotonic() + 60
    while ray.available_resources().get("CPU") != 2:
        assert time.monotonic() < end, "its workers keep their place"
        time.sleep(0.1)


def test_interrupted_search_says_so(tiny_config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    config = search(tiny_config, folder, tune__budget_images=10**6, tune__num_samples=2)
    (tmp_path / "tune.yaml").write_text(
        to_yaml(with_overrides(config, {"ray.num_cpus": 1, "ray.object_store_mb": 200}))
    )
    command = [sys.executable, "-m", "emixer", "tune", "--config", str(tmp_path / "tune.yaml")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as search_:
        end = time.monotonic() + 400
        while not list(folder.glob("trials/0000/checkpoints/last.json")):
            assert search_.poll() is None, search_.stderr.read() if search_.stderr else ""
            assert time.monotonic() < end, "the first trial did not begin"
            time.sleep(0.2)
        os.killpg(search_.pid, signal.SIGINT)
        out, said = search_.communicate(timeout=120)
    assert (search_.returncode, out) == (130, "")
    assert "Interrupted. Run the same command again to resume" in said
    assert "Traceback" not in said


def test_killed_search_resumes_without_rerunning_finished_trials(tiny_config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    config = search(tiny_config, folder, tune__budget_images=480, tune__max_concurrent=1, tune__num_samples=2)
    config = with_overrides(config, {"ray.num_cpus": 2, "ray.object_store_mb": 200})
    (tmp_path / "tune.yaml").write_text(to_yaml(config))
    command = [sys.executable, "-m", "emixer", "tune", "--config", str(tmp_path / "tune.yaml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True) as killed:
        end = time.monotonic() + 800
        while not list(folder.glob("trials/0001/checkpoints/last.json")):
            assert killed.poll() is None, killed.stderr.read() if killed.stderr else ""
            assert time.monotonic() < end, "the second trial did not begin"
            time.sleep(0.2)
        os.killpg(killed.pid, signal.SIGKILL)
    states = [trial.state for trial in opened(folder).trials]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING]
    interrupted = folder / "trials" / "0001"
    kept = find_checkpoint(interrupted / "checkpoints", "last")
    assert kept is not None
    before = [line for line in RunFolder(interrupted).metrics() if line["images"] <= kept.images]
    first = [(p, p.stat().st_mtime_ns) for p in sorted((folder / "trials" / "0000").rglob("*.safetensors"))]
    value = opened(folder).trials[0].value
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=800).stdout
    assert "Searched with 2 trials (2 finished)" in shown
    trials = opened(folder).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert [(p, p.stat().st_mtime_ns) for p in sorted((folder / "trials" / "0000").rglob("*.safetensors"))] == first
    assert trials[0].value == value
    assert [trial.user_attrs["starts"] for trial in trials] == [1, 2]
    after = RunFolder(interrupted).metrics()
    assert before, "rates are among the values: what is done again would differ"
    assert after[: len(before)] == before
    assert after[-1]["images"] == 480

"""`emixer train` as a user runs it: on Ray, resumed, killed, and refused with a reason."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import ray
from click.testing import CliRunner

from emixer.checkpoint import find_checkpoint, save_checkpoint
from emixer.cli.main import main
from emixer.config import Config, load_config, to_yaml, with_overrides
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, RunFolderError, ShardError, StorageError
from emixer.ray_session import nodes_in_use
from emixer.run_folder import RunFolder
from emixer.stages import encoder, train, tune
from tests.answers import answer_of
from tests.processes import assert_listen_on_the_loopback, children_of

RATES = ("images_per_s", "wait_share")


def losses(folder: Path) -> list[dict[str, float]]:
    lines = RunFolder(folder).metrics()
    return [{k: v for k, v in line.items() if k not in RATES} for line in lines if "images_per_s" in line]


def ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        status = Path(f"/proc/{pid}/status").read_text()
        pid = int(status.split("PPid:")[1].split()[0])
        yield pid


def worker_pids() -> set[int]:
    """Return the Train workers below this process, excluding those of other processes on this machine."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            title = (entry / "cmdline").read_text() if entry.name.isdigit() else ""
            if title.startswith("ray::RayTrainWorker") and os.getpid() in ancestors(int(entry.name)):
                found.add(int(entry.name))
        except OSError:  # it has ended in the meantime
            continue
    return found


def kill_a_worker_once_saved(run: Path, killed: list[int]) -> None:
    while not (run / "checkpoints" / "last.json").exists():
        time.sleep(0.05)
    for pid in worker_pids():
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)


@pytest.mark.thorough
@pytest.mark.ray
def test_two_workers_train_validate_sample_and_save(ray_cluster: None, tiny_config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = with_overrides(tiny_config, {"train.num_workers": 2, "train.run": run, "train.images": 96})
    result = train.run(config)
    assert [line["images"] for line in losses(run)] == [32, 64, 96]
    assert_ends_measured_drawn_and_saved(result, 96)


def assert_ends_measured_drawn_and_saved(result: train.TrainResult, images: int) -> None:
    assert result.images == images
    assert "word cross-entropy [nats]" in str(result)
    told = answer_of(result)
    figures = told["figures"]
    assert (told["outcome"], figures["images"], figures["best"]["value"]) == ("done", images, result.best)
    assert (result.run / "samples" / f"images-{images:012d}.png").stat().st_size > 10_000
    assert list((result.run / "tensorboard").glob("events.*"))
    assert RunFolder(result.run).metrics()[-1]["validation/fid_random_densenet"] > 0
    checkpoints = result.run / "checkpoints"
    last = find_checkpoint(checkpoints, "last")
    assert last is not None
    assert last.images == images
    assert find_checkpoint(checkpoints, "best") is None, "random features measure, but do not choose"


@pytest.mark.ray
@pytest.mark.parametrize("stage", ["train", "tune", "encoder"])
def test_workers_that_do_not_fit_the_cluster_are_refused(
    ray_cluster: None, tiny_config: Config, tmp_path: Path, stage: str
) -> None:
    """Ray alone would wait for them forever, silently."""
    changes = {
        "train.run": tmp_path / "run", "tune.study": tmp_path / "study", "tune.space": ["loss.alpha float 0 1"],
        "tune.metrics": ["word_cross_entropy"], "encoder.run": tmp_path / "encoder",
    }  # fmt: skip
    section = "encoder" if stage == "encoder" else "train"
    workers = {f"{section}.num_workers": 2, f"{section}.cpus_per_worker": 3}
    run = {"train": train.run, "tune": tune.run, "encoder": encoder.run}[stage]
    with pytest.raises(
        ConfigError, match=r"has 2 CPUs here but needs 6 to start: num_workers=2 with cpus_per_worker=3"
    ):
        run(with_overrides(tiny_config, {**changes, **workers}))
    on_gpus = {f"{section}.use_gpu": True, f"{section}.num_workers": 1}
    with pytest.raises(ConfigError, match=r"has 0 GPUs here but needs 1 to start: .*set use_gpu=false"):
        run(with_overrides(tiny_config, {**changes, **on_gpus}))
    shared = {f"{section}.use_gpu": True, f"{section}.num_workers": 2, f"{section}.gpus_per_worker": 0.5}
    with pytest.raises(ConfigError, match=r"puts two workers on one GPU"):
        run(with_overrides(tiny_config, {**changes, **shared}))


@pytest.mark.ray
def test_nodes_in_use_are_those_with_reserved_resources(ray_cluster: None) -> None:
    """A run is asked to save when one of them is drained, and not for any other node."""
    here = ray.get_runtime_context().get_node_id()
    place = ray.util.placement_group([{"CPU": 1}])
    ray.get(place.ready())
    assert nodes_in_use() == {here}
    ray.util.remove_placement_group(place)
    assert nodes_in_use() == set()


def test_what_a_killed_save_left_behind_is_removed_when_the_run_goes_on(
    tiny_config: Config, tmp_path: Path, train_locally: Callable[[Config, Path], Any]
) -> None:
    left = tmp_path / "run" / "checkpoints" / ".partial-images-000000000064-0123abcd"
    train_locally(with_overrides(tiny_config, {"train.images": 64}), tmp_path / "run")
    left.mkdir()
    (left / "networks.safetensors").write_bytes(b"half of one")
    train_locally(tiny_config, tmp_path / "run")
    assert not left.exists()


@pytest.mark.ray
def test_killed_worker_costs_no_loss_value(
    ray_cluster: None, tiny_config: Config, tmp_path: Path, train_locally: Callable[[Config, Path], Any]
) -> None:
    run = tmp_path / "run"
    settings = {"train.images": 256, "train.save_every_images": 64, "train.validate_every_images": 256}
    config = with_overrides(tiny_config, settings | {"train.sample_every_images": 256})
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker_once_saved, args=(run, killed), daemon=True)
    killer.start()
    result = train.run(with_overrides(config, {"train.run": run}))
    killer.join()
    assert killed, "the worker ended before it could be killed"
    train_locally(config, tmp_path / "whole")
    on_ray, whole = losses(run), losses(tmp_path / "whole")
    assert [line["images"] for line in on_ray] == list(range(32, 257, 32))
    assert on_ray == whole
    assert_ends_measured_drawn_and_saved(result, 256)


@pytest.mark.parametrize(
    ("number", "code", "first_words"),
    [
        (signal.SIGINT, 130, "Interrupted"),  # in the whole group of processes, as a terminal sends it
        pytest.param(signal.SIGTERM, 143, "Stopped by SIGTERM", marks=pytest.mark.thorough),
    ],
)
def test_stopped_run_saves_and_the_same_command_resumes(
    tiny_config: Config, tmp_path: Path, number: signal.Signals, code: int, first_words: str
) -> None:
    run = tmp_path / "run"
    settings = {
        "train.run": run, "train.images": 100_000, "train.num_workers": 2, "train.log_every_images": 64,
        "train.save_every_images": 10**9, "train.validate_every_images": 10**9, "train.sample_every_images": 10**9,
        "ray.num_cpus": 2, "ray.object_store_mb": 200,
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(to_yaml(with_overrides(tiny_config, settings)))
    command = [sys.executable, "-m", "emixer", "train", "--config", str(tmp_path / "run.yaml"), "--json"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    ) as process:
        end = time.monotonic() + 300
        while not RunFolder(run).metrics():
            assert process.poll() is None
            assert time.monotonic() < end, "training did not begin"
            time.sleep(0.2)
        if shutil.which("ss") is not None:
            assert_listen_on_the_loopback(children_of(process.pid) | {process.pid})
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        answer, said = process.communicate(timeout=120)
    assert process.returncode == code, said
    told = json.loads(answer)
    assert (told["stage"], told["outcome"], told["exit_code"]) == ("train", "stopped", code)
    saved = find_checkpoint(run / "checkpoints", "last")
    assert saved is not None
    assert saved.images == RunFolder(run).metrics()[-1]["images"]
    words = (
        f"{first_words}; checkpoint saved at {saved.images:,} of 100,000 images. Run the same command again to resume."
    )
    assert words in " ".join(said.split())
    assert not RunFolder(run).stop_is_requested
    assert f"resumes at {saved.images:,} images" in train.describe(load_config([run / "config.yaml"]))


def test_dry_run_says_what_would_be_done_and_touches_nothing(tiny_config: Config, tmp_path: Path) -> None:
    text = train.describe(with_overrides(tiny_config, {"train.run": tmp_path / "run"}))
    assert "96 images in train, 32 in validate" in text
    assert "new run" in text
    assert not (tmp_path / "run").exists()


def test_dry_run_refuses_a_folder_that_the_run_would(tiny_config: Config, tmp_path: Path) -> None:
    config = with_overrides(tiny_config, {"train.run": tmp_path})
    (tmp_path / "1.jpg").write_bytes(b"a radiograph")
    with pytest.raises(RunFolderError, match="is not empty and not a run folder"):
        train.describe(config)
    (tmp_path / "1.jpg").unlink()
    RunFolder.create_or_resume(tmp_path, "train", with_overrides(config, {"loss.alpha": 0.9}))
    with pytest.raises(RunFolderError, match=r"loss\.alpha: 0\.9 there, 0\.2 now"):
        train.describe(config)
    with pytest.raises(StorageError, match="Not a directory"):
        train.describe(with_overrides(config, {"train.run": tmp_path / "run.json" / "run"}))


def test_dry_run_refuses_losses_that_leave_a_player_nothing_to_learn(tiny_config: Config, tmp_path: Path) -> None:
    bare = {"train.run": tmp_path / "run", "model.images_share": 0.3, "loss.image": 0.0, "loss.beta": 0.0}
    with pytest.raises(ConfigError, match="D_image has nothing to learn"):
        train.describe(with_overrides(tiny_config, bare))


def test_finished_run_is_not_one_on_other_shards(
    tiny_config: Config, tmp_path: Path, make_shards: Callable[..., Path]
) -> None:
    config = with_overrides(tiny_config, {"train.run": tmp_path / "run"})
    assert config.data.shards is not None
    digest = ShardSet.open(config.data.shards).digest(("train", "validate"))
    folder = RunFolder.create_or_resume(tmp_path / "run", "train", config, digest)
    save_checkpoint(folder.checkpoints, 160, {}, {"best": None})
    other = with_overrides(
        config, {"data.shards": make_shards(tmp_path / "other", seed=1, train=96, validate=32, test=16)}
    )
    for start in (train.describe, train.run):
        with pytest.raises(RunFolderError, match=r"other images than those in .*/other"):
            start(other)
    moved = shutil.copytree(config.data.shards, tmp_path / "moved")
    assert train.run(with_overrides(config, {"data.shards": moved})).was_done


def test_dry_run_says_when_nothing_is_left_to_do(tiny_config: Config, tmp_path: Path) -> None:
    config = with_overrides(tiny_config, {"train.run": tmp_path})
    folder = RunFolder.create_or_resume(tmp_path, "train", config)
    save_checkpoint(folder.checkpoints, 144, {}, {})
    assert "(resumes at 144 images)" in train.describe(config)
    save_checkpoint(folder.checkpoints, 160, {}, {})
    assert "(nothing to do: trained on 160 images)" in train.describe(config)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"train.num_workers": 3}, ConfigError, r"batch_size=16 cannot be split over 3 .* e\.g\. 15 or 18"),
        ({"model.side_px": 64}, ConfigError, r"model\.side_px=64, but the images in .* have 32 px"),
        ({"validation.encoder.frozen": False}, ConfigError, "without validation.encoder.weights"),
        ({"model.report_decoder.encoder.weights": "/nowhere.safetensors"}, ConfigError, "does not exist"),
        pytest.param(
            {"train.trackers": ["wandb"]},
            ConfigError,
            "wandb is not installed",
            marks=pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed"),
        ),
        ({"data.shards": "/nowhere"}, ShardError, "There is no folder"),
    ],
)
def test_invalid_settings_are_refused_before_anything_starts(
    tiny_config: Config, tmp_path: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    config = with_overrides(tiny_config, settings | {"train.run": tmp_path / "run"})
    with pytest.raises(error, match=message):
        train.run(config)
    assert not (tmp_path / "run").exists()


def test_command_prints_an_error_as_one_paragraph(tiny_config: Config, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(to_yaml(tiny_config))
    result = CliRunner().invoke(main, ["train", "--config", str(file), "--run", str(tmp_path), "--num-workers", "2"])
    assert result.exit_code == 2
    assert "not a run folder" in result.stderr
    assert "Traceback" not in result.output

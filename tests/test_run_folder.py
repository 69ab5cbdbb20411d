"""A run folder belongs to one stage and one config, and survives being cut anywhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from emixer.config import Config, load_config
from emixer.errors import RunFolderError, StorageError
from emixer.run_folder import RunFolder
from tests.closed import closed, open_folder


def config_with(**keys: Any) -> Config:
    return load_config(extra={key.replace("__", "."): value for key, value in keys.items()})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    RunFolder.create_or_resume(path, "train", Config())
    return path


def test_new_run_keeps_its_resolved_config(tmp_path: Path) -> None:
    config = config_with(loss__alpha=0.7, optim__lr_generator=1e-5, data__shards="shards")
    folder = RunFolder.create_or_resume(tmp_path / "deep" / "run", "train", config)
    assert folder.config == config
    assert RunFolder.open(tmp_path / "deep" / "run", "train").config == config


def test_same_config_resumes(run: Path) -> None:
    RunFolder.create_or_resume(run, "train", Config())


def test_another_config_is_refused_with_the_keys_that_differ(run: Path) -> None:
    other = config_with(loss__alpha=0.9, model__side_px=64, train__images=5)
    with pytest.raises(RunFolderError) as caught:
        RunFolder.create_or_resume(run, "train", other)
    message = str(caught.value)
    assert "loss.alpha: 0.2 there, 0.9 now" in message
    assert "model.side_px: 128 there, 64 now" in message
    assert "train.images" not in message
    assert RunFolder(run).config == Config()


@pytest.mark.parametrize(
    "free", ["train__images", "train__num_workers", "train__accumulate", "train__log_every_images", "ray__num_cpus"]
)
def test_settings_that_affect_no_result_may_change_on_resume_and_are_kept(run: Path, free: str) -> None:
    config = config_with(**{free: 2})
    assert RunFolder.create_or_resume(run, "train", config).config == config


def test_other_images_are_refused_wherever_they_are(run: Path) -> None:
    def on(shards: str, images: str | None) -> RunFolder:
        return RunFolder.create_or_resume(run, "train", config_with(data__shards=shards), images)

    on("first", "digest-1")  # in a run of an emixer that kept no digest
    on("moved", "digest-1")
    with pytest.raises(
        RunFolderError, match=r"other images than those in \S+/other\..*the shards of that run, once in \S+/moved\."
    ):
        on("other", "digest-2")
    assert RunFolder(run).config.data.shards == Path("moved").absolute()
    on("moved", "digest-1")


def test_another_stage_is_refused(run: Path) -> None:
    with pytest.raises(RunFolderError, match="belongs to `emixer train`"):
        RunFolder.create_or_resume(run, "generate", Config())
    with pytest.raises(RunFolderError, match="was written by `emixer train`"):
        RunFolder.open(run, "generate")


def test_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunFolderError, match="is not empty and not a run folder"):
        RunFolder.create_or_resume(tmp_path, "train", Config())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunFolderError, match="is a file"):
        RunFolder.create_or_resume(tmp_path / "run", "train", Config())


def test_killed_first_start_may_be_repeated(run: Path) -> None:
    (run / "run.json").unlink()
    (run / ".partial-run.json-12345678").write_text('{"run_ver')
    RunFolder.create_or_resume(run, "train", config_with(loss__alpha=0.9))
    assert RunFolder.open(run, "train").config.loss.alpha == 0.9


def test_missing_or_foreign_folder_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(RunFolderError, match=r"not a run folder \(no run\.json\)"):
            RunFolder.open(path, "train")


def test_somebody_elses_run_is_told_apart_from_none_and_from_a_damaged_one() -> None:
    with open_folder() as path:
        run = RunFolder.create_or_resume(path, "train", Config())
        run.append_metrics({"images": 10})
        for read, part in (
            (lambda: RunFolder.open(path, "train"), "."), (lambda: RunFolder.open(path, "train"), "run.json"),
            (lambda: run.check("train", Config()), "."), (lambda: run.check("train", Config()), "run.json"),
            (run.metrics, "metrics.jsonl"),
        ):  # fmt: skip
            with closed(path / part), pytest.raises(StorageError, match=f"No permission to read {path / part}"):
                read()


def test_run_of_another_version_is_refused(run: Path) -> None:
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | {"run_version": 99}))
    with pytest.raises(RunFolderError, match="run version 99, this emixer has 1"):
        RunFolder.open(run, "train")


@pytest.mark.parametrize("content", ["", '{"stage": "tr', "[]", "null"])
def test_damaged_run_json_is_named(run: Path, content: str) -> None:
    (run / "run.json").write_text(content)
    with pytest.raises(RunFolderError, match=r"run\.json cannot be read"):
        RunFolder.open(run, "train")


@pytest.mark.parametrize("content", ["seed: [", "seed: -1\n", "no_such_key: 1\n"])
def test_damaged_config_is_named(run: Path, content: str) -> None:
    (run / "config.yaml").write_text(content)
    with pytest.raises(RunFolderError, match=r"config\.yaml cannot be read as the config of a run"):
        _ = RunFolder.open(run, "train").config


def test_metrics_are_returned_in_order(run: Path) -> None:
    folder = RunFolder(run)
    assert folder.metrics() == []
    folder.append_metrics({"images": 10, "loss": 0.5})
    folder.append_metrics({"images": 20, "loss": 0.25})
    assert folder.metrics() == [{"images": 10, "loss": 0.5}, {"images": 20, "loss": 0.25}]


def test_truncated_last_line_is_ignored_and_gone_after_resume(run: Path) -> None:
    folder = RunFolder(run)
    folder.append_metrics({"images": 10})
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"images": 20, "lo')
    assert folder.metrics() == [{"images": 10}]
    folder.forget_after(10)
    folder.append_metrics({"images": 20})
    assert folder.metrics() == [{"images": 10}, {"images": 20}]


def test_line_damaged_in_the_middle_is_named(run: Path) -> None:
    (run / "metrics.jsonl").write_text('{"images": 10}\n{"ima\n{"images": 30}\n')
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl is damaged"):
        RunFolder(run).metrics()


def test_metrics_after_the_checkpoint_are_dropped_on_resume(run: Path) -> None:
    folder = RunFolder(run)
    for images in (10, 20, 30):
        folder.append_metrics({"images": images})
    folder.forget_after(20)
    assert [line["images"] for line in folder.metrics()] == [10, 20]


def test_non_finite_loss_is_refused(run: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        RunFolder(run).append_metrics({"images": 1, "loss": float("nan")})
    assert RunFolder(run).metrics() == []


def test_followed_metrics_are_parsed_once_and_anew_when_a_resumed_run_drops_some(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, parsed = RunFolder(run), []
    loads = json.loads
    monkeypatch.setattr("emixer.run_folder.json.loads", lambda line: parsed.append(line) or loads(line))
    followed = folder.follow_metrics("validation/")
    assert followed.lines() == []
    for images in range(10, 110, 10):
        folder.append_metrics({"images": images} | ({"validation/fid": images} if images % 20 == 0 else {}))
        assert [line["images"] for line in followed.lines()] == list(range(20, images + 1, 20))
    assert len(parsed) == 10
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"images": 110, ')
    assert len(followed.lines()) == 5
    folder.forget_after(50)
    for images in range(60, 160, 10):
        folder.append_metrics({"images": images, "validation/fid": -images})
    assert [line["validation/fid"] for line in followed.lines()] == [20, 40, *range(-60, -160, -10)]


def test_last_metrics_are_read_from_the_end_of_a_long_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.last_metrics() is None
    for images in range(3000):
        folder.append_metrics({"images": images, "padding": "x" * 40} | ({"odd": images} if images % 2 else {}))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"images": 3000, "odd')
    last, odd = folder.last_metrics(), folder.last_metrics("odd")
    assert last is not None
    assert last["images"] == 2999
    assert odd == folder.metrics()[-1]
    assert folder.last_metrics("nothing") is None

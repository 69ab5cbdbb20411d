"""An interrupted and resumed run equals an uninterrupted one."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emixer.checkpoint import find_checkpoint, read_checkpoint
from emixer.config import Config, with_overrides
from emixer.data.order import DataOrder
from emixer.data.vocabulary import Vocabulary
from emixer.errors import CheckpointError, DivergenceError, RunFolderError, StorageError
from emixer.run_folder import RunFolder
from emixer.stages import train
from emixer.training.reporter import RunReporter

Train = Callable[[Config, Path], Any]

RATES = ("images_per_s", "wait_share")


def losses(run: Any) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k not in RATES} for line in run.folder.metrics()]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_resumed_run_has_the_losses_and_weights_of_an_uninterrupted_one(
    tiny_config: Config, tmp_path: Path, train_locally: Train, precision: str
) -> None:
    config = with_overrides(tiny_config, {"train.precision": precision})
    whole = train_locally(config, tmp_path / "whole")
    train_locally(with_overrides(config, {"train.images": 64}), tmp_path / "cut")
    resumed = train_locally(config, tmp_path / "cut")
    # the first part validated and logged at its end; from there on every number must agree
    assert [line for line in losses(resumed) if line["images"] > 64] == [
        line for line in losses(whole) if line["images"] > 64
    ]
    left, right = whole.states[0].parts(), resumed.states[0].parts()
    for part in left:
        assert left[part].keys() == right[part].keys()
        assert all(torch.equal(left[part][key], right[part][key]) for key in left[part]), part
    scalers = [
        read_checkpoint(run.folder.checkpoints / "images-000000000160").state["scaler"] for run in (whole, resumed)
    ]
    assert scalers[0] == scalers[1]
    assert ("scale" in scalers[0]) == (precision == "fp16")


def test_killed_run_of_any_kind_of_model_resumes_exactly(
    kind_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    """SM-GAN is killed in its first phase and finishes its second."""
    whole = train_locally(kind_config, tmp_path / "whole")
    train_locally(kind_config, tmp_path / "killed", killed_after=64)
    resumed = train_locally(kind_config, tmp_path / "killed")
    assert losses(resumed) == losses(whole)
    left, right = whole.states[0].parts(), resumed.states[0].parts()
    for part in left:
        assert left[part].keys() == right[part].keys()
        assert all(torch.equal(left[part][key], right[part][key]) for key in left[part]), part


ATTENTIVE = {"model.report_decoder.kind": "attentive", "model.report_decoder.width": 16,
             "model.report_decoder.heads": 2, "model.report_decoder.layers": 1}  # fmt: skip


def test_phases_of_words_images_and_full_game_resume_exactly(
    tiny_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    """Killed in the second phase; F's learning rate rises, then falls, as a function of the images seen."""
    shares = {"model.words_share": 0.2, "model.images_share": 0.3, "model.report_decoder.reads": "image-and-labels"}
    terms = {"loss.image_labels": 1.0, "loss.mismatched": 0.5}
    rate = {"optim.lr_report_decoder": 1e-3, "optim.warmup_images_report_decoder": 64,
            "optim.decay_report_decoder": True}  # fmt: skip
    config = with_overrides(tiny_config, ATTENTIVE | shares | terms | rate)
    whole = train_locally(config, tmp_path / "whole")
    lines = [line for line in losses(whole) if "generator/words" in line]
    assert ["generator/image" in line for line in lines] == [False, True, True, True, True]
    assert ["generator/joint" in line for line in lines] == [False, False, False, True, True]
    train_locally(config, tmp_path / "killed", killed_after=64)
    resumed = train_locally(config, tmp_path / "killed")
    assert losses(resumed) == losses(whole)
    left, right = whole.states[0].parts(), resumed.states[0].parts()
    assert all(torch.equal(left[part][key], right[part][key]) for part in left for key in left[part])
    with pytest.raises(RunFolderError, match=r"train\.images: 160 there, 320 now"):
        RunFolder.create_or_resume(tmp_path / "whole", "train", with_overrides(config, {"train.images": 320}))


def test_learning_rate_schedule_of_the_report_decoder_leaves_the_others_alone(
    tiny_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    settings = {"optim.lr_report_decoder": 1e-3, "optim.warmup_images_report_decoder": 64, "train.images": 64,
                "optim.decay_report_decoder": True}  # fmt: skip
    state = train_locally(with_overrides(tiny_config, settings), tmp_path / "run").states[0]
    rates = []
    for state.iteration in range(3):  # 32 images each
        state.follow_schedule()
        rates.append({group["name"]: group["lr"] for group in state.generator_optimizer.param_groups})
    # halfway up; at the top, less half of the way down to a twentieth; at the end
    assert [rate["report"] for rate in rates] == pytest.approx([0.5e-3, 1e-3 * (1 - 0.95 / 2), 0.05e-3])
    assert {rate["image"] for rate in rates} == {1e-3}


def test_schedule_of_a_report_decoder_that_rests_at_first_begins_when_its_training_does(
    tiny_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    """SM-GAN, 32 images a step: four steps of images, then four of words."""
    settings = {"model.kind": "smgan", "model.decoder_share": 0.5, "optim.lr_report_decoder": 1e-3, "train.images": 256,
                "optim.warmup_images_report_decoder": 64, "optim.decay_report_decoder": True}  # fmt: skip
    state = train_locally(with_overrides(tiny_config, settings), tmp_path / "run").states[0]
    rates = []
    for state.iteration in range(4, 8):
        state.follow_schedule()
        rates += [group["lr"] for group in state.generator_optimizer.param_groups if group["name"] == "report"]
    full = [1 - 0.95 * share for share in (0, 0.25, 0.5, 0.75)]
    assert rates == pytest.approx([1e-3 * rate for rate in (0.5 * full[0], *full[1:])])


def test_adaptive_augmentation_resumes_exactly(tiny_config: Config, tmp_path: Path, train_locally: Train) -> None:
    settings = {"loss.augment": ["translation"], "loss.augment_target": 0.01, "loss.augment_images": 400}
    config = with_overrides(tiny_config, settings)
    whole = train_locally(config, tmp_path / "whole")
    shares = [line["augment/probability"] for line in losses(whole) if "augment/probability" in line]
    assert len(set(shares)) > 1, "it moves"
    assert all(0 <= share <= 1 for share in shares)
    train_locally(config, tmp_path / "killed", killed_after=64)
    assert losses(train_locally(config, tmp_path / "killed")) == losses(whole)


def test_checkpoint_of_another_kind_of_model_is_refused(
    tiny_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    run = train_locally(with_overrides(tiny_config, {"train.images": 64}), tmp_path / "emixer")
    other = RunFolder.create_or_resume(
        tmp_path / "cogan", "train", with_overrides(tiny_config, {"model.kind": "cogan"})
    )
    shutil.copytree(run.folder.checkpoints, other.checkpoints, dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match=r"trained with model\.kind=emixer, but this run has model\.kind=cogan"):
        train_locally(with_overrides(tiny_config, {"model.kind": "cogan"}), tmp_path / "cogan")


def test_checkpoint_of_another_kind_of_report_decoder_is_refused(
    tiny_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    run = train_locally(with_overrides(tiny_config, {"train.images": 64}), tmp_path / "hierarchical")
    config = with_overrides(tiny_config, ATTENTIVE)
    other = RunFolder.create_or_resume(tmp_path / "attentive", "train", config)
    shutil.copytree(run.folder.checkpoints, other.checkpoints, dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match=r"Set model\.report_decoder\.kind=hierarchical, or start a new run"):
        train_locally(config, tmp_path / "attentive")


def test_smgan_trains_its_two_parts_sequentially(tiny_config: Config, tmp_path: Path, train_locally: Train) -> None:
    every = {"train.validate_every_images": 32, "validation.metric": "fid"}
    config = with_overrides(tiny_config, {"model.kind": "smgan", "model.decoder_share": 0.4, **every})
    first = train_locally(config, tmp_path / "run", killed_after=64).states[0].model.state_dict()
    run = train_locally(config, tmp_path / "run")  # images up to 96, then 64 for the decoder
    lines = [line for line in run.folder.metrics() if "images_per_s" in line]
    assert ["generator/image" in line for line in lines] == [True, True, True, False, False]
    assert ["generator/words" in line for line in lines] == [False, False, False, True, True]
    last = run.states[0].model.state_dict()
    averages = [
        safetensors.torch.load_file(run.folder.checkpoints / f"images-{images:012d}" / "sampler.safetensors")
        for images in (128, 160)
    ]
    moving = {name.split(".")[0] for name in averages[0] if not torch.equal(averages[0][name], averages[1][name])}
    assert moving == {"report_decoder"}, "the images' average does not drift to their last, unaveraged weights"
    moved = {name.split(".")[0] for name in first if not torch.equal(first[name], last[name])}
    assert moved == {"image_generator", "image_discriminator", "report_decoder"}
    best = find_checkpoint(run.folder.checkpoints, "best")
    assert best is not None, "by its words, since the distance of images that rest says nothing"
    assert best.images == 128, "the stand-in metric grows, and no model is finished before the second phase"


def test_seed_determines_the_losses(tiny_config: Config, tmp_path: Path, train_locally: Train) -> None:
    config = with_overrides(tiny_config, {"train.images": 64})
    first, again = train_locally(config, tmp_path / "a"), train_locally(config, tmp_path / "b")
    other = train_locally(with_overrides(config, {"seed": 1}), tmp_path / "c")
    assert losses(first) == losses(again)
    assert losses(first) != losses(other)


def test_accumulation_gives_the_losses_and_gradients_of_the_whole_batch(
    tiny_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    # Only the first step, and only terms on which batch norm mixes no rows: those on real images and real reports
    first_step = {"train.images": 16, "optim.discriminator_steps": 1, "loss.rotation_share": 1.0}
    encoder = {"model.report_decoder.encoder.frozen": False, "loss.image": 0.0, "loss.report": 0.0, "loss.joint": 0.0}
    config = with_overrides(tiny_config, first_step | encoder)
    whole = train_locally(config, tmp_path / "whole")
    quarters = train_locally(with_overrides(config, {"train.accumulate": 4}), tmp_path / "quarters")
    rotation = [losses(run)[0]["discriminator/rotation"] for run in (whole, quarters)]
    assert rotation[1] == pytest.approx(rotation[0], rel=1e-5)
    one, four = (run.states[0].parts()["optimizer"] for run in (whole, quarters))
    squares = [name for name in one if name.startswith("discriminator.") and name.endswith(".exp_avg_sq")]
    assert any(one[name].max() > 0 for name in squares)
    for name in squares:  # of the gradients: those of all four quarters, not of the last
        torch.testing.assert_close(four[name], one[name], rtol=1e-3, atol=1e-9)


def test_best_last_and_previous_checkpoints_are_kept(tiny_config: Config, tmp_path: Path, train_locally: Train) -> None:
    every = {
        "train.save_every_images": 32,
        "train.validate_every_images": 32,
        "validation.metric": "word_cross_entropy",
    }
    run = train_locally(with_overrides(tiny_config, every), tmp_path / "run")
    names = sorted(p.name for p in run.folder.checkpoints.glob("images-*"))
    # the stand-in metric grows, so the first validation is the best
    assert names == ["images-000000000032", "images-000000000128", "images-000000000160"]
    best, last = (find_checkpoint(run.folder.checkpoints, which) for which in ("best", "last"))
    assert best is not None
    assert best.images == 32
    assert last is not None
    assert last.images == 160


def test_best_by_other_settings_of_validation_is_measured_anew(
    tiny_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    settings = {"validation.metric": "word_cross_entropy", "train.validate_every_images": 32}
    config = with_overrides(tiny_config, settings)
    run = train_locally(with_overrides(config, {"train.images": 64}), tmp_path / "run")
    train_locally(with_overrides(config, {"train.images": 96}), tmp_path / "run")
    best = find_checkpoint(run.folder.checkpoints, "best")
    assert best is not None
    assert (best.images, best.state["best"]) == (32, 32.0), "the stand-in metric grows"
    train_locally(with_overrides(config, {"validation.images": 16}), tmp_path / "run")
    best = find_checkpoint(run.folder.checkpoints, "best")
    assert best is not None
    assert (best.images, best.state["best"]) == (128, 128.0), "the first that is measured on other images"
    told = train.run(with_overrides(config, {"validation.metric": "fid", "train.run": tmp_path / "run"}))
    assert told.nothing_to_do
    assert told.figures["best"] == {"metric": "word_cross_entropy", "value": 128.0}


def test_best_that_is_also_the_last_is_written_once_with_its_own_figures_only(
    tiny_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    settings = {"validation.metric": "word_cross_entropy", "train.validate_every_images": 64, "train.images": 128}
    run = train_locally(with_overrides(tiny_config, settings | {"train.save_every_images": 32}), tmp_path / "run")
    folder = run.folder.checkpoints
    validated, unvalidated = (read_checkpoint(folder / f"images-{images:012d}").state for images in (64, 96))
    assert (validated["validation"], unvalidated["validation"]) == ({"word_cross_entropy": 64.0}, {})
    state, order = run.states[0], DataOrder((96,), 96, 0)
    state.iteration, state.best = 5, None  # 160 images
    reporter = RunReporter(run.folder, state, order, lambda *_: None, lambda model: {"word_cross_entropy": 0.5})
    reporter.validate()
    best = find_checkpoint(folder, "best")
    assert best is not None
    written = best.path.stat().st_ino
    reporter.save()
    last = find_checkpoint(folder, "last")
    assert last is not None
    assert (last.images, last.path.stat().st_ino) == (160, written)


def test_tensorboard_has_the_lines_of_a_resumed_run_once_each(
    tiny_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    """Those at the checkpoint itself included; those after it, of work that is redone, are hidden."""
    config = with_overrides(tiny_config, {"train.validate_every_images": 64, "train.images": 128})
    train_locally(config, tmp_path / "run", killed_after=64)
    RunFolder(tmp_path / "run").append_metrics({"images": 96, "generator/total": 0.0})
    run = train_locally(config, tmp_path / "run")
    shown = EventAccumulator(str(run.folder.tensorboard)).Reload()
    for name in ("generator/total", "validation/word_cross_entropy"):
        steps = [line["images"] for line in run.folder.metrics() if name in line]
        assert [event.step for event in shown.Scalars(name)] == steps, name
        assert 64 in steps


def test_damaged_last_checkpoint_is_reported_and_falls_back_once_deleted(
    tiny_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    run = train_locally(with_overrides(tiny_config, {"train.images": 128}), tmp_path / "run")
    last = find_checkpoint(run.folder.checkpoints, "last")
    assert last is not None
    networks = last.path / "networks.safetensors"
    networks.write_bytes(networks.read_bytes()[: networks.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        train_locally(tiny_config, tmp_path / "run")
    shutil.rmtree(last.path)
    (run.folder.checkpoints / "last.json").unlink()
    (run.folder.checkpoints / "best.json").unlink(missing_ok=True)
    resumed = train_locally(tiny_config, tmp_path / "run")
    assert [line["images"] for line in resumed.folder.metrics() if "images_per_s" in line] == [32, 64, 96, 128, 160]


def test_another_config_leaves_the_run_untouched(tiny_config: Config, tmp_path: Path, train_locally: Train) -> None:
    train_locally(with_overrides(tiny_config, {"train.images": 32}), tmp_path / "run")
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*"))
    with pytest.raises(RunFolderError, match=r"loss\.alpha: 0\.2 there, 0\.7 now"):
        train_locally(with_overrides(tiny_config, {"loss.alpha": 0.7}), tmp_path / "run")
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*")) == before


def test_full_disk_is_reported_and_the_run_resumes_once_space_is_freed(
    tiny_config: Config, tmp_path: Path, train_locally: Train, small_disk: Callable[[int], Path]
) -> None:
    config = with_overrides(tiny_config, {"train.sample_every_images": 10**6, "train.images": 128})
    whole = train_locally(config, tmp_path / "whole")
    size_kb = sum(p.stat().st_size for p in (tmp_path / "whole" / "checkpoints").rglob("*")) // 1024
    with pytest.raises(StorageError, match="disk or quota is full"):  # there is room for one of two checkpoints
        train_locally(config, small_disk(size_kb * 3 // 4) / "run")
    first = find_checkpoint(tmp_path / "disk" / "run" / "checkpoints", "last")
    assert first is not None
    assert first.images == 64
    resumed = train_locally(config, small_disk(size_kb * 4) / "run")
    assert losses(resumed) == losses(whole)


def test_shards_with_another_vocabulary_are_refused_and_the_run_is_unharmed(
    tiny_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    assert tiny_config.data.shards is not None
    shards = shutil.copytree(tiny_config.data.shards, tmp_path / "shards")
    config = with_overrides(tiny_config, {"data.shards": shards, "train.images": 64})
    run = train_locally(config, tmp_path / "run")
    before = losses(run)
    Vocabulary((*Vocabulary.load(shards / "vocabulary.json").tokens, "another")).save(shards / "vocabulary.json")
    with pytest.raises(CheckpointError, match="another vocabulary"):
        train_locally(with_overrides(config, {"train.images": 128}), tmp_path / "run")
    assert losses(run) == before


def test_non_finite_losses_stop_the_run_and_are_never_saved(
    tiny_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    sound = train_locally(with_overrides(tiny_config, {"train.images": 64}), tmp_path / "sound")
    # a weight beyond float32 makes the first losses infinite, just when a checkpoint is due
    config = with_overrides(tiny_config, {"loss.teacher_forcing": 1e39, "train.save_every_images": 32})
    run = RunFolder.create_or_resume(tmp_path / "run", "train", config)
    shutil.copytree(sound.folder.checkpoints, run.checkpoints, dirs_exist_ok=True)
    with pytest.raises(DivergenceError, match="not finite"):
        train_locally(config, tmp_path / "run")
    last = find_checkpoint(run.checkpoints, "last")
    assert last is not None
    assert last.images == 64
    assert all(bool(t.isfinite().all()) for t in last.tensors("networks").values())


def test_checkpoint_can_be_requested_out_of_schedule(tiny_config: Config, tmp_path: Path, train_locally: Train) -> None:
    """As a job does when its time is nearly over: a checkpoint follows the next log line."""
    config = with_overrides(tiny_config, {"train.save_every_images": 10**6, "train.validate_every_images": 10**6})
    whole = train_locally(config, tmp_path / "whole")
    folder = RunFolder.create_or_resume(tmp_path / "asked", "train", config)
    folder.request_save()
    train_locally(config, tmp_path / "asked", killed_after=32)
    saved = find_checkpoint(folder.checkpoints, "last")
    assert saved is not None
    assert saved.images == 32
    assert not folder.save_is_requested
    assert losses(train_locally(config, tmp_path / "asked")) == losses(whole)

"""What a job does when its time is nearly over, without SLURM."""

import time
from pathlib import Path

from emixer.background import repeated
from emixer.config import Config
from emixer.run_folder import RunFolder
from jobs.task import StageTask


def test_only_training_trials_are_asked_for_a_checkpoint_and_awaited(tmp_path: Path) -> None:
    over, training = (RunFolder.create_or_resume(tmp_path / "trials" / f"{n:04d}", "train", Config()) for n in (0, 1))
    with over.alone("train"):
        pass
    answered: list[bool] = []

    def answer() -> None:
        if training.save_is_requested:
            answered.append(True)
            training.answer_save_request()

    task = StageTask("emixer.stages.tune", {"slurm": {"warn_s": 120}}, str(tmp_path), str(tmp_path / "cluster"))
    started = time.monotonic()
    with training.alone("train"), repeated(answer, 0.05):
        task._save("1", wait_s=60)
    assert answered
    assert not over.save_is_requested
    assert time.monotonic() - started < 30

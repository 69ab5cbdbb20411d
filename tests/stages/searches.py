"""A short search on the tiny shards, and its study as opened without emixer; for the tests of `emixer tune`."""

from pathlib import Path
from typing import Any

import optuna

from emixer.config import Config, with_overrides

SHORT = {
    "tune.budget_images": 96, "tune.num_samples": 3, "tune.pruner": "none", "train.validate_every_images": 32,
    "train.sample_every_images": 10**6, "train.log_every_images": 32, "train.save_every_images": 32,
    "tune.metrics": ["word_cross_entropy"], "tune.startup_trials": 2,
    "tune.space": ["optim.lr_generator log 1e-4 1e-2", "loss.alpha float 0 1"],
}  # fmt: skip


def search(config: Config, folder: Path, **changed: Any) -> Config:
    settings = {key.replace("__", "."): value for key, value in changed.items()}
    return with_overrides(config, SHORT | {"tune.study": folder} | settings)


def opened(folder: Path) -> optuna.Study:
    """Open the study with Optuna alone, without emixer."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "study.journal")))
    return optuna.load_study(study_name="emixer", storage=storage)

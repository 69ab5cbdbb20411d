"""`emixer study report`: scores and key -> tables, a plot and comments."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emixer import files
from emixer.config import Config
from emixer.errors import ConfigError, RunFolderError
from emixer.reader_study.folder import StudyFolder, write_private
from emixer.reader_study.plot import plot
from emixer.reader_study.ratings import Ratings, read_ratings
from emixer.reader_study.report import Report, in_percent, in_words
from emixer.reader_study.statistics import summarize
from emixer.reader_study.store import Store
from emixer.stages.result import StageResult

_FOLDER, _NAME = "report", "study"


@dataclass(frozen=True)
class StudyReport(StageResult):
    """A written report."""

    out: Path
    report: Report

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"report": self.out / f"{_NAME}.md", "ratings": self.out / "ratings.csv"}

    @property
    def figures(self) -> Mapping[str, Any]:
        return {"progress": self.report.progress(), "measured": self.report.figures}

    def __str__(self) -> str:
        figures = self.report.figures
        lines = [self.report.progress()]
        named = {
            "real pairs": in_words(figures.get("pair/real")),
            "synthetic pairs": in_words(figures.get("pair/synthetic")),
            "real minus synthetic": in_words(figures.get("pair/difference"), "+"),
            "weighted kappa between readers": in_words(figures.get("pair/kappa between")),
            "correct guesses": in_percent(figures.get("right/all")),
        }  # fmt: skip
        lines += [f"  {name:<32}{words}" for name, words in named.items()]
        lines.append(f"Written: {self.out / f'{_NAME}.md'}, .csv, .tex, .png; {self.out / 'ratings.csv'}")
        lines.append("They reveal which pairs are real: do not show them to readers who are still scoring.")
        return "\n".join(lines)


def run(config: Config) -> StudyReport:
    """Write study.md, .csv, .tex, .png and ratings.csv. Readers may continue meanwhile.

    Raises RunFolderError when the study, its scores or its key are missing or do not belong together.
    """
    study, ratings, out = _read(config)
    if not ratings.pairs:
        raise RunFolderError(
            f"There are no scores in {study.path} yet. Send the readers their links from links.csv, which `emixer "
            f"study serve --study {study.path}` writes."
        )
    report = Report(study.facts, ratings, summarize(ratings, config.study.resamples))
    # with the key of single pairs, in ratings and comments
    write_private(out / f"{_NAME}.md", report.markdown())
    write_private(out / "ratings.csv", report.ratings_csv())
    files.write_text(out / f"{_NAME}.csv", report.csv())
    files.write_text(out / f"{_NAME}.tex", report.latex())
    files.write_bytes(out / f"{_NAME}.png", plot(report))
    return StudyReport(out, report)


def describe(config: Config) -> str:
    """Describe what `run` would do. Writes nothing."""
    study, ratings, out = _read(config)
    scored = sum(done for done, _ in ratings.progress.values())
    return f"Would read {scored:,} scores of {len(ratings.readers)} readers from {study.path} and write to {out}."


def _read(config: Config) -> tuple[StudyFolder, Ratings, Path]:
    settings = config.study
    if settings.folder is None:
        raise ConfigError("study.folder is not set. Give --study FOLDER.")
    study = StudyFolder.open(settings.folder)
    with Store.open(study.scores, study.facts.study_id, read_only=True) as store:
        ratings = read_ratings(store.showings(), study.key(settings.key))
    return study, ratings, settings.out or study.path / _FOLDER

"""The stages and commands of a reader study: what is drawn, written and reported, and bad input."""

import csv
import io
import json
import shutil
import sqlite3
import stat
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from emixer.cli.study import command
from emixer.config import Config
from emixer.data.text import detokenize
from emixer.errors import EmixerError, StorageError
from emixer.files import alone_at, alone_in
from emixer.reader_study.folder import StudyFolder
from emixer.reader_study.rating import Rating
from emixer.reader_study.store import Store
from emixer.stages.study import make as study_make
from emixer.stages.study import report as study_report
from emixer.stages.study import serve as study_serve
from emixer.stages.study.plan import StudyPlan
from tests.answers import answer_of
from tests.closed import closed, open_folder
from tests.reader_study.conftest import MakeDataset

MakeConfig = Callable[..., Config]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def score_all(study: StudyFolder, up_to: int = 10**6) -> None:
    """Let every reader score real pairs higher, guess right, and repeat the scores of a pair shown twice."""
    key = study.key()
    with Store.open(study.scores, study.facts.study_id) as store:
        with closing(sqlite3.connect(study.scores)) as database:
            places = database.execute("SELECT place, item, reader FROM places WHERE position < ?", (up_to,)).fetchall()
        for place, item, reader in places:
            entry = key[item]
            score = (8 if entry.kind == "real" else 5) + (entry.row + reader) % 2
            words = {"image": score, "report": score, "agreement": score, "guess": entry.kind}
            comment = "Rib | missing" if entry.stratum == "Edema" else ""
            store.save(place, Rating.model_validate(words | {"comment": comment}), 0, f"request-{place}")


def test_study_holds_each_drawn_pair_once_and_complete(
    study_config: MakeConfig, tiny_shards: Path, generated: Path, tmp_path: Path
) -> None:
    made = study_make.run(study_config(tmp_path / "study", repeats=3, readers=2))
    assert answer_of(made)["figures"]["strata"] == made.facts.strata
    study = StudyFolder.open(made.folder)
    key, reports = study.key(), study.reports()
    assert set(reports) == set(key) == {path.stem for path in (made.folder / "images").iterdir()}
    real_rows = pq.read_table(tiny_shards / "validate-00000.parquet")
    made_rows = pq.read_table(generated / "data")
    assert Counter(entry.kind for entry in key.values()) == {"real": 6, "synthetic": 6}
    assert len({(entry.kind, entry.row) for entry in key.values()}) == 12
    for kind in ("real", "synthetic"):
        drawn = Counter(entry.stratum for entry in key.values() if entry.kind == kind)
        assert drawn == made.facts.strata
    for item, entry in key.items():
        assert entry.stratum in (*entry.labels, "no label")
        image = np.asarray(Image.open(study.image(item)))
        if entry.kind == "real":
            assert image.tobytes() == real_rows["image"][entry.row].as_py()
            assert reports[item] == detokenize(real_rows["sentences"][entry.row].as_py())
        else:
            encoded = made_rows["image"][entry.row].as_py()["bytes"]
            np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(encoded))))
            assert reports[item] == made_rows["report"][entry.row].as_py()
    assert all("validate-" not in path.read_text() for path in made.folder.glob("*.json"))  # ids of the shards


def test_files_that_reveal_the_real_pairs_are_readable_by_the_owner_only(
    study_config: MakeConfig, tmp_path: Path
) -> None:
    folder = study_make.run(study_config(tmp_path / "study", readers=3)).folder
    for name in ("key.json", "readers.csv"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    tokens = [line.partition(",")[2] for line in (folder / "readers.csv").read_text().splitlines()[1:]]
    assert len(set(tokens)) == 3
    database = (folder / "scores.sqlite").read_bytes()
    assert not any(token.encode() in database for token in tokens)
    assert b"synthetic')" in database  # from the schema
    assert database.count(b"synthetic") == 1
    names = list(json.loads((folder / "items.json").read_text()))
    assert names == sorted(names)  # random names: not in the order of drawing


def test_same_seed_draws_the_same_pairs_under_other_names(study_config: MakeConfig, tmp_path: Path) -> None:
    def drawn(name: str, seed: int) -> tuple[set[tuple[str, int]], set[str]]:
        key = StudyFolder.open(study_make.run(study_config(tmp_path / name, seed=seed)).folder).key()
        return {(entry.kind, entry.row) for entry in key.values()}, set(key)

    (one, names), (again, others), (other, _) = drawn("a", 1), drawn("b", 1), drawn("c", 2)
    assert one == again != other
    assert not names & others


def test_orders_cannot_be_computed_from_what_is_not_secret(study_config: MakeConfig, tmp_path: Path) -> None:
    """The seed is in study.json, and the rule that makes orders of one is public."""

    def pairs_in_order(name: str) -> list[tuple[str, int]]:
        folder = study_make.run(study_config(tmp_path / name, seed=1)).folder
        key = StudyFolder.open(folder).key()
        with closing(sqlite3.connect(folder / "scores.sqlite")) as database:
            query = "SELECT item FROM places ORDER BY reader, position"
            return [(key[item].kind, key[item].row) for (item,) in database.execute(query)]

    assert pairs_in_order("a") != pairs_in_order("b")


def test_real_images_get_the_artefacts_of_a_jpeg_dataset(
    study_config: MakeConfig, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    lossy = make_dataset(tmp_path / "lossy", image_format="jpeg")
    study = StudyFolder.open(study_make.run(study_config(tmp_path / "study", dataset=lossy)).folder)
    plain = StudyFolder.open(study_make.run(study_config(tmp_path / "plain")).folder)
    rows = {entry.row: plain.image(item).read_bytes() for item, entry in plain.key().items() if entry.kind == "real"}
    for item, entry in study.key().items():
        if entry.kind == "real":
            assert study.image(item).read_bytes() != rows[entry.row]
            assert len(study.image(item).read_bytes()) == len(rows[entry.row])


def test_report_has_scores_agreement_guesses_labels_and_comments(study_config: MakeConfig, tmp_path: Path) -> None:
    study = StudyFolder.open(study_make.run(study_config(tmp_path / "study", readers=2, repeats=6)).folder)
    score_all(study)
    done = call("report", "--study", study.path, "--resamples", "100")
    assert done.exit_code == 0, done.output
    assert "Finished: 2 readers have scored all their pairs." in done.output
    page = (study.path / "report" / "study.md").read_text()
    assert "| 7.825 ± 1.17 |" in page
    assert "| 0.832 |" in page
    assert "| Real pairs | 100 % [100, 100] | 12 |" in page
    assert "Rib \\| missing" in page
    with (study.path / "report" / "study.csv").open() as file:
        figures = {row["figure"]: row for row in csv.DictReader(file)}
    with (study.path / "report" / "ratings.csv").open() as file:
        ratings = list(csv.DictReader(file))
    assert len(ratings) == 2 * (12 + 6)
    for kind in ("real", "synthetic"):
        scores = [int(row["image"]) for row in ratings if row["kind"] == kind and row["showing"] == "1"]
        assert float(figures[f"pair/{kind}"]["value"]) == pytest.approx(np.mean(scores), rel=1e-5)
        assert float(figures[f"pair/{kind}"]["sd"]) == pytest.approx(np.std(scores, ddof=1), rel=1e-5)
    # the second showing is scored as the first
    assert float(figures["image/kappa within"]["value"]) == pytest.approx(1.0)
    latex = (study.path / "report" / "study.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 4
    assert r"7.825 $\pm$ 1.17" in latex
    with Image.open(study.path / "report" / "study.png") as plot:
        assert plot.width > 1000


def test_report_of_unfinished_readers_says_what_is_missing(study_config: MakeConfig, tmp_path: Path) -> None:
    study = StudyFolder.open(study_make.run(study_config(tmp_path / "study", readers=2)).folder)
    with pytest.raises(EmixerError, match="There are no scores in"):
        study_report.run(study_config(study.path))
    score_all(study, up_to=5)
    with Store.open(study.scores, study.facts.study_id):  # as a server has it
        done = call("report", "--study", study.path, "--resamples", "20", "--out", tmp_path / "out")
    assert "Not finished: 10 of 28 scores are in. Missing: reader-1 9 of 14, reader-2 9 of 14." in done.output
    assert (tmp_path / "out" / "study.md").exists()


def test_key_may_be_kept_elsewhere_but_must_be_of_the_study(study_config: MakeConfig, tmp_path: Path) -> None:
    study = StudyFolder.open(study_make.run(study_config(tmp_path / "study", readers=1)).folder)
    other = study_make.run(study_config(tmp_path / "other", readers=1)).folder
    score_all(study)
    away = tmp_path / "safe" / "key.json"
    away.parent.mkdir()
    (study.path / "key.json").rename(away)
    assert "There is no key" in call("report", "--study", study.path).output
    assert "is the key of study" in call("report", "--study", study.path, "--key", other / "key.json").output
    assert call("report", "--study", study.path, "--key", away, "--resamples", "20").exit_code == 0


def test_dry_run_says_what_would_be_drawn_and_writes_nothing(
    study_config: MakeConfig, tiny_shards: Path, generated: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    done = call("make", "--study", folder, "--shards", tiny_shards, "--dataset", generated, "--split", "validate",
                "--pairs", "6", "--repeats", "2", "--dry-run")  # fmt: skip
    assert "6 of 25 real pairs in the validate split" in done.output
    assert "6 of 96 generated pairs" in done.output
    assert not folder.exists()
    study_make.run(study_config(folder))
    assert "0 scores are in" in study_serve.describe(study_config(folder))


def test_study_made_meanwhile_by_another_process_is_not_replaced(
    study_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[study_make.MadeStudy] = []
    plan = study_make.study_plan

    def plan_and_be_overtaken(config: Config) -> StudyPlan:
        found = plan(config)
        monkeypatch.setattr(study_make, "study_plan", plan)
        made.append(study_make.run(config))
        return found

    monkeypatch.setattr(study_make, "study_plan", plan_and_be_overtaken)
    with pytest.raises(EmixerError, match="holds a study already"):
        study_make.run(study_config(tmp_path / "study"))
    assert StudyFolder.open(made[0].folder).facts == made[0].facts
    with alone_at(tmp_path / "other", "study make"), pytest.raises(EmixerError, match="Another `emixer study make`"):
        study_make.run(study_config(tmp_path / "other"))
    assert [path.name for path in tmp_path.iterdir()] == ["study"], "no lock is left either"


def test_what_a_report_tells_of_single_pairs_is_readable_by_the_owner_only(
    study_config: MakeConfig, tmp_path: Path
) -> None:
    study = StudyFolder.open(study_make.run(study_config(tmp_path / "study", readers=1)).folder)
    score_all(study)
    out = study_report.run(study_config(study.path, resamples=20)).out
    for path in (out / "study.md", out / "ratings.csv", study.scores):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def _saved_by_a_spreadsheet(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("utf-8-sig")


def _separated_by_semicolons(text: str) -> bytes:
    return text.replace(",", ";").encode()


def _of_another_encoding(text: str) -> bytes:
    return text.encode("utf-16")


def _without_a_token(text: str) -> bytes:
    return f"{text}reader-9\n".encode()


def test_links_are_written_from_what_a_spreadsheet_saved(study_config: MakeConfig, tmp_path: Path) -> None:
    study = StudyFolder.open(study_make.run(study_config(tmp_path / "study", readers=2)).folder)
    readers, address = study.path / "readers.csv", "http://a/"
    text = readers.read_text()
    expected = text.replace("token", "link").replace(",", ",http://a/#").replace("http://a/#link", "link")
    for content in (text.encode(), _saved_by_a_spreadsheet(text)):
        readers.write_bytes(content)
        links = study_serve._write_links(study, address)
        assert links is not None
        assert links.read_text() == expected


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        (_separated_by_semicolons, "readers.csv has no column reader and no column token"),
        (_of_another_encoding, "readers.csv cannot be read as CSV in UTF-8"),
        (_without_a_token, "readers.csv has no token of reader-9"),
    ],
)
def test_readers_that_cannot_be_read_are_not_served(
    saved: Callable[[str], bytes], expected: str, study_config: MakeConfig, tmp_path: Path
) -> None:
    folder = study_make.run(study_config(tmp_path / "study", readers=2)).folder
    (folder / "readers.csv").write_bytes(saved((folder / "readers.csv").read_text()))
    with pytest.raises(EmixerError, match=f"{expected}.* Put back what `emixer study make` wrote"):
        study_serve._write_links(StudyFolder.open(folder), "http://a/")


Break = Callable[[Path, dict[str, Any], MakeDataset], None]


def _other_size(tmp_path: Path, keys: dict[str, Any], make_dataset: MakeDataset) -> None:
    keys["dataset"] = make_dataset(tmp_path / "small", side_px=16)


def _other_labels(tmp_path: Path, keys: dict[str, Any], make_dataset: MakeDataset) -> None:
    keys["dataset"] = make_dataset(tmp_path / "other", names=("Edema", "Hernia", "Mass"))


def _is_there(tmp_path: Path, keys: dict[str, Any], make_dataset: MakeDataset) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.tex").touch()


def _is_a_study(tmp_path: Path, keys: dict[str, Any], make_dataset: MakeDataset) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.json").write_text("{}")


@pytest.mark.parametrize(
    ("breaks", "keys", "expected"),
    [
        (_other_size, {}, "images of 16 px, the shards .* of 32 px: readers could tell them apart"),
        (_other_labels, {}, r"do not match those of the shards .* \(extra: Hernia, Mass\)"),
        (_is_there, {}, "exists and is not a study"),
        (_is_a_study, {}, "holds a study already"),
        (None, {"labels": ("Edma",)}, "study.labels: unknown label Edma. Choose from: Atelectasis, "),
        (
            None,
            {"labels": ("Edema", "Fracture"), "pairs": 40},
            r"needs 20 real and 20 generated: Edema \(\d+ real, \d+ gen",
        ),
        (None, {"labels": ("Edema", "Fracture"), "pairs": 1}, "study.pairs=1 is less than the 2 labels"),
        (None, {"pairs": 90}, "Too few pairs for study.pairs=90"),
        (None, {"dataset": Path("absent")}, "is not a finished dataset"),
        (None, {"shards": Path("absent")}, "There is no folder"),
    ],
)
def test_inputs_that_cannot_be_drawn_from_are_one_paragraph(
    breaks: Break | None, keys: dict[str, Any], expected: str, study_config: MakeConfig, make_dataset: MakeDataset,
    tmp_path: Path,
) -> None:  # fmt: skip
    keys = dict(keys)
    if breaks is not None:
        breaks(tmp_path, keys, make_dataset)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(EmixerError, match=expected) as told:
        study_make.run(study_config(tmp_path / "study", **keys))
    assert "\n" not in str(told.value)
    assert sorted(tmp_path.rglob("*")) == before


def _no_study(folder: Path, other: Path) -> None:
    (folder / "study.json").unlink()


def _study_of_another_version(folder: Path, other: Path) -> None:
    (folder / "study.json").write_text(
        (folder / "study.json").read_text().replace('"study_version": 1', '"study_version": 9')
    )


def _database_of_another_study(folder: Path, other: Path) -> None:
    shutil.copy(other / "scores.sqlite", folder / "scores.sqlite")


def _database_of_another_version(folder: Path, other: Path) -> None:
    with closing(sqlite3.connect(folder / "scores.sqlite")) as database:
        database.execute("PRAGMA user_version = 7")


def _database_of_another_program(folder: Path, other: Path) -> None:
    (folder / "scores.sqlite").unlink()
    with closing(sqlite3.connect(folder / "scores.sqlite")) as database:
        database.execute("CREATE TABLE cookies (name)")


def _damaged_database(folder: Path, other: Path) -> None:
    (folder / "scores.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)


def _no_database(folder: Path, other: Path) -> None:
    (folder / "scores.sqlite").unlink()


def _damaged_items(folder: Path, other: Path) -> None:
    (folder / "items.json").write_text("{")


@pytest.mark.parametrize(
    ("breaks", "expected"),
    [
        (_no_study, "is no reader study"),
        (_study_of_another_version, "is a study of version 9, this emixer reads version 1"),
        (_database_of_another_study, "holds the scores of study .*, but this folder is study"),
        (_database_of_another_version, "has schema version 7, this emixer reads version 1"),
        (_database_of_another_program, "is a database of another program"),
        (_damaged_database, "cannot be read as a database of scores"),
        (_no_database, "There is no database"),
        (_damaged_items, r"items.json cannot be read"),
    ],
)
def test_incomplete_study_folder_is_not_served(
    breaks: Callable[[Path, Path], None], expected: str, study_config: MakeConfig, tmp_path: Path
) -> None:
    folder, other = (study_make.run(study_config(tmp_path / name, readers=1)).folder for name in ("study", "other"))
    breaks(folder, other)
    with pytest.raises(EmixerError, match=expected):
        study_serve.run(study_config(folder, port=0))


def test_somebody_elses_scores_are_not_called_damaged() -> None:
    with open_folder() as folder:
        Store.create(folder / "scores.sqlite", "a-study", [])
        for path in (folder / "scores.sqlite", folder):
            with closed(path), pytest.raises(StorageError, match=f"No permission to read {path}"):  # noqa: SIM117
                with Store.open(folder / "scores.sqlite", "a-study", read_only=True):
                    pass


def test_study_is_served_by_one_server_at_a_time(study_config: MakeConfig, tmp_path: Path) -> None:
    folder = study_make.run(study_config(tmp_path / "study", readers=1)).folder
    with alone_in(folder, "study serve"), pytest.raises(EmixerError, match="Another `emixer study serve`"):
        study_serve.run(study_config(folder, port=0))


@pytest.mark.parametrize("url", ["study.example.org", "https://a/?x", "https://a/#x"])
def test_address_for_readers_must_be_complete(url: str, tmp_path: Path) -> None:
    done = call("serve", "--study", tmp_path, "--url", url, "--print-config")
    assert "url must start with https:// or http:// and contain neither ? nor #" in done.output

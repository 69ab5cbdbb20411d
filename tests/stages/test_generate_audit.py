"""`emixer generate --audit` on a run some of whose draws were planted among its training images and reports."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from emixer.audit.screen import REASONS
from emixer.checkpoint import SAMPLER
from emixer.cli.generate import command
from emixer.config import Config, load_config, with_overrides
from emixer.data.labels import CHEXPERT
from emixer.data.pair_table import decode_image
from emixer.data.text import tokenize
from emixer.data.vocabulary import Vocabulary
from emixer.errors import ConfigError, ShardError, UnfinishedError
from emixer.generation.dataset import write_dataset
from emixer.generation.dataset_folder import DatasetFolder
from emixer.generation.plan import make_plan
from emixer.generation.published_model import WEIGHTS, published_config, write_description
from emixer.generation.sampler import Pairs, Sampler, load
from emixer.generation.screening import Judge, Screen
from emixer.generation.trained_model import read_trained_model
from emixer.stages import audit, gallery, generate
from emixer.stages.generate import GenerateResult, describe, run
from emixer.stages.generate.screen import check_screen, make_screen
from tests.audit_data import write_shards
from tests.here import drawing_here

NUM, BATCH, SEED = 150, 16, 4
NUM_TRAIN, NUM_HELD_OUT = 100, 300
COPIES, MIRRORED, TOLD = (3, 40, 41, 149), (70, 100), (13, 96)
PLANTED = sorted({*COPIES, *MIRRORED, *TOLD})
Make = Callable[..., Config]


@pytest.fixture(scope="module")
def sampler(tiny_run: Path) -> Sampler:
    return load(tiny_run, device="cpu", batch_size=BATCH)


@pytest.fixture(scope="module")
def drawn(sampler: Sampler) -> Pairs:
    """The first draw of each row."""
    return sampler.sample(num=NUM, seed=SEED)


def labels_of(sampler: Sampler) -> list[tuple[int, ...]]:
    """The labels of the images that the run was trained on."""
    spec = sampler.trained.spec
    return [vector for vector, count in zip(spec.label_vectors, spec.label_counts, strict=True) for _ in range(count)]


@pytest.fixture(scope="module")
def shards(sampler: Sampler, drawn: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards whose real images are draws with other seeds, so that training differs from held-out only by what is
    planted."""
    train, held_out = sampler.sample(num=NUM_TRAIN, seed=100), sampler.sample(num=NUM_HELD_OUT, seed=101)
    for place, row in enumerate(COPIES + MIRRORED):
        train.images[place] = drawn.images[row] if row in COPIES else drawn.images[row][:, ::-1]
    for place, row in enumerate(TOLD, start=50):
        train.reports[place] = drawn.reports[row]
    sides = {"train": train, "validate": held_out}
    folder = write_shards(
        tmp_path_factory.mktemp("screened") / "shards",
        {split: (pairs.images, [tokenize(text) for text in pairs.reports]) for split, pairs in sides.items()},
        labels={"train": labels_of(sampler)},
    )
    Vocabulary(sampler.trained.spec.tokens).save(folder / "vocabulary.json")
    return folder


@pytest.fixture(scope="module")
def make_config(tiny_run: Path, shards: Path) -> Make:
    def make(out: Path, **settings: Any) -> Config:
        values = {
            "run": tiny_run, "out": out, "num": NUM, "seed": SEED, "batch_size": BATCH, "rows_per_group": 32,
            "rows_per_file": 64, "audit": shards, "num_samplers": 1, **settings,
        }  # fmt: skip
        shared = {"audit.measured": shards.parent / "measured", "audit.resamples": 20}
        return load_config(extra={f"generate.{name}": value for name, value in values.items()} | shared)

    return make


@pytest.fixture(scope="module")
def made(make_config: Make, shards: Path, ray_cluster: None) -> GenerateResult:
    """The dataset made by two samplers."""
    return run(make_config(shards.parent / "dataset", num_samplers=2))


@pytest.fixture(scope="module")
def judge(made: GenerateResult, make_config: Make, shards: Path, sampler: Sampler) -> Judge:
    """What `made` was screened by."""
    config = make_config(shards.parent / "unused")
    plan = check_screen(config, sampler.trained)
    assert plan is not None
    assert not [remark for remark in plan.remarks if "report" in remark]
    return make_screen(config, plan).open("cpu")


@dataclass(frozen=True)
class Stored:
    """A dataset as written."""

    table: pa.Table

    @classmethod
    def read(cls, folder: Path) -> "Stored":
        return cls(pa.concat_tables([pq.read_table(path) for path in sorted((folder / "data").iterdir())]))

    @property
    def redraws(self) -> list[int]:
        return self.table["redraws"].to_pylist()

    def image(self, row: int) -> np.ndarray:
        decoded = decode_image(self.table["image"][row]["bytes"].as_py())
        assert decoded is not None
        return decoded

    def report(self, row: int) -> str:
        return str(self.table["report"][row].as_py())

    def labels(self) -> np.ndarray:
        return np.stack([self.table[name].to_numpy() for name in CHEXPERT], axis=1)


pytestmark = pytest.mark.ray


def test_planted_copies_are_withheld_and_hardly_anything_else(made: GenerateResult) -> None:
    redraws = Stored.read(made.folder).redraws
    assert all(redraws[row] for row in PLANTED)
    others = [row for row in range(NUM) if redraws[row] and row not in PLANTED]
    assert len(others) / NUM < 0.01


def test_each_row_is_the_first_draw_that_passes_under_its_planned_labels(
    made: GenerateResult, sampler: Sampler, drawn: Pairs
) -> None:
    stored = Stored.read(made.folder)
    plan = make_plan("train", (), sampler.trained.spec, SEED)
    np.testing.assert_array_equal(stored.labels(), plan.labels(0, NUM))
    for row, number in enumerate(stored.redraws):
        expected, report = drawn.images[row], drawn.reports[row]
        if number:
            first = row // 16 * 16
            images, words = sampler.draw_again(plan.labels(first, 16), first, SEED, 0.7, number)
            assert not np.array_equal(images[row - first], expected)
            expected, report = images[row - first], sampler.trained.vocabulary.decode(words)[row - first]
        np.testing.assert_array_equal(stored.image(row), expected)
        assert stored.report(row) == report


def test_a_row_that_is_always_flagged_is_an_error_and_resumed_it_is_the_same_dataset_with_one_sampler(
    made: GenerateResult, make_config: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "dataset"
    with pytest.raises(UnfinishedError, match=r"Row 3 \(.*as first drawn and in each of 0 redraws.*generate\.redraws"):
        run(make_config(out, redraws=0))
    assert not list((out / "data").glob("*.parquet")), "what is flagged stands in no file"
    assert not json.loads((out / "manifest.json").read_text())["complete"]
    with drawing_here():
        with monkeypatch.context() as patch:
            patch.setattr(generate, "write_dataset", dying_in_the_second_file)
            with pytest.raises(_DiedError):
                run(make_config(out))
        assert [path.name for path in (out / "data").glob("*.parquet")] == ["train-00000-of-00003.parquet"]
        again = run(make_config(out))
    assert again.new_rows == NUM - 64, "the first file was finished"
    assert again.audit == made.audit
    for name in ("manifest.json", *(f"data/{path.name}" for path in (made.folder / "data").iterdir())):
        assert (out / name).read_bytes() == (made.folder / name).read_bytes(), name


class _DiedError(Exception):
    """Raised in place of the death of a driver, which tests/generation/test_dataset.py shows."""


def dying_in_the_second_file(
    dataset: DatasetFolder, num_samplers: int, on_rows: Callable[[int], None], screen: Screen | None
) -> None:
    rows = 0

    def written(num: int) -> None:
        nonlocal rows
        rows += num
        if rows > 64:
            raise _DiedError

    write_dataset(dataset, num_samplers, written, screen)


@pytest.fixture(scope="module")
def plain(made: GenerateResult, make_config: Make, shards: Path) -> Path:
    """The same dataset without screening."""
    with drawing_here():
        return run(make_config(shards.parent / "plain", audit=None)).folder


@pytest.fixture(scope="module")
def withheld(made: GenerateResult, plain: Path, shards: Path) -> dict[Path, set[int]]:
    """The rows an audit of the whole dataset would withhold, by dataset."""
    found = {}
    for folder in (plain, made.folder):
        settings = {"data.shards": shards, "audit.dataset": folder, "audit.measured": shards.parent / "measured",
                    "audit.resamples": 20}  # fmt: skip
        result = audit.run(load_config(extra=settings))
        assert result.content["real"]["checked_by"] == "vocabulary and labels", "the dataset says what it was made from"
        found[folder] = {entry["index"] for entry in result.content["withhold"]}
    return found


def test_full_audit_agrees_with_the_rows_redrawn_by_screening(
    made: GenerateResult, plain: Path, withheld: dict[Path, set[int]]
) -> None:
    assert "redraws" not in Stored.read(plain).table.column_names
    assert withheld[plain] == {row for row, number in enumerate(Stored.read(made.folder).redraws) if number}
    assert withheld[made.folder] == set()


def test_the_same_command_adds_digests_of_the_training_data_to_an_older_dataset(
    plain: Path, make_config: Make, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    shutil.copytree(plain, older)
    manifest = json.loads((plain / "manifest.json").read_text())
    (older / "manifest.json").write_text(json.dumps({key: manifest[key] for key in manifest if key != "trained_on"}))
    assert run(make_config(older, audit=None)).new_rows == 0
    assert json.loads((older / "manifest.json").read_text()) == manifest
    assert manifest["trained_on"]["images"] is not None


def test_gallery_links_only_to_the_audit_of_its_own_dataset(
    made: GenerateResult, plain: Path, withheld: dict[Path, set[int]], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    shown = gallery.run(load_config(extra={"gallery.dataset": made.folder, "gallery.out": page, "gallery.pairs": 1}))
    (link,) = re.findall(r'<a href="([^"]*)">Privacy audit of the dataset: ', shown.page.read_text())
    assert (page.parent / unquote(link)).resolve() == made.folder / "audit" / "audit.html"
    assert "No row is to be withheld." in page.read_text()
    shutil.copytree(plain, tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "audit")
    shutil.copytree(made.folder / "audit", tmp_path / "other" / "audit")
    other = gallery.run(load_config(extra={"gallery.dataset": tmp_path / "other", "gallery.pairs": 1}))
    assert "Privacy audit" not in other.page.read_text(), "it is not of these rows"


def test_card_manifest_and_summary_state_thresholds_and_counts(made: GenerateResult) -> None:
    redraws = np.array(Stored.read(made.folder).redraws)
    manifest = json.loads((made.folder / "manifest.json").read_text())
    stated = manifest["audit"]
    assert stated["withheld"] == redraws.sum() >= len(PLANTED)
    assert stated["rows_redrawn"] == (redraws > 0).sum()
    assert stated["rows_by_redraws"] == np.bincount(redraws).tolist()
    assert (stated["train"], stated["held_out"]) == (NUM_TRAIN, NUM_HELD_OUT)
    assert set(stated["thresholds"]) == {"pixels", "features", "report_sequences"}
    assert manifest["settings"]["audit_false_alarm"] == 0.01
    card = (made.folder / "README.md").read_text()
    assert f"{redraws.sum()} pairs were withheld by the audit's measure" in card
    assert "than all but 1.00% of 300 held-out ones are?" in card
    assert (
        "A report with a title and a name (Dr. X), a full date or a number of six digits or more was withheld" in card
    )
    assert "other names were not looked for" in card
    assert "| `redraws` |" in card
    assert f"{redraws.sum()} pairs were withheld by the audit's measure" in str(made)
    assert "secret" not in card + json.dumps(manifest)


def test_each_withheld_draw_is_counted_by_its_reasons(made: GenerateResult, sampler: Sampler, judge: Judge) -> None:
    stored = Stored.read(made.folder)
    told = [text.split("; ") if text else [] for text in stored.table["withheld_for"].to_pylist()]
    assert list(map(len, told)) == stored.redraws
    assert all("image_pixels" in told[row][0] for row in COPIES + MIRRORED)
    assert all("report" in told[row][0].split(" + ") for row in TOLD)
    plan = make_plan("train", (), sampler.trained.spec, SEED)
    counts = dict.fromkeys(REASONS, 0)
    for row, number in enumerate(stored.redraws):
        for draw in range(number):
            first = row // BATCH * BATCH
            again = (sampler.draw_again, (draw,)) if draw else (sampler.draw, ())
            images, words = again[0](plan.labels(first, BATCH), first, SEED, 0.7, *again[1])
            found = judge(images, sampler.trained.vocabulary.decode(words))
            reasons = [reason for reason in REASONS if found[reason][row - first]]
            assert told[row][draw] == " + ".join(reasons)
            for reason in reasons:
                counts[reason] += 1
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["audit"]["withheld_by_reason"] == {reason: num for reason, num in counts.items() if num}
    assert f"image too near by pixels {counts['image_pixels']}, " in (made.folder / "README.md").read_text()
    assert f"report copied {counts['report']}" in str(made)


def test_what_is_planted_in_a_pair_is_the_reason_why_it_would_be_withheld(
    judge: Judge, sampler: Sampler, drawn: Pairs
) -> None:
    clean = sampler.sample(num=BATCH, seed=102)
    planted = ["Seen by Dr. Smith.", "Compared with March 3, 2019.", "Accession 12345678.", drawn.reports[TOLD[0]]]
    images = clean.images.copy()
    images[8] = drawn.images[COPIES[0]]
    found = judge(images, [*planted, *clean.reports[len(planted) :]])
    assert set(found) == set(REASONS)
    for row, reason in enumerate(["names", "dates", "numbers", "report"]):
        assert [name for name in REASONS[2:] if found[name][row]] == [reason]
    assert found["image_pixels"][8]
    assert not found["image_pixels"][:8].any()


def test_names_dates_and_numbers_are_looked_for_without_held_out_reports(
    made: GenerateResult, make_config: Make, sampler: Sampler, shards: Path, tmp_path: Path
) -> None:
    real, held_out = sampler.sample(num=NUM_TRAIN, seed=100), sampler.sample(num=NUM_HELD_OUT, seed=101)
    told = [tokenize(text) for text in real.reports]
    sides = {"train": (real.images, told), "validate": (held_out.images, None)}
    untold = write_shards(tmp_path / "untold", sides, labels={"train": labels_of(sampler)})
    (untold / "vocabulary.json").write_bytes((shards / "vocabulary.json").read_bytes())
    config = make_config(tmp_path / "out", audit=untold)
    plan = check_screen(config, sampler.trained)
    assert plan is not None
    assert plan.remarks[-1].startswith("Reports were searched for names, dates and long numbers, but not for copies")
    assert "0 held-out studies have a report, and 299 are needed" in plan.remarks[-1]
    assert plan.settings(config)["audit_reasons"] == "image_pixels, image_features, names, dates, numbers"
    copied = real.reports[0]
    reports = ["Seen by Dr. Smith.", "Compared with March 3, 2019.", "Accession 12345678.", copied]
    found = make_screen(config, plan).open("cpu")(sampler.sample(num=BATCH, seed=102).images, reports)
    assert ", ".join(found) == plan.settings(config)["audit_reasons"]
    for kind, expected in {"names": [1, 0, 0, 0], "dates": [0, 1, 0, 0], "numbers": [0, 0, 1, 0]}.items():
        assert found[kind].tolist() == list(map(bool, expected))


def test_shards_unsuitable_as_control_are_refused_before_ray_starts(
    make_config: Make, shards: Path, sampler: Sampler, drawn: Pairs, tiny_shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="is not what the model was trained on: its labels or its vocabulary differ"):
        describe(make_config(tmp_path / "out", audit=tiny_shards))
    sides = {"train": (drawn.images[:NUM_TRAIN], None), "test": (drawn.images, None)}
    relabelled = write_shards(tmp_path / "relabelled", sides)
    (relabelled / "vocabulary.json").write_bytes((shards / "vocabulary.json").read_bytes())
    with pytest.raises(ConfigError, match="is not what the model was trained on: its training images have other label"):
        describe(make_config(tmp_path / "out", audit=relabelled))
    few = write_shards(tmp_path / "few", sides, labels={"train": labels_of(sampler)})
    (few / "vocabulary.json").write_bytes((shards / "vocabulary.json").read_bytes())
    with pytest.raises(ShardError, match="has 150 held-out images"):
        run(make_config(tmp_path / "out", audit=few))
    assert not (tmp_path / "out").exists()


def test_measurements_of_real_images_are_kept_in_the_run_or_beside_the_shards(
    tiny_run: Path, make_config: Make, shards: Path, tmp_path: Path
) -> None:
    trained = read_trained_model(tiny_run)
    checkpoint, published = trained.path, tmp_path / "published"
    published.mkdir()
    shutil.copyfile(checkpoint / f"{SAMPLER}.safetensors", published / WEIGHTS)
    facts = {"weights_sha256": trained.digest, "training_data": {}}
    about = published_config(trained.config, trained.spec, trained.images, facts)
    write_description(published, about, trained.vocabulary)
    shutil.copytree(checkpoint, tmp_path / "copies" / "checkpoint")
    for run_folder, kept in (
        (tiny_run, tiny_run / "audit" / "measured"),
        (checkpoint, tiny_run / "audit" / "measured"),
        (published, shards.parent / "shards-measured"),
        (tmp_path / "copies" / "checkpoint", shards.parent / "shards-measured"),
    ):
        config = with_overrides(make_config(tmp_path / "out", run=run_folder), {"audit.measured": None})
        plan = check_screen(config, read_trained_model(run_folder))
        assert plan is not None
        assert plan.measured == kept
        is_run = tiny_run in kept.parents
        assert any("whether they have the same images could not be checked" in each for each in plan.remarks) != is_run
    for inside in (tmp_path / "out" / "measured", published / "measured"):
        with pytest.raises(
            ConfigError, match=r"audit\.measured=.* is inside .*(out|published), which is made to be giv"
        ):
            describe(with_overrides(make_config(tmp_path / "out"), {"audit.measured": inside}))


def test_dry_run_states_the_audit_thresholds(tiny_run: Path, shards: Path, tmp_path: Path) -> None:
    arguments = ["--run", str(tiny_run), "--out", str(tmp_path / "out"), "--audit", str(shards), "--redraws", "3"]
    planned = CliRunner().invoke(command, [*arguments, "--dry-run"])
    assert planned.exit_code == 0, planned.output
    assert "what 1.00% of 300 held-out images" in planned.output
    assert "beside 100 training images; up to 3 redraws of a row" in planned.output

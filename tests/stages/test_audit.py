"""`emixer audit` on datasets whose answer is known: planted copies, and held-out images and reports."""

import json
import math
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from emixer.audit.critic import image_critic
from emixer.audit.spans import SequenceIndex, as_sentences
from emixer.checkpoint import NETWORKS, SAMPLER, read_checkpoint, save_checkpoint
from emixer.cli.audit import command
from emixer.config import Config, load_config
from emixer.config.model import ChestEncoderConfig
from emixer.data.collection import identify
from emixer.data.labels import CHEXPERT
from emixer.data.schema import SPLITS
from emixer.data.shards import ShardSet
from emixer.data.vocabulary import SPECIAL_TOKENS, Vocabulary
from emixer.errors import ConfigError, EmixerError, RunFolderError, ShardError, StorageError
from emixer.evaluation.spread import spread_rows
from emixer.files import sha256_of
from emixer.generation.manifest import begin_manifest
from emixer.generation.published_model import WEIGHTS, published_config, write_description
from emixer.generation.trained_model import read_trained_model
from emixer.generation.training_data import TrainingData
from emixer.model_kinds import build_model
from emixer.models.chest_encoder import ChestEncoder
from emixer.models.emixer import Emixer
from emixer.models.encoder_facts import EncoderFacts
from emixer.models.encoder_weights import save_encoder_weights
from emixer.progress import Progress
from emixer.run_folder import RunFolder
from emixer.stages import audit
from emixer.stages.audit import AuditResult
from emixer.stages.audit.control import find_encoder
from emixer.stages.audit.findings import _batches
from emixer.stages.audit.reports import read_report_control
from emixer.stages.audit.sides import HELD_OUT, TRAIN, RealSide, codes
from emixer.stages.model_spec import spec_of
from tests.answers import answer_of
from tests.audit_data import images, reports, write_dataset, write_shards

NUM_TRAIN, NUM_VALIDATE, NUM_TEST, NUM_GENERATED = 480, 100, 220, 240
KINDS = ("exact", "noisy", "shifted", "mirrored", "window")
EACH = 4
FIRST_REPORT = len(KINDS) * EACH
COPIED_REPORTS = range(FIRST_REPORT, FIRST_REPORT + 6)
DATED = FIRST_REPORT + 6
WITH_RARE_WORDS = DATED + 1
RARE = [["worda0", "worda1", "worda2", "worda3", f"rare{n}", f"wordb{n}"] for n in range(5)]
"""A training report of which every sequence of six words has one that is in no vocabulary."""

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train": NUM_TRAIN, "validate": NUM_VALIDATE, "test": NUM_TEST}
    sides = {split: (images(num, seed), reports(num, seed)) for seed, (split, num) in enumerate(counts.items())}
    sides["train"][1][-1] = RARE
    return write_shards(tmp_path_factory.mktemp("audit") / "shards", sides)


def changed(image: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    """Return a copy (32, 32) as a model or a viewer might make one."""
    gray = image.astype(np.float64)
    match kind:
        case "noisy":
            gray = gray + np.random.default_rng(9).normal(0, 6, gray.shape)
        case "shifted":
            gray = np.pad(gray, 2, mode="edge")[:-4, 3:-1]  # two pixels down, one to the left
        case "mirrored":
            gray = gray[:, ::-1]
        case "window":
            gray = (gray - 30) * 1.6
    return np.clip(gray, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def planted(shards: Path) -> Path:
    """New pairs; the first repeat training images, the next repeat training reports, one contains a date, and one
    repeats a report as a model writes it that lacks some of its words."""
    image, told = images(NUM_GENERATED, seed=10), reports(NUM_GENERATED, seed=10)
    of_train, train_reports = images(NUM_TRAIN, seed=0), reports(NUM_TRAIN, seed=0)
    for row in range(FIRST_REPORT):
        image[row] = changed(of_train[7 * row], KINDS[row // EACH])
    for row in COPIED_REPORTS:
        copy = [list(sentence) for sentence in train_reports[11 * row]]
        copy[1][1], copy[3][7] = "chest", "clear"
        told[row] = copy
    told[DATED] = [[*told[DATED][0], "since", "3/14/2019"]]
    told[WITH_RARE_WORDS] = [["<UNK>" if word.startswith("rare") else word for word in text] for text in RARE]
    image[-1] = image[-2]
    return write_dataset(shards.parent / "planted", image, told)


@pytest.fixture(scope="module")
def found(shards: Path, planted: Path, ray_cluster: None) -> AuditResult:
    return audit.run(config(shards, planted))


def config(shards: Path, dataset: Path | None, **changes: Any) -> Config:
    given = {key.replace("__", "."): value for key, value in changes.items()}
    shared = {"data.shards": shards, "audit.dataset": dataset, "audit.measured": shards.parent / "measured",
              "audit.resamples": 40}  # fmt: skip
    return load_config(extra=shared | given)


def reasons(result: AuditResult) -> dict[int, list[str]]:
    return {entry["index"]: entry["reasons"] for entry in result.content["withhold"]}


@pytest.mark.parametrize("kind", KINDS)
def test_copied_images_are_withheld(found: AuditResult, kind: str) -> None:
    told = reasons(found)
    first = KINDS.index(kind) * EACH
    for row in range(first, first + EACH):
        assert "image_pixels" in told.get(row, []), (kind, row)


def test_reports_copied_with_two_changed_words_are_withheld(found: AuditResult) -> None:
    told = reasons(found)
    assert all("report" in told.get(row, []) for row in COPIED_REPORTS)
    assert "dates" in told[DATED]
    assert "report" in told[WITH_RARE_WORDS]


def test_report_of_a_study_with_two_images_points_to_its_patient(tmp_path: Path) -> None:
    told, held = reports(30, 0), reports(60, 1)
    sides = {"train": (images(60, 0), [each for each in told for _ in range(2)]),
             "test": (images(120, 1), [each for each in held for _ in range(2)])}  # fmt: skip
    shards = ShardSet.open(write_shards(tmp_path / "shards", sides, images_a_study=2))
    train, held_out = (RealSide.of(shards, splits, "", tmp_path) for splits in (TRAIN, HELD_OUT))
    train_codes, _ = codes(train.subjects(), held_out.subjects())
    control = read_report_control(load_config(), train, held_out, train_codes, level=0.02)
    assert len(control.held_out.shared_N) == 60, "the images of a study share one report"
    assert control.judge(as_sentences(told)).copies.all()
    every_image = SequenceIndex.of(
        [(as_sentences(sides["train"][1]), train_codes)], load_config().audit.span_words, train.shards.vocabulary.tokens
    )
    assert (control.index.hash_L == every_image.hash_L).all(), "read once a study, with the same result"
    assert (control.index.owner_L == every_image.owner_L).all()


def test_reports_that_differ_between_the_images_of_a_study_are_all_compared(tmp_path: Path) -> None:
    told = reports(60, 0)
    sides = {"train": (images(60, 0), told), "test": (images(60, 1), reports(60, 1))}
    shards = ShardSet.open(write_shards(tmp_path / "shards", sides, images_a_study=2))
    train, held_out = (RealSide.of(shards, splits, "", tmp_path) for splits in (TRAIN, HELD_OUT))
    train_codes, _ = codes(train.subjects(), held_out.subjects())
    control = read_report_control(load_config(), train, held_out, train_codes, level=0.04)
    assert (control.index.look_up(as_sentences(told)).shared_N == 1).all()


def test_critic_is_asked_about_many_images_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    parts = np.split(images(150, 0), range(3, 150, 3))
    with Progress("membership", 150, "images") as progress:
        asked = list(_batches(iter(parts), progress))
    assert [len(batch) for batch in asked] == [66, 66, 18]
    assert (np.concatenate(asked) == np.concatenate(parts)).all()
    assert "membership  150/150 images" in capsys.readouterr().err


def test_few_other_rows_are_withheld(found: AuditResult) -> None:
    others = [row for row in reasons(found) if row > WITH_RARE_WORDS]
    assert len(others) <= 5, "1 % of 212 rows are expected by chance"


def test_copies_fail_the_audit_and_are_listed_first(found: AuditResult) -> None:
    content = found.content
    assert content["verdict"] == "fail"
    failed = {check["name"] for check in content["checks"] if not check["passed"]}
    assert {"image_copies", "near_images", "report_copies"} <= failed
    assert content["images"]["copies"] >= 3 * EACH, "exact, mirrored and windowed ones"
    closest = [pair["index"] for pair in content["closest"]]
    assert len(closest) == 10
    assert set(closest) <= set(range(FIRST_REPORT))
    exact = [pair for pair in content["closest"] if pair["index"] < EACH]
    assert all(pair["pixel_distance"] == pytest.approx(0, abs=1e-4) for pair in exact)
    inside = content["images"]["duplicates"]
    assert inside["identical"] == 1
    assert inside["near"]["count"] >= 2, "each of the two is near the other"
    share = content["images"]["labels"]["Atelectasis"]
    assert share["of"] == NUM_GENERATED
    assert share["count"] == content["images"]["flagged"]["count"]
    assert list(content["images"]["labels"]) == ["Atelectasis"], "no image carries another"


def test_results_are_written_and_stated_on_the_card(found: AuditResult, planted: Path) -> None:
    assert json.loads((planted / "audit" / "audit.json").read_text()) == found.content
    card = (planted / "README.md").read_text()
    assert "- **Privacy audit: fail.**" in card
    assert found.content["summary"] in card
    assert "No privacy audit" not in card
    assert "- Another line." in card
    digest = found.content["real"]["shards_digest"]
    assert f"with 480 training images of made (shards {digest}), and whether the model was trained on them was" in card
    assert "Flagged is what would flag 1.00% of 320 held-out ones as well" in card
    assert all(remark in card for remark in found.content["remarks"])
    assert str(planted.parent) not in (planted / "audit" / "audit.json").read_text()
    assert "Whether the model was trained on these shards could not be checked" in found.content["remarks"][0]


def test_dataset_whose_images_were_changed_is_not_audited_by_what_was_measured_before(
    found: AuditResult, shards: Path, planted: Path, tmp_path: Path
) -> None:
    altered = shutil.copytree(planted, tmp_path / "altered")
    file = next((altered / "data").iterdir())
    table = pq.read_table(file)
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), file)
    with pytest.raises(RunFolderError, match=rf"{file.name} was changed since it was generated"):
        audit.run(config(shards, altered))
    assert "Privacy audit" in (altered / "README.md").read_text(), "of the images before"


def test_dataset_of_somebody_else_is_audited_without_its_card(
    found: AuditResult, shards: Path, planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def read_only(path: Path, text: str) -> None:
        raise StorageError(f"Cannot write {path}: Read-only file system.")

    monkeypatch.setattr("emixer.generation.card.write_text", read_only)
    result = audit.run(config(shards, planted, audit__out=tmp_path / "audit"))
    assert result.content["verdict"] == found.content["verdict"]
    assert json.loads((tmp_path / "audit" / "audit.json").read_text()) == result.content
    assert f"Cannot write {planted / 'README.md'}: Read-only file system." in caplog.text
    assert f"The verdict stands in {tmp_path / 'audit' / 'audit.json'}, but not in the dataset's card." in caplog.text


def test_page_and_figures_hold_training_data_only_on_request(
    found: AuditResult, shards: Path, planted: Path, tmp_path: Path
) -> None:
    page = (found.out / "audit.html").read_text()
    assert page.count('<figure class="pair generated">') == 10
    assert '<figure class="pair real">' not in page
    assert "secret" not in page + (found.out / "audit.json").read_text()
    shown = audit.run(config(shards, planted, audit__show_real=True, audit__pairs=3, audit__out=tmp_path / "real"))
    with_real = (shown.out / "audit.html").read_text()
    assert with_real.count('<figure class="pair real">') == 3
    assert "Training images and reports stand on this page" in with_real
    assert shown.content["images"] == found.content["images"], "the same, from what was kept"


def test_page_marks_and_warns_of_rows_whose_report_alone_is_a_copy(shards: Path, ray_cluster: None) -> None:
    told, of_train = reports(NUM_TEST, seed=2), reports(NUM_TRAIN, seed=0)
    told[::2] = of_train[: len(told[::2])]
    dataset = write_dataset(shards.parent / "told", images(NUM_TEST, seed=2), told)
    result = audit.run(config(shards, dataset, audit__pairs=100))
    content = result.content
    assert content["images"]["copies"] == 0
    closest, told_of = content["closest"], reasons(result)
    assert all(pair["flagged"] == (pair["index"] in told_of) for pair in closest)
    copies = [pair["index"] for pair in closest if pair["copy"]]
    assert len(copies) > 20
    assert all(row % 2 == 0 for row in copies)
    page = (result.out / "audit.html").read_text()
    assert all(f"<h3>Row {row}: a copy</h3>" in page for row in copies)
    assert "A copy shows what the training image or its report shows: treat this page as" in page


def test_held_out_pairs_pass(shards: Path, ray_cluster: None) -> None:
    clean = write_dataset(shards.parent / "clean", images(NUM_TEST, seed=2), reports(NUM_TEST, seed=2))
    result = audit.run(config(shards, clean))
    assert result.content["verdict"] == "pass", result.content["checks"]
    assert len(result.content["withhold"]) / NUM_TEST < 0.01
    assert result.content["images"]["copies"] == 0
    assert "Verdict: PASS" in str(result)
    assert answer_of(result)["figures"]["verdict"] == "pass"
    assert "- **Privacy audit: pass.**" in (clean / "README.md").read_text()


def test_copies_with_their_patients_sex_disclose_it(tmp_path: Path, ray_cluster: None) -> None:
    sexes = {split: list(np.random.default_rng(seed).choice(["F", "M"], 80)) for seed, split in enumerate(SPLITS)}
    sides = {split: (images(80, seed), None) for seed, split in enumerate(SPLITS)}
    shards = write_shards(tmp_path / "shards", sides, sexes=sexes)
    copies = write_dataset(tmp_path / "copies", images(80, 0), reports(80, 0), sexes=sexes["train"])
    content = audit.run(config(shards, copies, audit__false_alarm=0.03, audit__measured=None)).content
    assert list((tmp_path / "shards-measured").glob("*/ranks.npy"))
    assert {path.name for path in (copies / "audit").iterdir()} == {"audit.json", "audit.html"}, "no real image"
    for space in ("pixels", "features"):
        found = content["attributes"]["sex"][space]
        assert found["train"]["right"] == 1, "the nearest row is the copy"
        assert found["held_out"]["right"] == pytest.approx(0.5, abs=0.15), "sex shows in none of these images"
        assert found["interval"][0] > 0.05
    failed = {check["name"] for check in content["checks"] if not check["passed"]}
    assert {"attribute_sex_pixels", "attribute_sex_features"} <= failed
    assert {"membership_pixels", "membership_features"} <= failed
    assert content["membership"]["pixels"]["auc"] == 1, "each training image is in the dataset, no held-out one is"
    assert content["attributes"]["age"] == {
        "not_measured": "the dataset has no column age: its model is not conditioned on it."
    }
    page = (copies / "audit" / "audit.html").read_text()
    assert '<th scope="row">sex, by pixels</th>' in page
    assert "age: not measured; the dataset has no column age" in page


def test_interrupted_audit_resumes_from_its_measurements(
    found: AuditResult, shards: Path, planted: Path, tmp_path: Path
) -> None:
    measured = tmp_path / "measured"
    shutil.copytree(shards.parent / "measured", measured, ignore=shutil.ignore_patterns("matches"))
    settings = config(shards, planted, audit__out=planted / "again", audit__measured=measured)
    audit.run(settings)
    stamps = {path: path.stat().st_mtime_ns for path in measured.glob("*/*")}
    lost = min((measured / "matches").iterdir())
    lost.unlink()  # as if killed before this block
    again = audit.run(settings)
    assert again.content["images"] == found.content["images"]
    assert {path for path in stamps if path.stat().st_mtime_ns != stamps[path]} == {lost}


def test_shards_that_the_model_was_not_trained_on_are_refused(
    shards: Path, tiny_config: Config, tmp_path: Path
) -> None:
    sides = {"train": (images(60, 0), reports(60, 0)), "test": (images(300, 8), reports(300, 8))}
    same = write_shards(tmp_path / "same", sides)
    with_edema = np.zeros((60, len(CHEXPERT)), int)
    with_edema[0, CHEXPERT.index("Edema")] = 1
    relabelled = write_shards(tmp_path / "relabelled", sides, labels={"train": with_edema.tolist()})
    larger = write_shards(tmp_path / "larger", sides | {"train": (images(61, 0), reports(61, 0))})
    reworded = write_shards(tmp_path / "reworded", sides)
    Vocabulary((*SPECIAL_TOKENS, "heart")).save(reworded / "vocabulary.json")
    run, digest = trained_run(tmp_path / "run", tiny_config, same)
    trained_on = TrainingData.of(read_trained_model(run))
    dataset = write_dataset(tmp_path / "dataset", images(30, 5), reports(30, 5), weights=digest, trained_on=trained_on)
    older = write_dataset(tmp_path / "older", images(30, 5), reports(30, 5), weights=digest)
    assert "could not be checked" not in audit.describe(config(same, dataset))
    assert "could not be checked" not in audit.describe(config(same, older, audit__run=run))
    for other, difference in (
        (relabelled, "its training images have other labels"),
        (larger, "its training images have other labels"),
        (reworded, "its labels or its vocabulary differ"),
    ):
        for settings in (config(other, dataset), config(other, older, audit__run=run)):
            with pytest.raises(ConfigError, match=f"is not what the model was trained on: {difference}"):
                audit.describe(settings)
    assert "Whether the model was trained on these shards could not be checked" in audit.describe(config(larger, older))


def test_dry_run_says_what_is_compared(shards: Path, planted: Path) -> None:
    planned = CliRunner().invoke(command, ["--dataset", str(planted), "--shards", str(shards), "--dry-run"])
    assert planned.exit_code == 0, planned.output
    assert f"Would audit {NUM_GENERATED} pairs" in planned.output
    assert "480 training images, with 320 held-out ones as the control" in planned.output
    assert "features of random_densenet" in planned.output


def test_bad_input_is_one_paragraph(shards: Path, planted: Path, tmp_path: Path) -> None:
    few = write_shards(tmp_path / "few", {"train": (images(40, 0), None), "test": (images(30, 1), None)})
    none = write_shards(tmp_path / "none", {"train": (images(40, 0), None)})
    small = write_dataset(tmp_path / "small", images(3, 0), reports(3, 0))
    others = write_dataset(tmp_path / "others", images(30, 0), reports(30, 0), names=("Wrist",))
    for settings, kind, message in (
        (config(shards, None), ConfigError, r"audit\.dataset is not set"),
        (config(shards, tmp_path / "nowhere"), RunFolderError, "is not a finished dataset"),
        (
            config(few, planted),
            ShardError,
            r"has 30 held-out images .* at least 299 as the control.*false_alarm=0\.097",
        ),
        (config(none, planted), ShardError, r"has 0 held-out images .* more held-out subjects\."),
        (config(shards, small), ConfigError, "has 3 rows; an audit needs at least 20"),
        (config(shards, others), ShardError, "share no label"),
        (config(shards, planted, audit__encoder={"weights": "/nowhere.pt"}), ConfigError, "does not exist"),
        (config(shards, planted, audit__out=planted / "manifest.json" / "out"), StorageError, "Not a directory"),
    ):
        with pytest.raises(kind, match=message):
            audit.describe(settings)


def test_a_gpu_that_nobody_has_is_not_waited_for(shards: Path, planted: Path, tmp_path: Path) -> None:
    settings = config(shards, planted, audit__out=tmp_path, audit__use_gpu=True)
    with pytest.raises(ConfigError, match=r"has 0 GPUs here but needs 1 to start: .*audit\.use_gpu=false"):
        audit.run(settings)


def test_measurements_of_real_images_are_kept_where_nothing_is_given_away(
    shards: Path, planted: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    begin_manifest(begun, {"num": 3})
    (tmp_path / "link").symlink_to(planted)
    for folder in (planted, planted / "audit" / "measured", tmp_path / "link" / "m", begun / "m"):
        with pytest.raises(
            ConfigError, match=r"audit\.measured=.* is inside .*(planted|begun), which is made to be given"
        ):
            audit.describe(config(shards, planted, audit__measured=folder))
    few = write_shards(tmp_path / "shards", {"train": (images(40, 0), None), "test": (images(300, 1), None)})
    (tmp_path / "shards-measured").write_text("not a folder")
    with pytest.raises(ConfigError, match=r"shards-measured, the default of audit\.measured, cannot be written"):
        audit.describe(config(few, planted, audit__measured=None))
    (tmp_path / "shards-measured").unlink()
    assert f"kept in     {tmp_path / 'shards-measured'}" in audit.describe(config(few, planted, audit__measured=None))


def test_training_images_are_shown_in_no_folder_that_is_given_away(shards: Path, planted: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(planted)
    for out in (None, planted / "real", tmp_path / "link" / "real"):
        with pytest.raises(ConfigError, match=r"into .*, inside .*planted, which is made to be given .* Give --out"):
            audit.describe(config(shards, planted, audit__show_real=True, audit__out=out))
    outside = config(shards, planted, audit__show_real=True, audit__out=tmp_path / "real")
    assert f"  written to  {tmp_path / 'real'}" in audit.describe(outside)


def test_images_without_reports_are_audited_alone_and_with_the_discriminator(
    tmp_path: Path, tiny_config: Config, ray_cluster: None
) -> None:
    shards = write_shards(tmp_path / "shards", {"train": (images(60, 0), None), "test": (images(300, 1), None)})
    run, digest = trained_run(tmp_path / "run", tiny_config, shards)
    told = reports(40, 2)
    told[5] = [["seen", "by", "dr.", "smith"]]
    told[6] = [["since", "3/14/2019"]]
    told[7] = [["accession", "12345678"]]
    dataset = write_dataset(tmp_path / "dataset", images(40, 2), told, weights=digest)
    result = audit.run(config(shards, dataset, audit__run=run, audit__measured=None))
    assert list((run / "audit" / "measured").glob("*/ranks.npy"))
    assert {path.name for path in (dataset / "audit").iterdir()} == {"audit.json", "audit.html"}, "no real image"
    content = result.content
    assert content["reports"] is None
    found = {row: [name for name in names if "image" not in name] for row, names in reasons(result).items()}
    assert {row: names for row, names in found.items() if names} == {5: ["names"], 6: ["dates"], 7: ["numbers"]}
    assert content["traces"]["dates"]["generated"]["count"] == 1
    assert content["traces"]["dates"]["held_out"] is None
    assert not [check for check in content["checks"] if "traces" in check["name"]], "with what would it be compared?"
    page = (dataset / "audit" / "audit.html").read_text()
    assert "reports with dates" in page
    assert "no reports" in page
    assert content["remarks"][-1] == (
        "Reports were searched for names, dates and long numbers, but not for copies of training reports: the training "
        "images have none."
    )
    assert content["remarks"][-1] in (dataset / "README.md").read_text(), "who reads the card must know"
    assert list(content["membership"]) == ["pixels", "features", "discriminator"]
    critic = content["membership"]["discriminator"]
    assert critic["images_per_side"] == 60
    # never trained: an area of chance, whose standard error is known (Mann and Whitney 1947)
    assert abs(critic["auc"] - 0.5) < 3 * math.sqrt((60 + 60 + 1) / (12 * 60 * 60))
    members, others = (logits(run, rows) for rows in (images(60, 0), images(300, 1)[spread_rows(300, 60)]))
    assert critic["auc"] == pytest.approx(mannwhitneyu(members, others).statistic / (60 * 60), abs=1e-3)
    assert critic["interval"][0] < critic["auc"] < critic["interval"][1]


def logits(run: Path, image_NHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits of being real by the discriminator of `trained_run`, of images without labels."""
    trained = read_trained_model(run)
    model = build_model(trained.config, trained.spec)
    model.load_state_dict(read_checkpoint(trained.path).tensors(NETWORKS))
    discriminator = cast(Emixer, model.eval()).image_discriminator
    with torch.no_grad():
        features_NF = discriminator.features(torch.from_numpy(image_NHW)[:, None] / 127.5 - 1)
        return discriminator.real_head(features_NF)[:, 0].numpy()


def trained_run(folder: Path, settings: Config, shards: Path) -> tuple[Path, str]:
    """Return a run folder with all networks, as on these shards but untrained, and the digest of the weights used for
    sampling."""
    spec = spec_of(ShardSet.open(shards), settings)
    torch.manual_seed(0)  # one untrained network in twenty would separate the two sides by chance
    model = build_model(settings.model, spec)
    state = model.state_dict()
    tensors = {name: tensor for name, tensor in state.items() if name.startswith(tuple(model.ema_modules()))}
    run = RunFolder.create_or_resume(folder, "train", settings)
    about = {"model": settings.model.model_dump(mode="json"), "spec": spec.to_json()}
    saved = save_checkpoint(run.checkpoints, 100, {SAMPLER: tensors, NETWORKS: state}, about)
    return run.path, sha256_of(saved.path / f"{SAMPLER}.safetensors")


def test_published_model_has_no_discriminator_to_use(shards: Path, tiny_config: Config, tmp_path: Path) -> None:
    run, digest = trained_run(tmp_path / "run", tiny_config, shards)
    trained, published = read_trained_model(run), tmp_path / "published"
    published.mkdir()
    shutil.copyfile(trained.path / f"{SAMPLER}.safetensors", published / WEIGHTS)
    facts = {"weights_sha256": digest, "training_data": {}}
    write_description(published, published_config(trained.config, trained.spec, 100, facts), trained.vocabulary)
    dataset = write_dataset(tmp_path / "dataset", images(30, 5), reports(30, 5), weights=digest)
    for of, told in ((run, "used for membership inference"), (published, "not used: a published model has none")):
        assert f"  critic      {told}\n" in audit.describe(config(shards, dataset, audit__run=of))
    assert image_critic(published, trained.config, trained.spec) is None


def test_encoder_trained_on_the_training_images_is_remarked_on(shards: Path, planted: Path, tmp_path: Path) -> None:
    network = ChestEncoderConfig.model_validate(
        {"growth": 4, "blocks": [1, 1, 1, 1], "stem_channels": 8, "input_px": 32, "frozen": False}
    )
    remarks = {}
    for whose in (identify(ShardSet.open(shards)).digest, "of somebody else"):
        facts = EncoderFacts.of(
            network, label_names=("Edema",), collection=whose, sources=("made",), images=480, test_auc={}
        )
        weights = tmp_path / f"{len(remarks)}.safetensors"
        save_encoder_weights(weights, ChestEncoder(network, num_labels=1), facts)
        encoder = network.model_dump() | {"weights": weights}
        remarks[whose] = audit.describe(config(shards, planted, audit__encoder=encoder))
        with pytest.raises(ConfigError, match=r"Set audit\.encoder\.input_px=32, or give a matching file"):
            audit.describe(config(shards, planted, audit__encoder=encoder | {"input_px": 64}))
    of_same, of_other = remarks.values()
    assert "was trained on the training images of this very collection" in of_same
    assert "of this very collection" not in of_other
    assert "features of chest_encoder (bilinear to 32 px)" in of_other


def test_encoder_of_the_run_that_was_moved_is_told_as_the_runs(shards: Path, planted: Path, tmp_path: Path) -> None:
    lost = tmp_path / "lost.safetensors"
    settings = load_config(extra={"validation.encoder": {"weights": lost}, "train.run": tmp_path / "run"})
    run = RunFolder.create_or_resume(tmp_path / "run", "train", settings).path
    with pytest.raises(ConfigError) as caught:
        find_encoder(config(shards, planted), run)
    assert caught.value.message == (f"The encoder of {run}, {lost}, does not exist. Set audit.encoder.weights to it.")


def test_images_of_another_size_are_refused(shards: Path, tmp_path: Path, ray_cluster: None) -> None:
    large = write_dataset(tmp_path / "large", np.zeros((30, 48, 48), np.uint8), reports(30, 0))
    with pytest.raises(EmixerError, match=r"holds images of 48 x 48 px; those of the shards have 32 x 32"):
        audit.run(config(shards, large))


def test_run_that_did_not_make_the_dataset_is_refused(shards: Path, planted: Path, tiny_run: Path) -> None:
    with pytest.raises(ConfigError, match="did not make this dataset"):
        audit.describe(config(shards, planted, audit__run=tiny_run))

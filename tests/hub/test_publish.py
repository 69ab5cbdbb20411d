"""`emixer publish`: what leaves a run, and what does not."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors
import yaml
from click.testing import CliRunner

import emixer
from emixer.cli.main import main
from emixer.data.vocabulary import SPECIAL_TOKENS, Vocabulary
from emixer.errors import CheckpointError, ConfigError, RunFolderError, ShardError
from emixer.generation.published_model import PUBLISHED_FILES
from emixer.hub.card import name_repository
from emixer.stages import publish as stage
from emixer.stages.publish import PublishResult
from tests.hub.conftest import SECRET, read_json, rewrite_train

Publish = Callable[..., PublishResult]


def private_texts(shards: Path) -> set[bytes]:
    """Reports, ids and places: none may be found in a published model."""
    table = pq.read_table(sorted(shards.glob("*.parquet")), columns=["report", "dicom_id"])
    reports = {text for text in table["report"].to_pylist() if text}
    ids = {each for each in table["dicom_id"].to_pylist() if len(each) > 7}
    return {text.encode() for text in reports | ids | {SECRET, str(shards), "0.123456", "epoch"}}


def found_in(folder: Path, texts: set[bytes]) -> set[bytes]:
    content = b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
    return {text for text in texts if text in content}


def test_it_draws_what_the_run_draws(trained_run: Path, published: Path) -> None:
    of_run = emixer.load(trained_run, device="cpu").sample(["Edema"], num=5, seed=3)
    drawn = emixer.from_pretrained(published, device="cpu").sample(["Edema"], num=5, seed=3)
    np.testing.assert_array_equal(drawn.images, of_run.images)
    assert drawn.reports == of_run.reports


def test_nothing_of_patients_or_of_this_machine_leaves(
    trained_run: Path, published: Path, shards_of_patients: Path
) -> None:
    private = private_texts(shards_of_patients)
    assert len(private) > 100
    assert {SECRET.encode(), b"0.123456", b"epoch", str(shards_of_patients).encode()} <= found_in(trained_run, private)
    assert found_in(published, private) == set()
    assert {path.name for path in published.iterdir()} == set(PUBLISHED_FILES)


def test_weights_are_those_that_sampling_needs_without_any_metadata(published: Path) -> None:
    with safetensors.safe_open(published / "model.safetensors", framework="numpy") as file:
        names = list(file.keys())
        assert not file.metadata()
    assert names
    assert not [name for name in names if "discriminator" in name]


def test_rare_combinations_of_labels_are_left_out(publish: Publish) -> None:
    result = publish(min_patients=5)
    spec = read_json(result.folder / "config.json")["spec"]
    assert isinstance(spec, dict)
    assert spec["label_counts"] == [40, 30, 9]
    assert "3 combinations of labels and conditions of fewer than 5 training patients left out (10.2%" in str(result)
    drawn = emixer.from_pretrained(result.folder, device="cpu").sample(num=64)
    assert set(drawn.labels.sum(axis=1)) == {0, 1, 2}  # combination k has k labels


def test_a_floor_that_leaves_nothing_is_refused(publish: Publish) -> None:
    with pytest.raises(ConfigError, match=r"min_patients=41 leaves nothing.*most frequent: 40"):
        publish(min_patients=41)


def test_rare_words_are_refused_and_not_told(publish: Publish, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(\d+) of \1 words .* fewer than 6 times") as caught:
        publish(min_token_count=6)
    assert "pneumothorax" not in str(caught.value)
    assert not (tmp_path / "published").exists()


def test_words_of_one_patient_are_refused(publish: Publish, shards_of_patients: Path) -> None:
    """However often they occur: a name may stand in all reports of its patient."""
    sentences = pq.read_table(shards_of_patients / "train-00000.parquet", columns=["sentences", "subject_id"])
    patients: dict[str, set[str]] = {}
    for report, subject in zip(sentences["sentences"].to_pylist(), sentences["subject_id"].to_pylist(), strict=True):
        for sentence in report or ():
            for word in sentence:
                patients.setdefault(word, set()).add(subject)
    words = Vocabulary.load(shards_of_patients / "vocabulary.json").tokens[len(SPECIAL_TOKENS) :]
    rare = [word for word in words if len(patients.get(word, ())) < 2]
    assert "mass" in rare
    with pytest.raises(ConfigError, match=rf"{len(rare)} of {len(words)} words .* in those of fewer than 2 patients"):
        publish(min_token_patients=2)


def test_shards_of_other_labels_are_refused(shards_of_patients: Path, trained_run: Path, tmp_path: Path) -> None:
    """Their patients would be counted for combinations that others have."""
    other = shutil.copytree(shards_of_patients, tmp_path / "other")
    labels = pq.read_table(other / "train-00000.parquet")["labels"].to_pylist()
    rewrite_train(other, labels=[None, *labels[1:]])
    arguments = ["--run", str(trained_run), "--out", str(tmp_path / "out"), "--license", "mit", "--shards", str(other)]
    done = CliRunner().invoke(main, ["publish", *arguments, "--min-token-count", "1", "--min-token-patients", "1"])
    assert done.exit_code == 2
    assert "other labels than those that the model was trained on" in done.output


def test_the_card_says_what_whoever_loads_it_must_know(published: Path) -> None:
    _, front, body = (published / "README.md").read_text().split("---\n", 2)
    fields = yaml.safe_load(front)
    assert (fields["library_name"], fields["license"]) == ("emixer", "cc-by-nc-4.0")
    assert {"emixer", "chest-x-ray", "synthetic"} <= set(fields["tags"])
    assert "| collections | tiny |\n| images | 96 |" in body
    assert "| label F1 of reports | 0.625 | 0.875 |" in body
    assert "64,000 images" in body
    assert "data use agreement" in body.lower()
    assert "Not for diagnosis" in body
    assert 'emixer.from_pretrained("ORG/NAME")' in body


def test_a_licence_must_be_chosen(trained_run: Path, tmp_path: Path) -> None:
    arguments = ["publish", "--run", str(trained_run), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "publish.license is not set. Give --license" in done.output
    nameless = CliRunner().invoke(main, [*arguments, "--license", "other"])
    assert "license_name goes with license=other" in nameless.output


def test_the_card_names_the_repository_it_was_last_sent_to(published: Path, tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text((published / "README.md").read_text() + '\nBetter: emixer.from_pretrained("their/own").sample()\n')
    for name in ("my-lab/first", "my-lab/second"):
        name_repository(tmp_path, name)
        assert re.findall(r'from_pretrained\("(.*?)"', card.read_text()) == [name, "their/own"]


def test_publishing_again_keeps_a_completed_card(publish: Publish) -> None:
    card = publish().folder / "README.md"
    card.write_text(card.read_text() + "\nContact: the lab.\n")
    again = publish()
    assert again.was_there
    assert "Contact: the lab." in card.read_text()
    with pytest.raises(RunFolderError, match="a published model with another license"):
        publish(license="mit")


@pytest.mark.parametrize("name", ["README.md", "model.safetensors", "vocabulary.json"])
@pytest.mark.parametrize("is_lost", [True, False])
def test_publishing_again_mends_what_was_damaged_and_keeps_the_rest(
    publish: Publish, published: Path, name: str, is_lost: bool
) -> None:
    folder = publish().folder
    (folder / "notes.txt").write_text("ours")
    (folder / name).unlink() if is_lost else (folder / name).write_bytes(b"{}")
    again = publish()
    assert again.was_there == (name == "README.md" and not is_lost)
    expected = {path.name: path.read_bytes() for path in published.iterdir()} | {"notes.txt": b"ours"}
    if again.was_there:  # a card may say what its owner wants
        expected["README.md"] = b"{}"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected


def test_a_checkpoint_that_training_deletes_meanwhile_is_to_be_read_again(
    publish: Publish, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run")

    def written_late(folder: Path, publication: Any) -> None:
        shutil.rmtree(publication.trained.path)
        write(folder, publication)

    write = stage._write
    monkeypatch.setattr(stage, "_write", written_late)
    with pytest.raises(CheckpointError, match=r"is not there.*training deletes older.*Run the same command again"):
        publish(run=run)
    assert not (tmp_path / "published").exists()


def test_a_folder_with_other_things_in_it_is_refused(publish: Publish, tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match="exists and is not a published model"):
        publish()
    assert (tmp_path / "published" / "thesis.tex").exists()


def test_other_shards_than_the_runs_are_refused(
    publish: Publish, trained_run: Path, tmp_path: Path, make_shards: Callable[..., Path]
) -> None:
    moved = tmp_path / "moved-run"
    shutil.copytree(trained_run, moved)
    config = moved / "config.yaml"
    config.write_text(config.read_text().replace("shards: /", "shards: /nowhere/"))
    with pytest.raises(ShardError, match=r"There is no folder /nowhere.*give --shards FOLDER"):
        publish(run=moved)
    with pytest.raises(ConfigError, match="is a published model already"):
        publish(run=publish().folder)


def test_a_checkpoint_may_be_a_link_from_elsewhere_or_in_a_linked_folder(
    publish: Publish, published: Path, trained_run: Path, tmp_path: Path
) -> None:
    (checkpoint,) = (trained_run / "checkpoints").glob("images-*")
    (tmp_path / "chosen").symlink_to(checkpoint)
    moved = shutil.copytree(trained_run, tmp_path / "moved", ignore=shutil.ignore_patterns("checkpoints"))
    (moved / "checkpoints").symlink_to(shutil.copytree(trained_run / "checkpoints", tmp_path / "disk"))
    for name, given in {"by-link": tmp_path / "chosen", "on-a-disk": moved}.items():
        folder = publish(run=given, out=tmp_path / name).folder
        assert (folder / "config.json").read_bytes() == (published / "config.json").read_bytes()


def test_a_checkpoint_outside_a_run_folder_is_refused(publish: Publish, trained_run: Path, tmp_path: Path) -> None:
    (checkpoint,) = (trained_run / "checkpoints").glob("images-*")
    copied = shutil.copytree(checkpoint, tmp_path / "copied")
    with pytest.raises(RunFolderError, match=rf"checkpoint {copied} is in no run folder.*Give the run folder"):
        publish(run=copied)
    assert not (tmp_path / "published").exists()


def test_what_is_no_published_model_is_refused(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is not a published model.*emixer\.load opens run folders"):
        emixer.from_pretrained(trained_run)
    with pytest.raises(CheckpointError, match="There is no folder"):
        emixer.from_pretrained(tmp_path / "absent")


def test_a_published_model_of_another_version_is_refused(published: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(published, other)
    config = other / "config.json"
    config.write_text(config.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(CheckpointError, match=r"has format version 2 .* reads version 1"):
        emixer.from_pretrained(other)


def test_a_damaged_published_model_is_refused(published: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(published, other)
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="SHA-256 is not the one"):
        emixer.from_pretrained(other)


def test_stages_that_draw_from_a_run_draw_from_a_published_model_too(published: Path, tmp_path: Path) -> None:
    arguments = ["generate", "--run", str(published), "--num", "64", "--out", str(tmp_path / "pairs"), "--dry-run"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output

"""`emixer evaluate`: datasets of real pairs, of noise, and of a model's pairs, compared with the tiny shards."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from emixer.cli.evaluate import command
from emixer.config import Config, load_config, with_overrides
from emixer.config.model import ChestEncoderConfig
from emixer.data.collection import identify
from emixer.data.labels import CHEXPERT, LabelPolicy
from emixer.data.loader import fixed_binary_view
from emixer.data.pair_table import TableShape, read_real
from emixer.data.shards import ShardSet
from emixer.data.text import detokenize
from emixer.data.vocabulary import Vocabulary
from emixer.errors import ConfigError, EmixerError, RunFolderError, StorageError
from emixer.evaluation import image_metrics
from emixer.evaluation.spread import spread_rows
from emixer.evaluation.summary import _number
from emixer.models.chest_encoder import ChestEncoder
from emixer.models.encoder_facts import EncoderFacts
from emixer.models.encoder_weights import save_encoder_weights
from emixer.stages import evaluate
from tests.answers import answer_of
from tests.datasets import write_pairs
from tests.shard_columns import fill_column

NETWORK = {"growth": 4, "blocks": [1, 1, 1, 1], "stem_channels": 8, "input_px": 32, "frozen": False}
MakeDataset = Callable[..., Path]


@pytest.fixture
def make_dataset(tiny_shards: Path, tmp_path: Path) -> MakeDataset:
    """A finished dataset whose pairs are the images and reports of a real split."""

    def make(
        split: str, name: str = "made", noise: bool = False, names: tuple[str, ...] = CHEXPERT,
        rows_of_split: list[int] | None = None, vocabulary: Vocabulary | None = None,
    ) -> Path:  # fmt: skip
        rows = pq.read_table(tiny_shards / f"{split}-00000.parquet")
        rows = rows if rows_of_split is None else rows.take(rows_of_split)
        images = fixed_binary_view(rows["image"], np.uint8, (32, 32))
        if noise:
            images = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
        labels = np.array([row or [0] * len(CHEXPERT) for row in rows["labels"].to_pylist()], np.uint8)
        reports = [detokenize(sentences or [["no", "report"]]) for sentences in rows["sentences"].to_pylist()]
        if vocabulary is not None:
            reports = vocabulary.decode(vocabulary.encode_sentences(rows["sentences"], 20, 20))
        return write_pairs(tmp_path / name, images, reports, labels, names, {"weights": name})

    return make


def config(shards: Path, dataset: Path | None, **changed: Any) -> Config:
    given = {key.replace("__", "."): value for key, value in changed.items()}
    return load_config(extra={"data.shards": shards, "evaluate.dataset": dataset, "evaluate.neighbours": 3} | given)


def test_copies_of_held_out_pairs_score_best(tiny_shards: Path, make_dataset: MakeDataset) -> None:
    dataset = make_dataset("validate")
    result = evaluate.run(config(tiny_shards, dataset, evaluate__split="validate")).content
    assert result["images_per_side"] == 32
    images = result["images"]["random_densenet"]
    assert images["generated"]["fid"] == pytest.approx(0, abs=1e-6)
    assert [images["generated"][name] for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert images["generated"]["kid"] < images["real"]["kid"]
    assert images["real"]["fid"] > 0
    assert result["pairs"]["generated"]["label_auc"] == pytest.approx(result["pairs"]["real"]["label_auc"], abs=0.1)
    reports = result["reports"]
    assert reports["real"]["same_labels_bleu_1"] == pytest.approx(1), "here labels decide a report"
    low = reports["generated"]["same_labels_bleu_1"]
    assert 0 < low < 0.8, "few labels have two people here: most that are scored are copies of unlabelled images"
    for section, names in (
        ("pairs", ["label_auc", "pair_agreement"]),
        ("reports", ["report_f1", "same_labels_bleu_1"]),
    ):
        for kind in ("generated", "real"):
            for name in names:
                low, high = result[section]["intervals"][kind][name]
                assert 0 < low <= result[section][kind][name] <= high, (section, kind, name)
    written = json.loads((dataset.with_name(f"{dataset.name}-evaluation") / "evaluation.json").read_text())
    assert written == json.loads(json.dumps(result))
    assert list((tiny_shards.parent / f"{tiny_shards.name}-features").glob("*.safetensors"))
    assert not list(dataset.rglob("*.safetensors")), "features of real images are not for whoever gets the dataset"


def test_noise_is_far_from_images_and_shows_no_labels(tiny_shards: Path, make_dataset: MakeDataset) -> None:
    result = evaluate.run(config(tiny_shards, make_dataset("validate", noise=True), evaluate__split="validate")).content
    images, pairs = result["images"]["random_densenet"], result["pairs"]
    assert images["generated"]["fid"] > 10 * images["real"]["fid"]
    assert images["generated"]["coverage"] == 0
    assert pairs["generated"]["label_auc"] < pairs["real"]["label_auc"] - 0.1


def test_copies_of_training_reports_are_counted(tiny_shards: Path, make_dataset: MakeDataset) -> None:
    dataset = make_dataset("train", rows_of_split=list(range(32)))
    result = evaluate.run(config(tiny_shards, dataset, evaluate__split="validate")).content
    rows = pq.read_table(tiny_shards / "train-00000.parquet")["sentences"].to_pylist()[:32]
    with_report = sum(report is not None for report in rows) / len(rows)
    assert result["reports"]["generated"]["copied_reports"] == pytest.approx(with_report)


def test_a_copy_with_unk_for_its_rare_words_is_counted_and_has_as_many_words(
    tiny_shards: Path, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    known = ShardSet.open(tiny_shards).vocabulary
    small = Vocabulary(known.tokens[:-4], known.counts[:-4], known.min_token_count)
    shards = shutil.copytree(tiny_shards, tmp_path / "shards")
    small.save(shards / "vocabulary.json")
    dataset = make_dataset("train", rows_of_split=list(range(32)), vocabulary=small)
    found = evaluate.run(config(shards, dataset, evaluate__split="validate")).content["reports"]["generated"]
    rows = pq.read_table(shards / "train-00000.parquet")["sentences"].to_pylist()[:32]
    words = [[word for sentence in report or [] for word in sentence] for report in rows]
    assert not {word for report in words for word in report} <= set(small.tokens)
    assert found["copied_reports"] == pytest.approx(sum(map(bool, words)) / 32)
    num_varied = int(found["varied_reports"])
    lengths = [len(words[row]) for row in spread_rows(32, num_varied)]
    assert found["words_per_report"] == pytest.approx(sum(lengths) / num_varied)


def test_means_of_both_sides_are_over_the_labels_that_both_can_measure(
    tiny_shards: Path, make_dataset: MakeDataset
) -> None:
    result = evaluate.run(config(tiny_shards, make_dataset("train"), evaluate__split="validate"))
    for section, mean in (("pairs", "label_auc"), ("pairs", "pair_agreement"), ("reports", "report_f1")):
        figures = result.content[section]
        generated, real = (
            {key.partition("/")[2]: value for key, value in figures[kind].items() if key.startswith(f"{mean}/")}
            for kind in ("generated", "real")
        )
        assert generated.keys() != real.keys(), "else this shows nothing"
        common = [label for label in generated if label in real]
        assert figures["generated"][mean] == pytest.approx(np.mean([generated[label] for label in common]))
        assert figures["real"][mean] == pytest.approx(np.mean([real[label] for label in common]))
        assert figures["means_over"][mean] == common
        assert f": {', '.join(common)}" in str(result)


def test_a_study_counts_once_for_variety_and_a_patients_reports_are_not_scored_against_each_other(
    tiny_shards: Path, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    """Eight studies with two images each, all of one patient and with the same labels."""
    shards = shutil.copytree(tiny_shards, tmp_path / "shards")
    rows = pq.read_table(shards / "test-00000.parquet").take(np.repeat(np.arange(8), 2))
    changed = {"subject_id": ["p"] * 16, "labels": [rows["labels"][0].as_py()] * 16}
    for name, values in changed.items():
        place, field = rows.schema.get_field_index(name), rows.schema.field(name)
        rows = rows.set_column(place, field, pa.array(values, field.type))
    file = shards / "test-00000.parquet"
    size = file.stat().st_size
    pq.write_table(rows, file)
    manifest = (shards / "manifest.json").read_text()
    (shards / "manifest.json").write_text(manifest.replace(str(size), str(file.stat().st_size)))
    dataset = make_dataset("test", rows_of_split=[0] * 16)
    found = evaluate.run(config(shards, dataset)).content["reports"]
    assert found["real"]["distinct_reports"] == 1
    assert found["generated"]["distinct_reports"] == 1 / 8
    for kind in ("generated", "real"):
        assert "same_labels_scored" not in found[kind], "there is nobody else"
    assert found["real"]["varied_reports"] == found["generated"]["varied_reports"] == 8


def test_intervals_are_of_patients_and_of_one_patient_there_are_none(
    tiny_shards: Path, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    shards = shutil.copytree(tiny_shards, tmp_path / "shards")
    fill_column(shards, "validate", "subject_id", "p")
    content = evaluate.run(config(shards, make_dataset("validate"), evaluate__split="validate")).content
    for section, name in (("pairs", "label_auc"), ("pairs", "pair_agreement"), ("reports", "report_f1")):
        figures = content[section]
        assert name in figures["real"]
        assert name not in figures["intervals"]["real"]
        assert name in figures["intervals"]["generated"], "each pair is of a patient of its own"


def test_features_are_cached_by_content_and_recomputed_if_damaged(
    tiny_shards: Path, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    kept = tmp_path / "features"
    first = evaluate.run(config(tiny_shards, make_dataset("train"), evaluate__features=kept)).content
    files = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    assert len(files) == 3, "real, generated and train images by one network"
    damaged = min(files)
    damaged.write_bytes(b"cut short")
    again = evaluate.run(config(tiny_shards, tmp_path / "made", evaluate__features=kept)).content
    assert again == first
    after = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    assert [path for path in files if after[path] != files[path]] == [damaged]
    evaluate.run(config(tiny_shards, make_dataset("test", "other"), evaluate__features=kept))
    assert len(list(kept.iterdir())) == 4, "of the real images nothing is measured twice"


def test_rows_are_taken_from_the_whole_dataset(tiny_shards: Path, make_dataset: MakeDataset) -> None:
    """Neither the first ones nor every fourth: a plan may list its labels in blocks or take turns."""
    for name, rows in (("blocks", [0] * 32 + [1] * 32), ("turns", [0, 1] * 32)):
        content = evaluate.run(config(tiny_shards, make_dataset("train", name, rows_of_split=rows))).content
        assert content["images_per_side"] == 16
        reports = content["reports"]["generated"]
        assert reports["distinct_reports"] * reports["varied_reports"] == pytest.approx(2), name


def test_images_without_labels_teach_no_judge_and_share_no_labels(tiny_shards: Path, make_dataset: MakeDataset) -> None:
    content = evaluate.run(config(tiny_shards, make_dataset("train"), evaluate__split="validate")).content
    shards = ShardSet.open(tiny_shards)
    shape = TableShape(CHEXPERT, 32, 1, 2, shards.vocabulary)
    sample = read_real(shards, "train", shape, LabelPolicy("zeros", "zeros"), 32)
    num_labelled = int((~np.isnan(sample.labels_NY).all(axis=1)).sum())
    assert num_labelled < 32, "some are not"
    assert content["pairs"]["judge"].endswith(f"fitted on {num_labelled} train images")
    told = [
        (study, tuple(labels) if labels else None)
        for study, labels, report in zip(
            *(pq.read_table(tiny_shards / "validate-00000.parquet")[name].to_pylist()
              for name in ("study_id", "labels", "sentences")), strict=True
        )
        if report
    ]  # fmt: skip
    assert sum(labels is None for _, labels in told) > 1, "which would be each other's references"
    beside = [any(labels == other and study != whose for whose, other in told) for study, labels in told if labels]
    assert content["reports"]["real"]["same_labels_scored"] == pytest.approx(sum(beside) / len(told))


def test_command_prints_and_writes_a_readable_table(tiny_shards: Path, make_dataset: MakeDataset) -> None:
    dataset = make_dataset("validate")
    given = ["--dataset", str(dataset), "--shards", str(tiny_shards), "--split", "validate"]
    planned = CliRunner().invoke(command, [*given, "--dry-run"])
    assert "Would compare 32 of the 32 pairs" in planned.output
    out = dataset.with_name(f"{dataset.name}-evaluation")
    assert not out.exists()
    done = CliRunner().invoke(command, given)
    assert done.exit_code == 0, done.output
    assert "| Fréchet distance |" in done.output
    assert re.search(r"\| label F1 of reports \| [\d.]+ \[[\d.]+, [\d.]+\] \| [\d.]+ \[", done.output)
    assert re.search(r"\| \.\.\. CIDEr \| [\d.]+ \[[\d.]+, [\d.]+\] \|", done.output)
    assert (out / "evaluation.md").read_text() in done.output
    assert not (dataset / "evaluation").exists(), "figures of real images in a folder that is given away"
    assert str(dataset.parent) not in (out / "evaluation.json").read_text()
    for identifier in pq.read_table(tiny_shards / "validate-00000.parquet")["subject_id"].to_pylist():
        assert identifier not in done.output.replace(str(dataset), "")


def test_bad_input_is_one_paragraph(tiny_shards: Path, make_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset = make_dataset("test")
    with pytest.raises(ConfigError, match=r"evaluate\.dataset is not set"):
        evaluate.run(config(tiny_shards, None))
    with pytest.raises(RunFolderError, match="is not a finished dataset"):
        evaluate.run(config(tiny_shards, tmp_path / "nothing"))
    with pytest.raises(EmixerError, match=r"has 16 images, but more than evaluate\.neighbours=20"):
        evaluate.run(config(tiny_shards, dataset, evaluate__neighbours=20))
    few = make_dataset("test", "few", rows_of_split=[0, 1, 2])
    with pytest.raises(EmixerError, match=r"few has 3 pairs, but more than evaluate\.neighbours=3 are needed"):
        evaluate.describe(config(tiny_shards, few))
    with pytest.raises(EmixerError, match=r"evaluate\.images=10, but more than evaluate\.neighbours=12 are needed"):
        evaluate.describe(config(tiny_shards, dataset, evaluate__images=10, evaluate__neighbours=12))
    with pytest.raises(ConfigError, match=r"evaluate\.features=.* is inside .*, which is made to be given away"):
        evaluate.run(config(tiny_shards, dataset, evaluate__features=dataset / "features"))
    with pytest.raises(StorageError, match="Not a directory"):
        evaluate.describe(config(tiny_shards, dataset, evaluate__out=dataset / "manifest.json" / "out"))
    with pytest.raises(ConfigError, match=r"evaluate\.inception=.*nowhere.pth does not exist"):
        evaluate.run(config(tiny_shards, dataset, evaluate__inception=tmp_path / "nowhere.pth"))


@pytest.mark.parametrize(("content", "what"), [(None, "cannot be read"), (b"PAR1 cut short", "was changed since")])
def test_a_file_that_went_away_or_broke_is_named_even_if_its_images_are_kept(
    tiny_shards: Path, make_dataset: MakeDataset, content: bytes | None, what: str
) -> None:
    dataset = make_dataset("test")
    evaluate.run(config(tiny_shards, dataset))
    (file,) = (dataset / "data").iterdir()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RunFolderError, match=rf"{file.name} {what}.*Restore it, or give the same"):
        evaluate.run(config(tiny_shards, dataset))


def test_dry_run_refuses_unsuitable_networks(tiny_shards: Path, make_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset = make_dataset("test")
    encoder = {**NETWORK, "weights": encoder_of(tmp_path, ("Hernia",))}
    for settings, message in (
        ({"evaluate.rad_dino": tiny_shards}, r"has no config\.json\. Expected a folder"),
        ({"evaluate.rad_dino": "/nowhere"}, r"evaluate\.rad_dino=/nowhere does not exist"),
        ({"evaluate.chexbert": tiny_shards}, r"has no chexbert\.pth"),
        ({"evaluate.inception": tiny_shards / "manifest.json"}, r"manifest\.json (is a pickled module|cannot be read)"),
        ({"validation.judge": "encoder"}, r"judge=encoder needs evaluate\.encoder\.weights"),
        ({"evaluate.encoder.weights": "/nowhere"}, r"evaluate\.encoder\.weights=/nowhere does not exist"),
        (
            {"validation.judge": "encoder", "evaluate.encoder": encoder},
            r"weights has the labels Hernia; none of them is compared",
        ),
        (
            {"evaluate.encoder": encoder | {"input_px": 64}},
            r"with input_px 32; the config has input_px 64\. Set evaluate\.encoder\.input_px=32, or give a matching",
        ),
        (
            {"validation.encoder": encoder | {"growth": 8}},
            r"Set validation\.encoder\.growth=4",
        ),
    ):
        with pytest.raises(EmixerError, match=message):
            evaluate.describe(with_overrides(config(tiny_shards, dataset), settings))


def test_encoder_trained_on_the_train_images_of_the_real_column_is_remarked_on(
    tiny_shards: Path, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    dataset = make_dataset("validate")
    collection = identify(ShardSet.open(tiny_shards)).digest
    for whose, is_same in (("of somebody else", False), (collection, True)):
        encoder = {**NETWORK, "weights": encoder_of(tmp_path, CHEXPERT, whose)}
        settings = config(tiny_shards, dataset, evaluate__split="validate", validation__encoder=encoder)
        assert ("of this very collection" in evaluate.describe(settings)) == is_same
    found = evaluate.run(settings)
    (remark,) = found.content["remarks"]
    assert "real distances by it" in remark
    assert remark in str(found)


def encoder_of(folder: Path, label_names: tuple[str, ...], collection: str = "") -> Path:
    """Return an untrained encoder whose facts list those labels."""
    network = ChestEncoderConfig.model_validate(NETWORK)
    facts = EncoderFacts.of(network, label_names=label_names, collection=collection, sources=(), images=1, test_auc={})
    path = folder / "encoder.safetensors"
    save_encoder_weights(path, ChestEncoder(network, num_labels=len(label_names)), facts)
    return path


def test_outputs_list_the_labels_compared_and_not_compared(tiny_shards: Path, make_dataset: MakeDataset) -> None:
    dataset = make_dataset("validate", names=("Mass", *CHEXPERT[1:]))
    settings = config(tiny_shards, dataset, evaluate__split="validate")
    assert "  labels      Cardiomegaly, Consolidation, " in evaluate.describe(settings)
    result = evaluate.run(settings)
    assert result.content["labels"] == {
        "compared": list(CHEXPERT[1:]), "only_generated": ["Mass"], "only_real": ["Atelectasis"]
    }  # fmt: skip
    assert "Not compared: only generated pairs have Mass; only real ones have Atelectasis." in str(result)
    assert (
        json.loads((dataset.with_name(f"{dataset.name}-evaluation") / "evaluation.json").read_text())["labels"]
        == result.content["labels"]
    )


def test_fid_per_label_has_a_baseline_of_as_many_other_real_images(
    tiny_shards: Path, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_metrics, "MIN_IMAGES_A_LABEL", 3)
    result = evaluate.run(config(tiny_shards, make_dataset("validate"), evaluate__split="validate"))
    labels = result.content["images"]["random_densenet"]["labels"]
    assert labels
    for name, found in labels.items():
        assert found["fid"] == pytest.approx(0, abs=1e-6), "copies"
        assert found["real_fid"] > 0.01
        assert re.search(rf"\| {name} \| \S+ \| {_number(found['real_fid'])} \| {found['images']:.0f} \|", str(result))
    assert answer_of(result)["figures"]["images"]["random_densenet"]["labels"].keys() == labels.keys()

"""`emixer.load(run).sample(...)`, on a tiny model of random weights."""

import dataclasses
import shutil
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import emixer
from emixer.config import validate
from emixer.data.labels import CHEXPERT
from emixer.errors import CheckpointError, ConfigError, RunFolderError, StorageError
from emixer.generation.sampler import Sampler, _gray_bytes, load
from emixer.generation.trained_model import read_trained_model
from emixer.model_kinds import build_model
from emixer.models.noise import RowNoise
from tests.closed import closed

BATCH = 16


@pytest.fixture(scope="module")
def sampler(tiny_run: Path) -> Sampler:
    return Sampler(read_trained_model(tiny_run), "cpu", BATCH)


def test_two_lines_of_python_give_images_and_reports(tiny_run: Path) -> None:
    pairs = emixer.load(tiny_run).sample(labels=["Pneumothorax"], num=4, seed=0)
    assert pairs.images.shape == (4, 32, 32)
    assert pairs.images.dtype == np.uint8
    assert len(pairs) == len(pairs.reports) == 4
    assert all(report.endswith(".") for report in pairs.reports)
    assert pairs.labels_of(2) == ["Pneumothorax"]
    np.testing.assert_array_equal(np.asarray(pairs.to_pil(1)), pairs.images[1])
    assert repr(pairs).startswith(f"4 pairs of 32 x 32 px\n  0  Pneumothorax: {pairs.reports[0]}")


def test_first_rows_are_the_same_however_many_are_drawn(sampler: Sampler) -> None:
    few, many = sampler.sample(num=5, seed=2), sampler.sample(num=3 * BATCH + 1, seed=2)
    np.testing.assert_array_equal(few.images, many.images[:5])
    np.testing.assert_array_equal(few.labels, many.labels[:5])
    assert few.reports == many.reports[:5]


def test_rows_differ_from_each_other_and_from_another_seed(sampler: Sampler) -> None:
    one, other = (sampler.sample(labels=["Edema"], num=8, seed=seed) for seed in (0, 1))
    assert len({image.tobytes() for image in (*one.images, *other.images)}) == 16
    assert one.reports != other.reports


def test_a_row_does_not_depend_on_its_neighbours_labels(sampler: Sampler) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, (2 * BATCH, len(CHEXPERT)))
    changed = labels.copy()
    changed[1::2] = 1 - changed[1::2]
    before, after = sampler.sample(labels), sampler.sample(changed)
    np.testing.assert_array_equal(before.images[::2], after.images[::2])
    assert before.reports[::2] == after.reports[::2]
    assert (before.images[1::2] != after.images[1::2]).any()


def test_labels_given_by_row_are_those_of_the_rows(sampler: Sampler) -> None:
    labels = np.eye(3, len(CHEXPERT), dtype=int)
    pairs = sampler.sample(labels)
    np.testing.assert_array_equal(pairs.labels, labels)
    assert [pairs.labels_of(i) for i in range(3)] == [["Atelectasis"], ["Cardiomegaly"], ["Consolidation"]]


def test_one_name_and_no_name_are_labels_too(sampler: Sampler) -> None:
    assert sampler.sample("Edema").labels_of(0) == ["Edema"]
    assert sampler.sample([]).labels_of(0) == []


def test_draws_are_those_of_the_model_itself(sampler: Sampler, tiny_run: Path) -> None:
    """Against the untouched model: no folded spectral norm, no channels-last, critics still there."""
    trained = read_trained_model(tiny_run)
    model = build_model(trained.config, trained.spec)
    model.load_state_dict(trained.tensors, strict=False)
    labels = np.random.default_rng(1).integers(0, 2, (BATCH, len(CHEXPERT))).astype(np.uint8)
    noise = RowNoise(5, 0, BATCH, BATCH, torch.device("cpu"))
    expected = model.sample(torch.from_numpy(labels).float(), noise, temperature=0.5)
    images, words = sampler.draw(labels, BATCH, seed=5, temperature=0.5)
    pixels = (expected.image_BCHW[:, 0] + 1) * 127.5
    assert np.abs(images - pixels.numpy()).max() <= 0.51
    np.testing.assert_array_equal(words, expected.words_BSW.numpy())


def test_sampler_holds_neither_critics_nor_parametrizations(sampler: Sampler) -> None:
    names = [name for name, _ in sampler._model.named_parameters()]
    assert not [name for name in names if "discriminator" in name or "parametrizations" in name]


def test_pixels_are_rounded_to_nearest_and_channels_averaged() -> None:
    values = torch.tensor([-1.0, 1.0, 0.0, 1.2, -1.0 + 0.7 / 127.5])
    three_channels = values.view(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert _gray_bytes(three_channels).flatten().tolist() == [0, 255, 128, 255, 1]
    different = torch.tensor([-1.0, -1.0, 0.5]).view(1, 3, 1, 1)
    assert _gray_bytes(different).item() == 64  # (-0.5 + 1) * 127.5 = 63.75


def test_unknown_label_and_wrong_shape_are_refused(sampler: Sampler) -> None:
    with pytest.raises(ConfigError, match="Did you mean Pneumonia"):
        sampler.sample(["Pneumona"])
    with pytest.raises(ConfigError, match=r"shape \(2, 3\).*\(num, 14\)"):
        sampler.sample(np.zeros((2, 3)))
    with pytest.raises(ConfigError, match="0 and 1"):
        sampler.sample(np.full((1, 14), 2))
    with pytest.raises(ConfigError, match="num=0 does not fit"):
        sampler.sample(num=0)
    with pytest.raises(ConfigError, match="num=3 does not fit: expected 2"):
        sampler.sample(np.zeros((2, 14)), num=3)
    with pytest.raises(ConfigError, match="seed=-1"):
        sampler.sample(seed=-1)


def test_columns_of_a_table_are_taken_by_name(sampler: Sampler) -> None:
    labels = np.random.default_rng(2).integers(0, 2, (3, len(CHEXPERT)))
    table = pd.DataFrame(labels, columns=CHEXPERT)
    np.testing.assert_array_equal(sampler.sample(table[list(reversed(CHEXPERT))]).labels, labels)
    for wrong, message in (
        (table.drop(columns=["Edema", "Fracture"]), r"\(missing: Edema, Fracture; unknown or repeated: none\)"),
        (table.rename(columns={"Edema": "Oedema"}), r"\(missing: Edema; unknown or repeated: Oedema\)"),
        (pd.concat([table, table[["Edema"]]], axis=1), r"\(missing: none; unknown or repeated: Edema\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            sampler.sample(wrong)


@pytest.mark.parametrize("value", [-1, np.nan])
def test_labels_that_are_not_known_are_told_from_labels_of_another_shape(sampler: Sampler, value: float) -> None:
    labels = np.zeros((3, len(CHEXPERT)))
    labels[1, 4:6] = value
    with pytest.raises(ConfigError, match=r"values other than 0 and 1 in 1 of 3 rows\. If they are -1"):
        sampler.sample(labels)


@pytest.mark.parametrize("kind", ["Int64", "boolean"])
def test_a_table_with_pandas_own_types_is_a_table_and_its_gaps_are_told(sampler: Sampler, kind: str) -> None:
    labels = np.random.default_rng(2).integers(0, 2, (3, len(CHEXPERT)))
    table = pd.DataFrame(labels, columns=CHEXPERT).astype(kind)
    np.testing.assert_array_equal(sampler.sample(table).labels, labels)
    table.loc[1, "Edema"] = pd.NA
    with pytest.raises(ConfigError, match=r"values other than 0 and 1 in 1 of 3 rows.*labels\.fillna\(0\)"):
        sampler.sample(table)


@pytest.mark.parametrize("batch_size", [-1, 0, 1025])
def test_a_batch_size_that_generate_refuses_is_refused_here_too(tiny_run: Path, batch_size: int) -> None:
    with pytest.raises(ConfigError, match=rf"batch_size={batch_size} is out of range\. Use 1 to 1024"):
        load(tiny_run, batch_size=batch_size)


def settings_of_torch() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    return (
        torch.backends.cuda.matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.enabled, cudnn.benchmark,
        cudnn.deterministic, torch.get_default_dtype(), torch.is_autocast_enabled("cpu"),
    )  # fmt: skip


@pytest.fixture
def as_before() -> Iterator[None]:
    """Takes back what a test sets in torch."""
    owners = (torch.backends.cudnn.conv, torch.backends.cuda.matmul, torch.backends)
    dtype, precision = torch.get_default_dtype(), [owner.fp32_precision for owner in owners]
    yield
    torch.set_default_dtype(dtype)
    for owner, value in zip(owners, precision, strict=True):
        owner.fp32_precision = value


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize("settings", ["autocast", "float64", "matmul tf32", "conv ieee", "all tf32"])
def test_rows_do_not_depend_on_what_the_caller_set_in_torch(tiny_run: Path, sampler: Sampler, settings: str) -> None:
    expected = sampler.sample(["Edema"], num=3, seed=4)
    with torch.autocast("cpu", torch.bfloat16, enabled=settings == "autocast"):
        if settings == "float64":
            torch.set_default_dtype(torch.float64)
        elif settings == "matmul tf32":
            torch.backends.cuda.matmul.fp32_precision = "tf32"
        elif settings == "conv ieee":
            torch.backends.cudnn.conv.fp32_precision = "ieee"
        elif settings == "all tf32":
            torch.backends.fp32_precision = "tf32"
        before = settings_of_torch()
        for drawn in (sampler, Sampler(read_trained_model(tiny_run), "cpu", BATCH)):
            found = drawn.sample(["Edema"], num=3, seed=4)
            np.testing.assert_array_equal(found.images, expected.images)
            assert found.reports == expected.reports
        assert settings_of_torch() == before


def test_two_threads_that_draw_leave_the_settings_of_torch(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, before = sampler._model.sample, (torch.get_float32_matmul_precision(), settings_of_torch())
    number, second_began, first_ended = count(), threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> object:
        if next(number) == 0:
            second_began.wait(1)  # in vain, if they draw one after the other
        else:
            second_began.set()
            first_ended.wait(5)
        return draw(*arguments)

    monkeypatch.setattr(sampler._model, "sample", slowly)
    first, second = (threading.Thread(target=sampler.sample, args=(["Edema"],)) for _ in range(2))
    first.start()
    second.start()
    first.join()
    first_ended.set()
    second.join()
    assert (torch.get_float32_matmul_precision(), settings_of_torch()) == before


def test_run_checkpoint_and_last_checkpoint_are_loaded(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "checkpoints" / "best.json").unlink()
    checkpoint = next((run / "checkpoints").glob("images-*"))
    monkeypatch.setenv("HOME", str(tmp_path))
    digests = {load(path, device="cpu").trained.digest for path in (tiny_run, run, str(checkpoint), "~/run")}
    assert len(digests) == 1


def test_a_damaged_best_is_told_and_once_it_is_deleted_the_last_is_loaded(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (saved,) = (run / "checkpoints").glob("images-*")
    best = saved.with_name("images-000000000001")
    shutil.copytree(saved, best)
    (run / "checkpoints" / "best.json").write_text(f'{{"name": "{best.name}"}}')
    (best / "sampler.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"sampler\.safetensors is not there.*delete that folder"):
        read_trained_model(run)
    shutil.rmtree(best)
    assert read_trained_model(run).path == saved


def test_somebody_elses_run_or_checkpoint_is_told_apart_from_none(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (saved,) = (run / "checkpoints").glob("images-*")
    for path in (run, saved):
        with closed(run), pytest.raises(StorageError, match="No permission to read"):
            read_trained_model(path)


def test_folder_without_run_or_checkpoint_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder"):
        load(tmp_path)
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        load(run)


def test_checkpoint_of_another_model_is_refused(tiny_run: Path) -> None:
    trained = read_trained_model(tiny_run)
    tree = {"model": trained.config.model_dump() | {"max_sentences": 2, "side_px": 64}}
    other = dataclasses.replace(trained, config=validate(tree, origin="test").model)
    with pytest.raises(CheckpointError, match="does not fit the model it names"):
        Sampler(other, "cpu")


def test_checkpoint_that_names_no_model_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    state = next((run / "checkpoints").glob("images-*")) / "checkpoint.json"
    state.write_text(state.read_text().replace('"spec"', '"other"'))
    with pytest.raises(CheckpointError, match="does not describe its model"):
        load(run)


def test_other_labels_with_the_noise_held_are_those_of_a_sample_with_these_labels(sampler: Sampler) -> None:
    base, other = sampler.sample(["Edema"], num=5, seed=4), sampler.sample(["Fracture"], num=5, seed=4)
    redrawn = sampler.relabel(base, other.labels, seed=4)
    np.testing.assert_array_equal(redrawn.images, other.images)
    assert redrawn.reports == other.reports
    assert (redrawn.images != base.images).any()
    with pytest.raises(ConfigError, match=r"The pairs have labels of \(5, 14\)"):
        sampler.relabel(base, other.labels[:3], seed=4)


def test_part_of_what_was_drawn_keeps_its_noise_with_other_labels(sampler: Sampler) -> None:
    num = 2 * BATCH
    base, other = sampler.sample(["Edema"], num=num, seed=4), sampler.sample(["Fracture"], num=num, seed=4)
    part = slice(BATCH + 5, 1, -4)  # of two blocks, backwards
    redrawn = sampler.relabel(base[part], other.labels[part], seed=4)
    np.testing.assert_array_equal(redrawn.images, other.images[part])
    assert redrawn.reports == other.reports[part]
    again = sampler.relabel(redrawn[1:3], base.labels[:2], seed=4)
    np.testing.assert_array_equal(again.images, base.images[part][1:3])

    strip = sampler.interpolate(["Edema"], [], num=3, seed=4, row=7)
    of_one_row = sampler.relabel(strip, np.concatenate([base.labels[:2], other.labels[:1]]), seed=4)
    for image, pairs in zip(of_one_row.images, (base, base, other), strict=True):
        np.testing.assert_array_equal(image, pairs.images[7])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["Edema"], ["Fracture"]], r"an array of shape \(2, 1\)\. Expected a list of names"),
        ([["Edema"], ["Fracture", "Edema"]], "a list of lists of several lengths"),
        (np.zeros((0, 14)), "no rows"),
        (np.full((2, 14), -1, np.int8), "0 and 1"),
        (np.full((2, 14), 0.5), "0 and 1"),
    ],
)
def test_labels_by_row_that_say_nothing_are_refused(sampler: Sampler, labels: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sampler.sample(labels)
    with pytest.raises(ConfigError, match=message):
        sampler.relabel(sampler.sample(num=2), labels)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"temperature": float("nan")}, {"seed": 2**63}])
def test_seeds_and_temperatures_that_generate_refuses_are_refused_here_too(
    sampler: Sampler, wrong: dict[str, Any]
) -> None:
    for draw in (
        lambda: sampler.sample(["Edema"], **wrong),
        lambda: sampler.interpolate(["Edema"], [], **wrong),
        lambda: sampler.relabel(sampler.sample(num=2), np.zeros((2, 14)), **wrong),
    ):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))}=.* is out of range"):
            draw()


def test_a_checkpoint_that_has_no_name_is_not_taken_for_the_last(tiny_run: Path) -> None:
    with pytest.raises(ConfigError, match="which='images-000000000064' is neither best nor last"):
        load(tiny_run, which="images-000000000064")  # type: ignore[arg-type]


@pytest.mark.parametrize("row", [0, BATCH + 3])
def test_an_interpolation_begins_and_ends_with_the_row_of_a_sample(sampler: Sampler, row: int) -> None:
    strip = sampler.interpolate(["Edema"], ["Fracture"], num=4, seed=4, row=row)
    for place, labels in ((0, ["Edema"]), (-1, ["Fracture"])):
        pair = sampler.sample(labels, num=row + 1, seed=4)[row]
        np.testing.assert_array_equal(strip[place].image, pair.image)
        assert (strip[place].report, strip[place].labels) == (pair.report, pair.labels)
    edema = CHEXPERT.index("Edema")
    np.testing.assert_allclose(strip.labels[:, edema], [1, 2 / 3, 1 / 3, 0], rtol=1e-6)
    assert [pair.labels for pair in strip] == [("Edema",), ("Edema",), ("Fracture",), ("Fracture",)]
    with pytest.raises(ConfigError, match="at least 2 steps"):
        sampler.interpolate([], [], num=1)

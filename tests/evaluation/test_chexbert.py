"""CheXbert with random weights made on the spot: the file layout of its authors, their classes, their order."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emixer.errors import CheckpointError, ConfigError
from emixer.evaluation.chexbert import CONDITIONS, WEIGHTS, Chexbert
from emixer.evaluation.report_mentions import Mention

pytestmark = pytest.mark.usefixtures("no_network")
CPU = torch.device("cpu")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "edema", "effusion", "large", "heart", "."]
SIZES = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 32, "initializer_range": 0.5}  # fmt: skip
REPORTS = ["No edema.", "Large heart.\nNo effusion.", "", "  ", "edema edema edema large", "heart"]


@pytest.fixture
def bert() -> Any:
    """A small BERT of the reference implementation."""
    transformers = pytest.importorskip("transformers", reason="needs emixer[fid]")
    torch.manual_seed(0)
    return transformers.BertModel(transformers.BertConfig(**SIZES)).eval()


@pytest.fixture
def heads() -> list[torch.nn.Linear]:
    """One head per condition, large enough that answers differ."""
    torch.manual_seed(1)
    made = [torch.nn.Linear(16, 4) for _ in range(13)] + [torch.nn.Linear(16, 2)]
    for head in made:
        torch.nn.init.normal_(head.weight, std=2.0)
    return made


@pytest.fixture
def folder(bert: Any, heads: list[torch.nn.Linear], tmp_path: Path) -> Path:
    """The authors' checkpoint layout: saved from DataParallel, with an optimizer and a buffer of old transformers."""
    state = {f"module.bert.{name}": value for name, value in bert.state_dict().items()}
    state["module.bert.embeddings.position_ids"] = torch.arange(512)[None]
    for index, head in enumerate(heads):
        for name, value in head.state_dict().items():
            state[f"module.linear_heads.{index}.{name}"] = value
    torch.save({"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {"lr": 1e-5}}, tmp_path / WEIGHTS)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    (tmp_path / "config.json").write_text(json.dumps(SIZES | {"model_type": "bert"}))
    return tmp_path


def test_labels_are_the_likeliest_class_of_each_head_on_the_first_token(
    bert: Any, heads: list[torch.nn.Linear], folder: Path
) -> None:
    found = Chexbert(folder, CPU).mentions(REPORTS, CONDITIONS)
    assert (found.shape, found.dtype) == ((6, 14), np.int8)
    # by hand, one by one, without padding
    meanings = {0: Mention.UNMENTIONED, 1: Mention.PRESENT, 2: Mention.NEGATED, 3: Mention.UNCERTAIN}
    for row, text in enumerate(REPORTS):
        if not text.strip():
            assert (found[row] == Mention.UNMENTIONED).all()
            continue
        words = text.lower().replace(".", " .").split()
        ids = torch.tensor([[2, *map(WORDS.index, words), 3]])
        with torch.no_grad():
            first = bert(ids).last_hidden_state[0, 0]
            expected = [meanings[int(head(first).argmax())] for head in heads]
        assert found[row].tolist() == expected, text
    assert len(np.unique(found)) == 4
    assert not np.array_equal(found[0], found[4])


def test_columns_are_in_the_requested_order_and_unknown_labels_are_unmentioned(folder: Path) -> None:
    reader = Chexbert(folder, CPU)
    all_14 = reader.mentions(REPORTS, CONDITIONS)
    some = reader.mentions(REPORTS, ["Edema", "Hernia", "Cardiomegaly"])
    assert np.array_equal(some[:, [0, 2]], all_14[:, [4, 1]])
    assert (some[:, 1] == Mention.UNMENTIONED).all()
    assert reader.mentions([], ["Edema"]).shape == (0, 1)


def test_batched_reports_are_read_as_if_alone_and_long_ones_are_truncated(folder: Path) -> None:
    reader = Chexbert(folder, CPU)
    many = ["edema " * (1 + n % 9) + "heart" for n in range(75)]
    found = reader.mentions(many, CONDITIONS)
    for n in (0, 31, 32, 74):
        assert np.array_equal(found[n], reader.mentions([many[n]], CONDITIONS)[0])
    long = reader.mentions(["edema " * 510, "edema " * 510 + "heart " * 300], CONDITIONS)
    assert np.array_equal(long[0], long[1])


def test_missing_damaged_or_foreign_weights_are_reported(folder: Path, tmp_path: Path) -> None:
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(weights[:1000])
    with pytest.raises(CheckpointError, match=r"is not the weights file of CheXbert"):
        Chexbert(folder, CPU)
    torch.save({"model_state_dict": {"module.bert.x": torch.zeros(1)}}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"does not fit CheXbert"):
        Chexbert(folder, CPU)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"has no chexbert\.pth"):
        Chexbert(folder, CPU)


def test_pickled_code_is_not_run(folder: Path) -> None:
    class Program:
        def __reduce__(self) -> tuple[Any, ...]:
            return exec, ("raise SystemExit('it ran')",)

    torch.save({"model_state_dict": {}, "more": Program()}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"is not the weights file"):
        Chexbert(folder, CPU)


def test_missing_transformers_error_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"evaluate\.chexbert needs transformers"):
        Chexbert(folder, CPU)

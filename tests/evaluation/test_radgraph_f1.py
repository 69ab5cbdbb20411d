"""RadGraph F1 with a small model of random weights, against the package's own computation."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from emixer.errors import CheckpointError, ConfigError
from emixer.evaluation.radgraph_f1 import MODEL, Radgraph

pytestmark = pytest.mark.usefixtures("no_network")
CPU = torch.device("cpu")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "no", "edema", "effusion", "large", "heart", ".", "the", "is",
         "a", "b", "1", "2"]  # fmt: skip
REPORTS = ["No edema.", "The heart is large.", "", "no effusion . the heart is large .", "No edema."]
REFERENCES = ["No edema.", "The heart is large. no edema.", "No edema.", "The heart is large.", " "]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of the authors' archive: config, vocabulary, weights; and a BERT in the layout of its library."""
    transformers = pytest.importorskip("transformers", reason="needs emixer[radgraph]")
    made = tmp_path_factory.mktemp("radgraph")
    bert, model = made / "bert", made / MODEL
    bert.mkdir()
    (bert / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast.from_pretrained(str(bert)).save_pretrained(bert)
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        initializer_range=0.5,
    )).save_pretrained(bert)  # fmt: skip
    (model / "vocabulary").mkdir(parents=True)
    for name, lines in {
        "non_padded_namespaces": ["*labels", "*tags"],
        f"{MODEL}__ner_labels": ["", "Observation::definitely present", "Anatomy::definitely present"],
        f"{MODEL}__relation_labels": ["", "modify", "located_at"],
    }.items():
        (model / "vocabulary" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    reader = {"model_name": str(bert), "max_length": 512}
    (model / "config.json").write_text(json.dumps({
        "dataset_reader": {"max_span_width": 3, "token_indexers": {"bert": reader}},
        "model": {
            "type": "dygie", "initializer": None, "module_initializer": None,
            "embedder": {"token_embedders": {"bert": reader}}, "feature_size": 4, "max_span_width": 3,
            "target_task": "relation",
            "feedforward_params": {"num_layers": 1, "hidden_dims": 8, "dropout": 0.0},
            "loss_weights": {"ner": 0.2, "relation": 1.0, "coref": 0.0, "events": 0.0},
            "modules": {
                "ner": {}, "coref": {"spans_per_word": 0.3, "max_antecedents": 4}, "relation": {"spans_per_word": 0.5},
                "events": {"trigger_spans_per_word": 0.3, "argument_spans_per_word": 0.3,
                           "loss_weights": {"trigger": 1.0, "arguments": 1.0}},
            },
        },
    }))  # fmt: skip
    save_untrained(made)
    return made


def save_untrained(folder: Path) -> None:
    """Let the package build its network from the config, and save the weights it drew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("radgraph.radgraph", reason="needs emixer[radgraph]")

        def keep(network: torch.nn.Module, state: object, strict: bool = True) -> None:
            torch.manual_seed(3)
            for name, parameter in network.named_parameters():
                if "bert" not in name:
                    torch.nn.init.normal_(parameter, std=0.7)
            torch.save(network.state_dict(), folder / MODEL / "weights.th")

        torch.save({}, folder / MODEL / "weights.th")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(module.dygie.DyGIE, "load_state_dict", keep)
            module.RadGraph(model_type=MODEL, model_cache_dir=str(folder), cuda=-1)


def test_f1_is_the_packages_partial_reward_and_0_for_an_empty_side(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = Radgraph(folder, CPU)
    found = reader.f1(REPORTS, REFERENCES)
    assert capsys.readouterr() == ("", "")
    assert found.dtype == np.float64
    assert (found[0], found[2], found[4]) == (1.0, 0.0, 0.0)
    assert 0 < found[1] < 1
    assert 0 < found[3] < 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from radgraph import F1RadGraph

        own = F1RadGraph(reward_level="partial", model_type=MODEL, model_cache_dir=str(folder), cuda=-1)
        _, expected, _, _ = own(hyps=[REPORTS[n] for n in (0, 1, 3)], refs=[REFERENCES[n] for n in (0, 1, 3)])
    np.testing.assert_allclose(found[[0, 1, 3]], expected)


def test_each_text_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Radgraph(folder, CPU)
    read: list[list[str]] = []
    model = reader._model
    monkeypatch.setattr(reader, "_model", lambda texts: read.append(texts) or model(texts))
    first = reader.f1(REPORTS, REFERENCES)
    assert read == [list(dict.fromkeys(text for text in (*REPORTS, *REFERENCES) if text.strip()))]
    assert reader.f1(REPORTS, REFERENCES).tolist() == first.tolist()
    assert len(read) == 1


def test_missing_or_mismatched_model_is_reported(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"radgraph-xl has no config\.json, weights\.th, vocabulary"):
        Radgraph(tmp_path, CPU)
    weights = folder / MODEL / "weights.th"
    kept = weights.read_bytes()
    config = folder / MODEL / "config.json"
    named = config.read_text()
    try:
        torch.save({"x": torch.zeros(1)}, weights)
        with pytest.raises(CheckpointError, match=r"cannot be loaded \(RuntimeError\)"):
            Radgraph(folder, CPU)
        for content in (b"", b"version https://git-lfs.github.com/spec/v1", kept[:500]):
            weights.write_bytes(content)
            with pytest.raises(CheckpointError, match=r"cannot be loaded"):
                Radgraph(folder, CPU)
        config.write_text(named.replace(str(folder / "bert"), "somebody/bert"))
        with pytest.raises(CheckpointError, match=r"names the BERT somebody/bert, .* nothing is downloaded"):
            Radgraph(folder, CPU)
        config.write_text("{}")
        with pytest.raises(CheckpointError, match=r"is not that of radgraph-xl"):
            Radgraph(folder, CPU)
    finally:
        weights.write_bytes(kept)
        config.write_text(named)
    monkeypatch.setitem(sys.modules, "radgraph", None)
    with pytest.raises(ConfigError, match=r"evaluate\.radgraph needs the package radgraph"):
        Radgraph(folder, CPU)

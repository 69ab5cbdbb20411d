"""Labels of reports by CheXbert, a BERT trained on the labels of the CheXpert labeler and of radiologists.

The literature's "CheXbert F1" compares its labels of two reports; here those of a report are compared with given
labels. Needs `emixer[fid]` and the weights on disk: nothing is downloaded, and no pickled code is run.

Shapes: N reports, B reports of a batch, T tokens, F features, Y labels.
Source: Smit et al. 2020, CheXbert; order of conditions and classes as in the authors' labeler.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emixer.errors import CheckpointError, ConfigError
from emixer.evaluation.report_mentions import Mention
from emixer.extras import to_install

CONDITIONS = (
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices", "No Finding",
)  # fmt: skip
"""The 14 labels in the order of the heads; the last head has two classes, the others four."""
WEIGHTS = "chexbert.pth"
_CLASSES = (Mention.UNMENTIONED, Mention.PRESENT, Mention.NEGATED, Mention.UNCERTAIN)
_MAX_TOKENS, _BATCH = 512, 32


def check_chexbert(folder: Path) -> None:
    """Raise CheckpointError if a file that `Chexbert` needs is missing."""
    for name in (WEIGHTS, "vocab.txt"):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} has no {name}. Expected a folder with {WEIGHTS}, as CheXbert's authors publish it, and the "
                "vocab.txt of bert-base-uncased."
            )


class Chexbert:
    """CheXbert, loaded for inference."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """folder: `chexbert.pth` of its authors and the `vocab.txt` of bert-base-uncased; a BERT `config.json` if the
        network has another size.

        Raises CheckpointError when files are missing, damaged or of another network, ConfigError without transformers.
        """
        check_chexbert(folder)
        try:
            from transformers import BertConfig, BertModel, BertTokenizer
        except ImportError as error:
            raise ConfigError(
                f"evaluate.chexbert needs transformers. Run {to_install('fid')}, or unset evaluate.chexbert."
            ) from error
        config = BertConfig.from_pretrained(folder) if (folder / "config.json").is_file() else BertConfig()
        self._tokenizer = BertTokenizer.from_pretrained(str(folder), local_files_only=True, do_lower_case=True)
        self._network = _Network(BertModel(config), config.hidden_size).eval()
        try:
            self._network.load_state_dict(_state_of(folder / WEIGHTS))
        except RuntimeError as error:
            raise CheckpointError(
                f"{folder / WEIGHTS} does not fit CheXbert, a BERT with 14 heads. Give the authors' file."
            ) from error
        self._network.to(device)
        self._device = device

    @torch.no_grad()
    def mentions(self, reports: Sequence[str], label_names: Sequence[str]) -> NDArray[np.int8]:
        """`Mention` values, int8 (N, Y); UNMENTIONED for labels unknown to CheXbert and for empty reports."""
        found_NC = np.full((len(reports), len(CONDITIONS)), Mention.UNMENTIONED, np.int8)
        told = [n for n, report in enumerate(reports) if report.strip()]
        told.sort(key=lambda n: len(reports[n]))  # batches of similar length need less padding
        for start in range(0, len(told), _BATCH):
            rows = told[start : start + _BATCH]
            found_NC[rows] = self._read([reports[n] for n in rows])
        unknown_N = np.full(len(reports), Mention.UNMENTIONED, np.int8)
        columns = [found_NC[:, CONDITIONS.index(name)] if name in CONDITIONS else unknown_N for name in label_names]
        return np.stack(columns, axis=1)

    def _read(self, reports: list[str]) -> NDArray[np.int8]:
        encoded = self._tokenizer(
            [" ".join(report.split()) for report in reports], padding=True, truncation=True, max_length=_MAX_TOKENS,
            return_tensors="pt",
        ).to(self._device)  # fmt: skip
        classes_BC = self._network(encoded["input_ids"], encoded["attention_mask"]).cpu().numpy()
        mentions_BC: NDArray[np.int8] = np.array(_CLASSES, np.int8)[classes_BC]
        return mentions_BC


class _Network(nn.Module):
    """BERT with a linear head per condition on its first token. Parameter names as in the weights file."""

    def __init__(self, bert: nn.Module, num_features: int) -> None:
        super().__init__()
        self.bert = bert
        classes = [len(_CLASSES)] * (len(CONDITIONS) - 1) + [2]
        self.linear_heads = nn.ModuleList([nn.Linear(num_features, num) for num in classes])

    def forward(self, tokens_BT: Tensor, is_token_BT: Tensor) -> Tensor:
        """Most likely class of each condition, int64 (B, 14)."""
        whole_BF = self.bert(tokens_BT, attention_mask=is_token_BT).last_hidden_state[:, 0]
        return torch.stack([head(whole_BF).argmax(1) for head in self.linear_heads], dim=1)


def _state_of(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        state = content["model_state_dict"]
        # trained with DataParallel and a transformers version that stored positions as a buffer
        return {k.removeprefix("module."): v for k, v in state.items() if not k.endswith("embeddings.position_ids")}
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not the weights file of CheXbert ({type(error).__name__}). Give the authors' chexbert.pth."
        ) from error

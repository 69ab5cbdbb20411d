"""README.md of a published model: the card that the Hugging Face Hub shows, and what whoever loads it must know."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emixer._version import __version__
from emixer.config.model import ModelConfig
from emixer.data.vocabulary import SPECIAL_TOKENS
from emixer.files import write_text
from emixer.generation.published_model import CARD
from emixer.hub.disclosure import Withheld
from emixer.markdown import table_row
from emixer.metric_names import METRIC_NAMES, fid_name
from emixer.models.paired_model import ModelSpec

_NO_NAME_YET = "ORG/NAME"
_LOADED = re.compile(r'^(pairs = emixer\.from_pretrained\(")[^"]*("\)\.sample\()', re.MULTILINE)
"""The line of the card that loads the model, around the repository's name."""
_TAGS = ("emixer", "medical", "radiology", "chest-x-ray", "synthetic", "gan", "image-and-report")
_FIGURES = ("label_auc", "report_f1", "pair_agreement", "distinct_reports", "words_per_report")
_REAL, _GENERATED = "_real", "_generated"


@dataclass(frozen=True)
class PublishedFacts:
    """What the card tells. Holds no paths and no text of reports."""

    model: ModelConfig
    spec: ModelSpec
    images: int
    """Real images trained on, each as often as it was seen."""
    license: str
    license_name: str | None
    training_data: Mapping[str, Any]
    """`sources`, by name, and how many `images`, `studies` and `subjects` of the train split."""
    validation: Mapping[str, float]
    withheld: Withheld


def model_card(facts: PublishedFacts) -> str:
    """The whole file."""
    model, spec, data = facts.model, facts.spec, facts.training_data
    sources = ", ".join(data["sources"])
    drawn = f'sample(labels=["{spec.label_names[0]}"], num=4, seed=0)'
    return f"""---
{_front_matter(facts)}---

# Chest X-rays with their reports ({model.kind}, {model.side_px} px)

Draws pairs of a chest image (gray, {model.side_px} px square) and a findings report from labels{_also(spec)}.
Trained with [emixer](https://arxiv.org/abs/2007.05597) {__version__} on {facts.images:,} images, counting each as often
as it was seen.

## Before you use it

- **Not for diagnosis.** What it draws is synthetic and can be wrong in ways that no real image is. Do not use it for
  any decision about a patient.
- **Data use agreement.** A model falls under the terms of the data that it learned from, and so does what it draws. For
  data under an agreement (for MIMIC-CXR: the PhysioNet Credentialed Health Data Use Agreement), share both only
  with people who have signed it.
- **No privacy audit is stated here.** Generative models can repeat training examples. `emixer audit` looks for that in
  pairs drawn from the model.
- **Licence of the weights:** {facts.license_name or facts.license}.

## Intended use

Research: augmenting or replacing training data of classifiers and report generators, teaching, and the study of
generative models. Out of scope: clinical use, and claims about patients, groups of patients or devices.

## Load it

```python
import emixer  # in a clone of its repository: pip install '.[hub]'

pairs = emixer.from_pretrained("{_NO_NAME_YET}").{drawn}
pairs.images, pairs.reports  # uint8 (4, {model.side_px}, {model.side_px}), list of str
pairs.save("four")
```

A dataset of any size, from a downloaded folder: `emixer generate --run FOLDER --num 1000 --out pairs`.

## Trained on

| | train split |
| --- | --- |
| collections | {sources} |
{_counts(data)}| words of the vocabulary | {len(spec.tokens) - len(SPECIAL_TOKENS):,} |

Labels: {", ".join(spec.label_names)}.
{_conditions(spec)}{_withheld(facts.withheld)}
## Measured in training

{_measured(facts.validation)}
## The method

Biswal et al., *EMIXER: End-to-end Multimodal X-ray Generation via Self-supervision*, arXiv:2007.05597.
"""


def name_repository(folder: Path, repository: str) -> None:
    """Puts the repository's name into the line of the card in `folder` that loads the model, in place of another's."""
    card = folder / CARD
    text = card.read_text(encoding="utf-8")
    named = text.replace(f'from_pretrained("{_NO_NAME_YET}")', f'from_pretrained("{repository}")')
    named = _LOADED.sub(lambda found: f"{found[1]}{repository}{found[2]}", named)  # of an earlier repository
    if named != text:
        write_text(card, named)


def _front_matter(facts: PublishedFacts) -> str:
    named = {"license_name": facts.license_name} if facts.license_name is not None else {}
    fields = {
        "library_name": "emixer",
        "license": facts.license,
        **named,
        "language": ["en"],
        "tags": [*_TAGS, facts.model.kind] if facts.model.kind not in _TAGS else list(_TAGS),
    }
    return str(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True))


def _also(spec: ModelSpec) -> str:
    names = spec.conditions.names
    return f" and, if given, {', '.join(names)}" if names else ""


def _conditions(spec: ModelSpec) -> str:
    each = zip(spec.conditions.names, spec.conditions.values, strict=True)
    lines = [f"{name.capitalize()}: {', '.join(values)}." for name, values in each]
    return "".join(f"{line}\n" for line in lines)


def _counts(data: Mapping[str, Any]) -> str:
    names = ("images", "studies", "subjects")
    return "".join(table_row([name, f"{data[name]:,}"]) + "\n" for name in names if data.get(name) is not None)


def _withheld(withheld: Withheld) -> str:
    if not withheld.combinations:
        return ""
    return (
        "\nWith no labels given, labels are drawn as training images have them, less what might tell a patient: "
        f"{withheld}.\n"
    )


def _measured(validation: Mapping[str, float]) -> str:
    """Figures of whole splits; those of single labels may be those of a few patients."""
    whole = {name: value for name, value in validation.items() if "/" not in name}
    rows = []
    for name in _FIGURES:
        generated, real = whole.get(name + _GENERATED), whole.get(name + _REAL)
        if generated is not None:
            rows.append([METRIC_NAMES[name], f"{generated:.3g}", "" if real is None else f"{real:.3g}"])
    for name in sorted(whole):
        if name.startswith("fid_"):
            rows.append([fid_name(name), f"{whole[name]:.3g}", ""])
    if "word_cross_entropy" in whole:
        rows.append(["word cross-entropy of real reports [nats]", f"{whole['word_cross_entropy']:.3g}", ""])
    if not rows:
        return "Nothing was measured at this checkpoint.\n"
    lines = [table_row(["figure", "generated", "real"]), "| --- | --- | --- |", *map(table_row, rows)]
    return "On the validate split.\n\n" + "\n".join(lines) + "\n"

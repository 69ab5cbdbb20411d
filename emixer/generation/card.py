"""README.md of a generated dataset: the card that the Hugging Face hub shows, and what its user must know."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from emixer.files import write_text
from emixer.generation.dataset_files import DATA_FOLDER
from emixer.generation.generation_plan import GenerationPlan
from emixer.markdown import table_row

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))

CARD_NAME = "README.md"
_REDRAWS = (
    "| `redraws` | draws of this row that were withheld, as too near to training data, before this one |\n"
    "| `withheld_for` | why each of them was, in order: draws separated by `;`, reasons by `+`; null: none was |\n"
)
_REASONS = {
    "image_pixels": "image too near by pixels",
    "image_features": "image too near by features",
    "report": "report copied",
    "names": "name in the report",
    "dates": "date in the report",
    "numbers": "long number in the report",
}
NOT_AUDITED = (
    "- **No privacy audit was done on the finished dataset.** Generative models can repeat training examples; "
    "`emixer audit` looks for that."
)
_AUDITED = (
    "- **Privacy audit: {verdict}.** {summary} {compared} By `emixer audit`, which can find copies but not prove their "
    "absence."
)
_ABOUT_AUDIT = ("- **No privacy audit", _AUDITED.partition(":")[0])
_TITLE = "# Synthetic chest X-rays with reports"


def dataset_card(plan: GenerationPlan, manifest: Mapping[str, Any]) -> str:
    """The whole file. It says how the rows were made; it holds no paths and nothing of the training images."""
    return f"---\n{_front_matter(plan)}---\n\n{_body(plan, manifest)}"


def screening_in_words(audit: Mapping[str, Any]) -> str:
    """What was withheld as a dataset was made, in one line. audit: of its manifest."""
    withheld, most = audit["withheld"], len(audit["rows_by_redraws"]) - 1
    if not withheld:
        return "No pair was withheld by the audit's measure."
    pairs = "1 pair was" if withheld == 1 else f"{withheld:,} pairs were"
    rows = "1 row" if audit["rows_redrawn"] == 1 else f"{audit['rows_redrawn']:,} rows"
    reasons = ", ".join(f"{_REASONS[name]} {count:,}" for name, count in audit["withheld_by_reason"].items() if count)
    return (
        f"{pairs} withheld by the audit's measure, and {rows} drawn again, at most {most} times. "
        f"Reasons, of which a pair may have several: {reasons}."
    )


def state_audit(folder: Path, verdict: str, summary: str, compared: str) -> None:
    """Puts the outcome of an audit into the card of the dataset in `folder`: in the place of what it said of one
    before, else at its end, since its owner may have edited it.

    compared: with which images and how, in sentences.
    """
    card = folder / CARD_NAME
    lines = card.read_text(encoding="utf-8").splitlines() if card.exists() else [_TITLE]
    audited = _AUDITED.format(verdict=verdict, summary=summary, compared=compared)
    places = [place for place, line in enumerate(lines) if line.startswith(_ABOUT_AUDIT)]
    for place in places:
        lines[place] = audited
    if not places:
        lines += ["", audited]
    write_text(card, "\n".join(lines) + "\n")


def _front_matter(plan: GenerationPlan) -> str:
    rows = plan.layout.num_rows
    size = next((name for limit, name in _SIZES if rows < limit), "n>10M")
    fields = {
        "pretty_name": f"Synthetic chest X-rays with reports ({plan.trained.config.kind}, {rows:,} pairs)",
        "license": "other",
        "license_name": "as-the-data-use-agreement-of-the-training-data",
        "language": ["en"],
        "task_categories": ["image-to-text", "text-to-image", "image-classification"],
        "tags": ["medical", "radiology", "chest-x-ray", "synthetic", "emixer"],
        "size_categories": [size],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": f"{DATA_FOLDER}/train-*.parquet"}]}
        ],
    }
    return str(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True))


def _body(plan: GenerationPlan, manifest: Mapping[str, Any]) -> str:
    label_counts: Mapping[str, int] = manifest["label_counts"]
    condition_counts: Mapping[str, Mapping[str, int]] = manifest.get("condition_counts", {})
    rows, config = plan.layout.num_rows, plan.trained.config
    shares = "\n".join(
        _shares(name, counts, rows) for name, counts in {"label": label_counts, **condition_counts}.items()
    )
    made = "\n".join(_settings(plan))
    screened = _screened(plan, manifest["audit"]) if "audit" in manifest else ""
    return f"""{_TITLE}

{rows:,} generated pairs of a chest image ({config.side_px} x {config.side_px} px) and a findings report, with the
labels that each was conditioned on; {manifest["bytes"] / 1e6:,.1f} MB of Parquet.

![The first pairs](contact_sheet.png)

## Before you use it

- **Synthetic, and not for diagnosis.** Images and reports come from a generative model. They can be wrong in ways that
  no real image is, and nobody has read them. Do not use them for any decision about a patient.
- **Labels are what the model was asked for**, not what a radiologist found in the image. Combinations of labels\
{" and conditions" if condition_counts else ""} drawn
  from the training images include those that a single patient has, unless the model is a published one without them.
{screened}{NOT_AUDITED}
- **Licence.** The data use agreement of the training data may cover what a model trained on it produces. Check it
  before you share this dataset (for MIMIC-CXR: the PhysioNet Credentialed Health Data Use Agreement).

## Open it

```python
from datasets import load_dataset

pairs = load_dataset("THIS FOLDER", split="train")  # its path, or its name on the Hugging Face hub
pairs[0]["image"], pairs[0]["report"]
```

## Columns

| column | content |
| --- | --- |
| `image` | the image, 8-bit gray {plan.row_format.image_format.upper()} |
| `report` | the findings as text |
| one column a label | int8, 1 where the row was conditioned on the label, else 0 |
{_condition_columns(condition_counts)}| `seed`, `index` | a row depends on these two and its labels\
{" and conditions" if condition_counts else ""} alone |
{_REDRAWS if screened else ""}
## Labels

Drawn from: {plan.labels.description}.

{shares}
## How it was made

By `emixer generate` with {config.kind} after {plan.trained.images:,} training images.{_training_data(plan)}

| setting | value |
| --- | --- |
{made}

The method: Biswal et al., *EMIXER: End-to-end Multimodal X-ray Generation via Self-supervision*, arXiv:2007.05597.
`manifest.json` has the files' checksums.
"""


def _settings(plan: GenerationPlan) -> Iterator[str]:
    for name, value in plan.settings.items():
        if value is not None:
            yield table_row([name.replace("_", " "), str(value)])


def _condition_columns(names: Iterable[str]) -> str:
    about = {"sex": "F or M", "age": "age group [years]", "view": "projection"}
    return "".join(f"| `{name}` | {about[name]} that the row was conditioned on; null: none |\n" for name in names)


def _screened(plan: GenerationPlan, audit: Mapping[str, Any]) -> str:
    """Says of each row what `NOT_AUDITED`, or an audit, says of all of them."""
    named = {"pixels": "{:.3g} by pixels", "features": "{:.3g} by features of " + audit["encoder"],
             "report_sequences": "{:g} word sequences of one patient"}  # fmt: skip
    thresholds = [named[name].format(value) for name, value in audit["thresholds"].items()]
    begins = ", ".join(thresholds[:2]) + "".join(f", or with {each}" for each in thresholds[2:])
    remarks = "".join(f" {remark}" for remark in audit["remarks"])
    also = ", or its report to one patient's reports" if "report_sequences" in audit["thresholds"] else ""
    return (
        f"- **Screened for what repeats training data.** {screening_in_words(audit)} The question to each pair, as it "
        f"was drawn: is its image nearer to one of {audit['train']:,} training images{also}, than all but "
        f"{plan.settings['audit_false_alarm']:.2%} of {audit['held_out']:,} held-out ones are? Flagging begins at a "
        f"distance of {begins}. A report with a title and a name (Dr. X), a full date or a number of six digits or "
        f"more was withheld as well; other names were not looked for.{remarks}\n"
    )


def _shares(name: str, counts: Mapping[str, int], rows: int) -> str:
    """A table of how many rows have each label, or each value of a condition."""
    lines = "".join(table_row([value, f"{count:,}", f"{count / rows:.1%}"]) + "\n" for value, count in counts.items())
    return f"| {name} | rows | share |\n| --- | --- | --- |\n{lines}"


def _training_data(plan: GenerationPlan) -> str:
    """Whose images the model saw, by what its checkpoint or its publisher says."""
    told = plan.trained.training_data
    if not told:
        return ""
    counted = ", ".join(f"{told[name]:,} {name}" for name in ("images", "studies", "subjects") if name in told)
    return f" Its training data: {', '.join(told.get('sources', ())) or 'of an unnamed source'} ({counted})."

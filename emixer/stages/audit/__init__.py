"""`emixer audit`: how much of its training data a generated dataset leaks, with held-out data as the control."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emixer import files
from emixer.audit.page import render
from emixer.config import Config
from emixer.data.collection import identify
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, StorageError
from emixer.evaluation.features import Network
from emixer.generation.card import state_audit
from emixer.generation.manifest import AUDIT_FOLDER, read_finished_manifest, require_unchanged
from emixer.generation.published_model import is_published_model
from emixer.generation.trained_model import TrainedModel, read_trained_model
from emixer.generation.training_data import TrainingData
from emixer.ray_session import connect
from emixer.stages.audit.control import check_control, encoder_remarks, find_encoder, measured_in
from emixer.stages.audit.findings import Audited, findings
from emixer.stages.audit.page import page_of
from emixer.stages.audit.sides import HELD_OUT, TRAIN, GeneratedSide, RealSide
from emixer.stages.audit.training_data import Checked, remarks_on, require_trained_on, shards_digest
from emixer.stages.evaluate.sides import compared_labels
from emixer.stages.real_measurements import given_away_with
from emixer.stages.result import StageResult

logger = logging.getLogger(__name__)

_MIN_ROWS = 20


@dataclass(frozen=True)
class AuditResult(StageResult):
    """Result of an audit."""

    out: Path
    content: dict[str, Any]

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"audit": self.out / "audit.json", "page": self.out / "audit.html"}

    @property
    def figures(self) -> Mapping[str, Any]:
        return {name: self.content[name] for name in ("verdict", "summary", "checks", "remarks")}

    def __str__(self) -> str:
        width = max(len(check["what"]) for check in self.content["checks"])
        lines = [f"Verdict: {self.content['verdict'].upper()}. {self.content['summary']}"]
        for check in self.content["checks"]:
            mark = "ok  " if check["passed"] else "FAIL"
            low_high = "" if check["interval"] is None else " [{:.3g}, {:.3g}]".format(*check["interval"])
            figure = f"{check['value']:.4g}{low_high}"
            lines.append(f"  {mark} {check['what']:<{width}}  {figure} (limit {check['limit']:.4g})")
        lines.append("A check fails if the whole 95 % interval of its figure is beyond the limit.")
        lines += [f"Remark: {remark}" for remark in self.content["remarks"]]
        return "\n".join([*lines, f"Look at {self.out / 'audit.html'}; every figure is in audit.json beside it."])


@dataclass(frozen=True)
class _Inputs:
    """Checked inputs."""

    dataset: Path
    manifest: dict[str, Any]
    shards: ShardSet
    labels: tuple[str, ...]
    network: Network
    trained: TrainedModel | None
    out: Path
    measured: Path
    checked: Checked
    """By what the shards were found to be what the model was trained on."""
    remarks: tuple[str, ...]

    @property
    def num_held_out(self) -> int:
        return sum(self.shards.num_rows(split) for split in HELD_OUT)


def run(config: Config) -> AuditResult:
    """Write audit.json and audit.html to `audit.out`, and state the verdict in the dataset's card if it is writable.

    Raises ConfigError, RunFolderError, CheckpointError or ShardError when inputs are missing or do not belong together.
    """
    inputs = _checked(config)
    with files.alone_in(inputs.out, "audit"):
        require_unchanged(inputs.dataset, inputs.manifest)
        with connect(config.ray):
            identity = inputs.network.identity
            audited = Audited(
                generated=GeneratedSide.of(
                    inputs.dataset, inputs.manifest, inputs.shards.info.side_px, identity, inputs.measured
                ),
                train=RealSide.of(inputs.shards, TRAIN, identity, inputs.measured),
                held_out=RealSide.of(inputs.shards, HELD_OUT, identity, inputs.measured),
                labels=inputs.labels, network=inputs.network, trained=inputs.trained, kept=inputs.measured / "matches",
            )  # fmt: skip
            content, closest = findings(config, audited)
        content = _about(inputs) | content
        content["remarks"] = [*inputs.remarks, *content["remarks"]]
        files.write_text(inputs.out / "audit.html", render(page_of(config, audited, content, closest)))
        files.write_json(inputs.out / "audit.json", content)
        _state_on_card(inputs, content)
    return AuditResult(inputs.out, content)


def _state_on_card(inputs: _Inputs, content: Mapping[str, Any]) -> None:
    """State the verdict in the dataset's card; only warn where that cannot be written, as of another's dataset."""
    try:
        state_audit(inputs.dataset, content["verdict"], content["summary"], _compared(content))
    except StorageError as error:
        logger.warning("%s The verdict stands in %s, but not in the dataset's card.", error, inputs.out / "audit.json")


def describe(config: Config) -> str:
    """Describe what `run` would do."""
    inputs = _checked(config)
    train = inputs.shards.num_rows("train")
    return "\n".join([
        f"Would audit {inputs.manifest['rows']:,} pairs in {inputs.dataset}",
        f"  against     {train:,} training images, with {inputs.num_held_out:,} held-out ones as the control, "
        f"{inputs.shards.folder}",
        f"  measured by pixels, and by features of {inputs.network.name} ({inputs.network.resized})",
        f"  flagging    what {config.audit.false_alarm:.2%} of held-out data would be flagged by as well",
        f"  critic      {_critic_in_words(inputs.trained)}",
        *(f"  remark      {remark}" for remark in inputs.remarks),
        f"  kept in     {inputs.measured}: small versions of the images",
        f"  written to  {inputs.out}",
    ])  # fmt: skip


def _critic_in_words(trained: TrainedModel | None) -> str:
    if trained is None:
        return "not used: no --run"
    if is_published_model(trained.path):
        return "not used: a published model has none"
    return "used for membership inference"


def _about(inputs: _Inputs) -> dict[str, Any]:
    shards = inputs.shards
    return {
        "audit_version": 1,
        "dataset": {
            "folder": inputs.dataset.name, "fingerprint": inputs.manifest["fingerprint"],
            "rows": inputs.manifest["rows"],
        },
        "real": {
            "collection": list(identify(shards).sources), "side_px": shards.info.side_px,
            "train": shards.num_rows("train"), "held_out": inputs.num_held_out,
            "shards_digest": shards_digest(shards), "checked_by": inputs.checked,
        },
        "encoder": {"name": inputs.network.name, "resized": inputs.network.resized},
    }  # fmt: skip


def _compared(content: Mapping[str, Any]) -> str:
    """With what the dataset was compared, and how strictly. content: of audit.json."""
    real, encoder = content["real"], content["encoder"]
    checked = {
        "vocabulary and labels": "and its vocabulary and label counts are those of the model's training data",
        "vocabulary": "and its vocabulary is that of the model; whether it was trained on these images was not checked",
        "nothing": "and whether the model was trained on them was not checked",
    }
    return (
        f"The rows were compared with {real['train']:,} training images of {', '.join(real['collection'])} (shards "
        f"{real['shards_digest']}), {checked[real['checked_by']]}. Flagged is what would flag "
        f"{content['false_alarm']:.2%} of {real['held_out']:,} held-out ones as well, by pixels, by features of "
        f"{encoder['name']} and by reports." + "".join(f" {remark}" for remark in content["remarks"])
    )


def _checked(config: Config) -> _Inputs:
    settings = config.audit
    if settings.dataset is None:
        raise ConfigError("audit.dataset is not set. Give --dataset FOLDER, which `emixer generate` wrote.")
    if config.data.shards is None:
        raise ConfigError("data.shards is not set. Give --shards FOLDER, the images that the model was trained on.")
    dataset = settings.dataset.resolve()
    manifest = read_finished_manifest(dataset)
    if manifest["rows"] < _MIN_ROWS:
        raise ConfigError(
            f"{dataset} has {manifest['rows']} rows; an audit needs at least {_MIN_ROWS} to estimate a share. "
            "Generate more."
        )
    shards = ShardSet.open(config.data.shards)
    labels = compared_labels(dataset, manifest, shards)
    trained = _trained(settings.run, manifest)
    checked = require_trained_on(shards, _training_data(trained, manifest), "data.shards")
    check_control(shards, settings.false_alarm)
    run = None if trained is None else trained.run_folder
    encoder = find_encoder(config, run)
    out = (settings.out or dataset / AUDIT_FOLDER).resolve()
    if settings.show_real and (shared := given_away_with(out, dataset)) is not None:
        raise ConfigError(
            f"audit.show_real=true would write training images and reports into {out}, inside {shared}, which is made "
            "to be given away. Give --out FOLDER (audit.out) outside datasets and published models."
        )
    files.require_writable(out)
    measured = measured_in(config, run, shards, dataset)
    remarks = (*remarks_on(checked), *encoder_remarks(encoder, shards))
    return _Inputs(dataset, manifest, shards, labels, Network(encoder), trained, out, measured, checked, remarks)


def _training_data(trained: TrainedModel | None, manifest: Mapping[str, Any]) -> TrainingData | None:
    """What is known of the training data, from the model or from the dataset, whichever says more."""
    stated = manifest.get("trained_on")
    found = [
        *([] if trained is None else [TrainingData.of(trained)]),
        *([] if stated is None else [TrainingData.from_json(stated)]),
    ]
    return max(found, key=lambda known: known.images is not None, default=None)


def _trained(run: Path | None, manifest: dict[str, Any]) -> TrainedModel | None:
    if run is None:
        return None
    made_by = manifest["settings"].get("weights_sha256")
    found = {which: read_trained_model(run, which) for which in ("best", "last")}
    for trained in found.values():
        if trained.digest == made_by:
            return trained
    raise ConfigError(
        f"audit.run={run} did not make this dataset: its checkpoints have other weights than manifest.json names. "
        "Give the run that made it, or leave --run out."
    )

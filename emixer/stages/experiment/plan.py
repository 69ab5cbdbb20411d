"""Inputs of an experiment, checked before anything starts, and the inputs that determine each of its cells."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from emixer import files
from emixer.checkpoint import find_checkpoint
from emixer.config import Config, with_overrides
from emixer.config.experiment import ExperimentConfig
from emixer.config.generator_name import BALANCED, GeneratorName
from emixer.config.load import read_value, require_key
from emixer.data.pair_table import TableShape
from emixer.data.schema import SPLITS
from emixer.data.shard_subset import write_subset
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, RunFolderError, ShardError
from emixer.evaluation.report_mentions import LABELER_VERSION
from emixer.experiments.cells import Cell, Mix, ResultsFolder
from emixer.experiments.tables import Table, dataset_rows, table_of
from emixer.generation.dataset_files import Layout, check_layout
from emixer.generation.generation_plan import plan_generation, plan_labels
from emixer.generation.manifest import read_manifest, require_same
from emixer.generation.trained_model import read_trained_model
from emixer.models.encoder_facts import checked_facts
from emixer.run_folder import RunFolder
from emixer.stages import generate, train
from emixer.stages.audit.control import check_control
from emixer.stages.audit.training_data import shards_digest
from emixer.stages.experiment.cell import CellOrder, Generated, policy_of
from emixer.stages.experiment.checks import (
    Diseases,
    require_classes,
    require_fitting,
    require_labels,
    require_measurable,
    require_rows,
    require_splits,
    require_unseen,
    same_label_counts,
    sources_of,
)
from emixer.stages.model_spec import spec_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """Checked settings of an experiment, and what follows from them."""

    config: Config
    table: Table
    shards: ShardSet
    covid: ShardSet | None
    out: Path
    unknown: tuple[str, ...] = ()
    """Generators whose training shards are gone or may not be read."""

    @property
    def cells(self) -> list[Cell]:
        """Cells of the table."""
        return self.table.all_cells(self.config.experiment.seeds)

    @property
    def generators(self) -> list[str]:
        """Generators of the table."""
        return self.table.generators(self.config.experiment.seeds)

    @property
    def shape(self) -> TableShape:
        """Shape of the pairs that downstream models read."""
        return self._shape(self.config.experiment.diseases, self.shards)

    @property
    def diseases(self) -> Diseases:
        """Diseases that label figures are means over."""
        return Diseases.of(self.shards, self.config.experiment.diseases, policy_of(self.config))

    @cached_property
    def test_sources(self) -> frozenset[str]:
        """Collections of the test images."""
        return sources_of(self.covid or self.shards, "test")

    @property
    def covid_shape(self) -> TableShape | None:
        """Shape of the images of table 5."""
        return None if self.covid is None else self._shape(self.config.experiment.covid_classes, self.covid)

    def _shape(self, label_names: tuple[str, ...], shards: ShardSet) -> TableShape:
        model = self.config.model
        return TableShape(
            label_names, self.shards.info.side_px, model.max_sentences, model.max_words, shards.vocabulary
        )

    @property
    def given_runs(self) -> dict[str, Path]:
        """Trained generators given by the user."""
        pairs = (run.split("=", 1) for run in self.config.experiment.runs)
        return {str(GeneratorName.parse(name)): Path(path).resolve() for name, path in pairs}

    def is_given(self, generator: str) -> bool:
        """Whether that generator is given by the user."""
        return model_of(generator) in self.given_runs

    def run_of(self, generator: str) -> Path:
        """Run folder where that generator is, or will be, trained."""
        model = model_of(generator)
        return self.given_runs.get(model, ResultsFolder(self.out).generator(model) / "run")

    def generator_config(self, generator: str) -> Config:
        """Config with which `train` and `generate` make that generator's pairs."""
        name = GeneratorName.parse(generator)
        values: dict[str, Any] = {} if name.method == self.config.model.kind else {"model.kind": name.method}
        for key, text in self.config.experiment.settings_of(name.method).items():
            require_key(key, "experiment.method_settings")
            values[key] = read_value(text)
        values |= {
            "train.run": self.run_of(generator),
            "generate.run": self.run_of(generator),
            "generate.out": ResultsFolder(self.out).generator(generator) / "dataset",
            "generate.num": dataset_rows(self.config.experiment, generator),
        }
        if name.real:
            values["data.shards"] = ResultsFolder(self.out).real_pairs(name.real, name.draw)
        if name.training or name.draw:
            values["seed"] = self.config.seed + name.training + name.draw
        if name.variant == BALANCED:
            values["generate.plan"] = BALANCED
        elif name.labelled_fraction is not None:
            values["data.labelled_fraction"] = name.labelled_fraction
        return with_overrides(self.config, values)


def model_of(generator: str) -> str:
    """Name of the model behind a generator: one model may have several datasets."""
    return str(GeneratorName.parse(generator).model)


def checked(config: Config) -> Experiment:
    """Check the settings and all inputs. Raises ConfigError, ShardError, RunFolderError or StorageError for everything
    that can be found wrong before anything starts."""
    settings = config.experiment
    if settings.out is None:
        raise ConfigError("experiment.out is not set. Give --out FOLDER for results and tables.")
    if config.data.shards is None:
        raise ConfigError("data.shards is not set. Give --shards FOLDER, a folder written by `emixer ingest`.")
    shards = ShardSet.open(config.data.shards)
    table = table_of(settings, shards.num_rows("train"))
    _require_used(settings, table, table.generators(settings.seeds))
    ResultsFolder.check(settings.out.resolve(), trained_on(shards))
    files.require_writable(settings.out.resolve())
    require_splits(shards)
    require_rows(shards, table)
    if not table.is_drawn:
        require_labels(shards, settings.diseases, "experiment.diseases")
        require_measurable(shards, settings.diseases, policy_of(config))
    if config.validation.encoder is not None:  # generators that are given are not trained, but measured with it
        checked_facts("validation.encoder", config.validation.encoder)
    experiment = Experiment(config, table, shards, _covid(config, shards), settings.out.resolve())
    unseen = {name: _checked_generator(experiment, name) for name in experiment.generators}
    return replace(experiment, unknown=tuple(name for name, known in unseen.items() if not known))


def _require_used(settings: ExperimentConfig, table: Table, generators: Sequence[str]) -> None:
    """Raise ConfigError for settings that conflict with the table or leave it without rows; warn of unused runs."""
    given = [Path(run.partition("=")[2]).resolve() for run in settings.runs]
    if twice := next((folder for folder in given if given.count(folder) > 1), None):
        raise ConfigError(
            f"experiment.runs: {twice} is given for two generators. Each needs a run of its own, trained with another "
            "seed."
        )
    for run in settings.runs:
        name, _, folder = run.partition("=")
        if not (files.is_there(Path(folder)) and Path(folder).is_dir()):
            raise ConfigError(
                f"experiment.runs: {folder} for {name} does not exist. Give a run folder of `emixer train`."
            )
        if str(GeneratorName.parse(name)) not in map(model_of, generators):
            logger.warning("experiment.runs: %s is not used by %s; its run is ignored.", name, table.name)
    if table.name == "table5" and "emixer" not in settings.methods:
        raise ConfigError(
            f"table5 uses only emixer, which experiment.methods={','.join(settings.methods)} lacks. Unset "
            "experiment.methods, or choose another table."
        )
    strangers = set(settings.beyond) - set(settings.methods) - {"emixer"}
    if table.name == "table1" and strangers:
        raise ConfigError(
            f"experiment.beyond names {', '.join(sorted(strangers))}, not in experiment.methods="
            f"{','.join(settings.methods)}. Add it to experiment.methods, or remove it."
        )
    if len(table.rows) < 2:
        raise ConfigError(f"{table.name} has no rows for {', '.join(settings.methods)}. Add to experiment.methods.")


def _checked_generator(experiment: Experiment, name: str) -> bool:
    """Whether the generator is known not to see test images. Raises whatever would prevent its training or the
    generation of its pairs, unless already done."""
    config, run = experiment.generator_config(name), experiment.run_of(name)
    known = True
    if experiment.is_given(name):
        diseases = () if experiment.table.is_drawn else config.experiment.diseases
        tested = [shards for shards in (experiment.shards, experiment.covid) if shards is not None]
        known = require_fitting(run, name, config, experiment.shards, diseases, tested)
    if made_by(experiment, name) is not None:
        return known
    if not experiment.is_given(name):
        # the real pairs of a generator's own are written only when it is trained
        train.check(with_overrides(config, {"data.shards": experiment.shards.folder}))
        _require_same_training(experiment, name, is_generated=False)
    _check_generation(experiment, name)
    _check_begun_pairs(experiment, name)
    return known


def _check_generation(experiment: Experiment, name: str) -> None:
    """Raise ConfigError or ShardError for what would prevent generation only after the generator was trained."""
    config = experiment.generator_config(name)
    settings = config.generate
    assert settings.num is not None, "the generator's config says how many pairs"
    layout = Layout(settings.num, settings.rows_per_file, settings.rows_per_group)
    check_layout(layout, settings.batch_size, config.model.side_px)
    if experiment.is_given(name):
        spec = read_trained_model(experiment.run_of(name), settings.checkpoint).spec
    else:
        spec = spec_of(experiment.shards, config)
    if plan_labels(settings, spec).num_rows is not None:
        raise ConfigError(
            f"generate.plan={settings.plan} lists rows in order, but mixtures with fewer pairs take the first ones, "
            "which may have but one label. Set generate.plan=train or balanced."
        )
    if settings.audit is None:
        return
    if GeneratorName.parse(name).real:
        raise ConfigError(
            "generate.audit is set, but with generators_from=real each generator is trained on a part of the shards, "
            "with which its audit would have to compare. Unset generate.audit, or use generators_from=train-split."
        )
    check_control(ShardSet.open(settings.audit), config.audit.false_alarm)


def _check_begun_pairs(experiment: Experiment, name: str) -> None:
    """Raise RunFolderError if the generator's pairs were begun with other settings, with which they would have to be
    finished."""
    config, checkpoints = experiment.generator_config(name), experiment.run_of(name) / "checkpoints"
    assert config.generate.out is not None, "the generator's config says where"
    begun = read_manifest(config.generate.out)
    is_trained = experiment.is_given(name) or find_checkpoint(checkpoints, "last") is not None
    if begun is not None and not begun["complete"] and is_trained:
        _require_same_training(experiment, name, is_generated=True)
        generate.describe(config)  # refuses what it could not finish


def _covid(config: Config, shards: ShardSet) -> ShardSet | None:
    settings = config.experiment
    if settings.table != "table5":
        return None
    if settings.covid is None:
        raise ConfigError(
            "experiment.covid is not set. table5 needs images of four classes: ingest them with `emixer ingest "
            "image-folder` and give the shards as --covid FOLDER."
        )
    covid = ShardSet.open(settings.covid)
    if covid.info.side_px != shards.info.side_px:
        raise ShardError(
            f"{settings.covid} has images of {covid.info.side_px} px and {config.data.shards} of "
            f"{shards.info.side_px} px. Ingest one of them again at the size of the other."
        )
    require_labels(covid, settings.covid_classes, "experiment.covid_classes")
    require_splits(covid)
    require_classes(covid, settings.covid_classes)
    require_unseen(shards, covid)
    return covid


def made_by(experiment: Experiment, name: str) -> Generated | None:
    """Finished dataset of that generator; None if it is unfinished or a file is missing.

    Raises RunFolderError if it is too small, or was made with other settings.
    """
    folder = ResultsFolder(experiment.out)
    dataset = folder.generator(name) / "dataset"
    manifest = read_manifest(dataset) if dataset.exists() else None
    if manifest is None or not manifest["complete"]:
        return None
    wanted = dataset_rows(experiment.config.experiment, name)
    if manifest["rows"] < wanted:  # more rows are fine: the first ones are the same
        raise RunFolderError(
            f"{dataset} holds {manifest['rows']:,} pairs, and {experiment.table.name} needs {wanted:,} with these "
            "settings. Set smaller sizes (experiment.scale; for `gain`, real_pairs and multiples), or choose a new "
            "folder."
        )
    _require_same_training(experiment, name, is_generated=True)
    _require_same_pairs(experiment, name, manifest, dataset)
    names = tuple(file["name"] for file in manifest["files"])
    if not all((dataset / file).exists() for file in names):
        return None
    return Generated(dataset, names, folder.decoded / f"{name}-{manifest['fingerprint']}-{experiment.shape.digest}")


def _require_same_training(experiment: Experiment, name: str, is_generated: bool) -> None:
    """Raise RunFolderError if the current settings would train the generator differently.

    is_generated: its pairs are there, so that it will not be trained further.
    """
    config, run_folder = experiment.generator_config(name), experiment.run_of(name)
    if experiment.is_given(name) or not (run_folder / "run.json").exists():
        return
    RunFolder.open(run_folder, "train").require_same("train", config)
    found = find_checkpoint(run_folder / "checkpoints", "last")
    if found is None:
        return
    wanted, step = config.train.images, config.train.batch_size * config.optim.discriminator_steps
    if found.images - wanted >= step or (is_generated and found.images < wanted):  # the last step is a whole one
        raise RunFolderError(
            f"{name} in {experiment.out} was trained on {found.images:,} images; train.images is now {wanted:,}. "
            f"Choose a new folder, or set train.images={found.images}."
        )


def _require_same_pairs(experiment: Experiment, name: str, manifest: Mapping[str, Any], dataset: Path) -> None:
    """Raise RunFolderError if another model, or other sampling settings, made the pairs; versions are not compared.

    If a run trained here was deleted, the pairs are assumed to come from it.
    """
    run_folder, config = experiment.run_of(name), experiment.generator_config(name)
    screened = _screened(config)
    require_same({"settings": {key: manifest["settings"].get(key) for key in screened}}, screened, dataset)
    if not run_folder.is_dir():
        return
    settings = config.generate
    trained = read_trained_model(run_folder, settings.checkpoint)
    shards = config.data.shards
    assert shards is not None, "checked before anything started"
    # a generator's own real pairs may have been deleted since
    is_partly_labelled = config.data.labelled_fraction < 1 and shards.exists()
    if is_partly_labelled and not same_label_counts(trained.spec, spec_of(ShardSet.open(shards), config)):
        raise RunFolderError(
            f"{name} in {experiment.out} kept the labels of other images than this version selects. Delete "
            f"{dataset.parent} to train it again, or choose a new folder."
        )
    plan = plan_generation(settings, trained)("cpu")
    told = ("weights_sha256", "seed", "labels_digest", "temperature", "image_format")
    now = {key: plan.settings[key] for key in told}
    require_same({"settings": {key: manifest["settings"][key] for key in told}}, now, dataset)


def _screened(config: Config) -> dict[str, Any]:
    """What a dataset's manifest holds of the shards by which pairs were withheld, and how; None where none were."""
    shards, audit = config.generate.audit, config.audit
    told = {"audit_false_alarm": audit.false_alarm, "audit_span_words": audit.span_words}
    if shards is None:
        return dict.fromkeys(["audit_shards_digest", *told])
    return {"audit_shards_digest": shards_digest(ShardSet.open(shards)), **told}


def write_real_pairs(experiment: Experiment, generator: str) -> None:
    """Write the shards of a generator that is trained on the real pairs of its row, unless they are there."""
    name = GeneratorName.parse(generator)
    if name.real:
        folder = ResultsFolder(experiment.out).real_pairs(name.real, name.draw)
        if not folder.exists():
            write_subset(experiment.shards, name.real, name.draw, folder)


def order_of(experiment: Experiment, cell: Cell, generated: Mapping[str, Generated], device: str) -> CellOrder:
    """Input of the cell's Ray task."""
    made = generated[cell.mix.generator] if cell.mix.generator else None
    covid_shape = experiment.covid_shape if cell.task == "classes" else None
    judgement = None
    if cell.mix.chosen_from:
        judgement = ResultsFolder(experiment.out).judgement_path(_judgement_key(experiment, cell, generated))
    return CellOrder(cell, experiment.config, made, device, experiment.shape, covid_shape, judgement)


def inputs_of(experiment: Experiment, cell: Cell, generated: Mapping[str, Generated]) -> dict[str, Any]:
    """Everything besides the cell itself that its figures depend on, except rounding that differs between machines."""
    config = experiment.config
    settings = config.experiment
    inputs: dict[str, Any] = {
        "shards": _digest(experiment.shards),
        "shape": experiment.shape.digest,
        "generated": None if cell.mix.generator is None else generated[cell.mix.generator].decoded.name,
    }
    if cell.mix.chosen_from:
        inputs["judgement"] = _judgement_key(experiment, cell, generated)
    if cell.task == "distance":
        encoder = config.validation.encoder
        if encoder is None or encoder.weights is None:
            return inputs
        shape = encoder.model_dump(mode="json", exclude={"weights"})
        return inputs | {"encoder": shape, "weights": files.sha256_of(encoder.weights)}
    if cell.task == "classes":
        assert experiment.covid is not None, "checked before anything started"
        inputs = {} if cell.mix == Mix(0) else inputs
        inputs |= {"covid": _digest(experiment.covid), "classes": settings.covid_classes}
    if cell.task == "reports" and settings.downstream.report_decoder.kind == "hierarchical":
        inputs["sentences"] = 2  # version of how their number is chosen, as in a dataset's manifest
    if len(experiment.test_sources) > 1:  # earlier versions merged subjects with one id
        inputs["subjects"] = "by source"
    return inputs | {"downstream": cell.downstream_settings(settings.downstream), "resamples": settings.resamples}


def _judgement_key(experiment: Experiment, cell: Cell, generated: Mapping[str, Generated]) -> str:
    """Key of a judgement: a hash of all that it depends on, which is what an image classifier on R depends on."""
    mix = cell.mix
    judge = Cell("images", replace(mix, synthetic=mix.chosen_from, pretrains=False), 0)
    settings = judge.downstream_settings(experiment.config.experiment.downstream)
    return judge.key({
        "shards": _digest(experiment.shards), "shape": experiment.shape.digest, "downstream": settings,
        "generated": generated[mix.generator or ""].decoded.name, "labeler": LABELER_VERSION,
    })  # fmt: skip


def trained_on(shards: ShardSet) -> str:
    """Digest of the images that generators are trained and selected on."""
    return _digest(shards, ("train", "validate"))


def _digest(shards: ShardSet, splits: tuple[str, ...] = SPLITS) -> str:
    return shards.digest(splits)[:16]

"""Settings of `emixer experiment` and `emixer evaluate`: what the paper's tables are made with."""

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from emixer.config.base import Section, absolute
from emixer.config.generator_name import BALANCED, GeneratorName
from emixer.config.model import AttentiveDecoderConfig, ChestEncoderConfig, Condition, ReportDecoderConfig
from emixer.config.training import Augmentation

Table = Literal["table1", "table2", "table3", "table5", "table9", "table10", "gain", "figures"]
GainTask = Literal["images", "pairs", "reports"]
Method = Literal["jointgan", "cogan", "smgan", "emixer"]
_OF_METHODS = ("model", "loss", "optim", "train")
TABLES_OF_OWN_GENERATORS: tuple[Table, ...] = ("gain", "table1", "table2")
"""Tables whose rows have a number of real pairs R each, on which their generators can be trained."""


class DownstreamConfig(Section):
    """Downstream models that measure what synthetic pairs are worth: the same for all methods and data mixtures."""

    network: ChestEncoderConfig = Field(default_factory=lambda: ChestEncoderConfig(frozen=False))
    """DenseNet of the image classifier and the joint classifier, trained from scratch."""
    report_decoder: ReportDecoderConfig = Field(default_factory=AttentiveDecoderConfig)
    """Report generator, trained from scratch."""
    joint_hidden: int = Field(256, ge=8)
    """State size of the joint classifier's LSTM over the report, and size of its word embeddings."""
    images: int = Field(2_000_000, ge=1)
    """Pairs that each model is trained on, repeats included: the same for all mixtures, so that more data does not mean
    more training."""
    batch_size: int = Field(64, ge=2)
    """Pairs per step."""
    lr: float = Field(1e-3, gt=0, le=0.1)
    """Adam's initial learning rate; cosine decay to 0."""
    weight_decay: float = Field(1e-5, ge=0, lt=1)
    """Decoupled weight decay (AdamW)."""
    augment: tuple[Augmentation, ...] = Field(("translation",), strict=False)
    """Augmentation of training images; see loss.augment."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Autocast dtype."""
    validate_every_images: int = Field(100_000, ge=1)
    """Interval of the loss on the real validation split; the weights with the lowest loss are tested."""
    uncertain: Literal["ignore", "zeros", "ones"] = "ignore"
    """Policy for uncertain labels (-1) of real images, in training and testing."""
    unmentioned: Literal["ignore", "zeros"] = "zeros"
    """Policy for labels that the report does not mention (null)."""

    @model_validator(mode="after")
    def _from_scratch(self) -> "DownstreamConfig":
        if self.network.weights is not None or self.report_decoder.encoder.weights is not None:
            raise ValueError(
                "downstream models are trained from scratch, so that none has seen a test image: do not set the "
                "weights of network or report_decoder.encoder"
            )
        if self.report_decoder.reads != "image":
            raise ValueError(
                "report_decoder.reads must be image: a report generator that is given the labels of test images shows "
                "nothing about its training pairs"
            )
        return self


class EvaluateConfig(Section):
    """Comparison of a generated dataset with real images and reports: fidelity, diversity, label faithfulness."""

    dataset: Path | None = Field(None, strict=False)
    """Folder of a finished dataset, written by `emixer generate`."""
    split: Literal["validate", "test"] = "test"
    """Split of the real images used for comparison."""
    images: int | None = Field(None, ge=10)
    """Images per side. Default: as many as both sides have."""
    encoder: ChestEncoderConfig | None = None
    """DenseNet used for features, in addition to a small random one; its `weights` must be set. Default:
    `validation.encoder`."""
    inception: Path | None = Field(None, strict=False)
    """Weights of the Inception network used in the FID literature; extra `emixer[fid]`. Default: not used."""
    rad_dino: Path | None = Field(None, strict=False)
    """Folder of RAD-DINO as published on the Hugging Face hub; extra `emixer[fid]`. Default: not used."""
    chexbert: Path | None = Field(None, strict=False)
    """Folder with `chexbert.pth` and the `vocab.txt` of bert-base-uncased, to label reports in addition to this
    project's rule-based labeler; extra `emixer[fid]`. Default: not used."""
    radgraph: Path | None = Field(None, strict=False)
    """Folder with the unpacked `radgraph-xl`, for RadGraph F1 against real reports with the same labels; extra
    `emixer[radgraph]`. Default: not used."""
    by: tuple[Condition, ...] = Field((), strict=False)
    """Report figures by sex, age or view; the dataset's model must have been conditioned on them."""
    neighbours: int = Field(5, ge=1)
    """Nearest neighbours (k) for precision, recall, density and coverage."""
    references: int = Field(5, ge=1)
    """Maximum number of real reports with the same labels, drawn for each report, that it is scored against."""
    resamples: int = Field(500, ge=20)
    """Resamples of the subjects for 95 % confidence intervals of label and report metrics."""
    features: Path | None = Field(None, strict=False)
    """Folder that caches image features by content, for reuse with other datasets and the same real images. Inside a
    dataset it is refused, since features of real images are not for sharing. Default: `SHARDS-features` beside the
    shards."""
    out: Path | None = Field(None, strict=False)
    """Output folder. Default: `DATASET-evaluation`: figures of small groups of real images do not belong into a dataset
    that is given away."""
    use_gpu: bool | None = None
    """Whether to use a GPU. Default: if there is one."""


class ExperimentConfig(Section):
    """The paper's tables: sets of independent cells (method x mixture x seed); finished cells are kept."""

    table: Table = "table1"
    """Which table; `emixer experiment TABLE` sets it."""
    out: Path | None = Field(None, strict=False)
    """Folder of generators, datasets, results and tables. Tables in the same folder share what they can."""
    scale: float = Field(1.0, gt=0, le=1)
    """Factor on all image counts of the paper: 0.01 turns R100k + S600k into R1k + S6k."""
    seeds: tuple[int, ...] = Field((0, 1, 2), strict=False)
    """Each cell is trained once per seed, which sets initialisation and data order; see `generators` and `redraw` for
    what else may depend on it."""
    generators: int = Field(1, ge=1, le=100)
    """How often each generator is trained, with consecutive seeds; the cells' seeds use them in turn. From three on,
    intervals of gains cover retrained generators as well."""
    redraw: bool = False
    """Whether each seed draws real images (R) of its own, so that intervals of gains cover their choice as well. False:
    the same for all seeds."""
    generators_from: Literal["train-split", "real"] = "train-split"
    """Real pairs that generators are trained on: the whole train split, or the R of the row and nothing else, as
    someone has to who has no more. `real`: for `gain`, table1 and table2; each R, and with `redraw` each seed, has a
    generator of its own."""
    methods: tuple[Method, ...] = Field(("jointgan", "cogan", "smgan", "emixer"), strict=False)
    """Methods to run; rows of the others are omitted."""
    method_settings: tuple[str, ...] = Field((), strict=False)
    """Settings of `model`, `loss`, `optim` or `train` in which a method's generators differ from the config, beside
    `model.kind`: `METHOD KEY=VALUE`, e.g. `jointgan loss.joint=1`. What they are trained on is the same for all."""
    beyond: tuple[Method, ...] = Field(("emixer",), strict=False)
    """Methods for which table 1 also runs three variants that are not in the paper: five times as many synthetic as
    real pairs; pretraining on synthetic pairs; only the half of the synthetic pairs that a judge agrees with most."""
    real_pairs: tuple[int, ...] = Field((100, 300, 1_000, 3_000), strict=False)
    """For `gain`: numbers of real pairs; not multiplied by `scale`."""
    multiples: tuple[int, ...] = Field((1, 3, 6), strict=False)
    """For `gain`: synthetic pairs per real pair."""
    gain_tasks: tuple[GainTask, ...] = Field(("images", "reports"), strict=False)
    """For `gain`: models to train: image classifiers, joint classifiers of image and report (`pairs`), report
    generators."""
    runs: tuple[str, ...] = Field((), strict=False)
    """Trained models to use instead of training them: `METHOD=RUN`, `METHOD.1=RUN`, `METHOD.2=RUN`, ... for further
    trainings (see `generators`), and `emixer-30=RUN` and `emixer-50=RUN` for the limited labels of table 3."""
    diseases: tuple[str, ...] = Field(
        ("Cardiomegaly", "Consolidation", "Pleural Effusion", "Pneumothorax", "Edema"), strict=False
    )
    """The five findings of table 9."""
    covid: Path | None = Field(None, strict=False)
    """Shards for table 5: images with exactly one of four labels."""
    covid_classes: tuple[str, ...] = Field(
        ("Normal", "Bacterial Pneumonia", "Viral Pneumonia", "COVID-19"), strict=False
    )
    """Those labels, in the order of the paper's rows."""
    downstream: DownstreamConfig = Field(default_factory=DownstreamConfig)
    cpus_per_cell: int = Field(1, ge=1)
    """CPUs that Ray reserves for a cell, and its number of threads."""
    gpus_per_cell: float = Field(1.0, gt=0, le=1)
    """GPUs per cell, if the cluster has GPUs; may be a fraction."""
    use_gpu: bool | None = None
    """Whether to use GPUs. Default: if the cluster has any."""
    resamples: int = Field(500, ge=20)
    """Resamples of the test subjects for 95 % confidence intervals."""

    @field_validator("runs", mode="after")
    @classmethod
    def _folders_of_runs_are_absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        named = (run.partition("=") for run in value)
        return tuple(f"{name}{equals}{absolute(Path(folder)) if folder else ''}" for name, equals, folder in named)

    @model_validator(mode="after")
    def _consistent(self) -> "ExperimentConfig":
        for name in ("seeds", "diseases", "methods", "real_pairs", "multiples", "gain_tasks"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must have at least one entry and no duplicates")
        if any(not 0 <= seed < 2**31 for seed in self.seeds):
            raise ValueError("seeds must be between 0 and 2147483647")
        if min(*self.real_pairs, *self.multiples, 1) < 1:
            raise ValueError("real_pairs and multiples must each be at least 1")
        if len(self.covid_classes) != 4 or len(set(self.covid_classes)) != 4:
            raise ValueError("covid_classes must list the four classes of table 5")
        for line in self.method_settings:
            method, _, setting = line.partition(" ")
            if method not in get_args(Method) or "=" not in setting:
                raise ValueError(
                    f"method_settings: {line!r} is not METHOD KEY=VALUE, e.g. jointgan loss.joint=1. Methods: "
                    f"{', '.join(get_args(Method))}"
                )
            if setting.split(".")[0] not in _OF_METHODS or setting.startswith("model.kind"):
                raise ValueError(
                    f"method_settings: {line!r} is not a setting of {', '.join(_OF_METHODS)}. All methods are trained "
                    "on the same data, and only the method decides model.kind"
                )
        self._require_generators()
        return self

    def settings_of(self, method: str) -> dict[str, str]:
        """Return `method_settings` of that method: values as text, by key."""
        lines = [line.partition(" ")[2] for line in self.method_settings if line.partition(" ")[0] == method]
        return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}

    def _require_generators(self) -> None:
        """Raise ValueError for numbers of trainings that give no intervals, and for given runs that none would use."""
        if self.generators == 2 or len(self.seeds) % self.generators:
            raise ValueError(
                f"generators={self.generators} with {len(self.seeds)} seeds: it must be 1 (intervals are then about "
                "that one), or at least 3 and divide the number of seeds"
            )
        if self.generators_from == "real":
            self._require_own_generators()
        named = []
        for run in self.runs:
            name, _, folder = run.partition("=")
            generator = GeneratorName.parse(name)
            if not folder or generator.variant == BALANCED or generator.real:
                raise ValueError(f"runs: {run!r} is not NAME=FOLDER, where NAME is a model, e.g. emixer or emixer-30")
            if generator.training >= self.generators:
                raise ValueError(
                    f"runs: {name} is a training of its own, but generators={self.generators}. Raise generators, or "
                    "omit it"
                )
            named.append(generator)
        if len(set(named)) < len(named):
            raise ValueError("runs names the same generator twice")

    def _require_own_generators(self) -> None:
        """Raise ValueError where generators cannot be trained on the R of their rows."""
        if self.table not in TABLES_OF_OWN_GENERATORS:
            raise ValueError(
                f"generators_from=real is for {', '.join(TABLES_OF_OWN_GENERATORS)}, where each row has a number of "
                f"real pairs R; {self.table} has rows without, or of several sizes. Omit it"
            )
        if self.runs:
            raise ValueError(
                "generators_from=real trains its generators itself, on the R of their rows; those in runs were not. "
                "Omit one of the two"
            )

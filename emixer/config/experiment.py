"""Settings of `emixer experiment` and `emixer evaluate`: what the paper's tables are made with."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from emixer.config.base import Section
from emixer.config.model import AttentiveDecoderConfig, ChestEncoderConfig, Condition, ReportDecoderConfig
from emixer.config.training import Augmentation

Table = Literal["table1", "table2", "table3", "table5", "table9", "table10", "gain", "figures"]
GainTask = Literal["images", "pairs", "reports"]
Method = Literal["jointgan", "cogan", "smgan", "emixer"]


class DownstreamConfig(Section):
    """The models that tell what synthetic pairs are worth: the same for all methods and all mixtures of data."""

    network: ChestEncoderConfig = Field(default_factory=lambda: ChestEncoderConfig(frozen=False))
    """DenseNet of the image and the joint classifier, trained from scratch."""
    report_decoder: ReportDecoderConfig = Field(default_factory=AttentiveDecoderConfig)
    """Report generator, trained afresh."""
    joint_hidden: int = Field(256, ge=8)
    """State of the joint classifier's LSTM over the words of a report, and size of their embeddings."""
    images: int = Field(2_000_000, ge=1)
    """Pairs that each model is trained on, repeats included: equal for all mixtures, so that more data is not more
    training."""
    batch_size: int = Field(64, ge=2)
    """Pairs a step."""
    lr: float = Field(1e-3, gt=0, le=0.1)
    """Adam's learning rate at the start; it falls to 0 along a cosine."""
    weight_decay: float = Field(1e-5, ge=0, lt=1)
    """Decoupled weight decay (AdamW)."""
    augment: tuple[Augmentation, ...] = Field(("translation",), strict=False)
    """Random changes of the images while training; see loss.augment."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Autocast dtype."""
    validate_every_images: int = Field(100_000, ge=1)
    """Interval of the loss on the real validation split, whose lowest decides which weights are tested."""
    uncertain: Literal["ignore", "zeros", "ones"] = "ignore"
    """What an uncertain label (-1) of a real image counts as, in training and in the test."""
    unmentioned: Literal["ignore", "zeros"] = "zeros"
    """What a label that the report does not mention (null) counts as."""

    @model_validator(mode="after")
    def _from_scratch(self) -> "DownstreamConfig":
        if self.network.weights is not None or self.report_decoder.encoder.weights is not None:
            raise ValueError(
                "downstream models are trained from scratch, so that none has seen a test image: leave the weights of "
                "network and of report_decoder.encoder out"
            )
        return self


class EvaluateConfig(Section):
    """A generated dataset beside real images and reports: how near, how varied, how faithful to its labels."""

    dataset: Path | None = Field(None, strict=False)
    """Folder of a finished dataset, written by `emixer generate`."""
    split: Literal["validate", "test"] = "test"
    """The real images that it is compared with."""
    images: int | None = Field(None, ge=10)
    """Images a side. None: as many as both sides have."""
    encoder: ChestEncoderConfig | None = None
    """The DenseNet that measures, beside a small random one; its `weights` must be set, as of `validation.encoder`.
    None: that of `validation.encoder`."""
    inception: Path | None = Field(None, strict=False)
    """Weights of the Inception network of the FID literature; extra `emixer[fid]`. None: left out."""
    rad_dino: Path | None = Field(None, strict=False)
    """Folder of RadDino as the Hugging Face hub has it; extra `emixer[fid]`. None: left out."""
    chexbert: Path | None = Field(None, strict=False)
    """Folder with `chexbert.pth` and the `vocab.txt` of bert-base-uncased, which reads labels off reports beside the
    rules of this project; extra `emixer[fid]`. None: left out."""
    radgraph: Path | None = Field(None, strict=False)
    """Folder with the unpacked `radgraph-xl`, for RadGraph F1 against real reports of the same labels; extra
    `emixer[radgraph]`. None: left out."""
    by: tuple[Condition, ...] = Field((), strict=False)
    """Split the figures by sex, age or view, which the model of the dataset must have been conditioned on."""
    neighbours: int = Field(5, ge=1)
    """Of precision, recall, density and coverage."""
    references: int = Field(5, ge=1)
    """Most real reports of the same labels that a generated report is scored against."""
    resamples: int = Field(500, ge=20)
    """Of the subjects, for 95 % intervals of labels and reports."""
    features: Path | None = Field(None, strict=False)
    """Folder where features of images are kept by content, for other datasets beside the same real images. None: `out`.
    """
    out: Path | None = Field(None, strict=False)
    """Folder of the results. None: `evaluation` in the folder of the dataset."""
    use_gpu: bool | None = None
    """None: where there is one."""


class ExperimentConfig(Section):
    """The paper's tables: sets of independent cells (method x mixture x seed), each remembered once it is done."""

    table: Table = "table1"
    """Which table; `emixer experiment TABLE` sets it."""
    out: Path | None = Field(None, strict=False)
    """Folder of generators, datasets, results and tables. All tables of a folder share what they can."""
    scale: float = Field(1.0, gt=0, le=1)
    """Factor on all the paper's numbers of images: 0.01 makes R100k + S600k to R1k + S6k."""
    seeds: tuple[int, ...] = Field((0, 1, 2), strict=False)
    """Each cell is trained once for each; they decide initialisation and order. Which real images are R does not
    change.
    """
    methods: tuple[Method, ...] = Field(("jointgan", "cogan", "smgan", "emixer"), strict=False)
    """Which of the four; the others' rows are left out."""
    beyond: tuple[Method, ...] = Field(("emixer",), strict=False)
    """Those of the methods that table 1 also tries in three ways that the paper does not: five times as many synthetic
    as real pairs; synthetic pairs first and real ones afterwards; only the half on which a judge agrees most."""
    real_pairs: tuple[int, ...] = Field((100, 300, 1_000, 3_000), strict=False)
    """Of `gain`: numbers of real pairs, as they are, whatever `scale` is."""
    multiples: tuple[int, ...] = Field((1, 3, 6), strict=False)
    """Of `gain`: synthetic pairs for each real one."""
    gain_tasks: tuple[GainTask, ...] = Field(("images", "reports"), strict=False)
    """Of `gain`: what is trained: classifiers of images, classifiers of image and report together, report generators.
    """
    runs: tuple[str, ...] = Field((), strict=False)
    """Trained models to take instead of training them here: `METHOD=RUN`, or `emixer-30=RUN` and `emixer-50=RUN` for
    the limited labels of table 3."""
    diseases: tuple[str, ...] = Field(
        ("Cardiomegaly", "Consolidation", "Pleural Effusion", "Pneumothorax", "Edema"), strict=False
    )
    """The five of table 9."""
    covid: Path | None = Field(None, strict=False)
    """Shards of table 5: images with exactly one of four labels."""
    covid_classes: tuple[str, ...] = Field(
        ("Normal", "Bacterial Pneumonia", "Viral Pneumonia", "COVID-19"), strict=False
    )
    """Those labels, in the order of the paper's rows."""
    downstream: DownstreamConfig = Field(default_factory=DownstreamConfig)
    cpus_per_cell: int = Field(1, ge=1)
    """CPUs that Ray reserves for a cell, and its threads."""
    gpus_per_cell: float = Field(1.0, gt=0, le=1)
    """Share of a GPU for a cell, where the cluster has GPUs."""
    use_gpu: bool | None = None
    """None: where the cluster has GPUs."""
    resamples: int = Field(500, ge=20)
    """Of the test subjects, for 95 % intervals."""

    @model_validator(mode="after")
    def _consistent(self) -> "ExperimentConfig":
        for name in ("seeds", "diseases", "methods", "real_pairs", "multiples", "gain_tasks"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must name at least one, and none twice")
        if any(not 0 <= seed < 2**31 for seed in self.seeds):
            raise ValueError("seeds must lie between 0 and 2147483647")
        if min(*self.real_pairs, *self.multiples, 1) < 1:
            raise ValueError("real_pairs and multiples must be at least 1 each")
        if len(self.covid_classes) != 4 or len(set(self.covid_classes)) != 4:
            raise ValueError("covid_classes must name the four classes of table 5")
        for run in self.runs:
            if run.partition("=")[0] not in RUN_NAMES or not run.partition("=")[2]:
                raise ValueError(f"runs: {run!r} is not NAME=FOLDER with a NAME of {', '.join(RUN_NAMES)}")
        named = [run.partition("=")[0] for run in self.runs]
        if len(set(named)) < len(named):
            raise ValueError("runs must name no generator twice")
        return self


RUN_NAMES = ("jointgan", "cogan", "smgan", "emixer", "emixer-30", "emixer-50")
"""Generators that tables may want: a method, perhaps trained with that percentage of the labels."""

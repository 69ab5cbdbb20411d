"""Settings of training: what it reads, what it minimises, how it steps, what it writes."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from emixer.config.base import Section
from emixer.config.model import ChestEncoderConfig

Augmentation = Literal["color", "translation", "cutout"]


class DataConfig(Section):
    """What training reads."""

    shards: Path | None = Field(None, strict=False)
    """Folder written by `emixer ingest`."""
    uncertain: Literal["zeros", "ones"] = "zeros"
    """What an uncertain label (-1) counts as when it conditions the networks: absent or present."""
    labelled_fraction: float = Field(1.0, gt=0, le=1)
    """Share of the labelled images of each class, drawn by a hash of their id, that keep their labels; the rest train
    by rotation. Paper §6.3.2: 30 % of each class."""
    window_rows: int = Field(4096, ge=16)
    """Images shuffled together; whole row groups in an order drawn anew each epoch fill a window."""
    read_tasks: int = Field(2, ge=1)
    """Ray tasks that read ahead for each worker."""
    horizontal_flip: bool = False
    """Whether half of the real images are mirrored, anew each time. The heart has a side, and reports name sides: a
    model trained so writes of the wrong one half of the time."""


class LossConfig(Section):
    """Weights of the terms of the value function, EMIXER §3.2.3. A weight of 0 switches a term off."""

    adversarial: Literal["logistic", "hinge"] = "logistic"
    """The paper's logistic loss (non-saturating for the generators), or hinge."""
    image: float = Field(1.0, ge=0)
    """Weight of D_image."""
    report: float = Field(1.0, ge=0)
    """Weight of D_report."""
    joint: float = Field(1.0, ge=0)
    """Weight of D_joint."""
    alpha: float = Field(0.2, ge=0)
    """Weight of the rotation loss on generated images (for G). The paper leaves it open; SSGAN: 0.2."""
    beta: float = Field(1.0, ge=0)
    """Weight of the rotation loss on real images (for D_image). SSGAN: 1."""
    rotation_share: float = Field(0.25, gt=0, le=1)
    """Share of a batch that is shown in all four rotations."""
    teacher_forcing: float = Field(1.0, ge=0)
    """Weight of the word and stop cross-entropy of F on real pairs."""
    word_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the words of a real report that F does not see when it learns those after them (Bowman et al. 2016): it
    has to go by the image, and learns a small collection by heart less fast. Ends of sentences are seen."""
    labels: float = Field(1.0, ge=0)
    """Weight of the label cross-entropy of F's encoder on labelled real images: words alone hardly teach it. A frozen
    encoder learns nothing from it. The same weight has the cross-entropy of conditions, if there are any."""
    image_labels: float = Field(0.0, ge=0)
    """Weight, for G, of the label cross-entropy of F's encoder on generated images, as in AC-GAN, and of that of
    conditions. Needs `labels`, or nobody has taught what reads them."""
    mismatched: float = Field(0.0, ge=0)
    """Weight, for D_joint, of real images beside real reports of other labels, as further fakes (Reed et al. 2016)."""
    augment: tuple[Augmentation, ...] = Field((), strict=False)
    """Differentiable augmentation of the images that D_image and D_joint read; made for a few thousand images."""
    augment_target: float | None = Field(None, gt=0, lt=1)
    """None: every image is augmented (DiffAugment). Else each with a probability that rises from 0 while the mean sign
    of D_image's logits of real images is above this, and falls while it is below (ADA; its authors: 0.6)."""
    augment_images: int = Field(500_000, ge=1)
    """Images after which that probability could have gone from 0 to 1."""
    report_gradient_to_image: bool = True
    """Whether D_report and D_joint also train G through F, as the paper's game has it."""


class OptimConfig(Section):
    """Adam for the generators (G, F) and for the discriminators. EMIXER §6.3.2."""

    lr_generator: float = Field(5e-5, gt=0, le=0.1)
    """Learning rate of G and F."""
    lr_discriminator: float = Field(2e-4, gt=0, le=0.1)
    """Learning rate of the discriminators (the paper prints 2*10^4)."""
    lr_report_decoder: float | None = Field(None, gt=0, le=0.1)
    """Learning rate of F alone; None: lr_generator."""
    beta1: float = Field(0.0, ge=0, lt=1)
    """Adam: decay of the mean gradient."""
    beta1_report_decoder: float = Field(0.9, ge=0, lt=1)
    """Adam: the same for F, which learns a language rather than plays a game."""
    warmup_images_report_decoder: int = Field(0, ge=0)
    """Images over which F's learning rate rises from 0."""
    decay_report_decoder: bool = False
    """Whether F's learning rate falls along a line to a twentieth at the end of the run."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Adam: decay of the mean squared gradient."""
    discriminator_steps: int = Field(2, ge=1)
    """Discriminator steps per generator step. The paper: 2."""


class ScheduleConfig(Section):
    """How a stage trains: on what machines, how long, what it writes when. Progress is counted in images."""

    run: Path | None = Field(None, strict=False)
    """Run folder to write; an existing one of the same config is resumed."""
    num_workers: int | tuple[int, int] = 1
    """Ray Train workers, at least 1; one a GPU, or one a group of CPUs. `[MIN, MAX]` on a cluster that grows: training
    starts with MIN, and goes on from its last checkpoint with more, or fewer, as nodes come and go."""
    use_gpu: bool | None = None
    """None: where the cluster has GPUs."""
    cpus_per_worker: int = Field(1, ge=1)
    """CPUs that Ray reserves for each worker."""
    gpus_per_worker: float = Field(1.0, gt=0, le=1)
    """Share of a GPU for each worker that uses one: 0.25 lets four small trials of a search share one."""
    accumulate: int = Field(1, ge=1)
    """Micro-batches a worker splits its share of a batch into, to fit its memory."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast dtype; fp16 adds loss scaling."""
    sync_batch_norm: bool = True
    """Batch-norm statistics over all workers, so that their number does not change the mathematics."""
    log_every_images: int = Field(1_000, ge=1)
    """Interval of a line in metrics.jsonl and TensorBoard [images]."""
    trackers: tuple[Literal["wandb", "mlflow"], ...] = Field((), strict=False)
    """Where metrics go besides metrics.jsonl and TensorBoard; each is an extra to install."""
    max_failures: int = Field(3, ge=0)
    """How often Ray Train restarts the workers from the last checkpoint before it gives up; nodes that SLURM takes with
    a warning do not count."""
    resize_every_s: float = Field(60, gt=0)
    """How often a run whose number of workers may change looks whether the cluster has room for more [s]."""

    @field_validator("num_workers", mode="before")
    @classmethod
    def _workers(cls, value: object) -> object:
        given = value if isinstance(value, list | tuple) else (value,)
        if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 1 for number in given):
            raise ValueError("expected a whole number of at least 1, or [MIN, MAX]")
        if isinstance(value, list | tuple) and (len(value) != 2 or value[0] >= value[1]):
            raise ValueError("expected a whole number, or [MIN, MAX] with MIN less than MAX")
        return tuple(value) if isinstance(value, list) else value

    @property
    def worker_range(self) -> tuple[int, int]:
        """Fewest and most workers."""
        return self.num_workers if isinstance(self.num_workers, tuple) else (self.num_workers, self.num_workers)

    @property
    def batch_unit(self) -> int:
        """What `batch_size` has to be a multiple of, for any number of workers that the run may have."""
        fewest, most = self.worker_range
        return math.lcm(*range(fewest, most + 1)) * self.accumulate

    @property
    def workers_in_words(self) -> str:
        """`2`, or `1 to 4`."""
        fewest, most = self.worker_range
        return str(most) if fewest == most else f"{fewest} to {most}"


class TrainConfig(ScheduleConfig):
    """The schedule of EMIXER and its baselines. Progress is counted in real images shown to the discriminators."""

    images: int = Field(409_600_000, ge=1)
    """Real images to train on: 400k generator steps x 2 discriminator steps x batch 512 in the paper."""
    batch_size: int = Field(512, ge=1)
    """Images per discriminator step over all workers. The paper: 512."""
    ema_half_life_images: int = Field(50_000, ge=1)
    """Images after which a weight counts half in the moving average that samples are drawn from."""
    sample_every_images: int = Field(1_000_000, ge=1)
    """Interval of sample grids [images]."""
    validate_every_images: int = Field(1_000_000, ge=1)
    """Interval of the validation pass [images]."""
    save_every_images: int = Field(500_000, ge=1)
    """Interval of checkpoints [images]; what a killed run loses at most."""


class EncoderConfig(ScheduleConfig):
    """The chest encoder's own training, `emixer encoder`: a DenseNet that tells labels from images."""

    images: int = Field(1_000_000, ge=1)
    """Labelled images to train on; an epoch of ChestX-ray14 is 86,524."""
    batch_size: int = Field(64, ge=1)
    """Images per step over all workers."""
    network: ChestEncoderConfig = Field(default_factory=lambda: ChestEncoderConfig(frozen=False))
    """What is trained; `weights`, if given, is where it starts."""
    uncertain: Literal["ignore", "zeros", "ones"] = "ignore"
    """What an uncertain label (-1) teaches: nothing, absent or present. CheXpert's U-Ignore, U-Zeros, U-Ones."""
    unmentioned: Literal["ignore", "zeros"] = "ignore"
    """What a label that the report does not mention (null) teaches: nothing, or absent."""
    lr: float = Field(1e-3, gt=0, le=0.1)
    """Adam's learning rate at the start; it falls to 0 along a cosine."""
    weight_decay: float = Field(1e-5, ge=0, lt=1)
    """Decoupled weight decay (AdamW)."""
    augment: tuple[Augmentation, ...] = Field(("translation",), strict=False)
    """Random changes of the images while training; see loss.augment."""
    validate_every_images: int = Field(50_000, ge=1)
    """Interval of the AUCs on the validation split [images]; the best mean is the encoder that is kept."""
    save_every_images: int = Field(50_000, ge=1)
    """Interval of checkpoints [images]; what a killed run loses at most."""


class ValidationConfig(Section):
    """The validation pass."""

    images: int = Field(2000, ge=2)
    """Real and generated images compared; at most the validation split."""
    judge_images: int = Field(2000, ge=2)
    """Real train images that teach the judge of labels."""
    encoder: ChestEncoderConfig | None = None
    """The DenseNet whose features FID and the judge use; its `weights` must be set. None: a small random DenseNet, and
    the metric's name says so."""
    judge: Literal["probe", "encoder"] = "probe"
    """Who reads labels off images: a linear probe of the encoder's features, fitted on real train images, or the
    encoder's own outputs, for those labels that it was trained on."""
    metric: Literal["fid", "word_cross_entropy"] = "fid"
    """What `best` means; lower is better. `fid` chooses only where `validation.encoder` measures: random features may
    prefer a blur to ribs, so without one there is no `best`, and `last` serves."""
    sample_rows: int = Field(6, ge=1, le=16)
    """Rows of the sample grid."""

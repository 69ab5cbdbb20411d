"""Settings of training: data, losses, optimisation, schedule and validation."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from emixer.config.base import Section
from emixer.config.model import ChestEncoderConfig
from emixer.errors import ConfigError

Augmentation = Literal["color", "translation", "cutout"]
_TOO_MANY_BATCHES = 16
"""How many times the configured batch a batch for every number of workers of a range may be, to be worth advising."""


class DataConfig(Section):
    """Training data."""

    shards: Path | None = Field(None, strict=False)
    """Folder written by `emixer ingest`."""
    uncertain: Literal["zeros", "ones"] = "zeros"
    """Policy for uncertain labels (-1) that condition the networks: absent or present."""
    labelled_fraction: float = Field(1.0, gt=0, le=1)
    """Share of the labelled images of each class, chosen by a hash of their id, that keep their labels; the rest train
    through the real/fake and rotation losses only. Paper §6.3.2: 30 % of each class."""
    window_rows: int = Field(4096, ge=16)
    """Size of the shuffle window [images]; it is filled with whole row groups in a new random order each epoch."""
    read_tasks: int = Field(2, ge=1)
    """Ray tasks that prefetch for each worker."""
    horizontal_flip: bool = False
    """Mirror real images with probability 1/2. The heart is on one side and reports name sides, so a model trained this
    way names the wrong side half of the time."""


class LossConfig(Section):
    """Weights of the loss terms, EMIXER §3.2.3. A weight of 0 switches a term off."""

    adversarial: Literal["logistic", "hinge"] = "logistic"
    """The paper's logistic loss (non-saturating for the generators), or hinge."""
    relativistic: bool = False
    """Whether D_image compares each real image with a generated one instead of judging each alone, as in R3GAN. No
    effect on JointGAN, which has no D_image."""
    gradient_penalty: float = Field(0.0, ge=0)
    """Weight of R1 and R2: half the squared gradient of D_image's logit at real and at generated images."""
    penalty_share: float = Field(0.25, gt=0, le=1)
    """Share of a batch on which the gradient penalty is computed, and weighted up accordingly."""
    image: float = Field(1.0, ge=0)
    """Weight of D_image."""
    report: float = Field(1.0, ge=0)
    """Weight of D_report."""
    joint: float = Field(1.0, ge=0)
    """Weight of D_joint."""
    alpha: float = Field(0.2, ge=0)
    """Weight of the rotation loss on generated images (for G). Not given in the paper; SSGAN: 0.2."""
    beta: float = Field(1.0, ge=0)
    """Weight of the rotation loss on real images (for D_image). SSGAN: 1."""
    rotation_share: float = Field(0.25, gt=0, le=1)
    """Share of a batch that is used in all four rotations."""
    teacher_forcing: float = Field(1.0, ge=0)
    """Weight of F's word and stop cross-entropy on real pairs."""
    word_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of input words hidden from F in teacher forcing (Bowman et al. 2016): F must rely on the image and overfits
    small collections more slowly. Ends of sentences are never hidden."""
    labels: float = Field(1.0, ge=0)
    """Weight of the label cross-entropy of F's encoder on labelled real images, since words alone hardly train it. No
    effect on a frozen encoder. Also the weight of the cross-entropy of conditions, if there are any: a mean over all
    images, so that one that few images have weighs little."""
    image_labels: float = Field(0.0, ge=0)
    """Weight, for EMIXER's G, of the label cross-entropy of F's encoder on generated images, as in AC-GAN, and of that
    of conditions. Needs `labels`, or the encoder's label head is untrained. No effect on the other kinds of model."""
    mismatched: float = Field(0.0, ge=0)
    """Weight, for D_joint, of real images paired with real reports of other labels, as extra fakes (Reed et al. 2016).
    A mean over all images: with few labels or reports, few have such a pair, and it weighs less."""
    augment: tuple[Augmentation, ...] = Field((), strict=False)
    """Differentiable augmentation of the inputs of D_image and D_joint; meant for collections of a few thousand images.
    """
    augment_target: float | None = Field(None, gt=0, lt=1)
    """Default: every image is augmented (DiffAugment). Otherwise with a probability that rises from 0 while the mean
    sign of D_image's logits on real images is above this value, and falls while it is below (ADA; its authors: 0.6)."""
    augment_images: int = Field(500_000, ge=1)
    """Images over which that probability can rise from 0 to 1."""
    report_gradient_to_image: bool = True
    """Whether D_report and D_joint also train G, as in the paper; for JointGAN, whether its critic does through F."""


class OptimConfig(Section):
    """Adam for the generators (G, F) and for the discriminators. EMIXER §6.3.2."""

    lr_generator: float = Field(5e-5, gt=0, le=0.1)
    """Learning rate of G and F."""
    lr_discriminator: float = Field(2e-4, gt=0, le=0.1)
    """Learning rate of the discriminators (the paper prints 2*10^4)."""
    lr_report_decoder: float | None = Field(None, gt=0, le=0.1)
    """Learning rate of F. Default: lr_generator."""
    beta1: float = Field(0.0, ge=0, lt=1)
    """Adam's beta1 for everything but F."""
    beta1_report_decoder: float = Field(0.9, ge=0, lt=1)
    """Adam's beta1 for F, which is mainly a language model, not a GAN player."""
    warmup_images_report_decoder: int = Field(0, ge=0)
    """Warm-up of F's learning rate from 0 [images]."""
    decay_report_decoder: bool = False
    """Whether F's learning rate decays linearly to a twentieth by the end of the run."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Adam's beta2."""
    discriminator_steps: int = Field(2, ge=1)
    """Discriminator steps per generator step. The paper: 2."""


class ScheduleConfig(Section):
    """How a stage trains: workers, duration, logging and checkpoints. Progress is counted in images."""

    run: Path | None = Field(None, strict=False)
    """Run folder; an existing one with the same config is resumed."""
    num_workers: int | tuple[int, int] = 1
    """Ray Train workers, at least 1; one per GPU, or one per group of CPUs. `[MIN, MAX]` on an autoscaling cluster:
    training starts with MIN and resumes from its last checkpoint with more or fewer as nodes come and go. A range needs
    the cluster to itself: Ray Train counts resources that other programs use as free."""
    use_gpu: bool | None = None
    """Whether to use GPUs. Default: if the cluster has any."""
    cpus_per_worker: int = Field(1, ge=1)
    """CPUs that Ray reserves for each worker."""
    gpus_per_worker: float = Field(1.0, gt=0, le=1)
    """GPUs per worker that uses one; 0.25 lets four small trials of a search share one."""
    accumulate: int = Field(1, ge=1)
    """Gradient accumulation: micro-batches per worker and step, to fit its memory. Batch norm sees one at a time."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast dtype; fp16 adds loss scaling."""
    sync_batch_norm: bool = True
    """Batch-norm statistics over all workers, so that results do not depend on their number. False saves the exchange;
    then checkpoints hold those of the first worker, and a resumed run of several is not exact."""
    log_every_images: int = Field(1_000, ge=1)
    """Interval of logging to metrics.jsonl and TensorBoard [images]."""
    trackers: tuple[Literal["wandb", "mlflow"], ...] = Field((), strict=False)
    """Trackers in addition to metrics.jsonl and TensorBoard; each needs its extra."""
    max_failures: int = Field(3, ge=0)
    """How many times Ray Train restarts the workers from the last checkpoint before it gives up; nodes that SLURM takes
    back with a warning do not count."""
    resize_every_s: float = Field(60, gt=0)
    """How often an elastic run checks whether the cluster has room for more workers [s]."""

    @field_validator("num_workers", mode="before")
    @classmethod
    def _workers(cls, value: object) -> object:
        given = value if isinstance(value, list | tuple) else (value,)
        if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 1 for number in given):
            raise ValueError("expected a whole number of at least 1, or [MIN, MAX]")
        if isinstance(value, list | tuple) and (len(value) != 2 or value[0] >= value[1]):
            raise ValueError("expected a whole number, or [MIN, MAX] with MIN < MAX")
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
    """Schedule of EMIXER and its baselines. Progress is counted in real images shown to the discriminators."""

    images: int = Field(409_600_000, ge=1)
    """Real images to train on: 400k generator steps x 2 discriminator steps x batch 512 in the paper."""
    batch_size: int = Field(512, ge=1)
    """Images per discriminator step, over all workers. The paper: 512."""
    log_every_images: int = Field(10_240, ge=1)
    """Interval of logging to metrics.jsonl and TensorBoard [images]."""
    ema_half_life_images: int = Field(50_000, ge=1)
    """Half-life of the exponential moving average of weights used for sampling [images]."""
    sample_every_images: int = Field(1_000_000, ge=1)
    """Interval of sample grids [images]."""
    validate_every_images: int = Field(1_000_000, ge=1)
    """Interval of the validation pass [images]."""
    save_every_images: int = Field(500_000, ge=1)
    """Interval of checkpoints [images]; a killed run loses at most this."""


class EncoderConfig(ScheduleConfig):
    """Training of the chest encoder, `emixer encoder`: a DenseNet that predicts labels from images."""

    images: int = Field(1_000_000, ge=1)
    """Labelled images to train on; an epoch of ChestX-ray14 is 86,524."""
    batch_size: int = Field(64, ge=1)
    """Images per step, over all workers."""
    network: ChestEncoderConfig = Field(default_factory=lambda: ChestEncoderConfig(frozen=False))
    """Network to train; `weights`, if set, initialise it."""
    uncertain: Literal["ignore", "zeros", "ones"] = "ignore"
    """Policy for uncertain labels (-1): ignored, absent or present. CheXpert's U-Ignore, U-Zeros, U-Ones."""
    unmentioned: Literal["ignore", "zeros"] = "ignore"
    """Policy for labels that the report does not mention (null): ignored or absent."""
    lr: float = Field(1e-3, gt=0, le=0.1)
    """Adam's initial learning rate; cosine decay to 0."""
    weight_decay: float = Field(1e-5, ge=0, lt=1)
    """Decoupled weight decay (AdamW)."""
    augment: tuple[Augmentation, ...] = Field(("translation",), strict=False)
    """Augmentation of training images; see loss.augment."""
    validate_every_images: int = Field(50_000, ge=1)
    """Interval of the AUCs on the validation split [images]; the encoder with the best mean is kept."""
    save_every_images: int = Field(50_000, ge=1)
    """Interval of checkpoints [images]; a killed run loses at most this."""


def check_batch_size(section: str, schedule: TrainConfig | EncoderConfig) -> None:
    """Raises ConfigError when a batch cannot be split over workers and micro-batches."""
    share, (fewest, most) = schedule.batch_unit, schedule.worker_range
    if schedule.batch_size % share:
        if fewest < most and share > _TOO_MANY_BATCHES * schedule.batch_size:
            advice = _narrower(section, schedule)
        else:
            lower = max(1, schedule.batch_size // share) * share
            advice = f"Use a multiple of {share}, e.g. {lower} or {lower + share}."
        raise ConfigError(
            f"{section}.batch_size={schedule.batch_size} cannot be split over {schedule.workers_in_words} worker(s) x "
            f"{schedule.accumulate} micro-batch(es). {advice}"
        )


def _narrower(section: str, schedule: TrainConfig | EncoderConfig) -> str:
    """Advice for a range of workers so wide that no reasonable batch is a multiple of every number in it."""
    (fewest, most), size = schedule.worker_range, schedule.batch_size
    fits = [number for number in range(fewest, most + 1) if size % (number * schedule.accumulate) == 0]
    upward = [number for place, number in enumerate(fits) if number == fewest + place]
    downward = [number for place, number in enumerate(reversed(fits)) if number == most - place]
    widest = max(upward, downward, key=len)
    ranges = f"{section}.num_workers=[{min(widest)}, {max(widest)}], or " if len(widest) > 1 else ""
    one = f"e.g. {max(fits)}" if fits else f"and a batch that is a multiple of it x {schedule.accumulate}"
    return f"A batch must be a multiple of every number in the range: use {ranges}one number of workers, {one}."


class ValidationConfig(Section):
    """The validation pass."""

    images: int = Field(2000, ge=2)
    """Real and generated images to compare; at most the validation split."""
    judge_images: int = Field(2000, ge=2)
    """Real train images used to fit the label judge."""
    encoder: ChestEncoderConfig | None = None
    """DenseNet that provides features for FID and the judge; its `weights` must be set. Default: a small random
    DenseNet, noted in the metric's name."""
    judge: Literal["probe", "encoder"] = "probe"
    """Label classifier for images: a linear probe on the encoder's features, fitted on real train images, or the
    encoder's own outputs for the labels it was trained on."""
    metric: Literal["fid", "word_cross_entropy"] = "fid"
    """Metric that selects the `best` checkpoint; lower is better. `fid` selects only with `validation.encoder` set:
    random features may rank a blur above ribs, so without an encoder there is no `best`, and `last` is used. SM-GAN,
    whose images rest at the end, is selected by `word_cross_entropy` in either case."""
    sample_rows: int = Field(6, ge=1, le=16)
    """Rows of the sample grid."""

"""The one config object that every stage takes."""

from typing import Literal, Self

from pydantic import Field

from emixer.config.audit import AuditConfig
from emixer.config.base import Section
from emixer.config.experiment import EvaluateConfig, ExperimentConfig
from emixer.config.generation import GalleryConfig, GenerateConfig
from emixer.config.ingest import IngestConfig
from emixer.config.model import ChestEncoderConfig, EmixerModelConfig, ModelConfig
from emixer.config.phantom import PhantomConfig
from emixer.config.publish import PublishConfig
from emixer.config.serve import ServeConfig
from emixer.config.slurm import SlurmConfig
from emixer.config.study import StudyConfig
from emixer.config.training import DataConfig, EncoderConfig, LossConfig, OptimConfig, TrainConfig, ValidationConfig
from emixer.config.tune import TuneConfig


class RayConfig(Section):
    """Where the work runs."""

    address: str | None = None
    """A running cluster: `host:port` of its head, or `auto`. Default: RAY_ADDRESS if set, else a local cluster started
    by this process."""
    num_cpus: int | None = Field(None, ge=1)
    """CPUs of that local cluster. Default: all that this process may use."""
    num_gpus: int | None = Field(None, ge=0)
    """GPUs of that local cluster. Default: all that are visible; none in a SLURM job that was given none."""
    object_store_mb: int | None = Field(None, ge=80)
    """Shared memory of the local cluster [MiB]. Default: Ray's choice."""


class Config(Section):
    """All settings. Each stage reads its own sections; `emixer STAGE --print-config` prints everything."""

    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Random seed of phantom and training."""
    ray: RayConfig = Field(default_factory=RayConfig)
    phantom: PhantomConfig = Field(default_factory=PhantomConfig)
    ingest: IngestConfig = Field(default_factory=IngestConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    model: ModelConfig = Field(default_factory=EmixerModelConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    optim: OptimConfig = Field(default_factory=OptimConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    validation: ValidationConfig = Field(default_factory=ValidationConfig)
    generate: GenerateConfig = Field(default_factory=GenerateConfig)
    gallery: GalleryConfig = Field(default_factory=GalleryConfig)
    tune: TuneConfig = Field(default_factory=TuneConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    audit: AuditConfig = Field(default_factory=AuditConfig)
    experiment: ExperimentConfig = Field(default_factory=ExperimentConfig)
    publish: PublishConfig = Field(default_factory=PublishConfig)
    serve: ServeConfig = Field(default_factory=ServeConfig)
    study: StudyConfig = Field(default_factory=StudyConfig)
    slurm: SlurmConfig = Field(default_factory=SlurmConfig)

    def without_password(self) -> Self:
        """The config as files and pages may hold it."""
        tune = self.tune.model_copy(update={"storage": self.tune.written_storage})
        return self.model_copy(update={"tune": tune})

    def measuring_encoder(self, section: Literal["audit", "evaluate"]) -> tuple[str, ChestEncoderConfig | None]:
        """The encoder that measures images in that section, its own or else validation's, and the key that sets it."""
        own: ChestEncoderConfig | None = getattr(self, section).encoder
        if own is None and self.validation.encoder is not None:
            return "validation.encoder", self.validation.encoder
        return f"{section}.encoder", own

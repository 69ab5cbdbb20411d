"""Settings of the networks. Defaults are the paper's where it gives a number; else see docs/deviations.md."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from emixer.config.base import ExactInteger, Section

Condition = Literal["sex", "age", "view"]
"""What images are known of beside labels."""
_OLDEST = 120


class ImageGeneratorConfig(Section):
    """G(z, y). EMIXER §3.2.1, §6.2.2, table 7."""

    channels: int = Field(64, ge=4)
    """Width of the last block; it doubles in each earlier block, up to 16 times this."""
    noise_chunk: int = Field(20, ge=1)
    """Noise dimensions of the stem and of each block: 20 x (stem + 5 blocks) = 120 at 128 px, as in the paper."""
    label_embedding: int = Field(128, ge=1)
    """Width of the label embedding y_emb."""
    attention: bool = True
    """Self-attention before the last block."""
    spectral_norm: bool = True
    """Spectral normalization of every convolution and linear layer."""


class ImageDiscriminatorConfig(Section):
    """D_image(I, y). EMIXER §3.2.3, §6.2.2, table 8."""

    channels: int = Field(64, ge=4)
    """Width of the first block; it doubles in each block, up to 16 times this."""
    spectral_norm: bool = True
    """Spectral normalization of every layer."""


WeightsFrom = Literal["emixer", "torchxrayvision"]


class ChestEncoderConfig(Section):
    """DenseNet that reads chest images: the default is DenseNet-121, as in EMIXER §3.2.2 for the report decoder."""

    growth: int = Field(32, ge=4)
    """DenseNet growth rate (121: 32)."""
    blocks: tuple[int, int, int, int] = Field((6, 12, 24, 16), strict=False)
    """Layers in each dense block (121: 6, 12, 24, 16)."""
    stem_channels: int = Field(64, ge=4)
    """Channels after the stem (121: 64)."""
    input_px: int = Field(224, ge=32, le=512)
    """Input size; images are resized to it [px]."""
    weights: Path | None = Field(None, strict=False)
    """State dict: safetensors of `emixer encoder`, or a torchxrayvision DenseNet-121 file. Default: random
    initialisation."""
    weights_from: WeightsFrom = "emixer"
    """Origin of the weights: torchxrayvision's expect images in [-1024, 1024], ours in [-1, 1]."""
    frozen: bool = True
    """Whether the encoder's weights are frozen. A randomly initialised encoder must not be."""
    same_collection: bool = False
    """Of F's encoder only: allow weights trained on the same collection as the model; the paper's were not."""

    @model_validator(mode="after")
    def _fresh_encoder_learns(self) -> "ChestEncoderConfig":
        if self.weights is None and self.frozen:
            raise ValueError(
                "a frozen encoder without weights would give the report decoder random features; "
                "set weights to a file or frozen to false"
            )
        return self


class HierarchicalWriterConfig(Section):
    """Report writer of the paper, EMIXER §3.2.2: sentence LSTM, stop head, topic network, three-layer word LSTM. Its
    words depend only weakly on the image: see docs/deviations.md."""

    keeps_settings_of_other_kinds: ClassVar[bool] = True

    kind: Literal["hierarchical"] = "hierarchical"
    """Kind of report decoder."""
    sentence_hidden: int = Field(512, ge=8)
    """State size of the sentence LSTM."""
    word_embedding: int = Field(512, ge=8)
    """Size of word embeddings and of sentence topics, which the word LSTM reads like words."""
    word_hidden: int = Field(512, ge=8)
    """State size of the word LSTM."""
    word_layers: int = Field(3, ge=1)
    """Layers of the word LSTM. The paper: three."""
    topic_in_every_step: bool = False
    """Whether the topic is added to every input word of the word LSTM, instead of only preceding the first."""


class AttentiveWriterConfig(Section):
    """Report writer with a causal transformer: each word attends to all image locations and all previous words,
    including those of earlier sentences."""

    keeps_settings_of_other_kinds: ClassVar[bool] = True

    kind: Literal["attentive"] = "attentive"
    """Kind of report decoder."""
    width: int = Field(512, ge=8)
    """Hidden size of all layers."""
    heads: int = Field(8, ge=1)
    """Attention heads; must divide `width`."""
    layers: int = Field(6, ge=1)
    """Transformer layers."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "AttentiveWriterConfig":
        if self.width % self.heads:
            raise ValueError(
                f"width={self.width} is not a multiple of heads={self.heads}; use e.g. "
                f"{self.heads * max(1, round(self.width / self.heads))}"
            )
        return self


class _ReadsImages(Section):
    encoder: ChestEncoderConfig = Field(default_factory=lambda: ChestEncoderConfig(frozen=False))
    reads: Literal["image", "image-and-labels"] = "image"
    """Input of F. The paper: the image only. `image-and-labels`: also the labels that the image was generated from, or,
    for a real image, its own; rows without labels use only the image."""


class HierarchicalDecoderConfig(_ReadsImages, HierarchicalWriterConfig):
    """F(image). EMIXER §3.2.2: chest encoder, then sentence LSTM, stop head, topic network, three-layer word LSTM."""


class AttentiveDecoderConfig(_ReadsImages, AttentiveWriterConfig):
    """F(image): chest encoder, then a causal transformer whose words attend to the locations of its feature map."""


ReportWriterConfig = Annotated[HierarchicalWriterConfig | AttentiveWriterConfig, Field(discriminator="kind")]
"""From features to a report; tagged by `kind`."""
ReportDecoderConfig = Annotated[HierarchicalDecoderConfig | AttentiveDecoderConfig, Field(discriminator="kind")]
"""F; tagged by `kind`."""


class ReportDiscriminatorConfig(Section):
    """D_report. EMIXER §6.2.2: LSTM, then linear layers."""

    word_embedding: int = Field(256, ge=8)
    """Size of a word embedding."""
    hidden: int = Field(512, ge=8)
    """State size of the LSTM and width of the linear layers."""


class JointDiscriminatorConfig(Section):
    """D_joint. EMIXER §3.2.3: CNN features before pooling + last LSTM state, concatenated, linear layers."""

    channels: int = Field(32, ge=4)
    """Width of the first image block."""
    word_embedding: int = Field(256, ge=8)
    """Size of a word embedding."""
    hidden: int = Field(512, ge=8)
    """State size of the LSTM and width of the joint layers."""


class GumbelConfig(Section):
    """Gradients through generated words."""

    straight_through: bool = True
    """Hard one-hot words in the forward pass, soft ones in the backward pass; false: soft embeddings in both."""
    temperature: float = Field(1.0, gt=0)
    """Temperature of the Gumbel-softmax."""


class PairedModelConfig(Section):
    """Settings of every kind of model. Switching to another kind keeps the settings that both have."""

    keeps_settings_of_other_kinds: ClassVar[bool] = True

    side_px: Annotated[Literal[32, 64, 128, 256], ExactInteger] = 128
    """Side of an image [px]. Must match the shards."""
    channels: Annotated[Literal[1, 3], ExactInteger] = 1
    """Image channels. Radiographs are grayscale; the paper's tensors have 3 identical channels."""
    max_sentences: int = Field(10, ge=1)
    """Maximum sentences per report; the rest is truncated."""
    max_words: int = Field(30, ge=2)
    """Maximum words per sentence, including its end token; the rest is truncated."""
    conditions: tuple[Condition, ...] = Field((), strict=False)
    """Conditioning in addition to labels, where the shards have it: sex, age, view."""
    age_bounds: tuple[int, ...] = Field((18, 40, 60, 80), strict=False)
    """Lower bound of each age group except the youngest [years]: children, then the 20-year bands used to report
    fairness of chest X-ray models (Seyyed-Kalantari et al. 2021)."""
    image_generator: ImageGeneratorConfig = Field(default_factory=ImageGeneratorConfig)

    @model_validator(mode="after")
    def _conditions_are_clear(self) -> "PairedModelConfig":
        if len(set(self.conditions)) < len(self.conditions):
            raise ValueError(f"conditions={','.join(self.conditions)} has duplicates; name each once")
        bounds = self.age_bounds
        if not bounds or sorted(set(bounds)) != list(bounds) or not 0 < bounds[0] <= bounds[-1] <= _OLDEST:
            raise ValueError(
                f"age_bounds={','.join(map(str, bounds))} must be increasing ages between 1 and {_OLDEST}, e.g. "
                "18,40,60,80"
            )
        return self

    @property
    def chest_encoder(self) -> ChestEncoderConfig | None:
        """The encoder that reads images for the report, in the kinds that have one."""
        return None

    @property
    def has_phases(self) -> bool:
        """Whether what is trained depends on the share of the run that is done."""
        return False


class EmixerModelConfig(PairedModelConfig):
    """The five networks of EMIXER (paper §3.2, §6.2)."""

    kind: Literal["emixer"] = "emixer"
    """Kind of model."""
    image_discriminator: ImageDiscriminatorConfig = Field(default_factory=ImageDiscriminatorConfig)
    report_decoder: ReportDecoderConfig = Field(default_factory=HierarchicalDecoderConfig)
    report_discriminator: ReportDiscriminatorConfig = Field(default_factory=ReportDiscriminatorConfig)
    joint_discriminator: JointDiscriminatorConfig = Field(default_factory=JointDiscriminatorConfig)
    gumbel: GumbelConfig = Field(default_factory=GumbelConfig)
    words_share: float = Field(0.0, ge=0, lt=1)
    """First share of train.images, in which only the report decoder is trained, on real pairs."""
    images_share: float = Field(0.0, ge=0, lt=1)
    """Next share of train.images, in which G is trained against D_image only, while F continues on real pairs; D_report
    and D_joint join after it. A step without them takes about 40 % of the time."""

    @model_validator(mode="after")
    def _plays_the_whole_game(self) -> "EmixerModelConfig":
        if self.words_share + self.images_share >= 1:
            raise ValueError(
                f"words_share={self.words_share} and images_share={self.images_share} leave no part of the run for "
                "the full game; their sum must be less than 1"
            )
        return self

    @property
    def chest_encoder(self) -> ChestEncoderConfig:
        """F's."""
        return self.report_decoder.encoder

    @property
    def has_phases(self) -> bool:
        """Where F learns alone first, or G."""
        return self.words_share > 0 or self.images_share > 0


class SmganModelConfig(PairedModelConfig):
    """SM-GAN (paper §4.3): a conditional image GAN, then a report decoder trained only on real pairs."""

    kind: Literal["smgan"] = "smgan"
    """Kind of model."""
    image_discriminator: ImageDiscriminatorConfig = Field(default_factory=ImageDiscriminatorConfig)
    report_decoder: ReportDecoderConfig = Field(default_factory=HierarchicalDecoderConfig)
    decoder_share: float = Field(0.3, gt=0, lt=1)
    """Last share of train.images, which trains the report decoder; the rest trains the image GAN."""

    @property
    def chest_encoder(self) -> ChestEncoderConfig:
        """F's."""
        return self.report_decoder.encoder

    @property
    def has_phases(self) -> bool:
        """Images, then words."""
        return True


class CoganModelConfig(PairedModelConfig):
    """CoGAN (Liu & Tuzel 2016) for images and reports: generators share their first layers, critics their last."""

    kind: Literal["cogan"] = "cogan"
    """Kind of model."""
    tied_blocks: int = Field(1, ge=1, le=5)
    """Residual blocks of the image generator, after its stem, that it shares with the report generator; fewer than all.
    """
    image_discriminator: ImageDiscriminatorConfig = Field(default_factory=ImageDiscriminatorConfig)
    report_decoder: ReportWriterConfig = Field(default_factory=HierarchicalWriterConfig)
    report_discriminator: ReportDiscriminatorConfig = Field(default_factory=ReportDiscriminatorConfig)
    gumbel: GumbelConfig = Field(default_factory=GumbelConfig)

    @model_validator(mode="after")
    def _has_blocks_of_its_own(self) -> "CoganModelConfig":
        blocks = (self.side_px // 4).bit_length() - 1
        if self.tied_blocks >= blocks:
            raise ValueError(
                f"tied_blocks={self.tied_blocks} ties all {blocks} blocks that the image generator has at "
                f"{self.side_px} px; use at most {blocks - 1}"
            )
        return self


class JointganModelConfig(PairedModelConfig):
    """JointGAN (Pu et al. 2018) for images and reports: p(image) p(report | image), p(report) p(image | report), and
    one softmax critic that classifies pairs by origin."""

    kind: Literal["jointgan"] = "jointgan"
    """Kind of model."""
    report_decoder: ReportDecoderConfig = Field(default_factory=HierarchicalDecoderConfig)
    joint_discriminator: JointDiscriminatorConfig = Field(default_factory=JointDiscriminatorConfig)
    gumbel: GumbelConfig = Field(default_factory=GumbelConfig)
    direction: Literal["image_first", "report_first"] = "image_first"
    """Sampling order: the image from labels and the report from the image, or the other way round."""

    @model_validator(mode="after")
    def _images_are_conditioned(self) -> "JointganModelConfig":
        if self.conditions and self.direction == "report_first":
            raise ValueError(
                "direction=report_first generates the image from its report only, which does not carry "
                f"conditions={','.join(self.conditions)}; use image_first, or set no conditions"
            )
        return self

    @property
    def chest_encoder(self) -> ChestEncoderConfig:
        """That of p(report | image)."""
        return self.report_decoder.encoder


ModelConfig = Annotated[
    EmixerModelConfig | CoganModelConfig | JointganModelConfig | SmganModelConfig, Field(discriminator="kind")
]
"""Which model, and how large; tagged by `kind`."""

"""Settings of the networks. Defaults are the paper's where it gives a number; see docs/deviations.md where not."""

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
    """Width of the last block; earlier ones double up to 16 times this."""
    noise_chunk: int = Field(20, ge=1)
    """Noise dimensions for the stem and for each block: 20 x (stem + 5 blocks) = 120 at 128 px, as in the paper."""
    label_embedding: int = Field(128, ge=1)
    """Width of the label embedding y_emb."""
    attention: bool = True
    """Self-attention before the last block."""
    spectral_norm: bool = True
    """Spectral normalization of every convolution and linear layer."""


class ImageDiscriminatorConfig(Section):
    """D_image(I, y). EMIXER §3.2.3, §6.2.2, table 8."""

    channels: int = Field(64, ge=4)
    """Width of the first block; it doubles in each block up to 16 times this."""
    spectral_norm: bool = True
    """Spectral normalization of every layer."""


class ChestEncoderConfig(Section):
    """The DenseNet that gives the report decoder its features. EMIXER §3.2.2: DenseNet-121, v in R^512."""

    growth: int = Field(32, ge=4)
    """DenseNet growth rate (121: 32)."""
    blocks: tuple[int, int, int, int] = Field((6, 12, 24, 16), strict=False)
    """Layers in each dense block (121: 6, 12, 24, 16)."""
    stem_channels: int = Field(64, ge=4)
    """Channels after the stem (121: 64)."""
    input_px: int = Field(224, ge=32, le=512)
    """Images are resized to this before they enter the encoder."""
    weights: Path | None = Field(None, strict=False)
    """State dict: our encoder stage's safetensors or a torchxrayvision DenseNet-121 file. None: fresh."""
    weights_from: Literal["emixer", "torchxrayvision"] = "emixer"
    """Who trained them: torchxrayvision's expect images in [-1024, 1024], ours in [-1, 1]."""
    frozen: bool = True
    """Whether the encoder keeps its weights. A fresh encoder must not be frozen."""
    same_collection: bool = False
    """Whether F's encoder may come from the very collection that the model trains on; the paper's did not."""

    @model_validator(mode="after")
    def _fresh_encoder_learns(self) -> "ChestEncoderConfig":
        if self.weights is None and self.frozen:
            raise ValueError(
                "a fresh encoder (weights: null) that is frozen would give the report decoder random features; "
                "set weights to a file or frozen to false"
            )
        return self


class HierarchicalWriterConfig(Section):
    """From features to a report as in the paper, EMIXER §3.2.2: sentence LSTM, stop head, topic network, three-layer
    word LSTM. It hardly carries what it is given to the words: see docs/deviations.md."""

    keeps_settings_of_other_kinds: ClassVar[bool] = True

    kind: Literal["hierarchical"] = "hierarchical"
    """Which report decoder."""
    sentence_hidden: int = Field(512, ge=8)
    """State size of the sentence LSTM."""
    word_embedding: int = Field(512, ge=8)
    """Size of a word embedding, and of a sentence topic, which the word LSTM reads as if it were a word."""
    word_hidden: int = Field(512, ge=8)
    """State size of the word LSTM."""
    word_layers: int = Field(3, ge=1)
    """Layers of the word LSTM. The paper: three."""
    topic_in_every_step: bool = False
    """Whether the topic is added to every word that the word LSTM reads, instead of standing before the first alone."""


class AttentiveWriterConfig(Section):
    """From features to a report by a causal transformer: each word attends to the places of the image and to all words
    before it, those of earlier sentences included."""

    keeps_settings_of_other_kinds: ClassVar[bool] = True

    kind: Literal["attentive"] = "attentive"
    """Which report decoder."""
    width: int = Field(512, ge=8)
    """Size of a word's state in all layers."""
    heads: int = Field(8, ge=1)
    """Attention heads; `width` is a multiple of them."""
    layers: int = Field(6, ge=1)
    """Transformer layers."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "AttentiveWriterConfig":
        if self.width % self.heads:
            raise ValueError(
                f"width={self.width} cannot be split over heads={self.heads}; use a multiple, e.g. "
                f"{self.heads * max(1, round(self.width / self.heads))}"
            )
        return self


class _ReadsImages(Section):
    encoder: ChestEncoderConfig = Field(default_factory=lambda: ChestEncoderConfig(frozen=False))
    reads: Literal["image", "image-and-labels"] = "image"
    """What F is given. The paper: the image alone. `image-and-labels`: also the labels that the image was made from,
    or, of a real one, has; rows without known labels are read by their images alone."""


class HierarchicalDecoderConfig(_ReadsImages, HierarchicalWriterConfig):
    """F(image). EMIXER §3.2.2: chest encoder, then sentence LSTM, stop head, topic network, three-layer word LSTM."""


class AttentiveDecoderConfig(_ReadsImages, AttentiveWriterConfig):
    """F(image): chest encoder, then a causal transformer whose words attend to the places of its feature map."""


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
    """How gradients pass through generated words."""

    straight_through: bool = True
    """Hard one-hot words forward, soft ones backward; false: soft embeddings both ways."""
    temperature: float = Field(1.0, gt=0)
    """Temperature of the Gumbel-softmax."""


class PairedModelConfig(Section):
    """What every kind of model has. Choosing another kind keeps the settings that both have."""

    keeps_settings_of_other_kinds: ClassVar[bool] = True

    side_px: Annotated[Literal[32, 64, 128, 256], ExactInteger] = 128
    """Side of an image [px]. Must equal the shards'."""
    channels: Annotated[Literal[1, 3], ExactInteger] = 1
    """Image channels. Radiographs are gray; the paper's tensors have 3 equal ones."""
    max_sentences: int = Field(10, ge=1)
    """Sentences of a report beyond this are cut."""
    max_words: int = Field(30, ge=2)
    """Words of a sentence, its end token included, beyond this are cut."""
    conditions: tuple[Condition, ...] = Field((), strict=False)
    """What the model is given beside the labels, where the shards know it: sex, age, view."""
    age_bounds: tuple[int, ...] = Field((18, 40, 60, 80), strict=False)
    """First age of each age group but the youngest [years]: children, then the bands of twenty years that fairness of
    chest X-ray models is reported by (Seyyed-Kalantari et al. 2021)."""
    image_generator: ImageGeneratorConfig = Field(default_factory=ImageGeneratorConfig)

    @model_validator(mode="after")
    def _conditions_are_clear(self) -> "PairedModelConfig":
        if len(set(self.conditions)) < len(self.conditions):
            raise ValueError(f"conditions={','.join(self.conditions)} names one twice; name each once")
        bounds = self.age_bounds
        if not bounds or sorted(set(bounds)) != list(bounds) or not 0 < bounds[0] <= bounds[-1] <= _OLDEST:
            raise ValueError(
                f"age_bounds={','.join(map(str, bounds))} are no ages that ascend from 1 to {_OLDEST}; use e.g. "
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
    """Which model."""
    image_discriminator: ImageDiscriminatorConfig = Field(default_factory=ImageDiscriminatorConfig)
    report_decoder: ReportDecoderConfig = Field(default_factory=HierarchicalDecoderConfig)
    report_discriminator: ReportDiscriminatorConfig = Field(default_factory=ReportDiscriminatorConfig)
    joint_discriminator: JointDiscriminatorConfig = Field(default_factory=JointDiscriminatorConfig)
    gumbel: GumbelConfig = Field(default_factory=GumbelConfig)
    words_share: float = Field(0.0, ge=0, lt=1)
    """Share of train.images, at the beginning, in which the report decoder alone learns, from real pairs."""
    images_share: float = Field(0.0, ge=0, lt=1)
    """Share of train.images, after that, in which G plays against D_image alone while F goes on learning from real
    pairs; D_report and D_joint join for the rest. A step without them takes some 40 % of the time."""

    @model_validator(mode="after")
    def _plays_the_whole_game(self) -> "EmixerModelConfig":
        if self.words_share + self.images_share >= 1:
            raise ValueError(
                f"words_share={self.words_share} and images_share={self.images_share} leave nothing of the run for "
                "the whole game; their sum must be less than 1"
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
    """SM-GAN (paper §4.3): a conditional image GAN, then a report decoder trained on real pairs alone."""

    kind: Literal["smgan"] = "smgan"
    """Which model."""
    image_discriminator: ImageDiscriminatorConfig = Field(default_factory=ImageDiscriminatorConfig)
    report_decoder: ReportDecoderConfig = Field(default_factory=HierarchicalDecoderConfig)
    decoder_share: float = Field(0.3, gt=0, lt=1)
    """Share of train.images, at the end, that trains the report decoder; the images before it train the image GAN."""

    @property
    def chest_encoder(self) -> ChestEncoderConfig:
        """F's."""
        return self.report_decoder.encoder

    @property
    def has_phases(self) -> bool:
        """Images, then words."""
        return True


class CoganModelConfig(PairedModelConfig):
    """CoGAN (Liu & Tuzel 2016) for images and reports: generators tied in their first layers, critics in their last."""

    kind: Literal["cogan"] = "cogan"
    """Which model."""
    tied_blocks: int = Field(1, ge=1, le=5)
    """Residual blocks of the image generator, after its stem, that the report generator shares; fewer than it has."""
    image_discriminator: ImageDiscriminatorConfig = Field(default_factory=ImageDiscriminatorConfig)
    report_decoder: ReportWriterConfig = Field(default_factory=HierarchicalWriterConfig)
    report_discriminator: ReportDiscriminatorConfig = Field(default_factory=ReportDiscriminatorConfig)
    gumbel: GumbelConfig = Field(default_factory=GumbelConfig)

    @model_validator(mode="after")
    def _has_blocks_of_its_own(self) -> "CoganModelConfig":
        blocks = (self.side_px // 4).bit_length() - 1
        if self.tied_blocks >= blocks:
            raise ValueError(
                f"tied_blocks={self.tied_blocks} leaves the image generator, which has {blocks} blocks at "
                f"{self.side_px} px, none of its own; use at most {blocks - 1}"
            )
        return self


class JointganModelConfig(PairedModelConfig):
    """JointGAN (Pu et al. 2018) for images and reports: p(image) p(report | image), p(report) p(image | report), and
    one softmax critic that tells the kinds of pairs apart."""

    kind: Literal["jointgan"] = "jointgan"
    """Which model."""
    report_decoder: ReportDecoderConfig = Field(default_factory=HierarchicalDecoderConfig)
    joint_discriminator: JointDiscriminatorConfig = Field(default_factory=JointDiscriminatorConfig)
    gumbel: GumbelConfig = Field(default_factory=GumbelConfig)
    direction: Literal["image_first", "report_first"] = "image_first"
    """How pairs are sampled: the image from labels and the report from the image, or the other way round."""

    @model_validator(mode="after")
    def _images_are_conditioned(self) -> "JointganModelConfig":
        if self.conditions and self.direction == "report_first":
            raise ValueError(
                "direction=report_first draws the image from its report alone, which says nothing of "
                f"conditions={','.join(self.conditions)}; use image_first, or leave the conditions out"
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

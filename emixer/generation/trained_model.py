"""What generation takes from a checkpoint: weights, the model they belong to, and where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn.utils import parametrize

from emixer.checkpoint import SAMPLER, Checkpoint, Which, find_checkpoint, newest_readable, read_checkpoint, reading
from emixer.config.model import ModelConfig
from emixer.data.vocabulary import Vocabulary
from emixer.errors import CheckpointError, ConfigError
from emixer.files import is_there, sha256_of
from emixer.generation.published_model import is_published_model, open_published_model
from emixer.model_kinds import build_model
from emixer.models.paired_model import ModelSpec, PairedModel
from emixer.run_folder import RunFolder


@dataclass(frozen=True)
class TrainedModel:
    """What a sampler needs of a checkpoint; picklable, so that samplers need not see the run folder."""

    config: ModelConfig
    spec: ModelSpec
    tensors: dict[str, Tensor]
    images: int
    """Real images trained on."""
    digest: str
    """SHA-256 of the weights' file."""
    path: Path
    training_data: dict[str, Any]
    """Of a published model: what its config.json says of its training data. Empty for a checkpoint of a run."""

    @property
    def run_folder(self) -> Path | None:
        """The run folder that the checkpoint is in; None for a checkpoint elsewhere, and for a published model.

        A checkpoint may be a link, from anywhere, and so may the folder `checkpoints`.
        """
        for path in (self.path.resolve(), self.path.absolute()):
            run = path.parent.parent
            if path.parent == RunFolder(run).checkpoints and (run / "run.json").exists():
                return run
        return None

    @property
    def vocabulary(self) -> Vocabulary:
        """Token ids to text."""
        return Vocabulary(self.spec.tokens)


def read_trained_model(path: Path, which: Which = "best") -> TrainedModel:
    """Reads what `emixer.load` reads, without building the networks: of a run, a checkpoint or a published model."""
    if which not in get_args(Which):
        raise ConfigError(f"which={which!r} is neither best nor last. For another checkpoint, give its folder.")
    if is_published_model(path):
        published = open_published_model(path)
        return _described(published.path, published.state, published.tensors, published.digest)
    checkpoint = _find(path, which)
    tensors = checkpoint.tensors(SAMPLER)  # before the digest: this says what to do about a damaged or missing file
    with reading(checkpoint.path):
        digest = sha256_of(checkpoint.path / f"{SAMPLER}.safetensors")
    return _described(checkpoint.path, checkpoint.state, tensors, digest)


def _described(path: Path, state: Mapping[str, Any], tensors: dict[str, Tensor], digest: str) -> TrainedModel:
    """The model that a checkpoint's `state` describes. Raises CheckpointError where it describes none."""
    try:
        config = TypeAdapter(ModelConfig).validate_python(state["model"])
        spec = ModelSpec.from_json(state["spec"])
    except (KeyError, TypeError, ValidationError) as error:
        raise CheckpointError(
            f"{path} does not describe its model ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}). Use a checkpoint written by `emixer train` of this version."
        ) from error
    return TrainedModel(
        config=config,
        spec=spec,
        tensors=tensors,
        images=int(state["images"]),
        digest=digest,
        path=path,
        training_data=dict(state.get("training_data") or {}),
    )


def _find(path: Path, which: Which) -> Checkpoint:
    if is_there(path / "checkpoint.json"):
        return read_checkpoint(path)
    folder = RunFolder.open(path, "train").checkpoints
    checkpoint = find_checkpoint(folder, which) or find_checkpoint(folder, "last") or newest_readable(folder)
    if checkpoint is None:
        raise CheckpointError(
            f"{path} has no checkpoint yet. Wait for training to write the first one, or resume training."
        )
    return checkpoint


def sampling_model(trained: TrainedModel) -> PairedModel:
    """What draws samples, in eval mode, without critics. Raises CheckpointError when the tensors do not fit."""
    model = build_model(trained.config, trained.spec, load_weights=False)
    names = set(model.ema_modules())
    for name in [name for name, _ in model.named_children() if name not in names]:
        delattr(model, name)  # the critics take as much memory as what draws the samples
    try:
        model.load_state_dict(trained.tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{trained.path} does not fit the model it names ({' '.join(str(error).split())[:200]}). "
            "It is damaged or of another version; use another checkpoint."
        ) from error
    _fold_parametrizations(model)
    return model.eval().requires_grad_(False)


def _fold_parametrizations(model: nn.Module) -> None:
    """Makes plain weights of computed ones (spectral norm): in sampling they never change, so once is enough."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            assert isinstance(module.parametrizations, nn.ModuleDict)
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name)

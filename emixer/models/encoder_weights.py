"""Read a chest encoder's weights from a file: our safetensors, or a state dict saved by torch.

Nothing pickled is ever run: a file that holds a whole module (as torchxrayvision's downloads do) is rejected with the
command that converts it to a state dict where torchxrayvision is installed.
"""

import pickle
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from emixer import files
from emixer.checkpoint import write_tensors
from emixer.config.model import WeightsFrom
from emixer.errors import CheckpointError
from emixer.models.encoder_facts import EncoderFacts, read_encoder_facts

_CONVERT = (
    'python -c "import torch, torchxrayvision as xrv; '
    "torch.save(xrv.models.DenseNet(weights='densenet121-res224-nih').state_dict(), 'densenet121-nih.pt')\""
)
_XRV_CLASSES = 18
INPUT_RANGE: dict[WeightsFrom, float] = {"emixer": 1.0, "torchxrayvision": 1024.0}
"""Images in [-1, 1] are multiplied by this: the range on which the weights were trained."""
_UNUSED = ("classifier.", "op_threshs")


def save_encoder_weights(path: Path, encoder: nn.Module, facts: EncoderFacts, input_range: float = 1.0) -> None:
    """Write the whole network atomically, with `facts` in the header. Raises StorageError on a full disk."""
    with files.written_aside(path) as aside:
        tensors = {name: tensor.detach().cpu() for name, tensor in encoder.state_dict().items()}
        # Images are multiplied by the input range before the first convolution, which has no bias: with the range
        # folded into its weights, the file is for images in [-1, 1] whatever weights the encoder started from
        if input_range != 1:
            tensors["features.conv0.weight"] = tensors["features.conv0.weight"] * input_range
        write_tensors(aside, tensors, facts.to_metadata())


def load_encoder_weights(encoder: nn.Module, path: Path, weights_from: WeightsFrom) -> None:
    """Copy the state dict at `path` into `encoder`. Layers that `encoder` lacks are ignored, as is a classifier over
    other labels.

    Raises CheckpointError when the file is missing, holds a pickled module, or belongs to another network.
    """
    state = _read(path)
    found = _source(path, state)
    if found is not None and found != weights_from:
        raise CheckpointError(
            f"{path} holds weights from {found}, which expect images in [{-INPUT_RANGE[found]:g}, "
            f"{INPUT_RANGE[found]:g}]. Set weights_from={found} for this encoder, e.g. "
            "model.report_decoder.encoder.weights_from."
        )
    wanted = encoder.state_dict()
    usable = {name: tensor for name, tensor in state.items() if _shape(wanted.get(name)) == tensor.shape}
    missing = [
        name for name in wanted if name not in usable and not name.startswith(_UNUSED) and "num_batches" not in name
    ]
    if missing:
        name = missing[0]
        raise CheckpointError(
            f"{path} does not fit the chest encoder: {len(missing)} of {len(wanted)} tensors are missing or differ, "
            f"e.g. {name} is {_described(state.get(name))}, expected {list(wanted[name].shape)}. "
            "Check this encoder's growth, blocks and stem_channels; images must have one channel."
        )
    encoder.load_state_dict(usable, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
            return tensors
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is a pickled module or damaged; only state dicts are read, since a pickle can run any code. "
            f"If torchxrayvision is installed, convert it with\n  {_CONVERT}"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as encoder weights ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "Expected a .safetensors file or a state dict saved by torch.save."
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict of tensors.")
    return content


def _source(path: Path, state: dict[str, Tensor]) -> WeightsFrom | None:
    """Return whose weights these are, if that can be told."""
    if read_encoder_facts(path) is not None:
        return "emixer"
    classifier = state.get("classifier.weight")
    if "op_threshs" in state or (classifier is not None and classifier.shape[0] == _XRV_CLASSES):
        return "torchxrayvision"
    return None


def _shape(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


def _described(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(list(tensor.shape))

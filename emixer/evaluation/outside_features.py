"""Images -> features of third-party networks, for figures that can be compared with published ones.

`inception` is the network of nearly all published FIDs; it was trained on no radiographs, `rad_dino` only on
radiographs. Both need `emixer[fid]` and weights on disk: nothing is downloaded, and no pickled code is run.

Float images are first rounded to 256 gray values, as when saved, so that images have the same features before and
after.

Shapes: B images of a batch, N images, C channels (1, or 3 of a gray image), H, W sides [px], F features.
Source: Heusel et al. 2017 (FID), Szegedy et al. 2015 (Inception); Pérez-García et al. 2025 (RAD-DINO).
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emixer.errors import CheckpointError, ConfigError
from emixer.evaluation.features import Features
from emixer.extras import to_install
from emixer.models.fixed_kernels import fixed_kernels


class _OutsideFeatures(Features):
    """Features of a network from another library. forward: features of gray values (B, 3, H, W) uint8 on the device."""

    def __init__(self, name: str, num_features: int, device: torch.device, forward: Callable[[Tensor], Tensor]) -> None:
        self.name, self.num_features, self.device = name, num_features, device
        self._forward = forward

    @torch.no_grad()
    def __call__(self, image_BCHW: Tensor) -> Tensor:
        gray_B3HW = _gray_values(image_BCHW.to(self.device))
        with fixed_kernels(self.device, "ieee", deterministic=True):
            return self._forward(gray_B3HW).float()


def inception(weights: Path, device: torch.device) -> Features:
    """The 2048 features of Inception v3 before its classifier, as computed in the FID literature.

    weights: the state dict published as pt_inception-2015-12-05-6726825d.pth, or by torch-fidelity under a name with
    the same end, converted from TensorFlow's. Images of any size are resized to 299 x 299, bilinearly and without
    antialiasing, as TensorFlow 1 did and published distances assume; images above 299 px alias. Raises CheckpointError
    when the file is missing, holds a pickled module or does not fit, ConfigError without torch-fidelity.
    """
    check_inception(weights)
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise _missing("inception", "torch-fidelity") from error
    try:
        # this unpickles the file without restrictions; `check_inception` has verified that it holds only tensors
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
    except RuntimeError as error:
        raise CheckpointError(
            f"{weights} does not fit the Inception network of the FID literature. "
            "Give pt_inception-2015-12-05-6726825d.pth; torchvision's Inception is another network."
        ) from error
    network.to(device)
    return _OutsideFeatures("inception", 2048, device, lambda gray_B3HW: network(gray_B3HW)[0])


_RAD_DINO_PROCESSOR: dict[str, Any] = {
    "size": {"shortest_edge": 518}, "crop_size": {"height": 518, "width": 518}, "resample": 3,
    "image_mean": [0.5307] * 3, "image_std": [0.2583] * 3,
}  # fmt: skip
"""Content of the published preprocessor_config.json; resample 3 is bicubic."""


def rad_dino(folder: Path, device: torch.device) -> Features:
    """The class token of RAD-DINO (microsoft/rad-dino, a DINOv2 ViT-B/14): 768 features.

    folder: a download of the model, with config.json, model.safetensors and preprocessor_config.json. The last defines
    the preprocessing; without it, RAD-DINO's is used: shorter side resized to 518 px, bicubic with antialiasing, centre
    crop of 518 x 518 px, gray values in [0, 1] normalised by mean 0.5307 and sd 0.2583. Raises CheckpointError when
    files are missing, damaged or of another network, ConfigError without transformers.
    """
    check_rad_dino(folder)
    try:
        from transformers import AutoImageProcessor, BitImageProcessor, Dinov2Model
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise _missing("rad_dino", "transformers") from error
    disable_progress_bar()  # it would overwrite this program's own
    try:
        processor = (
            AutoImageProcessor.from_pretrained(str(folder), local_files_only=True)
            if (folder / "preprocessor_config.json").exists()
            else BitImageProcessor(**_RAD_DINO_PROCESSOR)
        )
        network, found = Dinov2Model.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        raise CheckpointError(
            f"{folder} cannot be read as RAD-DINO ({type(error).__name__}: {_first_line(error)}). "
            "Expected the published files of microsoft/rad-dino."
        ) from error
    # tensors missing in the file were initialised at random; the mask token is not used on whole images
    missing = sorted(name for name in found["missing_keys"] if not name.endswith("mask_token"))
    if missing:
        raise CheckpointError(
            f"{folder} does not fit RAD-DINO: {len(missing)} tensors are missing, e.g. {missing[0]}. "
            "Expected the published files of microsoft/rad-dino."
        )
    network.requires_grad_(False).eval().to(device)

    def forward(gray_B3HW: Tensor) -> Tensor:
        prepared_B3HW = processor(images=gray_B3HW, return_tensors="pt")["pixel_values"]
        class_token_BF: Tensor = network(pixel_values=prepared_B3HW.to(device)).pooler_output
        return class_token_BF

    return _OutsideFeatures("rad_dino", network.config.hidden_size, device, forward)


def check_rad_dino(folder: Path) -> None:
    """Raise CheckpointError if a file that `rad_dino` needs is missing."""
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} has no {name}. Expected a folder with config.json, model.safetensors and "
                "preprocessor_config.json of microsoft/rad-dino."
            )


def _gray_values(image_BCHW: Tensor) -> Tensor:
    """Convert images to gray values (B, 3, H, W) uint8."""
    if image_BCHW.dtype != torch.uint8:
        if not torch.isfinite(image_BCHW).all():  # uint8 cannot represent NaN
            raise ValueError("Images are not finite. Check where they come from.")
        image_BCHW = image_BCHW.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return image_BCHW.expand(-1, 3, -1, -1)


def check_inception(path: Path) -> None:
    """Raise CheckpointError unless the file holds only named tensors and no code that would run on loading."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is a pickled module or damaged; only state dicts are read, since a pickle can run any code. "
            "Give pt_inception-2015-12-05-6726825d.pth."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as Inception weights ({type(error).__name__}: {_first_line(error)}). "
            "Give pt_inception-2015-12-05-6726825d.pth."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict of tensors.")


def _missing(features: str, package: str) -> ConfigError:
    return ConfigError(f"{features} features need {package}, which is not installed. Run {to_install('fid')}.")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]

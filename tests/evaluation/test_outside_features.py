"""Tests of emixer.evaluation.outside_features, with random weights made on the spot."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from emixer.errors import CheckpointError, ConfigError
from emixer.evaluation.features import FeatureExtractor, Features
from emixer.evaluation.outside_features import inception, rad_dino

pytestmark = pytest.mark.usefixtures("no_network")
CPU = torch.device("cpu")
NEEDS = "needs emixer[fid]"


def images(num: int, seed: int, height: int = 40, width: int = 40) -> torch.Tensor:
    """Return smooth gray images, uint8 (num, 1, height, width)."""
    coarse = torch.rand(num, 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (fine.clamp(0, 1) * 255).to(torch.uint8)


def check_interface(features: Features, x: torch.Tensor) -> None:
    """Check the promises of `FeatureExtractor` on its features."""
    found = features(x)
    assert found.shape == (len(x), features.num_features)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert found.std() > 1e-3
    torch.testing.assert_close(features(x.float() / 127.5 - 1), found)
    torch.testing.assert_close(features(x.expand(-1, 3, -1, -1)), found)
    torch.testing.assert_close(features.over(x.split(2)), found, rtol=1e-3, atol=1e-5)
    assert features.over([]).shape == (0, features.num_features)
    noisy = torch.full_like(x, 0.5, dtype=torch.float32)
    noisy[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        features(noisy)


def test_own_features_have_the_same_interface() -> None:
    extractor: Features = FeatureExtractor.random(CPU)
    assert extractor.over(images(3, seed=0).split(2)).shape == (3, extractor.num_features)


# Inception


def make_inception(monkeypatch: pytest.MonkeyPatch, path: Path) -> Any:
    """Return torch-fidelity's network with random weights, also saved to `path`."""
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason=NEEDS)
    torch.save({}, path)
    with monkeypatch.context() as patched, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patched.setattr(library.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = library.FeatureExtractorInceptionV3("any", ["2048"], feature_extractor_weights_path=str(path))
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), path)
    return network


def test_inception_features_match_torch_fidelity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "inception.pth"
    network = make_inception(monkeypatch, path)
    features, x = inception(path, CPU), images(3, seed=1)
    assert (features.name, features.num_features, features.device) == ("inception", 2048, CPU)
    torch.testing.assert_close(features(x), network(x.repeat(1, 3, 1, 1))[0])
    check_interface(features, x)


def test_state_dict_of_another_network_is_not_inception(tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity", reason=NEEDS)
    path = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(CheckpointError, match=r"other\.pth does not fit the Inception network"):
        inception(path, CPU)


def test_missing_torch_fidelity_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"):
        monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / "inception.pth"
    torch.save({"fc.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(ConfigError, match=r"need torch-fidelity, .*'\.\[fid\]'"):
        inception(path, CPU)


class _Runs:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('a pickle was run')",))


def test_files_without_a_state_dict_are_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "inception.pth"
    with pytest.raises(CheckpointError, match=r"inception\.pth cannot be read .*FileNotFoundError"):
        inception(path, CPU)
    torch.save(_Runs(), path)
    with pytest.raises(CheckpointError, match="a pickle can run any code"):
        inception(path, CPU)
    torch.save([torch.zeros(2)], path)
    with pytest.raises(CheckpointError, match="holds a list, not a state dict"):
        inception(path, CPU)
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"inception\.pth"):
        inception(path, CPU)


# RAD-DINO

PUBLISHED_PROCESSOR = {
    "crop_size": {"height": 518, "width": 518}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
    "do_rescale": True, "do_resize": True, "image_mean": [0.5307] * 3, "image_processor_type": "BitImageProcessor",
    "image_std": [0.2583] * 3, "resample": 3, "rescale_factor": 1 / 255, "size": {"shortest_edge": 518},
}  # fmt: skip


def make_rad_dino(folder: Path) -> Any:
    """Return a DINOv2 of two narrow layers with random weights, saved to `folder`."""
    library = pytest.importorskip("transformers", reason=NEEDS)
    config = library.Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=518)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = library.Dinov2Model(config).eval()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(folder)
    return network


def prepared(x: torch.Tensor, mean: float = 0.5307, std: float = 0.2583) -> torch.Tensor:
    """Prepare images with PIL and numpy: shorter side to 518 px, bicubic; centre crop; standardize."""
    out = []
    for image in x[:, 0].numpy():
        height, width = image.shape
        scale = 518 / min(height, width)
        large = Image.fromarray(image).resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC)
        left, top = (large.width - 518) // 2, (large.height - 518) // 2
        gray = np.asarray(large.crop((left, top, left + 518, top + 518)), dtype=np.float32) / 255
        out.append(torch.from_numpy((gray - mean) / std))
    return torch.stack(out)[:, None].repeat(1, 3, 1, 1)


@pytest.mark.parametrize("with_processor", [True, False])
@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 52), (600, 560)])
def test_rad_dino_features_are_the_class_tokens_of_images_prepared_by_pil(
    tmp_path: Path, with_processor: bool, height: int, width: int
) -> None:
    network = make_rad_dino(tmp_path)
    if with_processor:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(PUBLISHED_PROCESSOR))
    features, x = rad_dino(tmp_path, CPU), images(3, 2, height, width)
    assert (features.name, features.num_features, features.device) == ("rad_dino", 16, CPU)
    with torch.no_grad():
        expected = network(prepared(x)).last_hidden_state[:, 0]
    torch.testing.assert_close(features(x), expected, rtol=0.01, atol=0.01 * float(expected.std()))
    if height == width:
        check_interface(features, x)


def test_preprocessor_config_of_the_folder_is_used(tmp_path: Path) -> None:
    network = make_rad_dino(tmp_path)
    changed = PUBLISHED_PROCESSOR | {"image_mean": [0.1] * 3, "image_std": [0.9] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(changed))
    x = images(2, seed=3)
    with torch.no_grad():
        expected = network(prepared(x, 0.1, 0.9)).last_hidden_state[:, 0]
    torch.testing.assert_close(rad_dino(tmp_path, CPU)(x), expected, rtol=0.01, atol=0.01 * float(expected.std()))


def test_missing_weights_of_rad_dino_are_not_made_up(tmp_path: Path) -> None:
    make_rad_dino(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith("layernorm")}
    save_file(without, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"does not fit RAD-DINO: 2 tensors are missing, e\.g\. layernorm\.bias"):
        rad_dino(tmp_path, CPU)
    tensors["layernorm.weight"] = torch.zeros(7)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="cannot be read as RAD-DINO"):
        rad_dino(tmp_path, CPU)


def test_damaged_files_of_rad_dino_are_refused(tmp_path: Path) -> None:
    make_rad_dino(tmp_path)
    for name in ("preprocessor_config.json", "model.safetensors"):
        (tmp_path / name).write_text("not what it should be")
        with pytest.raises(CheckpointError, match="cannot be read as RAD-DINO"):
            rad_dino(tmp_path, CPU)
        (tmp_path / "preprocessor_config.json").unlink(missing_ok=True)


def test_folder_without_weights_is_refused_before_any_package_is_needed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        rad_dino(tmp_path / "absent", CPU)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        rad_dino(tmp_path, CPU)


def test_missing_transformers_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    (tmp_path / "config.json").write_text("{}")
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"need transformers, .*'\.\[fid\]'"):
        rad_dino(tmp_path, CPU)

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from emixer.config.model import ChestEncoderConfig
from emixer.errors import CheckpointError
from emixer.models.chest_encoder import ChestEncoder
from emixer.models.encoder_facts import EncoderFacts
from emixer.models.encoder_weights import save_encoder_weights

TINY = {"growth": 4, "blocks": (2, 2, 2, 2), "stem_channels": 8, "input_px": 32}


def config(weights: Path, **settings: object) -> ChestEncoderConfig:
    return ChestEncoderConfig.model_validate(TINY | {"weights": weights} | settings)


def whole_network(num_labels: int = 18) -> ChestEncoder:
    torch.manual_seed(3)
    return ChestEncoder(ChestEncoderConfig.model_validate(TINY | {"frozen": False}), num_labels)


def xrayvision_state() -> dict[str, Tensor]:
    """Return what `xrv.models.DenseNet(...).state_dict()` holds: 18 outputs and their thresholds."""
    return {**whole_network().state_dict(), "op_threshs": torch.rand(18)}


def assert_same_features(encoder: ChestEncoder, wanted: dict[str, Tensor]) -> None:
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


def test_our_safetensors_load_up_to_transition_3(tmp_path: Path) -> None:
    state = whole_network(num_labels=14).state_dict()
    safetensors.torch.save_file(state, tmp_path / "encoder.safetensors")
    assert_same_features(ChestEncoder(config(tmp_path / "encoder.safetensors")), state)


def test_torchxrayvision_state_dict_loads_if_the_config_names_its_source(tmp_path: Path) -> None:
    state = xrayvision_state()
    torch.save(state, tmp_path / "nih.pt")
    assert_same_features(ChestEncoder(config(tmp_path / "nih.pt", weights_from="torchxrayvision")), state)


def test_torchxrayvision_weights_are_refused_under_our_input_range(tmp_path: Path) -> None:
    torch.save(xrayvision_state(), tmp_path / "nih.pt")
    with pytest.raises(CheckpointError, match="weights_from=torchxrayvision"):
        ChestEncoder(config(tmp_path / "nih.pt"))


def test_our_own_file_is_refused_under_torchxrayvisions_input_range(tmp_path: Path) -> None:
    """Its images would be 1024 times too bright; with 18 labels it was taken for torchxrayvision's."""
    network = ChestEncoderConfig.model_validate(TINY | {"frozen": False})
    names = tuple(f"label {index}" for index in range(18))
    facts = EncoderFacts.of(
        network, label_names=names, collection="0", sources=("nih-cxr14",), images=1, test_auc={}
    )  # fmt: skip
    save_encoder_weights(tmp_path / "encoder.safetensors", whole_network(), facts)
    ChestEncoder(config(tmp_path / "encoder.safetensors"))
    with pytest.raises(CheckpointError, match="weights_from=emixer"):
        ChestEncoder(config(tmp_path / "encoder.safetensors", weights_from="torchxrayvision"))


def test_pickled_module_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match=r"state_dict\(\)"):
        ChestEncoder(config(tmp_path / "module.pt"))


def test_weights_of_another_size_are_reported_with_the_expected_shape(tmp_path: Path) -> None:
    safetensors.torch.save_file(whole_network().state_dict(), tmp_path / "encoder.safetensors")
    with pytest.raises(CheckpointError, match=r"expected \[16, 1, 7, 7\].*Check this encoder's growth"):
        ChestEncoder(config(tmp_path / "encoder.safetensors", stem_channels=16, weights_from="torchxrayvision"))


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pt"])
def test_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 nothing more")
    with pytest.raises(CheckpointError, match=name):
        ChestEncoder(config(tmp_path / name))


def test_missing_file_is_refused_unless_a_checkpoint_supplies_the_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pt"):
        ChestEncoder(config(tmp_path / "nowhere.pt"))
    ChestEncoder(config(tmp_path / "nowhere.pt"), load_weights=False)

"""Tests of emixer.evaluation.features."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from emixer.config.model import ChestEncoderConfig
from emixer.errors import CheckpointError
from emixer.evaluation.features import FeatureExtractor, Network
from emixer.evaluation.fid import FeatureStatistics, frechet_distance
from emixer.evaluation.label_faithfulness import EncoderJudge
from emixer.models.chest_encoder import ChestEncoder
from emixer.models.encoder_facts import EncoderFacts
from emixer.models.encoder_weights import save_encoder_weights

CPU = torch.device("cpu")


def images(num: int, seed: int) -> torch.Tensor:
    """Return smooth gray images, uint8 (num, 1, 32, 32)."""
    coarse = torch.rand(num, 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(coarse, 32, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def test_random_network_is_reproducible_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first = FeatureExtractor.random(CPU)
    assert torch.equal(torch.rand(1), expected)
    x = images(3, seed=0)
    assert torch.equal(first(x), FeatureExtractor.random(CPU)(x))
    assert first.name == "random_densenet"
    assert first(x).shape == (3, first.num_features)


def test_bytes_and_floats_of_the_same_image_give_the_same_features() -> None:
    extractor, x = FeatureExtractor.random(CPU), images(4, seed=1)
    torch.testing.assert_close(extractor(x), extractor(x.float() / 127.5 - 1))
    torch.testing.assert_close(extractor(x), extractor(x.expand(-1, 3, -1, -1)))


def test_features_do_not_depend_on_batching() -> None:
    extractor, x = FeatureExtractor.random(CPU), images(9, seed=2)
    torch.testing.assert_close(extractor.over(x.split(2)), extractor(x))
    assert extractor.over([]).shape == (0, extractor.num_features)


def test_random_features_separate_noisy_images_from_clean_ones() -> None:
    extractor, x = FeatureExtractor.random(CPU), images(400, seed=3)
    noisy = (x[200:].float() + 25 * torch.randn(200, 1, 32, 32, generator=torch.Generator().manual_seed(0))).clamp(
        0, 255
    )
    clean_1, clean_2, spoilt = (
        FeatureStatistics.of(extractor(part)) for part in (x[:200], x[200:], noisy.to(torch.uint8))
    )
    assert frechet_distance(clean_1, spoilt) > 5 * frechet_distance(clean_1, clean_2)


def test_pretrained_weights_name_the_metric_and_are_used(tmp_path: Path) -> None:
    config = ChestEncoderConfig(growth=4, blocks=(1, 1, 1, 1), stem_channels=4, input_px=32, frozen=False)
    encoder = ChestEncoder(config, num_labels=14).eval()
    path = tmp_path / "DenseNet121-NIH.safetensors"
    save_file(encoder.state_dict(), path)
    extractor = FeatureExtractor.pretrained(config.model_copy(update={"weights": path}), CPU)
    x = images(2, seed=4)
    assert extractor.name == "densenet121_nih"
    torch.testing.assert_close(extractor(x), encoder.final_features(x.float() / 127.5 - 1).detach())


def test_network_is_known_by_its_weights_size_and_preprocessing(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    found = [
        (network.name, network.resized, network.identity)
        for network in (
            Network(None),
            Network(ChestEncoderConfig(weights=path, input_px=96)),
            Network(ChestEncoderConfig(weights=path, input_px=224, weights_from="torchxrayvision")),
        )
    ]
    # features that are kept in files are found by the last of these
    assert found == [
        ("random_densenet", "bilinear to 64 px", "random_densenet/1"),
        ("chest_encoder", "bilinear to 96 px", f"{sha256}/96/emixer"),
        ("torchxrayvision", "bilinear to 224 px", f"{sha256}/224/torchxrayvision"),
    ]


def test_encoder_as_judge_scores_labels_by_name_and_none_that_it_does_not_know(tmp_path: Path) -> None:
    config = ChestEncoderConfig(growth=4, blocks=(1, 1, 1, 1), stem_channels=4, input_px=32, frozen=False)
    names = ("Edema", "Fracture")
    facts = EncoderFacts.of(config, label_names=names, collection="c", sources=("made",), images=9, test_auc={})
    path = tmp_path / "encoder.safetensors"
    save_encoder_weights(path, ChestEncoder(config, num_labels=2), facts)
    extractor = FeatureExtractor.pretrained(config.model_copy(update={"weights": path}), CPU)
    features = extractor(images(3, seed=5))
    scores = EncoderJudge(extractor, ("Fracture", "Mass", "Edema")).score(features)
    torch.testing.assert_close(scores[:, [2, 0]], extractor.label_logits(features))
    assert scores[:, 1].isnan().all()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"fc.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(CheckpointError, match=r"other\.safetensors does not fit"):
        FeatureExtractor.pretrained(ChestEncoderConfig(weights=path), CPU)

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import densenet121

from emixer.config.model import ChestEncoderConfig
from emixer.models.chest_encoder import ChestEncoder

TINY = ChestEncoderConfig(growth=4, blocks=(2, 2, 2, 2), stem_channels=8, input_px=32, frozen=False)


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    """torchvision's DenseNet-121 with one input channel and statistics unlike those of a fresh network."""
    torch.manual_seed(0)
    network = densenet121(num_classes=14)
    network.features.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def test_default_encoder_is_the_densenet_121_of_torchvision(reference: nn.Module) -> None:
    encoder = ChestEncoder(ChestEncoderConfig(input_px=64, frozen=False), num_labels=14).eval()
    encoder.load_state_dict(reference.state_dict())
    image = torch.rand(2, 1, 64, 64) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(encoder.logits(encoder.final_features(image)), reference(image))
        h = image
        for name, stage in reference.features.named_children():
            h = stage(h)
            if name == "transition3":
                break
        features = encoder(image)
    assert features.shape == (2, 512)
    torch.testing.assert_close(features, h.mean(dim=(2, 3)))


def test_encoder_without_labels_ends_at_transition_3() -> None:
    names = set(ChestEncoder(TINY).state_dict())
    assert not any(name.startswith(("features.denseblock4", "features.norm5", "classifier")) for name in names)
    assert names < set(ChestEncoder(TINY, num_labels=3).state_dict())


def test_frozen_encoder_is_constant_but_passes_gradients_to_the_image() -> None:
    encoder = ChestEncoder(TINY)
    encoder.frozen = True  # the config refuses a fresh frozen encoder
    encoder.requires_grad_(False)
    encoder.train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    image = torch.rand(4, 1, 32, 32, requires_grad=True)
    encoder(image).sum().backward()
    assert image.grad is not None
    assert image.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def prepared_by_hand(image: Tensor) -> Tensor:
    return functional.interpolate(image.mean(dim=1, keepdim=True), (32, 32), mode="bilinear", antialias=True)


def test_images_are_made_gray_and_resized_to_the_input_size() -> None:
    torch.manual_seed(0)
    encoder = ChestEncoder(TINY).eval()
    image = torch.rand(2, 3, 48, 48)
    torch.testing.assert_close(encoder(image), encoder(prepared_by_hand(image)))
    three_equal = image[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(encoder(three_equal), encoder(image[:, :1]))


def test_torchxrayvision_weights_read_images_in_minus_1024_to_1024() -> None:
    torch.manual_seed(0)
    plain = ChestEncoder(TINY).eval()
    scaled = ChestEncoder(TINY.model_copy(update={"weights_from": "torchxrayvision"})).eval()
    scaled.load_state_dict(plain.state_dict())
    image = torch.rand(2, 1, 32, 32) * 2 - 1
    torch.testing.assert_close(scaled(image), plain(image * 1024))


def test_features_are_float32_under_bfloat16_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ChestEncoder(TINY)(torch.rand(2, 1, 64, 64)).dtype == torch.float32

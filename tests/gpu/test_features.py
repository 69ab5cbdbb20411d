"""Features on the device that computes them."""

import torch

from emixer.evaluation.features import FeatureExtractor


def test_features_are_those_of_a_cpu_whatever_their_caller_has_set(device: torch.device) -> None:
    images = torch.randint(0, 256, (8, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = FeatureExtractor.random(torch.device("cpu"))(images)
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    with torch.autocast(device.type, dtype=torch.bfloat16):
        features = FeatureExtractor.random(device)(images).cpu()
    # ten bits of TF32, or eight of bfloat16, would differ by a hundred times as much
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)

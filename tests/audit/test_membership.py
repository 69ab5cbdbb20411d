"""An attacker's area under the curve, and the discriminator as a witness."""

from pathlib import Path

import numpy as np
import pytest
import torch

from emixer.audit.critic import image_critic, real_logits
from emixer.audit.membership import membership_auc
from emixer.checkpoint import NETWORKS, SAMPLER, save_checkpoint
from emixer.config import Config
from emixer.model_kinds import build_model
from emixer.models.paired_model import ModelSpec


def test_the_area_is_the_share_of_pairs_that_are_told_apart() -> None:
    auc, (low, high) = membership_auc(
        np.array([3.0, 2.0, 1.0]), np.array([2.0, 0.0]), ["a", "b", "c", "d", "e"], num_resamples=50
    )
    assert auc == pytest.approx((2 + 1.5 + 1) / 6)
    assert low <= auc <= high


def test_guessing_is_a_half_and_its_interval_holds_it() -> None:
    generator = np.random.default_rng(0)
    auc, (low, high) = membership_auc(
        generator.random(300), generator.random(300), [str(n) for n in range(600)], num_resamples=100
    )
    assert auc == pytest.approx(0.5, abs=0.05)
    assert low < 0.5 < high


def test_the_critic_of_images_is_the_one_that_was_trained(
    tmp_path: Path, tiny_spec: ModelSpec, kind_config: Config
) -> None:
    config = kind_config.model
    torch.manual_seed(3)
    model = build_model(config, tiny_spec).eval()
    saved = save_checkpoint(tmp_path, 10, {SAMPLER: {}, NETWORKS: model.state_dict()}, {})
    critic = image_critic(saved.path, config, tiny_spec)
    assert (critic is None) == (config.kind == "jointgan"), "its one critic looks at pairs"
    if critic is None:
        return
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)
    found = real_logits(critic, [images[:3], images[3:]], config.channels, len(tiny_spec.label_names))
    own = model.critics if config.kind == "cogan" else model.image_discriminator
    image_BCHW = torch.from_numpy(images)[:, None].expand(-1, config.channels, -1, -1) / 127.5 - 1
    expected = own.real_logit(own.features(image_BCHW), torch.ones(5, 3), torch.zeros(5, dtype=torch.bool))
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_checkpoint_that_only_samples_has_no_witness(
    tmp_path: Path, tiny_spec: ModelSpec, tiny_config: Config
) -> None:
    saved = save_checkpoint(tmp_path, 10, {SAMPLER: {}}, {})
    assert image_critic(saved.path, tiny_config.model, tiny_spec) is None

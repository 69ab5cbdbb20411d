"""Tests of emixer.evaluation.manifold."""

import numpy as np
import pytest
import torch

from emixer.evaluation.manifold import ManifoldScores, manifold_scores


def two_sets() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the input of the golden values; RandomState's streams never change."""
    random = np.random.RandomState(20180000)
    mix = random.standard_normal((16, 16))
    real = random.standard_normal((300, 16)) @ mix
    generated = (0.9 * random.standard_normal((240, 16)) + 0.3) @ mix
    return torch.from_numpy(real.astype(np.float32)), torch.from_numpy(generated.astype(np.float32))


# From prdc 0.2, compute_prdc(real, generated, nearest_k) on two_sets(); precision and recall also from torch-fidelity
# 0.4.0, prc_features_to_metric(generated, real, prc_neighborhood), equal to the digits of its float32
GOLDEN = {
    1: (0.6958333333333333, 0.39666666666666667, 1.3916666666666666, 0.45666666666666667),
    3: (0.9166666666666666, 0.6733333333333333, 1.4097222222222223, 0.8366666666666667),
    5: (0.9625, 0.8033333333333333, 1.355, 0.95),
}


def figures(scores: ManifoldScores) -> tuple[float, float, float, float]:
    return scores.precision, scores.recall, scores.density, scores.coverage


def naive_figures(real: np.ndarray, generated: np.ndarray, k: int) -> tuple[float, float, float, float]:
    """Compute the scores from their definitions, image by image."""

    def radii(images: np.ndarray) -> list[float]:
        return [
            sorted(float(np.linalg.norm(x - y)) for j, y in enumerate(images) if j != i)[k - 1]
            for i, x in enumerate(images)
        ]

    real_radii, generated_radii = radii(real), radii(generated)
    distance = [[float(np.linalg.norm(x - y)) for y in generated] for x in real]
    rows, columns = range(len(real)), range(len(generated))
    return (
        float(np.mean([any(distance[i][j] <= real_radii[i] for i in rows) for j in columns])),
        float(np.mean([any(distance[i][j] <= generated_radii[j] for j in columns) for i in rows])),
        float(np.mean([sum(distance[i][j] < real_radii[i] for i in rows) / k for j in columns])),
        float(np.mean([any(distance[i][j] < real_radii[i] for j in columns) for i in rows])),
    )


def on_a_line(*places: float) -> torch.Tensor:
    return torch.tensor(places)[:, None]


@pytest.mark.parametrize("k", GOLDEN)
def test_scores_match_the_definitions_and_the_libraries(k: int) -> None:
    real, generated = two_sets()
    assert figures(manifold_scores(real, generated, k)) == pytest.approx(GOLDEN[k], rel=1e-12)
    few = real[:40], generated[:30]
    expected = naive_figures(*(x.double().numpy() for x in few), k)
    assert figures(manifold_scores(*few, k)) == pytest.approx(expected, rel=1e-12)


def test_scores_by_hand() -> None:
    # radii of the balls of real images are 1, 1, 2 and 20; of generated images 0.3, 0.3, 3.2, 6 and 20
    scores = manifold_scores(on_a_line(0, 1, 3, -20), on_a_line(0.5, 0.8, 4, 10, 30), num_neighbours=1)
    assert scores.precision == 3 / 5  # not 10 and 30
    assert scores.recall == 2 / 4  # 1 is near 0.8, and 3 near 4
    assert scores.density == 5 / 5  # 0.5 and 0.8 are in two balls each, 4 in one
    assert scores.coverage == 3 / 4  # -20 is 20.5 from 0.5


def test_image_on_the_surface_is_inside_for_precision_and_outside_for_density() -> None:
    # 2 is as far from 1 as 0 is; the radii of generated images are 7
    scores = manifold_scores(on_a_line(0, 1), on_a_line(2, 9), num_neighbours=1)
    assert figures(scores) == (1 / 2, 1.0, 0.0, 0.0)
    # the radii of generated images are 1
    assert manifold_scores(on_a_line(-1, 3), on_a_line(0, 1, 2), num_neighbours=1).recall == 1.0


@pytest.mark.parametrize("k", [1, 5])
def test_set_compared_with_itself_has_all_scores_one(k: int) -> None:
    real, _ = two_sets()
    for images in (real, real + 300, real.double() * 1e3):  # rounding differs far from the origin
        assert figures(manifold_scores(images, images[torch.randperm(300)], k, chunk_images=70)) == (1.0, 1.0, 1.0, 1.0)


def test_disjoint_sets_have_all_scores_zero() -> None:
    real, generated = two_sets()
    assert figures(manifold_scores(real, generated + 1000)) == (0.0, 0.0, 0.0, 0.0)


def test_density_of_two_samples_of_one_distribution_is_one_on_average() -> None:
    x = torch.randn(4000, 4, generator=torch.Generator().manual_seed(0))
    scores = manifold_scores(x[:2000], x[2000:])
    assert scores.density == pytest.approx(1, abs=0.05)
    # Naeem et al. 2020: for N = M the expected coverage is 1 - 2^-k
    assert scores.coverage == pytest.approx(1 - 2**-5, abs=0.02)


def test_repeated_images_have_balls_of_radius_zero() -> None:
    real, generated = two_sets()
    collapsed = generated[:1].repeat(100, 1)
    scores = manifold_scores(real, collapsed)
    assert scores.recall == 0.0
    assert scores.coverage < 0.1
    assert scores.precision in (0.0, 1.0)
    same = manifold_scores(collapsed, collapsed)
    assert (same.precision, same.recall) == (1.0, 1.0)


def test_neither_order_nor_chunks_change_the_scores() -> None:
    real, generated = two_sets()
    real = torch.cat([real, generated[:50]])  # copies, so that there are ties to keep
    expected = manifold_scores(real, generated)
    generator = torch.Generator().manual_seed(4)
    shuffled = (x[torch.randperm(len(x), generator=generator)] for x in (real, generated))
    assert manifold_scores(*shuffled) == expected
    for chunk in (1, 7, 240, 10_000):
        assert manifold_scores(real, generated, chunk_images=chunk) == expected


def test_swapping_the_sets_swaps_precision_and_recall() -> None:
    real, generated = two_sets()
    there, back = manifold_scores(real, generated, 3), manifold_scores(generated, real, 3)
    assert (there.precision, there.recall) == (back.recall, back.precision)


@pytest.mark.parametrize(("num_real", "num_generated", "side"), [(5, 9, "5 real images"), (9, 5, "5 generated images")])
def test_too_few_images_for_the_neighbours_are_refused(num_real: int, num_generated: int, side: str) -> None:
    with pytest.raises(ValueError, match=rf"{side} have no 5-th .* at least 6"):
        manifold_scores(torch.rand(num_real, 3), torch.rand(num_generated, 3))
    manifold_scores(torch.rand(6, 3), torch.rand(6, 3))


def test_incomparable_features_are_refused() -> None:
    real, generated = two_sets()
    with pytest.raises(ValueError, match="16 and 15 features"):
        manifold_scores(real, generated[:, :15])
    with pytest.raises(ValueError, match="num_neighbours=0"):
        manifold_scores(real, generated, 0)
    generated[3, 3] = torch.nan
    with pytest.raises(ValueError, match="generated images are not finite"):
        manifold_scores(real, generated)

import torch

from emixer.models.noise import RepeatedNoise, RowNoise

CPU = torch.device("cpu")


def test_rows_get_the_same_numbers_in_any_split() -> None:
    whole = RowNoise(1, 2, 0, 50, CPU)
    for name in ("normal", "uniform", "gumbel"):
        drawn = getattr(whole, name)("z", 3)
        assert drawn.shape == (50, 3)
        pieces = [getattr(whole.rows(first, num), name)("z", 3) for first, num in ((0, 7), (7, 26), (33, 17))]
        assert torch.equal(drawn, torch.cat(pieces))


def test_seed_step_and_name_each_change_the_numbers() -> None:
    base = RowNoise(1, 2, 0, 16, CPU).normal("z", 4)
    others = [RowNoise(5, 2, 0, 16, CPU).normal("z", 4), RowNoise(1, 3, 0, 16, CPU).normal("z", 4)]
    others.append(RowNoise(1, 2, 0, 16, CPU).normal("words", 4))
    assert not any(torch.equal(base, other) for other in others)


def test_distributions_have_their_moments() -> None:
    noise = RowNoise(0, 0, 0, 64, CPU)
    normal, uniform, gumbel = (getattr(noise, name)("x", 2000) for name in ("normal", "uniform", "gumbel"))
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
    assert abs(uniform.mean() - 0.5) < 0.01
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(gumbel.mean() - 0.5772) < 0.02
    assert gumbel.isfinite().all()


def test_repeated_noise_repeats_the_noise_of_one_row() -> None:
    device = torch.device("cpu")
    of_all = RowNoise(seed=1, step=2, first_row=0, num_rows=40, device=device)
    repeated = RepeatedNoise(seed=1, step=2, first_row=37, num_rows=5, device=device)
    for draw in ("normal", "uniform", "gumbel"):
        expected = getattr(of_all, draw)("z", 3, 2)[37]
        assert torch.equal(getattr(repeated, draw)("z", 3, 2), expected.expand(5, 3, 2))
    assert torch.equal(repeated.named("a").normal("z", 3)[4], of_all.named("a").normal("z", 3)[37])
    assert torch.equal(repeated.rows(2, 3).normal("z", 3), of_all.normal("z", 3)[37].expand(3, 3))

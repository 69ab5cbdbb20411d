"""Figures of a small study, worked out by hand, and what their intervals depend on."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from emixer.errors import RunFolderError
from emixer.reader_study.folder import KeyEntry, StudyFacts
from emixer.reader_study.rating import Rating
from emixer.reader_study.ratings import Ratings, read_ratings
from emixer.reader_study.report import Report
from emixer.reader_study.statistics import summarize
from emixer.reader_study.store import Showing

KEY = {
    "r0": KeyEntry("real", "Edema", ("Edema",), 0, 0), "r1": KeyEntry("real", "Mass", ("Mass",), 1, 1),
    "s0": KeyEntry("synthetic", "Edema", ("Edema",), 0, 0), "s1": KeyEntry("synthetic", "Mass", ("Mass",), 1, 1),
}  # fmt: skip


def said(image: int, report: int = 6, agreement: int = 6, guess: str = "real") -> Rating:
    return Rating.model_validate({"image": image, "report": report, "agreement": agreement, "guess": guess})


def showings(reader: str, *pairs: tuple[str, Rating | None]) -> list[Showing]:
    return [Showing(reader, position, item, rating) for position, (item, rating) in enumerate(pairs)]


def two_readers() -> Ratings:
    one = showings("one", ("r0", said(9)), ("s0", said(6, 3, 6, "synthetic")), ("r1", said(8, guess="synthetic")),
                   ("r0", said(7)), ("s1", said(5)), ("s0", said(6, 3, 6, "synthetic")))  # fmt: skip
    two = showings("two", ("s1", said(4, guess="synthetic")), ("r0", said(10)), ("s0", None), ("r1", said(6)),
                   ("s0", None), ("r0", said(9)))  # fmt: skip
    return read_ratings([*one, *two], KEY)


def test_means_and_deviations_are_over_first_showings() -> None:
    found = summarize(two_readers(), resamples=50)
    real, synthetic = [9, 8, 10, 6], [6, 5, 4]  # the second showings, 7 and 9, do not count
    assert found["image/real"].value == pytest.approx(8.25)
    assert found["image/real"].sd == pytest.approx(np.std(real, ddof=1))
    assert found["image/synthetic"].value == pytest.approx(5.0)
    assert found["image/synthetic"].sd == pytest.approx(np.std(synthetic, ddof=1))
    assert found["image/difference"].value == pytest.approx(3.25)
    assert found["pair/synthetic"].value == pytest.approx((15 + 17 + 16) / 9)  # means of the three scores
    assert (found["image/real"].count, found["image/synthetic"].count) == (4, 3)


def test_share_of_right_guesses() -> None:
    found = summarize(two_readers(), resamples=50)
    # real pairs: one wrong guess by "one"; synthetic pairs: s1 by "one" wrong
    assert found["right/real"].value == pytest.approx(3 / 4)
    assert found["right/synthetic"].value == pytest.approx(2 / 3)
    assert found["right/all"].value == pytest.approx(5 / 7)
    assert found["label/Edema/right/all"].value == pytest.approx(1.0)
    assert found["label/Mass/right/all"].value == pytest.approx(2 / 4)
    assert found["label/Mass/real"].value == pytest.approx((20 + 18) / 6)


def test_kappa_between_uses_shared_pairs_and_kappa_within_repeated_pairs() -> None:
    found = summarize(two_readers(), resamples=50)
    assert found["image/kappa between"].value == pytest.approx(
        cohen_kappa_score([9, 8, 5], [10, 6, 4], weights="quadratic", labels=range(1, 11))
    )
    # "one": r0 9 then 7, s0 6 then 6; "two": r0 only, from which alone kappa is undefined
    expected = cohen_kappa_score([9, 6], [7, 6], weights="quadratic", labels=range(1, 11))
    assert found["image/kappa within"].value == pytest.approx(expected)
    assert "report/kappa between" not in found  # all sixes: not defined


def many(readers: int, items: int, spread: float, shift: float = 0) -> Ratings:
    """Return scores of readers who differ by `spread`, and of items that differ a little."""
    generator = np.random.default_rng(1)
    key, shown = {}, []
    for n in range(items):
        key[f"r{n}"] = KeyEntry("real", "Edema", (), n, n)
        key[f"s{n}"] = KeyEntry("synthetic", "Edema", (), n, n)
    leaning = np.linspace(-spread, spread, readers)
    for reader in range(readers):
        rated: list[tuple[str, Rating | None]] = []
        for item, entry in key.items():
            score = 5.5 + leaning[reader] + (shift if entry.kind == "real" else 0) + generator.normal(0, 0.5)
            rated.append((item, said(int(np.clip(round(score), 1, 10)))))
        shown += showings(f"reader-{reader}", *rated)
    return read_ratings(shown, key)


def width(ratings: Ratings, name: str) -> float:
    figure = summarize(ratings, resamples=400)[name]
    return figure.high - figure.low


def test_intervals_reflect_differences_between_three_or_more_readers() -> None:
    assert width(many(4, 30, spread=3.0), "image/real") > 4 * width(many(4, 30, spread=0.0), "image/real")
    # each reader scores both kinds, so differences between readers do not blur the difference between kinds
    assert width(many(4, 30, spread=3.0), "image/difference") < 0.3 * width(many(4, 30, spread=3.0), "image/real")
    # with two readers they cannot be estimated
    assert width(many(2, 30, spread=3.0), "image/real") < 0.5


def test_intervals_of_three_readers_hold_the_figure_of_all_readers() -> None:
    # as often as they say; of percentiles of three resampled readers, four times in five
    generator = np.random.default_rng(0)
    key = {f"{kind[0]}{n}": KeyEntry(kind, "Edema", (), n, n) for n in range(10) for kind in ("real", "synthetic")}
    held = {"image/real": 0, "image/difference": 0}
    for _ in range(60):
        shown, pair = [], dict(zip(key, generator.normal(0, 0.5, len(key)), strict=True))
        for reader in range(3):
            leaning = {"real": generator.normal(5.5, 1), "synthetic": generator.normal(5.5, 1)}
            scores = {item: leaning[key[item].kind] + pair[item] + generator.normal(0, 0.5) for item in key}
            rated = [(item, said(int(np.clip(round(score), 1, 10)))) for item, score in scores.items()]
            shown += showings(f"reader-{reader}", *rated)
        found = summarize(read_ratings(shown, key), resamples=40)
        for name, figure in (("image/real", 5.5), ("image/difference", 0)):
            held[name] += found[name].low <= figure <= found[name].high
    assert min(held.values()) >= 54


def test_intervals_for_other_readers_by_hand() -> None:
    # pairs that are all alike, so that only readers differ: 6 ± t(0.975, 2) sd / sqrt(3)
    key = {f"{kind[0]}{n}": KeyEntry(kind, "Edema", (), n, n) for n in range(5) for kind in ("real", "synthetic")}
    shown = []
    for reader, score in {"one": 5, "two": 6, "three": 7}.items():
        shown += showings(reader, *((item, said(score)) for item in key))
    found = summarize(read_ratings(shown, key), resamples=30)
    assert (found["image/real"].low, found["image/real"].high) == pytest.approx((3.515864, 8.484138), abs=1e-5)
    assert (found["image/difference"].low, found["image/difference"].high) == (0, 0)
    assert (found["right/real"].low, found["right/real"].high) == (1, 1)


def test_reader_who_has_hardly_begun_decides_no_interval() -> None:
    ratings = many(2, 30, spread=0.0)
    shown = [Showing(pair.reader, position, pair.item, pair.rating) for position, pair in enumerate(ratings.pairs)]
    key = {pair.item: pair.entry for pair in ratings.pairs}
    third = [*shown, *showings("third", ("r0", said(1, 1, 1)), ("s0", said(1, 1, 1)))]
    assert width(read_ratings(third, key), "image/real") < 2 * width(ratings, "image/real")


def test_share_of_real_pairs_does_not_vary_between_resamples() -> None:
    key, shown = {}, []
    for n in range(12):
        key[f"r{n}"], key[f"s{n}"] = KeyEntry("real", "Edema", (), n, n), KeyEntry("synthetic", "Edema", (), n, n)
    for reader in ("one", "two"):  # everything is taken for real
        shown += showings(reader, *((item, said(5)) for item in key))
    figure = summarize(read_ratings(shown, key), resamples=200)["right/all"]
    assert (figure.low, figure.value, figure.high) == pytest.approx((0.5, 0.5, 0.5))


def test_report_says_what_blind_guessing_gets_right_only_where_it_does() -> None:
    half = "Half of the pairs are real"
    facts = StudyFacts("id", "Study", 32, 2, 1, 2, {"Edema": 1, "Mass": 1}, 0, "shards", "pairs", "test", ("A",), "1")
    for ratings, is_half in ((two_readers(), False), (many(2, 6, 0.0), True)):
        report = Report(facts, ratings, summarize(ratings, resamples=20))
        assert [half in text for text in (report.markdown(), report.latex())] == [is_half, is_half]


def test_interval_of_the_difference_separates_a_gap_from_none() -> None:
    none, gap = (summarize(many(2, 40, 0.0, shift), resamples=400)["image/difference"] for shift in (0, 1))
    assert none.low < 0 < none.high
    assert gap.low > 0.5


def test_interval_is_near_that_of_the_central_limit_theorem() -> None:
    ratings = many(1, 200, 0.0)
    figure = summarize(ratings, resamples=1500)["image/real"]
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * figure.sd / math.sqrt(200), rel=0.1)


def test_few_pairs_give_no_interval() -> None:
    found = summarize(two_readers(), resamples=50)
    assert math.isnan(found["image/real"].low)


def test_key_that_does_not_know_an_item_is_refused() -> None:
    with pytest.raises(RunFolderError, match="does not know 1 of the study's pairs"):
        read_ratings(showings("one", ("unknown", None)), KEY)


def test_there_are_no_figures_before_anything_is_scored() -> None:
    nothing: Sequence[tuple[str, Rating | None]] = [("r0", None)]
    assert summarize(read_ratings(showings("one", *nothing), KEY), resamples=50) == {}

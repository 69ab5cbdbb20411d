"""Readers' ratings joined with the key, as arrays.

Shapes: N ratings of pairs at their first showing, M pairs of ratings of one item by one reader.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emixer.errors import RunFolderError
from emixer.reader_study.folder import KeyEntry
from emixer.reader_study.rating import SCALES, Rating
from emixer.reader_study.store import Showing

WHOLE, GUESS = "pair", "guess"
MEASURES = (WHOLE, *SCALES)
"""Scores: the pair's, which is the mean of the three, and each of them."""


@dataclass(frozen=True)
class RatedPair:
    """One reader's rating of one item. again: rating at the second showing, if scored."""

    reader: str
    item: str
    entry: KeyEntry
    rating: Rating
    again: Rating | None


@dataclass(frozen=True)
class Ratings:
    """All ratings of a study."""

    pairs: tuple[RatedPair, ...]
    progress: dict[str, tuple[int, int]]
    """For each reader: scored showings, and all showings."""

    @property
    def readers(self) -> list[str]:
        """Readers who have scored anything."""
        return list(dict.fromkeys(pair.reader for pair in self.pairs))

    def values(self, measure: str) -> NDArray[np.float64]:
        """Scores (N,); for guesses, 1 for real."""
        return np.array([value_of(pair.rating, measure) for pair in self.pairs])

    def clusters(self) -> list[str]:
        """Cluster of each pair (N) for resampling: real pairs of one person belong together."""
        return [f"{pair.entry.kind}-{pair.entry.subject}" for pair in self.pairs]


def value_of(rating: Rating, measure: str) -> float:
    """Score of a rating: for the whole pair the mean of the three; for a guess 1 for real, 0 for synthetic."""
    if measure == GUESS:
        return float(rating.guess == "real")
    of_scale = {scale: float(getattr(rating, scale)) for scale in SCALES}
    return sum(of_scale.values()) / len(SCALES) if measure == WHOLE else of_scale[measure]


def read_ratings(showings: Sequence[Showing], key: Mapping[str, KeyEntry]) -> Ratings:
    """Join showings with the key. The first showing of a pair counts; the second measures intra-reader agreement.

    Raises RunFolderError when an item is missing from the key.
    """
    unknown = {showing.item for showing in showings} - key.keys()
    if unknown:
        raise RunFolderError(
            f"The key does not know {len(unknown)} of the study's pairs: it was changed. Put a copy of it in its place."
        )
    progress: dict[str, tuple[int, int]] = {}
    shown: dict[tuple[str, str], list[Rating | None]] = {}
    for showing in showings:
        done, of = progress.get(showing.reader, (0, 0))
        progress[showing.reader] = (done + (showing.rating is not None), of + 1)
        shown.setdefault((showing.reader, showing.item), []).append(showing.rating)
    pairs = [
        RatedPair(reader, item, key[item], ratings[0], ratings[1] if len(ratings) > 1 else None)
        for (reader, item), ratings in shown.items()
        if ratings[0] is not None
    ]
    return Ratings(tuple(pairs), progress)

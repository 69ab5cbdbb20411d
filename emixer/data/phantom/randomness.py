"""Where every random number of the phantom comes from.

One independent Philox stream for each (seed, stream, index...): nothing depends on the order in which studies are made,
on how many there are, or on what another part of the same study draws.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream of random numbers is for. The values are part of the seed: never renumber them."""

    COHORT = 1
    SUBJECT = 2
    FINDINGS = 3
    REPORT = 4
    IMAGE = 5
    VESSELS = 6
    TEXTURE = 7
    OPACITIES = 8
    DEVICES = 9
    NOISE = 10
    IDENTITY = 11
    # 12 was a stream of earlier versions: leave it unused
    SKELETON = 13


def generator(seed: int, stream: Stream, *index: int) -> np.random.Generator:
    """The generator of one stream at one index, e.g. `generator(seed, Stream.IMAGE, study, image)`."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, int(stream), *index))))

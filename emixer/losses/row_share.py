"""A share of a batch for terms that are too expensive for all of it."""

import math
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def rows_of_share(first_row: int, num_rows: int, share: float, device: torch.device) -> Tensor:
    """Return the indices of `share` of a micro-batch that begins at the step's row `first_row`.

    They are spread evenly. A row is chosen by its position in the whole step, whatever the micro-batches and workers.
    """
    places = range(first_row, first_row + num_rows)
    rows = [place - first_row for place in places if math.floor(place * share) != math.floor((place - 1) * share)]
    return torch.tensor(rows, dtype=torch.int64, device=device)

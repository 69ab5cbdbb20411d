"""Rate limit of a served model."""

import math
import time
from collections import deque
from collections.abc import Callable

from emixer.web.requests import RefusedError

_MINUTE_S = 60


class RateLimit:
    """Limit of requests in any minute. Refused requests do not count. clock: monotonic seconds."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._taken: deque[float] = deque()

    def take(self) -> float:
        """Count a request, and return its time. Raises RefusedError with the time to wait when the limit is reached."""
        now = self._clock()
        while self._taken and self._taken[0] <= now - _MINUTE_S:
            self._taken.popleft()
        if len(self._taken) >= self._most:
            wait_s = max(1, math.ceil(self._taken[0] + _MINUTE_S - now))
            raise RefusedError(
                429,
                f"This page draws at most {self._most} times a minute (serve.draws_per_minute). Please try again in "
                f"{wait_s} s.",
                wait_s,
            )
        self._taken.append(now)
        return now

    def give_back(self, taken: float) -> None:
        """Do not count a request that was refused after all. taken: what `take` returned."""
        if taken in self._taken:  # else it is more than a minute ago
            self._taken.remove(taken)

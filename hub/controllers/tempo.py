"""How long news that will soon be old may wait before it is written.

That a job waits, was admitted or runs is worth a write only if it stays so for a moment. While the hub decides a
hundred jobs a second, nobody reads such news of one of them, and writing it would cost as much as the job itself: so
these delays stretch with the rate of decisions. Ends, losses and whatever must be durable never wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

LONGEST: Final = 10.0
"""Seconds; nobody waits longer to be told the truth."""
_WINDOW: Final = 2.0
_CALM: Final = 3.0
"""Decisions a second up to which nothing is stretched."""


class Tempo:
    """`clock` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._recent: deque[tuple[float, int]] = deque()
        self._sum = 0
        self._busy_at = -1e9

    @property
    def busy(self) -> bool:
        """Whether more is decided than anybody can follow; may be asked from any thread."""
        return self._clock() - self._busy_at < _WINDOW

    def decided(self, count: int) -> None:
        """`count` jobs were admitted or ended just now."""
        if count:
            self._forget()
            self._recent.append((self._clock(), count))
            self._sum += count
            if self._sum > _CALM * _WINDOW:
                self._busy_at = self._clock()

    @property
    def rate(self) -> float:
        """Decisions a second, lately."""
        self._forget()
        return self._sum / _WINDOW

    def stretched(self, seconds: float) -> float:
        """`seconds` while it is calm, up to `LONGEST` when it is not."""
        return min(LONGEST, seconds * max(1.0, self.rate / _CALM)) if seconds else 0.0

    def _forget(self) -> None:
        horizon = self._clock() - _WINDOW
        while self._recent and self._recent[0][0] < horizon:
            self._sum -= self._recent.popleft()[1]

"""How long to wait before trying again: exponential, jittered so that a fleet does not come back all at once."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """`next()` gives seconds between half and all of first · 2ⁿ, at most `cap`; `reset()` after a success."""

    first: float = 0.1
    cap: float = 10.0
    random: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def next(self) -> float:
        ceiling = min(self.cap, self.first * float(1 << min(self.failures, 30)))
        self.failures += 1
        return ceiling * (0.5 + self.random.random() / 2)

    def reset(self) -> None:
        self.failures = 0

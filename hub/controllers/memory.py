"""How a hub's process keeps house with memory: what is there when it starts stays, and the collector looks seldom.

What a decision makes and drops is freed at once by counting references; only cycles need the collector, and we make
few.
"""

from __future__ import annotations

import gc


def calm() -> None:
    # Modules and caches stay for ever: the collector need not look at them again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 20)

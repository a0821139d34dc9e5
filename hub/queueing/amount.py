"""Amounts of quota: integers with Kueue's idea of "unlimited".

CPU is counted in thousandths, everything else in whole units, rounded up. The largest int64 means unlimited: it stays
so whatever is added or taken, and a sum that would pass it stops there instead of turning negative.
"""

from __future__ import annotations

from typing import Final

from hub.api import names
from hub.api.quantity import Quantity

UNLIMITED: Final = 2**63 - 1


def amount(resource: str, quantity: Quantity) -> int:
    """`quantity` in the unit that `resource` is counted in; at most `UNLIMITED`."""
    return min(quantity.milli() if resource == "cpu" else quantity.ceil(), UNLIMITED)


def quantity(resource: str, value: int) -> Quantity:
    """The way back: what a person or another program reads."""
    return Quantity.from_nano(value * 10**6) if resource == "cpu" else Quantity(value)


def plus(left: int, right: int) -> int:
    return UNLIMITED if left >= UNLIMITED or right >= UNLIMITED else min(left + right, UNLIMITED)


def minus(left: int, right: int) -> int:
    """Unlimited − unlimited is 0; below zero is allowed (what is overdrawn)."""
    if left >= UNLIMITED:
        return 0 if right >= UNLIMITED else UNLIMITED
    return left - right


def readable(resource: str, value: int) -> str:
    """For messages: ``unlimited``, ``1500m``, ``64Gi``, ``2.5`` GPUs in thousandths."""
    if value >= UNLIMITED:
        return "unlimited"
    return f"{value / 1000:g} GPU" if resource == names.GPU_MILLI else str(quantity(resource, value))

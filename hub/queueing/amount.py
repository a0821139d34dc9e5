"""Amounts of quota: integers with Kueue's idea of "unlimited".

CPU is counted in thousandths, everything else in whole units, rounded up. The largest int64 means unlimited: it stays
so whatever is added or taken, and a sum that would pass it stops there instead of turning negative.
"""

from __future__ import annotations

from typing import Final

from hub.api import names
from hub.api.quantity import Quantity

UNLIMITED: Final = 2**63 - 1
# Digits and unit that a person takes in at a glance.
_SHORT: Final = 6
_BINARY: Final = ((2**60, "Ei"), (2**50, "Pi"), (2**40, "Ti"), (2**30, "Gi"), (2**20, "Mi"))


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


def readable(resource: str, value: int, *, up: bool = False) -> str:
    """For messages: ``unlimited``, ``1500m``, ``64Gi``, ``127.5Gi``, ``2.5 GPU`` (counted in thousandths).

    Exact where that is short; otherwise bytes are cut to hundredths of their unit, or rounded up (`up`).
    """
    if value >= UNLIMITED:
        return "unlimited"
    if resource == names.GPU_MILLI:
        return f"{value / 1000:g} GPU"
    exact = str(quantity(resource, value))
    if resource == "cpu" or len(exact) <= _SHORT or abs(value) < 2**20:
        return exact
    size, unit = next((size, unit) for size, unit in _BINARY if abs(value) >= size)
    hundredths = value * 100
    hundredths = -(-hundredths // size) if up else hundredths // size
    return f"{hundredths / 100:.2f}".rstrip("0").rstrip(".") + unit

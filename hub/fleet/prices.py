"""What an hour costs at a site, as it states it itself: by GPU model, CPU and memory; on spot nodes; by time of day.

Only read here. What a task costs there, and at which time, is hub/scoring/price.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hub.api.errors import InvalidObjectError
from hub.fleet.amounts import entries, mapping, price, shorten

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
STEP: Final = 15
"""Minutes: prices change at a quarter of an hour."""
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):(00|15|30|45)|24:00")
_OFFSET: Final = re.compile(r"([+-])(0\d|1[0-4]):(00|15|30|45)")
_MOST_TIMES: Final = 32
_MOST_FACTOR: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Rates:
    """An hour of each, in the fleet's currency; None is not stated."""

    gpu_hour: Mapping[str, float]
    cpu_hour: float | None = None
    memory_gib_hour: float | None = None


@dataclass(frozen=True, slots=True)
class PriceTime:
    """At these times the site's prices are multiplied by `factor`.

    `begin` and `end` are minutes after midnight UTC of the days (0 is Monday) on which it begins; an `end` that is not
    after `begin` is on the next day.
    """

    begin: int
    end: int
    days: tuple[int, ...]
    factor: float


@dataclass(frozen=True, slots=True)
class Prices:
    """As `Rates`. `spot`: what spot nodes cost instead, where stated. `egress_gib`: a GiB that leaves the site."""

    gpu_hour: Mapping[str, float]
    cpu_hour: float | None = None
    memory_gib_hour: float | None = None
    spot: Rates = field(default_factory=lambda: Rates({}))
    egress_gib: float | None = None
    times: tuple[PriceTime, ...] = ()

    @property
    def regular(self) -> Rates:
        return Rates(self.gpu_hour, self.cpu_hour, self.memory_gib_hour)

    @property
    def on_spot(self) -> Rates:
        """What is not stated for spot costs as much as elsewhere."""
        cpu, memory = self.spot.cpu_hour, self.spot.memory_gib_hour
        return Rates(
            {**self.gpu_hour, **self.spot.gpu_hour},
            self.cpu_hour if cpu is None else cpu,
            self.memory_gib_hour if memory is None else memory,
        )


def read_prices(prices: Mapping[str, Any], where: str = "status.prices") -> Prices:
    """Raises `InvalidObjectError` naming the field that cannot be read."""
    regular = _rates(prices, where)
    egress = prices.get("egressGiB")
    times = entries(prices.get("times"), f"{where}.times")
    if len(times) > _MOST_TIMES:
        raise InvalidObjectError(f"{len(times)} of them; at most {_MOST_TIMES}", field=f"{where}.times")
    return Prices(
        regular.gpu_hour,
        regular.cpu_hour,
        regular.memory_gib_hour,
        _rates(mapping(prices.get("spot"), f"{where}.spot"), f"{where}.spot"),
        None if egress is None else price(egress, f"{where}.egressGiB"),
        tuple(_time(entry, f"{where}.times[{position}]") for position, entry in enumerate(times)),
    )


def _rates(rates: Mapping[str, Any], where: str) -> Rates:
    gpu = mapping(rates.get("gpuHour"), f"{where}.gpuHour")
    cpu, memory = rates.get("cpuHour"), rates.get("memoryGiBHour")
    return Rates(
        {str(model): price(value, f"{where}.gpuHour.{model}") for model, value in sorted(gpu.items())},
        None if cpu is None else price(cpu, f"{where}.cpuHour"),
        None if memory is None else price(memory, f"{where}.memoryGiBHour"),
    )


def _time(entry: Mapping[str, Any], where: str) -> PriceTime:
    factor = price(entry.get("factor"), f"{where}.factor")
    if factor > _MOST_FACTOR:
        raise InvalidObjectError(f"{factor:g} is more than {_MOST_FACTOR:g}", field=f"{where}.factor")
    days = entry.get("days") or DAYS
    if not isinstance(days, list | tuple) or any(day not in DAYS for day in days):
        raise InvalidObjectError(f"{shorten(days)}: write some of {', '.join(DAYS)}", field=f"{where}.days")
    offset = _offset(entry.get("utcOffset"), f"{where}.utcOffset")
    begin = _clock(entry.get("begin"), f"{where}.begin") - offset
    end = _clock(entry.get("end"), f"{where}.end") - offset
    # Where the site's midnight is on another day than ours, so are its days.
    shift, begin = divmod(begin, 24 * 60)
    return PriceTime(begin, end % (24 * 60), tuple(sorted((DAYS.index(day) + shift) % 7 for day in set(days))), factor)


def _clock(value: Any, where: str) -> int:
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        raise InvalidObjectError(
            f"{shorten(value)} is no time: write 00:00 to 24:00, in quarters of an hour", field=where
        )
    return int(value[:2]) * 60 + int(value[3:])


def _offset(value: Any, where: str) -> int:
    if value is None:
        return 0
    found = _OFFSET.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidObjectError(f'{shorten(value)} is no offset: write "+02:00"', field=where)
    minutes = int(found[2]) * 60 + int(found[3])
    return -minutes if found[1] == "-" else minutes

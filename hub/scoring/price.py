"""What an hour of one task costs at a site, by the site's own prices: regular or spot nodes, and the time of day."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hub.fleet.admission import group_refusal
from hub.fleet.fleet import Fleet
from hub.fleet.prices import STEP, PriceTime, Rates
from hub.fleet.shape import TaskShape
from hub.fleet.site import NodeGroup, Site
from hub.scoring.interface import ScoreRequest

Floats = NDArray[np.float64]
_GIB = float(1 << 30)
_DAY = 24 * 60
_STEPS = 7 * _DAY // STEP
# Thursday, 1 January 1970.
_EPOCH_DAY = 3


class Price:
    """Money for an hour of one task, now, on the nodes there that may run it and cost least."""

    name = "Price"
    lower_is_better = True

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        shape = request.shape
        prices: Floats = fleet.site_column(("price", shape), lambda site: task_hour(site, shape), np.float64)
        factors = price_factors(fleet, request.now)
        return prices if factors is None else prices * factors


def price_factors(fleet: Fleet, now: float) -> Floats | None:
    """By what each site's prices are multiplied at `now` (epoch seconds); None: by nothing anywhere."""
    if not fleet.site_column("price times", _has_times, np.bool_).any():
        return None
    week = fleet.site_column("price week", _week, np.dtype((np.float32, (_STEPS,))))
    factors: Floats = week[:, quarter(now)].astype(np.float64)
    return factors


def quarter(now: float) -> int:
    """Which quarter of an hour of the week it is in UTC; 0 begins on Monday at midnight."""
    return int((now // (STEP * 60) + _EPOCH_DAY * (_DAY // STEP)) % _STEPS)


def task_hour(site: Site | None, shape: TaskShape) -> float:
    """At the site's regular time of day; NaN where nothing that the task asks for has a price.

    Spot nodes cost what the site states for them. What has no price beside what has one is taken to be part of it, as
    clouds sell machines: memory with the CPU, both with the GPU. A GPU without a price is never free.
    """
    if site is None:
        return math.nan
    there = [group for group in site.groups if group.count and (group.physical_gpus or not shape.gpu_milli)]
    # What nothing there may run costs what it would if something might: other scorers and filters say that.
    able = [group for group in there if group_refusal(group, shape, site.share_by) is None] or there
    if not able and not shape.gpu_milli:
        return _hour(site.prices.regular, shape, None)
    rates = {True: site.prices.on_spot, False: site.prices.regular}
    found = [_hour(rates[group.spot], shape, group) for group in able]
    return min((hour for hour in found if not math.isnan(hour)), default=math.nan)


def _hour(rates: Rates, shape: TaskShape, group: NodeGroup | None) -> float:
    gpu = 0.0
    if shape.gpu_milli:
        models = set(group.models if group is not None else ())
        wanted = models & set(shape.gpu_models) if shape.gpu_models else models
        known = [rates.gpu_hour[model] for model in wanted if model in rates.gpu_hour]
        if not known:
            return math.nan
        gpu = min(known) * shape.gpu_milli / 1000
    total = gpu
    for amount, price in (
        (shape.request("cpu") / 1000, rates.cpu_hour),
        (shape.request("memory") / _GIB, rates.memory_gib_hour),
    ):
        total += amount * (price or 0.0)
    return total if shape.gpu_milli or rates.cpu_hour is not None or rates.memory_gib_hour is not None else math.nan


def _has_times(site: Site | None) -> bool:
    return site is not None and bool(site.prices.times)


def _week(site: Site | None) -> NDArray[np.float32]:
    return week_of(site.prices.times) if site is not None else week_of(())


@lru_cache(maxsize=256)
def week_of(times: tuple[PriceTime, ...]) -> NDArray[np.float32]:
    """The factor in each quarter of an hour of a week; of times that overlap the first counts."""
    week = np.ones(_STEPS, np.float32)
    for time in reversed(times):
        # From 22:00 to 22:00 is a whole day.
        length = (time.end - time.begin - 1) % _DAY + 1
        for day in time.days:
            steps = (day * _DAY + time.begin) // STEP + np.arange(length // STEP)
            week[steps % _STEPS] = time.factor
    week.flags.writeable = False
    return week

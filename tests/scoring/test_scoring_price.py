"""Prices with spot nodes and times of day: the cheapest nodes that may run the task, now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.fleet.changes import CapacitySeen, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.prices import DAYS, PriceTime, read_prices
from hub.fleet.shape import TaskShape, Toleration
from hub.scoring.interface import ScoreRequest
from hub.scoring.price import Price, quarter, week_of

GPU = TaskShape((("cpu", 2000), (names.GPU, 1)))
PRICES = {
    "gpuHour": {"A100": "2"},
    "cpuHour": "0.1",
    "spot": {"gpuHour": {"A100": "0.5"}},
    "times": [
        {"begin": "22:00", "end": "06:00", "days": ["Fri"], "factor": "0.5"},
        {"begin": "12:00", "end": "14:00", "factor": "2"},
    ],
}


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def fleet(prices: dict[str, Any], **spot: Any) -> Fleet:
    group = {"name": "g", "count": 1, "allocatable": {"cpu": "8"}, "gpu": {"model": "A100", "count": 4}}
    groups = [group, {**group, "name": "spot", **spot}] if spot else [group]
    status = {"nodeGroups": groups, "prices": prices}
    seen = [ClusterSeen({"metadata": {"name": name}}) for name in ("a", "b")]
    return Fleet.empty().apply([*seen, CapacitySeen({"metadata": {"name": "a"}, "status": status})])


def price(of: Fleet, shape: TaskShape = GPU, now: float = at("2026-11-23 00:00")) -> float:
    return round(float(Price().score(of, ScoreRequest(shape, 1, now))[0]), 6)


@pytest.mark.parametrize(
    "labels",
    [
        {"karpenter.sh/capacity-type": "spot"},
        {"eks.amazonaws.com/capacityType": "SPOT"},
        {"cloud.google.com/gke-spot": "true"},
        {"kubernetes.azure.com/scalesetpriority": "spot"},
        {"fleet.quarterdeck.dev/spot": "true"},
    ],
)
def test_spot_nodes_cost_what_is_stated_for_them_and_the_rest_as_elsewhere(labels: dict[str, str]) -> None:
    assert price(fleet(PRICES)) == 2.2
    assert price(fleet(PRICES, labels=labels)) == 0.7
    assert price(fleet({**PRICES, "spot": {}}, labels=labels)) == 2.2
    assert price(fleet(PRICES, labels={"karpenter.sh/capacity-type": "on-demand"})) == 2.2


def test_a_task_that_may_not_run_on_spot_nodes_does_not_get_their_price() -> None:
    spot = {"labels": {"fleet.quarterdeck.dev/spot": "true"}}
    taint = {"key": "spot", "value": "", "effect": "NoSchedule"}
    tainted = fleet(PRICES, **spot, taints=[taint])
    assert price(tainted) == 2.2
    assert price(tainted, TaskShape(GPU.requests, tolerations=(Toleration("spot", "Exists"),))) == 0.7
    assert price(fleet(PRICES, **spot), TaskShape(GPU.requests, node_selector=(("zone", "x"),))) == 0.7
    only_spot = TaskShape(GPU.requests, node_selector=(("fleet.quarterdeck.dev/spot", "true"),))
    assert price(fleet(PRICES, **spot), only_spot) == 0.7


@pytest.mark.parametrize(
    ("moment", "factor"),
    [
        # 27 November 2026 is a Friday.
        ("2026-11-27 21:59", 1.0),
        ("2026-11-27 22:00", 0.5),
        ("2026-11-28 05:59", 0.5),
        ("2026-11-28 06:00", 1.0),
        ("2026-11-28 22:00", 1.0),
        ("2026-11-28 12:00", 2.0),
        ("2026-11-28 14:00", 1.0),
        ("1970-01-01 13:00", 2.0),
    ],
)
def test_prices_change_with_the_time_of_day(moment: str, factor: float) -> None:
    assert price(fleet(PRICES), now=at(moment)) == round(2.2 * factor, 6)


def test_of_times_that_overlap_the_first_counts_and_a_week_wraps_round() -> None:
    times = [
        {"begin": "00:00", "end": "24:00", "days": ["Sun"], "factor": "0.1"},
        {"begin": "23:00", "end": "01:00", "days": ["Sun"], "factor": "9"},
    ]
    of = fleet({"gpuHour": {"A100": "1"}, "times": times})
    found = [price(of, now=at(f"2026-11-{day}")) for day in ("29 23:30", "30 00:30", "30 01:00")]
    assert found == [0.1, 9.0, 1.0]


def test_a_sites_own_clock_moves_its_days_too() -> None:
    times = [{"begin": "00:00", "end": "06:00", "days": ["Mon"], "utcOffset": "+02:00", "factor": "0.5"}]
    (found,) = read_prices({"times": times}).times
    assert found == PriceTime(22 * 60, 4 * 60, (DAYS.index("Sun"),), 0.5)
    times[0]["utcOffset"] = "-05:30"
    (found,) = read_prices({"times": times}).times
    assert found == PriceTime(5 * 60 + 30, 11 * 60 + 30, (DAYS.index("Mon"),), 0.5)


@given(st.integers(0, 95), st.integers(0, 95), st.sets(st.integers(0, 6), min_size=1), st.integers(0, 7 * 96 - 1))
def test_the_week_is_what_a_clock_says(begin: int, end: int, days: set[int], step: int) -> None:
    time = PriceTime(begin * 15, end * 15, tuple(sorted(days)), 3.0)
    day, minute = divmod(step, 96)
    if begin < end:
        inside = day in days and begin <= minute < end
    else:
        inside = (day in days and minute >= begin) or ((day - 1) % 7 in days and minute < end)
    assert week_of((time,))[step] == (3.0 if inside else 1.0)
    monday = at("2026-11-23 00:00")
    assert quarter(monday + step * 900 + 899) == step


@pytest.mark.parametrize(
    ("prices", "field"),
    [
        ({"spot": {"cpuHour": "-1"}}, "status.prices.spot.cpuHour"),
        ({"egressGiB": "much"}, "status.prices.egressGiB"),
        ({"times": [{"begin": "22:10", "end": "06:00", "factor": "1"}]}, "status.prices.times[0].begin"),
        ({"times": [{"begin": "22:00", "end": "25:00", "factor": "1"}]}, "status.prices.times[0].end"),
        ({"times": [{"begin": "22:00", "end": "06:00"}]}, "status.prices.times[0].factor"),
        ({"times": [{"begin": "22:00", "end": "06:00", "factor": "2000"}]}, "status.prices.times[0].factor"),
        ({"times": [{"begin": "22:00", "end": "06:00", "factor": "1", "days": ["Mo"]}]}, "status.prices.times[0].days"),
        (
            {"times": [{"begin": "22:00", "end": "06:00", "factor": "1", "utcOffset": "2"}]},
            "status.prices.times[0].utcOffset",
        ),
        ({"times": [{}] * 33}, "status.prices.times"),
    ],
)
def test_what_is_no_price_is_said_by_field(prices: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        read_prices(prices)
    assert caught.value.field == field


def test_without_times_nothing_is_multiplied() -> None:
    of = fleet({"gpuHour": {"A100": "1"}})
    assert np.array_equal(
        Price().score(of, ScoreRequest(GPU, 1, 0.0)), Price().score(of, ScoreRequest(GPU, 1, 5e8)), equal_nan=True
    )

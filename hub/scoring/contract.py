"""What every scorer must do, tried on fleets of every kind: the checks of `quarterdeck scorer test` and of its authors.

Each check stands alone and says in one sentence what was found. Whether a scorer's choice is any good is its author's
business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hub.api import names
from hub.fleet.changes import Charge, Release
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.interface import Scorer, ScoreRequest
from hub.scoring.normalise import Normaliser
from hub.scoring.reserving import Reserving, ready_made
from hub.scoring.sample import changes, sample_fleet

NOW: Final = 1_767_225_600.0
LARGE: Final = 10_000
BUDGET: Final = 0.25
"""Seconds that one call for `LARGE` clusters may take: what the hub allows unless it is set otherwise."""

_GIB = 1 << 30
SHAPES: Final = {
    "nothing": TaskShape(),
    "a CPU task": TaskShape(requests=(("cpu", 1000), ("memory", _GIB))),
    "a GPU task": TaskShape(requests=(("cpu", 4000), ("memory", 16 * _GIB), (names.GPU, 1))),
    "a share of an H100": TaskShape(requests=(("cpu", 1000),), gpu_share=300, gpu_models=("H100",)),
    "more than anybody has": TaskShape(requests=(("cpu", 2**62), (names.GPU, 10_000))),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """`problem` empty: the check passed."""

    check: str
    problem: str


class _Broken(Exception):
    pass


def check(make: Callable[[], Scorer], *, budget: float = BUDGET) -> list[Finding]:
    """Every check, in order. `make` gives a fresh scorer; it may raise, and so may all that it gives."""
    try:
        scorer = ready_made(make)
        again = ready_made(make)
    # Somebody else's constructor.
    except Exception as error:
        return [Finding("it can be made", _said(error))]
    findings = [Finding("it can be made", "")]
    checks = list(_checks(scorer, again, budget))
    if isinstance(scorer, Reserving):
        checks.insert(-1, ("what is reserved is given back whole, in any order", lambda: _reserved(make)))
    for title, run in checks:
        try:
            run()
        except _Broken as error:
            findings.append(Finding(title, str(error)))
        # Somebody else's code.
        except Exception as error:
            findings.append(Finding(title, _said(error)))
        else:
            findings.append(Finding(title, ""))
    return findings


def _checks(scorer: Scorer, again: Scorer, budget: float) -> Iterator[tuple[str, Callable[[], None]]]:
    yield "it has a name", lambda: _name(scorer)
    yield "an empty fleet", lambda: _shapes(scorer, Fleet.empty())
    yield "a single cluster", lambda: _shapes(scorer, sample_fleet(1))
    yield "a mixed fleet, every shape of task", lambda: _shapes(scorer, sample_fleet(60))
    yield "clusters that reported nothing", lambda: _shapes(scorer, _silent())
    yield "the same question has the same answer", lambda: _same(scorer, again)
    yield "the order in which clusters came changes nothing", lambda: _order(scorer)
    yield "it leaves the fleet as it is", lambda: _pure(scorer)
    yield "a fleet that fills up", lambda: _filling(scorer)
    yield f"{LARGE:,} clusters within {budget * 1000:g} ms", lambda: _quick(scorer, budget)


def _said(error: Exception) -> str:
    return f"raised {type(error).__name__}: {error}"


def _name(scorer: Scorer) -> None:
    if not isinstance(scorer.name, str) or not scorer.name:
        raise _Broken(f"name is {scorer.name!r}, expected a string")
    normaliser = getattr(scorer, "normaliser", None)
    if normaliser is not None and not isinstance(normaliser, Normaliser):
        raise _Broken(f"normaliser is {normaliser!r}, expected a hub.scoring.normalise.Normaliser")


def _shapes(scorer: Scorer, fleet: Fleet) -> None:
    for what, shape in SHAPES.items():
        _answers(scorer, fleet, shape, what)


def _answers(scorer: Any, fleet: Fleet, shape: TaskShape, what: str) -> list[Any]:
    """Everything it says about one question, checked."""
    request = ScoreRequest(shape, 1, NOW)
    count = len(fleet.names)
    values = np.asarray(scorer.score(fleet, request), dtype=np.float64)
    if values.shape != (count,):
        raise _Broken(f"{what}: answered shape {values.shape}, expected ({count},), one value a cluster")
    broken = np.isinf(values).nonzero()[0]
    if len(broken):
        raise _Broken(f"{what}: answered {values[broken[0]]} for {fleet.names[broken[0]]}: unknown is NaN")
    found: list[Any] = [values]
    allows = getattr(scorer, "limit", None)
    if allows is not None:
        limit = np.asarray(allows(fleet, request))
        if limit.shape != (count,) or limit.dtype.kind not in "iu" or (limit < 0).any():
            raise _Broken(f"{what}: limit answered {limit.dtype} {limit.shape}, expected ({count},) numbers from 0")
        found.append(limit)
    for method, arguments in (("filter", (fleet, request)), ("concerns", (fleet,))):
        ask = getattr(scorer, method, None)
        if ask is None:
            continue
        mask = np.asarray(ask(*arguments))
        if mask.shape != (count,) or mask.dtype != np.bool_:
            raise _Broken(f"{what}: {method} answered {mask.dtype} {mask.shape}, expected a mask of ({count},)")
        found.append(mask)
    return found


def _silent() -> Fleet:
    return Fleet.empty().apply(change for change in changes(20) if not hasattr(change, "capacity"))


def _same(scorer: Scorer, again: Scorer) -> None:
    fleet = sample_fleet(60)
    for what, shape in SHAPES.items():
        first = _answers(scorer, fleet, shape, what)
        for other, whose in ((scorer, "asked again"), (again, "another instance")):
            _compare(first, _answers(other, sample_fleet(60), shape, what), f"{what}: {whose} it says something else")


def _order(scorer: Scorer) -> None:
    one, other = sample_fleet(30), Fleet.empty().apply(reversed(list(changes(30))))
    for what, shape in SHAPES.items():
        _compare(_answers(scorer, one, shape, what), _answers(scorer, other, shape, what), f"{what}: it does")


def _reserved(make: Callable[[], Any]) -> None:
    """Through what a day of decisions does to a ledger: its answers are those of one that began with the result."""
    start = sample_fleet(12)
    shapes = [SHAPES["a CPU task"], SHAPES["a GPU task"], SHAPES["a share of an H100"]]
    charges = [Charge(f"{number}", start.names[number % 7], shapes[number % 3], 1 + number % 4) for number in range(24)]
    for what, shape in SHAPES.items():
        used, fleet = Reserving(make), start
        empty = _answers(used, fleet, shape, what)
        for charge in charges:
            fleet = fleet.apply([charge])
            _answers(used, fleet, shape, what)
        full = _answers(used, fleet, shape, what)
        _compare(
            full, _answers(Reserving(make), fleet, shape, what), f"{what}: told step by step it says another thing"
        )
        other = start.apply(reversed(charges))
        _compare(full, _answers(Reserving(make), other, shape, what), f"{what}: told in another order it does too")
        # A slice that goes on with less, one that moves, and then all of them end.
        fleet = fleet.apply([Charge("3", start.names[3], shapes[0], 1), Charge("4", start.names[5], shapes[1], 2)])
        _answers(used, fleet, shape, what)
        for charge in charges:
            fleet = fleet.apply([Release(charge.key)])
            _answers(used, fleet, shape, what)
        _compare(empty, _answers(used, fleet, shape, what), f"{what}: what was given back is not there again")


def _compare(first: list[Any], second: list[Any], problem: str) -> None:
    for one, other in zip(first, second, strict=True):
        if not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            raise _Broken(problem)


def _pure(scorer: Scorer) -> None:
    fleet = sample_fleet(30)
    before, columns = fleet.digest, [fleet.free("cpu").copy(), fleet.fit(SHAPES["a CPU task"]).copy()]
    _shapes(scorer, fleet)
    after = [fleet.free("cpu"), fleet.fit(SHAPES["a CPU task"])]
    untouched = sample_fleet(30).digest == before
    if not untouched or not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(columns, after, strict=True)):
        raise _Broken("a column of the fleet is another one after it was asked: copy before you write")


def _filling(scorer: Scorer) -> None:
    fleet, shape = sample_fleet(12), SHAPES["a CPU task"]
    for step in range(8):
        fleet = fleet.apply(
            Charge(f"{step}/{name}", name, shape, 1 + int(fit) // 3)
            for name, fit in zip(fleet.names, fleet.fit(shape).tolist(), strict=True)
        )
        _answers(scorer, fleet, shape, f"after {step + 1} rounds of charges")


def _quick(scorer: Scorer, budget: float) -> None:
    fleet, shape = sample_fleet(LARGE), SHAPES["a GPU task"]
    # The fleet computes its own columns at the first look: that is not the scorer's time.
    fleet.fit(shape)
    took = min(_timed(scorer, fleet, shape) for _ in range(3))
    if took > budget:
        raise _Broken(f"took {took * 1000:.0f} ms at best: work on whole columns instead of cluster by cluster")


def _timed(scorer: Scorer, fleet: Fleet, shape: TaskShape) -> float:
    started = time.process_time()
    _answers(scorer, fleet, shape, "a GPU task")
    return time.process_time() - started

"""Whoever wins unasked is who would have won when asked: the same grants, in the same order, to the same claims."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from bench.fuzz_queue import case_of
from bench.queue_cases import Case, Run
from hub.planner.cycle import Cycle
from hub.planner.plan import Snapshot
from hub.queueing.fleet import entitlement

Outcome = tuple[dict[tuple[str, str], tuple[int, int]], list[tuple[str, int, int]]]


def outcome(snapshot: Snapshot) -> Outcome:
    claims = Cycle(snapshot).claims
    return (
        {key: (claim.entitled, claim.most) for key, claim in claims.claims.items()},
        [(grant.claim.key, grant.slots, grant.option) for grant in claims.grants],
    )


def crowded(seed: int) -> Snapshot:
    case = case_of(seed)[0]
    rng = random.Random(seed)
    more = [
        replace(job, name=f"{job.name}-{copy}", flavor="", cluster="", created=float(rng.randrange(9)))
        for job in case.jobs
        for copy in range(rng.choice([0, 0, 3, 12]))
    ]
    return Run(Case(case.objects, (*case.jobs, *more), case.strategies, case.clusters, case.notice)).snapshot()


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_unasked_and_asked_are_one(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    unasked = 0
    whole = entitlement.ahead

    def counting(*args: object, **kwargs: object) -> object:
        nonlocal unasked
        found = whole(*args, **kwargs)  # type: ignore[arg-type]
        unasked += 0 if found is None else len(found.order)
        return found

    monkeypatch.setattr(entitlement, "ahead", counting)
    for seed in range(first, first + 100):
        snapshot = crowded(seed)
        monkeypatch.setattr(entitlement, "_MANY", 1 << 30)
        asked = outcome(snapshot)
        for many, at_a_time in ((1, 3), (1, 1), (20, 64)):
            monkeypatch.setattr(entitlement, "_MANY", many)
            monkeypatch.setattr(entitlement, "_ASKED", at_a_time)
            assert outcome(snapshot) == asked, seed
    assert unasked > 300

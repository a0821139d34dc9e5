"""The queue comes to rest in any cohort, says the same whatever the order of its input, and keeps its other laws."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.fuzz_queue import case_of, look, report
from bench.queue_cases import Run
from bench.queue_laws import Laws, settled
from hub.planner.cycle import Cycle, plan
from hub.planner.plan import Plan, Snapshot

CASES, CHUNK = 2_000, 100


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_every_cohort_comes_to_rest(first: int) -> None:
    for seed in range(first, first + CHUNK):
        settled(case_of(seed)[0])


def test_the_cases_are_worth_it() -> None:
    """That most of what can happen does happen in them."""
    reasons: set[str] = set()
    kept = waited = replaced = 0
    for seed in range(400):
        run = Run(case_of(seed)[0])

        def note(_: Snapshot, decided: Plan) -> None:
            nonlocal kept, waited, replaced
            reasons.update(entry.reason for entry in decided.preemptions)
            codes = [refusal.reason.code for refusal in decided.refusals]
            waited += "WaitingForPreemptedWorkloads" in codes
            kept += "KeptForOthers" in codes
            replaced += sum("are kept for it" in entry.message for entry in decided.preemptions)

        run.settle(note)
    assert reasons == {
        "InClusterQueue",
        "InCohortReclamation",
        "InCohortFairSharing",
        "InCohortReclaimWhileBorrowing",
    }
    assert min(kept, waited, replaced) > 0


def first_cycle(seed: int) -> tuple[Laws, Snapshot, Plan]:
    run = Run(case_of(seed)[0])
    before = run.snapshot()
    return Laws(run), before, plan(before)


def test_the_judge_sees_an_entitled_job_sent_away() -> None:
    for seed in range(0, 400, 4):
        laws, before, decided = first_cycle(seed)
        entitled = {key: claim.entitled for (key, _), claim in Cycle(before).claims.claims.items()}
        safe = [
            h for h in before.held if entitled.get(h.key) and not any(e.work == h.work for e in decided.preemptions)
        ]
        if safe and decided.preemptions:
            forged = replace(decided.preemptions[0], key=safe[0].key, work=safe[0].work)
            with pytest.raises(AssertionError, match="entitled"):
                laws.look(before, replace(decided, preemptions=(*decided.preemptions, forged)))
            return
    raise AssertionError("no case has an entitled job beside a victim")


def test_the_judge_sees_quota_given_twice() -> None:
    for seed in range(0, 400, 4):
        laws, before, decided = first_cycle(seed)
        if decided.admissions:
            first = decided.admissions[0]
            forged = replace(first, slices=tuple(replace(part, slots=100) for part in first.slices))
            with pytest.raises(AssertionError, match="more quota"):
                laws.look(before, replace(decided, admissions=(forged, *decided.admissions[1:])))
            return
    raise AssertionError("no case admits anything")


def test_both_modes_are_compared_on_what_both_can_decide() -> None:
    outcome = look(range(12))
    assert outcome.broken is None
    assert outcome.fleet.cases == outcome.kueue.cases == 3
    assert "15 cases (3 clusters, arrays," in report(outcome, 1.0)

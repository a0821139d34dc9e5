"""`make fuzz-queue`: random cohorts without end, every law of the queue on each, and mode fleet beside mode kueue.

    python -m bench.fuzz_queue --cases 100000 [--seed 0] [--processes 2]

Ends with an error at the first case that breaks a law, and says its seed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from bench.queue_cases import MOST_CYCLES, Case, Run, kueue_run, random_case
from bench.queue_laws import settled
from hub.planner.cycle import Cycle
from hub.queueing.ledger import QuotaLedger, Usage
from hub.queueing.shares import share

_CHUNK = 250
# So many cases without elastic jobs come on one with them.
_EACH_ELASTIC = 4
_KINDS = ("quota only, gangs", "clusters, gangs", "clusters, arrays", "quota only, arrays")
_STEPS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(slots=True)
class Tally:
    """`preemptions`: by case per 100 admissions; `spread`: of weighted shares of the queues with jobs that wait;
    `distance`: of quota used by queue from what they are entitled to, as a part of all that is used."""

    cases: int = 0
    unsettled: int = 0
    preemptions: int = 0
    admissions: int = 0
    per_admission: Counter[float] = field(default_factory=Counter)
    spread: float = 0.0
    distance: float = 0.0
    worst: int = 0

    def add(self, preemptions: int, admissions: int, spread: float, distance: float) -> None:
        self.cases += 1
        self.preemptions += preemptions
        self.admissions += admissions
        each = preemptions / max(1, admissions)
        self.per_admission[max(step for step in _STEPS if step <= each)] += 1
        self.spread += spread
        self.distance += distance
        self.worst = max(self.worst, preemptions)

    def merge(self, other: Tally) -> None:
        self.cases += other.cases
        self.unsettled += other.unsettled
        self.preemptions += other.preemptions
        self.admissions += other.admissions
        self.per_admission.update(other.per_admission)
        self.spread += other.spread
        self.distance += other.distance
        self.worst = max(self.worst, other.worst)


@dataclass(slots=True)
class Outcome:
    kinds: Counter[str] = field(default_factory=Counter)
    fleet: Tally = field(default_factory=Tally)
    kueue: Tally = field(default_factory=Tally)
    broken: tuple[int, str] | None = None


def case_of(seed: int) -> tuple[Case, str]:
    kind = _KINDS[seed % len(_KINDS)]
    return random_case(random.Random(seed), places="clusters" in kind, arrays="arrays" in kind), kind


def elastic_case(seed: int) -> Case:
    """Half of the jobs can grow and shrink; every other case has clusters."""
    return random_case(random.Random(f"elastic {seed}"), places=seed % 2 == 0, arrays=False, elastic=True)


def look(seeds: Iterable[int]) -> Outcome:
    outcome = Outcome()
    for seed in seeds:
        case, kind = case_of(seed)
        outcome.kinds[kind] += 1
        try:
            run = settled(case)
            if seed % _EACH_ELASTIC == 0:
                settled(elastic_case(seed // _EACH_ELASTIC))
                outcome.kinds["with elastic jobs"] += 1
        except Exception as error:
            outcome.broken = (seed, f"{type(error).__name__}: {error}")
            return outcome
        if kind != _KINDS[0]:
            continue
        # What both can be asked: quota, and jobs that start whole.
        theirs = kueue_run(case)
        if not theirs.settled:
            outcome.kueue.unsettled += 1
            continue
        final = run.snapshot()
        wanted = _entitled(case)
        waiting = {demand.queue for demand in final.demands}
        outcome.fleet.add(
            run.preemptions, run.admissions, _spread(case, final.usage, waiting), _distance(final.usage, wanted)
        )
        outcome.kueue.add(
            theirs.preemptions, theirs.admissions, _spread(case, theirs.usage, waiting), _distance(theirs.usage, wanted)
        )
    return outcome


def _entitled(case: Case) -> dict[str, int]:
    """Milli-CPU by queue, were exactly the entitled running."""
    found: dict[str, int] = {}
    jobs = {job.key: job for job in case.jobs}
    for (key, queue), claim in Cycle(Run(case).snapshot()).claims.claims.items():
        found[queue] = found.get(queue, 0) + claim.entitled * jobs[key].cpu * 1000
    return found


def _distance(usage: Usage, wanted: dict[str, int]) -> float:
    used = {queue: sum(amounts.values()) for queue, amounts in usage.items()}
    total = sum(wanted.values())
    apart = sum(abs(used.get(queue, 0) - wanted.get(queue, 0)) for queue in {*used, *wanted})
    return apart / 2 / total if total else 0.0


def _spread(case: Case, usage: Usage, waiting: set[str]) -> float:
    """The largest weighted share less the smallest, of queues that would have more; in thousandths."""
    quotas = case.quotas
    ledger = QuotaLedger(quotas, usage)
    shares = [
        min(share(ledger, quotas.trees[name], quotas.trees[name].position[name]).weighted, 10_000)
        for name in sorted(waiting)
    ]
    return float(max(shares) - min(shares)) if shares else 0.0


def report(outcome: Outcome, seconds: float) -> str:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(outcome.kinds.items()))
    lines = [
        f"{sum(outcome.kinds.values()):,} cases ({kinds}) in {seconds:.0f} s: every law held, all came to rest",
        "",
        f"{'on cases that both modes can decide':44}{'fleet':>10}{'kueue':>10}",
    ]
    fleet, kueue = outcome.fleet, outcome.kueue
    rows: list[tuple[str, str, str]] = [
        ("cases", f"{fleet.cases:,}", f"{kueue.cases:,}"),
        (f"no rest within {MOST_CYCLES} cycles", str(fleet.unsettled), str(kueue.unsettled)),
        ("admissions", f"{fleet.admissions:,}", f"{kueue.admissions:,}"),
        ("preemptions", f"{fleet.preemptions:,}", f"{kueue.preemptions:,}"),
        (
            "preemptions per admission",
            f"{fleet.preemptions / max(1, fleet.admissions):.4f}",
            f"{kueue.preemptions / max(1, kueue.admissions):.4f}",
        ),
        ("most in one case", str(fleet.worst), str(kueue.worst)),
    ]
    for number, step in enumerate(_STEPS):
        upper = f" to {_STEPS[number + 1]:g}" if number + 1 < len(_STEPS) else " or more"
        of = [f"{100 * tally.per_admission[step] / max(1, tally.cases):.1f} %" for tally in (fleet, kueue)]
        rows.append((f"  cases with {step:g}{upper} per admission", *of))  # type: ignore[arg-type]
    rows += [
        (
            "spread of shares at rest, thousandths, mean",
            f"{fleet.spread / max(1, fleet.cases):.1f}",
            f"{kueue.spread / max(1, kueue.cases):.1f}",
        ),
        (
            "distance from progressive filling, mean",
            f"{100 * fleet.distance / max(1, fleet.cases):.2f} %",
            f"{100 * kueue.distance / max(1, kueue.cases):.2f} %",
        ),
    ]
    return "\n".join([*lines, *(f"{name:44}{ours:>10}{theirs:>10}" for name, ours, theirs in rows)])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Random cohorts, every law of the queue on each.")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    started = time.monotonic()
    total = Outcome()
    last = options.seed + options.cases
    chunks = [range(first, min(first + _CHUNK, last)) for first in range(options.seed, last, _CHUNK)]
    with ProcessPoolExecutor(options.processes) as pool:
        for outcome in pool.map(look, chunks):
            if outcome.broken is not None:
                seed, why = outcome.broken
                print(f"case {seed} breaks a law: {why}\nagain: python -m bench.fuzz_queue --seed {seed} --cases 1")
                pool.shutdown(cancel_futures=True)
                return 1
            total.kinds.update(outcome.kinds)
            total.fleet.merge(outcome.fleet)
            total.kueue.merge(outcome.kueue)
    print(report(total, time.monotonic() - started))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

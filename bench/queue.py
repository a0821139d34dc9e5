"""What the queue costs in mode kueue: cycles over many queues, decisions until all has run, victims among thousands.

Decisions only, CPU time: every admitted workload ends before the next cycle. The figures beside are Kueue's own
scheduler on the same work with its writes left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from bench.report import Figure
from hub.queueing.kueue.cycle import Scheduler
from hub.queueing.kueue.roster import Roster
from hub.queueing.kueue.settings import FINAL, INITIAL, Settings
from hub.queueing.kueue.workload import Held, PodSet, Workload
from hub.queueing.quotas import Quotas

_API = "kueue.x-k8s.io/v1beta2"
_FAIR = Settings(strategies=(FINAL, INITIAL))


def run() -> list[Figure]:
    rows: list[Figure] = []
    scheduler = _pending(1, 1_000, 50_000, _FAIR)
    started = time.process_time()
    scheduler.cycle(1.0)
    one = time.process_time() - started
    rows.append(Figure("1,000 queues in one cohort, fair, 50k pending: a cycle", one, 0.5, "s", peer=("Kueue", 9.6)))
    for cohorts, queues, settings, name, hold, peer in (
        (1, 1_000, _FAIR, "the same until drained, one head a cycle", 625.0, 125.0),
        (20, 50, _FAIR, "20 cohorts × 50 queues, fair, the same", 8_000.0, 1_600.0),
        (5, 6, Settings(), "5 cohorts × 6 queues, by priority, 15k pending, the same", 6_670.0, 1_334.0),
    ):
        pending = 15_000 if cohorts == 5 else 50_000
        rate = _drained(_pending(cohorts, queues, pending, settings), pending)
        rows.append(Figure(name, rate, hold, "/s", at_least=True, peer=("Kueue", peer)))
    for queues, holders in ((1, 10_000), (100, 100)):
        for fair in (False, True):
            seconds = _preempting(queues, holders, fair=fair)
            name = f"20 victims of {queues * holders:,} in {queues} queues, {'fair' if fair else 'by priority'}"
            rows.append(Figure(name, seconds * 1e3, 5.0, "ms", peer=("Kueue", 25.0)))
    return rows


def _pending(cohorts: int, queues: int, pending: int, settings: Settings) -> Scheduler:
    names = [f"c{cohort}-q{queue}" for cohort in range(cohorts) for queue in range(queues)]
    quotas = Quotas.parse(_objects(names, "20", "100"))
    kinds = ((1, 50, 14), (5, 100, 4), (20, 200, 2))
    sizes = [kind for kind in kinds for _ in range(kind[2])]
    waiting = [
        _workload(f"w{number:06}", names[number % len(names)], *sizes[number // len(names) % len(sizes)][:2], number)
        for number in range(pending)
    ]
    return Scheduler(Roster(quotas, settings, waiting=waiting))


def _drained(scheduler: Scheduler, pending: int) -> float:
    started = time.process_time()
    done, now = 0, 0.0
    while done < pending:
        now += 1.0
        outcome = scheduler.cycle(now)
        assert outcome.moved, "nothing more is decided before all is done"
        done += len(outcome.admitted)
        scheduler.roster.finish([entry.workload.key for entry in outcome.admitted])
    return pending / (time.process_time() - started)


def _preempting(queues: int, holders: int, *, fair: bool) -> float:
    """Seconds of a cycle in which an owner takes 20 back of what others borrowed."""
    names = ["owner", *(f"q{number}" for number in range(queues))]
    objects = _objects(names[:1], str(queues * holders // 2 + 20), None)
    quotas = Quotas.parse([*objects, *_objects(names[1:], str(holders // 2), None)])
    held = [
        Held(
            _workload(f"h{number:06}", name := names[1 + number % queues], 1, number % 7, number),
            name,
            ((("default", "cpu"), 1_000),),
            float(number),
        )
        for number in range(queues * holders)
    ]
    # Twenty are free, so that forty need twenty victims.
    waiting = [_workload("preemptor", "owner", 40, 100, 0)]
    settings = _FAIR if fair else Settings()
    scheduler = Scheduler(Roster(quotas, settings, waiting=waiting, held=held))
    started = time.process_time()
    outcome = scheduler.cycle(1.0)
    seconds = time.process_time() - started
    assert len(outcome.preempted) == 20, len(outcome.preempted)
    return seconds


def _objects(names: list[str], nominal: str, borrowing: str | None) -> list[dict[str, object]]:
    quota = {"name": "cpu", "nominalQuota": nominal} | ({} if borrowing is None else {"borrowingLimit": borrowing})
    objects: list[dict[str, object]] = [_object("ResourceFlavor", "default", {})]
    for name in names:
        spec = {
            "cohortName": name.partition("-")[0] if "-" in name else "all",
            "namespaceSelector": {},
            "preemption": {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"},
            "resourceGroups": [
                {"coveredResources": ["cpu"], "flavors": [{"name": "default", "resources": [quota]}]},
            ],
        }
        objects += [_object("ClusterQueue", name, spec), _object("LocalQueue", name, {"clusterQueue": name}, "default")]
    return objects


def _object(kind: str, name: str, spec: Mapping[str, object], namespace: str = "") -> dict[str, object]:
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": _API, "kind": kind, "metadata": meta, "spec": spec}


def _workload(name: str, queue: str, cpu: int, priority: int, age: int) -> Workload:
    pods = (PodSet("main", 1, (("cpu", cpu * 1_000),)),)
    return Workload(f"default/{name}", name, "default", queue, priority, float(age), pods)

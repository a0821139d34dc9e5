"""Queues as people read them: a LocalQueue is where jobs are handed in, its ClusterQueue is what pays.

Used, nominal and borrowed are the ClusterQueue's, by the code that decides (`State`); pending and running are counted
for the LocalQueue alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hub.api import names
from hub.controllers.seen import JobRef
from hub.queueing.amount import readable
from hub.queueing.ledger import QuotaLedger
from hub.queueing.objects import ClusterQueue
from hub.queueing.quotas import Denial
from hub.server.derived_quota import derived_section
from hub.server.snapshot import Job, State
from hub.server.view import Cell, Column, Section, Table, age, moment


@dataclass(frozen=True, slots=True)
class QuotaLine:
    """One flavor of one resource, in the planner's units. `free`: what the queue may still take, borrowing included."""

    flavor: str
    resource: str
    used: int
    nominal: int
    borrowed: int
    free: int
    potential: int

    def __str__(self) -> str:
        resource = self.resource
        name = {names.GPU: "gpu", names.GPU_MILLI: "gpu-milli"}.get(resource, resource)
        borrowed = f" ({readable(resource, self.borrowed)} borrowed)" if self.borrowed else ""
        return f"{name} {readable(resource, self.used)}/{readable(resource, self.nominal)}{borrowed}"


@dataclass(frozen=True, slots=True)
class QueueRow:
    """`status`: active, or why it takes no jobs. `namespace` is empty for a ClusterQueue's own row."""

    namespace: str
    name: str
    cluster_queue: str
    cohort: str
    strategy: str
    status: str
    pending: int
    running: int
    quota: tuple[QuotaLine, ...]
    created: float | None

    @property
    def active(self) -> bool:
        return self.status == "active"


def queue_rows(state: State) -> list[QueueRow]:
    """Every LocalQueue, in the order of namespaces and names."""
    state.world.refresh()
    quotas = state.world.quotas
    ledger = QuotaLedger(quotas, state.usage())
    return [_local(state, ledger, namespace, name) for namespace, name in sorted(quotas.local_queues)]


def queue_table(rows: Iterable[QueueRow], now: float, *, namespaces: bool = False) -> Table:
    """One line a queue; the quota of every flavor is in the description."""
    columns = (
        Column("NAME"),
        Column("CLUSTERQUEUE", elastic=True, spare=4),
        Column("COHORT", wide=True, spare=6),
        Column("STRATEGY", wide=True, spare=7),
        Column("PENDING", right=True),
        Column("RUNNING", right=True),
        Column("USED/NOMINAL", elastic=True),
        Column("STATUS", elastic=True, spare=3),
        Column("AGE", right=True, spare=5),
    )
    lines = []
    for row in rows:
        quota = _worth_showing(row.quota)
        line: tuple[Cell, ...] = (
            row.name,
            row.cluster_queue,
            row.cohort,
            row.strategy,
            row.pending,
            row.running,
            ", ".join(f"{line} of {line.flavor}" if _several(quota) else str(line) for line in quota),
            row.status,
            age(row.created, now),
        )
        lines.append((row.namespace, *line) if namespaces else line)
    return Table((Column("NAMESPACE", elastic=True), *columns) if namespaces else columns, tuple(lines))


def queue_sections(state: State, namespace: str, name: str, now: float) -> list[Section]:
    """Everything about a LocalQueue of `namespace`, or else a ClusterQueue. Raises KeyError when there is neither."""
    state.world.refresh()
    quotas = state.world.quotas
    ledger = QuotaLedger(quotas, state.usage())
    if (namespace, name) in quotas.local_queues:
        row = _local(state, ledger, namespace, name)
    elif name in quotas.queues or name in quotas.inactive:
        row = _cluster(state, ledger, name)
    else:
        raise KeyError(name)
    overview: list[tuple[str, Cell]] = [
        ("Name", row.name),
        ("Namespace", row.namespace),
        ("ClusterQueue", row.cluster_queue if row.namespace else ""),
        ("Cohort", row.cohort),
        ("Strategy", row.strategy),
        ("Status", row.status),
        ("Jobs", f"{row.running} running, {row.pending} waiting"),
        ("Created", "" if row.created is None else f"{age(row.created, now)} ago"),
    ]
    jobs = [job for job in state.jobs.values() if _pays(state, job, row)]
    mine = [one for one in state.world.drift if (one.kind, one.name) == ("ClusterQueue", row.cluster_queue)]
    derived = derived_section(mine)
    return [
        Section("", facts=tuple((label, value) for label, value in overview if value not in (None, ""))),
        _quota(row),
        *([derived] if derived is not None else []),
        _jobs("Waiting, in order", [job for job in jobs if _is_pending(job)], state, now, waiting=True),
        _jobs("Running", [job for job in jobs if _is_running(job)], state, now, waiting=False),
    ]


def _local(state: State, ledger: QuotaLedger, namespace: str, name: str) -> QueueRow:
    quotas = state.world.quotas
    local = quotas.local_queues[namespace, name]
    route = quotas.route(namespace, name)
    queue = quotas.queues.get(local.cluster_queue)
    mine = [job for job in state.jobs.values() if _queue_of(job) == (namespace, name)]
    others = [
        w for w in state.workloads.values() if w.demand and (w.demand.namespace, w.demand.queue) == (namespace, name)
    ]
    return QueueRow(
        namespace=namespace,
        name=name,
        cluster_queue=local.cluster_queue,
        cohort=queue.cohort if queue is not None else "",
        strategy=_strategy(queue),
        status=route.message if isinstance(route, Denial) else "active",
        pending=sum(_is_pending(job) for job in mine) + len(others),
        running=sum(_is_running(job) for job in mine),
        quota=_lines(state, ledger, local.cluster_queue),
        created=_created(state, "LocalQueue", name, namespace),
    )


def _cluster(state: State, ledger: QuotaLedger, name: str) -> QueueRow:
    quotas = state.world.quotas
    queue, inactive = quotas.queues.get(name), quotas.inactive.get(name)
    row = QueueRow(
        namespace="",
        name=name,
        cluster_queue=name,
        cohort=queue.cohort if queue is not None else "",
        strategy=_strategy(queue),
        status="active" if inactive is None else f"takes no jobs: {inactive.detail}",
        pending=0,
        running=0,
        quota=_lines(state, ledger, name),
        created=_created(state, "ClusterQueue", name),
    )
    jobs = [job for job in state.jobs.values() if _pays(state, job, row)]
    pending, running = sum(map(_is_pending, jobs)), sum(map(_is_running, jobs))
    return QueueRow(
        row.namespace, row.name, row.cluster_queue, row.cohort, row.strategy, row.status, pending, running,
        row.quota, row.created,
    )  # fmt: skip


def _lines(state: State, ledger: QuotaLedger, name: str) -> tuple[QuotaLine, ...]:
    queue = state.world.quotas.queues.get(name)
    if queue is None or name not in state.world.quotas.trees:
        return ()
    return tuple(
        QuotaLine(
            flavor=flavor,
            resource=resource,
            used=ledger.used(name, (flavor, resource)),
            nominal=quota.nominal,
            borrowed=ledger.borrowed(name, (flavor, resource)),
            free=ledger.available(name, (flavor, resource)),
            potential=ledger.potential(name, (flavor, resource)),
        )
        for (flavor, resource), quota in sorted(queue.quotas.items())
    )


def _quota(row: QueueRow) -> Section:
    columns = (
        Column("FLAVOR", elastic=True),
        Column("RESOURCE", elastic=True),
        Column("USED", right=True),
        Column("NOMINAL", right=True),
        Column("BORROWED", right=True, spare=2),
        Column("FREE NOW", right=True),
        Column("AT MOST", right=True, spare=3),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            line.flavor,
            line.resource,
            *(
                readable(line.resource, amount)
                for amount in (line.used, line.nominal, line.borrowed, line.free, line.potential)
            ),
        )
        for line in row.quota
    ]
    return Section("Quota", table=Table(columns, tuple(rows)) if rows else None, empty=f"none: {row.status}")


def _jobs(title: str, jobs: list[Job], state: State, now: float, *, waiting: bool) -> Section:
    columns = (
        Column("", right=True),
        Column("JOB", elastic=True),
        Column("PRIORITY", right=True),
        Column("TASKS", right=True),
        Column("AGE", right=True),
        Column("REASON", elastic=True),
        Column("MESSAGE", prose=True),
    )
    keyed = []
    for job in jobs:
        spec, found = job.seen.spec, job.entry.state
        assert spec is not None
        assert found is not None
        priority = state.world.priority_of(spec)
        number = priority if isinstance(priority, int) else 0
        memory = job.seen.memory
        reason = memory.reason.code if memory.reason is not None else found.reason.code
        count = sum(len(group.tasks) for group in found.waiting) if waiting else sum(a.holds for a in found.live)
        line = (str(job.seen.ref), number, count, age(spec.created, now), reason, memory.message or found.message)
        keyed.append(((-number, spec.created, spec.key), line))
    rows: list[tuple[Cell, ...]] = [(place, *line) for place, (_, line) in enumerate(sorted(keyed), 1)]
    return Section(title, table=Table(columns, tuple(rows)) if rows else None, empty="none")


def _worth_showing(quota: Iterable[QuotaLine]) -> list[QuotaLine]:
    """What people think of first, and what is in use; thousandths of GPUs only where whole ones have no quota."""
    lines = [line for line in quota if line.nominal or line.used]
    whole = {line.flavor for line in lines if line.resource == names.GPU}
    return [
        line
        for line in lines
        if (line.used or line.resource in ("cpu", "memory", names.GPU))
        and not (line.resource == names.GPU_MILLI and line.flavor in whole)
    ]


def _several(quota: Sequence[QuotaLine]) -> bool:
    """Whether a resource comes in more than one flavor, so that its name alone says too little."""
    resources = [line.resource for line in quota]
    return len(set(resources)) < len(resources)


def _queue_of(job: Job) -> tuple[str, str] | None:
    ref: JobRef = job.seen.ref
    return None if job.seen.spec is None else (ref.namespace, job.seen.spec.queue)


def _pays(state: State, job: Job, row: QueueRow) -> bool:
    """Whether `row` is the job's LocalQueue, or the ClusterQueue behind it."""
    key = _queue_of(job)
    if key is None:
        return False
    if row.namespace:
        return key == (row.namespace, row.name)
    local = state.world.quotas.local_queues.get(key)
    return local is not None and local.cluster_queue == row.name


def _is_pending(job: Job) -> bool:
    state = job.entry.state
    return state is not None and not state.ended and bool(state.waiting) and state.phase != "Pending"


def _is_running(job: Job) -> bool:
    return job.entry.state is not None and bool(job.entry.state.live)


def _strategy(queue: ClusterQueue | None) -> str:
    return "" if queue is None else "StrictFIFO" if queue.strict else "BestEffortFIFO"


def _created(state: State, kind: str, name: str, namespace: str = "") -> float | None:
    obj = state.world.quotas.object(kind, name, namespace)
    return moment(((obj or {}).get("metadata") or {}).get("creationTimestamp"))

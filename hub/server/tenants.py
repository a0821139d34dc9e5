"""Who uses the fleet, tenant by tenant: what each has now, has used so far, and waits for; how even that is.

A tenant is a LocalQueue. Evenness is Jain's index, (Σx)² / (n·Σx²), of what each ClusterQueue uses in proportion to
its own quota, over those that use something or wait: 1 is even, 1/n is one having it all (Jain, Chiu, Hawe 1984).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hub.api import names
from hub.queueing.amount import UNLIMITED, readable
from hub.queueing.fairness import jain
from hub.server.quota_tree import Branch, quota_tree
from hub.server.snapshot import Job, State
from hub.server.view import Cell, Column, Section, Table, age


@dataclass(frozen=True, slots=True)
class Tenant:
    """`gpus` in thousandths and `cpu_milli` are held now; hours are of everything that is recorded.

    `oldest` is epoch seconds of the submission of the oldest job that waits.
    """

    namespace: str
    queue: str
    cluster_queue: str
    gpus: int
    cpu_milli: int
    share: int | None
    gpu_hours: float
    cpu_hours: float
    running: int
    pending: int
    oldest: float | None

    def document(self) -> dict[str, Any]:
        return {
            "namespace": self.namespace,
            "localQueue": self.queue,
            "clusterQueue": self.cluster_queue,
            "gpus": self.gpus / 1000,
            "cpus": self.cpu_milli / 1000,
            "weightedShare": self.share,
            "gpuHours": round(self.gpu_hours, 3),
            "cpuHours": round(self.cpu_hours, 3),
            "running": self.running,
            "pending": self.pending,
            "oldestWaitingSince": self.oldest,
        }


def tenants(state: State) -> list[Tenant]:
    """Those who have most of the GPUs first, then of the CPUs, then by name."""
    shares = {branch.name: branch.share for branch in _queues(quota_tree(state))}
    jobs: dict[tuple[str, str], list[Job]] = {key: [] for key in state.world.quotas.local_queues}
    for job in state.jobs.values():
        if job.seen.spec is not None:
            jobs.setdefault((job.seen.ref.namespace, job.seen.spec.queue), []).append(job)
    found = [_tenant(state, key, mine, shares) for key, mine in jobs.items()]
    return sorted(found, key=lambda t: (-t.gpus, -t.cpu_milli, -t.pending, t.namespace, t.queue))


def fairness(state: State) -> float | None:
    """Jain's index over the ClusterQueues that use or want something; None where fewer than two do."""
    values = []
    for branch in _queues(quota_tree(state)):
        if not (branch.pending or branch.running):
            continue
        part = [held.used / held.own for held in branch.holdings.values() if 0 < held.own < UNLIMITED]
        if part:
            values.append(max(part))
    return jain(values) if len(values) > 1 else None


def tenant_sections(found: Iterable[Tenant], index: float | None, now: float) -> list[Section]:
    columns = (
        Column("NAMESPACE", elastic=True),
        Column("QUEUE", elastic=True),
        Column("CLUSTERQUEUE", elastic=True, spare=5),
        Column("GPUS", right=True),
        Column("CPUS", right=True),
        Column("SHARE", right=True, spare=2),
        Column("GPU-HOURS", right=True, spare=3),
        Column("CPU-HOURS", right=True, spare=4),
        Column("RUNNING", right=True),
        Column("PENDING", right=True),
        Column("OLDEST WAITS", right=True, spare=1),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            tenant.namespace,
            tenant.queue,
            tenant.cluster_queue,
            f"{tenant.gpus / 1000:g}",
            readable("cpu", tenant.cpu_milli),
            None if tenant.share is None else "∞" if tenant.share >= UNLIMITED else tenant.share,
            f"{tenant.gpu_hours:.1f}",
            f"{tenant.cpu_hours:.1f}",
            tenant.running,
            tenant.pending,
            age(tenant.oldest, now),
        )
        for tenant in found
    ]
    sections = [Section("", table=Table(columns, tuple(rows)) if rows else None, empty="no LocalQueue is there")]
    if index is not None:
        even = "1 is even: each queue that works or waits uses the same part of its own quota"
        sections.append(Section("", facts=(("Jain's index", f"{index:.2f} ({even})"),)))
    return sections


def _tenant(state: State, key: tuple[str, str], jobs: Sequence[Job], shares: dict[str, int | None]) -> Tenant:
    namespace, queue = key
    local = state.world.quotas.local_queues.get(key)
    cluster_queue = local.cluster_queue if local is not None else ""
    gpus = cpu = running = pending = 0
    gpu_seconds = cpu_seconds = 0.0
    oldest: float | None = None
    for job in jobs:
        for (_, resource), amount in state.held_by(job).items():
            gpus += amount * 1000 if resource == names.GPU else amount if resource == names.GPU_MILLI else 0
            cpu += amount if resource == "cpu" else 0
        now, spec = job.entry.state, job.seen.spec
        if now is None or spec is None:
            continue
        gpu_seconds += now.usage.gpu
        cpu_seconds += now.usage.cpu
        running += bool(now.live)
        if now.waiting and not now.ended and not spec.suspend:
            pending += 1
            oldest = spec.created if oldest is None else min(oldest, spec.created)
    return Tenant(
        namespace, queue, cluster_queue, gpus, cpu, shares.get(cluster_queue), gpu_seconds / 3600, cpu_seconds / 3600,
        running, pending, oldest,
    )  # fmt: skip


def _queues(branches: Iterable[Branch]) -> Iterable[Branch]:
    for branch in branches:
        if branch.kind == "ClusterQueue":
            yield branch
        yield from _queues(branch.below)

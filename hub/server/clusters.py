"""Clusters as people read them: what is free by the hub's own count, what it costs, and whether it is real.

The numbers are the decision's: free is what is left after everything that slices hold, computed by the code that
decides (`State`). Hardware that is only declared says so in every row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.api.conditions import find_condition
from hub.controllers.world import World
from hub.fleet.fleet import Fleet
from hub.fleet.site import NodeGroup, Site
from hub.jobs.attempt import Attempt
from hub.queueing.amount import readable
from hub.server.job_sections import condition_section
from hub.server.snapshot import State
from hub.server.view import SIMULATED, Cell, Column, Section, Table, age, moment, pairs

Json = Mapping[str, Any]
AVAILABLE = "ManagedClusterConditionAvailable"


@dataclass(frozen=True, slots=True)
class GpuCount:
    """Whole GPUs of one model: how many are wholly free, and how many there are."""

    model: str
    free: int
    total: int

    def __str__(self) -> str:
        return f"{self.model} {self.free}/{self.total}"


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """`running`: tasks of this hub that run there. CPU in thousandths, memory in bytes, None: not reported.

    `since`: epoch seconds at which its availability last changed. `problem`: what of its report cannot be read.
    """

    name: str
    status: str
    since: float | None
    gpus: tuple[GpuCount, ...]
    cpu_free: int | None
    cpu_total: int | None
    memory_free: int | None
    memory_total: int | None
    running: int
    prices: tuple[str, ...]
    simulated: bool
    reported: bool
    runtime: str
    nodes: int
    labels: tuple[tuple[str, str], ...]
    taints: tuple[str, ...]
    created: float | None
    problem: str

    @property
    def hardware(self) -> str:
        return SIMULATED if self.simulated else "real" if self.reported else ""


def cluster_rows(state: State) -> list[ClusterRow]:
    """In the order of names."""
    state.world.refresh()
    fleet, running = state.world.fleet, _running(state)
    return [_row(state.world, fleet, name, sum(a.active for a in running.get(name, ()))) for name in fleet.names]


def cluster_table(rows: Iterable[ClusterRow], now: float) -> Table:
    columns = (
        Column("NAME"),
        Column("STATUS"),
        Column("GPUS FREE", elastic=True),
        Column("CPU FREE", right=True, spare=1),
        Column("MEMORY FREE", wide=True, right=True, spare=5),
        Column("RUNNING", right=True, spare=3),
        Column("PRICE/H", elastic=True, spare=4),
        Column("HARDWARE"),
        Column("RUNTIME", wide=True, spare=8),
        Column("NODES", wide=True, right=True, spare=7),
        Column("TAINTS", wide=True, elastic=True, spare=6),
        Column("LABELS", wide=True, elastic=True, spare=9),
        Column("AGE", right=True, spare=5),
        Column("PROBLEM", wide=True, elastic=True, spare=6),
    )
    lines: list[tuple[Cell, ...]] = [
        (
            row.name,
            row.status,
            ", ".join(str(gpu) for gpu in row.gpus),
            _of("cpu", row.cpu_free, row.cpu_total),
            _of("memory", row.memory_free, row.memory_total),
            row.running,
            ", ".join(row.prices),
            row.hardware,
            row.runtime,
            row.nodes or None,
            ", ".join(row.taints),
            pairs(row.labels),
            age(row.created, now),
            row.problem,
        )
        for row in rows
    ]
    return Table(columns, tuple(lines))


def cluster_sections(state: State, name: str, capacity: Json | None, now: float) -> list[Section]:
    """Everything about one cluster. Raises KeyError when the fleet does not have it."""
    row = next((row for row in cluster_rows(state) if row.name == name), None)
    if row is None:
        raise KeyError(name)
    facts, site = state.world.fleet.facts(name), state.world.fleet.site(name)
    observed = moment(((capacity or {}).get("status") or {}).get("observedTime"))
    overview: list[tuple[str, Cell]] = [
        ("Name", row.name),
        ("Status", row.status + (f" for {age(row.since, now)}" if row.since is not None else "")),
        ("Hardware", f"{row.hardware}: declared, not there" if row.simulated else row.hardware),
        ("Runtime", row.runtime),
        ("GPUs free", ", ".join(str(gpu) for gpu in row.gpus)),
        ("CPU free", _of("cpu", row.cpu_free, row.cpu_total)),
        ("Memory free", _of("memory", row.memory_free, row.memory_total)),
        ("Price an hour", ", ".join(_prices(site, whole=True))),
        ("Images", ", ".join(site.images) or "any" if site is not None else ""),
        ("Taints", ", ".join(row.taints)),
        ("Labels", pairs(row.labels)),
        ("Claims", pairs(sorted(facts.claims.items()))),
        ("Capacity seen", "" if observed is None else f"{age(observed, now)} ago"),
        ("Joined", "" if row.created is None else f"{age(row.created, now)} ago"),
        ("Problem", row.problem),
    ]
    found = [
        Section("", facts=tuple((label, value) for label, value in overview if value not in (None, ""))),
        _groups(site),
        _slices(state, name, now),
        condition_section((facts.object.get("status") or {}).get("conditions"), now),
    ]
    return found


def status_of(cluster: Json) -> str:
    """One or two words: what it can be used for now."""
    if (cluster.get("metadata") or {}).get("deletionTimestamp"):
        return "leaving"
    if not (cluster.get("spec") or {}).get("hubAcceptsClient"):
        return "not accepted"
    verdict = find_condition((cluster.get("status") or {}).get("conditions"), AVAILABLE)
    if verdict is None:
        return "joining"
    return {"True": "available", "Unknown": "unreachable"}.get(str(verdict.get("status")), "unavailable")


def _running(state: State) -> dict[str, list[Attempt]]:
    found: dict[str, list[Attempt]] = {}
    for job in state.jobs.values():
        if job.entry.state is not None:
            for attempt in job.entry.state.live:
                found.setdefault(attempt.cluster, []).append(attempt)
    return found


def _row(world: World, fleet: Fleet, name: str, running: int) -> ClusterRow:
    at, facts, site = fleet.position(name), fleet.facts(name), fleet.site(name)
    groups = site.groups if site is not None else ()
    totals: dict[str, int] = {}
    for group in groups:
        if group.physical_gpus and group.count:
            model = group.gpus.model or "GPU"
            totals[model] = totals.get(model, 0) + math.ceil(group.count * group.physical_gpus)
    free = {model: _known(fleet.gpus_free(model)[at]) or 0 for model in totals}
    return ClusterRow(
        name=name,
        status=status_of(facts.object),
        since=facts.since,
        gpus=tuple(GpuCount(model, free[model], totals[model]) for model in sorted(totals)),
        cpu_free=_known(fleet.free("cpu")[at]),
        cpu_total=_known(fleet.allocatable("cpu")[at]),
        memory_free=_known(fleet.free("memory")[at]),
        memory_total=_known(fleet.allocatable("memory")[at]),
        running=running,
        prices=_prices(site),
        simulated=site is not None and site.simulated,
        reported=site is not None,
        runtime=site.runtime if site is not None else "",
        nodes=sum(group.count for group in groups),
        labels=tuple(sorted(facts.labels.items())),
        taints=tuple(str(taint) for taint in facts.taints),
        created=moment((facts.object.get("metadata") or {}).get("creationTimestamp")),
        problem=fleet.problems.get(name, ""),
    )


def _known(value: float) -> int | None:
    return None if math.isnan(value) else int(value)


def _of(resource: str, free: int | None, total: int | None) -> str:
    if free is None or total is None:
        return ""
    if resource == "cpu":
        return f"{free / 1000:g}/{total / 1000:g}"
    return f"{_bytes(free)}/{_bytes(total)}"


def _bytes(value: int) -> str:
    for size, unit in ((2**40, "Ti"), (2**30, "Gi"), (2**20, "Mi")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return str(value)


def _prices(site: Site | None, *, whole: bool = False) -> tuple[str, ...]:
    """What a GPU costs where there are GPUs, else what a CPU costs; `whole`: everything that has a price."""
    if site is None:
        return ()
    prices = [f"{model} {price:.2f}" for model, price in sorted(site.prices.gpu_hour.items())]
    if site.prices.cpu_hour is not None and (whole or not prices):
        prices.append(f"CPU {site.prices.cpu_hour:.3g}")
    if site.prices.memory_gib_hour is not None and whole:
        prices.append(f"GiB of memory {site.prices.memory_gib_hour:.3g}")
    return tuple(prices)


def _groups(site: Site | None) -> Section:
    columns = (
        Column("GROUP", elastic=True),
        Column("NODES", right=True),
        Column("GPUS", elastic=True),
        Column("CPU", right=True),
        Column("MEMORY", right=True),
        Column("USED BY OTHERS", prose=True),
        Column("TAINTS", prose=True),
        Column("LABELS", prose=True),
    )
    rows = tuple(_group_row(group) for group in (site.groups if site is not None else ()))
    return Section("Nodes", table=Table(columns, rows) if rows else None, empty="it has not reported its capacity yet")


def _group_row(group: NodeGroup) -> tuple[Cell, ...]:
    gpus = ""
    if group.physical_gpus:
        gpus = f"{group.physical_gpus:g} × {group.gpus.model or 'GPU'}"
        gpus += f" ({_bytes(group.gpus.memory)})" if group.gpus.memory else ""
        gpus += f", {group.gpus.replicas} tasks each" if group.gpus.replicas > 1 else ""
    used = [
        f"{part.nodes} × {{"
        + ", ".join(
            [f"{readable(name, amount)} {name}" for name, amount in sorted(part.resources.items())]
            + ([f"{part.gpu / 1000:g} GPU"] if part.gpu else [])
        )
        + "}"
        for part in group.used
    ]
    return (
        group.name,
        group.count,
        gpus,
        f"{group.allocatable.get('cpu', 0) / 1000:g}",
        _bytes(group.allocatable.get("memory", 0)),
        ", ".join(used),
        ", ".join(f"{key}={value}:{effect}" if value else f"{key}:{effect}" for key, value, effect in group.taints),
        pairs(sorted(group.labels.items())),
    )


def _slices(state: State, name: str, now: float) -> Section:
    columns = (
        Column("JOB", elastic=True),
        Column("EPOCH", right=True),
        Column("TASKS", elastic=True),
        Column("STATE"),
        Column("RUNNING", right=True),
        Column("LEFT", right=True),
        Column("SINCE", right=True),
    )
    rows: list[tuple[Cell, ...]] = []
    for job in sorted(state.jobs.values(), key=lambda job: (job.seen.ref.namespace, job.seen.ref.name)):
        for attempt in job.entry.state.attempts if job.entry.state is not None else ():
            if attempt.cluster != name or not attempt.holds:
                continue
            left = len(attempt.open_tasks)
            where = f"{job.seen.ref.namespace}/{job.seen.ref.name}"
            since = age(attempt.started_at, now)
            rows.append((where, attempt.epoch, str(attempt.tasks), attempt.state, attempt.active, left, since))
    return Section("Slices here", table=Table(columns, tuple(rows)) if rows else None, empty="none of this hub's")

"""One cluster of a snapshot: what is known of it, what it reported, what is held on it. Immutable.

Each part has a version of its own, never used for anything else, by which columns notice what changed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hub.api import names
from hub.fleet.domains import slots_by_domain
from hub.fleet.facts import ClusterFacts
from hub.fleet.held import Held, Holding
from hub.fleet.nodes import NodeTable
from hub.fleet.room import NodeRoom
from hub.fleet.shape import TaskShape
from hub.fleet.site import Site

_versions = itertools.count(1)


def next_version() -> int:
    return next(_versions)


# Results kept with a cluster for so many shapes; a fleet of more starts again.
_KEPT = 512


class Cluster:
    """`facts` None: never seen as a ManagedCluster, so not part of the fleet, but its report and charges are kept.

    `site` and `held` None: has not reported its capacity; `unplaced` are its charges until it does. Never changed once
    made; a plain class because the next one is made at every charge and must cost nothing.
    """

    __slots__ = (
        "_digest", "_fits", "facts", "facts_problem", "facts_version", "held", "name", "object_version", "site",
        "site_problem", "site_version", "unplaced", "version",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.facts: ClusterFacts | None = None
        self.site: Site | None = None
        self.held: Held | None = None
        self.unplaced: Mapping[str, Holding] = {}
        self.facts_problem = ""
        self.site_problem = ""
        self.version = self.facts_version = self.object_version = self.site_version = next_version()
        # Results of everything above, never part of it.
        self._fits: dict[TaskShape, int] = {}
        self._digest = b""

    def _next(self) -> Cluster:
        """A copy for one of the methods below to finish."""
        new = Cluster.__new__(Cluster)
        new.name = self.name
        new.facts = self.facts
        new.site = self.site
        new.held = self.held
        new.unplaced = self.unplaced
        new.facts_problem = self.facts_problem
        new.site_problem = self.site_problem
        new.version = self.version
        new.facts_version = self.facts_version
        new.object_version = self.object_version
        new.site_version = self.site_version
        new._fits = self._fits
        new._digest = b""
        return new

    def _held_otherwise(self) -> Cluster:
        """As `_next`, for changes after which other shapes fit."""
        new = self._next()
        new.version = next_version()
        new._fits = {}
        return new

    @property
    def holdings(self) -> Mapping[str, Holding]:
        return self.unplaced if self.held is None else self.held.holdings

    @property
    def problem(self) -> str:
        facts, site = self.facts_problem, self.site_problem
        return f"{facts}; {site}" if facts and site else facts or site

    @property
    def empty(self) -> bool:
        """Whether nothing is left to remember."""
        return self.facts is None and self.site is None and not self.holdings and not self.problem

    def with_facts(self, facts: ClusterFacts | None, problem: str) -> Cluster:
        new = self._next()
        new.facts = facts
        new.facts_problem = problem
        version = new.object_version = next(_versions)
        if facts != self.facts:
            new.facts_version = version
        return new

    def with_facts_problem(self, problem: str) -> Cluster:
        """Its object could not be read at all: what was known stays."""
        new = self._next()
        new.facts_problem = problem
        return new

    def with_site(self, site: Site | None) -> Cluster:
        """What is held is placed anew when the nodes are other ones."""
        new = self._held_otherwise()
        new.site = site
        new.site_problem = ""
        new.site_version = new.version
        if site is None:
            new.unplaced = {key: Holding(holding.shape, holding.count) for key, holding in self.holdings.items()}
            new.held = None
        elif self.held is None or self.site is None or self.site.groups != site.groups:
            new.held = Held.on(NodeTable(site), self.holdings)
            new.unplaced = {}
        return new

    def with_site_problem(self, problem: str) -> Cluster:
        """Its report could not be read: the last good one stays."""
        new = self._next()
        new.site_problem = problem
        return new

    def with_charge(self, key: str, shape: TaskShape, count: int) -> Cluster:
        new = self._held_otherwise()
        if self.held is not None:
            new.held = self.held.charge(key, shape, count)
        else:
            new.unplaced = {**self.unplaced, key: Holding(shape, count)}
        return new

    def without_charge(self, key: str) -> Cluster:
        new = self._held_otherwise()
        if self.held is not None:
            new.held = self.held.release(key)
        else:
            new.unplaced = {other: holding for other, holding in self.unplaced.items() if other != key}
        return new

    def fit(self, shape: TaskShape) -> int:
        """How many more tasks of `shape` it can run now."""
        found = self._fits.get(shape)
        if found is None:
            if len(self._fits) >= _KEPT:
                self._fits.clear()
            found = self._fits[shape] = self._count(shape, empty=False)
        return found

    def capacity(self, shape: TaskShape) -> int:
        """How many it could run if nothing of this hub's ran there."""
        return self._count(shape, empty=True)

    def free(self, resource: str) -> float:
        """Over all nodes; NaN unknown."""
        if self.held is None:
            return math.nan
        if resource == names.GPU:
            return self.held.gpus_free()
        row = self.held.table.rows.get(resource)
        return 0.0 if row is None else float(np.maximum(self.held.free[row], 0).sum(dtype=np.float64))

    def unheld(self, resource: str) -> float:
        """What would be free over all nodes if nothing of this hub's ran there; NaN unknown."""
        if self.held is None:
            return math.nan
        empty = NodeRoom(self.held.table)
        if resource == names.GPU:
            return empty.gpus_free()
        row = self.held.table.rows.get(resource)
        return 0.0 if row is None else float(np.maximum(empty.free[row], 0).sum(dtype=np.float64))

    def free_of(self, resources: Sequence[str]) -> list[float]:
        """`free` of each, with one look at the nodes."""
        held = self.held
        if held is None:
            return [math.nan] * len(resources)
        rows = held.table.rows
        sums = np.maximum(held.free, 0).sum(axis=1, dtype=np.float64).tolist()
        return [
            held.gpus_free() if name == names.GPU else sums[rows[name]] if name in rows else 0.0 for name in resources
        ]

    def allocatable(self, resource: str) -> float:
        """Over all nodes; NaN unknown."""
        if self.site is None:
            return math.nan
        if resource == names.GPU:
            return float(sum(group.count * group.physical_gpus for group in self.site.groups))
        return float(sum(group.count * group.allocatable.get(resource, 0) for group in self.site.groups))

    def gpus_free(self, model: str) -> float:
        """Wholly free GPUs of `model`; NaN unknown."""
        if self.held is None:
            return math.nan
        table = self.held.table
        return float(
            sum(
                self.held.idle_gpus(start, group)
                for start, group in zip(table.starts, table.groups, strict=True)
                if model in group.models
            )
        )

    def digest(self, compute: Callable[[Cluster], bytes]) -> bytes:
        """`compute(self)`, once."""
        if not self._digest:
            self._digest = compute(self)
        return self._digest

    def _count(self, shape: TaskShape, *, empty: bool) -> int:
        if self.site is None or self.held is None or self.site.missing_image(shape.images):
            return 0
        table = self.held.table
        ask = table.ask(shape)
        if empty:
            slots = table.slots(ask, table.free, table.gpus, table.whole, ask.nodes)
        else:
            slots = self.held.slots(ask, ask.nodes)
        if shape.domain:
            return max(slots_by_domain(table.groups, table.starts, ask, slots, shape.domain).values(), default=0)
        return int(slots.sum())

    def domains(self, shape: TaskShape) -> Mapping[str, int]:
        """How many more tasks of `shape` each of its domains can run now, by the value of their label."""
        if not shape.domain or self.held is None or not self.fit(shape):
            return {}
        table = self.held.table
        ask = table.ask(shape)
        found = slots_by_domain(table.groups, table.starts, ask, self.held.slots(ask, ask.nodes), shape.domain)
        return {value: tasks for value, tasks in found.items() if tasks}


def counts(clusters: Sequence[Cluster], shape: TaskShape, *, empty: bool) -> list[int]:
    """`Cluster.fit` (`empty`: `capacity`) of each, at the price of little more than one: their nodes are counted as one
    long table."""
    found = [0] * len(clusters)
    together: dict[tuple[object, ...], list[tuple[int, Held]]] = {}
    for number, cluster in enumerate(clusters):
        held, site = cluster.held, cluster.site
        if held is None or site is None or not held.table.count or site.missing_image(shape.images):
            continue
        ask = held.table.ask(shape)
        if ask.nodes is not None or ask.impossible or ask.share or shape.domain:
            found[number] = cluster.capacity(shape) if empty else cluster.fit(shape)
        else:
            # Equal asks read equal rows, so the tables can stand side by side.
            together.setdefault((ask.needs, ask.gpus), []).append((number, held))
    for members in together.values():
        ask = members[0][1].table.ask(shape)
        sources: list[Held | NodeTable] = [held.table if empty else held for _, held in members]
        free = {row: np.concatenate([source.free[row] for source in sources]) for row, _ in ask.needs}
        whole = np.concatenate([source.whole for source in sources]) if ask.gpus else sources[0].whole
        sizes = [held.table.count for _, held in members]
        slots = NodeTable.slots_of(ask, free, whole, sum(sizes))
        starts = list(itertools.accumulate(sizes[:-1], initial=0))
        for (number, _), count in zip(members, np.add.reduceat(slots, starts).tolist(), strict=True):
            found[number] = count
    return found

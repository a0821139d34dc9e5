"""One cluster of a snapshot: what is known of it, what it reported, what is held on it. Immutable.

Each part has a version of its own, never used for anything else, by which columns notice what changed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hub.api import names
from hub.fleet.facts import ClusterFacts
from hub.fleet.held import Held, Holding
from hub.fleet.nodes import WHOLE_GPU, NodeTable
from hub.fleet.shape import TaskShape
from hub.fleet.site import Site

_versions = itertools.count(1)


def next_version() -> int:
    return next(_versions)


@dataclass(frozen=True, slots=True, eq=False)
class Cluster:
    """`facts` None: never seen as a ManagedCluster, so not part of the fleet, but its report and charges are kept.

    `site` and `held` None: has not reported its capacity; `unplaced` are its charges until it does.
    """

    name: str
    facts: ClusterFacts | None = None
    site: Site | None = None
    held: Held | None = None
    unplaced: Mapping[str, Holding] = field(default_factory=dict)
    facts_problem: str = ""
    site_problem: str = ""
    version: int = 0
    facts_version: int = 0
    object_version: int = 0
    site_version: int = 0
    # Fits already computed; a result of everything above, never part of it.
    fits: dict[TaskShape, int] = field(default_factory=dict, repr=False)
    digest: list[bytes] = field(default_factory=list, repr=False)

    @property
    def holdings(self) -> Mapping[str, Holding]:
        return self.unplaced if self.held is None else self.held.holdings

    @property
    def problem(self) -> str:
        return "; ".join(part for part in (self.facts_problem, self.site_problem) if part)

    @property
    def empty(self) -> bool:
        """Whether nothing is left to remember."""
        return self.facts is None and self.site is None and not self.holdings and not self.problem

    def _next(self, **changes: Any) -> Cluster:
        return replace(self, **changes, digest=[])

    def with_facts(self, facts: ClusterFacts | None, problem: str) -> Cluster:
        same = facts == self.facts
        version = next_version()
        return self._next(
            facts=facts,
            facts_problem=problem,
            facts_version=self.facts_version if same else version,
            object_version=version,
        )

    def with_site(self, site: Site | None) -> Cluster:
        """What is held is placed anew when the nodes are other ones."""
        version = next_version()
        if site is None:
            return self._next(
                site=None, held=None, unplaced=_without_nodes(self.holdings), site_problem="", version=version,
                site_version=version, fits={},
            )  # fmt: skip
        held = self.held
        if held is None or self.site is None or self.site.groups != site.groups:
            held = Held.on(NodeTable(site), self.holdings)
        return self._next(
            site=site, held=held, unplaced={}, site_problem="", version=version, site_version=version, fits={}
        )

    def with_site_problem(self, problem: str) -> Cluster:
        """Its report could not be read: the last good one stays."""
        return self._next(site_problem=problem)

    def with_charge(self, key: str, shape: TaskShape, count: int) -> Cluster:
        if self.held is not None:
            return self._next(held=self.held.charge(key, shape, count), version=next_version(), fits={})
        unplaced = dict(self.unplaced)
        unplaced[key] = Holding(shape, count)
        return self._next(unplaced=unplaced, version=next_version(), fits={})

    def without_charge(self, key: str) -> Cluster:
        if self.held is not None:
            return self._next(held=self.held.release(key), version=next_version(), fits={})
        unplaced = {other: holding for other, holding in self.unplaced.items() if other != key}
        return self._next(unplaced=unplaced, version=next_version(), fits={})

    def fit(self, shape: TaskShape) -> int:
        """How many more tasks of `shape` it can run now."""
        found = self.fits.get(shape)
        if found is None:
            found = self.fits[shape] = self._count(shape, empty=False)
        return found

    def capacity(self, shape: TaskShape) -> int:
        """How many it could run if nothing of this hub's ran there."""
        return self._count(shape, empty=True)

    def free(self, resource: str) -> float:
        """Over all nodes; NaN unknown."""
        if self.held is None:
            return math.nan
        if resource == names.GPU:
            return float(self.held.gpus_total.sum()) / WHOLE_GPU
        row = self.held.table.rows.get(resource)
        return 0.0 if row is None else float(np.maximum(self.held.free[row], 0).sum(dtype=np.float64))

    def allocatable(self, resource: str) -> float:
        """Over all nodes; NaN unknown."""
        if self.site is None:
            return math.nan
        if resource == names.GPU:
            return float(sum(group.count * group.gpus.count for group in self.site.groups))
        return float(sum(group.count * group.allocatable.get(resource, 0) for group in self.site.groups))

    def gpus_free(self, model: str) -> float:
        """Wholly free GPUs of `model`; NaN unknown."""
        if self.held is None:
            return math.nan
        table = self.held.table
        return float(
            sum(
                int(self.held.whole[start : start + group.count].sum())
                for start, group in zip(table.starts, table.groups, strict=True)
                if model in group.models
            )
        )

    def _count(self, shape: TaskShape, *, empty: bool) -> int:
        if self.site is None or self.held is None or self.site.missing_image(shape.images):
            return 0
        table = self.held.table
        nodes = table.eligible(shape)
        if empty:
            return int(table.slots(shape, table.free, table.gpus, table.whole, nodes).sum())
        return int(self.held.slots(shape, nodes).sum())


def _without_nodes(holdings: Mapping[str, Holding]) -> dict[str, Holding]:
    return {key: Holding(holding.shape, holding.count) for key, holding in holdings.items()}

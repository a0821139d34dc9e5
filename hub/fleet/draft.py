"""The next fleet while it is being made: each change folded into copies of what it touches, all else shared.

Lives for one `Fleet.apply` and is the only place that turns a change into clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from hub.api.errors import InvalidObjectError
from hub.fleet.changes import (
    CapacityGone,
    CapacitySeen,
    Charge,
    ClusterGone,
    ClusterSeen,
    FleetChange,
    Release,
    ScoresGone,
    ScoresSeen,
)
from hub.fleet.cluster import Cluster
from hub.fleet.facts import cluster_name, read_cluster
from hub.fleet.keys import KeyMap
from hub.fleet.roster import Roster
from hub.fleet.scores import ScoreColumn
from hub.fleet.site import read_site

_UNNAMED = "(unnamed)"


class Draft:
    """`touched`: the clusters that differ, by position. `moved`: clusters came or went, so positions have changed."""

    __slots__ = (
        "_came", "_clusters", "_index", "_went", "changed", "hidden", "keys", "moved", "problems", "scores", "touched",
    )  # fmt: skip

    def __init__(
        self,
        clusters: Roster,
        hidden: Mapping[str, Cluster],
        index: Mapping[str, int],
        keys: KeyMap,
        scores: Mapping[str, ScoreColumn],
        problems: Mapping[str, str],
    ) -> None:
        self.hidden = hidden
        self.keys = keys
        self.scores = scores
        self.problems = problems
        self.touched: dict[int, Cluster] = {}
        self.moved = False
        self.changed = False
        self._clusters = clusters
        self._index = index
        self._came: dict[str, Cluster] = {}
        self._went: set[int] = set()

    def apply(self, change: FleetChange) -> None:
        if isinstance(change, Charge):
            self._charge(change)
        elif isinstance(change, Release):
            self._release(change.key)
        elif isinstance(change, ClusterSeen):
            self._cluster_seen(change)
        elif isinstance(change, CapacitySeen):
            self._capacity_seen(change)
        elif isinstance(change, ScoresSeen):
            self.scores = {**self.scores, change.source: ScoreColumn(change.values, change.valid_until, change.until)}
            self.changed = True
        elif isinstance(change, ScoresGone):
            if change.source in self.scores:
                self.scores = {source: column for source, column in self.scores.items() if source != change.source}
                self.changed = True
        elif isinstance(change, ClusterGone):
            now = self._get(change.name)
            if now is not None and (now.facts is not None or now.facts_problem):
                self._put(now.with_facts(None, ""))
        elif isinstance(change, CapacityGone):
            now = self._get(change.name)
            if now is not None and (now.site is not None or now.site_problem):
                self._put(now.with_site(None))
        else:
            assert_never(change)

    def visible(self) -> list[Cluster]:
        """The clusters of the fleet in name order."""
        touched = self.touched
        found = [touched.get(at, cluster) for at, cluster in enumerate(self._clusters) if at not in self._went]
        found.extend(self._came.values())
        found.sort(key=lambda cluster: cluster.name)
        return found

    def _get(self, name: str) -> Cluster | None:
        position = self._index.get(name)
        if position is not None and position not in self._went:
            return self.touched.get(position) or self._clusters[position]
        return self._came.get(name) or self.hidden.get(name)

    def _put(self, cluster: Cluster) -> None:
        name = cluster.name
        self.changed = True
        position = self._index.get(name)
        listed = position is not None and position not in self._went
        if listed and cluster.facts is not None:
            assert position is not None
            self.touched[position] = cluster
        else:
            self._move(cluster, position if listed else None)
        problem = cluster.problem
        if (problem or self.problems) and self.problems.get(name, "") != problem:
            others = {other: text for other, text in self.problems.items() if other != name}
            self.problems = {**others, name: problem} if problem else others

    def _move(self, cluster: Cluster, position: int | None) -> None:
        """`cluster` joins or leaves those that are listed, or stays outside."""
        name = cluster.name
        if position is not None:
            self._went.add(position)
            self.moved = True
        self.moved = self.moved or name in self._came or cluster.facts is not None
        self._came.pop(name, None)
        if name in self.hidden or (cluster.facts is None and not cluster.empty):
            self.hidden = {other: known for other, known in self.hidden.items() if other != name}
        if cluster.facts is not None:
            self._came[name] = cluster
        elif not cluster.empty:
            self.hidden = {**self.hidden, name: cluster}

    def _charge(self, change: Charge) -> None:
        holder = self.keys.get(change.key)
        if change.count <= 0:
            self._release(change.key)
            return
        if holder is not None and holder != change.cluster:
            self._release(change.key)
            holder = None
        now = self._get(change.cluster) or Cluster(change.cluster)
        if holder is not None:
            held = now.holdings[change.key]
            if held.count == change.count and held.shape == change.shape:
                return
        else:
            self.keys = self.keys.plus(change.key, change.cluster)
        self._put(now.with_charge(change.key, change.shape, change.count))

    def _release(self, key: str) -> None:
        holder = self.keys.get(key)
        if holder is None:
            return
        now = self._get(holder)
        assert now is not None, "a cluster with charges is remembered"
        self.keys = self.keys.minus(key)
        self._put(now.without_charge(key))

    def _cluster_seen(self, change: ClusterSeen) -> None:
        name = cluster_name(change.cluster)
        now = self._get(name) or Cluster(name or _UNNAMED)
        try:
            if not name:
                raise InvalidObjectError("a ManagedCluster needs a name", field="metadata.name")
            facts, problem = read_cluster(change.cluster, now.facts, name)
        except InvalidObjectError as error:
            self._put(now.with_facts_problem(f"ManagedCluster: {error}"))
            return
        self._put(now.with_facts(facts, f"ManagedCluster: {problem}" if problem else ""))

    def _capacity_seen(self, change: CapacitySeen) -> None:
        name = cluster_name(change.capacity)
        now = self._get(name) or Cluster(name or _UNNAMED)
        try:
            if not name:
                raise InvalidObjectError("a ClusterCapacity needs its cluster's name", field="metadata.name")
            site = read_site(change.capacity)
        except InvalidObjectError as error:
            self._put(now.with_site_problem(f"ClusterCapacity: {error}"))
            return
        if site == now.site and not now.site_problem:
            return
        self._put(now.with_site(site))

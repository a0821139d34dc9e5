"""The fleet at one moment: every cluster, what is free on it, what is held on it. What every decision reads.

A `Fleet` never changes. `apply` gives the next one and shares with this one all that stayed, so that a decision can
charge what it decided and go on with the result, and throw it away again. Vectors are in the order of `names`, and
read-only. What it does not hold: why a cluster may not be used for a job (hub/placement), quotas, jobs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hub.fleet.changes import FleetChange
from hub.fleet.cluster import Cluster, counts
from hub.fleet.columns import ColumnCache
from hub.fleet.draft import Draft
from hub.fleet.facts import ClusterFacts
from hub.fleet.held import Held, Holding
from hub.fleet.keys import KeyMap
from hub.fleet.roster import Roster
from hub.fleet.scores import ScoreColumn
from hub.fleet.shape import TaskShape
from hub.fleet.site import Site
from hub.fleet.verdict import FitVerdict, explain_cluster
from hub.fleet.versions import Versions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Fleet:
    """Made by `Fleet.empty().apply(…)`; safe to read from several threads."""

    __slots__ = (
        "_cache", "_clusters", "_digest", "_hidden", "_index", "_keys", "_scores", "_versions", "names", "problems",
    )  # fmt: skip

    names: tuple[str, ...]
    problems: Mapping[str, str]
    _cache: ColumnCache
    _clusters: Roster
    # Known by a report or by charges, but not (or no longer) as ManagedClusters.
    _hidden: Mapping[str, Cluster]
    _index: Mapping[str, int]
    _keys: KeyMap
    _scores: Mapping[str, ScoreColumn]
    _digest: str
    _versions: Versions

    @staticmethod
    def empty() -> Fleet:
        fleet = Fleet.__new__(Fleet)
        fleet.names = ()
        fleet.problems = {}
        fleet._cache = ColumnCache()
        fleet._clusters = Roster()
        fleet._hidden = {}
        fleet._index = {}
        fleet._keys = KeyMap()
        fleet._scores = {}
        fleet._digest = ""
        fleet._versions = Versions.of(())
        return fleet

    def apply(self, changes: Iterable[FleetChange]) -> Fleet:
        """The fleet after `changes`, one after the other. An object that cannot be read changes only `problems`."""
        draft = Draft(self._clusters, self._hidden, self._index, self._keys, self._scores, self.problems)
        for change in changes:
            draft.apply(change)
        if not draft.changed:
            return self
        fleet = Fleet.__new__(Fleet)
        fleet._cache = self._cache
        fleet._keys = draft.keys
        fleet._scores = draft.scores
        fleet._digest = ""
        fleet.problems = draft.problems
        fleet._hidden = draft.hidden
        if draft.moved:
            clusters = draft.visible()
            fleet._clusters = Roster(clusters)
            fleet.names = tuple(cluster.name for cluster in clusters)
            fleet._index = {name: position for position, name in enumerate(fleet.names)}
            fleet._versions = Versions.of(clusters)
            return fleet
        fleet.names = self.names
        fleet._index = self._index
        touched = draft.touched
        fleet._clusters = self._clusters.with_changed(touched) if touched else self._clusters
        fleet._versions = self._versions.after(touched, self._clusters) if touched else self._versions
        return fleet

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def position(self, name: str) -> int:
        """Where `name` is in every vector. Raises KeyError for a cluster that is not in the fleet."""
        return self._index[name]

    def facts(self, name: str) -> ClusterFacts:
        """Labels, claims, taints … of one cluster. Raises KeyError for a cluster that is not in the fleet."""
        facts = self._clusters[self._index[name]].facts
        assert facts is not None, "only seen clusters have a position"
        return facts

    def site(self, name: str) -> Site | None:
        """What the cluster reported of itself: node groups, images, prices; None: nothing yet."""
        return self._clusters[self._index[name]].site

    # What fits.

    def fit(self, shape: TaskShape) -> Ints:
        """How many tasks of `shape` each cluster can take more, now, with everything that is held on it."""
        clusters = self._clusters
        return self._cache.get(
            ("fit", shape),
            self.names,
            self._versions.fits,
            lambda at: clusters[at].fit(shape),
            np.int64,
            lambda places: counts([clusters[at] for at in places], shape, empty=False),
        )

    def capacity(self, shape: TaskShape) -> Ints:
        """How many tasks of `shape` each cluster could run if nothing of this hub's ran there."""
        clusters = self._clusters
        return self._cache.get(
            ("capacity", shape),
            self.names,
            self._versions.sites,
            lambda at: clusters[at].capacity(shape),
            np.int64,
            lambda places: counts([clusters[at] for at in places], shape, empty=True),
        )

    def domains(self, cluster: str, shape: TaskShape) -> Mapping[str, int]:
        """Where `shape` asks for one domain: how many tasks more each of a cluster's takes, by its label's value.

        Raises KeyError for a cluster that is not in the fleet.
        """
        return self._clusters[self._index[cluster]].domains(shape)

    def explain_fit(self, cluster: str, shape: TaskShape) -> FitVerdict:
        """Why so many or none, per node group. Raises KeyError for a cluster that is not in the fleet."""
        return explain_cluster(self._clusters[self._index[cluster]], shape)

    # What is held.

    def holder(self, key: str) -> str | None:
        """The cluster on which `key` is charged."""
        return self._keys.get(key)

    def held(self, cluster: str) -> Mapping[str, Holding]:
        """The charges on `cluster` by key, waiting ones included."""
        position = self._index.get(cluster)
        found = self._hidden.get(cluster) if position is None else self._clusters[position]
        return {} if found is None else found.holdings

    def held_otherwise(self, other: Fleet) -> list[str]:
        """The clusters, of this fleet or of the other, on which other charges may be held; in name order."""
        if self.names is other.names:
            return [self.names[at] for at in np.flatnonzero(self._versions.fits != other._versions.fits).tolist()]
        known = dict(zip(other.names, other._versions.fits.tolist(), strict=True))
        own = zip(self.names, self._versions.fits.tolist(), strict=True)
        differ = [name for name, version in own if known.pop(name, None) != version]
        return sorted([*differ, *known])

    @property
    def charges(self) -> Mapping[str, str]:
        """The cluster of every charge, by key."""
        return self._keys

    # Columns.

    @property
    def accepted(self) -> Flags:
        return self.facts_column("accepted", lambda facts: facts.accepted, np.bool_)

    @property
    def available(self) -> Flags:
        """Where condition ManagedClusterConditionAvailable is True; Unknown and absent are not."""
        return self.facts_column("available", lambda facts: facts.available, np.bool_)

    @property
    def reported(self) -> Flags:
        """Which clusters have reported a capacity."""
        return self.site_column("reported", lambda site: site is not None, np.bool_)

    @property
    def simulated(self) -> Flags:
        return self.site_column("simulated", lambda site: site is not None and site.simulated, np.bool_)

    def free(self, resource: str) -> Floats:
        """What is free of `resource` over all nodes, in `amount_of` units (GPUs: whole and parts of them, summed);
        NaN where nothing is reported."""
        clusters = self._clusters
        return self._cache.get(
            ("free", resource), self.names, self._versions.fits, lambda at: clusters[at].free(resource), np.float64
        )

    def unheld(self, resource: str) -> Floats:
        """What would be free of `resource` if nothing of this hub's ran; in the units of `free`, NaN alike."""
        clusters = self._clusters
        return self._cache.get(
            ("unheld", resource), self.names, self._versions.sites, lambda at: clusters[at].unheld(resource), np.float64
        )

    def free_of(self, resources: tuple[str, ...]) -> Floats:
        """`free` of each of `resources`, a column each: one look where several are asked together."""
        clusters = self._clusters
        return self._cache.get(
            ("free of", resources), self.names, self._versions.fits,
            lambda at: clusters[at].free_of(resources),
            np.dtype((np.float64, (len(resources),))),
        )  # fmt: skip

    def allocatable_of(self, resources: tuple[str, ...]) -> Floats:
        """`allocatable` of each of `resources`, a column each."""
        clusters = self._clusters
        return self._cache.get(
            ("allocatable of", resources), self.names, self._versions.sites,
            lambda at: [clusters[at].allocatable(resource) for resource in resources],
            np.dtype((np.float64, (len(resources),))),
        )  # fmt: skip

    def allocatable(self, resource: str) -> Floats:
        """What the nodes offer of `resource` in all, in the same units; NaN where nothing is reported."""
        clusters = self._clusters
        return self._cache.get(
            ("allocatable", resource), self.names, self._versions.sites,
            lambda at: clusters[at].allocatable(resource), np.float64,
        )  # fmt: skip

    def gpus_free(self, model: str) -> Floats:
        """Wholly free GPUs of `model`; NaN where nothing is reported."""
        clusters = self._clusters
        return self._cache.get(
            ("gpus", model), self.names, self._versions.fits, lambda at: clusters[at].gpus_free(model), np.float64
        )

    def scores(self, source: str, now: float, grace: float = 0.0) -> Floats:
        """The last values of a score source; NaN where there is none, and once they are too old.

        With `grace` a value counts so many seconds longer than it says itself.
        """
        column = self._scores.get(source)
        if column is None:
            return np.full(len(self.names), np.nan)
        return column.at(self.names, now, grace)

    def scores_end(self, source: str, now: float, grace: float = 0.0) -> float:
        """When after `now` (epoch seconds) the next value of the source stops to count; inf: never."""
        column = self._scores.get(source)
        return math.inf if column is None else column.next_end(self.names, now, grace)

    def score_ends(self, source: str) -> Mapping[str, float]:
        """Until when (epoch seconds) single values of the source count that end before the source's others."""
        column = self._scores.get(source)
        return {} if column is None else column.until

    def scores_under(self, prefix: str, cluster: str) -> Mapping[str, float] | None:
        """The last values of one cluster from all sources of that prefix, by the rest of their names, however old;
        None where there is none."""
        found = {
            source[len(prefix) :]: column.values[cluster]
            for source, column in self._scores.items()
            if source.startswith(prefix) and cluster in column.values
        }
        return found or None

    @property
    def score_sources(self) -> Mapping[str, float]:
        """Until when (epoch seconds) the values of each source count."""
        return {source: self._scores[source].valid_until for source in sorted(self._scores)}

    def facts_column(self, key: Hashable, of: Callable[[ClusterFacts], Any], dtype: DTypeLike) -> NDArray[Any]:
        """Any value of each cluster's facts, computed again only for clusters whose facts changed.

        `key` must tell `of` from every other function used with this method; `of` must not read `facts.object`.
        """
        clusters = self._clusters
        return self._cache.get(
            ("facts", key), self.names, self._versions.facts, lambda at: of(_facts(clusters[at])), dtype
        )

    def object_column(self, key: Hashable, of: Callable[[ClusterFacts], Any], dtype: DTypeLike) -> NDArray[Any]:
        """As `facts_column` for functions that read the whole ManagedCluster: computed again at each of its events."""
        clusters = self._clusters
        return self._cache.get(
            ("object", key), self.names, self._versions.objects, lambda at: of(_facts(clusters[at])), dtype
        )

    def derived(self, key: Hashable, columns: tuple[NDArray[Any], ...], of: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """What `of` makes of columns of this fleet, again only when one of them is another one. `key` as elsewhere."""
        return self._cache.derived(key, columns, of)

    def scored_column(self, key: Hashable, of: Callable[[ClusterFacts], Any], dtype: DTypeLike) -> NDArray[Any]:
        """As `object_column` for functions that also read scores: computed again when any score is new."""
        latest = max((column.version for column in self._scores.values()), default=0)
        clusters = self._clusters
        # Both are counted one by one; the mask keeps a process of many months from running over.
        versions = self._versions.objects + ((latest << 8 | len(self._scores) & 0xFF) << 31 & (1 << 62) - 1)
        return self._cache.get(("scored", key), self.names, versions, lambda at: of(_facts(clusters[at])), dtype)

    def site_column(self, key: Hashable, of: Callable[[Site | None], Any], dtype: DTypeLike) -> NDArray[Any]:
        """As `facts_column` for what the cluster reported of itself."""
        clusters = self._clusters
        return self._cache.get(("site", key), self.names, self._versions.sites, lambda at: of(clusters[at].site), dtype)

    def same_ground(self, other: Fleet) -> bool:
        """Whether no ManagedCluster and no score differs: what rules and scores of clusters read. What is held on them,
        and what they report of their nodes, may."""
        return (
            self.names is other.names
            and self._versions.facts is other._versions.facts
            and self._versions.objects is other._versions.objects
            and self._scores is other._scores
        )

    def same_facts(self, other: Fleet) -> bool:
        """Whether no label, claim, taint, acceptance or availability of a cluster differs."""
        return self.names is other.names and self._versions.facts is other._versions.facts

    def same_sites(self, other: Fleet) -> bool:
        """Whether no cluster reports other nodes, images or prices."""
        return self.names is other.names and self._versions.sites is other._versions.sites

    def held_column(self, key: Hashable, of: Callable[[Held | None], Any], dtype: DTypeLike) -> NDArray[Any]:
        """As `facts_column` for what is held on each cluster's nodes; None: it has not reported them.

        `of` must not change what it is given.
        """
        clusters = self._clusters
        return self._cache.get(("held", key), self.names, self._versions.fits, lambda at: of(clusters[at].held), dtype)

    @property
    def digest(self) -> str:
        """A hash of everything a decision could read, equal for equal content however it was reached."""
        if not self._digest:
            from hub.fleet.digest import fleet_digest

            self._digest = fleet_digest([*self._clusters, *self._hidden.values()], self._scores)
        return self._digest


def _facts(cluster: Cluster) -> ClusterFacts:
    assert cluster.facts is not None, "only seen clusters have a position"
    return cluster.facts

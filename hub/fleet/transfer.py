"""A fleet in another process: all of it once, then only what differs from the one before.

For the hub's own helpers, one way: what is packed is read with pickle, so it must come from a process that is trusted,
and nothing that a helper answers is ever read like this. What is held on which node travels as it is; the tables of
nodes are made anew from the reports, once each.
"""

from __future__ import annotations

import io
import itertools
import pickle
from typing import Any

from hub.fleet import cluster as cluster_module
from hub.fleet.cluster import Cluster
from hub.fleet.columns import ColumnCache
from hub.fleet.facts import ClusterFacts
from hub.fleet.fleet import Fleet
from hub.fleet.keys import KeyMap
from hub.fleet.nodes import NodeTable
from hub.fleet.roster import Roster
from hub.fleet.site import Site
from hub.fleet.versions import Versions

# Results, never facts: made anew where they are asked for.
_LEFT_OUT = ("_fits", "_digest")
_SLOTS = tuple(name for name in Cluster.__slots__ if name not in _LEFT_OUT)
_FROM = 1 << 61


class Sender:
    """For one receiver that takes everything that is packed, in order."""

    def __init__(self) -> None:
        self._at: Fleet | None = None
        # By identity: a number, and the object itself, so that no other one gets its identity.
        self._known: dict[int, tuple[int, Any]] = {}
        self._numbers = itertools.count()

    def pack(self, fleet: Fleet) -> bytes:
        """What makes the receiver's fleet this one; empty: it is already."""
        last = self._at
        if last is fleet:
            return b""
        if len(self._known) > 8 * len(fleet) + 256:
            # Most of it belongs to clusters as they were once.
            self.__init__()  # type: ignore[misc]
            last = None
        before = {} if last is None else {id(cluster) for cluster in last._clusters}
        changed = [cluster for cluster in fleet._clusters if id(cluster) not in before]
        parts: list[tuple[int, str, Any]] = []
        for cluster in changed:
            for kind, part in (("facts", cluster.facts), ("site", cluster.site)):
                self._add(parts, kind, part, part)
            if cluster.held is not None:
                self._add(parts, "table", cluster.held.table, cluster.site)
        scores = {
            name: column
            for name, column in fleet._scores.items()
            if last is None or last._scores.get(name) is not column
        }
        head = (
            last is None,
            fleet.names if last is None or last.names is not fleet.names else None,
            parts,
            {name: (column.values, column.valid_until, column.until) for name, column in scores.items()},
            tuple(fleet._scores),
            dict(fleet.problems),
        )
        out = io.BytesIO()
        out.write(pickle.dumps(head, pickle.HIGHEST_PROTOCOL))
        pickler = _Pickler(out, self._known)
        pickler.dump([tuple(getattr(cluster, name) for name in _SLOTS) for cluster in changed])
        self._at = fleet
        return out.getvalue()

    def _add(self, parts: list[tuple[int, str, Any]], kind: str, part: Any, made_of: Any) -> None:
        if part is not None and id(part) not in self._known:
            number = next(self._numbers)
            self._known[id(part)] = (number, part)
            parts.append((number, kind, made_of))


class Receiver:
    """`take` what a `Sender` packed; only from a process that is trusted."""

    def __init__(self) -> None:
        # Fleets that somebody makes here of this one must not have versions of the sender's.
        cluster_module._versions = itertools.count(_FROM)
        self._parts: dict[int, Any] = {}
        self._fleet = Fleet.empty()
        self._cache = ColumnCache()

    def take(self, data: bytes) -> Fleet:
        source = io.BytesIO(data)
        anew, names, parts, scores, sources, problems = pickle.load(source)
        if anew:
            self._parts, self._fleet, self._cache = {}, Fleet.empty(), ColumnCache()
        for number, kind, made_of in parts:
            self._parts[number] = NodeTable(made_of) if kind == "table" else made_of
        unpickler = _Unpickler(source, self._parts)
        known = {cluster.name: cluster for cluster in self._fleet._clusters}
        keys = self._fleet._keys
        for state in unpickler.load():
            cluster = _cluster(state)
            before = known.get(cluster.name)
            keys = _moved(keys, before, cluster)
            known[cluster.name] = cluster
        named = names if names is not None else self._fleet.names
        for gone in known.keys() - set(named):
            keys = _moved(keys, known[gone], None)
        self._fleet = self._next(named, [known[name] for name in named], keys, scores, sources, problems)
        return self._fleet

    def _next(
        self, names: Any, clusters: list[Cluster], keys: KeyMap, scores: Any, sources: Any, problems: Any
    ) -> Fleet:
        from hub.fleet.scores import ScoreColumn

        last, fleet = self._fleet, Fleet.__new__(Fleet)
        fleet.names = names
        fleet.problems = problems
        fleet._cache = self._cache
        fleet._clusters = Roster(clusters)
        fleet._hidden = {}
        fleet._index = {name: position for position, name in enumerate(names)}
        fleet._keys = keys
        new = {name: ScoreColumn(*column) for name, column in scores.items()}
        fleet._scores = {name: new[name] if name in new else last._scores[name] for name in sources}
        fleet._digest = ""
        fleet._versions = Versions.of(clusters)
        return fleet


def _cluster(state: tuple[Any, ...]) -> Cluster:
    made = Cluster.__new__(Cluster)
    for name, value in zip(_SLOTS, state, strict=True):
        setattr(made, name, value)
    made._fits = {}
    made._digest = b""
    return made


def _moved(keys: KeyMap, before: Cluster | None, after: Cluster | None) -> KeyMap:
    held = {} if before is None else before.holdings
    now = {} if after is None else after.holdings
    for key in held.keys() - now.keys():
        # It may be on another cluster already.
        if before is not None and keys.get(key) == before.name:
            keys = keys.minus(key)
    for key in now.keys() - held.keys():
        assert after is not None
        keys = keys.plus(key, after.name)
    return keys


class _Pickler(pickle.Pickler):
    def __init__(self, out: io.BytesIO, known: dict[int, tuple[int, Any]]) -> None:
        super().__init__(out, pickle.HIGHEST_PROTOCOL)
        self._known = known

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, ClusterFacts | Site | NodeTable):
            return None
        found = self._known.get(id(obj))
        return found[0] if found is not None else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, source: io.BytesIO, parts: dict[int, Any]) -> None:
        super().__init__(source)
        self._parts = parts

    def persistent_load(self, number: int) -> Any:
        return self._parts[number]

"""A hash of a fleet's content: two fleets with the same digest give the same decisions.

Over what was read, not over how it is kept: versions, caches and the order of arrival do not count; which node each
held task took does, because it decides what fits next.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

from hub.fleet.cluster import Cluster
from hub.fleet.held import Holding
from hub.fleet.scores import ScoreColumn

# Moves at every write without saying anything new.
_NOISE = ("resourceVersion", "managedFields", "generation")


def fleet_digest(clusters: Iterable[Cluster], scores: Mapping[str, ScoreColumn]) -> str:
    total = blake2b(digest_size=16)
    for cluster in sorted(clusters, key=lambda cluster: cluster.name):
        total.update(cluster.digest(_cluster))
    for source in sorted(scores):
        column = scores[source]
        said = (source, column.valid_until, sorted(column.values.items()), sorted(column.until.items()))
        total.update(repr(said).encode())
    return total.hexdigest()


def _cluster(cluster: Cluster) -> bytes:
    part = blake2b(digest_size=16)
    facts = cluster.facts
    if facts is not None:
        metadata = facts.object.get("metadata")
        seen = {**facts.object, "metadata": {k: v for k, v in (metadata or {}).items() if k not in _NOISE}}
        part.update(_text(seen))
        part.update(repr((sorted(facts.totals.items()), sorted(facts.size.items()))).encode())
    part.update(repr((cluster.name, cluster.problem, cluster.site)).encode())
    for key in sorted(cluster.holdings):
        part.update(_holding(key, cluster.holdings[key]))
    return part.digest()


def _holding(key: str, holding: Holding) -> bytes:
    return repr((key, holding.shape, holding.count, holding.nodes.tolist(), holding.gpus.tolist())).encode()


def _text(seen: Mapping[str, Any]) -> bytes:
    return json.dumps(seen, sort_keys=True, default=repr).encode()

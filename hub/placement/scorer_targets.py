"""Which clusters a DynamicScorer is about, where their data comes from, and how its values order clusters.

Here and not in hub/scoring, because it is label selectors. Its values are columns of the fleet, under `column_name`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from hub.api.errors import InvalidObjectError
from hub.asking.question import CLUSTER, Question, SecretKey, SourceQuestion
from hub.fleet.amounts import entries, mapping
from hub.fleet.fleet import Fleet
from hub.placement.rule import Requirement
from hub.placement.selectors import matches, parse_label_selector
from hub.scoring.dynamic.plan import ScorerPlan
from hub.scoring.dynamic.spec import is_address, read_path, read_token, text
from hub.scoring.interface import ScoreRequest
from hub.scoring.normalise import Normaliser

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


DYNAMIC: Final = "Dynamic/"
"""What the names of dynamic scores begin with; no ScoreSource can be called so."""


def column_name(score: str) -> str:
    """What weights, explanations and metrics call a dynamic score."""
    return f"{DYNAMIC}{score}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Instead of what the scorer says; empty: nothing instead."""

    host: str = ""
    path: str = ""
    token: SecretKey | None = None


@dataclass(frozen=True, slots=True)
class Override:
    patterns: tuple[str, ...]
    labels: tuple[Requirement, ...]
    source: Endpoint
    scoring: Endpoint

    def concerns(self, cluster: str, labels: Mapping[str, str]) -> bool:
        if self.patterns and not any(fnmatchcase(cluster, pattern) for pattern in self.patterns):
            return False
        return matches(self.labels, labels)


@dataclass(frozen=True, slots=True)
class ScorerTargets:
    """All of it must hold for a cluster to be scored. `placement`: the name of one in the scorer's namespace."""

    labels: tuple[Requirement, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    placement: str = ""
    overrides: tuple[Override, ...] = ()

    def concerns(self, cluster: str, labels: Mapping[str, str]) -> bool:
        """Whether it is scored, but for the Placement."""
        if any(fnmatchcase(cluster, pattern) for pattern in self.deny):
            return False
        if self.allow and not any(fnmatchcase(cluster, pattern) for pattern in self.allow):
            return False
        return matches(self.labels, labels)


@dataclass(frozen=True, slots=True)
class Route:
    """Whom to ask about one cluster. `own`: its data is asked for alone; otherwise one answer has all clusters'."""

    source: str
    source_token: SecretKey | None
    scoring: str
    token: SecretKey | None
    own: bool


def parse_targets(spec: Any) -> ScorerTargets:
    """Of a ScorerPolicy's spec. Raises `InvalidObjectError` by field."""
    spec = mapping(spec, "spec")
    clusters = mapping(spec.get("clusters"), "spec.clusters")
    overrides = []
    for position, entry in enumerate(entries(spec.get("overrides"), "spec.overrides")):
        field = f"spec.overrides[{position}]"
        patterns = _patterns(entry, "clusters", field)
        labels = parse_label_selector(entry.get("clusterSelector"), f"{field}.clusterSelector")
        if not patterns and not labels:
            raise InvalidObjectError("say for which: clusters or clusterSelector", field=field)
        overrides.append(
            Override(patterns, labels, _endpoint(entry, "source", field), _endpoint(entry, "scoring", field))
        )
    return ScorerTargets(
        parse_label_selector(spec.get("clusterSelector"), "spec.clusterSelector"),
        _patterns(clusters, "allow", "spec.clusters"),
        _patterns(clusters, "deny", "spec.clusters"),
        text(mapping(spec.get("placementRef"), "spec.placementRef"), "name", "spec.placementRef"),
        tuple(overrides),
    )


def route(plan: ScorerPlan, targets: ScorerTargets, cluster: str, labels: Mapping[str, str]) -> Route:
    """Of several overrides for a cluster the first that says something of an endpoint counts for it as a whole."""
    mine = [override for override in targets.overrides if override.concerns(cluster, labels)]
    data = next((o for o in mine if o.source != _NOTHING), None)
    source = data.source if data is not None else _NOTHING
    scoring = next((o.scoring for o in mine if o.scoring != _NOTHING), _NOTHING)
    # Who is named alone has a Prometheus alone; a pattern may stand for many behind one address.
    named = data is not None and bool(source.host) and cluster in data.patterns
    address = (source.host or plan.source.host) + (source.path or plan.source.path)
    endpoint = (scoring.host or plan.host) + (scoring.path or plan.path)
    asks_alone = CLUSTER in address or any(CLUSTER in query.promql for query in plan.source.queries)
    return Route(
        _filled(address, cluster),
        source.token or plan.source.token,
        _filled(endpoint, cluster),
        scoring.token or plan.token,
        named or asks_alone,
    )


def question(plan: ScorerPlan, at: Route, cluster: str) -> Question:
    """What is asked about one cluster; `cluster` empty: the source is asked once for the whole fleet."""
    source, queries, value = plan.source, plan.source.queries, None
    if cluster:
        # A cluster's name is a DNS label: nothing in it needs quoting in PromQL.
        queries = tuple(replace(query, promql=query.promql.replace(CLUSTER, cluster)) for query in queries)
    if source.values is not None:
        value = source.values.values.get(cluster, source.values.default)
    data = SourceQuestion(
        source.kind, at.source, at.source_token, queries, source.range, source.step, source.fields, at.own,
        plan.valid_for if source.kind == "HttpJson" else 0.0, value, source.program, source.metrics,
    )  # fmt: skip
    return Question(plan.score, at.scoring, data, at.token, plan.policy.tls, plan.timeout, plan.protocol)


class DynamicScore:
    """A scorer's values as one of what orders clusters; unknown where it gave none, or none that counts."""

    def __init__(self, plan: ScorerPlan, clusters: Collection[str]) -> None:
        self.name = column_name(plan.score)
        self.lower_is_better = plan.policy.lower
        self.normaliser: Normaliser = plan.policy.normaliser or Normaliser()
        self._clusters = frozenset(clusters)
        self._mask: tuple[tuple[str, ...], Mask | None] | None = None

    def concerns(self, fleet: Fleet) -> Mask | None:
        """Which clusters it is about; None: all."""
        last = self._mask
        if last is None or last[0] is not fleet.names:
            mask = np.fromiter((name in self._clusters for name in fleet.names), np.bool_, len(fleet.names))
            last = self._mask = (fleet.names, None if mask.all() else mask)
        return last[1]

    def score(self, fleet: Fleet, request: ScoreRequest) -> Floats:
        return fleet.scores(self.name, request.now)


_NOTHING: Final = Endpoint()


def _endpoint(entry: Mapping[str, Any], name: str, field: str) -> Endpoint:
    part = mapping(entry.get(name), f"{field}.{name}")
    host = text(part, "host", f"{field}.{name}").rstrip("/")
    if host and not is_address(host.replace(CLUSTER, "cluster")):
        raise InvalidObjectError(f"{host!r} is no address: write http:// or https://", field=f"{field}.{name}.host")
    return Endpoint(host, read_path(part, f"{field}.{name}"), read_token(part.get("auth"), f"{field}.{name}.auth"))


def _patterns(part: Mapping[str, Any], name: str, field: str) -> tuple[str, ...]:
    value = part.get(name) or ()
    if not isinstance(value, list | tuple) or not all(isinstance(pattern, str) and pattern for pattern in value):
        raise InvalidObjectError(f"{value!r} is no list of names", field=f"{field}.{name}")
    return tuple(value)


def _filled(url: str, cluster: str) -> str:
    return url.replace(CLUSTER, quote(cluster, safe=""))

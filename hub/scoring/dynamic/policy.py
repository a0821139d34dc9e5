"""A ScorerPolicy's spec, but for which clusters it is about (hub/placement/scorer_targets.py: label selectors)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.api.errors import InvalidObjectError
from hub.api.timestamps import parse_duration
from hub.asking.question import NamedQuery, Tls
from hub.fleet.amounts import entries, mapping
from hub.scoring.answer import AGGREGATIONS
from hub.scoring.dynamic.data import SourcePlan, read_data
from hub.scoring.dynamic.spec import read_secret_key, text
from hub.scoring.normalise import Normaliser
from hub.scoring.source import read_normaliser, read_quantity

WEIGHTED: Final = "weighted"
HUB, AGENT, ADD_ON = "Hub", "Agent", "AddOn"
"""Who asks a scorer: the hub; our agent in each cluster; the framework's own add-on in each cluster."""
_TIMEOUT: Final = 30.0
"""Seconds, as the framework's own agent waits."""
_SHORTEST: Final = 0.05


@dataclass(frozen=True, slots=True)
class Settling:
    """`part` (0–1) of a new value counts at once; by less than `deadband` a score does not move; for `hold` seconds
    after it moved it stays."""

    part: float = 1.0
    deadband: float = 0.0
    hold: float = 0.0


@dataclass(frozen=True, slots=True)
class ScorerPolicy:
    """Durations in seconds; `valid_for` 0: two intervals. `aggregate` empty: nothing is rolled up for who reads.
    `data`: where data comes from, instead of what the DynamicScorer says."""

    scored_by: str = HUB
    weight: float = 1.0
    lower: bool = False
    normaliser: Normaliser | None = None
    aggregate: str = ""
    cluster_label: str = "cluster"
    queries: tuple[NamedQuery, ...] = ()
    data: SourcePlan | None = None
    protocol: int = 0
    timeout: float = _TIMEOUT
    valid_for: float = 0.0
    settling: Settling = Settling()
    tls: Tls | None = None


def parse_policy(spec: Any) -> ScorerPolicy:
    """Raises `InvalidObjectError` by field."""
    spec = mapping(spec, "spec")
    weight = spec.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int) or not -10 <= weight <= 10:
        raise InvalidObjectError(f"{weight!r} is not a weight: write −10 to 10", field="spec.weight")
    normaliser = spec.get("normaliser")
    data, queries = read_data(spec.get("source")), _queries(spec)
    if data is not None and queries:
        raise InvalidObjectError("are for Prometheus: drop them, or spec.source", field="spec.queries")
    scored_by = _one_of(spec, "scoredBy", (HUB, AGENT, ADD_ON))
    if data is not None and data.kind == "Pushed" and scored_by != HUB:
        raise InvalidObjectError("is pushed to the hub, so the hub must ask the scorer", field="spec.source.otlp")
    if data is not None and scored_by == ADD_ON:
        raise InvalidObjectError("the framework's add-on knows Prometheus only", field="spec.source")
    return ScorerPolicy(
        scored_by=scored_by,
        weight=float(weight),
        lower=_one_of(spec, "direction", ("higher", "lower")) == "lower",
        normaliser=None if normaliser is None else read_normaliser(mapping(normaliser, "spec.normaliser")),
        aggregate=_one_of(spec, "aggregate", ("", *AGGREGATIONS, WEIGHTED)),
        cluster_label=text(spec, "clusterLabel", "spec") or "cluster",
        queries=queries,
        data=data,
        protocol=_protocol(spec.get("protocol")),
        timeout=max(_seconds(spec, "timeout", _TIMEOUT), _SHORTEST),
        valid_for=_seconds(spec, "validFor", 0.0),
        settling=_settling(spec),
        tls=_tls(spec.get("tls")),
    )


def _one_of(spec: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = text(spec, name, "spec") or allowed[0]
    if value not in allowed:
        raise InvalidObjectError(f"{value!r} is not one of {', '.join(filter(None, allowed))}", field=f"spec.{name}")
    return value


def _queries(spec: Mapping[str, Any]) -> tuple[NamedQuery, ...]:
    found: dict[str, NamedQuery] = {}
    for position, entry in enumerate(entries(spec.get("queries"), "spec.queries")):
        field = f"spec.queries[{position}]"
        name, promql, mode = text(entry, "name", field), text(entry, "promql", field), text(entry, "mode", field)
        if not name or not promql.strip():
            raise InvalidObjectError("needs a name and promql", field=field)
        if name in found:
            raise InvalidObjectError(f"{name!r} is there twice", field=f"{field}.name")
        if mode not in ("", "range", "instant"):
            raise InvalidObjectError(f"{mode!r} is no mode: write range or instant", field=f"{field}.mode")
        found[name] = NamedQuery(name, promql, mode == "instant")
    return tuple(found.values())


def _protocol(value: Any) -> int:
    if value not in (None, 1, 2) or isinstance(value, bool):
        raise InvalidObjectError(f"{value!r} is no protocol: write 1 or 2", field="spec.protocol")
    return value or 0


def _settling(spec: Mapping[str, Any]) -> Settling:
    part = read_quantity(spec.get("smoothing", "1"), "spec.smoothing")
    if not 0 < part <= 1:
        raise InvalidObjectError(f"{part:g} is not above 0 and at most 1", field="spec.smoothing")
    deadband = read_quantity(spec.get("scoreDeadband", "0"), "spec.scoreDeadband")
    if deadband < 0:
        raise InvalidObjectError(f"{deadband:g} is below 0", field="spec.scoreDeadband")
    return Settling(part, deadband, _seconds(spec, "minHold", 0.0))


def _tls(value: Any) -> Tls | None:
    if value is None:
        return None
    tls = mapping(value, "spec.tls")
    client = mapping(tls.get("clientCertSecretRef"), "spec.tls.clientCertSecretRef")
    return Tls(
        read_secret_key(tls.get("caSecretRef"), "spec.tls.caSecretRef"),
        text(client, "name", "spec.tls.clientCertSecretRef"),
    )


def _seconds(spec: Mapping[str, Any], name: str, default: float) -> float:
    if spec.get(name) is None:
        return default
    try:
        return parse_duration(str(spec[name])).total_seconds()
    except (InvalidObjectError, OverflowError) as error:
        raise InvalidObjectError(str(error), field=f"spec.{name}") from error

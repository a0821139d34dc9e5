"""A Placement object as a whole, read once: its rule, how much it resists moves, how its decisions are grouped.

What decides (hub/placement/decide.py) needs the rule and the stability only; the rest says how decisions are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.fleet.amounts import entries, mapping
from hub.placement.rule import ClusterRule, Requirement
from hub.placement.rules import parse_rule
from hub.placement.selectors import parse_claim_selector, parse_label_selector
from hub.placement.stability import Stability, parse_missing, parse_rate, parse_stability

# Its decisions carry the name as the value of a label.
MAX_NAME = 63
_STRATEGY = "decisionStrategy.groupStrategy"


@dataclass(frozen=True, slots=True)
class GroupSelector:
    """Clusters of a decision group: all of `labels` and `claims` must hold."""

    name: str
    labels: tuple[Requirement, ...] = ()
    claims: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """`per_group`: clusters in a group, with `percent` that share of all. `by_score`: decisions carry their scores and
    are in their order. `rate_limit`: seconds between two changes that only scores cause. `remembers`: since when its
    clusters are chosen must outlive the hub."""

    namespace: str
    name: str
    rule: ClusterRule
    stability: Stability
    groups: tuple[GroupSelector, ...] = ()
    per_group: int = 100
    percent: bool = True
    by_score: bool = False
    rate_limit: float = 60.0
    remembers: bool = False

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    def group_size(self, total: int) -> int:
        size = -(-self.per_group * total // 100) if self.percent else self.per_group
        return size if 0 < size <= total else total


def is_left_alone(placement: Mapping[str, Any]) -> bool:
    """Whether nothing of a Placement is decided: it is on its way out, or somebody else was asked to decide it."""
    meta = placement.get("metadata") or {}
    annotations = meta.get("annotations") or {}
    return bool(meta.get("deletionTimestamp")) or annotations.get(names.SCHEDULING_DISABLE) == "true"


def parse_request(placement: Mapping[str, Any]) -> PlacementRequest:
    """Raises `InvalidObjectError` whose `field` begins at the object."""
    meta = mapping(placement.get("metadata"), "metadata")
    namespace, name = str(meta.get("namespace") or "default"), str(meta.get("name") or "")
    if not 0 < len(name) <= MAX_NAME:
        raise InvalidObjectError(
            f"{name[:80]!r} has {len(name)} characters; a Placement's name has 1 to {MAX_NAME}, because its decisions "
            "carry it as a label",
            field="metadata.name",
        )
    annotations = {str(k): str(v) for k, v in mapping(meta.get("annotations"), "metadata.annotations").items()}
    spec = mapping(placement.get("spec"), "spec")
    try:
        rule = parse_rule(namespace, spec, name, jobs=False)
        groups = _groups(spec)
        per_group, percent = _per_group(_strategy(spec).get("clustersPerDecisionGroup"))
        order = spec.get("sortBy") or "ClusterName"
        if order not in ("ClusterName", "Score"):
            raise InvalidObjectError(f"{order!r} is not an order: write ClusterName or Score", field="sortBy")
    except InvalidObjectError as error:
        message = str(error).removeprefix(f"{error.field}: ")
        raise InvalidObjectError(message, field=f"spec.{error.field}") from error
    rate_limit = parse_rate(spec.get("scoreRateLimit") or "1m")
    return PlacementRequest(
        namespace,
        name,
        replace(rule, missing=parse_missing(annotations)),
        parse_stability(annotations, rate_limit),
        groups,
        per_group,
        percent,
        order == "Score",
        rate_limit,
        names.MIN_DWELL in annotations or names.MAX_MOVES in annotations,
    )


def _strategy(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    strategy = mapping(spec.get("decisionStrategy"), "decisionStrategy")
    return mapping(strategy.get("groupStrategy"), _STRATEGY)


def _groups(spec: Mapping[str, Any]) -> tuple[GroupSelector, ...]:
    found: list[GroupSelector] = []
    for number, entry in enumerate(entries(_strategy(spec).get("decisionGroups"), f"{_STRATEGY}.decisionGroups")):
        field = f"{_STRATEGY}.decisionGroups[{number}]"
        name = entry.get("groupName")
        if not isinstance(name, str) or not name:
            raise InvalidObjectError(f"{name!r} is not a group's name", field=f"{field}.groupName")
        if any(group.name == name for group in found):
            raise InvalidObjectError(f"there is a group {name} already", field=f"{field}.groupName")
        field = f"{field}.groupClusterSelector"
        selector = mapping(entry.get("groupClusterSelector"), field)
        labels = parse_label_selector(selector.get("labelSelector"), f"{field}.labelSelector")
        claims = parse_claim_selector(selector.get("claimSelector"), f"{field}.claimSelector")
        found.append(GroupSelector(name, labels, claims))
    return tuple(found)


def _per_group(value: Any) -> tuple[int, bool]:
    if value is None:
        return 100, True
    number = value.removesuffix("%") if isinstance(value, str) else value
    if isinstance(number, str) and number.isdecimal() and len(number) < 10:
        percent = str(value).endswith("%")
        if not (percent and int(number) > 100):
            return int(number), percent
    elif isinstance(number, int) and not isinstance(number, bool):
        return number, False
    raise InvalidObjectError(
        f"{value!r} is neither a number nor a percentage such as 25%", field=f"{_STRATEGY}.clustersPerDecisionGroup"
    )

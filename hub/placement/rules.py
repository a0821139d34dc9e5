"""A PlacementSpec, as people write it, becomes a rule, or an error that names the field and what is allowed there.

For a job (`jobs` true) what a job cannot have is refused rather than ignored: Balance and Steady look at decisions of
Placements, which a job has none of. Nothing here looks at a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hub.api.errors import InvalidObjectError
from hub.fleet.amounts import entries, mapping
from hub.placement.cel import check_expression
from hub.placement.rule import ClusterRule, ClusterToleration, Predicate, ScoreWeight, SpreadConstraint
from hub.placement.selectors import parse_claim_selector, parse_label_selector

BALANCE, STEADY = "Balance", "Steady"
ALLOCATABLE_CPU, ALLOCATABLE_MEMORY = "ResourceAllocatableCPU", "ResourceAllocatableMemory"
BUILT_IN = (BALANCE, STEADY, ALLOCATABLE_CPU, ALLOCATABLE_MEMORY)
_EFFECTS = ("NoSelect", "PreferNoSelect", "NoSelectIfNew")
_MODES = ("Additive", "Exact")


def parse_rule(namespace: str, placement: Mapping[str, Any], reference: str = "", *, jobs: bool = True) -> ClusterRule:
    """The rule that `placement` (a PlacementSpec) states for jobs of `namespace`.

    `reference` is the name of the Placement it came from; empty for an inline one. Whose sets then count is written at
    `hub.placement.filters.allowed_sets`. Raises `InvalidObjectError` whose `field` is relative to the spec.
    """
    placement = mapping(placement, "placement")
    sets = placement.get("clusterSets")
    if sets is not None and not (isinstance(sets, list | tuple) and all(isinstance(name, str) for name in sets)):
        raise InvalidObjectError(f"{sets!r} is not a list of names", field="clusterSets")
    limit = placement.get("numberOfClusters")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise InvalidObjectError(f"{limit!r} is not a number of clusters: write 0 or more", field="numberOfClusters")
    spread = _spread(mapping(placement.get("spreadPolicy"), "spreadPolicy"))
    exact, weights = _prioritizers(mapping(placement.get("prioritizerPolicy"), "prioritizerPolicy"), jobs=jobs)
    return ClusterRule(
        namespace=namespace,
        sets=tuple(sorted(set(sets or ()))),
        predicates=tuple(
            _predicate(entry, f"predicates[{i}]")
            for i, entry in enumerate(entries(placement.get("predicates"), "predicates"))
        ),
        tolerations=tuple(
            _toleration(entry, f"tolerations[{i}]")
            for i, entry in enumerate(entries(placement.get("tolerations"), "tolerations"))
        ),
        weights=weights,
        exact=exact,
        limit=limit,
        reference=reference,
        spread=spread,
    )


def chooses_itself(rule: ClusterRule) -> bool:
    """Whether a Placement says what only makes sense for it as a whole, so that its jobs follow its decisions."""
    return bool(rule.spread) or any(entry.weight and entry.name in (BALANCE, STEADY) for entry in rule.weights)


def job_rule(rule: ClusterRule, chosen: tuple[str, ...]) -> ClusterRule:
    """What a Placement that chooses itself means for a job that names it: the clusters it has chosen, ordered by what
    else it says."""
    weights = tuple(entry for entry in rule.weights if entry.name not in (BALANCE, STEADY))
    return replace(rule, weights=weights, spread=(), chosen=chosen)


def _predicate(entry: Mapping[str, Any], field: str) -> Predicate:
    field = f"{field}.requiredClusterSelector"
    selector = mapping(entry.get("requiredClusterSelector"), field)
    cel = mapping(selector.get("celSelector"), f"{field}.celSelector").get("celExpressions")
    where = f"{field}.celSelector.celExpressions"
    if cel is not None and not (isinstance(cel, list | tuple) and all(isinstance(text, str) for text in cel)):
        raise InvalidObjectError(f"{cel!r} is not a list of expressions", field=where)
    for position, text in enumerate(cel or ()):
        check_expression(text, f"{where}[{position}]")
    return Predicate(
        labels=parse_label_selector(selector.get("labelSelector"), f"{field}.labelSelector"),
        claims=parse_claim_selector(selector.get("claimSelector"), f"{field}.claimSelector"),
        cel=tuple(cel or ()),
    )


def _spread(policy: Mapping[str, Any]) -> tuple[SpreadConstraint, ...]:
    found = []
    listed = entries(policy.get("spreadConstraints"), "spreadPolicy.spreadConstraints")
    if len(listed) > 8:
        raise InvalidObjectError(f"{len(listed)} constraints are too many: 8 at most", field="spreadPolicy")
    for position, entry in enumerate(listed):
        field = f"spreadPolicy.spreadConstraints[{position}]"
        key = _text(entry, "topologyKey", field)
        if not key:
            raise InvalidObjectError("write the label or claim to spread over", field=f"{field}.topologyKey")
        kind = _text(entry, "topologyKeyType", field)
        if kind not in ("Label", "Claim"):
            raise InvalidObjectError(f"{kind!r}: write Label or Claim", field=f"{field}.topologyKeyType")
        skew = entry.get("maxSkew", 1)
        if isinstance(skew, bool) or not isinstance(skew, int) or skew < 1:
            raise InvalidObjectError(f"{skew!r} is not a skew: write 1 or more", field=f"{field}.maxSkew")
        unsatisfiable = _text(entry, "whenUnsatisfiable", field) or "ScheduleAnyway"
        if unsatisfiable not in ("DoNotSchedule", "ScheduleAnyway"):
            raise InvalidObjectError(
                f"{unsatisfiable!r}: write DoNotSchedule or ScheduleAnyway", field=f"{field}.whenUnsatisfiable"
            )
        found.append(SpreadConstraint(key, kind == "Claim", skew, unsatisfiable == "DoNotSchedule"))
    return tuple(found)


def _toleration(entry: Mapping[str, Any], field: str) -> ClusterToleration:
    key, value, effect = (_text(entry, name, field) for name in ("key", "value", "effect"))
    operator = _text(entry, "operator", field) or "Equal"
    if operator not in ("Equal", "Exists"):
        raise InvalidObjectError(f"{operator!r} is not an operator: write Equal or Exists", field=f"{field}.operator")
    if not key and operator != "Exists":
        raise InvalidObjectError("if the key is empty, operator must be Exists", field=f"{field}.operator")
    if operator == "Exists" and value:
        raise InvalidObjectError("if the operator is Exists, the value must be empty", field=f"{field}.value")
    if effect and effect not in _EFFECTS:
        raise InvalidObjectError(
            f"{effect!r} is not a taint effect: write {', '.join(_EFFECTS)}, or nothing for all",
            field=f"{field}.effect",
        )
    seconds = entry.get("tolerationSeconds")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int)):
        raise InvalidObjectError(f"{seconds!r} is not a number of seconds", field=f"{field}.tolerationSeconds")
    return ClusterToleration(key, operator, value, effect, seconds)


def _prioritizers(policy: Mapping[str, Any], *, jobs: bool) -> tuple[bool, tuple[ScoreWeight, ...]]:
    mode = policy.get("mode") or "Additive"
    if mode not in _MODES:
        raise InvalidObjectError(f"{mode!r} is not a mode: write Additive or Exact", field="prioritizerPolicy.mode")
    found: dict[str, int] = {}
    for position, entry in enumerate(entries(policy.get("configurations"), "prioritizerPolicy.configurations")):
        field = f"prioritizerPolicy.configurations[{position}]"
        weight = entry.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int) or not -10 <= weight <= 10:
            raise InvalidObjectError(f"{weight!r} is not a weight: write −10 to 10", field=f"{field}.weight")
        name = _coordinate(
            mapping(entry.get("scoreCoordinate"), f"{field}.scoreCoordinate"), f"{field}.scoreCoordinate"
        )
        if jobs and weight and name in (BALANCE, STEADY):
            raise InvalidObjectError(
                f"{name} compares decisions of Placements, and a job has none: leave it out, or name a Placement that "
                "says it in placementRef",
                field=f"{field}.scoreCoordinate.builtIn",
            )
        if name in found:
            raise InvalidObjectError(f"{name} has a weight already", field=f"{field}.scoreCoordinate")
        found[name] = weight
    return mode == "Exact", tuple(ScoreWeight(name, found[name]) for name in sorted(found))


def _coordinate(coordinate: Mapping[str, Any], field: str) -> str:
    kind = coordinate.get("type") or "BuiltIn"
    if kind == "BuiltIn":
        name = coordinate.get("builtIn")
        if name not in BUILT_IN:
            raise InvalidObjectError(
                f"{name!r} is not a built-in prioritizer: write {', '.join(BUILT_IN)}", field=f"{field}.builtIn"
            )
        return str(name)
    if kind != "AddOn":
        raise InvalidObjectError(f"{kind!r} is not a type of score: write BuiltIn or AddOn", field=f"{field}.type")
    addon = mapping(coordinate.get("addOn"), f"{field}.addOn")
    parts = [_text(addon, name, f"{field}.addOn") for name in ("resourceName", "scoreName")]
    if not all(parts):
        raise InvalidObjectError("an AddOn score needs resourceName and scoreName", field=f"{field}.addOn")
    return "AddOn/" + "/".join(parts)


def _text(entry: Mapping[str, Any], name: str, field: str) -> str:
    value = entry.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidObjectError(f"{value!r} is not a string", field=f"{field}.{name}")
    return value or ""

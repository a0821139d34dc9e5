"""The smallest change that would make a Placement choose a cluster: found by making it and deciding again.

One change at a time, in this order: acceptance, a label or claim of the cluster, a toleration, a binding, the weight of
one prioritizer, the number of clusters. What two changes together would do is not looked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from hub.fleet.changes import ClusterSeen
from hub.fleet.facts import ClusterFacts
from hub.fleet.fleet import Fleet
from hub.placement.candidates import Candidates, Ints, find_candidates, weights_of
from hub.placement.decide import choose, decide_placement
from hub.placement.filters import allowed_sets, matching, offending_taints, tolerated
from hub.placement.rule import ClusterRule, ClusterToleration, Requirement, ScoreWeight
from hub.placement.selectors import matches, show
from hub.placement.sets import ClusterSets
from hub.placement.stability import RESTLESS, Stability

_WEIGHTS = range(-10, 11)


@dataclass(frozen=True, slots=True)
class Change:
    """`what` for people; the other three are what is decided with after it."""

    what: str
    fleet: Fleet
    sets: ClusterSets
    rule: ClusterRule


def smallest_change(
    fleet: Fleet,
    sets: ClusterSets,
    rule: ClusterRule,
    now: float,
    cluster: str,
    *,
    current: Collection[str] = (),
    counts: Ints | None = None,
    stability: Stability = RESTLESS,
) -> Change | None:
    """For a cluster that is not chosen; None: no single change of these would do."""
    for change in lifts(fleet, sets, rule, now, cluster, current):
        outcome = decide_placement(
            change.fleet, change.sets, change.rule, now, current=current, counts=counts, stability=stability
        )
        if cluster in outcome.clusters:
            return change
    if fleet.facts(cluster).deleting or not fleet.facts(cluster).accepted:
        return None
    return _by_score(fleet, sets, rule, now, cluster, current, counts, stability)


def lifts(
    fleet: Fleet, sets: ClusterSets, rule: ClusterRule, now: float, cluster: str, current: Collection[str] = ()
) -> Iterator[Change]:
    """What could lift the filter that removes the cluster: single changes, whether they do or not."""
    at, facts = fleet.position(cluster), fleet.facts(cluster)
    if not facts.accepted:
        spec = {**(facts.object.get("spec") or {}), "hubAcceptsClient": True}
        accepted = fleet.apply([ClusterSeen({**facts.object, "spec": spec})])
        yield Change(f"hubAcceptsClient of {cluster}", accepted, sets, rule)
    elif not matching(fleet, rule)[at]:
        yield from _labels(fleet, sets, rule, facts)
    elif not tolerated(fleet, rule, now, current)[at]:
        for taint in offending_taints(facts, rule.tolerations, now, chosen=cluster in current):
            toleration = ClusterToleration(taint.key, "Equal", taint.value, taint.effect)
            more = replace(rule, tolerations=(*rule.tolerations, toleration))
            yield Change(f"a toleration of taint {taint}", fleet, sets, more)
    elif not allowed_sets(fleet, sets, rule)[at]:
        yield from _bindings(fleet, sets, rule, facts)


def _labels(fleet: Fleet, sets: ClusterSets, rule: ClusterRule, facts: ClusterFacts) -> Iterator[Change]:
    for predicate in rule.predicates:
        wrong = [(line, False) for line in predicate.labels if not matches([line], facts.labels)]
        wrong += [(line, True) for line in predicate.claims if not matches([line], facts.claims)]
        if len(wrong) != 1:
            continue
        line, claim = wrong[0]
        value = _fitting(line)
        seen = fleet.apply(
            [ClusterSeen(_with_claim(facts, line.key, value) if claim else _with_label(facts, line.key, value))]
        )
        kind = "claim" if claim else "label"
        if value is None:
            yield Change(f"{kind} {line.key} removed from {facts.name} ({show(line)})", seen, sets, rule)
        else:
            yield Change(f"{kind} {line.key}={value} on {facts.name}", seen, sets, rule)


def _bindings(fleet: Fleet, sets: ClusterSets, rule: ClusterRule, facts: ClusterFacts) -> Iterator[Change]:
    bound = sets.bound(rule.namespace)
    for name, known in sorted(sets.sets.items()):
        if not known.holds(facts):
            continue
        wanted = tuple(sorted({*bound, name}))
        opened = replace(sets, bindings={**sets.bindings, rule.namespace: wanted})
        asked = rule if not rule.sets or name in rule.sets else replace(rule, sets=tuple(sorted({*rule.sets, name})))
        parts = [] if name in bound else [f"a binding of set {name} in namespace {rule.namespace}"]
        parts += [] if asked is rule else [f"set {name} in spec.clusterSets"]
        if len(parts) == 1:
            yield Change(parts[0], fleet, opened, asked)


def _by_score(
    fleet: Fleet,
    sets: ClusterSets,
    rule: ClusterRule,
    now: float,
    cluster: str,
    current: Collection[str],
    counts: Ints | None,
    stability: Stability,
) -> Change | None:
    """The nearest weight of one prioritizer, or the number of clusters, whichever is less of a change."""
    found = find_candidates(fleet, sets, rule, now, current)
    if not isinstance(found, Candidates) or fleet.position(cluster) not in found.passing.tolist():
        return None
    tries: list[tuple[int, int, str, ClusterRule]] = []
    weights = weights_of(rule)
    for name in sorted(weights):
        for weight in _WEIGHTS:
            if weight != weights[name]:
                others = tuple(entry for entry in rule.weights if entry.name != name)
                changed = replace(rule, weights=tuple(sorted((*others, ScoreWeight(name, weight)), key=_by_name)))
                tries.append(
                    (abs(weight - weights[name]), 1, f"weight {weight} instead of {weights[name]} for {name}", changed)
                )
    if rule.limit is not None:
        everyone = choose(fleet, replace(rule, limit=None), found, now, current=current, counts=counts)
        order = [decision.cluster for decision in everyone.decisions]
        if cluster in order:
            number = order.index(cluster) + 1
            tries.append((number - rule.limit, 0, f"numberOfClusters {number}", replace(rule, limit=number)))
    for _, _, what, changed in sorted(tries, key=lambda entry: entry[:3]):
        outcome = decide_placement(fleet, sets, changed, now, current=current, counts=counts, stability=stability)
        if cluster in outcome.clusters:
            return Change(what, fleet, sets, changed)
    return None


def _by_name(entry: ScoreWeight) -> str:
    return entry.name


def _fitting(line: Requirement) -> str | None:
    """A value with which the line holds; None: without the key."""
    if line.operator == "In":
        return line.values[0]
    return "true" if line.operator == "Exists" else None


def _with_label(facts: ClusterFacts, key: str, value: str | None) -> dict[str, object]:
    labels = {name: text for name, text in facts.labels.items() if name != key}
    if value is not None:
        labels[key] = value
    return {**facts.object, "metadata": {**facts.object["metadata"], "labels": labels}}


def _with_claim(facts: ClusterFacts, key: str, value: str | None) -> dict[str, object]:
    claims = {name: text for name, text in facts.claims.items() if name != key}
    if value is not None:
        claims[key] = value
    listed = [{"name": name, "value": text} for name, text in sorted(claims.items())]
    return {**facts.object, "status": {**(facts.object.get("status") or {}), "clusterClaims": listed}}

"""Which clusters a rule allows, as one mask over the fleet, and the same cluster by cluster with the reason.

Both read the same columns: `verdicts` never says anything that `eligible` did not decide. Whether a job's tasks fit on
a cluster is the fleet's to say, which cluster is best is scoring's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.api.reasons import Reason
from hub.api.timestamps import format_duration
from hub.fleet.facts import ClusterFacts, Taint
from hub.fleet.fleet import Fleet
from hub.placement import cel
from hub.placement.rule import ClusterRule, ClusterToleration, Predicate, Requirement
from hub.placement.selectors import show
from hub.placement.sets import ClusterSets

# How the columns of AddOnPlacementScores are called: AddOn/RESOURCE/SCORE.
ADDON = "AddOn/"
Flags = NDArray[np.bool_]
Verdict = tuple[Reason, Mapping[str, Any]]


def eligible(fleet: Fleet, sets: ClusterSets, rule: ClusterRule, now: float, current: Collection[str] = ()) -> Flags:
    """What the rule allows and is accepted, available and not tainted against it. `now` is epoch seconds.

    `current`: clusters that are chosen already; taints with effect NoSelectIfNew do not matter there.
    """
    return (
        usable(fleet) & allowed_sets(fleet, sets, rule) & matching(fleet, rule) & tolerated(fleet, rule, now, current)
    )


def verdicts(
    fleet: Fleet, sets: ClusterSets, rule: ClusterRule, now: float, current: Collection[str] = ()
) -> dict[str, Verdict | None]:
    """Every cluster, in name order, with the first reason against it and the facts of its template; None: eligible."""
    passes = eligible(fleet, sets, rule, now, current)
    bound = allowed_sets(fleet, sets, rule)
    matched = matching(fleet, rule)
    found: dict[str, Verdict | None] = {}
    for position, name in enumerate(fleet.names):
        if passes[position]:
            found[name] = None
            continue
        facts = fleet.facts(name)
        if facts.deleting:
            found[name] = Reason.CLUSTER_LEAVING, {}
        elif not facts.accepted:
            found[name] = Reason.CLUSTER_NOT_ACCEPTED, {"cluster": name}
        elif not facts.available:
            age = "an unknown time" if facts.since is None else format_duration(now - facts.since)
            found[name] = Reason.CLUSTER_UNREACHABLE, {"age": age}
        elif not bound[position]:
            found[name] = Reason.CLUSTER_NOT_BOUND, {"namespace": rule.namespace}
        elif not matched[position]:
            found[name] = Reason.SELECTOR_MISMATCH, {"selector": describe(rule)}
        else:
            taint = _offending(facts, rule.tolerations, now, name in current)
            found[name] = Reason.CLUSTER_TAINTED, {"taint": str(taint)}
    return found


def placement_verdicts(
    fleet: Fleet, sets: ClusterSets, rule: ClusterRule, now: float, current: Collection[str] = ()
) -> dict[str, Verdict | None]:
    """As `verdicts` for a plain Placement, which may choose what is not available: OCM leaves that to taints."""
    bound, matched = allowed_sets(fleet, sets, rule), matching(fleet, rule)
    fine = tolerated(fleet, rule, now, current)
    found: dict[str, Verdict | None] = {}
    for position, name in enumerate(fleet.names):
        facts = fleet.facts(name)
        if facts.deleting:
            found[name] = Reason.CLUSTER_LEAVING, {}
        elif not facts.accepted:
            found[name] = Reason.CLUSTER_NOT_ACCEPTED, {"cluster": name}
        elif not bound[position]:
            found[name] = Reason.CLUSTER_NOT_BOUND, {"namespace": rule.namespace}
        elif not matched[position]:
            found[name] = Reason.SELECTOR_MISMATCH, {"selector": describe(rule)}
        elif not fine[position]:
            taint = _offending(facts, rule.tolerations, now, name in current)
            found[name] = Reason.CLUSTER_TAINTED, {"taint": str(taint)}
        else:
            found[name] = None
    return found


def usable(fleet: Fleet) -> Flags:
    """Accepted, available, and not on its way out."""
    return fleet.facts_column(
        "usable", lambda facts: facts.accepted and facts.available and not facts.deleting, np.bool_
    )


def allowed_sets(fleet: Fleet, sets: ClusterSets, rule: ClusterRule) -> Flags:
    """Clusters that the rule's namespace may choose from.

    As OCM: the sets bound to the namespace, of these only the rule's own where it names some. One thing is easier than
    in OCM: a rule that neither names sets nor comes from a Placement object, in a namespace that nobody ever bound to
    anything, may use every cluster. Someone who submits a first job need not know what a binding is; whoever does bind
    sets to a namespace restricts it by that.
    """
    if rule.chosen is not None:
        everything = np.zeros(len(fleet.names), np.bool_)
        everything[[fleet.position(name) for name in rule.chosen if name in fleet]] = True
    else:
        everything = np.ones(len(fleet.names), np.bool_)
    if not rule.namespace:
        return everything if not rule.sets else everything & _members(fleet, sets, rule.sets)
    bound = sets.bound(rule.namespace)
    if not bound and not rule.sets and not rule.reference:
        return everything
    return everything & _members(fleet, sets, tuple(name for name in bound if not rule.sets or name in rule.sets))


def matching(fleet: Fleet, rule: ClusterRule) -> Flags:
    """Where one of the rule's predicates holds; everywhere when it has none."""
    if not rule.predicates:
        return np.ones(len(fleet.names), np.bool_)
    found = _predicate(fleet, rule.predicates[0])
    for predicate in rule.predicates[1:]:
        found = found | _predicate(fleet, predicate)
    return found


def tolerated(fleet: Fleet, rule: ClusterRule, now: float, current: Collection[str] = ()) -> Flags:
    """Where every taint is tolerated at `now`."""
    tolerations = rule.tolerations
    found: Flags = now < fleet.facts_column(
        ("tolerated", tolerations), lambda facts: tolerated_until(facts.taints, tolerations, chosen=False), np.float64
    )
    if not current:
        return found
    found = found.copy()
    for name in current:
        if name in fleet and not found[fleet.position(name)]:
            taints = fleet.facts(name).taints
            found[fleet.position(name)] = now < tolerated_until(taints, tolerations, chosen=True)
    return found


def tolerated_until(taints: tuple[Taint, ...], tolerations: tuple[ClusterToleration, ...], *, chosen: bool) -> float:
    """Epoch seconds until which all `taints` are tolerated: inf for ever, −inf not at all."""
    return min((_until(taint, tolerations, chosen) for taint in taints), default=math.inf)


def tolerated_next(fleet: Fleet, rule: ClusterRule, now: float) -> float:
    """When after `now` the next toleration of a taint runs out (epoch seconds); inf: never."""
    tolerations = rule.tolerations
    if all(toleration.seconds is None for toleration in tolerations):
        return math.inf
    ends = fleet.facts_column(
        ("toleration ends", tolerations), lambda facts: toleration_ends(facts.taints, tolerations), np.float64
    )
    return float(ends[ends > now].min(initial=math.inf))


def toleration_ends(taints: tuple[Taint, ...], tolerations: tuple[ClusterToleration, ...]) -> float:
    """The first moment at which a taint that some toleration covers for a while is tolerated no longer."""
    ends = (_until(taint, tolerations, chosen=False) for taint in taints)
    return min((end for end in ends if math.isfinite(end)), default=math.inf)


def only_if_chosen(fleet: Fleet) -> Flags | None:
    """Clusters that a Placement may keep but perhaps not choose anew: those tainted NoSelectIfNew; None: no cluster."""
    found: Flags = fleet.facts_column(
        "only if chosen", lambda facts: any(taint.effect == "NoSelectIfNew" for taint in facts.taints), np.bool_
    )
    return found if found.any() else None


def avoided(fleet: Fleet, rule: ClusterRule) -> Flags:
    """Clusters that a taint PreferNoSelect asks to leave out while there are others: where nothing tolerates it."""
    tolerations = rule.tolerations

    def avoiding(facts: ClusterFacts) -> bool:
        return any(avoids(taint, tolerations) for taint in facts.taints)

    found: Flags = fleet.facts_column(("avoided", tolerations), avoiding, np.bool_)
    return found


def avoids(taint: Taint, tolerations: tuple[ClusterToleration, ...]) -> bool:
    """Whether the taint asks whoever has these tolerations to go elsewhere first."""
    return taint.effect == "PreferNoSelect" and not any(_tolerates(toleration, taint) for toleration in tolerations)


def describe(rule: ClusterRule) -> str:
    """The rule's predicates in one line, as kubectl spells selectors."""
    parts = []
    for predicate in rule.predicates:
        lines = [show(line) for line in predicate.labels]
        lines += [f"claim {show(line)}" for line in predicate.claims]
        parts.append(", ".join([*lines, *predicate.cel]) or "everything")
    return " or ".join(parts)


def _until(taint: Taint, tolerations: tuple[ClusterToleration, ...], chosen: bool) -> float:
    if taint.effect == "PreferNoSelect" or (taint.effect == "NoSelectIfNew" and chosen):
        return math.inf
    latest = -math.inf
    for toleration in tolerations:
        if not _tolerates(toleration, taint):
            continue
        if toleration.seconds is None:
            return math.inf
        # A taint of unknown age cannot be said to be young.
        if taint.added is not None:
            latest = max(latest, taint.added + toleration.seconds)
    return latest


def _tolerates(toleration: ClusterToleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    return toleration.operator == "Exists" or toleration.value == taint.value


def offending_taints(
    facts: ClusterFacts, tolerations: tuple[ClusterToleration, ...], now: float, *, chosen: bool
) -> tuple[Taint, ...]:
    """Taints of the cluster that nothing tolerates at `now`."""
    return tuple(taint for taint in facts.taints if now >= _until(taint, tolerations, chosen))


def _offending(facts: ClusterFacts, tolerations: tuple[ClusterToleration, ...], now: float, chosen: bool) -> Taint:
    return next(taint for taint in facts.taints if now >= _until(taint, tolerations, chosen))


def _predicate(fleet: Fleet, predicate: Predicate) -> Flags:
    lines = [(line, False) for line in predicate.labels] + [(line, True) for line in predicate.claims]
    if lines:
        columns = tuple(_codes(fleet, line.key, claim) for line, claim in lines)
        found = fleet.derived(
            ("predicate", predicate.labels, predicate.claims),
            columns,
            lambda: np.logical_and.reduce([_holds(line, c) for (line, _), c in zip(lines, columns, strict=True)]),
        )
    else:
        found = np.ones(len(fleet.names), np.bool_)
    for text in predicate.cel:
        if cel.reads_scores(text):
            found = found & fleet.scored_column(("cel", text), partial(_cel_holds, text, fleet), np.bool_)
        else:
            found = found & fleet.object_column(("cel", text), partial(_cel_holds, text, None), np.bool_)
    return found


def _codes(fleet: Fleet, key: str, claim: bool) -> NDArray[np.int64]:
    """A number for each value of a label or claim, the same for the same value everywhere; 0: it is not there."""
    column: NDArray[np.int64] = fleet.facts_column(
        ("code", key, claim), lambda facts: _code((facts.claims if claim else facts.labels).get(key)), np.int64
    )
    return column


def _code(value: str | None, known: dict[str, int] = {}) -> int:  # noqa: B006 - one numbering for the whole process
    return 0 if value is None else known.setdefault(value, len(known) + 1)


def _holds(line: Requirement, codes: NDArray[np.int64]) -> Flags:
    """As `hub.placement.selectors.matches` of one line."""
    if line.operator in ("Exists", "DoesNotExist"):
        there: Flags = codes != 0
        return there if line.operator == "Exists" else ~there
    wanted = [_code(value) for value in line.values]
    if len(wanted) > 4:
        found: Flags = np.isin(codes, wanted)
    else:
        found = np.zeros(len(codes), np.bool_)
        for code in wanted:
            found |= codes == code
    return ~found if line.operator == "NotIn" else found


def _cel_holds(text: str, fleet: Fleet | None, facts: ClusterFacts) -> bool:
    if fleet is None:
        return cel.holds(text, facts.object)
    return cel.holds(text, facts.object, lambda cluster, resource: fleet.scores_under(f"{ADDON}{resource}/", cluster))


def _members(fleet: Fleet, sets: ClusterSets, wanted: tuple[str, ...]) -> Flags:
    found = np.zeros(len(fleet.names), np.bool_)
    for name in wanted:
        found |= sets.members(fleet, name)
    return found

"""A ManifestWork's whole status from what was applied and what was seen. Pure: clock and objects are passed in.

Equal facts give an equal status, transition times included, so a caller can compare and not write. Conditions follow
OCM's table; those of others are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agent.feedback import feedback_values
from agent.work.manifests import Manifest
from agent.work.rules import PREFIX, evaluate
from hub.api.conditions import find_condition, with_condition

Json = dict[str, Any]
AGGREGATED = "ConditionRulesAggregated"
_OWN_TYPES = ("Applied", "Available", "StatusFeedbackSynced")


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of applying one manifest. `retry` tells whether trying again may help."""

    ok: bool
    message: str = ""
    reason: str = ""
    retry: bool = False

    @staticmethod
    def done() -> Applied:
        return Applied(True, "Apply manifest complete", "AppliedManifestComplete")

    @staticmethod
    def failed(why: str, *, retry: bool = True, reason: str = "AppliedManifestFailed") -> Applied:
        return Applied(False, f"Failed to apply manifest: {why}", reason, retry)


@dataclass(frozen=True, slots=True)
class Seen:
    """The object of one manifest as last observed; `last` is what it was before it went."""

    state: Literal["present", "absent", "unknown"]
    last: Json | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    manifest: Manifest
    applied: Applied | None
    seen: Seen | None
    # The end of it was journaled: rules and feedback speak of `seen.last`, whether the object still exists or not.
    ended: bool = False


def work_status(work: Mapping[str, Any], facts: Sequence[ManifestFacts], *, now: str, deleting: bool = False) -> Json:
    """`{conditions, resourceStatus: {manifests}}`. While deleting only feedback and rules move."""
    generation = int(work.get("metadata", {}).get("generation", 0))
    old = work.get("status") or {}
    previous = _previous((old.get("resourceStatus") or {}).get("manifests") or ())
    manifests = [_manifest_status(fact, previous, generation, now, deleting) for fact in facts]
    conditions: Sequence[Mapping[str, Any]] = old.get("conditions") or ()
    if not deleting:
        conditions = _applied(conditions, facts, generation, now)
        conditions = _available(conditions, manifests, generation, now)
    conditions = _aggregated(conditions, facts, manifests, generation, now)
    return {"conditions": [dict(c) for c in conditions], "resourceStatus": {"manifests": manifests}}


def _previous(entries: Iterable[Json]) -> dict[tuple[Any, ...], Json]:
    """Old entries by exact resourceMeta, and by the object alone where that is unique."""
    found: dict[tuple[Any, ...], Json] = {}
    ambiguous: set[tuple[Any, ...]] = set()
    for entry in entries:
        identity = _identity(entry.get("resourceMeta") or {})
        found[identity] = entry
        if identity[1:] in found:
            ambiguous.add(identity[1:])
        found[identity[1:]] = entry
    for key in ambiguous:
        del found[key]
    return found


def _identity(meta: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        meta.get("ordinal", 0),
        *(meta.get(k) or "" for k in ("group", "version", "kind", "resource", "namespace", "name")),
    )


def _manifest_status(
    fact: ManifestFacts, previous: Mapping[tuple[Any, ...], Json], generation: int, now: str, deleting: bool
) -> Json:
    meta = fact.manifest.meta
    identity = _identity(meta)
    old = previous.get(identity) or previous.get(identity[1:]) or {}
    old_values = (old.get("statusFeedback") or {}).get("values") or []
    conditions = list(old.get("conditions") or ())
    if fact.applied is not None and not deleting:
        status = str(fact.applied.ok)
        conditions = with_condition(
            conditions, "Applied", status, fact.applied.reason, fact.applied.message, now=now, generation=generation
        )
    if not deleting:
        available = _availability(fact)
        if available is not None:
            conditions = with_condition(conditions, "Available", *available, now=now, generation=generation)
    resource = fact.manifest.resource
    observed = fact.seen.last if fact.seen is not None else None
    visible = fact.seen is not None and (fact.seen.state == "present" or deleting or fact.ended)
    values = old_values
    if resource is not None and observed is not None and visible:
        values, errors = feedback_values(fact.manifest.options.feedback_rules, resource, observed)
        conditions = _feedback_condition(
            conditions, fact, errors, now=now, generation=generation, changed=values != old_values
        )
        conditions = _rule_conditions(conditions, fact, observed, generation, now)
    entry: Json = {"resourceMeta": meta, "conditions": conditions}
    if values:
        entry["statusFeedback"] = {"values": values}
    return entry


def _availability(fact: ManifestFacts) -> tuple[str, str, str] | None:
    if fact.manifest.resource is None:
        return "Unknown", "IncompleteResourceMeta", "Resource meta is incomplete"
    if fact.seen is None:
        return None
    if fact.seen.state == "present":
        return "True", "ResourceAvailable", "Resource is available"
    if fact.seen.state == "absent":
        return "False", "ResourceNotAvailable", "Resource is not available"
    return "Unknown", "FetchingResourceFailed", f"Failed to fetch resource: {fact.seen.why}"


def _feedback_condition(
    conditions: list[Json], fact: ManifestFacts, errors: Sequence[str], *, now: str, generation: int, changed: bool
) -> list[Json]:
    if changed:
        # Its transition time is the time of the last change of a value.
        conditions = [c for c in conditions if c.get("type") != "StatusFeedbackSynced"]
    if errors:
        verdict = ("False", "StatusFeedbackSyncFailed", f"Sync status feedback failed with error {'; '.join(errors)}")
    elif fact.manifest.options.feedback_rules:
        verdict = ("True", "StatusFeedbackSynced", "Status feedback is synced")
    else:
        verdict = ("True", "NoStatusFeedbackSynced", "No status feedback rule is set")
    return with_condition(conditions, "StatusFeedbackSynced", *verdict, now=now, generation=generation)


def _rule_conditions(
    conditions: list[Json], fact: ManifestFacts, observed: Json, generation: int, now: str
) -> list[Json]:
    resource = fact.manifest.resource
    assert resource is not None
    results = list(filter(None, (evaluate(rule, resource, observed) for rule in fact.manifest.options.condition_rules)))
    current = {result[0] for result in results}
    conditions = [c for c in conditions if c.get("type") in current or not str(c.get("reason", "")).startswith(PREFIX)]
    for kind, status, reason, message in results:
        conditions = with_condition(conditions, kind, status, reason, message, now=now, generation=generation)
    return conditions


def _applied(
    conditions: Sequence[Mapping[str, Any]], facts: Sequence[ManifestFacts], generation: int, now: str
) -> Sequence[Mapping[str, Any]]:
    if any(fact.applied is None for fact in facts):
        return conditions
    if all(fact.applied is not None and fact.applied.ok for fact in facts):
        verdict = ("True", "AppliedManifestWorkComplete", "Apply manifest work complete")
    else:
        verdict = ("False", "AppliedManifestWorkFailed", "Failed to apply manifest work")
    return with_condition(conditions, "Applied", *verdict, now=now, generation=generation)


def _available(
    conditions: Sequence[Mapping[str, Any]], manifests: Sequence[Json], generation: int, now: str
) -> Sequence[Mapping[str, Any]]:
    statuses = [(find_condition(m["conditions"], "Available") or {}).get("status") for m in manifests]
    total, bad, unknown = len(statuses), statuses.count("False"), statuses.count("Unknown")
    if None in statuses:
        return conditions
    if bad:
        verdict = ("False", "ResourcesNotAvailable", f"{bad} of {total} resources are not available")
    elif unknown:
        verdict = ("Unknown", "ResourcesStatusUnknown", f"{unknown} of {total} resources have unknown status")
    elif not total:
        verdict = ("Unknown", "ResourcesStatusUnknown", "cannot get any available resource")
    else:
        verdict = ("True", "ResourcesAvailable", "All resources are available")
    return with_condition(conditions, "Available", *verdict, now=now, generation=generation)


def _aggregated(
    conditions: Sequence[Mapping[str, Any]],
    facts: Sequence[ManifestFacts],
    manifests: Sequence[Json],
    generation: int,
    now: str,
) -> Sequence[Mapping[str, Any]]:
    """One work condition a rule type, over the manifests that have a result for it."""
    results: dict[str, list[Mapping[str, Any]]] = {}
    for manifest in manifests:
        for condition in manifest["conditions"]:
            if str(condition.get("reason", "")).startswith(PREFIX) and condition["type"] not in _OWN_TYPES:
                results.setdefault(condition["type"], []).append(condition)
    for fact in facts:
        # A rule whose object was not seen yet holds the work back: it must not read as complete without it.
        for rule in fact.manifest.options.condition_rules:
            if rule.get("condition") in results and not _has_result(fact, rule, manifests):
                results[rule["condition"]].append({"status": "Unknown", "message": "not evaluated yet"})
    kept: Sequence[Mapping[str, Any]] = [
        c for c in conditions if c.get("reason") != AGGREGATED or c.get("type") in results
    ]
    for kind in sorted(results):
        status = _fold(kind, [str(c.get("status")) for c in results[kind]])
        single = len(results[kind]) == 1
        message = (
            results[kind][0].get("message", "")
            if single
            else f"Aggregated from {len(results[kind])} manifest conditions"
        )
        kept = with_condition(kept, kind, status, AGGREGATED, message, now=now, generation=generation)
    return kept


def _has_result(fact: ManifestFacts, rule: Mapping[str, Any], manifests: Sequence[Json]) -> bool:
    resource = fact.manifest.resource
    if resource is not None and evaluate(rule, resource, {}) is None:
        return True
    entry = next(m for m in manifests if m["resourceMeta"]["ordinal"] == fact.manifest.ordinal)
    return find_condition(entry["conditions"], str(rule.get("condition"))) is not None


def _fold(kind: str, statuses: Sequence[str]) -> str:
    if kind == "Progressing":
        if "True" in statuses:
            return "True"
        return "Unknown" if "Unknown" in statuses else "False"
    if "False" in statuses:
        return "False"
    return "Unknown" if "Unknown" in statuses or "True" not in statuses else "True"

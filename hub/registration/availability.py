"""What a cluster's silence, and what its agent says, make of its conditions and taints.

OCM's rules: a silent cluster is Available Unknown and tainted unreachable; one whose agent says that it does not work
is tainted unavailable; one that says it works has neither taint. The hub says Unknown, only the agent says True or
False. Pure: objects in, merge patches out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hub.api import names
from hub.api.conditions import find_condition, with_condition
from hub.api.reasons import Reason
from hub.registration.acceptance import is_accepted, is_leaving

Json = dict[str, Any]

AVAILABLE: Final = "ManagedClusterConditionAvailable"
ACCEPTED: Final = "HubAcceptedManagedCluster"
READABLE: Final = f"{names.GROUP}/ReportReadable"
# As long as an API server takes a condition's message to be.
_MESSAGE: Final = 32768
_TAINTS: Final = {"Unknown": names.TAINT_UNREACHABLE, "False": names.TAINT_UNAVAILABLE}
_SILENT: Final = "Registration agent stopped updating its lease."


def available(cluster: Mapping[str, Any]) -> str:
    """True, False, Unknown; empty before its agent said anything."""
    found = find_condition(_conditions(cluster), AVAILABLE)
    return str(found.get("status")) if found is not None else ""


def is_lost(cluster: Mapping[str, Any]) -> bool:
    """Whether its slices are to go elsewhere: it is cut off, was turned away, or is leaving."""
    return available(cluster) == "Unknown" or not is_accepted(cluster) or is_leaving(cluster)


def status_patch(cluster: Mapping[str, Any], *, silent: bool, now: str, unreadable: str = "") -> Json | None:
    """A merge patch of the status subresource; None: nothing is to change. It replaces the list of conditions, so it
    carries the resourceVersion it was made for: the agent writes the same list.

    `unreadable`: what of its objects cannot be read, in words; a cluster that never had such has no condition for it.
    """
    before = list(_conditions(cluster))
    after = _with_acceptance(before, cluster, now)
    if silent and available(cluster) in ("True", "False"):
        after = with_condition(after, AVAILABLE, "Unknown", "ManagedClusterLeaseUpdateStopped", _SILENT, now=now)
    if unreadable:
        reason, advice = Reason.REPORT_UNREADABLE, Reason.REPORT_UNREADABLE.advice
        message = f"{reason.message(detail=unreadable)} {advice}"[:_MESSAGE]
        after = with_condition(after, READABLE, "False", reason.code, message, now=now)
    elif find_condition(after, READABLE) is not None:
        after = with_condition(after, READABLE, "True", Reason.REPORT_READ.code, Reason.REPORT_READ.message(), now=now)
    if after == before:
        return None
    version = cluster["metadata"].get("resourceVersion")
    return {"metadata": {"resourceVersion": version}, "status": {"conditions": after}}


def taint_patch(cluster: Mapping[str, Any]) -> Json | None:
    """A merge patch of the cluster that makes its two well-known taints agree with its Available condition.

    A new taint has no time yet: OCM's admission gives it one and refuses ours; elsewhere `entry_patch` does, next.
    """
    if is_leaving(cluster):
        return None
    taints = (cluster.get("spec") or {}).get("taints") or []
    wanted = _TAINTS.get(available(cluster))
    kept = [taint for taint in taints if taint.get("key") not in _TAINTS.values() or taint.get("key") == wanted]
    if wanted and not any(taint.get("key") == wanted for taint in kept):
        kept = [*kept, {"key": wanted, "effect": "NoSelect"}]
    if kept == taints:
        return None
    version = cluster["metadata"].get("resourceVersion")
    return {"metadata": {"resourceVersion": version}, "spec": {"taints": kept or None}}


def _with_acceptance(conditions: list[Mapping[str, Any]], cluster: Mapping[str, Any], now: str) -> list[Any]:
    if is_accepted(cluster):
        return with_condition(
            conditions, ACCEPTED, "True", "HubClusterAdminAccepted", "Accepted by hub cluster admin", now=now
        )
    if find_condition(conditions, ACCEPTED) is None:
        # Nobody has decided yet.
        return conditions
    return with_condition(
        conditions, ACCEPTED, "False", "HubClusterAdminDenied", "Denied by hub cluster admin", now=now
    )


def _conditions(cluster: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return (cluster.get("status") or {}).get("conditions") or []

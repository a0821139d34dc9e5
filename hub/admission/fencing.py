"""Decisions of a hub that was replaced are refused, however late they arrive.

A hub asks whether it leads before it sends, and cannot ask while it sends: a process that was stopped in between, or a
request that waited in a queue, may arrive after another has taken over. So whatever decides anew (a slice made, told to
go, or given another size) carries the term of its hub, the Lease's count of transitions, which only grows; here it is
held against the Lease as it is. On other API servers manifests/admission/fencing.yaml says the same. All other writes
of a hub name the version of the object that they are about, and so come too late by themselves once a successor has
written.
"""

from __future__ import annotations

from typing import Any, Final

from hub.admission.findings import FieldError, wrong
from hub.admission.rule import Object
from hub.api import names
from hub.api.resource import LEASES, MANIFEST_WORKS

_WORKS: Final = (MANIFEST_WORKS.group, MANIFEST_WORKS.plural)
_FIELD: Final = f"metadata.annotations[{names.TERM}]"


def decides(group: str, plural: str, obj: Object, old: Object | None) -> bool:
    """Whether this write of a slice's work is a decision: it is new, told to go, or of another size."""
    if (group, plural) != _WORKS or names.JOB_UID not in _map(obj, "labels"):
        return False
    if old is None:
        return True
    before, after = _map(old, "annotations"), _map(obj, "annotations")
    return any(before.get(name) != after.get(name) for name in (names.EVICTION, names.RESIZE))


def fenced(obj: Object, lease: Object | None) -> FieldError | None:
    """What is wrong with a decision, given the hub's Lease. Without a term or a Lease there is nothing to hold."""
    term = str(_map(obj, "annotations").get(names.TERM) or "")
    now = ((lease or {}).get("spec") or {}).get("leaseTransitions")
    if not term or not isinstance(now, int):
        return None
    if not term.isdecimal():
        return wrong(_FIELD, term, "must be the term of a hub, a whole number")
    if int(term) < now:
        return wrong(_FIELD, term, f"the hub that decided this leads no more: the Lease is in term {now}")
    return None


LEASE: Final = (LEASES.group, LEASES.plural, names.HUB_NAMESPACE, names.HUB_LEASE)
"""Which Lease, as `Look.find` takes it."""


def _map(obj: Object, part: str) -> dict[str, Any]:
    found = (obj.get("metadata") or {}).get(part)
    return found if isinstance(found, dict) else {}

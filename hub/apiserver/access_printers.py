"""Cells of `kubectl get` for roles, bindings, requests for certificates and webhooks; shaped as in printers.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hub.apiserver.printers import NONE, Object, age, members, name_of, part


def role(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), part(obj, "metadata").get("creationTimestamp", "")]


def binding(obj: Object, now: float) -> list[Any]:
    reference = part(obj, "roleRef")
    subjects = members(obj, "subjects")
    accounts = (
        f"{subject.get('namespace', '')}/{subject.get('name', '')}" for subject in _of(subjects, "ServiceAccount")
    )
    return [
        name_of(obj),
        f"{reference.get('kind', '')}/{reference.get('name', '')}",
        age(obj, now),
        ", ".join(str(subject.get("name", "")) for subject in _of(subjects, "User")),
        ", ".join(str(subject.get("name", "")) for subject in _of(subjects, "Group")),
        ", ".join(accounts),
    ]


def certificate_request(obj: Object, now: float) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    seconds = spec.get("expirationSeconds")
    found = [str(condition.get("type")) for condition in members(status, "conditions")]
    state: list[str] = [name for name in ("Denied", "Approved") if name in found] or ["Pending"]
    state += [name for name in ("Failed",) if name in found]
    if status.get("certificate"):
        state.append("Issued")
    return [
        name_of(obj),
        age(obj, now),
        spec.get("signerName", NONE),
        spec.get("username", NONE),
        f"{seconds}s" if isinstance(seconds, int) else NONE,
        ",".join(state),
    ]


def webhooks(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), len(members(obj, "webhooks")), age(obj, now)]


def _of(subjects: Iterable[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    return [subject for subject in subjects if subject.get("kind") == kind]

"""Server-side apply, and the record of who owns which field (metadata.managedFields).

`apply` merges what a manager wants into what is there: it conflicts with others who own a field it would change, unless
forced, and takes away what the manager no longer wants and nobody else owns. `track` moves the ownership of fields that
any other write changes. Objects that nobody ever applied carry no record (it would double them, and nothing would ask
for it); at the first apply all that is there belongs to ``before-first-apply``, but for what kubectl had applied on its
own side. Records of another version of a kind are kept as they are, not translated. Neither function changes what it is
given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from hub.apiserver.fieldsets import (
    NO_FIELDS,
    Fields,
    changes,
    duplicates,
    fields_of,
    from_fields_v1,
    merge,
    remove,
    spell,
    to_fields_v1,
)
from hub.apiserver.kinds import ServedKind
from hub.apiserver.status import bad_request, failure
from hub.apiserver.topology import topology_of

Object = Mapping[str, Any]

BEFORE_FIRST_APPLY: Final = "before-first-apply"
CLIENT_SIDE_APPLY: Final = "kubectl-client-side-apply"
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
# Decided by the server, or what an object is called: nobody's.
_NOBODYS: Final = (
    *("name", "namespace", "generateName", "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink"),
    *("deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"),
)


@dataclass(frozen=True, slots=True)
class Owner:
    """One entry of managedFields."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str
    fields: Fields

    @property
    def identity(self) -> tuple[str, str, str, str]:
        return self.manager, self.operation, self.api_version, self.subresource

    def __str__(self) -> str:
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        if self.operation == "Update":
            text += f" using {self.api_version}" + (f" at {self.time}" if self.time else "")
        return text


def apply(
    kind: ServedKind,
    live: Object | None,
    config: Object,
    *,
    manager: str,
    force: bool,
    now: str,
    subresource: str = "",
) -> dict[str, Any]:
    """What becomes of `live` (None: it is created), with its managedFields; yet to be admitted. `now` is RFC 3339.

    Applied again, it changes nothing, times included. Raises `RefusedError` (400) for a configuration that cannot be
    applied, `ConflictError` naming the owners of fields it would take.
    """
    _check(kind, config, manager)
    node = topology_of(kind)
    wanted = _owned_part(kind, _without_nulls(config), subresource)
    if duplicates(wanted, node):
        raise bad_request(f"failed to create typed patch object ({_describe(kind, config)}): duplicate list members")
    fields = fields_of(wanted, node)
    base: Object = live if live is not None else {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}}
    named = {name: value for name, value in config["metadata"].items() if name in ("name", "namespace", "generateName")}
    owners = owners_of(base["metadata"])
    free = _applied_by_kubectl(kind, base)
    if live is not None and not owners:
        owners = _first_owners(kind, live, fields_of(_owned_part(kind, live, ""), node), free, now)
    own = Owner(manager, "Apply", kind.api_version, subresource, now, fields)
    last = next((owner.fields for owner in owners if owner.identity == own.identity), NO_FIELDS)
    others = [owner for owner in owners if owner.identity != own.identity]

    before = _owned_part(kind, base, subresource)
    merged = merge(before, wanted, node)
    changed, _ = changes(before, merged, node)
    others = _take(others, changed, free if manager == "kubectl" else NO_FIELDS, force=force)
    merged = remove(merged, node, last - fields, fields.union(*(owner.fields for owner in others)))

    result = {**base, **merged, "metadata": {**base["metadata"], **named, **merged.get("metadata", {})}}
    for name in before:
        if name not in merged and name != "metadata":
            del result[name]
    for name in before.get("metadata", {}):
        if name not in merged.get("metadata", {}):
            del result["metadata"][name]
    unchanged = live is not None and last == fields and result == {**base}
    if unchanged:
        own = replace(own, time=next(owner.time for owner in owners if owner.identity == own.identity) if last else now)
    _record(result["metadata"], [*others, own])
    for name in ("uid", "resourceVersion"):
        # Preconditions, where the configuration names them.
        if config["metadata"].get(name):
            result["metadata"][name] = config["metadata"][name]
    return result


def track(
    kind: ServedKind, old: Object, new: Object, *, manager: str, now: str, subresource: str = ""
) -> list[dict[str, Any]] | None:
    """managedFields of `new`, written by `manager` in place of `old` by anything but apply; None: it has none.

    A client that sends the record itself decides it. One empty entry takes it away, as in Kubernetes; an empty list,
    which careless clients send, does not.
    """
    sent = new["metadata"].get("managedFields")
    if isinstance(sent, list) and sent and not any(sent):
        return None
    owners = owners_of(new["metadata"]) or owners_of(old["metadata"])
    if not owners:
        return None
    node = topology_of(kind)
    changed, gone = changes(_owned_part(kind, old, subresource), _owned_part(kind, new, subresource), node)
    own = Owner(manager, "Update", kind.api_version, subresource, now, changed)
    result = []
    for owner in owners:
        if owner.identity == own.identity:
            own = replace(own, fields=(owner.fields - gone) | changed, time=now if changed else owner.time)
        elif changed or gone:
            result.append(replace(owner, fields=owner.fields - changed - gone))
        else:
            result.append(owner)
    metadata: dict[str, Any] = {}
    _record(metadata, [*result, own])
    return metadata.get("managedFields")


def owners_of(metadata: Object) -> list[Owner]:
    entries = metadata.get("managedFields")
    if not isinstance(entries, list):
        return []
    return [
        Owner(
            str(entry.get("manager") or ""),
            "Apply" if entry.get("operation") == "Apply" else "Update",
            str(entry.get("apiVersion") or ""),
            str(entry.get("subresource") or ""),
            str(entry.get("time") or ""),
            from_fields_v1(entry.get("fieldsV1")),
        )
        for entry in entries
        if isinstance(entry, Mapping) and entry
    ]


def _record(metadata: dict[str, Any], owners: Iterable[Owner]) -> None:
    entries = []
    for owner in sorted(owners, key=lambda owner: (owner.operation, owner.time, owner.identity)):
        if not owner.fields:
            continue
        entry = {
            "manager": owner.manager,
            "operation": owner.operation,
            "apiVersion": owner.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": to_fields_v1(owner.fields),
        }
        if owner.time:
            entry["time"] = owner.time
        if owner.subresource:
            entry["subresource"] = owner.subresource
        entries.append(entry)
    if entries:
        metadata["managedFields"] = entries
    else:
        metadata.pop("managedFields", None)


def _check(kind: ServedKind, config: Object, manager: str) -> None:
    if not manager:
        raise bad_request("fieldManager is required for apply patch")
    if not isinstance(config, Mapping) or not isinstance(config.get("metadata", {}), Mapping):
        raise bad_request("the configuration to apply must be an object with metadata")
    for name, expected in (("apiVersion", kind.api_version), ("kind", kind.kind)):
        if config.get(name) != expected:
            raise bad_request(f"{name} of the configuration is {config.get(name)!r}; expected {expected}")
    if "metadata" not in config:
        raise bad_request("the configuration to apply needs metadata")
    if config["metadata"].get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    if kind.schema is not None and (unknown := kind.schema.conform(config).unknown):
        raise bad_request(
            f"failed to create typed patch object ({_describe(kind, config)}): "
            + ", ".join(f".{path}: field not declared in schema" for path in unknown)
        )


def _describe(kind: ServedKind, config: Object) -> str:
    metadata = config["metadata"]
    name = "/".join(str(part) for part in (metadata.get("namespace"), metadata.get("name")) if part)
    return f"{name}; {kind.api_version}, Kind={kind.kind}"


def _owned_part(kind: ServedKind, obj: Object, subresource: str) -> dict[str, Any]:
    """What of `obj` a write here can own: everything but status, or status alone."""
    if subresource in ("status", "approval"):
        return {"status": obj["status"]} if obj.get("status") is not None else {}
    part = {
        name: value
        for name, value in obj.items()
        if name not in ("apiVersion", "kind", "metadata")
        and value is not None
        and not (name == "status" and kind.has_status)
    }
    metadata = {n: value for n, value in obj["metadata"].items() if n not in _NOBODYS and value is not None}
    if metadata:
        part["metadata"] = metadata
    return part


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    return value


def _first_owners(kind: ServedKind, live: Object, existing: Fields, applied: Fields, now: str) -> list[Owner]:
    """Whose the fields of an object are that nobody kept a record of.

    kubectl takes over what it applied on its own side, as soon as it applies on the server's, and what it no longer
    wants then goes; so that must be told from what others wrote.
    """
    created = str(live["metadata"].get("creationTimestamp") or now)
    theirs = existing & applied
    return [
        Owner(CLIENT_SIDE_APPLY, "Update", kind.api_version, "", created, theirs),
        Owner(BEFORE_FIRST_APPLY, "Update", kind.api_version, "", created, existing - theirs),
    ]


def _applied_by_kubectl(kind: ServedKind, live: Object) -> Fields:
    """Fields that kubectl applied on its own side before: its server-side apply may have them without a fight."""
    text = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    if not isinstance(text, str):
        return NO_FIELDS
    try:
        applied = orjson.loads(text)
    except orjson.JSONDecodeError:
        return NO_FIELDS
    if not isinstance(applied, dict) or not isinstance(applied.get("metadata"), dict):
        return NO_FIELDS
    annotation = ("f:metadata", "f:annotations", f"f:{LAST_APPLIED}")
    return fields_of(_owned_part(kind, applied, ""), topology_of(kind)) | {annotation}


def _take(others: Sequence[Owner], changed: Fields, free: Fields, *, force: bool) -> list[Owner]:
    """The other owners without what is taken from them. Raises `ConflictError` where they do not give it."""
    result = []
    conflicts: list[tuple[Owner, Fields]] = []
    for owner in others:
        taken = owner.fields & changed
        fought = taken if owner.operation == "Apply" else taken - free
        if fought and not force:
            conflicts.append((owner, fought))
        result.append(replace(owner, fields=owner.fields - taken) if taken else owner)
    if conflicts:
        raise _conflict(conflicts)
    return result


def _conflict(conflicts: Sequence[tuple[Owner, Fields]]) -> Exception:
    found = [(owner, [spell(field) for field in sorted(fields)]) for owner, fields in conflicts]
    count = sum(len(fields) for _, fields in found)
    if count == 1:
        owner, fields = found[0]
        said = f"conflict with {owner}: {fields[0]}"
    else:
        said = "\n".join(f"conflicts with {owner}:\n" + "\n".join(f"- {f}" for f in fields) for owner, fields in found)
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {owner}", "field": field}
        for owner, fields in found
        for field in fields
    ]
    plural = "conflict" if count == 1 else "conflicts"
    return failure(409, "Conflict", f"Apply failed with {count} {plural}: {said}", {"causes": causes})

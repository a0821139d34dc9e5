"""Strategic merge patches, for built-in kinds: lists are merged by the keys that the schema names.

Directives: ``$patch`` (merge, replace, delete) in objects and members of lists, ``$retainKeys``,
``$deleteFromPrimitiveList/F`` and ``$setElementOrder/F``. Custom resources have no such patches; the server refuses
them before it comes here. Nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hub.api.errors import InvalidObjectError
from hub.api.frozen import freeze
from hub.apiserver.ordering import reordered

Schema = Mapping[str, Any]

_PATCH, _RETAIN = "$patch", "$retainKeys"
_DELETE_FROM, _ORDER = "$deleteFromPrimitiveList/", "$setElementOrder/"
_NOTHING: Final[Schema] = {}
_METADATA: Final[Schema] = {
    "properties": {
        "finalizers": {"x-kubernetes-patch-strategy": "merge"},
        "ownerReferences": {"x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "uid"},
    }
}


class StrategicPatchError(InvalidObjectError):
    """A patch that contradicts the schema or itself."""


def apply_strategic_patch(obj: Mapping[str, Any], patch: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """`obj` with `patch` applied; `schema` is the kind's OpenAPI schema. Raises `StrategicPatchError`."""
    if not isinstance(patch, Mapping):
        raise StrategicPatchError("a strategic merge patch is an object")
    rooted = {**schema, "properties": {**(schema.get("properties") or {}), "metadata": _METADATA}}
    return _merge(obj, patch, rooted, "")


def _merge(old: Any, patch: Mapping[str, Any], schema: Schema, path: str) -> dict[str, Any]:
    directive = patch.get(_PATCH)
    if directive == "replace":
        return _clean_object(patch)
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise StrategicPatchError(f"found {directive!r}; allowed: merge, replace, delete", field=_join(path, _PATCH))
    result: dict[str, Any] = dict(old) if isinstance(old, Mapping) else {}
    if _RETAIN in patch:
        kept = patch[_RETAIN]
        if not isinstance(kept, list):
            raise StrategicPatchError("expected a list of keys", field=_join(path, _RETAIN))
        result = {key: value for key, value in result.items() if key in kept}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
            continue
        below, at = _below(schema, key), _join(path, key)
        if isinstance(value, Mapping):
            before = result.get(key)
            if value.get(_PATCH) == "delete":
                result.pop(key, None)
            else:
                result[key] = _merge(before, value, below, at)
        elif isinstance(value, list) and below.get("x-kubernetes-patch-strategy") == "merge":
            result[key] = _merge_list(result.get(key), value, below, at)
        else:
            result[key] = _clean(value)
    _finish_lists(result, patch, schema, path)
    return result


def _finish_lists(result: dict[str, Any], patch: Mapping[str, Any], schema: Schema, path: str) -> None:
    """Deletions from primitive lists first, then the order that was asked for."""
    for prefix in (_DELETE_FROM, _ORDER):
        for directive, wanted in patch.items():
            if not directive.startswith(prefix):
                continue
            key = directive.removeprefix(prefix)
            if not isinstance(wanted, list):
                raise StrategicPatchError("expected a list", field=_join(path, directive))
            members = result.get(key)
            if not isinstance(members, list):
                continue
            if prefix == _DELETE_FROM:
                gone = set(map(freeze, wanted))
                result[key] = [member for member in members if freeze(member) not in gone]
            else:
                merge_key = _below(schema, key).get("x-kubernetes-patch-merge-key")
                result[key] = _ordered(members, wanted, merge_key)


def _below(schema: Schema, key: str) -> Schema:
    found = (schema.get("properties") or {}).get(key) or schema.get("additionalProperties")
    return found if isinstance(found, Mapping) else _NOTHING


def _merge_list(old: Any, patch: list[Any], schema: Schema, path: str) -> list[Any]:
    merge_key = schema.get("x-kubernetes-patch-merge-key")
    members = list(old) if isinstance(old, list) else []
    if merge_key is None:
        known = set(map(freeze, members))
        for value in map(_clean, patch):
            if freeze(value) not in known:
                members.append(value)
                known.add(freeze(value))
        return members
    changes: list[Mapping[str, Any]] = []
    for index, entry in enumerate(patch):
        if not isinstance(entry, Mapping):
            raise StrategicPatchError("expected an object", field=f"{path}[{index}]")
        if entry.get(_PATCH) == "replace":
            # The whole list is what the patch says beside this word.
            rest = [_clean_object(other) for other in patch if isinstance(other, Mapping)]
            return [member for member in rest if member]
        if merge_key not in entry:
            raise StrategicPatchError(f"does not contain the merge key {merge_key}", field=f"{path}[{index}]")
        changes.append(entry)
    items = schema.get("items")
    below: Schema = items if isinstance(items, Mapping) else _NOTHING
    for index, entry in enumerate(changes):
        wanted = freeze(entry[merge_key])
        at = [i for i, member in enumerate(members) if _key_of(member, merge_key) == wanted]
        if entry.get(_PATCH) == "delete":
            members = [member for i, member in enumerate(members) if i not in at]
        elif at:
            members[at[0]] = _merge(members[at[0]], entry, below, f"{path}[{index}]")
        else:
            members.append(_merge({}, entry, below, f"{path}[{index}]"))
    return members


def _key_of(member: Any, merge_key: str) -> Any:
    return freeze(member.get(merge_key)) if isinstance(member, Mapping) else object()


def _ordered(members: list[Any], wanted: list[Any], merge_key: Any) -> list[Any]:
    def identity(member: Any) -> Any:
        return freeze(member.get(merge_key) if merge_key and isinstance(member, Mapping) else member)

    return reordered(members, [identity(member) for member in wanted], identity)


def _clean_object(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _clean(member) for key, member in value.items() if member is not None and not key.startswith("$")}


def _clean(value: Any) -> Any:
    """A value as it is stored: without directives, without the nulls that mean deletion."""
    if isinstance(value, Mapping):
        return _clean_object(value)
    if isinstance(value, list):
        return [_clean(member) for member in value]
    return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key

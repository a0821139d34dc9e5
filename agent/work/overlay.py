"""Comparing and joining a manifest with the live object, where the server has filled in what the manifest leaves out.

Comparing for equality would see a difference in every defaulted field and fight the server over it; so a manifest is
in force when the live object *contains* it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hub.api.errors import InvalidQuantityError
from hub.api.quantity import Quantity

Json = dict[str, Any]
# Below these keys values are quantities, which a server may spell in its own way.
_QUANTITY_MAPS: Final = frozenset({"limits", "requests", "hard", "capacity", "allocatable", "overhead"})
_NOT_CONTENT: Final = frozenset({"apiVersion", "kind", "metadata", "status"})


def in_force(manifest: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether everything the manifest says (labels, annotations, and all but status) is so in the live object."""
    return _metadata_in_force(manifest["metadata"], live["metadata"]) and all(
        contains(live.get(key), value, key) for key, value in manifest.items() if key not in _NOT_CONTENT
    )


def contains(live: Any, wanted: Any, key: str = "", *, quantities: bool = False) -> bool:
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return live is None and all(value is None for value in wanted.values())
        below = key in _QUANTITY_MAPS
        return all(contains(live.get(name), value, name, quantities=below) for name, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(live, list):
            return live is None and not wanted
        return len(live) == len(wanted) and all(contains(a, b) for a, b in zip(live, wanted, strict=True))
    if wanted is None:
        return True
    if type(live) is type(wanted) and live == wanted:
        return True
    if isinstance(live, bool) or isinstance(wanted, bool):
        return False
    if isinstance(live, int | float) and isinstance(wanted, int | float):
        return live == wanted
    return quantities and _same_quantity(live, wanted)


def _same_quantity(live: Any, wanted: Any) -> bool:
    try:
        return Quantity(live) == Quantity(wanted)
    except (InvalidQuantityError, TypeError):
        return False


def _metadata_in_force(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    for name in ("labels", "annotations"):
        current = live.get(name) or {}
        for key, value in (wanted.get(name) or {}).items():
            if key.endswith("-"):
                if key[:-1] in current:
                    return False
            elif current.get(key) != value:
                return False
    return True


def merged_metadata(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> Json:
    """The live metadata with the manifest's labels and annotations; a key that ends in ``-`` removes."""
    result = {key: value for key, value in live.items() if key != "managedFields"}
    for name in ("labels", "annotations"):
        merged = dict(live.get(name) or {})
        for key, value in (wanted.get(name) or {}).items():
            if key.endswith("-"):
                merged.pop(key[:-1], None)
            else:
                merged[key] = value
        if merged:
            result[name] = merged
        else:
            result.pop(name, None)
    return result


def replaced(manifest: Mapping[str, Any], live: Mapping[str, Any]) -> Json:
    """The manifest's content as it is written, on the live object's identity and status."""
    body = {key: value for key, value in manifest.items() if key not in ("metadata", "status")}
    body["metadata"] = merged_metadata(manifest["metadata"], live["metadata"])
    if "status" in live:
        body["status"] = live["status"]
    return body


def overlaid(manifest: Mapping[str, Any], live: Mapping[str, Any]) -> Json:
    """The live object with the manifest's values in it: what the server filled in stays."""
    body = dict(live)
    for key, value in manifest.items():
        if key not in ("metadata", "status"):
            body[key] = _overlay(live.get(key), value)
    body["metadata"] = merged_metadata(manifest["metadata"], live["metadata"])
    return body


def _overlay(live: Any, wanted: Any) -> Any:
    if isinstance(live, Mapping) and isinstance(wanted, Mapping):
        return {**live, **{key: _overlay(live.get(key), value) for key, value in wanted.items()}}
    if isinstance(live, list) and isinstance(wanted, list) and _named(live) and _named(wanted):
        by_name = {item["name"]: item for item in live}
        return [_overlay(by_name.get(item["name"]), item) for item in wanted]
    return wanted


def _named(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, Mapping) and "name" in item for item in items)

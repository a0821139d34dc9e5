"""How the fields of a kind can be owned: which lists are merged by key, which are sets, and what is one piece.

Compiled once from a kind's schema. What a schema does not describe is told from the value: objects field by field,
lists whole. Fields that the server itself decides belong to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

from hub.apiserver.kinds import ServedKind

Shape = Literal["fields", "keyed", "set", "whole"]


@dataclass(slots=True, eq=False)
class Node:
    """`keys` tell members of a keyed list apart; a member that leaves one out has its default."""

    shape: Shape
    properties: dict[str, Node] = field(default_factory=dict)
    others: Node | None = None
    items: Node | None = None
    keys: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)

    def below(self, name: str) -> Node:
        return self.properties.get(name) or self.others or UNDESCRIBED

    def member(self) -> Node:
        return self.items or UNDESCRIBED


WHOLE: Final = Node("whole")
UNDESCRIBED: Final = Node("fields")
_STRINGS: Final = Node("fields", others=WHOLE)
_METADATA: Final = Node(
    "fields",
    properties={
        "labels": _STRINGS,
        "annotations": _STRINGS,
        "finalizers": Node("set"),
        "ownerReferences": Node("keyed", keys=("uid",), items=WHOLE),
    },
    others=WHOLE,
)


@lru_cache(maxsize=1024)
def topology_of(kind: ServedKind) -> Node:
    root = _node(kind.openapi)
    root.properties["metadata"] = _METADATA
    return root


def _node(schema: Mapping[str, Any]) -> Node:
    if "items" in schema:
        return _list(schema)
    if schema.get("x-kubernetes-map-type") == "atomic":
        return WHOLE
    properties = {name: _node(member) for name, member in (schema.get("properties") or {}).items()}
    additional = schema.get("additionalProperties")
    others = _node(additional) if isinstance(additional, Mapping) else None
    if not properties and others is None and schema.get("type") not in (None, "object"):
        return WHOLE
    return Node("fields", properties, others)


def _list(schema: Mapping[str, Any]) -> Node:
    items = schema["items"] if isinstance(schema["items"], Mapping) else {}
    kind, merge_key = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-patch-merge-key")
    keys = tuple(schema.get("x-kubernetes-list-map-keys") or ()) if kind == "map" else (merge_key,) if merge_key else ()
    if keys:
        described = items.get("properties") or {}
        defaults = {key: described[key]["default"] for key in keys if "default" in described.get(key, {})}
        return Node("keyed", items=_node(items), keys=keys, defaults=defaults)
    return Node("set") if kind == "set" else WHOLE

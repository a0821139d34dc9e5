"""Which kind, object and subresource a path means. Nothing here knows what is done with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from hub.apiserver.kinds import Registry, ServedKind

CLUSTERS: Final = "clusters"
_NAMESPACE_SUBRESOURCES: Final = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True)
class Target:
    """`namespace` None: all of them, or none where the kind has none. `name` empty: the collection."""

    kind: ServedKind
    namespace: str | None
    name: str = ""
    subresource: str = ""


def segments(path: str) -> list[str]:
    """The parts of a path; a trailing slash means nothing."""
    parts = path.split("/")[1:]
    if parts and not parts[-1]:
        parts.pop()
    return [unquote(part) for part in parts] if "%" in path else parts


def split_cluster(parts: list[str]) -> tuple[str, list[str]]:
    """The logical cluster's name (empty for the one at the root) and the rest."""
    if len(parts) >= 2 and parts[0] == CLUSTERS:
        return parts[1], parts[2:]
    return "", parts


def route(registry: Registry, parts: Sequence[str]) -> Target | None:
    """The target of ``/api/…`` or ``/apis/…``; None where nothing is served."""
    if parts[0] == "api" and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace: str | None = None
    if rest[0] == "namespaces" and len(rest) >= 3 and not (_is_namespace(group, rest)):
        namespace, rest = rest[1], rest[2:]
    kind = registry.find(group, version, rest[0])
    if kind is None or len(rest) > 3 or "" in rest:
        return None
    if namespace is not None and not kind.namespaced:
        return None
    name = rest[1] if len(rest) > 1 else ""
    if name and kind.namespaced and namespace is None:
        return None
    return Target(kind, namespace, name, rest[2] if len(rest) > 2 else "")


def _is_namespace(group: str, rest: Sequence[str]) -> bool:
    return not group and len(rest) == 3 and rest[2] in _NAMESPACE_SUBRESOURCES

"""Objects of any kind, sorted into what a decision reads, and what it does not.

Files and a live hub's listings come in the same way. What is malformed is said by file, object and field, all of it at
once; what is only contradictory (a queue whose flavor is missing) is no error: it is decided about, and shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hub.api import resource
from hub.api.errors import InvalidObjectError
from hub.api.resource import Resource

Json = Mapping[str, Any]

READ: Final[tuple[Resource, ...]] = (
    resource.NAMESPACES,
    resource.MANAGED_CLUSTERS,
    resource.MANAGED_CLUSTER_SETS,
    resource.MANAGED_CLUSTER_SET_BINDINGS,
    resource.PLACEMENTS,
    resource.PLACEMENT_DECISIONS,
    resource.ADDON_PLACEMENT_SCORES,
    resource.CLUSTER_CAPACITIES,
    resource.SCORE_SOURCES,
    resource.RESOURCE_FLAVORS,
    resource.COHORTS,
    resource.CLUSTER_QUEUES,
    resource.LOCAL_QUEUES,
    resource.WORKLOAD_PRIORITY_CLASSES,
    resource.PRIORITY_CLASSES,
    resource.ADMISSION_CHECKS,
    resource.MULTI_KUEUE_CONFIGS,
    resource.MULTI_KUEUE_CLUSTERS,
    resource.WORKLOADS,
    resource.FLEET_JOBS,
    resource.JOBS,
    resource.MANIFEST_WORKS,
)
"""What `plan` asks a hub for; from files it reads Kueue's Configuration besides."""

CONFIG_GROUP: Final = "config.kueue.x-k8s.io"
_KNOWN: Final = frozenset({(r.group, r.kind) for r in READ} | {(CONFIG_GROUP, "Configuration")})

ONLY_KUEUE: Final = frozenset(("LimitRange", "RuntimeClass.node.k8s.io"))
"""Read in mode kueue only; elsewhere the clusters themselves apply them."""


@dataclass(frozen=True, slots=True)
class Source:
    """An object and where it came from: a file, or nothing for a hub."""

    obj: Json
    place: str = ""

    @property
    def name(self) -> str:
        meta = self.obj.get("metadata") or {}
        return f"{self.obj.get('kind')} {meta.get('name') or ''}".rstrip()


@dataclass(slots=True)
class Objects:
    """`ignored`: ``Kind.group`` of what no decision reads. `problems`: (source, what is wrong), in order of reading."""

    by_kind: dict[str, list[Source]] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)
    problems: list[tuple[Source, InvalidObjectError]] = field(default_factory=list)

    def of(self, kind: Resource | str) -> list[Json]:
        """In the order of their namespaces and names, whatever the order of the input."""
        return [source.obj for source in self.sources(kind)]

    def sources(self, kind: Resource | str) -> list[Source]:
        name = kind if isinstance(kind, str) else kind.kind
        return sorted(self.by_kind.get(name, ()), key=_order)

    def problem(self, source: Source, error: InvalidObjectError) -> None:
        self.problems.append((source, error))

    def check(self) -> None:
        """Raises `InvalidObjectError` with a line for each problem."""
        if not self.problems:
            return
        lines = sorted(
            {f"{source.place + ': ' if source.place else ''}{source.name}: {e}" for source, e in self.problems}
        )
        error = InvalidObjectError("\n".join(lines))
        error.field = self.problems[0][1].field
        raise error


def sort_objects(sources: Iterable[Source]) -> Objects:
    """The last of two objects with one name counts, as with `kubectl apply`."""
    found = Objects()
    unique: dict[tuple[str, str, str, str], Source] = {}
    for source in sources:
        obj = source.obj
        group, _, _ = str(obj.get("apiVersion") or "").rpartition("/")
        kind = str(obj.get("kind") or "")
        if (group, kind) not in _KNOWN:
            name = f"{kind}.{group}" if group else kind
            found.ignored.add(name)
            if name not in ONLY_KUEUE:
                continue
        if (group, kind) == ("batch", "Job") and not _has_queue(obj):
            found.ignored.add("Job.batch without a queue name")
            continue
        unique[(group, kind, *_order(source))] = source
    for (_, kind, _, _), source in unique.items():
        found.by_kind.setdefault(kind, []).append(source)
    return found


def _has_queue(obj: Json) -> bool:
    from hub.jobs.spec import is_ours

    return is_ours(obj)


def _order(source: Source) -> tuple[str, str]:
    meta = source.obj.get("metadata") or {}
    return str(meta.get("namespace") or ""), str(meta.get("name") or "")

"""What `get` and `describe` read of the hub for each kind of thing, and the rows that come of it.

A thing's row is compared to tell whether it changed, so it holds times, never ages.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from hub.api import names, resource
from hub.api.errors import NotFoundError, UsageError
from hub.api.resource import Resource
from hub.client.interface import KubeApi
from hub.server.view import Table

if TYPE_CHECKING:
    from hub.server.snapshot import State

Json = dict[str, Any]
Found = Mapping[Resource, Sequence[Json]]
_QUOTA: Final = (
    resource.NAMESPACES,
    resource.RESOURCE_FLAVORS,
    resource.COHORTS,
    resource.CLUSTER_QUEUES,
    resource.LOCAL_QUEUES,
    resource.WORKLOAD_PRIORITY_CLASSES,
)
_RUNNING: Final = (resource.FLEET_JOBS, resource.JOBS, resource.MANIFEST_WORKS)


@dataclass(frozen=True, slots=True)
class Thing:
    """`objects` is what the API has of it: what ``-o json`` prints."""

    namespace: str
    name: str
    row: Any
    object: Json


@dataclass(frozen=True, slots=True)
class Kind:
    """`local`: of these, what is in one namespace only is read, unless all are asked for. `selectors`: only those of a
    kind that have these labels. `hint`: what to do when there is none.
    """

    name: str
    aliases: tuple[str, ...]
    resources: tuple[Resource, ...]
    namespaced: bool
    local: frozenset[Resource]
    things: Callable[[Found], list[Thing]]
    table: Callable[[Iterable[Any], float, bool], Table]
    hint: str
    selectors: Mapping[Resource, str] = field(default_factory=dict)


def kind_of(text: str) -> Kind:
    """By any of its names. Raises `UsageError`."""
    for kind in KINDS:
        if text.lower() in (kind.name, *kind.aliases):
            return kind
    known = [name for kind in KINDS for name in (kind.name, *kind.aliases)]
    close = difflib.get_close_matches(text.lower(), known, n=1)
    hint = f"Did you mean `{close[0]}`?" if close else "Everything else goes with kubectl and the hub's kubeconfig."
    raise UsageError(f"{text!r} is not one of {', '.join(kind.name for kind in KINDS)}", hint=hint)


async def read(api: KubeApi, kind: Kind, namespace: str | None) -> dict[Resource, list[Json]]:
    """Everything `kind` is made of; `namespace` None: of all. What the server does not know is not there."""
    found: dict[Resource, list[Json]] = {}
    for member in kind.resources:
        try:
            where = namespace if member in kind.local else None
            listing = await api.list(member, where, label_selector=kind.selectors.get(member, ""))
        except NotFoundError:
            continue
        found[member] = [said(member, item) for item in listing.items]
    return found


def said(member: Resource, item: Json) -> Json:
    """Members of a list do not say what they are."""
    return {"apiVersion": member.api_version, "kind": member.kind, **item}


def choose(kind: Kind, things: Iterable[Thing], names: Sequence[str], namespace: str | None) -> list[Thing]:
    """Those of `namespace` (None: all) that are called one of `names` (none: all), in the order of `names`.

    Raises `UsageError` for a name that nothing has, with names that are near.
    """
    here = [thing for thing in things if not kind.namespaced or namespace is None or thing.namespace == namespace]
    if not names:
        return here
    chosen = []
    for name in dict.fromkeys(names):
        matching = [thing for thing in here if thing.name == name]
        if not matching:
            raise missing(kind, name, [thing.name for thing in here], namespace)
        chosen += matching
    return chosen


def missing(kind: Kind, name: str, known: Iterable[str], namespace: str | None) -> UsageError:
    close = difflib.get_close_matches(name, sorted(set(known)), n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"`quarterdeck get {kind.name}` lists what is there."
    where = f" in namespace {namespace}" if kind.namespaced and namespace is not None else ""
    return UsageError(f"there is no {kind.aliases[0]} {name}{where}", hint=hint)


def state_of(found: Found, now: float | None = None) -> State:
    """The fleet's state by the hub's own code. What is wrong with an object is part of it, not an error."""
    from hub.controllers.logs import configure
    from hub.server.reading import Source, sort_objects
    from hub.server.snapshot import State

    # What is worth knowing is in the rows.
    configure("critical", "logfmt")
    sources = [Source(item) for items in found.values() for item in items]
    return State(sort_objects(sources), time.time() if now is None else now, (), live=True)


def _jobs(found: Found) -> list[Thing]:
    from hub.jobs.works import cluster_of
    from hub.server.jobs import is_fleets, job_row

    jobs = [job for member in (resource.FLEET_JOBS, resource.JOBS) for job in found.get(member, ()) if is_fleets(job)]
    where: dict[str, set[str]] = {}
    for work in found.get(resource.MANIFEST_WORKS, ()):
        owner = (work["metadata"].get("labels") or {}).get(names.JOB_UID)
        where.setdefault(str(owner), set()).add(cluster_of(work))
    rows = [(job_row(job, where.get(str(job["metadata"].get("uid")), ())), job) for job in jobs]
    return [Thing(row.namespace, row.name, row, job) for row, job in rows]


def _job_table(rows: Iterable[Any], now: float, namespaces: bool) -> Table:
    from hub.server.jobs import job_table

    return job_table(rows, now, namespaces=namespaces)


def _clusters(found: Found) -> list[Thing]:
    from hub.server.clusters import cluster_rows

    objects = {item["metadata"]["name"]: item for item in found.get(resource.MANAGED_CLUSTERS, ())}
    return [Thing("", row.name, row, objects[row.name]) for row in cluster_rows(state_of(found))]


def _cluster_table(rows: Iterable[Any], now: float, namespaces: bool) -> Table:
    from hub.server.clusters import cluster_table

    return cluster_table(rows, now)


def _queues(found: Found) -> list[Thing]:
    from hub.server.queues import queue_rows

    objects = {
        (item["metadata"]["namespace"], item["metadata"]["name"]): item for item in found.get(resource.LOCAL_QUEUES, ())
    }
    rows = queue_rows(state_of(found))
    return [Thing(row.namespace, row.name, row, objects[row.namespace, row.name]) for row in rows]


def _queue_table(rows: Iterable[Any], now: float, namespaces: bool) -> Table:
    from hub.server.queues import queue_table

    return queue_table(rows, now, namespaces=namespaces)


JOBS: Final = Kind(
    "jobs",
    ("job", "fleetjobs", "fleetjob", "fj"),
    (resource.FLEET_JOBS, resource.JOBS, resource.MANIFEST_WORKS),
    namespaced=True,
    local=frozenset({resource.FLEET_JOBS, resource.JOBS}),
    things=_jobs,
    table=_job_table,
    hint="Submit one: `quarterdeck run -- hostname`.",
    selectors={resource.MANIFEST_WORKS: f"{names.JOB_KIND}=Job"},
)
CLUSTERS: Final = Kind(
    "clusters",
    ("cluster", "managedclusters", "managedcluster", "mcl", "sites", "site"),
    (resource.MANAGED_CLUSTERS, resource.CLUSTER_CAPACITIES, resource.RESOURCE_FLAVORS, *_RUNNING),
    namespaced=False,
    local=frozenset(),
    things=_clusters,
    table=_cluster_table,
    hint="Start some: `quarterdeck up`.",
)
QUEUES: Final = Kind(
    "queues",
    ("queue", "localqueues", "localqueue", "lq"),
    (*_QUOTA, resource.MANAGED_CLUSTERS, resource.CLUSTER_CAPACITIES, resource.WORKLOADS, *_RUNNING),
    namespaced=True,
    local=frozenset(),
    things=_queues,
    table=_queue_table,
    hint="A LocalQueue leads to a ClusterQueue; create both with `quarterdeck submit FILE`.",
)
KINDS: Final = (JOBS, CLUSTERS, QUEUES)

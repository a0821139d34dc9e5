"""All quota that there is: flavors, cohorts, queues and the ways into them, read from Kueue's objects. Immutable.

A broken object is in `problems` and, where it makes a queue's limits unknown, that queue takes no jobs; the others
stand. A change costs the reading of the changed object and, of the trees, those it belongs to. How much is used is not
here (hub/queueing/ledger.py), nor who is next (hub/planner).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.placement.selectors import matches
from hub.queueing import objects
from hub.queueing.forest import grow
from hub.queueing.kueue.transforms import ALL, Counted
from hub.queueing.objects import ClusterQueue, Cohort, Flavor, FlavorResource, LocalQueue, PodPriority
from hub.queueing.tree import QuotaTree
from hub.queueing.worker_clusters import (
    Check,
    Unanswered,
    Worker,
    WorkerList,
    clusters_of,
    read_check,
    read_worker,
    read_worker_list,
)

__all__ = ["Denial", "FlavorResource", "Inactive", "Quotas", "quota_kinds"]

ObjectKey = tuple[str, str, str]
"""(kind, namespace, name); namespace empty for what has none."""


@dataclass(frozen=True, slots=True)
class Denial:
    """Why the queue says no: a reason and the numbers of its sentence."""

    reason: Reason
    facts: tuple[tuple[str, Any], ...]

    @property
    def message(self) -> str:
        return self.reason.message(**dict(self.facts))


@dataclass(frozen=True, slots=True)
class Inactive:
    """Why a ClusterQueue takes no jobs. `code` is the reason of its Active condition, as Kueue spells it."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Broken:
    detail: str


_Read = (
    Flavor
    | Cohort
    | ClusterQueue
    | LocalQueue
    | Check
    | WorkerList
    | Worker
    | PodPriority
    | Mapping[str, str]
    | int
    | _Broken
)

_READERS: Mapping[str, Callable[[Mapping[str, Any]], _Read]] = {
    "ResourceFlavor": objects.read_flavor,
    "Cohort": objects.read_cohort,
    "ClusterQueue": objects.read_cluster_queue,
    "LocalQueue": objects.read_local_queue,
    "WorkloadPriorityClass": objects.read_priority,
    "PriorityClass": objects.read_pod_priority,
    "Namespace": objects.read_namespace,
    "AdmissionCheck": read_check,
    "MultiKueueConfig": read_worker_list,
    "MultiKueueCluster": read_worker,
}
_NAMESPACED = ("LocalQueue",)
# Kinds that no tree is made of.
_APART = frozenset({"LocalQueue", "WorkloadPriorityClass", "PriorityClass", "Namespace"})


def quota_kinds() -> frozenset[str]:
    return frozenset(_READERS)


@dataclass(frozen=True, slots=True, eq=False)
class Quotas:
    """`trees`: by ClusterQueue, the tree it is in (queues whose limits are unknown are in none).

    `workers`: by ClusterQueue, on which clusters its jobs may run, where its owner says so. `checks`: AdmissionChecks.
    `priorities`: of WorkloadPriorityClasses, `pod_priorities`: of PriorityClasses, `default_priority`: of pods that
    name none.
    `counts`: what resources of jobs count as.
    `inactive`: by ClusterQueue, why it takes no jobs. `problems`: by ``Kind/name``, what could not be read or agreed.
    """

    flavors: Mapping[str, Flavor] = field(default_factory=dict)
    cohorts: Mapping[str, Cohort] = field(default_factory=dict)
    queues: Mapping[str, ClusterQueue] = field(default_factory=dict)
    local_queues: Mapping[tuple[str, str], LocalQueue] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    priorities: Mapping[str, int] = field(default_factory=dict)
    pod_priorities: Mapping[str, int] = field(default_factory=dict)
    default_priority: int = 0
    trees: Mapping[str, QuotaTree] = field(default_factory=dict)
    workers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    checks: Mapping[str, Check] = field(default_factory=dict)
    inactive: Mapping[str, Inactive] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    counts: Counted = ALL
    _read: Mapping[ObjectKey, tuple[Mapping[str, Any], _Read]] = field(default_factory=dict, repr=False)
    _built: Mapping[str, tuple[tuple[object, ...], QuotaTree]] = field(default_factory=dict, repr=False)

    @staticmethod
    def parse(objects: Iterable[Mapping[str, Any]]) -> Quotas:
        """Of any objects, those that quota is made of (see `quota_kinds`); the last of two with one name counts."""
        return Quotas().updated(objects)

    def updated(self, seen: Iterable[Mapping[str, Any]] = (), gone: Iterable[ObjectKey] = ()) -> Quotas:
        """With `seen` added or replaced, and `gone` removed."""
        read = dict(self._read)
        changed: set[str] = set()
        for key in gone:
            if read.pop(key, None) is not None:
                changed.add(key[0])
        for obj in seen:
            kind = str(obj.get("kind", ""))
            reader = _READERS.get(kind)
            if reader is None:
                continue
            key = _key(kind, obj)
            known = read.get(key)
            if known is None or known[0] is not obj:
                value = _try(reader, obj)
                if isinstance(value, ClusterQueue) and self.counts is not ALL:
                    value = replace(value, counts=self.counts)
                read[key] = (obj, value)
                changed.add(kind)
        if not changed:
            return self
        return _assemble(read, self if changed <= _APART else None, self._built, self.counts)

    def with_values(self, values: Mapping[ObjectKey, ClusterQueue | Cohort], problems: Mapping[str, str]) -> Quotas:
        """With these in place of what was read of their objects; `problems` of objects are added."""
        if not values and not problems:
            return self
        read = dict(self._read)
        for key, value in values.items():
            read[key] = (read[key][0], value)
        found = _assemble(read, None, self._built, self.counts) if values else self
        return replace(found, problems=dict(sorted({**found.problems, **problems}.items())))

    def object(self, kind: str, name: str, namespace: str = "") -> Mapping[str, Any] | None:
        """The object that was read, as it came."""
        found = self._read.get((kind, namespace, name))
        return None if found is None else found[0]

    def unreadable(self, kind: str, obj: Mapping[str, Any]) -> str | None:
        """Why this object could not be read; None when it could."""
        found = self._read.get(_key(kind, obj))
        return found[1].detail if found is not None and isinstance(found[1], _Broken) else None

    def asks(self, queue: str, flavors: Iterable[str]) -> tuple[str, ...]:
        """Names of the admission checks that must be Ready before what was given of these flavors may start.

        The check of MultiKueue is among them where the queue has one.
        """
        found = self.queues.get(queue)
        if found is None or not found.check_rules:
            return ()
        used = set(flavors)
        return tuple(rule.name for rule in found.check_rules if not rule.flavors or used & set(rule.flavors))

    def strangers(self, queue: str, flavors: Iterable[str]) -> tuple[str, ...]:
        """Of those that it `asks`, the ones that the hub cannot answer itself."""
        asked = self.asks(queue, flavors)
        return tuple(name for name in asked if name not in self.checks or not self.checks[name].ours)

    def priority_of(self, kind: str, name: str) -> int | None:
        """Of a class by its kind, WorkloadPriorityClass or PriorityClass; None: there is none of that name."""
        return (self.pod_priorities if kind == "PriorityClass" else self.priorities).get(name)

    def route(self, namespace: str, local_queue: str) -> ClusterQueue | Denial:
        """The ClusterQueue that pays for jobs of this LocalQueue, or why none does."""
        local = self.local_queues.get((namespace, local_queue))
        if local is None:
            problem = self.problems.get(f"LocalQueue/{namespace}/{local_queue}")
            if problem is not None:
                return _stopped(local_queue, f"LocalQueue {local_queue}: {problem}")
            known = sorted(name for space, name in self.local_queues if space == namespace)
            facts = (("queue", local_queue), ("known", ", ".join(known) or "none is there yet"))
            return Denial(Reason.QUEUE_NOT_FOUND, facts)
        inactive = self.inactive.get(local.cluster_queue)
        if inactive is not None:
            return _stopped(local.cluster_queue, inactive.detail)
        queue = self.queues.get(local.cluster_queue)
        if queue is None:
            return _stopped(local.cluster_queue, "it does not exist")
        if local.stop != "None":
            return _stopped(queue.name, f"LocalQueue {local_queue} is stopped (stopPolicy {local.stop})")
        labels = self.namespaces.get(namespace) or objects.namespace_labels(namespace)
        if queue.namespaces is None or not matches(queue.namespaces, labels):
            return Denial(Reason.NAMESPACE_MISMATCH, (("queue", queue.name), ("namespace", namespace)))
        return queue


def _stopped(queue: str, detail: str) -> Denial:
    return Denial(Reason.QUEUE_INACTIVE, (("queue", queue), ("detail", detail)))


def _key(kind: str, obj: Mapping[str, Any]) -> ObjectKey:
    return kind, objects.namespace_of(obj) if kind in _NAMESPACED else "", objects.name_of(obj)


def _try(reader: Callable[[Mapping[str, Any]], _Read], obj: Mapping[str, Any]) -> _Read:
    try:
        return reader(obj)
    except InvalidObjectError as error:
        return _Broken(str(error))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        # What no schema lets through, written by something that passed none.
        return _Broken(f"cannot be read: {error}")


def _assemble(
    read: Mapping[ObjectKey, tuple[Mapping[str, Any], _Read]],
    same: Quotas | None,
    built: Mapping[str, tuple[tuple[object, ...], QuotaTree]],
    counts: Counted,
) -> Quotas:
    """`same`: the quotas before, when no flavor, queue or cohort changed since."""
    flavors: dict[str, Flavor] = {}
    cohorts: dict[str, Cohort] = {}
    queues: dict[str, ClusterQueue] = {}
    local_queues: dict[tuple[str, str], LocalQueue] = {}
    namespaces: dict[str, Mapping[str, str]] = {}
    priorities: dict[str, int] = {}
    pod_priorities: dict[str, int] = {}
    default: int | None = None
    broken: dict[ObjectKey, str] = {}
    checks: dict[str, Check] = {}
    lists: dict[str, WorkerList] = {}
    named: dict[str, Worker] = {}
    for key in sorted(read):
        value = read[key][1]
        if isinstance(value, _Broken):
            broken[key] = value.detail
        elif isinstance(value, Flavor):
            flavors[value.name] = value
        elif isinstance(value, Cohort):
            cohorts[value.name] = value
        elif isinstance(value, ClusterQueue):
            queues[value.name] = value
        elif isinstance(value, LocalQueue):
            local_queues[value.namespace, value.name] = value
        elif isinstance(value, Check):
            checks[value.name] = value
        elif isinstance(value, WorkerList):
            lists[value.name] = value
        elif isinstance(value, Worker):
            named[value.name] = value
        elif isinstance(value, int):
            priorities[key[2]] = value
        elif isinstance(value, PodPriority):
            pod_priorities[key[2]] = value.value
            if value.default:
                # Of several, Kubernetes takes the lowest, too.
                default = value.value if default is None else min(default, value.value)
        else:
            namespaces[key[2]] = value
    problems = {"/".join(filter(None, key)): detail for key, detail in broken.items()}
    if same is not None:
        trees, inactive, built, workers = same.trees, same.inactive, same._built, same.workers
    else:
        trees, built, lost = grow(queues, cohorts, {k[2]: d for k, d in broken.items() if k[0] == "Cohort"}, built)
        inactive = {k[2]: Inactive("Unknown", d) for k, d in broken.items() if k[0] == "ClusterQueue"} | {
            name: Inactive("Unknown", detail) for name, detail in lost.items()
        }
        answers = {name: clusters_of(queue, checks, lists, named) for name, queue in queues.items() if queue.checks}
        workers = {name: found for name, found in answers.items() if isinstance(found, tuple)}
        for name, queue in queues.items():
            if name not in inactive and (why := _unusable(queue, flavors, broken, answers.get(name))):
                inactive[name] = why
    for name, why in inactive.items():
        if why.code != "Stopped":
            problems.setdefault(f"ClusterQueue/{name}", why.detail)
    return Quotas(
        flavors=flavors,
        cohorts=cohorts,
        queues=queues,
        local_queues=local_queues,
        namespaces=namespaces,
        priorities=priorities,
        pod_priorities=pod_priorities,
        default_priority=default or 0,
        trees=trees,
        workers=workers,
        checks=checks,
        inactive=inactive,
        problems=dict(sorted(problems.items())),
        counts=counts,
        _read=read,
        _built=built,
    )


def _unusable(
    queue: ClusterQueue,
    flavors: Mapping[str, Flavor],
    broken: Mapping[ObjectKey, str],
    answer: tuple[str, ...] | Unanswered | None,
) -> Inactive | None:
    if queue.terminating:
        return Inactive("Terminating", "it is being deleted, and goes when nothing uses it any more")
    missing = [name for group in queue.groups for name in group.flavors if name not in flavors]
    if missing:
        detail = broken.get(("ResourceFlavor", "", missing[0]))
        return Inactive(
            "FlavorNotFound", f"ResourceFlavor {missing[0]} {f'is broken: {detail}' if detail else 'does not exist'}"
        )
    if isinstance(answer, Unanswered):
        return Inactive(answer.code, answer.detail)
    if queue.stop != "None":
        return Inactive("Stopped", f"it is stopped (stopPolicy {queue.stop})")
    return None

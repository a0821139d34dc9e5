"""Everything a decision reads besides the jobs: fleet, quotas, sets, placements, priorities. Kept up to date.

Events only note what changed; `refresh` folds all of it into the next immutable values just before a decision, so that
a burst of events costs one step. What is lost, what a task is charged as, and which rule a job follows are answered
here, because they follow from these values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import replace
from typing import Any

from hub.api.errors import InvalidObjectError
from hub.api.reasons import Reason
from hub.controllers.in_force import InForce
from hub.controllers.logs import logger
from hub.fleet.changes import CapacityGone, CapacitySeen, ClusterGone, ClusterSeen, FleetChange
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape, Toleration
from hub.fleet.site import GpuOffer
from hub.jobs.spec import JobSpec
from hub.placement.profiles import with_profile
from hub.placement.rule import ClusterRule
from hub.placement.rules import chooses_itself, job_rule, parse_rule
from hub.placement.sets import ClusterSets
from hub.placement.stability import parse_missing
from hub.queueing.derived import Drift, derive, derives
from hub.queueing.kueue.transforms import ALL, Counted
from hub.queueing.quotas import Quotas
from hub.registration.availability import is_lost

Json = dict[str, Any]
_log = logger(__name__)


class LostClusters(Set[str]):
    """Clusters that nothing is to be expected from: those that are lost, and all that do not exist."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __contains__(self, name: object) -> bool:
        cluster = self._world.clusters.get(str(name))
        return cluster is None or name in self._world.lost_names

    def __iter__(self) -> Iterator[str]:
        return iter(self._world.lost_names)

    def __len__(self) -> int:
        return len(self._world.lost_names)


class World:
    """`version` grows with every change that can make a difference to a plan."""

    def __init__(self, counts: Counted = ALL) -> None:
        """`counts`: what resources of jobs count as, by the configuration."""
        self.fleet = Fleet.empty()
        self.quotas = Quotas(counts=counts)
        self.sets = ClusterSets()
        self.clusters: dict[str, Json] = {}
        self.lost_names: set[str] = set()
        self.lost = LostClusters(self)
        self.version = 0
        # Told what of the clusters' objects cannot be read, by cluster, whenever that changes.
        self.on_problems: Callable[[Mapping[str, str]], None] = lambda problems: None
        # How quota that is taken from clusters came about, and what of it stays in force for what runs.
        self.drift: tuple[Drift, ...] = ()
        self.in_force = InForce()
        self._declared = self.quotas
        self._depends = False
        self._derived_from: tuple[Quotas, Fleet, ClusterSets] | None = None
        self._fleet_changes: list[FleetChange] = []
        self._quota_seen: list[Json] = []
        self._quota_gone: list[tuple[str, str, str]] = []
        self._sets: dict[str, Json] = {}
        self._bindings: dict[str, Json] = {}
        self._sets_changed = False
        self._placements: dict[tuple[str, str], ClusterRule | str] = {}
        self._chosen: dict[tuple[str, str], tuple[str, ...]] = {}

    # What happens.

    def cluster_seen(self, cluster: Json) -> bool:
        """True when it was lost and is back, or the other way round: what runs there must be looked at again."""
        name = cluster["metadata"]["name"]
        known = name in self.clusters
        was_lost, now_lost = name in self.lost_names, is_lost(cluster)
        self.clusters[name] = cluster
        (self.lost_names.add if now_lost else self.lost_names.discard)(name)
        self.note(ClusterSeen(cluster))
        return not known or was_lost != now_lost

    def cluster_gone(self, name: str) -> None:
        self.clusters.pop(name, None)
        self.lost_names.discard(name)
        self.note(ClusterGone(name))

    def capacity_seen(self, capacity: Json) -> None:
        self.note(CapacitySeen(capacity))

    def capacity_gone(self, name: str) -> None:
        self.note(CapacityGone(name))

    def note(self, change: FleetChange) -> None:
        """Any change of the fleet, such as new scores."""
        self._fleet_changes.append(change)
        self.version += 1

    def quota_seen(self, obj: Json) -> None:
        self._quota_seen.append(obj)
        self.version += 1

    def quota_gone(self, kind: str, namespace: str, name: str) -> None:
        self._fold_quotas()
        self._quota_gone.append((kind, namespace, name))
        self.version += 1

    def set_changed(self, name: str, obj: Json | None) -> None:
        self._keep(self._sets, name, obj)

    def binding_changed(self, key: str, obj: Json | None) -> None:
        self._keep(self._bindings, key, obj)

    def placement_changed(self, namespace: str, name: str, obj: Json | None) -> None:
        """A Placement that cannot be read keeps its last good rule; one that never could is a problem of its jobs."""
        key = (namespace, name)
        self.version += 1
        if obj is None:
            self._placements.pop(key, None)
            return
        try:
            annotations = (obj.get("metadata") or {}).get("annotations") or {}
            rule = parse_rule(namespace, obj.get("spec") or {}, name, jobs=False)
            self._placements[key] = with_profile(replace(rule, missing=parse_missing(annotations)), annotations)
        except InvalidObjectError as error:
            _log.warning("a Placement cannot be read", placement=f"{namespace}/{name}", why=str(error))
            if not isinstance(self._placements.get(key), ClusterRule):
                self._placements[key] = f"Placement {name}: {error}"

    def placement_decided(self, namespace: str, name: str, clusters: tuple[str, ...]) -> bool:
        """Which clusters a Placement has chosen. True when a job could go elsewhere for it."""
        key = (namespace, name)
        if self._chosen.get(key, ()) == clusters:
            return False
        if clusters:
            self._chosen[key] = clusters
        else:
            self._chosen.pop(key, None)
        rule = self._placements.get(key)
        if not isinstance(rule, ClusterRule) or not chooses_itself(rule):
            return False
        self.version += 1
        return True

    # What follows.

    def charge(self, changes: list[FleetChange]) -> None:
        """What our own slices hold; known at once, so it makes no new version."""
        if changes:
            self._fleet_changes += changes

    def refresh(self) -> None:
        """Afterwards `fleet`, `quotas` and `sets` are what is known now."""
        if self._fleet_changes:
            changes, self._fleet_changes = self._fleet_changes, []
            before = self.fleet.problems
            self.fleet = self.fleet.apply(changes)
            for name, problem in self.fleet.problems.items():
                if before.get(name) != problem:
                    advice = Reason.REPORT_UNREADABLE.advice
                    _log.warning("a cluster's report cannot be read", cluster=name, why=problem, hint=advice)
            if self.fleet.problems != before:
                self.on_problems(self.fleet.problems)
        self._fold_quotas()
        if self._sets_changed:
            self._sets_changed = False
            self.sets = ClusterSets.parse(self._sets.values(), self._bindings.values())
        self._derive()

    def recall(self, queues: Mapping[str, Json]) -> None:
        """Somebody else led until now: what the ClusterQueues' objects, by name, say of quota that it kept counts."""
        self.in_force.recall(queues)
        self._derived_from = None

    def looked(self) -> None:
        """All that runs is known: quota that a hub before this one kept for it is known, too."""
        if self.in_force.looked():
            self._derived_from = None

    def rule_of(self, spec: JobSpec) -> ClusterRule | str:
        """Which clusters a job may run on, or why nobody can know."""
        if spec.rule is not None:
            return spec.rule
        found = self._placements.get((spec.namespace, spec.placement_ref))
        if found is None:
            return f"spec.placementRef.name: Placement {spec.placement_ref} does not exist in {spec.namespace}"
        if isinstance(found, ClusterRule) and (spec.profile or spec.data):
            found = replace(found, profile=spec.profile or found.profile, data=spec.data or found.data)
        if isinstance(found, str) or not chooses_itself(found):
            return found
        return job_rule(found, self._chosen.get((spec.namespace, spec.placement_ref), ()))

    def priority_of(self, spec: JobSpec) -> int | str:
        if not spec.priority_class:
            # A class that only the clusters know orders nothing here.
            return self.quotas.pod_priorities.get(spec.pod_priority, self.quotas.default_priority)
        found = self.quotas.priorities.get(spec.priority_class)
        if found is None:
            known = ", ".join(sorted(self.quotas.priorities)) or "none is there"
            return f"WorkloadPriorityClass {spec.priority_class} does not exist; known: {known}"
        return found

    def flavoring(
        self, flavors: tuple[tuple[str, str], ...]
    ) -> tuple[tuple[tuple[str, str], ...], tuple[Toleration, ...]]:
        """(node labels, tolerations) that the flavors of a slice add to its pods."""
        labels: dict[str, str] = {}
        tolerations: set[Toleration] = set()
        for name in {flavor for _, flavor in flavors}:
            flavor = self.quotas.flavors.get(name)
            if flavor is not None:
                labels.update(flavor.labels)
                tolerations.update(flavor.tolerations)
        return tuple(sorted(labels.items())), tuple(sorted(tolerations))

    def gpu_offer(self, cluster: str) -> GpuOffer:
        """How the GPUs of `cluster` are asked for; a cluster that has not reported is asked as a site would be."""
        site = self.fleet.site(cluster) if cluster in self.fleet else None
        return GpuOffer() if site is None else site.gpu_offer

    def charged_shape(self, shape: TaskShape, cluster: str, flavors: tuple[tuple[str, str], ...]) -> TaskShape:
        """What a task of a slice asks of the nodes of its cluster: a label of the whole cluster need not be on them."""
        labels, tolerations = self.flavoring(flavors)
        if not labels and not tolerations:
            return shape
        metadata = (self.clusters.get(cluster) or {}).get("metadata") or {}
        own = metadata.get("labels") or {}
        selector = {key: value for key, value in labels if own.get(key) != value} | dict(shape.node_selector)
        return replace(
            shape,
            node_selector=tuple(sorted(selector.items())),
            tolerations=tuple(sorted({*shape.tolerations, *tolerations})),
        )

    def _keep(self, into: dict[str, Json], key: str, obj: Json | None) -> None:
        if obj is None:
            into.pop(key, None)
        else:
            into[key] = obj
        self._sets_changed = True
        self.version += 1

    def _fold_quotas(self) -> None:
        if not (self._quota_seen or self._quota_gone):
            return
        seen, gone = self._quota_seen, self._quota_gone
        self._quota_seen, self._quota_gone = [], []
        self._declared = self._declared.updated(seen, gone)

    def _derive(self) -> None:
        """What quota is written, and what of it follows from the clusters."""
        declared, known = self._declared, self._derived_from
        if known is not None and known[0] is declared:
            if not self._depends:
                return
            same = self.fleet.same_sites(known[1]) and self.fleet.same_facts(known[1])
            if same and known[2] is self.sets and not self.in_force.moved:
                return
        before = self.quotas.problems
        self._depends = derives(declared)
        self._derived_from = (declared, self.fleet, self.sets)
        self.quotas, self.drift = declared, ()
        deriving = {name for name, queue in declared.queues.items() if queue.nominal_from is not None}
        self.in_force.begin({name: declared.object("ClusterQueue", name) for name in sorted(deriving)})
        if self._depends:
            self.quotas, self.drift = derive(declared, self.fleet, self.sets, self.in_force.counts)
        self.in_force.derived(self.drift)
        for name, problem in self.quotas.problems.items():
            if before.get(name) != problem:
                _log.warning("a queue's object cannot be used", object=name, why=problem)

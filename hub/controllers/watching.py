"""Which collections the hub keeps copies of, and where the news of each goes. One informer a resource; nothing decides.

What is many is kept as small values (hub/controllers/seen.py), what is few as it came. A change of nothing but status
is no news where only the wish matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from hub.api import names
from hub.api.resource import (
    ADDON_PLACEMENT_SCORES,
    ADMISSION_CHECKS,
    CLUSTER_CAPACITIES,
    CLUSTER_QUEUES,
    CLUSTER_SCORINGS,
    COHORTS,
    DYNAMIC_SCORERS,
    DYNAMIC_SCORING_CONFIGS,
    FLEET_JOBS,
    JOBS,
    LEASES,
    LOCAL_QUEUES,
    MANAGED_CLUSTER_SET_BINDINGS,
    MANAGED_CLUSTER_SETS,
    MANAGED_CLUSTERS,
    MANIFEST_WORKS,
    MULTI_KUEUE_CLUSTERS,
    MULTI_KUEUE_CONFIGS,
    NAMESPACES,
    PLACEMENT_DECISIONS,
    PLACEMENTS,
    PRIORITY_CLASSES,
    RESOURCE_FLAVORS,
    SCORE_SOURCES,
    SCORER_POLICIES,
    TASK_LOG_REQUESTS,
    WORKLOAD_PRIORITY_CLASSES,
    WORKLOADS,
    Resource,
)
from hub.client.backoff import Backoff
from hub.client.informer import Informer, object_key
from hub.client.interface import KubeApi
from hub.controllers.cycle import Cycle
from hub.controllers.dynamic_scoring import DynamicScoring
from hub.controllers.foreign import Foreign
from hub.controllers.garbage import Garbage
from hub.controllers.placements import PlacementKeeper
from hub.controllers.publishing import Publishing
from hub.controllers.registrar import Registrar
from hub.controllers.scores import Scores
from hub.controllers.seen import SeenJob, SeenWork, SeenWorkload, read_job, read_work, read_workload
from hub.controllers.table import JobTable
from hub.controllers.world import World
from hub.queueing.worker_clusters import is_active

Json = dict[str, Any]
QUOTA_RESOURCES: Final = (
    RESOURCE_FLAVORS,
    COHORTS,
    CLUSTER_QUEUES,
    LOCAL_QUEUES,
    WORKLOAD_PRIORITY_CLASSES,
    PRIORITY_CLASSES,
    NAMESPACES,
    MULTI_KUEUE_CONFIGS,
    MULTI_KUEUE_CLUSTERS,
)


class Watching:
    """`informers` are to be run; `synced` waits for all of them."""

    def __init__(
        self,
        api: KubeApi,
        table: JobTable,
        world: World,
        cycle: Cycle,
        placements: PlacementKeeper,
        registrar: Registrar,
        garbage: Garbage,
        scores: Scores,
        publishing: Publishing,
        dynamic: DynamicScoring,
        foreign: Foreign,
    ) -> None:
        self._placements = placements
        self._table, self._world, self._cycle = table, world, cycle
        self._registrar, self._garbage, self._scores = registrar, garbage, scores
        self._publishing, self._dynamic, self._foreign = publishing, dynamic, foreign
        make = self._make
        self.informers: tuple[Informer[Any], ...] = (
            self._informer(api, FLEET_JOBS, transform=self._read_job, on_event=self._on_job),
            Informer(api, JOBS, label_selector=names.QUEUE_NAME, transform=self._read_job, on_event=self._on_job),
            Informer(
                api, MANIFEST_WORKS, label_selector=names.JOB_UID, transform=self._read_work, on_event=self._on_work
            ),
            self._informer(
                api,
                WORKLOADS,
                label_selector=names.KUEUE_JOB_UID,
                transform=self._read_workload,
                on_event=self._on_workload,
            ),
            make(api, WORKLOADS, self._on_foreign, status=True, label_selector=f"!{names.KUEUE_JOB_UID}"),
            Informer(api, LEASES, field_selector=f"metadata.name={names.CLUSTER_LEASE}", on_event=self._on_lease),
            make(api, MANAGED_CLUSTERS, self._on_cluster, status=True),
            make(api, CLUSTER_CAPACITIES, self._on_capacity, status=True),
            make(api, ADDON_PLACEMENT_SCORES, self._on_addon, status=True),
            make(api, PLACEMENT_DECISIONS, self._on_decision, status=True, label_selector=names.PLACEMENT),
            make(api, SCORE_SOURCES, self._on_source, status=True),
            make(api, DYNAMIC_SCORERS, self._on_scorer, status=True),
            make(api, SCORER_POLICIES, self._on_policy, status=True),
            make(api, DYNAMIC_SCORING_CONFIGS, self._on_scoring_config, status=True),
            make(api, CLUSTER_SCORINGS, self._on_scoring, status=True),
            make(api, TASK_LOG_REQUESTS, self._on_request, status=True),
            make(api, MANAGED_CLUSTER_SETS, self._on_set),
            make(api, MANAGED_CLUSTER_SET_BINDINGS, self._on_binding),
            make(api, PLACEMENTS, self._on_placement, status=True),
            *(make(api, resource, self._on_quota) for resource in QUOTA_RESOURCES),
            make(api, ADMISSION_CHECKS, self._on_check, status=True),
        )

    def store(self, resource: Resource) -> Mapping[str, Any]:
        """What is known of one resource, by key."""
        return next(informer.store for informer in self.informers if informer.resource is resource)

    async def synced(self) -> None:
        for informer in self.informers:
            await informer.synced.wait()

    @staticmethod
    def _informer(api: KubeApi, resource: Resource, **options: Any) -> Informer[Any]:
        # One hub may knock more often than a fleet of agents: it is what they all wait for.
        return Informer(api, resource, backoff=Backoff(0.05, 1.0), **options)

    def _make(
        self,
        api: KubeApi,
        resource: Resource,
        handler: Callable[[Json, bool], None],
        *,
        status: bool = False,
        label_selector: str = "",
    ) -> Informer[Json]:
        """`handler` gets the object and whether it is gone; unless `status` matters, only changes of the wish."""

        def on_event(change: str, key: str, old: Json | None, new: Json | None) -> None:
            if new is None:
                assert old is not None
                handler(old, True)
            elif old is None or status or _wish(old) != _wish(new):
                if old is not None and old["metadata"].get("uid") != new["metadata"].get("uid"):
                    handler(old, True)
                handler(new, False)
            else:
                return
            self._cycle.wake()
            self._placements.wake()

        return self._informer(api, resource, on_event=on_event, label_selector=label_selector)

    # Jobs and what is made for them.

    def _read_job(self, obj: Json) -> SeenJob | None:
        meta = obj["metadata"]
        kind = "Job" if obj.get("kind") == "Job" else "FleetJob"
        entry = self._table.named(kind, str(meta.get("namespace") or ""), str(meta["name"]))
        return read_job(obj, entry.seen if entry is not None else None)

    def _read_work(self, obj: Json) -> SeenWork | None:
        # What we wrote ourselves is known from its answer already.
        meta = obj["metadata"]
        return read_work(obj, self._table.work(meta["namespace"], meta["name"]))

    def _read_workload(self, obj: Json) -> SeenWorkload:
        meta = obj["metadata"]
        return read_workload(obj, self._table.workload(meta["namespace"], meta["name"]))

    def _on_job(self, change: str, key: str, old: SeenJob | None, new: SeenJob | None) -> None:
        if new is not None:
            entry = self._table.entries.get(new.ref.uid)
            if entry is not None and entry.seen is new:
                return
            self._table.job_seen(new)
        elif old is not None:
            self._table.job_gone(old.ref)

    def _on_work(self, change: str, key: str, old: SeenWork | None, new: SeenWork | None) -> None:
        if new is not None:
            if self._table.work(new.cluster, new.name) is new:
                return
            self._table.work_seen(new)
        elif old is not None:
            self._table.work_gone(old.cluster, old.name, old.uid)

    def _on_workload(self, change: str, key: str, old: SeenWorkload | None, new: SeenWorkload | None) -> None:
        if new is not None:
            entry = self._table.workload_seen(new)
            if entry is None or entry.workload is not new:
                return
            if old is None or old.uid != new.uid or _said(old) != _said(new):
                self._table.mark(entry.uid)
        elif old is not None:
            self._table.workload_gone(old.namespace, old.name, old.uid)

    def _on_foreign(self, obj: Json, gone: bool) -> None:
        if gone:
            self._foreign.gone(obj)
        else:
            self._foreign.seen(obj)

    # Clusters.

    def _on_cluster(self, cluster: Json, gone: bool) -> None:
        name = cluster["metadata"]["name"]
        if gone:
            self._registrar.cluster_gone(name)
            self._world.cluster_gone(name)
            self._table.mark_cluster(name)
            self._dynamic.roster.cluster_changed(name)
            return
        self._registrar.cluster_seen(cluster)
        if self._world.cluster_seen(cluster):
            self._table.mark_cluster(name)
        self._dynamic.roster.cluster_changed(name)

    def _on_capacity(self, capacity: Json, gone: bool) -> None:
        if gone:
            self._world.capacity_gone(capacity["metadata"]["name"])
        else:
            self._world.capacity_seen(capacity)

    def _on_lease(self, change: str, key: str, old: Json | None, new: Json | None) -> None:
        if new is not None:
            self._registrar.lease_seen(new)
        elif old is not None:
            self._registrar.lease_gone(old["metadata"]["namespace"])

    # What rules and quotas are made of.

    def _on_quota(self, obj: Json, gone: bool) -> None:
        kind, meta = str(obj.get("kind")), obj["metadata"]
        known = self._world.quotas.object(kind, meta["name"], str(meta.get("namespace") or ""))
        if _drains(known) != _drains(None if gone else obj):
            # What runs has to go, or may come back.
            self._table.mark_open()
        if gone:
            self._world.quota_gone(kind, str(meta.get("namespace") or ""), meta["name"])
        else:
            self._world.quota_seen(obj)
        if kind in (WORKLOAD_PRIORITY_CLASSES.kind, PRIORITY_CLASSES.kind):
            self._table.mark_open()

    def _on_check(self, obj: Json, gone: bool) -> None:
        """Of what others report of it only matters whether it can be asked."""
        known = self._world.quotas.object("AdmissionCheck", obj["metadata"]["name"])
        if gone or known is None or _wish(known) != _wish(obj) or is_active(known) != is_active(obj):
            self._on_quota(obj, gone)

    def _on_set(self, obj: Json, gone: bool) -> None:
        self._world.set_changed(object_key(obj), None if gone else obj)

    def _on_binding(self, obj: Json, gone: bool) -> None:
        self._world.binding_changed(object_key(obj), None if gone else obj)

    def _on_placement(self, obj: Json, gone: bool) -> None:
        meta = obj["metadata"]
        if gone:
            self._placements.placement_gone(obj)
        elif not self._placements.placement_seen(obj):
            return
        self._world.placement_changed(str(meta["namespace"]), meta["name"], None if gone else obj)
        self._table.mark_open()

    def _on_decision(self, obj: Json, gone: bool) -> None:
        if gone:
            self._placements.decision_gone(obj)
        else:
            self._placements.decision_seen(obj)

    # Scores and logs.

    def _on_addon(self, obj: Json, gone: bool) -> None:
        self._publishing.seen(obj, gone=gone)
        self._dynamic.publishing.seen(obj, gone=gone)
        if gone:
            self._scores.addon_gone(obj["metadata"]["namespace"], obj["metadata"]["name"])
        else:
            self._scores.addon_seen(obj)

    def _on_source(self, obj: Json, gone: bool) -> None:
        if gone:
            self._scores.source_gone(obj["metadata"]["name"])
        else:
            self._scores.source_seen(obj)

    def _on_scorer(self, obj: Json, gone: bool) -> None:
        if gone:
            self._dynamic.scorer_gone(obj["metadata"]["namespace"], obj["metadata"]["name"])
        else:
            self._dynamic.scorer_seen(obj)

    def _on_policy(self, obj: Json, gone: bool) -> None:
        if gone:
            self._dynamic.roster.policy_gone(obj["metadata"]["namespace"], obj["metadata"]["name"])
        else:
            self._dynamic.roster.policy_seen(obj)

    def _on_scoring_config(self, obj: Json, gone: bool) -> None:
        if gone:
            self._dynamic.roster.config_gone(obj["metadata"]["namespace"], obj["metadata"]["name"])
        else:
            self._dynamic.roster.config_seen(obj)

    def _on_scoring(self, obj: Json, gone: bool) -> None:
        self._dynamic.scoring_seen(obj, gone=gone)

    def _on_request(self, obj: Json, gone: bool) -> None:
        if gone:
            self._garbage.request_gone(obj["metadata"]["namespace"], obj["metadata"]["name"])
        else:
            self._garbage.request_seen(obj)


def _said(workload: SeenWorkload) -> tuple[Any, ...]:
    """What of a Workload others decide."""
    return workload.active, workload.queue, workload.reserved and bool(workload.checks), workload.checks


def _drains(obj: Mapping[str, Any] | None) -> bool:
    return obj is not None and (obj.get("spec") or {}).get("stopPolicy") == "HoldAndDrain"


def _wish(obj: Mapping[str, Any]) -> tuple[Any, ...]:
    meta = obj["metadata"]
    return (
        meta.get("uid"),
        meta.get("deletionTimestamp"),
        meta.get("labels"),
        (meta.get("annotations") or {}).get(names.NOMINAL_FROM),
        {key: value for key, value in obj.items() if key not in ("metadata", "status")},
    )

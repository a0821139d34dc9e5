"""A real Kubernetes cluster as the agent's `LocalCluster`: what its nodes offer, what its pods use, what they wrote.

Nodes and Pods are kept by informers, cut down to what is counted. Tasks are the cluster's own business: nothing here
runs or stops one. Grouping is `agent.nodegroups`, offsets in logs are `agent.podlogs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.local import LogChunk
from agent.nodegroups import Amounts, NodeFacts, node_facts, node_groups, pod_requests, sums
from agent.podlogs import from_offset, tail_offset
from hub.api import names
from hub.api.errors import AlreadyExistsError, ApiError, NotFoundError, QuarterdeckError, RefusedError, UnreachableError
from hub.api.installed import installed_crd
from hub.api.resource import APPLIED_MANIFEST_WORKS, CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES, NODES, PODS
from hub.client.backoff import Backoff
from hub.client.informer import Informer
from hub.client.session import Session

Json = dict[str, Any]
_log = logging.getLogger("agent.kubernetes")
_VERSION_SECONDS = 600.0
# How long after a log has ended the pod's own end may take to be heard of.
_END_PATIENCE = 5.0
_LIVENESS = ("/livez", "/healthz", "/version")


@dataclass(frozen=True, slots=True)
class PodFacts:
    """`requests` is empty for pods of this hub's works, and for those that hold nothing (any more)."""

    name: str
    namespace: str
    created: str
    node: str
    requests: tuple[tuple[str, int], ...]
    job: str = ""
    index: int = 0
    container: str = ""
    started: bool = False
    ended: bool = False
    exit_code: int | None = None
    reason: str | None = None


class KubernetesCluster:
    """Implements `agent.local.LocalCluster`; until its first look is complete `capacity()` is empty."""

    def __init__(self, session: Session, labels: Mapping[str, str] | None = None) -> None:
        self.api = session
        self.labels = dict(labels or {})
        self._session = session
        self._version = ""
        self._cluster_id = ""
        self._used: dict[str, Amounts] = {}
        self._tasks: dict[tuple[str, str, int], dict[str, PodFacts]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._capacity: Json | None = None
        self._nodes: Informer[NodeFacts] = Informer(api=session, resource=NODES)
        self._pods: Informer[PodFacts] = Informer(api=session, resource=PODS)

    async def run(self) -> None:
        await self._install_record_kind()
        self._used.clear()
        self._tasks.clear()
        self._nodes = Informer(self._session, NODES, transform=node_facts, on_event=self._on_node)
        self._pods = Informer(self._session, PODS, transform=pod_facts, on_event=self._on_pod)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._nodes.run(), name="nodes")
            tasks.create_task(self._pods.run(), name="pods")
            await self._nodes.synced.wait()
            await self._pods.synced.wait()
            self._changed()
            while True:
                await self._read_identity()
                await asyncio.sleep(_VERSION_SECONDS * random.uniform(0.8, 1.2))

    async def ready(self) -> None:
        backoff = Backoff(0.2, 5.0)
        while True:
            try:
                for path in _LIVENESS:
                    # Who may not ask the one may ask the next.
                    with contextlib.suppress(NotFoundError, RefusedError):
                        await self._session.request("GET", path)
                        return
                return
            except (UnreachableError, ApiError) as error:
                _log.debug("the cluster's API is not ready", extra={"fields": {"why": error}})
            await asyncio.sleep(backoff.next())

    async def stop_tasks(self) -> None:
        """Nothing: what runs in a cluster does not end with this process, and is found again by the next."""

    def capacity(self) -> Json:
        if not (self._nodes.synced.is_set() and self._pods.synced.is_set()):
            return {}
        if self._capacity is None:
            self._capacity = {
                "simulated": False,
                "runtime": "kubernetes",
                "nodeGroups": node_groups(self._nodes.store.values(), self._used),
            }
        return self._capacity

    def on_capacity_change(self, callback: Callable[[], None]) -> None:
        self._listeners.append(callback)

    def cluster_status(self) -> Json:
        if not self._nodes.synced.is_set():
            return {}
        capacity, allocatable = sums(self._nodes.store.values())
        status: Json = {"capacity": capacity, "allocatable": allocatable}
        claims = {"id.k8s.io": self._cluster_id, "kubeversion.open-cluster-management.io": self._version}
        status["clusterClaims"] = [{"name": name, "value": value} for name, value in claims.items() if value]
        if self._version:
            status["version"] = {"kubernetes": self._version}
        return status

    def metrics(self) -> str:
        """Empty: a cluster has exporters of its own."""
        return ""

    async def read_log(
        self,
        namespace: str,
        job: str,
        index: int,
        *,
        offset: int = 0,
        tail_lines: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogChunk]:
        pod = self._pod_of(namespace, job, index)
        if tail_lines is not None:
            offset = max(offset, await tail_offset(self._stream(pod, follow=False), tail_lines))
        while True:
            async for chunk in from_offset(self._stream(pod, follow=follow), offset):
                offset = chunk.offset + len(chunk.data)
                yield chunk
            pod = await self._ended(namespace, job, index, pod) if follow else self._current(pod, namespace, job, index)
            # A followed log also ends when the kubelet gives up on a silent one.
            if pod.ended or not follow:
                break
        yield LogChunk(offset, b"", final=True, exit_code=pod.exit_code, reason=pod.reason)

    # Logs.

    def _pod_of(self, namespace: str, job: str, index: int) -> PodFacts:
        """The newest pod of a task that has begun to write."""
        pods = [pod for pod in self._tasks.get((namespace, job, index), {}).values() if pod.started]
        if not pods:
            raise NotFoundError(404, {"message": f"no pod of task {index} of job {namespace}/{job} has started"})
        return max(pods, key=lambda pod: (pod.created, pod.name))

    def _current(self, pod: PodFacts, namespace: str, job: str, index: int) -> PodFacts:
        return self._tasks.get((namespace, job, index), {}).get(pod.name, pod)

    async def _ended(self, namespace: str, job: str, index: int, pod: PodFacts) -> PodFacts:
        """The pod once its end is known; as it is when that takes too long."""
        deadline = asyncio.get_running_loop().time() + _END_PATIENCE
        while not (current := self._current(pod, namespace, job, index)).ended:
            if current.name not in self._tasks.get((namespace, job, index), {}):
                raise NotFoundError(404, {"message": f"pod {namespace}/{pod.name} is gone"})
            if asyncio.get_running_loop().time() > deadline:
                return current
            await asyncio.sleep(0.05)
        return current

    async def _stream(self, pod: PodFacts, *, follow: bool) -> AsyncIterator[bytes]:
        query = {"container": pod.container} | ({"follow": "true"} if follow else {})
        path = PODS.path(pod.namespace, pod.name, "log")
        try:
            async for data in self._session.stream(path, query=query):
                yield data
        except RefusedError as error:
            raise NotFoundError(404, {"message": str(error)}) from error

    # What the informers tell.

    def _on_node(self, _change: str, _key: str, old: NodeFacts | None, new: NodeFacts | None) -> None:
        if old != new:
            self._changed()

    def _on_pod(self, _change: str, _key: str, old: PodFacts | None, new: PodFacts | None) -> None:
        for pod, sign in ((old, -1), (new, 1)):
            if pod is None:
                continue
            task = (pod.namespace, pod.job, pod.index)
            if sign < 0:
                self._tasks.get(task, {}).pop(pod.name, None)
                if not self._tasks.get(task):
                    self._tasks.pop(task, None)
            elif pod.job:
                self._tasks.setdefault(task, {})[pod.name] = pod
            if pod.node:
                used = self._used.setdefault(pod.node, {})
                for name, amount in pod.requests:
                    used[name] = used.get(name, 0) + sign * amount
        if _charge(old) != _charge(new):
            self._changed()

    def _changed(self) -> None:
        self._capacity = None
        if self._nodes.synced.is_set() and self._pods.synced.is_set():
            for listener in self._listeners:
                listener()

    # What does not change often.

    async def _read_identity(self) -> None:
        before = (self._version, self._cluster_id)
        try:
            self._version = str((await self._session.request("GET", "/version")).get("gitVersion") or "")
            system = await self._session.get(NAMESPACES, "kube-system")
            self._cluster_id = str(system["metadata"]["uid"])
        except (QuarterdeckError, AttributeError) as error:
            _log.debug("the cluster does not tell who it is", extra={"fields": {"why": error}})
        if before != (self._version, self._cluster_id):
            self._changed()

    async def _install_record_kind(self) -> None:
        """AppliedManifestWork is the agent's own record; a cluster that no OCM agent was in does not have the kind."""
        name = f"{APPLIED_MANIFEST_WORKS.plural}.{APPLIED_MANIFEST_WORKS.group}"
        try:
            await self._session.get(CUSTOM_RESOURCE_DEFINITIONS, name)
            return
        except RefusedError as error:
            _log.warning(
                "cannot look for the kind of the agent's records", extra={"fields": {"kind": name, "why": error}}
            )
            return
        except NotFoundError:
            definition = installed_crd(APPLIED_MANIFEST_WORKS)
        with contextlib.suppress(AlreadyExistsError):
            await self._session.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
            _log.info("installed a kind", extra={"fields": {"kind": name}})


def pod_facts(pod: Mapping[str, Any]) -> PodFacts | None:
    """None for a pod that neither holds anything on a node nor is a task of ours."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    labels = metadata.get("labels") or {}
    ours = bool(labels.get(names.JOB_UID))
    ended = status.get("phase") in ("Succeeded", "Failed")
    node = str(spec.get("nodeName") or "")
    requests = tuple(sorted(pod_requests(spec).items())) if node and not ours and not ended else ()
    if not ours and not requests:
        return None
    facts = {"name": metadata["name"], "namespace": metadata["namespace"], "node": node, "requests": requests}
    if not ours:
        return PodFacts(created="", **facts)
    containers = spec.get("containers") or [{}]
    container = str(containers[0].get("name") or "")
    statuses = status.get("containerStatuses") or ()
    state = next((s.get("state") or {} for s in statuses if s.get("name") == container), {})
    terminated = state.get("terminated") or {}
    return PodFacts(
        created=str(metadata.get("creationTimestamp") or ""),
        job=str(labels.get("batch.kubernetes.io/job-name") or labels.get("job-name") or ""),
        index=_index(metadata),
        container=container,
        started="running" in state or "terminated" in state,
        ended=ended or "terminated" in state,
        exit_code=terminated.get("exitCode"),
        reason=_reason(terminated, status),
        **facts,
    )


def _index(metadata: Mapping[str, Any]) -> int:
    key = "batch.kubernetes.io/job-completion-index"
    value = (metadata.get("labels") or {}).get(key) or (metadata.get("annotations") or {}).get(key) or "0"
    return int(value) if str(value).isdecimal() else 0


def _reason(terminated: Mapping[str, Any], status: Mapping[str, Any]) -> str | None:
    """What an exit code alone does not say."""
    reason = terminated.get("reason") or status.get("reason")
    return None if reason in (None, "", "Completed", "Error") else str(reason)


def _charge(pod: PodFacts | None) -> tuple[str, tuple[tuple[str, int], ...]] | None:
    return (pod.node, pod.requests) if pod is not None and pod.requests else None

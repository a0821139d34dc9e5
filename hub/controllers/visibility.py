"""Kueue's visibility API: what waits in a ClusterQueue or LocalQueue, in order. Ours says why, and when, besides.

    GET /apis/visibility.kueue.x-k8s.io/v1beta1/clusterqueues/NAME/pendingworkloads?offset=0&limit=1000
    GET /apis/visibility.kueue.x-k8s.io/v1beta1/namespaces/NS/localqueues/NAME/pendingworkloads

Items have Kueue's fields and `reason`, `message`, `estimatedStart`, `wouldAdmit` and `lent` of ours, which Kueue's
clients pass over. On a real control plane an APIService leads here; the embedded API is told where (`--aggregate`).
What costs several decisions an item is worked out for the first of a page only, in a thread, so that a long line holds
up no one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from aiohttp import web

from hub.api.errors import ApiError, QuarterdeckError, RefusedError, UnreachableError
from hub.api.resource import FLEET_JOBS, JOBS, Resource
from hub.api.timestamps import format_time, from_timestamp
from hub.controllers.deciding import Deciding
from hub.controllers.permission import Caller, Permission
from hub.controllers.table import JobTable
from hub.planner.estimate import Estimate, estimate, estimate_document
from hub.planner.lending import Loan, loans_of
from hub.planner.line import InLine, in_line
from hub.planner.plan import Snapshot
from hub.planner.ways import Way

Json = dict[str, Any]
GROUP: Final = "visibility.kueue.x-k8s.io"
VERSIONS: Final = ("v1beta2", "v1beta1")
LIMIT: Final = 1000
MOST: Final = 100_000
LOOKED_INTO: Final = 20
"""Items of a page whose start is estimated and for which it is found out what would admit them."""
_CLUSTER_QUEUES: Final = Resource(GROUP, "v1beta1", "ClusterQueue", "clusterqueues", False)
_LOCAL_QUEUES: Final = Resource(GROUP, "v1beta1", "LocalQueue", "localqueues", True)
_Answer = Callable[[web.Request, Caller], Awaitable[Json]]


class VisibilityPages:
    """`routes` for the hub's server. Answers from what `deciding` reads, `way` says how it decides from here on; a
    standby has nothing in line. `identify` says who asks; by default a bearer token does."""

    def __init__(
        self,
        deciding: Deciding,
        table: JobTable,
        permission: Permission,
        way: Callable[[], Way],
        identify: Callable[[web.Request], Awaitable[Caller]] | None = None,
    ) -> None:
        self._deciding, self._table, self._permission, self._way = deciding, table, permission, way
        self._identify = identify or self._by_token

    @property
    def routes(self) -> list[web.RouteDef]:
        found = [web.get(f"/apis/{GROUP}", self._page(self._group))]
        for version in VERSIONS:
            base = f"/apis/{GROUP}/{version}"
            found += [
                web.get(base, self._page(self._resources)),
                web.get(f"{base}/clusterqueues/{{name}}/pendingworkloads", self._page(self._of_cluster_queue)),
                web.get(
                    f"{base}/namespaces/{{namespace}}/localqueues/{{name}}/pendingworkloads",
                    self._page(self._of_local_queue),
                ),
            ]
        return found

    def _page(self, answer: _Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def page(request: web.Request) -> web.Response:
            try:
                caller = await self._identify(request)
                document, code = await answer(request, caller), 200
            except ApiError as error:
                # The API's own trouble is not the caller's.
                code = error.code if error.code < 500 else 503
                document = _status(code, str(error), error.reason)
            except UnreachableError as error:
                code, document = 503, _status(503, f"nobody can say whether this is allowed: {error}", "")
            except QuarterdeckError as error:
                code, document = 500, _status(500, str(error), "InternalError")
            return web.Response(body=orjson.dumps(document), status=code, content_type="application/json")

        return page

    async def _by_token(self, request: web.Request) -> Caller:
        return await self._permission.caller(request.headers.get("Authorization", ""))

    async def _group(self, request: web.Request, caller: Caller) -> Json:
        versions = [{"groupVersion": f"{GROUP}/{version}", "version": version} for version in VERSIONS]
        return {
            "kind": "APIGroup",
            "apiVersion": "v1",
            "name": GROUP,
            "versions": versions,
            "preferredVersion": versions[0],
        }

    async def _resources(self, request: web.Request, caller: Caller) -> Json:
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": request.path.removeprefix("/apis/").rstrip("/"),
            "resources": [
                {
                    "name": f"{resource.plural}{suffix}",
                    "singularName": "" if suffix else resource.plural.removesuffix("s"),
                    "namespaced": resource.namespaced,
                    "kind": "PendingWorkloadsSummary" if suffix else resource.kind,
                    "verbs": ["get"],
                }
                for resource in (_CLUSTER_QUEUES, _LOCAL_QUEUES)
                for suffix in ("", "/pendingworkloads")
            ],
        }

    async def _of_cluster_queue(self, request: web.Request, caller: Caller) -> Json:
        name = request.match_info["name"]
        await self._permission.check(caller, "get", _below(_CLUSTER_QUEUES), "", name)
        snapshot = self._deciding.snapshot()
        if name not in snapshot.quotas.queues and name not in snapshot.quotas.inactive:
            raise RefusedError(404, {"reason": "NotFound", "message": f'clusterqueues.{GROUP} "{name}" not found'})
        return await self._summary(request, snapshot, lambda place: place.cluster_queue == name)

    async def _of_local_queue(self, request: web.Request, caller: Caller) -> Json:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        await self._permission.check(caller, "get", _below(_LOCAL_QUEUES), namespace, name)
        snapshot = self._deciding.snapshot()
        if (namespace, name) not in snapshot.quotas.local_queues:
            raise RefusedError(404, {"reason": "NotFound", "message": f'localqueues.{GROUP} "{name}" not found'})
        wanted = (namespace, name)
        return await self._summary(
            request, snapshot, lambda place: (place.demand.namespace, place.demand.queue) == wanted
        )

    async def _summary(self, request: web.Request, snapshot: Snapshot, asked: Callable[[InLine], bool]) -> Json:
        offset, limit = _number(request, "offset", 0), _number(request, "limit", LIMIT)
        # Plugins are asked in the hub's own loop only; scores say where a job starts, hardly when.
        still, refusals, way = replace(snapshot, scorers=()), self._deciding.refusals(), self._way()

        def look() -> tuple[list[InLine], Mapping[str, _Insight]]:
            line = in_line(still, way.first_come(still), refusals)
            page = [place for place in line if asked(place)][offset : offset + min(limit, MOST)]
            return page, _insights(still, way, page[:LOOKED_INTO])

        page, insights = await asyncio.to_thread(look)
        return {
            "kind": "PendingWorkloadsSummary",
            "apiVersion": f"{GROUP}/{request.path.split('/')[3]}",
            "metadata": {"creationTimestamp": None},
            "items": [self._item(place, insights.get(place.demand.key)) for place in page],
        }

    def _item(self, place: InLine, insight: _Insight | None) -> Json:
        demand = place.demand
        namespace, _, name = demand.key.partition("/")
        metadata: Json = {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": format_time(from_timestamp(demand.created)),
        }
        entry = self._table.entries.get(demand.uid)
        if entry is not None:
            ref = entry.ref
            kind = FLEET_JOBS if ref.kind == "FleetJob" else JOBS
            metadata["ownerReferences"] = [
                {
                    "apiVersion": kind.api_version,
                    "kind": ref.kind,
                    "name": ref.name,
                    "uid": ref.uid,
                    "controller": True,
                }
            ]
        item: Json = {
            "metadata": metadata,
            "priority": demand.priority,
            "localQueueName": demand.queue,
            "positionInClusterQueue": place.in_cluster_queue - 1,
            "positionInLocalQueue": place.in_local_queue - 1,
        }
        if place.refusal is not None:
            item |= {"reason": place.refusal.reason.code, "message": place.refusal.message}
        if insight is not None:
            item["estimatedStart"] = estimate_document(insight.start)
            if insight.change:
                item["wouldAdmit"] = insight.change
            if insight.loans:
                item["lent"] = [loan.document() for loan in insight.loans]
        return item


@dataclass(frozen=True, slots=True)
class _Insight:
    start: Estimate
    change: str
    loans: list[Loan]


def _insights(snapshot: Snapshot, way: Way, places: Sequence[InLine]) -> Mapping[str, _Insight]:
    found = {}
    for place in places:
        key = place.demand.key
        change = way.explain(snapshot, key).change
        found[key] = _Insight(estimate(snapshot, key, way.begin), change, loans_of(snapshot, place.refusal))
    return found


def _below(resource: Resource) -> Resource:
    return Resource(
        resource.group, resource.version, resource.kind, f"{resource.plural}/pendingworkloads", resource.namespaced
    )


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 9:
        message = f"{name}={text!r} is not a number from 0 to {MOST}"
        raise RefusedError(400, {"reason": "BadRequest", "message": message})
    return int(text)


def _status(code: int, message: str, reason: str) -> Json:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }

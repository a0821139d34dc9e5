"""What the hub answers about itself to people who may know: OCM's ``/debug/placements``, and what only the hub knows.

`GET /debug/placements/NAMESPACE/NAME` explains a Placement as it is, `POST /debug/placements/` one that is sent and
exists nowhere. `GET /debug/state` and `POST /debug/state` (with shapes to ask plugins about) are what `quarterdeck
explain` decides with beside the API's objects: what scorers know, how the queue is set. Whoever asks is known and
allowed before anything is looked up, so that an answer never tells who may not ask whether a Placement exists. Nothing
is changed here, and a standby answers as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from aiohttp import web

from hub.api.errors import (
    ApiError,
    InvalidObjectError,
    QuarterdeckError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
)
from hub.api.resource import PLACEMENTS, SCORE_SOURCES
from hub.controllers.hub import Hub
from hub.controllers.logs import logger
from hub.controllers.permission import Caller, Permission
from hub.controllers.score_state import MOST_SHAPES, score_state
from hub.placement.debugging import debug_result
from hub.placement.request import parse_request
from hub.scoring.state import read_shapes, to_document

Json = dict[str, Any]
_log = logger(__name__)
_LARGEST: Final = 1 << 20
_Answer = Callable[[web.Request, Caller], Awaitable[Json]]


class DebugPages:
    """`routes` for the hub's metrics server."""

    def __init__(self, hub: Hub, permission: Permission) -> None:
        self._hub, self._permission = hub, permission

    @property
    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/debug/placements/{namespace}/{name}", self._page(self._placement)),
            web.post("/debug/placements", self._page(self._what_if)),
            web.post("/debug/placements/", self._page(self._what_if)),
            web.get("/debug/state", self._page(self._state)),
            web.post("/debug/state", self._page(self._state)),
        ]

    def _page(self, answer: _Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def page(request: web.Request) -> web.Response:
            try:
                caller = await self._permission.caller(request.headers.get("Authorization", ""))
                document, status = await answer(request, caller), 200
            except UnauthorizedError as error:
                document, status = {"error": str(error)}, 401
            except ApiError as error:
                # The API's own trouble is not the caller's.
                document, status = {"error": str(error)}, error.code if error.code < 500 else 503
            except InvalidObjectError as error:
                document, status = {"error": str(error)}, 400
            except UnreachableError as error:
                document, status = {"error": f"nobody can say whether this is allowed: {error}"}, 503
            except QuarterdeckError as error:
                document, status = {"error": str(error)}, 500
            return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")

        return page

    # Placements.

    async def _placement(self, request: web.Request, caller: Caller) -> Json:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        await self._permission.check(caller, "get", PLACEMENTS, namespace, name)
        placement = self._hub.placements.object(namespace, name)
        if placement is None:
            raise RefusedError(404, {"message": f"there is no Placement {name} in namespace {namespace}"})
        return self._result(placement)

    async def _what_if(self, request: web.Request, caller: Caller) -> Json:
        placement = await _body(request)
        meta = placement.get("metadata")
        namespace = meta.get("namespace") if isinstance(meta, dict) else None
        if not isinstance(namespace, str) or not namespace:
            # Without one there is nothing that anybody could be allowed.
            raise InvalidObjectError("say in which namespace it would be", field="metadata.namespace")
        await self._permission.check(caller, "create", PLACEMENTS, namespace)
        return self._result(placement)

    def _result(self, placement: Json) -> Json:
        try:
            request = parse_request(placement)
        except InvalidObjectError as error:
            return {"placement": placement, "error": str(error)}
        hub = self._hub
        hub.world.refresh()
        fleet = hub.world.fleet
        current, counts = hub.placements.standing(request.key, fleet)
        result = debug_result(fleet, hub.world.sets, request.rule, hub.now(), current=current, counts=counts)
        return {"placement": placement} | result

    # What only the hub knows.

    async def _state(self, request: web.Request, caller: Caller) -> Json:
        # Who may see the sources may see what they say.
        await self._permission.check(caller, "list", SCORE_SOURCES)
        shapes = []
        if request.method == "POST":
            body = await _body(request)
            shapes = read_shapes(body.get("shapes") or [])
            if len(shapes) > MOST_SHAPES:
                raise InvalidObjectError(f"{len(shapes)} shapes are too many: {MOST_SHAPES} at most", field="shapes")
        self._hub.world.refresh()
        scores = score_state(self._hub.scores, self._hub.world.fleet, self._hub.now(), shapes)
        return {"scores": to_document(scores), "queue": self._hub.config.queue.whole()}


async def _body(request: web.Request) -> Json:
    """Raises `InvalidObjectError`, and `RefusedError` (413) for what is too large."""
    found = bytearray()
    async for part in request.content.iter_any():
        found += part
        if len(found) > _LARGEST:
            raise RefusedError(413, {"message": f"the body is larger than {_LARGEST >> 20} MiB"})
    try:
        document = orjson.loads(bytes(found))
    except orjson.JSONDecodeError as error:
        raise InvalidObjectError(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidObjectError("the body is no JSON object")
    return document

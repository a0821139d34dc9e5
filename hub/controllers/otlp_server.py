"""The hub as a receiver of OTLP/HTTP: metrics that collectors push, for scorers whose policy names them.

`POST /v1/metrics`, JSON or protobuf (that needs the extra `otlp`), compressed or not, answered as the protocol has it:
with what was rejected. Who pushes for a cluster must be allowed to say what its scores are: `patch` on
clusterscorings/status in the cluster's namespace, which every agent is, or in all of them. A hub that does not lead
asks to be sent it again later, because what it kept would be of no use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from hub.api.resource import CLUSTER_SCORINGS
from hub.asking.http import CLUSTER_HEADER
from hub.asking.otlp import read_metrics
from hub.controllers.permission import Caller, Permission
from hub.controllers.pushed_metrics import PushedMetrics

LARGEST: Final = 16 << 20
MOST_CLUSTERS: Final = 32
"""Of one request by somebody who may not speak for all clusters."""
_JSON, _PROTOBUF = "application/json", "application/x-protobuf"


class OtlpPages:
    """`routes` for the hub's metrics server. `leads()`: whether this hub asks scorers."""

    def __init__(self, pushed: PushedMetrics, permission: Permission, leads: Callable[[], bool]) -> None:
        self._pushed, self._permission, self._leads = pushed, permission, leads

    @property
    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/metrics", self._metrics)]

    async def _metrics(self, request: web.Request) -> web.Response:
        kind = request.content_type
        try:
            caller = await self._permission.caller(request.headers.get("Authorization", ""))
            if not self._leads():
                return web.Response(status=503, headers={"Retry-After": "5"}, text="another hub leads")
            document = await _document(request)
            found = read_metrics(document, request.headers.get(CLUSTER_HEADER, ""))
            await self._allowed(caller, {sample.cluster for sample in found.samples})
        except UnauthorizedError as error:
            return _said(401, str(error))
        except ApiError as error:
            # The API's own trouble is not the sender's.
            return _said(error.code if error.code < 500 else 503, str(error))
        except InvalidObjectError as error:
            return _said(400, str(error))
        except UnreachableError as error:
            return _said(503, f"nobody can say whether this is allowed: {error}")
        except QuarterdeckError as error:
            return _said(415, str(error))
        rejected, why = self._pushed.take(found.samples)
        return _answer(kind, found.rejected + rejected, found.complaint or why)

    async def _allowed(self, caller: Caller, clusters: set[str]) -> None:
        """Raises `RefusedError`."""
        if not clusters:
            return
        if len(clusters) > 1:
            try:
                await self._check(caller, "")
                return
            except RefusedError:
                if len(clusters) > MOST_CLUSTERS:
                    raise
        for cluster in sorted(clusters):
            await self._check(caller, cluster)

    async def _check(self, caller: Caller, cluster: str) -> None:
        await self._permission.check(caller, "patch", CLUSTER_SCORINGS, cluster, subresource="status")


async def _document(request: web.Request) -> Any:
    """Raises `InvalidObjectError`, `RefusedError` (413), and `QuarterdeckError` for a type that is not spoken here."""
    if request.content_type not in (_JSON, _PROTOBUF):
        raise QuarterdeckError(f"{request.content_type} is not spoken here: send {_JSON} or {_PROTOBUF}")
    body = bytearray()
    # As it is unpacked, so that a small body does not become an endless one.
    async for part in request.content.iter_any():
        body += part
        if len(body) > LARGEST:
            raise RefusedError(413, {"message": f"the body is larger than {LARGEST >> 20} MiB"})
    if request.content_type == _PROTOBUF:
        return _from_protobuf(bytes(body))
    try:
        return orjson.loads(bytes(body))
    except orjson.JSONDecodeError as error:
        raise InvalidObjectError(f"the body is not JSON: {error}") from error


def _from_protobuf(body: bytes) -> Mapping[str, Any]:
    try:
        from google.protobuf.json_format import MessageToDict
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    except ImportError as error:
        raise QuarterdeckError(
            f"protobuf needs the package opentelemetry-proto here (the extra `otlp`); or send {_JSON}"
        ) from error
    message = ExportMetricsServiceRequest()
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise InvalidObjectError(f"the body is no ExportMetricsServiceRequest: {error}") from error
    found: Mapping[str, Any] = MessageToDict(message)
    return found


def _answer(kind: str, rejected: int, why: str) -> web.Response:
    """An ExportMetricsServiceResponse."""
    if kind == _PROTOBUF:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

        message = ExportMetricsServiceResponse()
        if rejected:
            message.partial_success.rejected_data_points = rejected
            message.partial_success.error_message = why
        return web.Response(body=message.SerializeToString(), content_type=_PROTOBUF)
    partial = {"partialSuccess": {"rejectedDataPoints": str(rejected), "errorMessage": why}} if rejected else {}
    return web.Response(body=orjson.dumps(partial), content_type=_JSON)


def _said(status: int, message: str) -> web.Response:
    """A google.rpc.Status, as the protocol has it."""
    return web.Response(status=status, body=orjson.dumps({"code": status, "message": message}), content_type=_JSON)

"""The hub's admission webhooks: kopf takes the reviews, hub/admission decides.

kopf runs in a thread and a loop of its own, as for the lifecycle, because its operator cancels what shares its loop; it
serves whether or not this hub leads. Where a hub does not answer, or trips over an object, the API server goes on
without it (failurePolicy Ignore, manifests/admission/webhooks.yaml): nothing here is the last line of defence.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from hub.admission import references
from hub.admission.decide import ADMITTED, DEFAULTED, RULES, admit
from hub.admission.references import Look
from hub.api.mergepatch import create_merge_patch
from hub.api.resource import KNOWN, Resource
from hub.api.timestamps import format_time
from hub.client.session import Session
from hub.controllers.lifecycle import kopf_session
from hub.controllers.logs import logger
from hub.controllers.serving import conversion
from hub.controllers.serving.secure_server import SecureServer, host_and_port

Json = dict[str, Any]
_log = logger(__name__)
CHECK: Final = "check"
DEFAULT: Final = "default"
_PATIENCE: Final = 5.0


class Webhooks:
    """`start` and `stop` from the hub's loop. `connect` makes a session for this thread, `look()` answers None until
    everything is known; both are called in it. `context` is filled by who keeps the certificates.

    Raises `UsageError` for an address that is none.
    """

    def __init__(
        self,
        address: str,
        context: ssl.SSLContext,
        connect: Callable[[], Session],
        look: Callable[[], Look | None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        host_and_port(address, "--webhook-listen")
        self._address, self._context, self._connect = address, context, connect
        self._look, self._now = look, now
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.port = 0

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self, seconds: float = _PATIENCE) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            asyncio.run(self._operate())
        except Exception:
            _log.exception("webhooks are not served any more; objects are written without them")

    async def _operate(self) -> None:
        import kopf

        async with self._connect() as api:
            registry = kopf.OperatorRegistry()
            register(registry, self._look, self._now)

            @kopf.on.login(registry=registry)  # type: ignore[untyped-decorator,unused-ignore]
            async def login(**_: Any) -> Any:
                return await kopf_session(api)

            settings = kopf.OperatorSettings()
            settings.posting.enabled = False
            settings.scanning.disabled = True
            settings.admission.server = self._serve  # type: ignore[assignment,unused-ignore]
            logging.getLogger("kopf").setLevel(logging.WARNING)
            # That somebody wrote something wrong is told to them; to us it is no error.
            logging.getLogger("kopf.objects").addFilter(lambda record: "Webhook " not in record.getMessage())
            await kopf.operator(
                registry=registry, settings=settings, standalone=True, clusterwide=True, stop_flag=self._stop
            )

    async def _serve(self, review: Any) -> AsyncIterator[Any]:
        """kopf's protocol of a webhook server: it is given what answers, and told where to reach it (nobody asks)."""

        async def page(request: web.Request) -> web.Response:
            try:
                answer = await review(await request.json(), webhook=request.match_info["id"])
            except Exception as error:
                # The API server goes on without us, and says in its log what it was told.
                _log.warning("a review cannot be answered", path=request.path, why=str(error))
                return web.Response(status=400, text=f"no review that can be answered: {error}")
            return web.json_response(answer)

        async def converted(request: web.Request) -> web.Response:
            try:
                return web.json_response(conversion.answer(await request.json()))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                return web.Response(status=400, text=f"no ConversionReview: {error!r}")

        routes = [web.post("/convert", converted), web.post("/{id}", page)]
        async with SecureServer(self._address, "--webhook-listen", self._context, routes) as server:
            self.port = server.port
            _log.info("webhooks are served", port=server.port)
            yield {}
            await asyncio.Event().wait()


def register(registry: Any, look: Callable[[], Look | None], now: Callable[[], datetime]) -> None:
    """A checking handler for every kind that something is decided about, a defaulting one where a rule fills in."""
    import kopf

    known = {(resource.group, resource.plural): resource for resource in KNOWN}
    for key in ADMITTED:
        _register_check(kopf, registry, known[key], look, now)
    for key in DEFAULTED:
        _register_default(kopf, registry, known[key], now)


def _register_check(
    kopf: Any, registry: Any, resource: Resource, look: Callable[[], Look | None], now: Callable[[], datetime]
) -> None:
    key = (resource.group, resource.plural)

    @kopf.on.validate(*key[:1], resource.version, resource.plural, id=CHECK, registry=registry)  # type: ignore[untyped-decorator,unused-ignore]
    def check(body: Mapping[str, Any], old: Mapping[str, Any] | None, warnings: list[str], **_: Any) -> None:
        obj, before = dict(body), dict(old) if old is not None else None
        seen = look()
        if key in DEFAULTED:
            # Its own rule was asked when it was filled in, and would take what it wrote for somebody's.
            refused, said = references.review(*key, obj, before, seen) if seen is not None else ([], [])
            errors: Sequence[Any] = refused
        else:
            decision = admit(*key, obj, before, now=format_time(now()), look=seen)
            errors, said = decision.errors, list(decision.warnings)
        warnings.extend(said)
        _refuse(kopf, errors)


def _register_default(kopf: Any, registry: Any, resource: Resource, now: Callable[[], datetime]) -> None:
    rule = RULES[resource.group, resource.plural]

    @kopf.on.mutate(resource.group, resource.version, resource.plural, id=DEFAULT, registry=registry)  # type: ignore[untyped-decorator,unused-ignore]
    def default(body: Mapping[str, Any], old: Mapping[str, Any] | None, patch: Json, **_: Any) -> None:
        obj, before = dict(body), dict(old) if old is not None else None
        try:
            filled, errors = rule(obj, before, format_time(now()))
        except (AttributeError, TypeError, KeyError):
            # It comes before the schema is checked: what is not even shaped right is refused by that.
            return
        _refuse(kopf, errors)
        patch.update(create_merge_patch(obj, filled) or {})


def _refuse(kopf: Any, errors: Sequence[Any]) -> None:
    if errors:
        said = ", ".join(map(str, errors))
        raise kopf.AdmissionError(said if len(errors) == 1 else f"[{said}]", code=422)

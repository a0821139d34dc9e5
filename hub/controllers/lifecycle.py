"""Slow, rare lifecycles, on kopf: clusters that leave, and the sets and bindings that every hub keeps.

kopf runs in a thread and a loop of its own, because its operator cancels what shares its loop, and starts only while
this hub leads, once everything hot is up. It is asked for what it is good at: a finalizer on ManagedClusters with
retries that outlive us, and events of a few dozen objects. Nothing of a job passes through it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from hub.api import names
from hub.api.errors import QuarterdeckError
from hub.api.resource import MANAGED_CLUSTER_SET_BINDINGS, MANAGED_CLUSTER_SETS, MANAGED_CLUSTERS
from hub.client.session import Session
from hub.controllers.departure import leave_fleet
from hub.controllers.logs import logger
from hub.controllers.set_keeper import SetKeeper

_log = logger(__name__)
_RESYNC: Final = 60.0
_STOP_PATIENCE: Final = 5.0


class Lifecycle:
    """`start` and `stop` from the hub's loop. `connect` makes a session of its own for this thread.

    `patience`: seconds that an available agent of a leaving cluster has to clean up. `busy` tells any thread whether
    the hub has more urgent things to do.
    """

    def __init__(
        self,
        connect: Callable[[], Session],
        *,
        patience: float = 30.0,
        resync: float = _RESYNC,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._connect, self._patience, self._resync, self._busy = connect, patience, resync, busy
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="lifecycle", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns at once; the thread ends in its own time."""
        self._stop.set()

    def join(self, seconds: float = _STOP_PATIENCE) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, stop: threading.Event) -> None:
        try:
            asyncio.run(self._operate(stop))
        except Exception:
            _log.exception("the lifecycle of clusters and sets has stopped; jobs go on")

    async def _operate(self, stop: threading.Event) -> None:
        import kopf

        async with self._connect() as api:
            keeper = SetKeeper(api, self._resync, self._busy)
            registry = kopf.OperatorRegistry()
            _register(registry, connect=lambda: kopf_session(api), keeper=keeper, patience=self._patience)
            settings = kopf.OperatorSettings()
            settings.posting.enabled = False
            settings.scanning.disabled = True
            settings.watching.chunk_size = 500
            settings.queueing.idle_timeout = 0.5
            settings.networking.error_backoffs = (0.2, 0.5, 1, 2, 5)
            settings.persistence.finalizer = names.HUB_FINALIZER
            # Only deletions are handled with progress; nothing is to be remembered of what was seen.
            settings.persistence.diffbase_storage = _no_diffs(kopf)
            settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP)
            logging.getLogger("kopf").setLevel(logging.WARNING)
            keeping = asyncio.create_task(keeper.run())
            try:
                await kopf.operator(
                    registry=registry, settings=settings, standalone=True, clusterwide=True, stop_flag=stop
                )
            finally:
                keeping.cancel()


def _register(registry: Any, *, connect: Callable[[], Any], keeper: SetKeeper, patience: float) -> None:
    import kopf

    group, version = MANAGED_CLUSTERS.group, MANAGED_CLUSTERS.version

    @kopf.on.login(registry=registry)  # type: ignore[untyped-decorator,unused-ignore]
    async def login(**_: Any) -> Any:
        return await connect()

    @kopf.on.delete(group, version, MANAGED_CLUSTERS.plural, registry=registry)  # type: ignore[arg-type,unused-ignore]
    async def leave(name: str, body: Any, **_: Any) -> None:
        try:
            await leave_fleet(keeper.api, str(name), dict(body), patience)
        except QuarterdeckError as error:
            raise kopf.TemporaryError(f"cluster {name} is not gone yet: {error}", delay=5) from error

    @kopf.on.event(group, version, MANAGED_CLUSTERS.plural, registry=registry)  # type: ignore[arg-type,unused-ignore]
    async def cluster(**_: Any) -> None:
        keeper.wake()

    for resource in (MANAGED_CLUSTER_SETS, MANAGED_CLUSTER_SET_BINDINGS):

        @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)  # type: ignore[arg-type,unused-ignore]
        async def changed(**_: Any) -> None:
            keeper.wake()


async def kopf_session(api: Session) -> Any:
    """kopf's own connection, made from what ours was made of: credentials are read in one place."""
    import kopf

    connection = await api.connection()
    headers = {"User-Agent": "quarterdeck-lifecycle"}
    if connection.authorization:
        headers["Authorization"] = connection.authorization
    connector = aiohttp.TCPConnector(ssl=connection.ssl, limit=0)
    session = aiohttp.ClientSession(connector=connector, headers=headers)
    return kopf.AiohttpSession(aiohttp_session=session, server=connection.server)


def _no_diffs(kopf: Any) -> Any:
    class NoDiffs(kopf.DiffBaseStorage):  # type: ignore[misc]
        def build(self, *, body: Any, extra_fields: Any = None) -> Any:
            return {}

        def fetch(self, *, body: Any) -> Any:
            return None

        def store(self, *, body: Any, patch: Any, essence: Any) -> None:
            return None

    return NoDiffs()

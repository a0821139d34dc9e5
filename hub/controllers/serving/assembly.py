"""What the hub serves to API servers, put together: the visibility API, webhooks, certificates, the leader's label.

Each is served only where it is asked for. None of it decides anything about jobs, and no failure of it stops the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from hub.client.session import Session
from hub.controllers.hub import Hub
from hub.controllers.logs import logger
from hub.controllers.permission import Permission
from hub.controllers.serving.front_proxy import FrontProxy
from hub.controllers.serving.leader_label import keep_label
from hub.controllers.serving.secure_server import SecureServer, server_context
from hub.controllers.serving.trust import Trust
from hub.controllers.serving.watched import WatchedLook
from hub.controllers.serving.webhooks import Webhooks
from hub.controllers.visibility import VisibilityPages

_log = logger(__name__)
_AGAIN = 5.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Empty: not served. `pod`: whose label says who leads; empty: nobody's."""

    api: str = ""
    webhooks: str = ""
    pod: str = ""


@contextlib.asynccontextmanager
async def serving(
    hub: Hub, session: Session, connect: Callable[[], Session], addresses: Addresses, permission: Permission
) -> AsyncIterator[None]:
    """Raises `UsageError` for an address that is none or is taken."""
    leads, running = hub.leading.is_set, []
    async with contextlib.AsyncExitStack() as stack:
        contexts = []
        if addresses.api:
            contexts.append(server_context())
            proxy = FrontProxy(session, contexts[-1], permission.caller)
            pages = VisibilityPages(hub.deciding, hub.table, permission, hub.way, proxy.identify)
            server = SecureServer(addresses.api, "--api-listen", contexts[-1], pages.routes)
            await stack.enter_async_context(server)
            running.append(_keep("front proxy", proxy.run))
        if addresses.webhooks:
            contexts.append(server_context())
            seen = WatchedLook(hub.watching.store)
            webhooks = Webhooks(addresses.webhooks, contexts[-1], connect, lambda: seen if hub.ready.is_set() else None)
            webhooks.start()
            stack.callback(webhooks.stop)
        if contexts:
            running.append(_keep("certificates", Trust(session, leads, contexts=contexts).run))
        if addresses.pod:
            running.append(_keep("leader's label", lambda: keep_label(session, addresses.pod, leads)))
        tasks = [asyncio.create_task(part) for part in running]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _keep(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """`run` until cancelled: an error of our own is logged, and it begins again."""
    while True:
        try:
            await run()
            return
        except Exception:
            _log.exception("a part of what is served failed and starts again", part=name)
            await asyncio.sleep(_AGAIN)

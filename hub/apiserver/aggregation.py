"""API groups that somebody else serves, as with an APIService: a request about one is passed on, the answer comes back.

Which groups and where is said at the start (`--aggregate GROUP=URL`), never by an object: whoever may write objects
must not learn other people's tokens. The caller's own token goes along, so the one who serves knows who asks. Only GET,
one answer a request: no watches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from hub.api.errors import UsageError
from hub.apiserver.http import Answer, Exchange
from hub.apiserver.status import dump_status, failure, method_not_allowed

_log = logging.getLogger(__name__)
_PATIENCE: Final = 30.0
_LARGEST: Final = 64 << 20
_KEPT: Final = (b"authorization", b"accept", b"user-agent")


def read_aggregated(options: Iterable[str]) -> dict[str, str]:
    """``GROUP=URL`` by group. Raises `UsageError`."""
    found: dict[str, str] = {}
    for option in options:
        group, _, url = option.partition("=")
        parts = urlsplit(url)
        if not group or parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{option!r} is not GROUP=URL, such as visibility.kueue.x-k8s.io=http://127.0.0.1:8082",
                field="--aggregate",
            )
        found[group] = url.rstrip("/")
    return found


class Aggregation:
    """`served`: where each group is. `close` at the end."""

    def __init__(self, served: Mapping[str, str]) -> None:
        self._served = dict(served)
        self._session: Any = None
        self._tasks: set[asyncio.Task[None]] = set()

    def serves(self, parts: list[str]) -> bool:
        return len(parts) >= 2 and parts[0] == "apis" and parts[1] in self._served

    def pass_on(self, exchange: Exchange, group: str) -> None:
        """Raises `ApiError` for what is never passed on."""
        if exchange.method not in ("GET", "HEAD"):
            raise method_not_allowed(exchange.method)
        task = asyncio.get_running_loop().create_task(self._ask(exchange, group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._session is not None:
            await self._session.close()

    async def _ask(self, exchange: Exchange, group: str) -> None:
        # Imported by who needs it: an agent's embedded API has nobody behind it.
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_PATIENCE), trust_env=False, auto_decompress=False
            )
        url = self._served[group] + exchange.path + (f"?{exchange.query}" if exchange.query else "")
        headers = {name.decode(): value for name in _KEPT if (value := exchange.headers.get(name))}
        try:
            async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                body = bytearray()
                async for part in response.content.iter_any():
                    body += part
                    if len(body) > _LARGEST:
                        raise OSError(f"the answer has more than {_LARGEST >> 20} MiB")
                answer = Answer(response.status, bytes(body), response.headers.get("Content-Type", "application/json"))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.warning("nobody answers for %s at %s: %s", group, self._served[group], error)
            refused = failure(503, "ServiceUnavailable", f"the server that has {group} does not answer: {error}")
            answer = Answer(503, dump_status(refused.status))
        exchange.answer(answer)

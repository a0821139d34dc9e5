"""Lets an API server reach Services of a cluster without a network: where no kube-proxy and no pod is, and no port is
open beyond loopback, it is told to connect through this (an HTTP CONNECT proxy on a Unix socket).

`routes` maps a Service's cluster IP and port to a port of this machine. What has no route is refused, as it would be by
a Service without endpoints.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import yaml

_CHUNK: Final = 65536


class Egress:
    """A context manager, in a thread of its own. `flags()` are the API server's."""

    def __init__(self, directory: Path) -> None:
        self.routes: dict[tuple[str, int], int] = {}
        self._directory = directory
        self._socket = directory / "egress.sock"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="egress", daemon=True)
        self._started = threading.Event()

    def flags(self) -> list[str]:
        connection = {
            "proxyProtocol": "HTTPConnect",
            "transport": {"uds": {"udsName": str(self._socket)}},
        }
        document = {
            "apiVersion": "apiserver.k8s.io/v1beta1",
            "kind": "EgressSelectorConfiguration",
            "egressSelections": [{"name": "cluster", "connection": connection}],
        }
        file = self._directory / "egress.yaml"
        file.write_text(yaml.safe_dump(document))
        return [f"--egress-selector-config-file={file}"]

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_unix_server(self._serve, str(self._socket)))
        self._started.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            head = await reader.readuntil(b"\r\n\r\n")
            host, _, port = head.split(b" ", 2)[1].decode().rpartition(":")
            target = self.routes.get((host.strip("[]"), int(port)))
            if target is None:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            else:
                there, back = await asyncio.open_connection("127.0.0.1", target)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(_pass(reader, back), _pass(there, writer))
        with contextlib.suppress(OSError):
            writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

"""What Prometheus and a health check read of an agent, and that nobody's request can hurt it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from agent_fakes import until

from agent.metrics import Metric, MetricsServer, parse_listen, process_metrics, render
from hub.api.errors import StorageError, UsageError


class Pages:
    def __init__(self) -> None:
        self.text: Callable[[], str] = lambda: "a 1\n"
        self.problems: list[str] = []
        self.server = MetricsServer("127.0.0.1", 0, lambda: self.text(), lambda: self.problems)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"


@pytest.fixture
async def pages() -> AsyncIterator[Pages]:
    found = Pages()
    task = asyncio.create_task(found.server.run())
    await until(lambda: found.server.port)
    yield found
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_pages_over_one_connection(pages: Pages) -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as http:
        async with http.get(f"{pages.url}/metrics?x=1") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert await answer.text() == "a 1\n"
        async with http.get(f"{pages.url}/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
        pages.problems = ["site: it fell over", "work: no"]
        async with http.get(f"{pages.url}/healthz") as answer:
            assert (answer.status, await answer.text()) == (503, "site: it fell over\nwork: no\n")
        async with http.get(f"{pages.url}/else") as answer:
            assert answer.status == 404
        async with http.post(f"{pages.url}/metrics", data=b"") as answer:
            assert answer.status == 405
        async with http.head(f"{pages.url}/metrics") as answer:
            assert answer.headers["Content-Length"] == "4"


async def test_a_page_that_fails_is_an_answer_and_the_next_one_works(pages: Pages) -> None:
    pages.text = lambda: str(1 / 0)
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{pages.url}/metrics") as answer:
            assert answer.status == 500
        pages.text = lambda: "b 2\n"
        async with http.get(f"{pages.url}/metrics") as answer:
            assert await answer.text() == "b 2\n"


@pytest.mark.parametrize(
    "request_bytes", [b"nonsense\r\n\r\n", b"GET /" + b"x" * 40_000, b"\x16\x03\x01\x02\x00\r\n\r\n", b""]
)
async def test_nonsense_is_hung_up_on(pages: Pages, request_bytes: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", pages.server.port)
    with contextlib.suppress(OSError):
        writer.write(request_bytes)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 2) == b""
    writer.close()
    async with aiohttp.ClientSession() as http, http.get(f"{pages.url}/metrics") as answer:
        assert answer.status == 200


async def test_an_address_in_use_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StorageError, match=f"cannot serve metrics on 127.0.0.1:{port}"):
            await MetricsServer("127.0.0.1", port, lambda: "", list).run()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:9464", ("127.0.0.1", 9464)), (":1", ("127.0.0.1", 1)), ("[::1]:80", ("::1", 80)), ("h:0", ("h", 0))],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize("text", ["9464", "host:", "host:99999", "host:-1", ""])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--metrics-listen"):
        parse_listen(text)


def test_text_format() -> None:
    text = render(
        [
            Metric.of("up", "gauge", "Whether it is up.", 1.0),
            Metric.by("works", "gauge", "Works.", "state", {'o"dd\n\\': 2, "a": 0.25}),
            Metric.by("none", "counter", "Nothing yet.", "x", {}),
        ]
    )
    assert text == (
        "# HELP up Whether it is up.\n# TYPE up gauge\nup 1\n"
        '# HELP works Works.\n# TYPE works gauge\nworks{state="a"} 0.25\nworks{state="o\\"dd\\n\\\\"} 2\n'
        "# HELP none Nothing yet.\n# TYPE none counter\n"
    )


def test_of_the_process_itself() -> None:
    found = {metric.name: next(iter(metric.values.values())) for metric in process_metrics()}
    assert found["process_resident_memory_bytes"] > 10 * 2**20
    assert found["process_cpu_seconds_total"] > 0
    assert found["process_open_fds"] > 2

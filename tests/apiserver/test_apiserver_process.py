"""The server as a process: how it starts, what it says when it cannot, how it ends, what survives its death."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.api.errors import UnreachableError
from hub.api.resource import CONFIG_MAPS
from hub.client.session import Session


def argv(data: Path, *more: str, listen: str = "127.0.0.1:0") -> list[str]:
    return [sys.executable, "-m", "hub.apiserver", "--data", str(data), "--listen", listen, *more]


@contextmanager
def running(data: Path, *more: str, listen: str = "127.0.0.1:0") -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process and its URL; killed at the end if it still runs."""
    log = data.parent / f"{data.name}-{time.monotonic_ns()}.log"
    with open(log, "wb") as file:
        process = subprocess.Popen(argv(data, *more, listen=listen), stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 20
        while "listening on " not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield process, log.read_text().split("listening on ")[1].split(";")[0]
    finally:
        process.kill()
        process.wait()


def write_tokens(data: Path) -> None:
    data.mkdir(exist_ok=True)
    (data / "tokens.json").write_text(json.dumps({"secret-token": {"user": "admin", "groups": ["system:masters"]}}))


def test_it_makes_a_token_where_there_is_none_and_prints_none(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, "--self-signed") as (process, url):
        assert url.startswith("https://127.0.0.1:")
        kubeconfig = data / "kubeconfig"
        deadline = time.monotonic() + 5
        while not kubeconfig.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

        async def list_maps() -> int:
            async with Session.from_kubeconfig(kubeconfig) as session:
                return len((await session.list(CONFIG_MAPS)).items)

        assert asyncio.run(list_maps()) == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    (token,) = json.loads((data / "tokens.json").read_text())
    said = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert token not in said
    assert token in kubeconfig.read_text()


def test_a_second_process_on_the_same_data_says_who_has_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_tokens(data)
    with running(data) as (process, _):
        second = subprocess.run(argv(data), capture_output=True, timeout=20, check=False)
        assert second.returncode == 1
        assert len(second.stderr.decode().strip().splitlines()) == 1
        assert f"held by another API server (pid {process.pid})" in second.stderr.decode()


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    write_tokens(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(argv(tmp_path, listen=address), capture_output=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1
    assert "is in use by another process" in done.stderr.decode()


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ("203.0.113.1:6443", "cannot listen"),
        ("nowhere", "expected HOST:PORT"),
        ("127.0.0.1:99999", "expected HOST:PORT"),
    ],
)
def test_where_it_may_not_or_cannot_listen(tmp_path: Path, listen: str, words: str) -> None:
    write_tokens(tmp_path)
    done = subprocess.run(argv(tmp_path, listen=listen), capture_output=True, timeout=20, check=False)
    assert done.returncode == 1
    assert words in done.stderr.decode()


def test_a_damaged_store_is_one_line(tmp_path: Path) -> None:
    write_tokens(tmp_path)
    (tmp_path / "store.db").write_bytes(b"\xff" * 8192)
    done = subprocess.run(argv(tmp_path), capture_output=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "damaged" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


async def _write_until_dead(url: str, lane: str, acknowledged: dict[str, int]) -> None:
    async with Session(url, token="secret-token", timeout=5) as session:
        number = 0
        while True:
            name = f"{lane}-{number}"
            try:
                made = await session.create(
                    CONFIG_MAPS, {"metadata": {"name": name}, "data": {"x": "y" * 500}}, "default"
                )
            except UnreachableError:
                return
            acknowledged[name] = int(made["metadata"]["resourceVersion"])
            number += 1


async def test_kill_9_under_load_loses_no_write_that_was_acknowledged(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_tokens(data)
    acknowledged: dict[str, int] = {}
    for round in range(3):
        with running(data) as (process, url):
            async with Session(url, token="secret-token") as session:
                listed = await session.list(CONFIG_MAPS)
                assert acknowledged.keys() <= {item["metadata"]["name"] for item in listed.items}
                assert int(listed.resource_version) >= max(acknowledged.values(), default=0)
            lanes = [asyncio.create_task(_write_until_dead(url, f"r{round}l{lane}", acknowledged)) for lane in range(8)]
            before = len(acknowledged)
            async with asyncio.timeout(30):
                while len(acknowledged) < before + 200:
                    await asyncio.sleep(0.005)
            os.kill(process.pid, signal.SIGKILL)
            await asyncio.gather(*lanes)
    with running(data) as (_, url):
        async with Session(url, token="secret-token") as session:
            items = (await session.list(CONFIG_MAPS)).items
    found = {item["metadata"]["name"]: int(item["metadata"]["resourceVersion"]) for item in items}
    assert acknowledged.items() <= found.items()
    assert len(acknowledged) >= 600

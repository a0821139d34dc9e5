"""Thousands of requests that mean no good against the embedded API: it answers each, or hangs up; it never breaks.

    python -m bench.fuzz_api --requests 10000 --seed 0

Asked: no crash, no answer of 500 or above (but 504 and 507, which say what they mean), nothing unexpected in the
server's log, every refusal a Status, and memory that stays as it is. `run` is the same over any server, for tests.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench.apiserver import Server, prepare
from bench.fuzz_api_requests import Shot, Shots

_AT_ONCE = 16
_PATIENCE = 20.0
_MEANT = frozenset({504, 507})
# What the store may grow by: the objects that the requests leave behind, histories, caches.
_GROWTH_MIB = 48.0


@dataclass(slots=True)
class Outcome:
    """`codes` by how often; 0 is a connection that was closed without an answer."""

    codes: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


async def run(host: str, port: int, token: str, *, requests: int, seed: int) -> Outcome:
    outcome, shots = Outcome(), Shots(seed, token)
    left = iter(range(requests))

    async def shoot() -> None:
        for number in left:
            shot = shots.next()
            try:
                async with asyncio.timeout(_PATIENCE):
                    await _one(host, port, shot, outcome)
            except TimeoutError:
                outcome.problems.append(f"request {number} of seed {seed}: no answer: {shot.data[:300]!r}")
            except OSError:
                # Hung up on, in the middle of what was being sent.
                outcome.codes[0] += 1

    await asyncio.gather(*(shoot() for _ in range(_AT_ONCE)))
    return outcome


async def _one(host: str, port: int, shot: Shot, outcome: Outcome) -> None:
    reader, writer = await asyncio.open_connection(host, port, limit=2**22)
    try:
        if shot.manner == "pieces":
            for start in range(0, len(shot.data), max(1, len(shot.data) // 5)):
                writer.write(shot.data[start : start + max(1, len(shot.data) // 5)])
                await asyncio.sleep(0.002)
        elif shot.manner == "cut":
            writer.write(shot.data[: len(shot.data) // 2])
        else:
            writer.write(shot.data)
        if shot.manner == "reset":
            await asyncio.sleep(0.001)
            writer.transport.abort()
            outcome.codes[0] += 1
            return
        if shot.manner in ("cut", "half-closed") and writer.can_write_eof():
            writer.write_eof()
        code, body = await _answer(reader, shot)
        outcome.codes[code] += 1
        _judge(code, body, shot, outcome)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader, shot: Shot) -> tuple[int, bytes]:
    code, headers = 100, ""
    while code == 100:
        try:
            head = await (_quickly(reader) if shot.patient else reader.readuntil(b"\r\n\r\n"))
        except (asyncio.IncompleteReadError, TimeoutError):
            return 0, b""
        code, headers = int(head.split(b" ", 2)[1]), head.decode("latin-1").lower()
    if shot.head or "transfer-encoding: chunked" in headers:
        return code, b""
    length = int(headers.partition("content-length: ")[2].partition("\r")[0] or 0)
    return code, await reader.readexactly(length)


async def _quickly(reader: asyncio.StreamReader) -> bytes:
    # Half a request is waited for, as it should be: that is not an answer that is missing.
    async with asyncio.timeout(0.1):
        return await reader.readuntil(b"\r\n\r\n")


def _judge(code: int, body: bytes, shot: Shot, outcome: Outcome) -> None:
    said = f"{shot.data[:400]!r} … {shot.data[-200:]!r}"
    if code >= 500 and code not in _MEANT:
        outcome.problems.append(f"answered {code}: {body[:300]!r} to {said}")
    elif code >= 400 and not shot.head:
        try:
            status = json.loads(body)
        except ValueError:
            outcome.problems.append(f"refused with {code} and {body[:100]!r}, which is no Status, to {said}")
            return
        if status.get("kind") != "Status" or status.get("code") != code or not status.get("message"):
            outcome.problems.append(f"refused with {code} and {body[:200]!r}, to {said}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz_api", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fuzz-api-") as path:
        directory = Path(path)
        asyncio.run(prepare(directory))
        with Server(directory) as server:
            parts, token = urlsplit(server.url), server.token_file.read_text()

            def fire(requests: int, seed: int) -> Outcome:
                return asyncio.run(run(str(parts.hostname), int(parts.port or 0), token, requests=requests, seed=seed))

            # What it takes once for all, code and caches, is there before memory is looked at.
            fire(options.requests // 2, options.seed + 1)
            before = server.memory()
            outcome = fire(options.requests, options.seed)
            after = server.memory()
            if server.process.poll() is not None:
                outcome.problems.append(f"the server has ended: {server.process.returncode}")
        log = server.log.read_text()
    # Each kind of breakage once, with its last lines.
    broken = {part.split("\n20", 1)[0][-900:] for part in log.split("Traceback (most recent call last)")[1:]}
    outcome.problems += [f"the server's log: {text}" for text in sorted(broken)]
    if after - before > _GROWTH_MIB:
        outcome.problems.append(f"memory grew from {before:.0f} to {after:.0f} MiB")
    codes = ", ".join(f"{code or 'hung up'}: {count}" for code, count in sorted(outcome.codes.items()))
    print(f"{options.requests} requests, seed {options.seed}: {codes}; memory {before:.0f} → {after:.0f} MiB")
    for problem in outcome.problems[:20]:
        print(f"PROBLEM {problem}")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())

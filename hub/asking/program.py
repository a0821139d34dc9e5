"""A program as a source of data: run once about one cluster, without a shell, within limits.

Which programs there are is the operator's configuration (access.py); an object of the API can only name one of them,
and gives it nothing but the cluster's name. It gets an environment of its own and no input; it is ended, with all that
it has started, when its time is over or when it prints too much.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Any, Final

import orjson

from hub.api.names import ENV_CLUSTER
from hub.api.reasons import Reason
from hub.asking.document import number
from hub.asking.request import Series, read_list
from hub.asking.trouble import ScorerTrouble

LARGEST_OUTPUT: Final = 4 << 20
_LARGEST_COMPLAINT: Final = 4096
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NO_LIST: Final = 'no list of series: print {"data": [{"metric": {}, "values": [[TIME, "1.5"]]}]}, or one number'


async def run_program(name: str, command: Sequence[str], cluster: str, timeout: float, now: float) -> Series:
    """What it prints: `{"data": [series…]}`, or one number. `now`: epoch seconds, the time of a number.

    Raises `ScorerTrouble` (ScoreSourceFailed) when it ends otherwise than with 0, prints nothing of the kind, too much,
    or nothing in time.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd="/",
            env={"PATH": _PATH, "LANG": "C.UTF-8", ENV_CLUSTER: cluster},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise _trouble(f"program {name} cannot be started: {error}") from error
    try:
        async with asyncio.timeout(timeout):
            assert process.stdout is not None
            assert process.stderr is not None
            output, complaint = await asyncio.gather(
                _read(process.stdout, LARGEST_OUTPUT, f"program {name}"), _first(process.stderr)
            )
            code = await process.wait()
    except TimeoutError as error:
        raise _trouble(f"program {name} has not ended within {timeout:g} s") from error
    finally:
        await _end(process)
    if code != 0:
        said = " ".join(complaint.decode("utf-8", "replace").split())[:200]
        raise _trouble(f"program {name} ends with {code}" + (f": {said}" if said else ""))
    return _series(name, output, now)


def _series(name: str, output: bytes, now: float) -> Series:
    try:
        document: Any = orjson.loads(output)
    except orjson.JSONDecodeError as error:
        start = " ".join(output[:60].decode("utf-8", "replace").split())
        raise _trouble(f"program {name} prints {start!r}, which is not JSON") from error
    value = number(document)
    if value is not None:
        return [{"metric": {}, "values": [[now, repr(value)]]}]
    found = read_list(document.get("data") if isinstance(document, dict) else None, _NO_LIST)
    if isinstance(found, str):
        raise _trouble(f"program {name}: {found}")
    return found


async def _read(stream: asyncio.StreamReader, most: int, who: str) -> bytes:
    found = bytearray()
    while part := await stream.read(1 << 16):
        found += part
        if len(found) > most:
            raise _trouble(f"{who} prints more than {most >> 20} MiB")
    return bytes(found)


async def _first(stream: asyncio.StreamReader) -> bytes:
    """All of it is taken, so that who complains a lot is not held up; the beginning is kept."""
    found = b""
    while part := await stream.read(1 << 16):
        found = (found + part)[:_LARGEST_COMPLAINT]
    return found


async def _end(process: asyncio.subprocess.Process) -> None:
    """With its children: they are in its session's group, unless they have left it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    # A killed process ends at once; one that left its pipes to somebody who has left its group is not waited for.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            await process.wait()


def _trouble(detail: str) -> ScorerTrouble:
    return ScorerTrouble(Reason.SCORE_SOURCE_FAILED, detail)

"""Processes of `up`: kept alive, stopped in order, their last words shown."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from hub.cli.up import processes
from hub.cli.up.processes import ProcessGroup, ProcessSpec


def _spec(tmp_path: Path, name: str, code: str, grace: float = 5.0) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-c", code), tmp_path / f"{name}.log", grace=grace)


async def _until(condition: object, timeout: float = 10.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    group = ProcessGroup(said.append)
    await group.start([_spec(tmp_path, "sleeper", "import time; time.sleep(60)")])
    member = group["sleeper"]
    first = member.pid
    member.kill()
    await _until(lambda: member.pid not in (None, first))
    assert member.restarts == 1
    assert "sleeper was killed by SIGKILL" in said[0]
    second = member.pid
    await group.stop(["sleeper"])
    assert second is not None
    assert not os.path.exists(f"/proc/{second}")


async def test_a_process_that_fails_says_its_last_words(tmp_path: Path) -> None:
    said: list[str] = []
    group = ProcessGroup(said.append)
    await group.start([_spec(tmp_path, "broken", "import sys; sys.exit('no such disk')")])
    await _until(lambda: len(said) >= 2)
    await group.stop(["broken"])
    assert "ended with code 1" in said[0]
    assert said[1] == "no such disk"


async def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    said: list[str] = []
    group = ProcessGroup(said.append)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    await group.start([_spec(tmp_path, "deaf", code, grace=0.3)])
    await _until(lambda: group["deaf"].tail() == "up")
    await group.stop(["deaf", "unknown names are ignored"])
    assert group["deaf"].pid is None
    assert said == ["deaf did not stop within 0 s; killed"]


async def test_a_killed_supervisor_leaves_nothing_behind(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
from hub.cli.up.processes import ProcessGroup, ProcessSpec
async def main():
    group = ProcessGroup(print)
    spec = ProcessSpec("child", (sys.executable, "-c", "import time; time.sleep(60)"), Path({str(tmp_path / "log")!r}))
    await group.start([spec])
    print(group["child"].pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert supervisor.stdout is not None
    child = int(await supervisor.stdout.readline())
    supervisor.kill()
    await supervisor.wait()
    await _until(lambda: not os.path.exists(f"/proc/{child}") or _is_zombie(child))


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


async def test_a_process_that_refuses_what_it_was_given_is_not_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    group = ProcessGroup(said.append)
    (tmp_path / "picky.log").write_text("words of an earlier life\n")
    await group.start([_spec(tmp_path, "picky", "import sys; print('no such field: node'); sys.exit(2)")])
    await _until(lambda: group["picky"].refused)
    assert (group["picky"].restarts, group["picky"].tail(), said) == (0, "no such field: node", [])


async def test_what_is_about_to_be_stopped_is_not_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    group = ProcessGroup(said.append)
    await group.start([_spec(tmp_path, "sleeper", "import time; time.sleep(60)")])
    group.let_die()
    group.kill()
    await _until(lambda: group["sleeper"].pid is None)
    await asyncio.sleep(0.5)
    assert (group["sleeper"].pid, said) == (None, [])
    await group.stop(["sleeper"])


async def test_a_long_log_of_earlier_runs_is_put_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_LOG_BYTES", 10)
    spec = _spec(tmp_path, "chatty", "print('of this run')")
    for _ in range(2):
        (tmp_path / "chatty.log").write_text("of an earlier run\n")
        group = ProcessGroup(lambda _: None)
        await group.start([spec])
        await _until(lambda: spec.log.read_text() == "of this run\n")
        group.let_die()
        await group.stop(["chatty"])
    assert (tmp_path / "chatty.log.1").read_text() == "of an earlier run\n"

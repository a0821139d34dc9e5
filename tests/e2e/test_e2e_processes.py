"""Whatever the harness starts is gone when it is, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.ports import free
from e2e.processes import ProcessEndedError, Processes
from e2e.reaper import reap, start_time

ROOT = Path(__file__).resolve().parents[2]
# Starts a shell that starts another, says so, and waits.
HARNESS = """
import sys, time
from pathlib import Path
from e2e.processes import Processes
with Processes(Path(sys.argv[1])) as processes:
    processes.start("one", ["sh", "-c", "sleep 300 & sleep 300"])
    print("started", flush=True)
    time.sleep(300)
"""


def alive(directory: Path) -> list[int]:
    pids = [line.split(" ", 2) for line in (directory / "pids").read_text().splitlines()]
    return [int(pid) for pid, started, _ in pids if start_time(int(pid)) == started]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_they_end_with_the_harness_even_when_it_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    harness = subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(tmp_path / "d")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert harness.stdout is not None
    assert harness.stdout.readline() == "started\n"
    assert len(alive(tmp_path / "d")) == 1
    harness.send_signal(number)
    harness.wait(30)
    deadline = time.monotonic() + 30
    while alive(tmp_path / "d") or _sleepers(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _sleepers(directory: Path) -> list[str]:
    """Processes that stand in the harness's file of output, their children included."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                output = os.readlink(f"/proc/{entry}/fd/1")
            except OSError:
                continue
            if output.startswith(str(directory)):
                found.append(entry)
    return found


def test_a_pid_that_belongs_to_another_meanwhile_is_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        listed = tmp_path / "pids"
        listed.write_text(f"{other.pid} 1 somebody\n{2**22 + 1} 5 nobody\n")
        reap(str(listed))
        assert other.poll() is None
        listed.write_text(f"{other.pid} {start_time(other.pid)} ours\n")
        reap(str(listed))
        assert other.wait(10) == -signal.SIGKILL
    finally:
        if other.poll() is None:
            other.kill()
            other.wait()


def test_one_that_ended_says_its_last_words_and_may_be_started_again(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("brief", ["sh", "-c", "echo I am out; exit 7"]).wait(10)
        with pytest.raises(ProcessEndedError, match="code 7") as error:
            processes.check("brief")
        assert "I am out" in str(error.value)
        processes.start("brief", ["sleep", "300"])
        processes.check("brief")
        with pytest.raises(ValueError, match="runs already"):
            processes.start("brief", ["sleep", "300"])
        assert processes.names() == ["brief"]
        # Just forked, it may have nothing of its own yet.
        deadline = time.monotonic() + 10
        while processes.resident_bytes()["brief"] == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert processes.cpu_seconds()["brief"] >= 0
        assert processes.stop("brief") == -signal.SIGTERM
        assert processes.names() == []


def test_ports_are_different_and_free() -> None:
    ports = free(20)
    assert len(set(ports)) == 20

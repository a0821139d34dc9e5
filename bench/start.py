"""What a person waits for: `quarterdeck up` to the first job done, and `--help`."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.report import Figure


def run() -> list[Figure]:
    return [
        Figure("up → first job done, no bytecode yet", _up_to_first_job(cold=True), 20, "s"),
        Figure("up → first job done, warm", min(_up_to_first_job(cold=False) for _ in range(2)), 6, "s"),
        Figure("--help", _help_milliseconds(), 150, "ms"),
    ]


def _up_to_first_job(*, cold: bool) -> float:
    home = Path(tempfile.mkdtemp(prefix="quarterdeck-start-"))
    environment = {**os.environ, "QUARTERDECK_HOME": str(home)}
    if cold:
        environment["PYTHONPYCACHEPREFIX"] = str(home / "bytecode")
    command = [sys.executable, "-m", "hub.cli"]
    started = time.monotonic()
    up = subprocess.Popen([*command, "up", "--data", str(home / "data")], env=environment, stdout=subprocess.DEVNULL)
    try:
        while not (home / "current").exists():
            if up.poll() is not None or time.monotonic() - started > 60:
                raise RuntimeError(f"`up` ended with code {up.poll()} before it was ready")
            time.sleep(0.02)
        subprocess.run([*command, "run", "--", "true"], env=environment, check=True, capture_output=True, timeout=60)
        return time.monotonic() - started
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)
        shutil.rmtree(home, ignore_errors=True)


def _help_milliseconds() -> float:
    times = []
    for _ in range(9):
        started = time.perf_counter()
        subprocess.run([str(Path(sys.executable).with_name("quarterdeck")), "--help"], check=True, capture_output=True)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)

"""`quarterdeck` as a person starts it: in a process of its own, with a home of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

COMMAND = (sys.executable, "-m", "hub.cli")


@dataclass
class Home:
    """One person's machine: data directory, environment, and what runs in it."""

    root: Path
    sites: Sequence[dict[str, Any]] = ()
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environment = {
            **os.environ,
            "QUARTERDECK_HOME": str(self.root / "home"),
            "PYTHONUNBUFFERED": "1",
            "KUBECONFIG": "",
            "COLUMNS": "120",
        }
        self.environment.pop("QUARTERDECK_KUBECONFIG", None)
        self.root.mkdir(parents=True, exist_ok=True)
        document = {"apiVersion": "fleet.quarterdeck.dev/v1alpha1", "kind": "Fleet", "sites": list(self.sites)}
        (self.root / "fleet.yaml").write_text(yaml.safe_dump(document))

    @property
    def data(self) -> Path:
        return self.root / "data"

    def run(self, *arguments: str, timeout: float = 60, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=timeout,
            input=stdin,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env=self.environment,
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextlib.contextmanager
    def up(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """Ready when it says so; stopped by Ctrl-C, and by force when that does not end it."""
        arguments = ["up", "--data", str(self.data), "--no-prometheus", *options]
        if self.sites:
            arguments += ["--fleet", str(self.root / "fleet.yaml")]
        # A file, not a pipe: nobody reads while the test does other things.
        output = self.root / "up.log"
        with output.open("w") as file:
            process = subprocess.Popen(
                [*COMMAND, *arguments], env=self.environment, cwd=self.root, stdout=file, stderr=file, text=True
            )
        try:
            self.said = self._until_ready(process, output)
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                for pid in self.processes():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.kill()
                raise
            self.last_words = output.read_text()[len(getattr(self, "said", "")) :]

    def _until_ready(self, process: subprocess.Popen[str], output: Path) -> str:
        deadline = time.monotonic() + 60
        while "ready." not in (said := output.read_text()):
            assert process.poll() is None, f"`up` ended with code {process.returncode}:\n{said}"
            assert time.monotonic() < deadline, f"`up` was never ready:\n{said}"
            time.sleep(0.02)
        return said

    def processes(self, *marks: str) -> list[int]:
        """Of this home: those whose command line or environment names it (and, where given, all of `marks`)."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{entry}/stat").read_text()
                if stat.rpartition(")")[2].split()[0] == "Z":
                    continue
                text = Path(f"/proc/{entry}/cmdline").read_bytes() + Path(f"/proc/{entry}/environ").read_bytes()
                if all(mark.encode() in text for mark in (str(self.root), *marks)):
                    found.append(int(entry))
        return sorted(found)


def until(condition: Any, seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return found

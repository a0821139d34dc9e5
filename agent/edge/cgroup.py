"""Control groups, version 2, where the site may make them: limits the kernel keeps, and processes none can leave.

Used only where the cpu or memory controller can be handed on; elsewhere agent/edge/memory.py watches what tasks use. It
never touches a group it did not make, but for moving the agent itself out of its own when that is what the kernel asks.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from agent.edge.podplan import ContainerPlan

_PERIOD = 100_000


class Cgroups:
    """Makes one group a run under `base`. `detect` finds `base`, or None where there is none to be had."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._leftover: set[str] = set()

    @classmethod
    def detect(
        cls, site: str, mounts: Path = Path("/proc/self/mounts"), own: Path = Path("/proc/self/cgroup")
    ) -> Cgroups | None:
        try:
            root = next(
                Path(line.split()[1]) for line in mounts.read_text().splitlines() if line.split()[2] == "cgroup2"
            )
            group = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
            home = root / group.strip("/")
            # The agent's group holds its tasks' groups; after a restart the agent is in the leaf it made for itself.
            home = home.parent if home.name == "quarterdeck-agent" else home
            available = set((home / "cgroup.controllers").read_text().split())
            if not {"cpu", "memory"} & available:
                return None
            if home != root:
                leaf = home / "quarterdeck-agent"
                leaf.mkdir(exist_ok=True)
                (leaf / "cgroup.procs").write_text(str(os.getpid()))
            wanted = [name for name in ("cpu", "memory", "pids") if name in available]
            (home / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
            base = home / f"quarterdeck-{site}"
            base.mkdir(exist_ok=True)
            (base / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
        except (OSError, StopIteration, IndexError):
            return None
        return cls(base)

    def path(self, run: str) -> str:
        return str(self._base / run.replace("/", "-"))

    def create(self, run: str, container: ContainerPlan) -> str:
        """The directory of the run's group, with its limits. Raises `OSError`."""
        path = self.path(run)
        os.makedirs(path, exist_ok=True)
        if container.memory_limit is not None:
            _write(path, "memory.max", str(container.memory_limit))
            # The task ends as a whole: half of it is no use to anyone.
            _write(path, "memory.oom.group", "1")
        if container.cpu_limit is not None:
            _write(path, "cpu.max", f"{max(1000, container.cpu_limit * _PERIOD // 1000)} {_PERIOD}")
        return path

    def kill(self, run: str) -> None:
        _write(self.path(run), "cgroup.kill", "1")

    def out_of_memory(self, run: str) -> bool:
        with contextlib.suppress(OSError, ValueError), open(f"{self.path(run)}/memory.events") as file:
            return any(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
        return False

    def remove(self, run: str) -> None:
        """A group whose last process is still going cannot be removed yet: it is tried again with the next."""
        self._leftover.add(self.path(run))
        for path in list(self._leftover):
            with contextlib.suppress(OSError):
                _write(path, "cgroup.kill", "1")
            try:
                os.rmdir(path)
            except FileNotFoundError:
                pass
            except OSError:
                continue
            self._leftover.discard(path)


def _write(path: str, name: str, text: str) -> None:
    with contextlib.suppress(OSError), open(f"{path}/{name}", "w") as file:
        file.write(text)

"""Kill processes at random, by seed, and check what must hold.

One fleet of real processes lives through all rounds. Each round submits an array whose tasks write down when they
start and end, kills -9 one or two of the hub, the API server, an agent, or a task's own runtime at random moments,
lets the supervisor start them again, and waits for the job. Then, over the history of the round:

- the job succeeded, every task counted once;
- no task that had succeeded ran again (unless its very runtime was the victim: then only its record could be lost);
- attempts carry growing epochs, and no two live ones share a task;
- when all is over, no process of any task is left.

    python -m e2e.chaos --rounds 200 --seed 7
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.api import names
from hub.api.indexset import IndexSet
from hub.api.resource import FLEET_JOBS
from hub.cli.jobs import until_ended
from hub.cli.up.datadir import DataDirectory
from hub.cli.up.local_fleet import LocalFleet
from hub.client.session import Session

SITES: list[dict[str, Any]] = [
    {"name": "ash", "runtime": "process", "nodes": [{"count": 1, "cpu": 4, "memory": "4Gi"}]},
    {"name": "elm", "runtime": "process", "nodes": [{"count": 2, "cpu": 2, "memory": "4Gi"}]},
]
_TASKS = 12
# A task: say that it started, work a little, say that it ended; O_APPEND makes the lines of all tasks one history.
_PROGRAM = (
    'echo "start $QUARTERDECK_TASK_INDEX $$" >> "$HISTORY"; sleep "$NAP";'
    ' echo "end $QUARTERDECK_TASK_INDEX $$" >> "$HISTORY"'
)
_ROUND_LIMIT = 60.0


@dataclass(slots=True)
class Round:
    seed: int
    number: int
    victims: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


async def run_rounds(rounds: int, seed: int, data: Path, say: Callable[[str], None]) -> list[Round]:
    """All rounds, in one fleet; a round's problems are in its record. The same seed makes the same choices."""
    played = []
    with DataDirectory(data / "fleet") as paths:
        async with (
            LocalFleet(paths, SITES, lambda line: None, with_prometheus=False) as fleet,
            Session.from_kubeconfig(fleet.kubeconfig) as api,
        ):
            for number in range(rounds):
                record = await _play(fleet, api, Round(seed, number), data)
                played.append(record)
                outcome = "; ".join(record.problems) or "held"
                say(f"round {number:>3}  {record.seconds:4.1f} s  killed {', '.join(record.victims)}: {outcome}")
        left = _task_processes(str(data))
        if left:
            played[-1].problems.append(f"processes left behind: {left}")
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    return played


async def _play(fleet: LocalFleet, api: Session, record: Round, data: Path) -> Round:
    rng = random.Random(f"{record.seed}/{record.number}")
    history = data / f"round-{record.number}.txt"
    history.touch()
    name = f"chaos-{record.number}"
    started = time.monotonic()
    await _persistently(lambda: api.create(FLEET_JOBS, _job(name, history, rng), "default"))
    assassin = asyncio.create_task(_kill_some(fleet, rng, record, str(data)))
    try:
        async with asyncio.timeout(_ROUND_LIMIT):
            job = await _persistently(lambda: until_ended(api, name, "default"))
    except TimeoutError:
        job = await _persistently(lambda: api.get(FLEET_JOBS, name, "default"))
        record.problems.append(f"did not end: {job.get('status', {}).get('message')}")
    await assassin
    record.seconds = time.monotonic() - started
    record.problems += check(job, history.read_text().splitlines(), runtime_killed="task" in " ".join(record.victims))
    return record


def check(job: dict[str, Any], history: list[str], *, runtime_killed: bool) -> list[str]:
    """What the round's history says that it must not."""
    problems = []
    status = job.get("status", {})
    tasks = status.get("tasks", {})
    if status.get("phase") != "Succeeded" or str(tasks.get("succeededIndexes")) != str(IndexSet.span(_TASKS)):
        problems.append(f"phase {status.get('phase')}, succeeded {tasks.get('succeededIndexes')!r}")
    if int(tasks.get("succeeded", 0)) + int(tasks.get("failed", 0)) > _TASKS:
        problems.append(f"counted more than there is: {tasks}")
    ends = Counter(int(line.split()[1]) for line in history if line.startswith("end "))
    missing = set(range(_TASKS)) - set(ends)
    if missing:
        problems.append(f"counted as succeeded, but never ended: {sorted(missing)}")
    again = sorted(task for task, times in ends.items() if times > 1)
    if again and not runtime_killed:
        problems.append(f"ran again after success: {again}")
    counted = [IndexSet.parse(str(attempt.get("succeeded") or "")) for attempt in status.get("attempts") or ()]
    twice = [task for task in range(_TASKS) if sum(task in part for part in counted) > 1]
    if twice:
        problems.append(f"counted twice: {twice}")
    epochs = [int(attempt["epoch"]) for attempt in status.get("attempts") or ()]
    if len(set(epochs)) != len(epochs):
        problems.append(f"an epoch was used twice: {epochs}")
    return problems


async def _kill_some(fleet: LocalFleet, rng: random.Random, record: Round, marker: str) -> None:
    for _ in range(rng.choice((1, 1, 2))):
        await asyncio.sleep(rng.uniform(0.0, 1.2))
        victim = rng.choice(("hub", "api", "site-ash", "site-elm", "task"))
        record.victims.append(victim)
        if victim != "task":
            fleet.processes[victim].kill()
            continue
        running = _task_processes(marker)
        if running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(running), signal.SIGKILL)


def _job(name: str, history: Path, rng: random.Random) -> dict[str, Any]:
    environment = [
        {"name": "HISTORY", "value": str(history)},
        {"name": "NAP", "value": f"{rng.uniform(0.2, 0.8):.2f}"},
    ]
    container: dict[str, Any] = {"name": "main", "image": "host", "env": environment}
    container |= {"command": ["/bin/sh", "-c", _PROGRAM]}
    container |= {"resources": {"requests": {"cpu": "1", "memory": "64Mi"}}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FleetJob",
        "metadata": {"name": name},
        "spec": {
            "tasks": _TASKS,
            # A task whose own process is the victim fails with 137: it has attempts left.
            "retry": {"limitPerTask": 6},
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }


async def _persistently(action: Callable[[], Any]) -> Any:
    """The API server is one of the victims: ask again until it is back."""
    from hub.api.errors import AlreadyExistsError, OverloadedError, UnreachableError

    deadline = time.monotonic() + _ROUND_LIMIT
    while True:
        try:
            return await action()
        except AlreadyExistsError:
            return None
        except (UnreachableError, OverloadedError, TimeoutError, OSError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


def _task_processes(marker: str) -> list[int]:
    """Processes of tasks: those whose environment names a history file under `marker`."""
    needle = f"HISTORY={marker}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                environment = Path(f"/proc/{entry}/environ").read_bytes()
                if needle in environment:
                    found.append(int(entry))
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill processes at random and check what must hold.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    data = Path(tempfile.mkdtemp(prefix="quarterdeck-chaos-"))
    print(f"seed {options.seed}, {options.rounds} rounds, in {data}")
    played = asyncio.run(run_rounds(options.rounds, options.seed, data, print))
    bad = [record for record in played if record.problems]
    if bad:
        print(f"{len(bad)} of {len(played)} rounds broke something; seed {options.seed}; history kept in {data}")
        sys.exit(1)
    shutil.rmtree(data)
    print(f"all {len(played)} rounds held")


if __name__ == "__main__":
    main()

"""What a runtime is asked to start, what it answers, and what every runtime can do. Values and a protocol only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from agent.edge.podplan import ContainerPlan
from agent.edge.records import Record, RunId


@dataclass(frozen=True, slots=True)
class Launch:
    """One run of one container, ready to start. `engine_name`: the container's name where an engine runs it.

    `simulated`: how many real seconds it lasts, and its exit code; None for a real process.
    """

    run: RunId
    started: float
    node: str
    gpus: tuple[int, ...]
    container: ContainerPlan
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    engine_name: str = ""
    simulated: tuple[float, int] | None = None


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended. `code` is 128 + n for signal n; `reason` where a code does not say; seconds of CPU and time."""

    code: int
    reason: str | None
    finished: float
    cpu: float
    wall: float


class LaunchFailed(Exception):
    """This process can never start as it is asked for: `code` is what it counts as."""

    def __init__(self, message: str, code: int = 128, reason: str = "StartError") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


Ended = Callable[[RunEnd], None]


class Runtime(Protocol):
    """`ended` is called once a run, in the loop, never from within `start` or `stop`."""

    def start(self, launch: Launch, ended: Ended) -> None:
        """Raises `LaunchFailed` or `Shortage`; then nothing was started."""
        ...

    def look_around(self) -> None:
        """Once after a start of the site, before `adopt`: finds what still runs."""
        ...

    def adopt(self, record: Record, launch: Launch, ended: Ended) -> float | None:
        """Takes up a run of before: how many seconds ago it started. None when it never did; else `ended` is called."""
        ...

    def stop(self, run: RunId, grace: float, reason: str) -> None:
        """Asks it to end, and makes it end after `grace` seconds. `reason` is noted first."""
        ...

    def forget_strangers(self) -> None:
        """Ends what runs and was not adopted: nobody wants it."""
        ...

    def live(self) -> int: ...

    async def run(self) -> None:
        """Its own upkeep, until cancelled."""
        ...

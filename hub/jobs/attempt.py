"""One slice of a job as it went: what was decided, and what its cluster has said of it since. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hub.api import names
from hub.api.indexset import IndexSet
from hub.api.reasons import Reason

AttemptState = Literal["Pending", "Running", "Succeeded", "Failed", "Lost", "Cancelled", "Evicted"]


@dataclass(frozen=True, slots=True)
class Eviction:
    """That a slice has to go, as its ManifestWork records it. Times are epoch seconds.

    `cause` is the code of a Reason, Kueue's for its condition Evicted; `reason` says of a preemption which kind it is
    (InClusterQueue, …) and `by` whom it is for (``namespace/name``), else both are empty. It was decided `at`; until
    `stops` its tasks may go on.
    """

    cause: str
    message: str
    at: float
    stops: float
    reason: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Resize:
    """That a slice has `slots` instead of `before`, since `at` (epoch seconds). `by`: the job that slots are given back
    for; empty when it has more. By `stops` what ran on those has stopped."""

    before: int
    slots: int
    at: float
    stops: float
    message: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds, summed over ended tasks; GPU seconds are GPUs held times how long."""

    cpu: float = 0.0
    gpu: float = 0.0
    wall: float = 0.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """`tasks` are indexes of the job; `succeeded` and `failed` are those of them that ended like that in this attempt,
    counted or not. `exit_codes` is (code, tasks), sorted. Times are epoch seconds.

    `gone`: its ManifestWork exists no more (what is known of it comes from the job's status). `deleting`: it is being
    taken back. `queue` and `flavors` are what it holds quota of while it is live. `reason` is the code of a Reason that
    ended it, where there is one. `refused_at`: since when its cluster cannot apply it (`message` says why).

    `counted`: those of `succeeded` that the job's status has counted already, which no later news can change. `stale`:
    ended tasks that are recorded only, because a newer epoch had taken them over. `decision`: how its cluster was
    chosen, as it was noted then; empty once its work is gone. `admitted_at`: when it was sent. `eviction`: it was told
    to go; it ends as Evicted if it does not end by itself before.
    `domain`: the node label, and its value, that all its pods ask for. `reserved`: quota and place are its own, but
    nothing of it is sent before admission checks have said yes.

    `resize`: how its `slots` were changed last. `occupied`: how many tasks may still run there, when that is more.
    """

    epoch: int
    attempt: int
    cluster: str
    tasks: IndexSet
    slots: int
    work: str
    queue: str = ""
    flavors: tuple[tuple[str, str], ...] = ()
    state: AttemptState = "Pending"
    active: int = 0
    succeeded: IndexSet = IndexSet()
    failed: IndexSet = IndexSet()
    exit_codes: tuple[tuple[int, IndexSet], ...] = ()
    usage: Usage = Usage()
    started_at: float | None = None
    finished_at: float | None = None
    message: str = ""
    deleting: bool = False
    gone: bool = False
    reason: str = ""
    refused_at: float | None = None
    counted: IndexSet = IndexSet()
    stale: IndexSet = IndexSet()
    decision: str = ""
    domain: tuple[str, str] | None = None
    admitted_at: float | None = None
    eviction: Eviction | None = None
    reserved: bool = False
    resize: Resize | None = None
    occupied: int = 0

    @property
    def namespace(self) -> str:
        """Where its ManifestWork is."""
        return names.HUB_NAMESPACE if self.reserved else self.cluster

    @property
    def live(self) -> bool:
        """Whether it may still run something that counts."""
        return self.state in ("Pending", "Running")

    @property
    def fenced(self) -> bool:
        """Whether its ManifestWork must go, so that nothing of it runs (again) behind our back."""
        return self.state in ("Lost", "Cancelled", "Evicted") or self.reason == Reason.WORK_REFUSED.code

    @property
    def open_tasks(self) -> IndexSet:
        return self.tasks - self.succeeded - self.failed - self.stale

    @property
    def holds(self) -> int:
        """How many tasks' room it takes on its cluster: also while it is being taken back, until its work is gone."""
        return 0 if self.gone else min(max(self.slots, self.occupied), len(self.open_tasks))

    @property
    def shrinking(self) -> bool:
        """Whether tasks still run on slots that were given back."""
        return self.live and self.holds > self.slots

    @property
    def spare(self) -> int:
        """How many of its tasks wait for a slot in it."""
        return max(0, len(self.open_tasks) - max(self.slots, self.occupied)) if self.live and not self.reserved else 0

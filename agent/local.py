"""What the agent needs of the place it runs in, whether that is a Kubernetes cluster or an edge site of its own.

Two things implement it: `agent.edge` (a site without Kubernetes: processes behind the embedded API) and
`agent.kubernetes` (a real cluster through its API). Everything else of the agent is the same code for both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from hub.client.interface import KubeApi


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of what one task wrote; `offset` is where it starts in the whole log, in bytes.

    The last chunk has `final`, and the exit code and reason where the task has ended (it may have no data).
    """

    offset: int
    data: bytes
    final: bool = False
    exit_code: int | None = None
    reason: str | None = None


class LocalCluster(Protocol):
    @property
    def api(self) -> KubeApi:
        """Where manifests are applied."""
        ...

    @property
    def labels(self) -> dict[str, str]:
        """Labels that its ManagedCluster should carry."""
        ...

    async def run(self) -> None:
        """Until cancelled. A process that dies in here is found again by the next `run` on the same data."""
        ...

    async def ready(self) -> None:
        """Returns when `api` answers."""
        ...

    async def stop_tasks(self) -> None:
        """Ends everything that runs, in order and with its grace, and records it: the machine is to be left clean."""
        ...

    def capacity(self) -> dict[str, Any]:
        """A ClusterCapacity's status, `observedTime` left out. Cheap: it is asked often and compared."""
        ...

    def on_capacity_change(self, callback: Callable[[], None]) -> None:
        """`callback` when `capacity()` may have changed."""
        ...

    def cluster_status(self) -> dict[str, Any]:
        """ManagedCluster status: `version`, `capacity`, `allocatable` (sums over nodes) and `clusterClaims`."""
        ...

    def read_log(
        self,
        namespace: str,
        job: str,
        index: int,
        *,
        offset: int = 0,
        tail_lines: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogChunk]:
        """What completion `index` of a Job wrote, from `offset` or only its last lines; always ends with `final`.

        Raises `NotFoundError` when nothing is known of such a task.
        """
        ...

    def metrics(self) -> str:
        """Prometheus text of the site's hardware, under the names that the field's exporters use; may be empty."""
        ...

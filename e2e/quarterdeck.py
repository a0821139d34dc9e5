"""Quarterdeck on real control planes, as processes: hubs on the hub's, an agent for each member.

Whoever runs here gets a client certificate of its own, as an operator would hand them out: a hub its own kubeconfig, an
agent one for the hub (by OCM's naming) and one for its member. What they are and have done is read from the API.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from e2e.planes import Planes
from e2e.ports import free
from hub.api import names
from hub.api.conditions import condition_is
from hub.api.errors import ApiError, NotFoundError, UnreachableError
from hub.api.resource import LEASES, MANAGED_CLUSTERS
from hub.client.session import Session

Json = dict[str, Any]
_SOURCES: Final = Path(__file__).resolve().parent.parent
_PATIENCE: Final = 60.0
_MASTERS: Final = ("system:masters",)
_INSTALLED: Final = ("crds", "admission/fencing.yaml")
CONFIG: Final[Mapping[str, Any]] = {"autoAccept": {"users": ["system:open-cluster-management:*"]}}


class Quarterdeck:
    """Starts nothing by itself. Its processes belong to `planes.processes` and end with them."""

    def __init__(self, planes: Planes, config: Mapping[str, Any] = CONFIG) -> None:
        self.planes = planes
        self.processes = planes.processes
        self.directory = planes.directory / "quarterdeck"
        self.directory.mkdir(exist_ok=True)
        self.kubeconfig = planes.hub.kubeconfig
        self._config = self.directory / "hub.yaml"
        self._config.write_text(yaml.safe_dump(dict(config)))
        self._pages: dict[str, str] = {}

    def start_hub(self, name: str = "hub-1", *, kubeconfig: Path | None = None, server: str = "") -> None:
        """Again under the same name it is the same hub, restarted. `server`: instead of the API's own URL."""
        credential = kubeconfig or self.planes.hub.user(name, "system:quarterdeck:hub", _MASTERS)
        if server:
            credential = _pointed_at(credential, server, self.directory / f"{name}.kubeconfig")
        (port,) = free(1)
        self._pages[name] = f"http://127.0.0.1:{port}"
        self.processes.start(
            name,
            [
                *(sys.executable, "-m", "hub.cli", "hub", "--kubeconfig", str(credential), "--bootstrap"),
                *("--config", str(self._config), "--metrics-listen", f"127.0.0.1:{port}", "--identity", name),
            ],
            environment=_environment(),
            cwd=self.directory,
        )

    def start_agent(self, member: str) -> None:
        """Again it is the same agent, restarted on its own data."""
        groups = [f"system:open-cluster-management:{member}", "system:open-cluster-management:managed-clusters"]
        on_hub = self.planes.hub.user(
            f"agent-{member}", f"system:open-cluster-management:{member}:agent", [*groups, *_MASTERS]
        )
        cluster = self.planes.members[member]
        here = cluster.user("agent", "system:quarterdeck:agent", _MASTERS)
        self.processes.start(
            f"agent-{member}",
            [
                *(sys.executable, "-m", "agent.main", "--cluster", member),
                *("--data", str(self.directory / f"agent-{member}")),
                *("--hub-kubeconfig", str(on_hub), "--kubeconfig", str(here)),
            ],
            environment=_environment(),
            cwd=self.directory,
        )

    def freeze(self, name: str) -> None:
        """As a machine that hangs or is cut off: it does nothing, and knows nothing of it afterwards."""
        self.processes.signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self.processes.signal(name, signal.SIGCONT)

    def install(self) -> None:
        """What every installation has on the hub's API, as an operator applies it. Raises CalledProcessError."""
        for path in _INSTALLED:
            self.kubectl("apply", "--server-side", "-f", str(_SOURCES / "manifests" / path))

    def kubectl(self, *arguments: str) -> str:
        """On the hub's API, as an administrator: what it says. Raises CalledProcessError with its words."""
        command = [self.planes.binaries["kubectl"], "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout

    def start(self) -> None:
        """A hub and all agents."""
        self.install()
        self.start_hub()
        for member in self.planes.members:
            self.start_agent(member)

    async def joined(self, lease_seconds: int = 0) -> None:
        """Returns when every member takes work. `lease_seconds`: the silence that makes a cluster lost."""
        async with self.planes.hub.session() as api:

            async def available() -> bool:
                found = (await api.list(MANAGED_CLUSTERS)).items
                there = {c["metadata"]["name"] for c in found if _available(c)}
                return there >= set(self.planes.members)

            await until(available, _PATIENCE, "all members are Available", self._check)
            if lease_seconds:
                patch = {"spec": {"leaseDurationSeconds": lease_seconds}}
                await asyncio.gather(*(api.patch(MANAGED_CLUSTERS, name, patch) for name in self.planes.members))

    async def leader(self, api: Session) -> str:
        """The name of the hub that holds the Lease; nothing where nobody does."""
        try:
            lease = await api.get(LEASES, names.HUB_LEASE, names.HUB_NAMESPACE)
        except NotFoundError:
            return ""
        return str(lease["spec"].get("holderIdentity") or "")

    def state(self, hub: str) -> str:
        """What this hub says of itself: `leads`, `stands by`, or `starts` while it does not know everything yet."""
        try:
            self._ask(hub, "/readyz")
            samples = self._ask(hub, "/metrics").splitlines()
        except OSError:
            return "starts"
        leads = next((line.split()[1] for line in samples if line.startswith("quarterdeck_hub_leader ")), "0")
        return "leads" if float(leads) else "stands by"

    def _ask(self, hub: str, path: str) -> str:
        with urllib.request.urlopen(self._pages[hub] + path, timeout=5) as answer:
            return str(answer.read().decode())

    def _check(self) -> None:
        for name in self.processes.names():
            self.processes.check(name)


async def until(
    condition: Callable[[], Awaitable[Any]], seconds: float, what: str, check: Callable[[], None] = lambda: None
) -> Any:
    """What `condition` answers once that is true. An API that is away is waited for. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while True:
        try:
            if found := await condition():
                return found
        except (UnreachableError, ApiError) as error:
            last = error
        check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}" + (f" ({last})" if last else ""))
        await asyncio.sleep(0.05)


def _available(cluster: Json) -> bool:
    return condition_is((cluster.get("status") or {}).get("conditions"), "ManagedClusterConditionAvailable")


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("QUARTERDECK_", "KUBERNETES_"))}
    return kept | {"PYTHONPATH": str(_SOURCES), "KUBECONFIG": "", "PYTHONUNBUFFERED": "1"}


def _pointed_at(kubeconfig: Path, server: str, path: Path) -> Path:
    document = yaml.safe_load(kubeconfig.read_text())
    for entry in document["clusters"]:
        entry["cluster"]["server"] = server
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path

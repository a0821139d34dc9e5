"""A hub and its sites on this machine, as processes: what `up`, the demo, the trace and the chaos tests all start.

async with LocalFleet(paths, sites, notice=print) as fleet:
    …                     # fleet.kubeconfig, fleet.processes
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from hub.api import names
from hub.api.conditions import condition_is
from hub.api.errors import NotFoundError, QuarterdeckError, UnreachableError, UsageError
from hub.api.resource import LEASES, MANAGED_CLUSTERS
from hub.api.timestamps import parse_time
from hub.apiserver.certificates import authority
from hub.apiserver.kubeconfig import write_kubeconfig
from hub.cli.connection import home
from hub.cli.up.access import let_sites_join
from hub.cli.up.datadir import Paths, choose_port, ensure_token, write_private
from hub.cli.up.processes import ProcessGroup, ProcessSpec
from hub.cli.up.prometheus import prometheus_binary, prometheus_process
from hub.client.session import Session

_ADMIN_GROUPS = ["system:masters"]
_START_TIMEOUT = 60.0


@dataclass(slots=True)
class LocalFleet:
    """Everything that runs under one data directory. The caller holds the directory's lock."""

    paths: Paths
    sites: Sequence[Mapping[str, Any]]
    notice: Callable[[str], None]
    port: int | None = None
    with_prometheus: bool = True
    hub_config: Mapping[str, Any] = field(default_factory=dict)
    url: str = ""
    prometheus_url: str = ""
    hub_metrics_url: str = ""
    processes: ProcessGroup = field(init=False)

    def __post_init__(self) -> None:
        self.processes = ProcessGroup(self.notice)

    @property
    def kubeconfig(self) -> Path:
        return self.paths.kubeconfig

    @property
    def site_names(self) -> tuple[str, ...]:
        return tuple(str(site["name"]) for site in self.sites)

    async def __aenter__(self) -> LocalFleet:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Sites first (they end their tasks and say so), then the hub, then what both stand on."""
        self.processes.let_die()
        await self.processes.stop([f"site-{name}" for name in self.site_names])
        await self.processes.stop(["hub", "prometheus"])
        await self.processes.stop(["api"])

    async def _start(self) -> None:
        port = choose_port(self.paths, self.port)
        # HTTPS even here: kubectl sends no token over plain HTTP.
        self.url = f"https://127.0.0.1:{port}"
        hub_port = free_port()
        self.hub_metrics_url = f"http://127.0.0.1:{hub_port}/metrics"
        self._write_credentials()
        await self.processes.start([self._api_process(port, hub_port)])
        async with Session.from_kubeconfig(self.paths.kubeconfig) as api:
            await self._until_ready(api)
            from hub.controllers.bootstrap import bootstrap

            await bootstrap(api)
            await let_sites_join(api, self.site_names)
            started = datetime.now(UTC)
            metrics = {name: free_port() for name in self.site_names}
            await self.processes.start(
                [
                    self._hub_process(hub_port),
                    *(self._site_process(site, metrics[str(site["name"])]) for site in self.sites),
                    *self._prometheus(metrics),
                ]
            )
            await self._until_joined(api)
            # What was there before an earlier end still says that all is well.
            await self._until_renewed(api, started)
        # Only what could be started is worth starting again.
        write_private(self.paths.sites, yaml.safe_dump([dict(site) for site in self.sites], sort_keys=False))

    def _write_credentials(self) -> None:
        ca = authority(self.paths.api)
        admin = ensure_token(self.paths, "admin", _ADMIN_GROUPS)
        write_kubeconfig(self.paths.kubeconfig, self.url, admin, user="admin", ca=ca)
        hub = ensure_token(self.paths, "system:quarterdeck:hub", _ADMIN_GROUPS)
        write_kubeconfig(self.paths.hub_kubeconfig, self.url, hub, user="hub", ca=ca)
        for name in self.site_names:
            groups = [f"system:open-cluster-management:{name}", "system:open-cluster-management:managed-clusters"]
            token = ensure_token(self.paths, f"system:open-cluster-management:{name}:agent", groups)
            write_kubeconfig(self.paths.site(name) / "hub.kubeconfig", self.url, token, user="agent", ca=ca)

    def _api_process(self, port: int, hub_port: int) -> ProcessSpec:
        argv = (
            *(sys.executable, "-m", "hub.apiserver", "--data", str(self.paths.api)),
            *("--listen", f"127.0.0.1:{port}", "--self-signed"),
            *("--aggregate", f"visibility.kueue.x-k8s.io=http://127.0.0.1:{hub_port}"),
        )
        return ProcessSpec("api", argv, self.paths.log("api"))

    def _hub_process(self, port: int) -> ProcessSpec:
        # Its own sites come in whatever else is configured.
        accept = dict(self.hub_config.get("autoAccept") or {})
        accept["users"] = [*accept.get("users", ()), "system:open-cluster-management:*"]
        config: dict[str, Any] = {**self.hub_config, "autoAccept": accept}
        if self.with_prometheus and prometheus_binary():
            self.prometheus_url = f"http://127.0.0.1:{free_port()}"
            config["prometheus"] = {"url": self.prometheus_url}
        config_file = self.paths.root / "hub.yaml"
        write_private(config_file, yaml.safe_dump(config, sort_keys=False))
        argv = (
            *(sys.executable, "-m", "hub.controllers"),
            *("--kubeconfig", str(self.paths.hub_kubeconfig), "--config", str(config_file)),
            *("--metrics-listen", f"127.0.0.1:{port}"),
        )
        return ProcessSpec("hub", argv, self.paths.log("hub"))

    def _site_process(self, site: Mapping[str, Any], metrics_port: int) -> ProcessSpec:
        name = str(site["name"])
        directory = self.paths.site(name)
        site_file = directory / "site.yaml"
        write_private(site_file, yaml.safe_dump(dict(site), sort_keys=False))
        argv = (
            *(sys.executable, "-m", "agent.main", "--cluster", name, "--data", str(directory)),
            *("--hub-kubeconfig", str(directory / "hub.kubeconfig"), "--site-file", str(site_file)),
            *("--metrics-listen", f"127.0.0.1:{metrics_port}", "--stop-tasks-on-exit"),
        )
        return ProcessSpec(f"site-{name}", argv, self.paths.log(f"site-{name}"), grace=45.0)

    def _prometheus(self, metrics: Mapping[str, int]) -> list[ProcessSpec]:
        binary = prometheus_binary()
        if not self.prometheus_url or binary is None:
            return []
        targets = {name: f"127.0.0.1:{port}" for name, port in metrics.items()}
        port = int(self.prometheus_url.rsplit(":", 1)[1])
        hub = urlsplit(self.hub_metrics_url).netloc
        log = self.paths.log("prometheus")
        return [prometheus_process(binary, self.paths.prometheus, port, targets, log, hub=hub)]

    async def _until_ready(self, api: Session) -> None:
        async with asyncio.timeout(_START_TIMEOUT):
            while True:
                self._fail_if_dying("api")
                try:
                    await api.list(MANAGED_CLUSTERS)
                    return
                except UnreachableError:
                    await asyncio.sleep(0.02)
                except QuarterdeckError:
                    return

    async def left_behind(self) -> list[str]:
        """Clusters of earlier starts that are not among these sites and are not there now."""
        async with Session.from_kubeconfig(self.paths.kubeconfig) as api:
            clusters = (await api.list(MANAGED_CLUSTERS)).items
        return sorted(
            str(cluster["metadata"]["name"])
            for cluster in clusters
            if cluster["metadata"]["name"] not in self.site_names
            and self.paths.site(str(cluster["metadata"]["name"])).is_dir()
        )

    async def _until_joined(self, api: Session) -> None:
        waiting = set(self.site_names)
        async with asyncio.timeout(_START_TIMEOUT):
            while waiting:
                for name in ("hub", *(f"site-{name}" for name in waiting)):
                    self._fail_if_dying(name)
                for cluster in (await api.list(MANAGED_CLUSTERS)).items:
                    conditions = cluster.get("status", {}).get("conditions")
                    if condition_is(conditions, "ManagedClusterConditionAvailable"):
                        waiting.discard(cluster["metadata"]["name"])
                await asyncio.sleep(0.05)

    async def _until_renewed(self, api: Session, started: datetime) -> None:
        """Until the hub leads and the sites report, of this start."""
        waiting = {(names.HUB_NAMESPACE, names.HUB_LEASE): "hub"}
        waiting |= {(name, names.CLUSTER_LEASE): f"site-{name}" for name in self.site_names}
        async with asyncio.timeout(_START_TIMEOUT):
            while waiting:
                for lease, process in list(waiting.items()):
                    self._fail_if_dying(process)
                    if await _renewed(api, *lease, started):
                        del waiting[lease]
                await asyncio.sleep(0.05)

    def _fail_if_dying(self, process: str) -> None:
        member = self.processes[process]
        if member.refused:
            words = member.tail(3).replace("quarterdeck-agent: ", "")
            raise UsageError(f"{process} cannot start: {words}", hint=f"Its log: {member.spec.log}")
        if member.restarts >= 2:
            raise QuarterdeckError(
                f"{process} does not stay up; its last words:\n{member.tail()}",
                hint=f"The whole log: {member.spec.log}",
            )


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def remember_last(paths: Paths) -> None:
    """So that the other commands find this hub without being told (`~/.quarterdeck/current`)."""
    write_private(home() / "current", str(paths.kubeconfig))


async def _renewed(api: Session, namespace: str, name: str, since: datetime) -> bool:
    """Whether somebody holds the Lease, and has said so since then."""
    try:
        spec = (await api.get(LEASES, name, namespace)).get("spec") or {}
    except NotFoundError:
        return False
    renewed = spec.get("renewTime")
    return bool(spec.get("holderIdentity")) and isinstance(renewed, str) and parse_time(renewed) >= since

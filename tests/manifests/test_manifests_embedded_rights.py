"""Hub and agent with exactly their roles on the embedded API: an array runs, a cluster leaves, and nothing is refused.

That no right is spare is shown on a real control plane, where everything that they do can be played (e2e).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import audit
from e2e.ports import free
from hub.api import names
from hub.api.errors import ApiError, NotFoundError, UnreachableError
from hub.api.resource import (
    FLEET_JOBS,
    JOBS,
    MANAGED_CLUSTERS,
    NAMESPACES,
    ROLE_BINDINGS,
    SECRETS,
    Resource,
    resource_of,
)
from hub.client.session import Session
from hub.controllers.bootstrap import bootstrap

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "manifests" / "hub" / "base"
ACCOUNTS = Resource("", "v1", "ServiceAccount", "serviceaccounts", True)
HUB = "system:serviceaccount:quarterdeck-system:quarterdeck-hub"
AGENT = "system:serviceaccount:barn:agent"
SITE = """
name: barn
runtime: simulated
nodes:
- {name: box, cpu: 8, memory: 16Gi}
"""


class Processes:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for inherited in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "POD_NAME"):
            environment.pop(inherited, None)
        with (self._directory / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", *arguments]
            self._running[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def stop(self) -> None:
        for process in reversed(self._running.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in self._directory.glob("*.log")
        )


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes(tmp_path)
    yield found
    found.stop()


async def until(condition: Callable[[], Awaitable[Any]], what: str, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ApiError, UnreachableError):
            if found := await condition():
                return found
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


async def install(api: Session) -> None:
    """The hub's account, roles and Secret, as the manifests have them; kinds and default objects by its bootstrap."""
    await bootstrap(api)
    for file in ("service-account.yaml", "roles.yaml", "agent-roles.yaml", "certificates.yaml"):
        for obj in yaml.safe_load_all((BASE / file).read_text()):
            kind = obj["kind"]
            clustered = kind.startswith("Cluster")
            plural = f"{kind.lower()}s"
            known = {"ServiceAccount": ACCOUNTS, "Secret": SECRETS}
            resource = known.get(kind) or Resource("rbac.authorization.k8s.io", "v1", kind, plural, not clustered)
            with contextlib.suppress(ApiError):
                # The agent's role is there already.
                await api.create(resource, obj, None if clustered else names.HUB_NAMESPACE)


async def kubeconfig(api: Session, admin: Path, namespace: str, account: str, path: Path) -> Path:
    """With a token of that ServiceAccount."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    url = f"{ACCOUNTS.path(namespace, account)}/token"
    token = (await api.request("POST", url, body=body))["status"]["token"]
    document = yaml.safe_load(admin.read_text())
    for user in document["users"]:
        user["user"] = {"token": token}
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.slow
async def test_nothing_is_refused_to_hub_and_agent_with_their_roles(tmp_path: Path, processes: Processes) -> None:
    (port,) = free(1)
    log, data = tmp_path / "audit", tmp_path / "api"
    log.mkdir()
    processes.start(
        "api",
        *("hub.apiserver", "--data", str(data), "--listen", f"127.0.0.1:{port}", "--self-signed"),
        *("--authorization-mode", "RBAC", "--audit-log", str(audit.log(log))),
    )
    admin = data / "kubeconfig"

    async def answers() -> bool:
        if not admin.exists():
            return False
        async with Session.from_kubeconfig(admin) as session:
            return bool(await session.get(NAMESPACES, "default"))

    await until(answers, "the API answers")
    try:
        async with Session.from_kubeconfig(admin) as api:
            await play(api, admin, tmp_path, processes)
    except BaseException:
        print(processes.logs())
        raise
    # Lines are written a few times a second.
    await asyncio.sleep(1.5)
    for who, user in (("hub", HUB), ("agent", AGENT)):
        asked = list(audit.requests(log, user))
        assert len(asked) > 10, f"{who} hardly did anything"
        assert audit.refused(asked) == [], who


async def play(api: Session, admin: Path, directory: Path, processes: Processes) -> None:
    await install(api)
    hub = await kubeconfig(api, admin, names.HUB_NAMESPACE, "quarterdeck-hub", directory / "hub.kubeconfig")
    processes.start("hub", "hub.controllers", "--kubeconfig", str(hub))
    cluster = {"metadata": {"name": "barn"}, "spec": {"hubAcceptsClient": True}}
    await api.create(
        MANAGED_CLUSTERS, {"apiVersion": MANAGED_CLUSTERS.api_version, "kind": "ManagedCluster", **cluster}
    )
    await until(lambda: api.get(ROLE_BINDINGS, "quarterdeck-agent", "barn"), "the agent has its rights")
    own = Resource("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", False)
    await until(lambda: api.get(own, "quarterdeck:cluster:barn"), "and its own cluster")
    await api.create(ACCOUNTS, {"metadata": {"name": "agent"}}, "barn")
    agent = await kubeconfig(api, admin, "barn", "agent", directory / "agent.kubeconfig")
    (directory / "site.yaml").write_text(SITE)
    processes.start(
        "agent",
        *("agent.main", "--cluster", "barn", "--data", str(directory / "barn"), "--hub-kubeconfig", str(agent)),
        *("--site-file", str(directory / "site.yaml")),
    )
    template = {
        "metadata": {"annotations": {names.SIMULATED_DURATION: "200ms"}},
        "spec": {"containers": [{"name": "c", "image": "host", "command": ["true"]}]},
    }
    job = {"apiVersion": names.API_VERSION, "kind": "FleetJob", "metadata": {"name": "array"}}
    await api.create(FLEET_JOBS, {**job, "spec": {"tasks": 5, "template": template}}, "default")
    plain = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "plain", "labels": {names.QUEUE_NAME: "default"}},
        "spec": {"suspend": True, "template": {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}},
    }
    await api.create(resource_of(plain), plain, "default")

    async def succeeded() -> bool:
        status = (await api.get(FLEET_JOBS, "array", "default")).get("status") or {}
        return bool(status.get("phase") == "Succeeded")

    async def completed() -> bool:
        status = (await api.get(JOBS, "plain", "default")).get("status") or {}
        return bool(status.get("succeeded") == 1)

    await until(succeeded, "the array has run")
    await until(completed, "the plain Job has run")
    await api.delete(FLEET_JOBS, "array", "default")
    await api.delete(MANAGED_CLUSTERS, "barn")

    async def gone() -> bool:
        try:
            await api.get(MANAGED_CLUSTERS, "barn")
        except NotFoundError:
            return True
        return False

    await until(gone, "the cluster has left", 90)

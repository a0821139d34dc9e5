"""One Kubernetes cluster of plain processes: API server, controllers and, where there are nodes, scheduler and kwok.

It is started against an etcd that runs already, and belongs to the `Processes` that its caller holds. What is written:
flags, keys, kubeconfigs, all under one directory. Who starts several, and when all is ended, is e2e/planes.py.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from e2e.certificates import Authority
from e2e.finding import Binaries
from e2e.nodes import NodeShape, nodes
from e2e.ports import free
from e2e.processes import Processes
from e2e.stages import stages
from hub.api.conditions import condition_is
from hub.api.errors import ApiError, NotFoundError, QuarterdeckError, UnreachableError
from hub.api.resource import NODES, Resource
from hub.client.session import Session

_PATIENCE: Final = 120.0
_SERVICE_ACCOUNTS: Final = Resource("", "v1", "ServiceAccount", "serviceaccounts", True)
_MASTERS: Final = ("system:masters",)


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """`apiserver`: more of its flags. `controllers` off: the API alone, in which nothing moves by itself."""

    nodes: Sequence[NodeShape] = ()
    controllers: bool = True
    apiserver: Sequence[str] = ()
    controller_manager: Sequence[str] = ()
    stages: str = ""
    """Of kwok, instead of those of e2e/stages.py."""


@dataclass(slots=True)
class Cluster:
    """A cluster that answers. `kubeconfig` and `token` are an administrator's."""

    name: str
    version: str
    directory: Path
    url: str
    token: str
    processes: Processes
    authority: Authority
    seconds: dict[str, float] = field(default_factory=dict)
    """How long after its start what was there: `api`, `nodes`."""

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "admin.kubeconfig"

    @property
    def ca(self) -> Path:
        return self.authority.ca

    def process(self, role: str) -> str:
        """The name among `processes` of `kube-apiserver`, `kube-controller-manager`, `kube-scheduler` or `kwok`."""
        return f"{self.name}-{role}"

    def user(self, file: str, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig by client certificate for `user` in `groups`, written as FILE.kubeconfig."""
        certificate, key = self.authority.client(file, user, groups)
        credentials = {"client-certificate-data": _data(certificate), "client-key-data": _data(key)}
        return self._kubeconfig(file, credentials)

    def bearer(self, file: str, token: str) -> Path:
        """A kubeconfig by a token, such as a service account's."""
        return self._kubeconfig(file, {"token": token})

    def session(self) -> Session:
        """An administrator's; to be used as an async context manager."""
        return Session.from_kubeconfig(self.kubeconfig)

    def _kubeconfig(self, file: str, credentials: dict[str, str]) -> Path:
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": self.name,
            "clusters": [
                {"name": self.name, "cluster": {"server": self.url, "certificate-authority-data": _data(self.ca)}}
            ],
            "users": [{"name": file, "user": credentials}],
            "contexts": [{"name": self.name, "context": {"cluster": self.name, "user": file}}],
        }
        path = self.directory / f"{file}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path


async def start_cluster(
    name: str, binaries: Binaries, processes: Processes, directory: Path, etcd: str, options: ClusterOptions
) -> Cluster:
    """Returns when all its nodes are schedulable. Raises ProcessEndedError, TimeoutError."""
    started = time.monotonic()
    authority = Authority(directory / "pki", name)
    (port,) = free(1)
    token = secrets.token_urlsafe(24)
    (directory / "tokens.csv").touch(mode=0o600)
    (directory / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    cluster = Cluster(name, binaries.version, directory, f"https://127.0.0.1:{port}", token, processes, authority)
    cluster.user("admin", "kubernetes-admin", _MASTERS)
    serving = authority.serving()
    processes.start(
        cluster.process("kube-apiserver"),
        [
            binaries["kube-apiserver"],
            f"--etcd-servers={etcd}",
            f"--etcd-prefix=/{name}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={directory}",
            f"--tls-cert-file={serving[0]}",
            f"--tls-private-key-file={serving[1]}",
            f"--client-ca-file={authority.ca}",
            f"--token-auth-file={directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={authority.folder / 'sa.key'}",
            f"--service-account-signing-key-file={authority.folder / 'sa.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--allow-privileged=true",
            *options.apiserver,
        ],
    )
    async with cluster.session() as api:
        await _until(lambda: _answers(api), cluster, "kube-apiserver", "its API is ready")
        cluster.seconds["api"] = time.monotonic() - started
        if options.controllers:
            _start_controllers(cluster, binaries, options)
            await _until(lambda: _has_account(api), cluster, "kube-controller-manager", "its default service account")
        if options.nodes:
            _start_nodes(cluster, binaries, options)
            await _populate(api, cluster, options.nodes)
    cluster.seconds["nodes"] = time.monotonic() - started
    return cluster


def _start_controllers(cluster: Cluster, binaries: Binaries, options: ClusterOptions) -> None:
    keys = cluster.authority.folder
    manager = cluster.user("controller-manager", "system:kube-controller-manager")
    cluster.processes.start(
        cluster.process("kube-controller-manager"),
        [
            binaries["kube-controller-manager"],
            f"--kubeconfig={manager}",
            "--leader-elect=false",
            "--secure-port=0",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={keys / 'sa.key'}",
            f"--root-ca-file={cluster.ca}",
            f"--cluster-signing-cert-file={cluster.ca}",
            f"--cluster-signing-key-file={keys / 'ca.key'}",
            # At its default of 20 it is busy with its own start for five seconds longer.
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
            *options.controller_manager,
        ],
    )


def _start_nodes(cluster: Cluster, binaries: Binaries, options: ClusterOptions) -> None:
    scheduler = cluster.user("scheduler", "system:kube-scheduler")
    cluster.processes.start(
        cluster.process("kube-scheduler"),
        [binaries["kube-scheduler"], f"--kubeconfig={scheduler}", "--leader-elect=false", "--secure-port=0"],
    )
    played = cluster.directory / "stages.yaml"
    played.write_text(options.stages or stages(cluster.version))
    cluster.processes.start(
        cluster.process("kwok"),
        [
            binaries["kwok"],
            f"--kubeconfig={cluster.user('kwok', 'kwok', _MASTERS)}",
            "--manage-all-nodes=false",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--node-ip=127.0.0.1",
            "--node-port=0",
            "--server-address=",
            # Without it there are no Leases of nodes, and all of them are taken for lost after 50 s.
            "--node-lease-duration-seconds=40",
            "--cidr=10.64.0.1/16",
            f"--config={played}",
        ],
    )


async def _populate(api: Session, cluster: Cluster, shapes: Sequence[NodeShape]) -> None:
    made = nodes(shapes)
    await asyncio.gather(*(api.create(NODES, node) for node in made))

    async def schedulable() -> bool:
        listed = (await api.list(NODES)).items
        return len(listed) == len(made) and all(map(_schedulable, listed))

    await _until(schedulable, cluster, "kwok", "its nodes are Ready and free of taints")


def _schedulable(node: dict[str, Any]) -> bool:
    # Right after it is Ready a node still carries the taint of one that is not.
    return condition_is(node["status"].get("conditions"), "Ready") and not node["spec"].get("taints")


async def _answers(api: Session) -> bool:
    return bool(await api.request("GET", "/readyz") == "ok")


async def _has_account(api: Session) -> bool:
    try:
        return bool(await api.get(_SERVICE_ACCOUNTS, "default", "default"))
    except NotFoundError:
        return False


async def _until(condition: Any, cluster: Cluster, role: str, what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    why: QuarterdeckError | None = None
    while True:
        try:
            if await condition():
                return
            why = None
        except (UnreachableError, ApiError) as error:
            why = error
        cluster.processes.check(cluster.process(role))
        if time.monotonic() > deadline:
            raise TimeoutError(f"{cluster.name}: not within {_PATIENCE:.0f} s: {what}" + (f" ({why})" if why else ""))
        await asyncio.sleep(0.1)


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()

"""Real control planes for as long as a `with` lasts: one cluster, or a hub and its members.

    with control_plane() as cluster:            # API, controllers; cluster.kubeconfig, cluster.session()
        …
    with fleet() as planes:                     # planes.hub, planes.members["ash"], planes.processes
        …

Also for programs without Python: `python -m e2e.up`. Data lies in a temporary directory and nothing of it is kept;
KEEP_E2E=1 keeps it and says where, for a look at the logs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e import versions
from e2e.building import binaries
from e2e.cluster import Cluster, ClusterOptions, start_cluster
from e2e.finding import Binaries
from e2e.nodes import MEMBERS, NodeShape
from e2e.ports import free
from e2e.processes import Processes

_ETCD_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Planes:
    """A hub's control plane and its members', all ready. `seconds` from the first process to that."""

    hub: Cluster
    members: Mapping[str, Cluster]
    processes: Processes
    directory: Path
    binaries: Binaries
    seconds: float


def _quiet(line: str) -> None:
    pass


@contextmanager
def control_plane(
    name: str = "real",
    *,
    version: str = "",
    nodes: Sequence[NodeShape] = (),
    controllers: bool = True,
    fsync: bool = False,
    apiserver: Sequence[str] = (),
    say: Callable[[str], None] = _quiet,
) -> Iterator[Cluster]:
    """One cluster. `version` is one of e2e/versions.py, in full or by its minor; the newest unless given.

    `fsync`: etcd as in production; else what is lost with the machine is no loss. Raises CannotBuildError where there
    are no binaries and nothing to build them with, ProcessEndedError or TimeoutError where something does not start.
    """
    options = ClusterOptions(nodes, controllers, apiserver)
    with _grounds(version, say) as (found, processes, directory):
        yield asyncio.run(_start_one(name, found, processes, directory, options, fsync))


@contextmanager
def fleet(
    members: Mapping[str, Sequence[NodeShape]] = MEMBERS,
    *,
    version: str = "",
    fsync: bool = False,
    etcd_each: bool = False,
    say: Callable[[str], None] = _quiet,
) -> Iterator[Planes]:
    """A hub without nodes, and members with theirs. One etcd serves all unless `etcd_each`. Raises as above."""
    with _grounds(version, say) as (found, processes, directory):
        started = time.monotonic()
        clusters = asyncio.run(_start_fleet(members, found, processes, directory, fsync=fsync, etcd_each=etcd_each))
        hub, *others = clusters
        seconds = time.monotonic() - started
        say(f"Kubernetes {found.version}: a hub and {len(others)} members, ready after {seconds:.1f} s")
        yield Planes(hub, {c.name: c for c in others}, processes, directory, found, seconds)


@contextmanager
def _grounds(version: str, say: Callable[[str], None]) -> Iterator[tuple[Binaries, Processes, Path]]:
    found = binaries(versions.chosen(version) if version else versions.newest(), say)
    directory = Path(tempfile.mkdtemp(prefix="quarterdeck-e2e-"))
    try:
        with Processes(directory) as processes:
            yield found, processes, directory
    finally:
        if os.environ.get("KEEP_E2E"):
            print(f"kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


async def _start_one(
    name: str, found: Binaries, processes: Processes, directory: Path, options: ClusterOptions, fsync: bool
) -> Cluster:
    etcd = await start_etcd("etcd", found, processes, directory, fsync=fsync)
    return await start_cluster(name, found, processes, directory / name, etcd, options)


async def _start_fleet(
    members: Mapping[str, Sequence[NodeShape]],
    found: Binaries,
    processes: Processes,
    directory: Path,
    *,
    fsync: bool,
    etcd_each: bool,
) -> list[Cluster]:
    wanted = {"hub": ClusterOptions()} | {name: ClusterOptions(shapes) for name, shapes in members.items()}
    shared = "" if etcd_each else await start_etcd("etcd", found, processes, directory, fsync=fsync)

    async def one(name: str, options: ClusterOptions) -> Cluster:
        etcd = shared or await start_etcd(f"{name}-etcd", found, processes, directory, fsync=fsync)
        return await start_cluster(name, found, processes, directory / name, etcd, options)

    async with asyncio.TaskGroup() as tasks:
        starting = [tasks.create_task(one(name, options)) for name, options in wanted.items()]
    return [task.result() for task in starting]


async def start_etcd(name: str, found: Binaries, processes: Processes, directory: Path, *, fsync: bool) -> str:
    """Its URL, once it takes connections."""
    client, peer = (f"http://127.0.0.1:{port}" for port in free(2))
    processes.start(
        name,
        [
            found["etcd"],
            f"--data-dir={directory / name}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
            *(() if fsync else ("--unsafe-no-fsync",)),
        ],
    )
    deadline = time.monotonic() + _ETCD_PATIENCE
    port = int(client.rpartition(":")[2])
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return client
        except OSError:
            processes.check(name)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} takes no connections after {_ETCD_PATIENCE:.0f} s") from None
            await asyncio.sleep(0.05)

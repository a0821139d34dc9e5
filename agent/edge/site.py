"""An edge site: a cluster without Kubernetes. Its own small API, its nodes, and what runs on them.

It wires the parts together and answers what the agent asks of any cluster (agent/local.py). Everything it needs to go
on after a kill is on disk before anyone is told: the API's store, and the records of tasks.

    DATA/api      the site's API: Jobs, Pods, what belongs to them
    DATA/tasks    records, logs and working directories of tasks
    DATA/site-id  tells this site's processes from another's on the same machine
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from agent.edge import sitejob, sitepod
from agent.edge.cgroup import Cgroups
from agent.edge.configs import Configs
from agent.edge.controller import Controller
from agent.edge.description import Description
from agent.edge.hardware import GpuReading, alike, host_address, read_gpus, this_machine
from agent.edge.host import Host
from agent.edge.images import Images, find_engine
from agent.edge.jobplan import is_ours
from agent.edge.launch import Runtime
from agent.edge.localapi import LocalApi
from agent.edge.logs import LogPlace, Trimmer, read_log
from agent.edge.metrics import SiteMetrics
from agent.edge.nodes import Nodes
from agent.edge.process import ProcessRuntime
from agent.edge.program import host_environment
from agent.edge.records import Records
from agent.edge.simulated import SimulatedRuntime
from agent.edge.sitefile import SiteFile
from agent.edge.starter import Starter
from agent.edge.task import Machinery
from agent.local import LogChunk
from hub.api.errors import NotFoundError, StorageError
from hub.api.installed import installed_crd
from hub.api.reasons import Reason
from hub.api.resource import APPLIED_MANIFEST_WORKS, JOBS, PODS
from hub.apiserver import ControlPlane, InProcessApi
from hub.client.informer import Informer
from hub.client.interface import KubeApi
from hub.client.patcher import Patcher

Json = dict[str, Any]
_log = logging.getLogger("agent.edge.site")
_TIDY_SECONDS: Final = 2.0
_GPU_SECONDS: Final = 5.0
_WRITE_SECONDS: Final = 5.0
# Who watches here is in this process, and close behind.
_HISTORY: Final = 2**20


class EdgeSite:
    """A `LocalCluster`. `data` is this site's alone. Raises `InvalidObjectError` for `busy` entries without room."""

    def __init__(self, site: SiteFile, data: Path, *, now: Callable[[], float] = time.time) -> None:
        self.site = site
        self._data = data
        self._now = now
        self._api = LocalApi()
        self._callbacks: list[Callable[[], None]] = []
        self._ready = asyncio.Event()
        self._host: Host | None = None
        self._jobs: Controller[sitejob.SiteJob] | None = None
        self._pods: Controller[sitepod.SitePod] | None = None
        self._gpus: list[GpuReading] = []
        self._description: Description | None = None
        self._metrics: SiteMetrics | None = None
        if site.groups:
            # What is wrong with the file is said before anything runs.
            Nodes(site.groups).occupy(site.busy)

    @property
    def api(self) -> KubeApi:
        return self._api

    @property
    def labels(self) -> dict[str, str]:
        return Description.labels_of(self.site)

    async def ready(self) -> None:
        await self._ready.wait()

    def capacity(self) -> Json:
        return self._description.capacity() if self._description is not None else {}

    def cluster_status(self) -> Json:
        return self._description.cluster_status() if self._description is not None else {}

    def on_capacity_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def metrics(self) -> str:
        return self._metrics.text(self._gpus) if self._metrics is not None else ""

    async def run(self) -> None:
        records = Records(self._data / "tasks")
        token = self._token()
        self._gpus = [] if self.site.declared else await read_gpus()
        groups = self.site.groups or (this_machine(self._gpus, self._data),)
        nodes = Nodes(groups)
        nodes.occupy(self.site.busy)
        engine = None if self.site.runtime == "simulated" else await find_engine()
        images = Images(self.site.images, engine, anything=self.site.runtime == "simulated")
        runtime: Runtime
        if self.site.runtime == "simulated":
            runtime = SimulatedRuntime(records, time_scale=self.site.time_scale, now=self._now)
        else:
            cgroups = Cgroups.detect(token)
            runtime = ProcessRuntime(records, token, cgroups=cgroups, engine=engine, now=self._now)
        machinery = Machinery(
            runtime=runtime,
            records=records,
            token=token,
            engine=engine,
            base_environment=host_environment(),
            gpu_names=self._gpu_names,
            hides_gpus=any(group.gpus for group in groups),
            time_scale=self.site.time_scale if self.site.runtime == "simulated" else None,
            now=self._now,
        )
        # What a real task has achieved must outlive a power cut, too: the hub will have been told.
        power_safe = self.site.runtime == "process"
        async with ControlPlane(self._data / "api", power_safe=power_safe, history=_HISTORY) as plane:
            await plane.install([installed_crd(APPLIED_MANIFEST_WORKS)])
            self._api.attach(InProcessApi(plane, field_manager="quarterdeck-site"))
            try:
                await self._serve(machinery, nodes, images)
            finally:
                self._ready.clear()
                self._api.holds.clear()
                self._api.attach(None)

    async def _serve(self, machinery: Machinery, nodes: Nodes, images: Images) -> None:
        patcher = Patcher(self._api)
        starter = Starter(nodes, on_change=self._capacity_changed)
        host = Host(
            machinery=machinery,
            nodes=nodes,
            starter=starter,
            images=images,
            api=self._api,
            patcher=patcher,
            configs=Configs(self._api),
            simulated=self.site.runtime == "simulated",
            host_ip=host_address(),
        )
        jobs = Controller(host, JOBS, sitejob.SiteJob, is_ours, sitejob.past_log)
        pods = Controller(host, PODS, sitepod.SitePod, lambda pod: True, sitepod.past_log)
        self._description = Description(self.site, nodes, images)
        self._metrics = SiteMetrics(self.site, nodes, lambda: (*jobs, *pods))
        machinery.runtime.look_around()
        job_informer = Informer(self._api, JOBS, transform=jobs.see, on_event=jobs.on_event)
        pod_informer = Informer(self._api, PODS, transform=pods.see, on_event=pods.on_event)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(machinery.runtime.run(), name="runtime")
                tasks.create_task(job_informer.run(), name="site jobs")
                tasks.create_task(pod_informer.run(), name="site pods")
                await job_informer.synced.wait()
                await pod_informer.synced.wait()
                machinery.runtime.forget_strangers()
                for uid in machinery.records.owners():
                    if not jobs.knows(uid) and not pods.knows(uid):
                        jobs.discard(uid)
                self._host, self._jobs, self._pods = host, jobs, pods
                self._api.holds = {("batch", "jobs"): jobs.hold, ("", "pods"): pods.hold}
                tasks.create_task(starter.run(), name="starter")
                tasks.create_task(self._tidy(), name="housekeeping")
                tasks.create_task(self._read_gpus(), name="GPU readings")
                self._ready.set()
                self._capacity_changed()
        finally:
            self._host = self._jobs = self._pods = None
            jobs.close()
            pods.close()
            await patcher.stop(deadline=2.0)

    async def stop_tasks(self) -> None:
        """See `LocalCluster`. What did not come to its end by itself runs again when the site does."""
        host, owners = self._host, [*(self._jobs or ()), *(self._pods or ())]
        if host is None:
            return
        host.draining = True
        for owner in owners:
            owner.stop(Reason.STOPPED)
        while any(owner.busy for owner in owners):
            await asyncio.sleep(0.01)
        # What a full disk keeps from being written is in the records.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(host.patcher.idle(), _WRITE_SECONDS)
        host.machinery.runtime.forget_strangers()

    async def read_log(
        self,
        namespace: str,
        job: str,
        index: int,
        *,
        offset: int = 0,
        tail_lines: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogChunk]:
        look: Callable[[], LogPlace | None] | None = None
        for controller in (self._jobs, self._pods):
            if look is None and controller is not None:
                look = await controller.find_log(namespace, job, index)
        if look is None or look() is None:
            raise NotFoundError(404, {"reason": "NotFound", "message": f"{namespace}/{job} has no task {index} here"})
        async for chunk in read_log(look, offset=offset, tail_lines=tail_lines, follow=follow):
            yield chunk

    def _gpu_names(self, node: str, numbers: tuple[int, ...]) -> tuple[str, ...]:
        """As the driver counts them; declared ones are counted on their node."""
        real = alike(self._gpus) if self._gpus else []
        return tuple(str(real[number].index) if number < len(real) else str(number) for number in numbers)

    def _token(self) -> str:
        path = self._data / "site-id"
        try:
            self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileNotFoundError):
                if found := path.read_text().strip():
                    return found
            token = secrets.token_hex(6)
            partial = path.with_name("site-id.partial")
            partial.write_text(token + "\n")
            os.replace(partial, path)
        except OSError as error:
            raise StorageError(f"cannot use {self._data} as the site's data directory: {error.strerror}") from error
        return token

    def _capacity_changed(self) -> None:
        for callback in self._callbacks:
            callback()

    async def _tidy(self) -> None:
        trimmer = Trimmer(self.site.log_bytes)
        while True:
            await asyncio.sleep(_TIDY_SECONDS)
            for controller in (self._jobs, self._pods):
                if controller is not None:
                    for owner in controller:
                        trimmer.trim(owner.log_paths())
                    controller.settle()

    async def _read_gpus(self) -> None:
        while self._gpus:
            await asyncio.sleep(_GPU_SECONDS)
            self._gpus = await read_gpus() or self._gpus

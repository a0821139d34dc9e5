"""The agent as a whole: its command line, its rooms side by side, its orderly and its sudden end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import FakeApi, until
from agent_rig import CLUSTER, DONE, RUNNING, manifest_work
from agent_site import FakeSite, accept, condition, deny

from agent.assembly import Agent, StopSignal
from agent.datadir import AgentDirectory
from agent.journal import Journal
from agent.options import Options, parse
from agent.rooms import Rooms
from agent.waiting import came
from hub.api.errors import DataDirectoryBusyError, QuarterdeckError, UsageError
from hub.api.resource import (
    CLUSTER_CAPACITIES,
    CLUSTER_SCORINGS,
    JOBS,
    MANAGED_CLUSTERS,
    MANIFEST_WORKS,
    NAMESPACES,
    TASK_LOG_REQUESTS,
)
from hub.asking.question import Question, to_wire

GIVEN = ["--cluster", CLUSTER, "--data", "d", "--hub-kubeconfig", "k"]
AVAILABLE = "ManagedClusterConditionAvailable"


class Running:
    """One whole agent between a hub and a site in memory."""

    def __init__(self, hub: FakeApi, site: FakeSite, data: Path, **options: Any) -> None:
        self.hub, self.site = hub, site
        self.stop_signal = StopSignal()
        self.journal = Journal.open(data / "journal.db")
        self.agent = Agent(
            Options(CLUSTER, data, Path("unused"), **options), hub, site, self.journal, agent_id="a", hub_hash="h"
        )
        self.task = asyncio.create_task(self.agent.run(self.stop_signal))

    async def stop(self) -> None:
        self.stop_signal()
        self.stop_signal()
        await asyncio.wait_for(asyncio.gather(self.task, return_exceptions=True), 5)
        self.journal.close()

    async def joined(self) -> None:
        await until(lambda: self.hub.peek(MANAGED_CLUSTERS, CLUSTER))
        await accept(self.hub, CLUSTER)
        await until(lambda: condition(self.hub, CLUSTER, AVAILABLE) == "True")

    def work(self, name: str = "w1") -> dict[str, Any]:
        return self.hub.peek(MANIFEST_WORKS, name, CLUSTER) or {}

    def work_condition(self, kind: str, name: str = "w1") -> str:
        conditions = (self.work(name).get("status") or {}).get("conditions") or []
        return next((c["status"] for c in conditions if c["type"] == kind), "")

    def job(self) -> dict[str, Any] | None:
        return self.site.api.peek(JOBS, "sum", "team-a")

    def logs(self) -> dict[str, list[dict[str, Any]]]:
        found = [(key, obj) for (_, plural, _, key), obj in self.hub.objects.items() if plural == "tasklogs"]
        return {key: obj["entries"] for key, obj in sorted(found)}


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Running]]:
    running: list[Running] = []

    def make(hub: FakeApi | None = None, site: FakeSite | None = None, **options: Any) -> Running:
        running.append(Running(hub or FakeApi(), site or FakeSite(), tmp_path, **options))
        return running[-1]

    yield make
    for agent in running:
        if not agent.task.done():
            await agent.stop()


async def test_from_joining_to_a_result_with_its_logs(start: Callable[..., Running]) -> None:
    agent = start(metrics_listen="127.0.0.1:0")
    await agent.joined()
    await until(lambda: agent.hub.peek(CLUSTER_CAPACITIES, CLUSTER, CLUSTER))
    await agent.hub.create(MANIFEST_WORKS, manifest_work(), CLUSTER)
    await until(agent.job)
    agent.site.api.set_status(JOBS, "sum", "team-a", RUNNING)
    agent.site.output(0).write(b"hello\n")
    await agent.hub.create(
        TASK_LOG_REQUESTS, {"metadata": {"name": "ask"}, "spec": {"work": "w1", "tasks": "0"}}, CLUSTER
    )
    await until(lambda: "ask-00000000" in agent.logs())
    assert agent.logs()["ask-00000000"][0]["text"] == "hello\n"
    await until(lambda: agent.work_condition("Complete") == "False")
    agent.site.output(0).end(3)
    failed = [{"type": "Failed", "status": "True"}]
    agent.site.api.set_status(JOBS, "sum", "team-a", {"failed": 1, "failedIndexes": "0", "conditions": failed})
    await until(lambda: agent.work_condition("Complete") == "True")
    await until(lambda: "w1-failed-00000000" in agent.logs())
    assert agent.logs()["w1-failed-00000000"][0]["exitCode"] == 3
    assert agent.agent.server is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", agent.agent.server.port)
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    text = (await asyncio.wait_for(reader.read(), 2)).decode()
    writer.close()
    for line in (
        'kube_node_info{node="n-0"} 1',
        "quarterdeck_agent_hub_up 1",
        'quarterdeck_agent_registration{state="accepted"} 1',
        'quarterdeck_agent_works{state="complete"} 1',
        'quarterdeck_agent_hub_writes_total{resource="manifestworks/status"} 2',
        'quarterdeck_agent_hub_writes_total{resource="tasklogs"} 2',
        'quarterdeck_agent_hub_writes_total{resource="clustercapacities"} 1',
        "quarterdeck_agent_failed_tasks_shipped_total 1",
        "quarterdeck_agent_log_requests_total 1",
    ):
        assert line in text.splitlines()
    assert "quarterdeck_agent_lease_age_seconds 0." in text


async def test_what_it_asks_scorers_is_told_to_the_hub_and_in_its_metrics(start: Callable[..., Running]) -> None:
    """An agent as it is assembled; nobody is at the scorer's address."""
    agent = start(FakeApi())
    await agent.joined()
    question = Question("cool", "http://127.0.0.1:9/scoring", timeout=1.0)
    scorer = {"scorer": "default/cool", "digest": question.digest, **to_wire(question), "intervalSeconds": 1}
    body = {"metadata": {"name": CLUSTER, "namespace": CLUSTER}, "spec": {"scorers": [scorer]}}
    await agent.hub.create(CLUSTER_SCORINGS, body, CLUSTER)

    def told() -> list[Any]:
        status = (agent.hub.peek(CLUSTER_SCORINGS, CLUSTER, CLUSTER) or {}).get("status") or {}
        return [entry.get("reason") for entry in status.get("scorers", ())]

    await until(lambda: told() == ["ScorerUnreachable"])
    text = agent.agent._metrics()
    assert 'quarterdeck_agent_scorer_requests_total{reason="ScorerUnreachable",scorer="default/cool"} ' in text
    assert 'quarterdeck_agent_hub_writes_total{resource="clusterscorings/status"} 1' in text


async def test_a_hub_that_is_away_at_the_start(start: Callable[..., Running]) -> None:
    hub = FakeApi()
    hub.cut()
    agent = start(hub)
    await asyncio.sleep(0.2)
    assert not agent.task.done()
    assert agent.agent.rooms.restarts.total() == 0
    hub.heal()
    await agent.joined()


async def test_denied_it_takes_nothing_new_and_reports_what_runs(start: Callable[..., Running]) -> None:
    agent = start()
    await agent.joined()
    await agent.hub.create(MANIFEST_WORKS, manifest_work(), CLUSTER)
    await until(agent.job)
    deny(agent.hub, CLUSTER)
    await until(lambda: agent.agent.registration.state == "denied")
    second = manifest_work("w2")
    second["spec"]["workload"]["manifests"][0]["metadata"]["name"] = "other"
    await agent.hub.create(MANIFEST_WORKS, second, CLUSTER)
    agent.site.api.set_status(JOBS, "sum", "team-a", DONE)
    await until(lambda: agent.work_condition("Complete") == "True")
    assert agent.site.api.peek(JOBS, "other", "team-a") is None
    await agent.hub.delete(MANIFEST_WORKS, "w1", CLUSTER)
    await until(lambda: agent.job() is None, what="a deletion is carried out")
    await accept(agent.hub, CLUSTER)
    await until(lambda: agent.site.api.peek(JOBS, "other", "team-a"))


async def test_told_to_stop_it_leaves_the_tasks(start: Callable[..., Running]) -> None:
    agent = start()
    await agent.joined()
    agent.stop_signal()
    await asyncio.wait_for(agent.task, 2)
    assert not agent.site.stopped
    assert condition(agent.hub, CLUSTER, AVAILABLE) == "True"


async def test_told_to_stop_with_its_tasks_it_reports_their_end_first(start: Callable[..., Running]) -> None:
    agent = start(stop_tasks_on_exit=True)
    await agent.joined()
    await agent.hub.create(MANIFEST_WORKS, manifest_work(), CLUSTER)
    await until(agent.job)
    agent.site.api.set_status(JOBS, "sum", "team-a", RUNNING)

    async def stop_tasks() -> None:
        assert condition(agent.hub, CLUSTER, AVAILABLE) == "False"
        await agent.hub.create(MANIFEST_WORKS, manifest_work("late"), CLUSTER)
        await asyncio.sleep(0.1)
        agent.site.stopped = True
        ended = [{"type": "Failed", "status": "True"}]
        agent.site.api.set_status(JOBS, "sum", "team-a", {"failed": 1, "failedIndexes": "0", "conditions": ended})

    patch = agent.hub.patch

    async def slowly(resource: Any, *args: Any, **kwargs: Any) -> Any:
        if resource == MANIFEST_WORKS:
            await asyncio.sleep(0.4)
        return await patch(resource, *args, **kwargs)

    agent.hub.patch = slowly  # type: ignore[method-assign]
    agent.site.stop_tasks = stop_tasks  # type: ignore[method-assign]
    agent.stop_signal()
    await asyncio.wait_for(agent.task, 5)
    assert agent.site.stopped
    assert agent.work_condition("Complete") == "True"
    assert "w1-failed-00000000" in agent.logs()
    assert agent.work_condition("Applied", "late") == ""


async def test_told_twice_it_stops_at_once(start: Callable[..., Running]) -> None:
    agent = start(stop_tasks_on_exit=True)
    await agent.joined()

    async def never() -> None:
        await asyncio.sleep(3600)

    agent.site.stop_tasks = never  # type: ignore[method-assign]
    agent.stop_signal()
    await asyncio.sleep(0.1)
    assert not agent.task.done()
    agent.stop_signal()
    await asyncio.wait_for(agent.task, 2)


async def test_with_the_hub_away_it_ends_its_tasks_and_goes(start: Callable[..., Running]) -> None:
    agent = start(stop_tasks_on_exit=True)
    await agent.joined()
    agent.hub.cut()
    agent.stop_signal()
    await asyncio.wait_for(agent.task, 4)
    assert agent.site.stopped


async def test_a_room_that_crashes_is_started_again_and_takes_no_other_with_it(start: Callable[..., Running]) -> None:
    site = FakeSite()
    crashes = []

    async def run() -> None:
        crashes.append(1)
        if len(crashes) < 3:
            raise RuntimeError("the site fell over")
        await asyncio.Event().wait()

    site.run = run  # type: ignore[method-assign]
    agent = start(site=site)
    agent.agent.rooms._first = 0.01
    await agent.joined()
    await until(lambda: len(crashes) == 3)
    assert dict(agent.agent.rooms.restarts) == {"site": 2}
    await until(lambda: not agent.agent.rooms.failing)


async def test_a_room_that_ignores_being_told_is_told_again_and_named(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("agent.assembly.CLOSE_SECONDS", 0.1)
    site, told = FakeSite(), []

    async def run() -> None:
        while len(told) < 2:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                told.append(1)
        await asyncio.sleep(0)

    site.run = run  # type: ignore[method-assign]
    agent = start(site=site)
    await agent.joined()
    agent.stop_signal()
    await asyncio.wait_for(agent.task, 3)
    assert [record.fields for record in caplog.records if record.message == "still stopping"] == [  # type: ignore[attr-defined]
        {"rooms": "site"}
    ]


async def test_a_wait_ends_when_told_to_even_in_the_moment_of_its_event() -> None:
    event, rounds = asyncio.Event(), []

    async def loop() -> None:
        while True:
            event.clear()
            rounds.append(await came(event, 10.0))

    for turns in range(4):
        rounds.clear()
        task = asyncio.create_task(loop())
        await asyncio.sleep(0.01)
        event.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        assert task.cancelled(), turns
    assert not await came(asyncio.Event(), 0.01)
    event.set()
    assert await came(event, 0.0)


async def test_rooms_say_why_and_do_not_swallow_cancellation() -> None:
    rooms = Rooms(first_pause=0.01)
    endings: list[Callable[[], Any]] = [
        lambda: (_ for _ in ()).throw(QuarterdeckError("no", hint="do this")),
        lambda: None,
        lambda: (_ for _ in ()).throw(asyncio.CancelledError()),
    ]
    said: list[str] = []

    async def room() -> None:
        said.extend(rooms.failing.values())
        if endings:
            endings.pop(0)()
        else:
            await asyncio.Event().wait()

    task = asyncio.create_task(rooms.keep("x", room))
    seen: set[str] = set()
    await until(lambda: seen.update(rooms.failing.values()) or rooms.restarts["x"] == 3)
    assert {"no (do this)", "it ended by itself", "it cancelled itself"} <= seen
    assert said == []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--cluster", "Not_A_Name"], "--cluster: 'Not_A_Name' is not a cluster name"),
        (["--stop-tasks-on-exit"], "--stop-tasks-on-exit: a Kubernetes cluster's tasks"),
        (["--site-file", "s", "--kubeconfig", "k"], "--kubeconfig: an edge site has none"),
        (["--site-file", "s", "--label", "a=b"], "--label: an edge site has none"),
        (["--label", "ab"], "--label: 'ab' is not KEY=VALUE"),
        (["--eviction-grace", "soon"], "'soon' is not a duration"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--log-level", "loud"], "invalid choice: 'loud'"),
    ],
)
def test_mistakes_in_the_arguments(more: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        parse([*GIVEN, *more])


def test_arguments() -> None:
    assert parse(GIVEN) == Options(CLUSTER, Path("d"), Path("k"))
    found = parse([*GIVEN, "--label", "a=b=c", "--eviction-grace", "90s", "--metrics-listen", ":0"])
    assert (found.labels, found.eviction_grace, found.metrics_listen) == ({"a": "b=c"}, 90.0, ":0")


def _agent(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root, **environ}
    return subprocess.run(
        [sys.executable, "-m", "agent.main", *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        env=env,
        check=False,
    )


KUBECONFIG = """
current-context: hub
contexts: [{name: hub, context: {cluster: hub}}]
clusters: [{name: hub, cluster: {server: "http://127.0.0.1:1"}}]
"""


CASES = (
    "arguments",
    "no kubeconfig",
    "broken kubeconfig",
    "not in a pod",
    "listen",
    "site of another name",
    "bad site",
)


@pytest.mark.parametrize("case", CASES)
def test_bad_arguments_and_files_are_one_line_and_code_two(tmp_path: Path, case: str) -> None:
    hub = tmp_path / "hub.kubeconfig"
    if case != "no kubeconfig":
        hub.write_text("{" if case == "broken kubeconfig" else KUBECONFIG)
    arguments = ["--cluster", "x", "--data", str(tmp_path / "data"), "--hub-kubeconfig", str(hub)]
    if case == "arguments":
        arguments = arguments[:2]
    if case == "listen":
        (tmp_path / "kubeconfig").write_text(KUBECONFIG)
        arguments += ["--kubeconfig", str(tmp_path / "kubeconfig"), "--metrics-listen", "nowhere"]
    if "site" in case:
        (tmp_path / "site.yaml").write_text("{name: y}" if case != "bad site" else "{name: x, nodes: [{cpu: much}]}")
        arguments += ["--site-file", str(tmp_path / "site.yaml")]
    done = _agent(*arguments, KUBERNETES_SERVICE_HOST="")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("quarterdeck-agent: ")


def test_a_second_agent_on_the_same_directory_says_who_holds_it(tmp_path: Path) -> None:
    (tmp_path / "hub.kubeconfig").write_text(KUBECONFIG)
    with AgentDirectory(tmp_path / "data"):
        with pytest.raises(DataDirectoryBusyError), AgentDirectory(tmp_path / "data"):
            pass
        done = _agent(
            "--cluster", "x", "--data", str(tmp_path / "data"), "--hub-kubeconfig", str(tmp_path / "hub.kubeconfig")
        )
    assert done.returncode == 1
    assert f"is held by the agent with pid {os.getpid()}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_it_starts_quickly_and_stays_small() -> None:
    """What every box of a fleet pays: no scheduler, no CLI, no models of the API."""
    code = (
        "import sys, time; t = time.perf_counter(); import agent.main, agent.assembly, hub.client.session;"
        "seconds = time.perf_counter() - t;"
        "pages = int(open('/proc/self/statm').read().split()[1]);"
        "heavy = {'numpy', 'click', 'rich', 'structlog', 'kopf', 'kubernetes', 'prometheus_client'};"
        "heavy.add('hub.api.fleetjob');"
        "print(seconds, pages * 4096 / 2**20, sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    seconds, mebibytes, heavy = found.stdout.split(maxsplit=2)
    assert heavy.strip() == "[]"
    assert float(mebibytes) < 60
    # Alone it takes 0.15 s; other tests may run beside this one.
    assert float(seconds) < 2.0


async def test_nothing_of_the_hub_is_needed_where_the_namespace_is_missing(start: Callable[..., Running]) -> None:
    """Accepted before the hub has made the namespace: what is refused for that is written later."""
    agent = start()
    await until(lambda: agent.hub.peek(MANAGED_CLUSTERS, CLUSTER))
    await accept(agent.hub, CLUSTER)
    agent.hub.vanish(NAMESPACES, CLUSTER)
    await asyncio.sleep(0.3)
    await agent.hub.create(NAMESPACES, {"metadata": {"name": CLUSTER}})
    await until(lambda: agent.hub.peek(CLUSTER_CAPACITIES, CLUSTER, CLUSTER))
    assert agent.agent.rooms.restarts.total() == 0

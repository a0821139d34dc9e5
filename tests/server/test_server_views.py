"""Rows and sections as a terminal prints them and a page may: made of objects, by the code that decides."""

from __future__ import annotations

from typing import Any

import pytest

from hub.api import names, resource
from hub.api.indexset import IndexSet
from hub.cli.listing import said, state_of
from hub.jobs.attempt import Attempt
from hub.jobs.spec import JobSpec
from hub.jobs.works import attempt_from_work, slice_to_work
from hub.server.clusters import cluster_rows, cluster_sections, cluster_table, status_of
from hub.server.job_sections import failed_tasks, job_sections, results
from hub.server.jobs import gpu_text, is_fleets, job_row, job_table
from hub.server.queues import queue_rows, queue_sections, queue_table
from hub.server.snapshot import State
from hub.server.view import Section, Table, some

NOW = 1_700_000_600.0
UID = "3f2a9c4e-1111-4222-8333-944445555566"


def _meta(name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    meta = {"name": name, "uid": f"uid-{name}", "creationTimestamp": "2023-11-14T22:13:20Z", **more}
    return meta | ({"namespace": namespace} if namespace else {})


def _job(name: str = "train", /, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "host", "command": ["sh", "-c", "echo a b"]}
    container |= {"resources": {"requests": {"cpu": "1"}}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FleetJob",
        "metadata": _meta(name, "lab", uid=UID, generation=1),
        "spec": {"queueName": "research", "template": {"spec": {"containers": [container]}}, **spec},
    }


def _cluster(name: str, status: str = "True", **spec: Any) -> dict[str, Any]:
    condition = {"type": "ManagedClusterConditionAvailable", "status": status, "reason": "R", "message": "M"}
    condition |= {"lastTransitionTime": "2023-11-14T22:18:20Z"}
    return {
        "metadata": _meta(name, labels={"region": "eu"}),
        "spec": {"hubAcceptsClient": True, **spec},
        "status": {"conditions": [condition], "clusterClaims": [{"name": "id.k8s.io", "value": "x"}]},
    }


def _capacity(name: str, model: str = "A100", simulated: bool = False) -> dict[str, Any]:
    group = {
        "name": "big",
        "count": 2,
        "gpu": {"model": model, "count": 2, "memory": "40Gi"},
        "allocatable": {"cpu": "8", "memory": "32Gi", names.GPU: "2"},
        "used": [{"nodes": 1, "resources": {"cpu": "2", names.GPU: "1"}}],
    }
    status = {"observedTime": "2023-11-14T22:22:20Z", "simulated": simulated, "runtime": "process", "images": ["host"]}
    status |= {"prices": {"gpuHour": {model: "2.10"}}, "nodeGroups": [group]}
    return {"metadata": _meta(name, name), "status": status}


def _quota() -> dict[Any, list[dict[str, Any]]]:
    def quota(name: str, nominal: int) -> dict[str, Any]:
        return {"name": name, "nominalQuota": nominal}

    def queue(name: str, cpu: int, gpu: int) -> dict[str, Any]:
        flavors = [{"name": "any", "resources": [quota("cpu", cpu), quota(names.GPU, gpu)]}]
        group = {"coveredResources": ["cpu", names.GPU], "flavors": flavors}
        return {
            "metadata": _meta(name),
            "spec": {"cohortName": "all", "namespaceSelector": {}, "resourceGroups": [group]},
        }

    return {
        resource.RESOURCE_FLAVORS: [{"metadata": _meta("any"), "spec": {}}],
        resource.CLUSTER_QUEUES: [queue("team-a", 2, 1), queue("team-b", 8, 4)],
        resource.LOCAL_QUEUES: [
            {"metadata": _meta("research", "lab"), "spec": {"clusterQueue": "team-a"}},
            {"metadata": _meta("broken", "lab"), "spec": {"clusterQueue": "nowhere"}},
        ],
        resource.WORKLOAD_PRIORITY_CLASSES: [{"metadata": _meta("high"), "value": 100}],
    }


def _work(job: dict[str, Any], cluster: str, tasks: str, epoch: int = 1, active: int = 0) -> dict[str, Any]:
    part = IndexSet.parse(tasks)
    spec = JobSpec.from_fleet_job(job)
    flavors = (("cpu", "any"), (names.GPU, "any"))
    work = slice_to_work(spec, cluster, part, 1, len(part), flavors, "team-a", epoch)
    value = {"name": "active", "fieldValue": {"type": "Integer", "integer": active}}
    work["status"] = {"resourceStatus": {"manifests": [{"statusFeedback": {"values": [value]}}]}}
    work["metadata"] |= {"uid": f"work-{epoch}"}
    return work


def _state(**found: list[dict[str, Any]]) -> State:
    objects: dict[Any, list[dict[str, Any]]] = {**_quota(), **{getattr(resource, k): v for k, v in found.items()}}
    return state_of({kind: [said(kind, item) for item in items] for kind, items in objects.items()}, NOW)


def _cells(table: Table | None) -> list[dict[str, Any]]:
    assert table is not None
    return [dict(zip((column.title for column in table.columns), row, strict=True)) for row in table.rows]


def _facts(sections: list[Section]) -> dict[str, Any]:
    return dict(sections[0].facts)


def _busy() -> State:
    job = _job(tasks=4, gpu={"count": 1, "models": ["A100"]})
    return _state(
        MANAGED_CLUSTERS=[_cluster("ash"), _cluster("elm", "Unknown", taints=[{"key": "bad", "effect": "NoSelect"}])],
        CLUSTER_CAPACITIES=[_capacity("ash"), _capacity("elm", "L4", simulated=True)],
        FLEET_JOBS=[job, _job("later", tasks=3, priorityClassName="high") | {"metadata": _meta("later", "lab")}],
        MANIFEST_WORKS=[_work(job, "ash", "0-1", active=2)],
    )


def test_clusters_say_what_is_free_and_whether_they_are_real() -> None:
    ash, elm = _cells(cluster_table(cluster_rows(_busy()), NOW))
    # Of four A100s others use one and we two; CPU: 16 less 2 less 2.
    assert ash == {
        "NAME": "ash", "STATUS": "available", "GPUS FREE": "A100 1/4", "CPU FREE": "12/16", "MEMORY FREE": "64Gi/64Gi",
        "RUNNING": 2, "PRICE/H": "A100 2.10", "HARDWARE": "real", "RUNTIME": "process", "NODES": 2, "TAINTS": "",
        "LABELS": "region=eu", "AGE": "10m", "PROBLEM": "",
    }  # fmt: skip
    assert (elm["STATUS"], elm["HARDWARE"], elm["GPUS FREE"]) == ("unreachable", "simulated", "L4 3/4")
    assert elm["TAINTS"] == "bad:NoSelect"


@pytest.mark.parametrize(
    ("cluster", "status"),
    [
        (_cluster("a", "False"), "unavailable"),
        (_cluster("a", hubAcceptsClient=False), "not accepted"),
        ({**_cluster("a"), "status": {}}, "joining"),
        ({**_cluster("a"), "metadata": _meta("a", deletionTimestamp="2023-11-14T22:13:20Z")}, "leaving"),
    ],
)
def test_the_status_of_a_cluster(cluster: dict[str, Any], status: str) -> None:
    assert status_of(cluster) == status


def test_a_cluster_that_has_reported_nothing_claims_nothing() -> None:
    (row,) = _cells(cluster_table(cluster_rows(_state(MANAGED_CLUSTERS=[_cluster("ash")])), NOW))
    assert (row["GPUS FREE"], row["CPU FREE"], row["HARDWARE"], row["NODES"]) == ("", "", "", None)


def test_everything_about_a_cluster() -> None:
    state = _busy()
    sections = cluster_sections(state, "elm", _capacity("elm"), NOW)
    facts = _facts(sections)
    assert facts["Status"] == "unreachable for 5m"
    assert facts["Hardware"] == "simulated: declared, not there"
    assert (facts["Images"], facts["Claims"], facts["Capacity seen"]) == ("host", "id.k8s.io=x", "1m ago")
    (group,) = _cells(sections[1].table)
    assert (group["GPUS"], group["USED BY OTHERS"]) == ("2 × L4 (40Gi)", "1 × {2 cpu, 1 GPU}")
    assert (sections[2].table, sections[2].empty) == (None, "none of this hub's")
    (part,) = _cells(cluster_sections(state, "ash", None, NOW)[2].table)
    assert (part["JOB"], part["TASKS"], part["STATE"], part["RUNNING"], part["LEFT"]) == (
        "lab/train", "0-1", "Running", 2, 2,
    )  # fmt: skip
    (condition,) = _cells(sections[3].table)
    assert (condition["TYPE"], condition["SINCE"]) == ("ManagedClusterConditionAvailable", "5m")
    with pytest.raises(KeyError):
        cluster_sections(state, "oak", None, NOW)


def test_queues_say_what_is_used_borrowed_and_waits() -> None:
    broken, research = _cells(queue_table(queue_rows(_busy()), NOW, namespaces=True))
    assert (research["NAMESPACE"], research["CLUSTERQUEUE"], research["COHORT"]) == ("lab", "team-a", "all")
    assert (research["PENDING"], research["RUNNING"], research["STATUS"]) == (2, 1, "active")
    assert research["USED/NOMINAL"] == "cpu 2/2, gpu 2/1 (1 borrowed)"
    assert "nowhere" in broken["STATUS"]


def test_everything_about_a_queue() -> None:
    state = _busy()
    local, whole = queue_sections(state, "lab", "research", NOW), queue_sections(state, "lab", "team-a", NOW)
    assert _facts(local)["Jobs"] == _facts(whole)["Jobs"] == "1 running, 2 waiting"
    assert "ClusterQueue" in _facts(local)
    assert "Namespace" not in _facts(whole)
    gpu = next(row for row in _cells(local[1].table) if row["RESOURCE"] == names.GPU)
    assert (gpu["USED"], gpu["NOMINAL"], gpu["BORROWED"], gpu["FREE NOW"], gpu["AT MOST"]) == ("2", "1", "1", "3", "5")
    waiting = _cells(local[2].table)
    # By priority, then age.
    assert [(row["JOB"], row["PRIORITY"], row["TASKS"]) for row in waiting] == [
        ("lab/later", 100, 3),
        ("lab/train", 0, 2),
    ]
    assert [row["JOB"] for row in _cells(local[3].table)] == ["lab/train"]
    with pytest.raises(KeyError):
        queue_sections(state, "lab", "team-z", NOW)
    assert "nowhere" in _facts(queue_sections(state, "lab", "broken", NOW))["Status"]


_STATUS = {
    "phase": "Failed",
    "reason": "TasksFailed",
    "message": "2 of 4 tasks failed: 1-2",
    "tasks": {"succeeded": 2, "failed": 2, "active": 0, "succeededIndexes": "0,3", "failedIndexes": "1-2"},
    "attempts": [
        {"epoch": 1, "attempt": 1, "cluster": "ash", "tasks": "0-3", "state": "Lost", "succeeded": "0", "stale": "3",
         "message": "ash was cut off", "startedAt": "2023-11-14T22:14:20Z"},
        {"epoch": 2, "attempt": 1, "cluster": "elm", "tasks": "1-3", "state": "Failed", "succeeded": "3",
         "failed": "1-2", "exitCodes": "3=1;137=2", "startedAt": "2023-11-14T22:15:20Z",
         "finishedAt": "2023-11-14T22:16:20Z"},
    ],
    "clusters": ["ash", "elm"],
    "startedAt": "2023-11-14T22:14:20Z",
    "finishedAt": "2023-11-14T22:16:20Z",
    "usage": {"cpuSeconds": 90.0, "wallSeconds": 120.0},
    "conditions": [{"type": "Failed", "status": "True", "reason": "TasksFailed", "message": "m",
                    "lastTransitionTime": "2023-11-14T22:16:20Z"}],
}  # fmt: skip


def test_a_job_in_one_row() -> None:
    job = _job(tasks=4, gpu={"count": 2, "models": ["A100", "H100"]}) | {"status": _STATUS}
    (row,) = _cells(job_table([job_row(job)], NOW, namespaces=True))
    assert row == {
        "NAMESPACE": "lab", "NAME": "train", "KIND": "FleetJob", "QUEUE": "research", "PRIORITY": "", "PHASE": "Failed",
        "TASKS": "2/4", "RUNNING": None, "FAILED": 2, "GPU": "2 × A100/H100", "CLUSTERS": "ash,elm", "SLICES": 2,
        "AGE": "10m", "TOOK": "2m", "REASON": "TasksFailed", "MESSAGE": "2 of 4 tasks failed: 1-2",
    }  # fmt: skip
    (row,) = _cells(job_table([job_row(_job())], NOW))
    assert (row["PHASE"], row["TASKS"], row["TOOK"], row["MESSAGE"]) == (
        "Pending", "0/1", None, "the hub has not looked at it yet",
    )  # fmt: skip


def _plain(*conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    return {
        "kind": "Job",
        "metadata": _meta("batch", "lab", labels={names.QUEUE_NAME: "research", names.PRIORITY_CLASS: "high"}),
        "spec": {"completions": 3},
        "status": {"conditions": list(conditions), **status},
    }


@pytest.mark.parametrize(
    ("job", "phase", "reason"),
    [
        (_plain(), "Pending", ""),
        (_plain({"type": "Suspended", "status": "True", "reason": "WaitingForQuota"}), "Queued", "WaitingForQuota"),
        (_plain({"type": "Suspended", "status": "False"}), "Admitted", ""),
        (_plain({"type": "Suspended", "status": "False"}, active=2), "Running", ""),
        (_plain({"type": "Complete", "status": "True", "reason": "CompletionsReached"}), "Succeeded",
         "CompletionsReached"),
        (_plain({"type": "Failed", "status": "True", "reason": "FailedIndexes"}), "Failed", "FailedIndexes"),
        (_plain({"type": "Failed", "status": "True", "reason": "Cancelled"}), "Cancelled", "Cancelled"),
    ],
)  # fmt: skip
def test_a_plain_job_is_read_by_its_conditions(job: dict[str, Any], phase: str, reason: str) -> None:
    row = job_row(job)
    assert (row.kind, row.queue, row.priority, row.total) == ("Job", "research", "high", 3)
    assert (row.phase, row.reason) == (phase, reason)
    assert is_fleets(job)
    assert not is_fleets({"kind": "Job", "metadata": {"name": "other"}})


def test_a_plain_job_that_the_hub_leaves_alone_says_so() -> None:
    job = _plain()
    job["status"] = {}
    assert job_row(job).message.startswith("left alone")
    job["spec"]["suspend"] = True
    assert job_row(job).message == "the hub has not looked at it yet"


@pytest.mark.parametrize(
    ("job", "failed"),
    [
        # Pods that failed and are tried again are no failed tasks.
        (_plain(active=1, failed=2, succeeded=1), 0),
        (_plain({"type": "Failed", "status": "True"}, failed=4, succeeded=1), 2),
        (_plain(active=1, failed=2, failedIndexes="0,2"), 2),
        (_plain({"type": "Failed", "status": "True"}, failed=4, failedIndexes=""), 0),
    ],
)
def test_failures_of_a_plain_job_are_tasks(job: dict[str, Any], failed: int) -> None:
    assert job_row(job, ["elm", "ash", "elm"]).failed == failed
    assert job_row(job, ["elm", "ash", "elm"]).clusters == ("ash", "elm")


def test_what_failed_of_a_plain_job_is_read_from_its_slices() -> None:
    job = _plain({"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}, failed=1)
    attempts = [
        Attempt(1, 1, "ash", IndexSet.span(3), 3, "w1", failed=IndexSet.parse("1-2"), succeeded=IndexSet.parse("0")),
        Attempt(2, 2, "elm", IndexSet.parse("1-2"), 2, "w2", failed=IndexSet.parse("1"), succeeded=IndexSet.parse("2")),
    ]
    assert results(job, attempts) == (IndexSet.parse("0,2"), IndexSet.parse("1"))
    section = failed_tasks(job, [_log(1, 2, "oops\n", "a", exitCode=3)], attempts)
    assert section is not None
    assert section.lines == ("task 1 on elm, attempt 2: exit code 3", "  oops")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["sh", "-c", "echo a b"], "sh -c 'echo a b'"),
        (["python3", "-c", "print('a')"], "python3 -c \"print('a')\""),
        (["sh", "-c", "kill $$$$; echo '$(X)'"], "sh -c 'kill $$; echo '\"'\"'$(X)'\"'\"''"),
        ([], "(image host)"),
    ],
)
def test_a_command_is_shown_as_a_shell_reads_it(words: list[str], shown: str) -> None:
    job = _job()
    job["spec"]["template"]["spec"]["containers"][0]["command"] = words
    facts = _facts(job_sections(job, [], [], [], NOW))
    assert str(facts["Command"]).removesuffix("  (image host)") == shown


def test_what_never_ran_of_an_ended_job_does_not_wait() -> None:
    job = _job(tasks=4) | {"status": {"phase": "Cancelled", "tasks": {"total": 4}}}
    assert _facts(job_sections(job, [], [], [], NOW))["Tasks"] == "0 of 4 succeeded, 4 not run to their end"


def _log(task: int, attempt: int, text: str, name: str, **entry: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "elm", "labels": {names.JOB_UID: UID}},
        "entries": [{"task": task, "attempt": attempt, "text": text, **entry}],
    }


def test_everything_about_a_job() -> None:
    job = _job(tasks=4, retry={"limitPerTask": 3, "onExitCodes": {"notIn": [2]}}) | {"status": _STATUS}
    logs = [
        _log(1, 1, "first try\n", "a", exitCode=9),
        _log(1, 2, "".join(f"line {n}\n" for n in range(20)), "b", exitCode=3),
        _log(0, 1, "not of a failed task", "c"),
    ]
    answer = _log(1, 3, "an answer to somebody", "d")
    answer["metadata"]["labels"][names.LOG_REQUEST] = "log-1"
    events = [
        {"metadata": {"name": "e2"}, "eventTime": "2023-11-14T22:16:20Z", "type": "Warning", "reason": "ClusterLost",
         "note": "n", "series": {"count": 4, "lastObservedTime": "2023-11-14T22:22:20Z"}},
        {"metadata": {"name": "e1"}, "eventTime": "2023-11-14T22:14:20Z", "type": "Normal", "reason": "Admitted"},
    ]  # fmt: skip
    sections = job_sections(job, [], [*logs, answer], events, NOW)
    facts = _facts(sections)
    assert facts["Tasks"] == "2 of 4 succeeded (0,3), 2 failed (1-2)"
    assert (facts["Attempts a task"], facts["Took"]) == ("3, not after exit codes 2", "2m")
    assert facts["Used"] == "1m30s of CPU, 2m of running"
    assert facts["Command"] == "sh -c 'echo a b'  (image host)"
    assert [section.title for section in sections] == ["", "Slices", "Failed tasks", "Conditions", "Events"]
    lost, failed = _cells(sections[1].table)
    assert lost["NOTE"] == ("ash was cut off; ash reported tasks 3 of a superseded epoch: recorded, not counted")
    assert (lost["TOOK"], failed["TOOK"], failed["EXIT CODES"]) == (None, "1m", "3: 1, 137: 2")
    lines = sections[2].lines
    assert lines[0] == "task 1 on elm, attempt 2: exit code 3"
    assert lines[1:-1] == tuple(f"  line {n}" for n in range(12, 20))
    assert lines[-1] == "task 2: its site has sent nothing of it"
    assert [(row["REASON"], row["COUNT"], row["LAST"]) for row in _cells(sections[4].table)] == [
        ("Admitted", 1, "9m"), ("ClusterLost", 4, "1m"),
    ]  # fmt: skip


def test_a_thousand_failures_are_told_in_a_few_lines() -> None:
    status = {"tasks": {"failed": 1000, "failedIndexes": "0-999"}}
    section = failed_tasks(_job(tasks=1000) | {"status": status}, [], [])
    assert section is not None
    assert len(section.lines) == 11
    assert section.lines[-1] == "and 990 more: 10-999; `quarterdeck logs train --failed`"
    assert failed_tasks(_job(), [], []) is None


@pytest.mark.parametrize(
    ("gpu", "text"),
    [
        (None, ""),
        ({}, "1 × GPU"),
        ({"count": 0}, "0 × GPU"),
        ({"share": "500m", "models": ["L4"]}, "500m of a L4"),
        ({"count": 2, "minMemory": "40Gi"}, "2 × GPU ≥ 40Gi"),
    ],
)
def test_gpus_in_words(gpu: Any, text: str) -> None:
    assert gpu_text(gpu) == text


def test_long_lists_are_counted() -> None:
    assert some(["a", "b", "c", "d", "e"]) == "a,b,c+2"


def test_the_slice_of_the_state_is_the_slice_of_the_work() -> None:
    state = _busy()
    job = next(job for job in state.jobs.values() if job.seen.ref.name == "train")
    assert job.entry.state is not None
    (attempt,) = job.entry.state.attempts
    assert attempt.tasks == attempt_from_work(_work(_job(tasks=4), "ash", "0-1")).tasks

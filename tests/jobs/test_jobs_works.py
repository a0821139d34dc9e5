"""The wire between hub and agent: what a slice becomes, and whatever may come back."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs_world import UID, fleet_job, refused, reported, tasks

from hub.api import jsonpath, names
from hub.api.errors import InvalidObjectError
from hub.api.indexset import IndexSet
from hub.api.work import ManifestWork
from hub.fleet.site import GpuOffer
from hub.jobs.feedback import parse_exit_codes
from hub.jobs.spec import JobSpec
from hub.jobs.works import attempt_from_work, slice_to_work

FLAVORS = (("nvidia.com/gpu", "a100"), ("cpu", "default"))


def _work(which: str = "1,3-57", /, *, slots: int = 9, attempt: int = 2, **spec: Any) -> dict[str, Any]:
    read = JobSpec.from_fleet_job(fleet_job(tasks=100, **spec))
    return slice_to_work(read, "ash", tasks(which), attempt, slots, FLAVORS, "team-a", 7)


def _pod(work: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = work["spec"]["workload"]["manifests"][0]["spec"]["template"]["spec"]
    return pod


def test_a_slice_is_one_indexed_job_with_everything_a_new_hub_needs() -> None:
    work = _work(activeDeadline="90s")
    name = f"train-{UID[:8]}-7"
    assert ManifestWork.model_validate(work).metadata.name == name
    meta = work["metadata"]
    assert (meta["namespace"], meta["finalizers"]) == ("ash", [names.WORK_FINALIZER])
    assert meta["labels"] == {
        names.JOB_UID: UID,
        names.JOB_NAME: "train",
        names.JOB_NAMESPACE: "lab",
        names.JOB_KIND: "FleetJob",
        names.EPOCH: "7",
    }
    assert meta["annotations"] == {
        names.TASKS: "1,3-57",
        names.ATTEMPT: "2",
        names.SLOTS: "9",
        names.CLUSTER_QUEUE: "team-a",
        names.FLAVORS: "cpu=default,nvidia.com/gpu=a100",
    }
    (job,) = work["spec"]["workload"]["manifests"]
    assert (job["metadata"]["name"], job["metadata"]["namespace"]) == (name, "lab")
    assert job["metadata"]["labels"] == meta["labels"]
    assert job["metadata"]["annotations"] == {names.TASKS: "1,3-57", names.ATTEMPT: "2"}
    spec = {key: value for key, value in job["spec"].items() if key != "template"}
    assert spec == {
        "completions": 56,
        "parallelism": 9,
        "completionMode": "Indexed",
        "backoffLimitPerIndex": 0,
        "backoffLimit": 2147483647,
        "activeDeadlineSeconds": 90,
    }
    (config,) = work["spec"]["manifestConfigs"]
    assert config["resourceIdentifier"] == {"group": "batch", "resource": "jobs", "namespace": "lab", "name": name}
    assert (config["feedbackScrapeType"], config["conditionRules"][0]["condition"]) == ("Watch", "Complete")


def test_the_feedback_rules_find_what_they_name_in_a_jobs_status() -> None:
    status = {
        "active": 1, "ready": 1, "succeeded": 2, "failed": 3, "completedIndexes": "0", "failedIndexes": "1",
        "startTime": "t", "completionTime": "u", "exitCodes": "1=1", "usage": "cpu=1",
            "terminating": 1, "slots": 2,
        "conditions": [
            {"type": "Complete", "status": "True"},
            {"type": "Failed", "status": "False", "reason": "R", "message": "M"},
        ],
    }  # fmt: skip
    (rule,) = _work()["spec"]["manifestConfigs"][0]["feedbackRules"]
    found = {entry["name"]: jsonpath.compile(entry["path"]).find({"status": status}) for entry in rule["jsonPaths"]}
    assert found == {
        "complete": ["True"], "failedCondition": ["False"], "failedReason": ["R"], "failedMessage": ["M"],
        **{name: [value] for name, value in status.items() if name != "conditions"},
    }  # fmt: skip


def _env(work: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in _pod(work)["containers"][0]["env"]}


def test_the_environment_of_a_task() -> None:
    container = {"name": "main", "env": [{"name": "A", "value": "b"}, {"name": names.ENV_TASKS, "value": "mine"}]}
    template = {"spec": {"containers": [container], "initContainers": [{"name": "first"}]}}
    work = _work(template=template)
    assert _env(work) == {
        names.ENV_TASKS: "1,3-57",
        names.ENV_ATTEMPT: "2",
        names.ENV_JOB: "train",
        names.ENV_CLUSTER: "ash",
        "A": "b",
    }
    assert _pod(work)["initContainers"][0]["env"]
    assert _pod(work)["restartPolicy"] == "Never"
    # The job's own template is untouched.
    assert container["env"][1] == {"name": names.ENV_TASKS, "value": "mine"}


@pytest.mark.parametrize(
    ("which", "index"),
    [
        ("5", "5"),
        ("0-9", {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}),
        ("1-9", None),
        ("0,2-9", None),
    ],
)
def test_a_plain_cluster_gets_the_task_index_where_it_can_be_known(which: str, index: Any) -> None:
    assert _env(_work(which)).get(names.ENV_TASK_INDEX) == index


def test_gpus_are_limits_and_models_are_labels_of_nodes() -> None:
    pod = _pod(_work(gpu={"count": 2, "models": ["A100"]}))
    resources = pod["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "1", names.GPU: "2"}, "limits": {names.GPU: "2"}}
    assert pod["nodeSelector"] == {names.GPU_PRODUCT: "A100"}
    assert "affinity" not in pod

    own = {"key": "zone", "operator": "Exists"}
    term = {"matchExpressions": [own]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term, {}]}}}
    work = _work(
        gpu={"models": ["H100", "A100"], "minMemory": "40Gi"},
        template={"spec": {"containers": [{"name": "main"}], "affinity": affinity}},
    )
    terms = _pod(work)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    ours = [
        {"key": names.GPU_PRODUCT, "operator": "In", "values": ["A100", "H100"]},
        {"key": names.GPU_MEMORY, "operator": "Gt", "values": ["40959"]},
    ]
    # A term that says nothing holds nowhere, as before.
    assert terms == [{"matchExpressions": [own, *ours]}, {}]
    annotations = work["spec"]["workload"]["manifests"][0]["spec"]["template"]["metadata"]["annotations"]
    assert (annotations[names.GPU_MODELS], annotations[names.GPU_MIN_MEMORY]) == ("A100,H100", str(40 * 2**30))


def test_a_share_is_a_resource_of_its_own() -> None:
    container = {"name": "main", "resources": {"limits": {names.GPU: 1, "memory": "1Gi"}}}
    pod = _pod(_work(gpu={"share": "500m"}, template={"spec": {"containers": [container]}}))
    assert pod["containers"][0]["resources"] == {
        "requests": {names.GPU_MILLI: "500"},
        "limits": {"memory": "1Gi", names.GPU_MILLI: "500"},
    }


def _required(pod: dict[str, Any]) -> list[dict[str, Any]]:
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return list(term["matchExpressions"])


@pytest.mark.parametrize("resource", [names.GPU, names.GPU_SHARED])
def test_a_share_is_a_slot_where_gpus_are_shared_by_time(resource: str) -> None:
    spec = JobSpec.from_fleet_job(fleet_job(gpu={"share": "300m", "models": ["T4"]}))
    work = slice_to_work(spec, "ash", IndexSet.parse("0"), 1, 1, (), "q", 1, offer=GpuOffer(resource, shared=True))
    pod = _pod(work)
    assert pod["containers"][0]["resources"]["limits"] == {resource: "1"}
    assert _required(pod) == [
        # Three tasks on a GPU have 0.333 of it each, four only 0.25.
        {"key": names.GPU_REPLICAS, "operator": "Lt", "values": ["4"]},
        {"key": names.GPU_REPLICAS, "operator": "Gt", "values": ["1"]},
        {"key": names.GPU_PRODUCT, "operator": "In", "values": ["T4", "T4-SHARED"]},
    ]


def test_whole_gpus_keep_off_the_shared_ones() -> None:
    spec = JobSpec.from_fleet_job(fleet_job(gpu={"count": 1}))
    work = slice_to_work(spec, "ash", IndexSet.parse("0"), 1, 1, (), "q", 1, offer=GpuOffer(names.GPU, shared=True))
    assert _required(_pod(work)) == [{"key": names.GPU_SHARING, "operator": "NotIn", "values": ["time-slicing", "mps"]}]


def test_a_work_without_status_is_pending() -> None:
    attempt = attempt_from_work(_work())
    assert (attempt.epoch, attempt.attempt, attempt.cluster, attempt.slots) == (7, 2, "ash", 9)
    assert (attempt.queue, attempt.flavors) == ("team-a", tuple(sorted(FLAVORS)))
    assert (attempt.state, str(attempt.tasks), attempt.holds, attempt.live) == ("Pending", "1,3-57", 9, True)


def test_feedback_speaks_of_completion_indexes_and_we_of_tasks() -> None:
    work = reported(
        _work("1,3-6"), active=2, ready=1, completedIndexes="0,2", failedIndexes="4", exitCodes="137=4;1=",
        usage="cpu=1.5;gpu=3;wall=9", startTime="2023-11-14T22:13:20Z",
    )  # fmt: skip
    attempt = attempt_from_work(work)
    assert (str(attempt.succeeded), str(attempt.failed), str(attempt.open_tasks)) == ("1,4", "6", "3,5")
    assert (attempt.state, attempt.active, attempt.started_at) == ("Running", 1, 1_700_000_000.0)
    assert attempt.exit_codes == ((137, tasks("6")),)
    assert (attempt.usage.cpu, attempt.usage.gpu, attempt.usage.wall) == (1.5, 3.0, 9.0)
    assert attempt.message == ""


@pytest.mark.parametrize(
    ("values", "state", "succeeded", "failed"),
    [
        ({"complete": "True", "completedIndexes": "0-2"}, "Succeeded", "4-6", ""),
        # Complete says that every index succeeded, whether or not the list of them came through.
        ({"complete": "True"}, "Succeeded", "4-6", ""),
        ({"complete": True, "completedIndexes": "0-2"}, "Succeeded", "4-6", ""),
        ({"failedCondition": "True", "completedIndexes": "0", "failedIndexes": "1-2"}, "Failed", "4", "5-6"),
        # A Job that failed as a whole leaves nothing open.
        (
            {"failedCondition": "True", "failedReason": "DeadlineExceeded", "completedIndexes": "0"},
            "Failed",
            "4",
            "5-6",
        ),
        # A task that is in both lists succeeded.
        ({"completedIndexes": "0-1", "failedIndexes": "1"}, "Running", "4-5", ""),
        ({"completedIndexes": "0-2", "active": 0}, "Succeeded", "4-6", ""),
        ({"active": 3, "ready": 0}, "Pending", "", ""),
        ({"active": 3}, "Running", "", ""),
    ],
)
def test_states(values: dict[str, Any], state: str, succeeded: str, failed: str) -> None:
    attempt = attempt_from_work(reported(_work("4-6"), **values))
    assert (attempt.state, str(attempt.succeeded), str(attempt.failed)) == (state, succeeded, failed)


def test_a_job_that_has_ended_and_reports_nothing_has_failed() -> None:
    """A stock agent whose feedback failed still says that the Job is finished: it must not hang for ever."""
    work = _work("4-6")
    work["status"] = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "bad"}]}
    attempt = attempt_from_work(work)
    assert (attempt.state, str(attempt.failed), attempt.finished_at) == ("Failed", "4-6", None)
    assert "reports no results" in attempt.message


def test_a_refusal_is_told_with_its_detail_unless_something_ran() -> None:
    work = refused(_work("4"), "field nodeName is unknown", "2023-11-14T22:13:20Z")
    attempt = attempt_from_work(work)
    assert (attempt.state, attempt.message, attempt.refused_at) == ("Pending", "field nodeName is unknown", 1.7e9)
    conditions = work["status"]["conditions"]
    work = reported(work, active=1)
    work["status"]["conditions"] = conditions
    assert attempt_from_work(work).refused_at is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("completedIndexes", "0-2,x", "completedIndexes as '0-2,x'"),
        ("completedIndexes", "7", "names tasks that are not in the slice of 3"),
        ("failedIndexes", "2-1", "failedIndexes"),
        ("exitCodes", "one=1", "exitCodes"),
        ("active", "many", "active as 'many'"),
        ("active", -1, "active"),
        ("startTime", "yesterday", "startTime"),
        ("usage", "cpu=lots", "usage"),
    ],
)
def test_what_cannot_be_read_is_said_and_harms_nothing_else(name: str, value: Any, said: str) -> None:
    attempt = attempt_from_work(reported(_work("4-6"), **{"failedIndexes": "0", "active": 1, name: value}))
    assert said in attempt.message
    assert attempt.state in ("Pending", "Running")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.text(max_size=9) | st.just("0-2"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["conditions", "resourceStatus", "manifests", "statusFeedback", "values", "name", "fieldValue",
                         "type", "string", "integer", "status", "message", "completedIndexes", "Applied"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
names_of_values = st.sampled_from(["active", "completedIndexes", "failedIndexes", "exitCodes", "usage", "complete",
                                   "startTime", "completionTime", "failedCondition", "succeeded"])  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(json_values, st.dictionaries(names_of_values, st.integers() | st.booleans() | st.text(max_size=20)))
def test_no_status_makes_it_raise(garbage: Any, values: dict[str, Any]) -> None:
    for work in (dict(_work("4-6"), status=garbage), reported(_work("4-6"), **values)):
        attempt = attempt_from_work(work)
        assert not (attempt.succeeded | attempt.failed) - attempt.tasks
        assert not attempt.succeeded & attempt.failed
        assert 0 <= attempt.active <= 3
        assert math.isfinite(attempt.usage.cpu)


@pytest.mark.parametrize("change", [{names.EPOCH: "x"}, {names.EPOCH: None}, {names.TASKS: ""}, {names.ATTEMPT: "-1"}])
def test_a_work_that_is_no_slice_is_refused(change: dict[str, Any]) -> None:
    work = _work()
    for part in ("labels", "annotations"):
        work["metadata"][part] = {**work["metadata"][part], **change}
    with pytest.raises(InvalidObjectError):
        attempt_from_work(work)


@given(st.sets(st.integers(0, 99), min_size=1), st.data())
def test_what_was_sent_comes_back(members: set[int], data: st.DataObject) -> None:
    part = IndexSet.of(members)
    done = IndexSet.of(data.draw(st.sets(st.integers(0, len(part) - 1))))
    work = reported(_work(str(part)), completedIndexes=str(done))
    attempt = attempt_from_work(work)
    assert attempt.tasks == part
    assert list(attempt.succeeded) == [sorted(members)[i] for i in done]


def test_exit_codes_are_sorted_and_merged() -> None:
    assert parse_exit_codes("137=4;1=3,17;1=5") == ((1, tasks("3,5,17")), (137, tasks("4")))


def test_what_an_api_server_put_on_the_template_of_the_jobs_own_object_stays_there() -> None:
    """Of the Job in the work it would be refused: these labels name the object that carries them."""
    own = {"controller-uid": "u", "job-name": "n", "batch.kubernetes.io/controller-uid": "u", "team": "vision"}
    template = {
        "metadata": {"labels": {**own, "batch.kubernetes.io/job-name": "n"}},
        "spec": {"containers": [{"name": "main", "image": "busybox"}]},
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "n", "namespace": "default", "uid": "u", "labels": {names.QUEUE_NAME: "default"}},
        "spec": {"suspend": True, "completions": 2, "template": template},
    }
    spec = JobSpec.from_job(job)
    work = slice_to_work(spec, "ash", IndexSet.span(2), 1, 2, (), "default", 1)
    (manifest,) = work["spec"]["workload"]["manifests"]
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    assert labels["team"] == "vision"
    assert not {key for key in labels if "controller-uid" in key or (key.endswith("/job-name") and "batch" in key)}
    assert "job-name" not in labels

"""What people read with kubectl: resources, tables, objects, watches, descriptions, explanations."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

JOB = """
apiVersion: fleet.quarterdeck.dev/v1alpha1
kind: FleetJob
metadata: {name: %s, labels: {team: red}}
spec:
  queueName: research
  tasks: 5
  gpu: {count: 2}
  template:
    spec:
      containers: [{name: main, image: busybox, command: [date]}]
"""


@pytest.fixture
def jobs(kubectl: Any) -> Any:
    kubectl("create", "-f", kubectl.file("---".join(JOB % name for name in ("a", "b"))))
    status = {
        "status": {"phase": "Running", "reason": "Running", "clusters": ["east", "west"], "tasks": {"summary": "3/5"}}
    }
    kubectl("patch", "fj", "a", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    return kubectl


def test_resources_have_their_short_names(kubectl: Any) -> None:
    lines = kubectl("api-resources", "--no-headers").lines
    assert "fleetjobs  fj  fleet.quarterdeck.dev/v1alpha1  true  FleetJob" in lines
    assert "managedclusters  mcl,mcls  cluster.open-cluster-management.io/v1  false  ManagedCluster" in lines
    assert "workloads  wl  kueue.x-k8s.io/v1beta2  true  Workload" in lines
    assert "kueue.x-k8s.io/v1beta1" in kubectl("api-versions").lines
    assert "fleetjobs.fleet.quarterdeck.dev" in kubectl("api-resources", "--categories=fleet", "-o", "name").lines


def test_tables(jobs: Any) -> None:
    assert jobs("get", "fleetjobs").lines == [
        "NAME  QUEUE  PHASE  TASKS  CLUSTERS  AGE",
        "a  research  Running  3/5  east,west  AGE",
        "b  research  AGE",
    ]
    assert jobs("get", "fj", "a", "-o", "wide").lines == [
        "NAME  QUEUE  PHASE  TASKS  CLUSTERS  REASON  GPU  PREEMPTED  AGE",
        "a  research  Running  3/5  east,west  Running  2  AGE",
    ]
    assert jobs("get", "fj", "--show-labels", "--no-headers").lines[1] == "b  research  AGE  team=red"
    assert [line.split()[1] for line in jobs("get", "fj", "-A", "--no-headers").lines if jobs.namespace in line] == [
        "a",
        "b",
    ]


def test_the_tables_of_the_fleet(kubectl: Any) -> None:
    cluster = """
apiVersion: cluster.open-cluster-management.io/v1
kind: ManagedCluster
metadata: {name: %s}
spec: {hubAcceptsClient: true, managedClusterClientConfigs: [{url: "https://east.example.com"}]}
"""
    kubectl("apply", "-f", kubectl.file(cluster % kubectl.namespace))
    conditions = [
        {"type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for kind in ("ManagedClusterJoined", "ManagedClusterConditionAvailable")
    ]
    patch = json.dumps({"status": {"conditions": conditions}})
    kubectl("patch", "mcl", kubectl.namespace, "--subresource=status", "--type=merge", "-p", patch)
    header, row = kubectl("get", "managedcluster", kubectl.namespace).lines
    assert header == "NAME  HUB ACCEPTED  MANAGED CLUSTER URLS  JOINED  AVAILABLE  AGE"
    assert row == f"{kubectl.namespace}  true  https://east.example.com  True  True  AGE"
    everything = kubectl("get", "managedclusters,fleetjobs,workloads,manifestworks", "-A")
    assert f"managedcluster.cluster.open-cluster-management.io/{kubectl.namespace}" in everything.out


def test_objects(jobs: Any) -> None:
    obj = json.loads(jobs("get", "fj", "a", "-o", "json").out)
    assert (obj["kind"], obj["spec"]["tasks"], obj["spec"]["retry"]["elsewhere"]) == ("FleetJob", 5, True)
    assert "queueName: research" in jobs("get", "fj", "a", "-o", "yaml").out
    assert (
        jobs("get", "fj", "a", "-o", "jsonpath={.spec.template.spec.containers[*].name} {.status.clusters[1]}").out
        == "main west"
    )
    assert jobs("get", "fj", "-o", "custom-columns=N:.metadata.name,T:.spec.tasks").lines == ["N  T", "a  5", "b  5"]
    assert jobs("get", "fj", "-o", "name").lines == [
        "fleetjob.fleet.quarterdeck.dev/a",
        "fleetjob.fleet.quarterdeck.dev/b",
    ]
    assert json.loads(jobs("get", "fj", "-o", "json", "--sort-by=.metadata.name").out)["kind"] == "List"


def test_selectors(jobs: Any) -> None:
    jobs("label", "fj", "b", "team=blue", "--overwrite")
    for selector, names in (
        ("team=red", ["a"]),
        ("team!=red", ["b"]),
        ("team in (red,blue)", ["a", "b"]),
        ("!team", []),
        ("team notin (blue)", ["a"]),
    ):
        found = jobs("get", "fj", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}").out.split()
        assert found == names, selector
    assert jobs("get", "fj", "--field-selector=metadata.name=b", "-o", "name").lines == [
        "fleetjob.fleet.quarterdeck.dev/b"
    ]


def test_pages_are_put_together(jobs: Any) -> None:
    assert jobs("get", "fj", "--chunk-size=1", "-o", "name").lines == jobs("get", "fj", "-o", "name").lines


def test_a_watch_prints_what_changes(jobs: Any) -> None:
    watch = jobs.start("get", "fj", "-w", "--no-headers", "--request-timeout=20s")
    try:
        assert watch.stdout is not None
        first = [watch.stdout.readline().split()[0] for _ in range(2)]
        jobs("patch", "fj", "a", "--subresource=status", "--type=merge", "-p", '{"status": {"phase": "Succeeded"}}')
        changed = watch.stdout.readline().split()
    finally:
        watch.terminate()
        watch.wait(10)
    assert first == ["a", "b"]
    assert changed[:3] == ["a", "research", "Succeeded"]


def test_waiting_for_conditions_and_fields(jobs: Any) -> None:
    waiting = jobs.start("wait", "--for=condition=Succeeded", "fj/a", "--timeout=20s")
    condition = {
        "type": "Succeeded",
        "status": "True",
        "reason": "R",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    patch = json.dumps({"status": {"conditions": [condition]}})
    jobs("patch", "fj", "a", "--subresource=status", "--type=merge", "-p", patch)
    try:
        out, _ = waiting.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        waiting.kill()
        raise
    assert (waiting.returncode, out) == (0, "fleetjob.fleet.quarterdeck.dev/a condition met\n")
    jobs("wait", "--for=jsonpath={.status.phase}=Running", "fj/a", "--timeout=10s")
    refused = jobs("wait", "--for=condition=Succeeded", "fj/b", "--timeout=200ms", fails=True)
    assert "timed out waiting for the condition on fleetjobs/b" in refused.err


def test_describe_shows_the_object_and_its_events(jobs: Any) -> None:
    uid = jobs("get", "fj", "a", "-o", "jsonpath={.metadata.uid}").out
    event = f"""
apiVersion: events.k8s.io/v1
kind: Event
metadata: {{name: a.1}}
eventTime: "2026-01-01T00:00:00.000000Z"
reportingController: quarterdeck
reportingInstance: hub
action: Admit
reason: Admitted
type: Normal
note: onto east and west
regarding:
  {{kind: FleetJob, apiVersion: fleet.quarterdeck.dev/v1alpha1, name: a, namespace: {jobs.namespace}, uid: {uid}}}
"""
    jobs("create", "-f", jobs.file(event))
    described = " ".join(jobs("describe", "fj", "a").out.split())
    for words in ("Queue Name: research", "Phase: Running", "Normal Admitted", "quarterdeck onto east and west"):
        assert words in described, described
    listed = jobs("get", "events", "--no-headers").out
    assert "fleetjob/a" in listed
    assert "onto east and west" in listed


def test_explain_reads_well(kubectl: Any) -> None:
    explained = kubectl("explain", "fleetjob.spec").out
    assert "GROUP:      fleet.quarterdeck.dev\nKIND:       FleetJob\nVERSION:    v1alpha1" in explained
    assert "tasks\t<integer>" in explained
    assert "QUARTERDECK_TASK_INDEX" in explained
    assert "template\t<Object> -required-" in explained
    assert "<no description>" not in explained
    assert "<empty>" not in explained
    assert "minMemory\t<Quantity>" in kubectl("explain", "fj.spec.gpu").out
    assert "Succeeded" in kubectl("explain", "fj.status.phase").out
    assert "How many pods must succeed." in kubectl("explain", "job.spec").out
    assert "leaseDurationSeconds\t<integer>" in kubectl("explain", "managedcluster", "--recursive").out
    assert "cohort\t" in kubectl("explain", "clusterqueue.spec", "--api-version=kueue.x-k8s.io/v1beta1").out
    assert 'field "nope" does not exist' in kubectl("explain", "fj.spec.nope", fails=True).err


def test_every_kind_is_explained(kubectl: Any) -> None:
    names = kubectl("api-resources", "-o", "name").lines
    # kubectl takes events.events.k8s.io for a field of the core's Event.
    kinds = [name for name in names if "review" not in name and name != "events.events.k8s.io"]
    for name in kinds[::4]:
        assert "FIELDS:" in kubectl("explain", name).out, name
    assert len(kinds) > 25

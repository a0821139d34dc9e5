from __future__ import annotations

import re

import pytest

from hub.api.errors import InvalidObjectError
from hub.api.validation import load_objects, problems_of

GOOD = """
apiVersion: fleet.quarterdeck.dev/v1alpha1
kind: FleetJob
metadata: {name: train, annotations: {since: "x"}}
spec:
  tasks: 5
  template: {spec: {containers: [{name: main}], schedulerName: odd}}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidObjectError) as caught:
        load_objects(text, "jobs.yaml")
    return str(caught.value).splitlines()


def test_documents_lists_and_json_are_taken_apart():
    text = (
        GOOD
        + """
---
# nothing here
---
{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}},
  {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "j-"}, "spec": {"anything": 1}}]}
"""
    )
    assert [obj["kind"] for obj in load_objects(text, "x")] == ["FleetJob", "Namespace", "Job"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (GOOD.replace("tasks: 5", "parallelism: 2\n  tasks: 0"), "7: FleetJob train: spec.tasks:"),
        (GOOD.replace("name: main}]", "name: main,\n    comand: [a]}]"), "8: FleetJob train: spec.template.spec."),
        # What is missing is said where its place would be.
        (GOOD.replace("{name: train, ", "{"), "4: FleetJob without a name: metadata.name:"),
        ("---\n" + GOOD + "---\n" + GOOD.replace("tasks: 5", "tasks: x"), "15: FleetJob train: spec.tasks:"),
        ("kind: List\napiVersion: v1\nitems:\n- {}\n-\n  kind: Pod\n", "4: object without a name: apiVersion:"),
        (GOOD.replace("{since", "{a.b/c: 1, since"), "4: FleetJob train: metadata.annotations.a.b/c:"),
    ],
)
def test_an_error_names_the_line_of_its_field(text: str, place: str):
    assert problems(text)[0].startswith(f"jobs.yaml:{place}")


def test_an_alias_of_itself_is_refused():
    assert problems("a: &a [*a]\n") == ["jobs.yaml:1: an alias in it stands for what contains it"]


def test_objects_come_as_they_were_written():
    (obj,) = load_objects(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {day: 2024-01-31, 2: x, true: y}}", "x"
    )
    assert obj["data"] == {"day": "2024-01-31", "2": "x", "true": "y"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("tasks: 5|tasks: '5'", "spec.tasks: found '5'; expected a valid integer"),
        ("tasks: 5|tasks: 0", "spec.tasks: found 0; expected greater than or equal to 1"),
        ("tasks: 5|paralelism: 5", "spec.paralelism: is not a field; did you mean parallelism?"),
        ("tasks: 5|retry: {elswhere: true}", "spec.retry.elswhere: is not a field; did you mean elsewhere?"),
        ("tasks: 5|activeDeadline: 2 hours", "found '2 hours'; expected a duration such as 90s, 20m or 1h30m"),
        ("tasks: 5|gpu: {minMemory: 4 GB}", "spec.gpu.minMemory: '4 GB' is not a quantity"),
        ("{name: main}|{image: x}", "spec.template.spec.containers[0].name: is required"),
        ("name: train|name: Train", "metadata.name: found 'Train'; expected lower-case letters"),
        ("kind: FleetJob|kind: FleetJub", "kind: found 'FleetJub'; did you mean FleetJob?"),
        ("v1alpha1|v2", "apiVersion: found 'fleet.quarterdeck.dev/v2'; FleetJob is fleet.quarterdeck.dev/v1alpha1"),
        ('since: "x"|since: 3', "metadata.annotations.since: found 3; expected text: put it in quotes"),
        ("kind: FleetJob|other: x", "kind: found nothing; every object needs one"),
    ],
)
def test_an_error_names_place_object_field_found_and_allowed(change, expected):
    before, after = change.split("|")
    (line,) = problems(GOOD.replace(before, after))
    assert re.match(r"jobs\.yaml:\d+: ", line)
    assert expected in line


def test_enums_name_what_is_allowed():
    queue = "{apiVersion: kueue.x-k8s.io/v1beta2, kind: ClusterQueue, metadata: {name: q}, spec: {stopPolicy: Stop}}"
    assert problems(queue) == [
        "jobs.yaml:1: ClusterQueue q: spec.stopPolicy: found 'Stop'; allowed: 'None', 'Hold' or 'HoldAndDrain'"
    ]


def test_all_errors_are_said_at_once():
    text = GOOD.replace("tasks: 5", "tasks: 0\n  suspend: 1") + "---\n" + GOOD.replace("name: train", "nome: train")
    lines = problems(text)
    assert len(lines) == 3
    assert lines[2] == "jobs.yaml:13: FleetJob without a name: metadata.name: is required"


@pytest.mark.parametrize("text", ["a: [1", "{'a'", "\x00"])
def test_what_is_not_yaml_says_where(text):
    (line,) = problems(text)
    assert line.startswith("jobs.yaml:")
    assert "not YAML or JSON" in line


def test_other_shapes_are_refused():
    assert problems("just text") == [
        "jobs.yaml:1: found 'just text' where an object with apiVersion and kind was expected"
    ]
    assert problems("# empty") == ["jobs.yaml holds no objects"]


def test_the_first_field_can_be_read_by_programs():
    with pytest.raises(InvalidObjectError) as caught:
        load_objects(GOOD.replace("tasks: 5", "tasks: 0"), "x")
    assert caught.value.field == "spec.tasks"


def test_older_kueue_files_are_known():
    obj = {
        "apiVersion": "kueue.x-k8s.io/v1beta1",
        "kind": "ClusterQueue",
        "metadata": {"name": "q"},
        "spec": {"cohort": "a"},
    }
    assert list(problems_of(obj)) == []
    obj["apiVersion"] = "kueue.x-k8s.io/v1beta2"
    assert list(problems_of(obj)) == [("spec.cohort", "is not a field; did you mean cohortName?")]


def test_a_slip_of_the_pen_in_a_container_is_found_and_what_kubernetes_has_besides_is_not():
    container = {"name": "main", "image": "busybox", "tty": True, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    job = {
        "apiVersion": "fleet.quarterdeck.dev/v1alpha1",
        "kind": "FleetJob",
        "metadata": {"name": "a"},
        "spec": {"template": {"spec": {"containers": [container], "hostNetwork": True, "dnsPolicy": "Default"}}},
    }
    assert list(problems_of(job)) == []
    container["comand"] = ["date"]
    assert list(problems_of(job)) == [
        ("spec.template.spec.containers[0].comand", "is not a field; did you mean command?")
    ]

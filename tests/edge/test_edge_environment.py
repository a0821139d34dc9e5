"""What a task's containers find in their environment, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from agent.edge.environment import (
    ConfigMissing,
    Source,
    TaskFacts,
    check_environments,
    command_line,
    container_environment,
    expand,
    sources,
)
from agent.edge.images import Images
from agent.edge.launch import LaunchFailed
from agent.edge.podplan import PodPlan, PodRefused, plan_pod
from agent.edge.program import host_environment, resolve
from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity

FACTS = TaskFacts(
    name="sum-3",
    namespace="team",
    uid="u-1",
    labels={"app": "sum"},
    annotations={"note/x": "hello"},
    node="edge-1-0",
    host_ip="10.0.0.7",
    allocatable={"cpu": Quantity(8), "memory": Quantity("16Gi")},
)
CONFIGS = {("ConfigMap", "c"): {"a": "1", "bad key": "x"}, ("Secret", "s"): {"p": "pw"}}


def plan(*env: dict[str, Any], **container: Any) -> PodPlan:
    spec = {"containers": [{"name": "main", "image": "host", "command": ["x"], "env": list(env), **container}]}
    return plan_pod({}, spec, Images({}), simulated=False, default_restart="Never")


def variables(*env: dict[str, Any], given: dict[str, str] | None = None, **container: Any) -> dict[str, str]:
    made = plan(*env, **container)
    return container_environment(made.containers[0], made, FACTS, given or {}, CONFIGS)


def field(path: str) -> dict[str, Any]:
    return {"name": "V", "valueFrom": {"fieldRef": {"fieldPath": path}}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$(A)", "1"),
        ("x$(A)y$(B)z", "x1y2z"),
        ("$(NONE)", "$(NONE)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
        ("$(ls | wc -l)", "$(ls | wc -l)"),
    ],
)
def test_references(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "sum-3"),
        ("metadata.namespace", "team"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "sum"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['note/x']", "hello"),
        ("spec.nodeName", "edge-1-0"),
        ("spec.serviceAccountName", "default"),
        ("status.hostIP", "10.0.0.7"),
        ("status.podIP", "10.0.0.7"),
    ],
)
def test_the_downward_api(path: str, value: str) -> None:
    assert variables(field(path)) == {"V": value}


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"resource": "limits.cpu"}, "2"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "requests.memory", "divisor": "1Mi"}, "512"),
        ({"resource": "limits.memory"}, str(16 << 30)),
        ({"resource": "requests.ephemeral-storage"}, "0"),
        ({"resource": "limits.cpu", "containerName": "main", "divisor": "0"}, "2"),
    ],
)
def test_resources(reference: dict[str, str], value: str) -> None:
    resources = {"limits": {"cpu": "1500m"}, "requests": {"memory": "512Mi"}}
    variable = {"name": "V", "valueFrom": {"resourceFieldRef": reference}}
    assert variables(variable, resources=resources) == {"V": value}


def test_order_and_overriding() -> None:
    found = variables(
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)$(C)$(QUARTERDECK_TASK_INDEX)"},
        {"name": "C", "value": "late"},
        {"name": "A", "value": "2"},
        {"name": "QUARTERDECK_TASK_INDEX", "value": "99"},
        {"name": "EMPTY"},
        given={"QUARTERDECK_TASK_INDEX": "7"},
    )
    assert found == {"QUARTERDECK_TASK_INDEX": "7", "A": "2", "B": "1$(C)7", "C": "late", "EMPTY": ""}


def test_configs() -> None:
    env = [
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "a"}}},
        {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}},
        {"name": "N", "valueFrom": {"secretKeyRef": {"name": "s", "key": "none", "optional": True}}},
    ]
    all_of = [{"prefix": "X_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "none", "optional": True}}]
    assert variables(*env, envFrom=all_of) == {"X_a": "1", "A": "1", "P": "pw"}
    assert sources(plan(*env, envFrom=all_of)) == {
        Source("ConfigMap", "c", False),
        Source("Secret", "s", False),
        Source("Secret", "s", True),
        Source("Secret", "none", True),
    }


@pytest.mark.parametrize(
    "reference", [{"configMapKeyRef": {"name": "c", "key": "zzz"}}, {"secretKeyRef": {"name": "zzz", "key": "p"}}]
)
def test_what_is_missing_is_waited_for(reference: dict[str, Any]) -> None:
    variable = {"name": "V", "valueFrom": reference}
    with pytest.raises(ConfigMissing):
        variables(variable)
    check_environments(plan(variable), "team")


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        (field("spec.hostname"), "spec.nodeName"),
        (field("metadata.labels"), "metadata.labels['KEY']"),
        ({"name": "V", "valueFrom": {"fileKeyRef": {"path": "x"}}}, "fileKeyRef cannot be honoured"),
        ({"name": "V", "valueFrom": {"resourceFieldRef": {"resource": "cpu"}}}, "limits.cpu"),
        ({"name": "V", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "containerName": "x"}}}, "'x'"),
        ({"name": "V", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "x"}}}, "quantity"),
    ],
)
def test_what_cannot_be_honoured_is_refused(variable: dict[str, Any], says: str) -> None:
    with pytest.raises(PodRefused, match="env V of container main") as caught:
        check_environments(plan(variable), "team")
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["", "A=B", "A\0"])
def test_a_variable_s_name(name: str) -> None:
    with pytest.raises(InvalidObjectError, match=r"spec.containers\[0\].env\[0\].name"):
        plan({"name": name, "value": "x"})


def test_command_lines() -> None:
    made = plan(command=["run", "$(A)"], args=["--n=$(N)", "$$(A)"])
    assert command_line(made.containers[0], {"A": "1", "N": "3"}) == (("run", "1"), ("--n=3", "$(A)"))


def test_the_host_s_own_environment_is_a_login_s() -> None:
    own = {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "AWS_SECRET": "x", "PYTHONPATH": "/x"}
    assert host_environment(own) == {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C"}
    assert host_environment({})["PATH"].endswith("/bin")


def test_programs_are_found_as_a_shell_finds_them(tmp_path: Any) -> None:
    program = tmp_path / "bin" / "tool"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    with pytest.raises(LaunchFailed, match="cannot be executed") as caught:
        resolve(["bin/tool"], "/bin", str(tmp_path))
    assert caught.value.code == 126
    program.chmod(0o755)
    assert resolve(["bin/tool", "a"], "/bin", str(tmp_path)) == ("bin/tool", "a")
    assert resolve(["tool", "a"], f"/none:{program.parent}", "/") == (str(program), "a")
    assert resolve([str(program)], "", "/") == (str(program),)
    for wrong in (["tool"], ["./tool"], [str(tmp_path / "none")]):
        with pytest.raises(LaunchFailed) as caught:
            resolve(wrong, "/bin", str(tmp_path))
        assert caught.value.code == 127

"""What people change with kubectl, and how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

JOB = """
apiVersion: fleet.quarterdeck.dev/v1alpha1
kind: FleetJob
metadata: {name: a}
spec:
  tasks: 5
  template:
    spec:
      containers: [{name: main, image: busybox, command: [date]}]
"""
NAME = "fleetjob.fleet.quarterdeck.dev/a"


def spec(kubectl: Any, path: str) -> str:
    out: str = kubectl("get", "fj", "a", "-o", f"jsonpath={{{path}}}").out
    return out


def test_create_and_delete(kubectl: Any) -> None:
    file = kubectl.file(JOB)
    assert kubectl("create", "-f", file).lines == [f"{NAME} created"]
    assert 'fleetjobs.fleet.quarterdeck.dev "a" already exists' in kubectl("create", "-f", file, fails=True).err
    assert kubectl("delete", "-f", file).lines[0].startswith('fleetjob.fleet.quarterdeck.dev "a" deleted')
    assert 'fleetjobs.fleet.quarterdeck.dev "a" not found' in kubectl("delete", "fj", "a", fails=True).err
    assert kubectl("delete", "fj", "a", "--ignore-not-found").out == ""


def test_apply_on_the_clients_side(kubectl: Any) -> None:
    file, other = (
        kubectl.file(JOB),
        kubectl.file(JOB.replace("tasks: 5", "tasks: 5\n  parallelism: 2\n  suspend: true")),
    )
    assert kubectl("apply", "-f", file).lines == [f"{NAME} created"]
    assert kubectl("apply", "-f", file).lines == [f"{NAME} unchanged"]
    difference = kubectl("diff", "-f", other, fails=True).out
    assert "+  parallelism: 2" in difference
    assert "-  suspend: false\n+  suspend: true" in difference
    assert kubectl("apply", "-f", other, "--dry-run=server").lines == [f"{NAME} configured (server dry run)"]
    assert spec(kubectl, ".spec.parallelism") == ""
    assert kubectl("apply", "-f", other).lines == [f"{NAME} configured"]
    assert spec(kubectl, ".spec.parallelism") == "2"
    assert kubectl("apply", "-f", file).lines == [f"{NAME} configured"]
    assert (spec(kubectl, ".spec.parallelism"), spec(kubectl, ".spec.suspend")) == ("", "false")
    assert kubectl("diff", "-f", file).out == ""


def test_dry_runs_store_nothing(kubectl: Any) -> None:
    file = kubectl.file(JOB)
    for mode in ("client", "server"):
        assert kubectl("create", "-f", file, f"--dry-run={mode}", "-o", "name").lines == [NAME]
    shown = json.loads(kubectl("create", "-f", file, "--dry-run=server", "-o", "json").out)
    assert shown["spec"]["queueName"] == "default", "with defaults, as it would be stored"
    assert kubectl("get", "fj").out == ""


def test_apply_on_the_servers_side(kubectl: Any) -> None:
    file = kubectl.file(JOB.replace("tasks: 5", "tasks: 5\n  parallelism: 2"))
    other = kubectl.file(JOB.replace("tasks: 5", "tasks: 5\n  parallelism: 3"))
    assert kubectl("apply", "--server-side", "-f", file).lines == [f"{NAME} serverside-applied"]
    version = spec(kubectl, ".metadata.resourceVersion")
    kubectl("apply", "--server-side", "-f", file)
    assert spec(kubectl, ".metadata.resourceVersion") == version, "applied again, it is no change"
    refused = kubectl("apply", "--server-side", "--field-manager=ci", "-f", other, fails=True).err
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .spec.parallelism' in refused
    assert "--force-conflicts" in refused
    kubectl("apply", "--server-side", "--field-manager=ci", "--force-conflicts", "-f", other)
    assert spec(kubectl, ".spec.parallelism") == "3"
    managers = json.loads(kubectl("get", "fj", "a", "-o", "json", "--show-managed-fields").out)["metadata"][
        "managedFields"
    ]
    owners = {entry["manager"]: "f:parallelism" in entry["fieldsV1"]["f:spec"] for entry in managers}
    assert owners == {"kubectl": False, "ci": True}
    kubectl("apply", "--server-side", "--field-manager=ci", "-f", kubectl.file(JOB))
    assert spec(kubectl, ".spec.parallelism") == "", "nobody wants it any more"


def test_from_one_side_to_the_other_nothing_of_others_is_lost(kubectl: Any) -> None:
    kubectl("apply", "-f", kubectl.file(JOB.replace("tasks: 5", "tasks: 5\n  parallelism: 2")))
    kubectl("label", "fj", "a", "by=hand")
    kubectl("patch", "fj", "a", "--type=merge", "-p", '{"metadata": {"finalizers": ["example.com/keep"]}}')
    kubectl("apply", "--server-side", "-f", kubectl.file(JOB))
    assert spec(kubectl, ".metadata.labels.by") == "hand"
    assert spec(kubectl, ".metadata.finalizers[0]") == "example.com/keep"
    assert spec(kubectl, ".spec.parallelism") == "", "kubectl had applied it, and no longer does"
    kubectl("patch", "fj", "a", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')


@pytest.fixture
def job(kubectl: Any) -> Any:
    kubectl("create", "-f", kubectl.file(JOB))
    return kubectl


def test_labels_and_annotations(job: Any) -> None:
    assert job("label", "fj", "a", "x=1").lines == [f"{NAME} labeled"]
    assert "--overwrite is false" in job("label", "fj", "a", "x=2", fails=True).err
    job("label", "fj", "a", "x=2", "--overwrite")
    assert job("annotate", "fj", "a", "note=a b c").lines == [f"{NAME} annotated"]
    assert (spec(job, ".metadata.labels.x"), spec(job, ".metadata.annotations.note")) == ("2", "a b c")
    assert spec(job, ".metadata.generation") == "1", "metadata is no new generation"
    job("label", "fj", "a", "x-")
    assert spec(job, ".metadata.labels") == ""
    assert "a valid label must be" in job("label", "fj", "a", "x=b c", fails=True).err


def test_three_kinds_of_patches(job: Any) -> None:
    assert job("patch", "fj", "a", "--type=merge", "-p", '{"spec": {"parallelism": 3}}').lines == [f"{NAME} patched"]
    assert job("patch", "fj", "a", "--type=merge", "-p", '{"spec": {"parallelism": 3}}').lines == [
        f"{NAME} patched (no change)"
    ]
    path = "/spec/parallelism"
    replace = json.dumps([{"op": "test", "path": path, "value": 3}, {"op": "replace", "path": path, "value": 4}])
    job("patch", "fj", "a", "--type=json", "-p", replace)
    assert spec(job, ".spec.parallelism") == "4"
    assert (
        "testing value /spec/parallelism failed"
        in job("patch", "fj", "a", "--type=json", "-p", replace, fails=True).err
    )
    strategic = job("patch", "fj", "a", "-p", '{"spec": {"parallelism": 5}}', fails=True).err
    assert "application/strategic-merge-patch+json is not supported" in strategic
    assert "merge-patch+json" in strategic
    job("create", "deployment", "d", "--image=one")
    job(
        "patch",
        "deployment",
        "d",
        "-p",
        '{"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "two"}]}}}}',
    )
    assert job("get", "deploy", "d", "-o", "jsonpath={.spec.template.spec.containers[*].image}").out == "one two"


def test_edit(job: Any) -> None:
    editor = job.script("sed -i 's/tasks: 5/tasks: 5\\n  parallelism: 4/' \"$1\"")
    assert job("edit", "fj", "a", editor=editor).lines == [f"{NAME} edited"]
    assert spec(job, ".spec.parallelism") == "4"
    same = job.script("true")
    assert "Edit cancelled, no changes made." in job("edit", "fj", "a", editor=same).err


def test_edit_opens_the_file_again_with_what_is_wrong(job: Any) -> None:
    seen = job.file("")
    wrong = job.script(f'cat "$1" >> {seen}\nsed -i "s/tasks: 5/tasks: 0/" "$1"')
    job("edit", "fj", "a", editor=wrong, fails=True)
    with open(seen) as file:
        told = file.read()
    assert "# * spec.tasks: Invalid value: 0: spec.tasks in body should be greater than or equal to 1" in told


def test_replace(job: Any) -> None:
    assert job("replace", "-f", job.file(JOB + "  parallelism: 2\n")).lines == [f"{NAME} replaced"]
    uid = spec(job, ".metadata.uid")
    job("replace", "--force", "-f", job.file(JOB))
    assert spec(job, ".metadata.uid") != uid


def test_a_kind_without_replicas_cannot_be_scaled(job: Any) -> None:
    assert "could not find the requested resource" in job("scale", "fj/a", "--replicas=2", fails=True).err


def test_a_stale_write_is_a_conflict(job: Any) -> None:
    stale = job("get", "fj", "a", "-o", "yaml").out
    job("label", "fj", "a", "x=1")
    refused = job("replace", "-f", job.file(stale), fails=True).err
    assert "the object has been modified; please apply your changes to the latest version and try again" in refused


def test_deletion_waits_for_finalizers(job: Any) -> None:
    job("patch", "fj", "a", "--type=merge", "-p", '{"metadata": {"finalizers": ["example.com/keep"]}}')
    assert "timed out" in job("delete", "fj", "a", "--timeout=300ms", fails=True).err
    assert spec(job, ".metadata.deletionTimestamp") != ""
    job("delete", "fj", "a", "--wait=false")
    waiting = job.start("wait", "--for=delete", "fj/a", "--timeout=20s")
    job("patch", "fj", "a", "--type=json", "-p", '[{"op": "remove", "path": "/metadata/finalizers"}]')
    try:
        assert waiting.wait(20) == 0
    finally:
        waiting.kill()
        waiting.communicate()
    assert job("get", "fj").out == ""


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_what_becomes_of_what_is_owned(job: Any, cascade: str) -> None:
    uid = spec(job, ".metadata.uid")
    child = f"""
apiVersion: v1
kind: ConfigMap
metadata:
  name: child
  ownerReferences:
  - {{apiVersion: fleet.quarterdeck.dev/v1alpha1, kind: FleetJob, name: a, uid: {uid}, blockOwnerDeletion: true}}
"""
    job("create", "-f", job.file(child))
    job("delete", "fj", "a", f"--cascade={cascade}", "--timeout=20s")
    if cascade == "orphan":
        assert job("get", "cm", "child", "-o", "jsonpath={.metadata.ownerReferences}").out == ""
    else:
        job("wait", "--for=delete", "cm/child", "--timeout=20s")
        assert "not found" in job("get", "cm", "child", fails=True).err


def test_a_namespace_takes_everything_with_it(kubectl: Any) -> None:
    name = f"{kubectl.namespace}-gone"
    kubectl("create", "namespace", name)
    kubectl(
        "create", "-f", kubectl.file(JOB.replace("{name: a}", f"{{name: a, namespace: {name}}}")), f"--namespace={name}"
    )
    kubectl("delete", "namespace", name, "--timeout=20s")
    assert "not found" in kubectl("get", "namespace", name, fails=True).err
    assert kubectl("get", "fj", f"--namespace={name}").out == ""


def test_a_crd_of_ones_own(kubectl: Any) -> None:
    group = f"{kubectl.namespace}.example.com"
    crd = f"""
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: boats.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{plural: boats, kind: Boat}}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {{scale: {{specReplicasPath: .spec.oars, statusReplicasPath: .spec.oars}}}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: {{oars: {{type: integer, minimum: 1}}}}
"""
    broken = crd.replace("statusReplicasPath: .spec.oars", "statusReplicasPath: .status.oars").replace(
        "type: integer", "type: whole"
    )
    refused = kubectl("create", "-f", kubectl.file(broken), fails=True).err
    assert "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[oars].type" in refused
    assert "allowed: object, array, string, integer, number, boolean" in refused
    kubectl(
        "create", "-f", kubectl.file(crd.replace("statusReplicasPath: .spec.oars", "statusReplicasPath: .status.oars"))
    )
    kubectl("wait", "--for=condition=Established", f"crd/boats.{group}", "--timeout=10s")
    boat = f"{{apiVersion: {group}/v1, kind: Boat, metadata: {{name: a}}, spec: {{oars: 2}}}}"
    kubectl("create", "-f", kubectl.file(boat))
    kubectl("scale", f"boats.{group}/a", "--replicas=4")
    assert kubectl("get", f"boats.{group}", "a", "-o", "jsonpath={.spec.oars}").out == "4"
    refused = kubectl("scale", f"boats.{group}/a", "--replicas=0", fails=True).err
    assert "spec.oars in body should be greater than or equal to 1" in refused
    kubectl("delete", "crd", f"boats.{group}", "--timeout=20s")
    assert "the server doesn't have a resource type" in kubectl("get", f"boats.{group}", fails=True).err

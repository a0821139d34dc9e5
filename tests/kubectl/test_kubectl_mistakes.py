"""Mistakes, and the words that a person needs to see them."""

from __future__ import annotations

from typing import Any

import pytest

HEAD = "apiVersion: fleet.quarterdeck.dev/v1alpha1\nkind: FleetJob\nmetadata: {name: a}\n"
POD = "template: {spec: {containers: [{name: main, image: busybox, command: [date]}]}}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            f"{HEAD}spec: {{tasks: 0, {POD}}}",
            'The FleetJob "a" is invalid: spec.tasks: Invalid value: 0: '
            "spec.tasks in body should be greater than or equal to 1",
        ),
        (
            f"{HEAD}spec: {{tasks: five, {POD}}}",
            'spec.tasks: Invalid value: "string": spec.tasks in body must be of type integer: "string"',
        ),
        (f"{HEAD}spec: {{colour: red, {POD}}}", 'strict decoding error: unknown field "spec.colour"'),
        (
            f"{HEAD}spec: {{{POD.replace('command', 'comand')}}}",
            'strict decoding error: unknown field "spec.template.spec.containers[0].comand"',
        ),
        (f"{HEAD}spec: {{tasks: 5}}", "spec.template: Required value"),
        (
            f"{HEAD}spec: {{expectedDuration: soon, {POD}}}",
            'spec.expectedDuration: Invalid value: "soon": spec.expectedDuration in body should match',
        ),
        (
            f"{HEAD}spec: {{gpu: {{count: 2, share: 500m}}, {POD}}}",
            "a share is a part of one GPU: leave out count, or set it to 1",
        ),
        (
            f"{HEAD}spec: {{placementRef: {{name: a}}, placement: {{}}, {POD}}}",
            "write placement or placementRef, not both",
        ),
        (f"{HEAD.replace('name: a', 'name: My_Job')}spec: {{{POD}}}", 'metadata.name: Invalid value: "My_Job"'),
        (f"{HEAD.replace('FleetJob', 'FleetJobs')}spec: {{{POD}}}", 'no matches for kind "FleetJobs"'),
        (f"{HEAD.replace('v1alpha1', 'v1')}spec: {{{POD}}}", 'in version "fleet.quarterdeck.dev/v1"'),
        (
            "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: {template: {spec: {containers: [{name: a}]}}}",
            'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
        ),
        (
            "apiVersion: cluster.open-cluster-management.io/v1beta2\nkind: ManagedClusterSet\nmetadata: {name: a}\n"
            "spec: {clusterSelector: {selectorType: Mine}}",
            'Unsupported value: "Mine": supported values: "ExclusiveClusterSetLabel", "LabelSelector"',
        ),
        (
            "apiVersion: cluster.open-cluster-management.io/v1\nkind: ManagedCluster\nmetadata: {name: a}\n"
            "spec: {taints: [{key: a, effect: NoSchedule}]}",
            'supported values: "NoSelect", "PreferNoSelect", "NoSelectIfNew"',
        ),
    ],
)
def test_what_is_wrong_is_said_by_field(kubectl: Any, text: str, words: str) -> None:
    file = kubectl.file(text)
    refused = kubectl("create", "-f", file, fails=True).err
    assert words in refused
    assert kubectl("create", "-f", file, "--dry-run=server", fails=True).err.count("nvalid") == refused.count("nvalid")


def test_several_mistakes_are_said_at_once(kubectl: Any) -> None:
    refused = kubectl(
        "apply", "-f", kubectl.file(f"{HEAD}spec: {{tasks: 0, parallelism: 0, suspend: 1, {POD}}}"), fails=True
    )
    for field in ("spec.tasks", "spec.parallelism", "spec.suspend"):
        assert f"* {field}: Invalid value" in refused.err


def test_unknown_fields_can_be_a_warning(kubectl: Any) -> None:
    told = kubectl("apply", "--validate=warn", "-f", kubectl.file(f"{HEAD}spec: {{colour: red, {POD}}}"))
    assert 'Warning: unknown field "spec.colour"' in told.err
    assert kubectl("get", "fj", "a", "-o", "jsonpath={.spec.colour}").out == ""
    refused = kubectl("apply", "--server-side", "-f", kubectl.file(f"{HEAD}spec: {{hue: red, {POD}}}"), fails=True).err
    assert ".spec.hue: field not declared in schema" in refused


def test_what_cannot_change_says_what_to_do(kubectl: Any) -> None:
    kubectl("apply", "-f", kubectl.file(f"{HEAD}spec: {{tasks: 5, {POD}}}"))
    refused = kubectl("apply", "-f", kubectl.file(f"{HEAD}spec: {{tasks: 6, {POD}}}"), fails=True).err
    assert "spec.tasks: Invalid value" in refused
    assert "tasks cannot change once the job exists; submit another job" in refused


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("get", "fj", "nope"), 'fleetjobs.fleet.quarterdeck.dev "nope" not found'),
        (("get", "nope"), 'the server doesn\'t have a resource type "nope"'),
        (("get", "fj", "-l", "a b"), "unable to parse label selector"),
        (("get", "fj", "--field-selector=spec.x=1"), "field label not supported: spec.x"),
        (("create", "configmap", "c", "--namespace=nope"), 'namespaces "nope" not found'),
        (("create", "namespace", "Nope"), "metadata.name: Invalid value"),
        (("get", "workloads.v9.kueue.x-k8s.io"), "the server doesn't have a resource type"),
    ],
)
def test_commands_that_cannot_work(kubectl: Any, command: tuple[str, ...], words: str) -> None:
    assert words in kubectl(*command, fails=True).err


def test_an_older_version_is_served_with_a_warning(kubectl: Any) -> None:
    name = kubectl.namespace
    queue = f"apiVersion: kueue.x-k8s.io/v1beta1\nkind: ClusterQueue\nmetadata: {{name: {name}}}\nspec: {{cohort: all}}"
    told = kubectl("apply", "-f", kubectl.file(queue))
    assert "kueue.x-k8s.io/v1beta1 ClusterQueue is deprecated" in told.err
    assert kubectl("get", "clusterqueue", kubectl.namespace, "-o", "jsonpath={.spec.cohortName}").out == "all"

"""Kubernetes' own kinds by kubectl's own commands, which send protobuf, and who one is."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("arguments", "kind", "path", "value"),
    [
        (("configmap", "x", "--from-literal=a=b"), "cm", ".data.a", "b"),
        (("secret", "generic", "x", "--from-literal=a=b"), "secret", ".data.a", "Yg=="),
        (("serviceaccount", "x"), "sa", ".metadata.name", "x"),
        (
            ("job", "x", "--image=busybox", "--", "date", "-u"),
            "job",
            ".spec.template.spec.containers[0].command",
            '["date","-u"]',
        ),
        (("deployment", "x", "--image=nginx", "--replicas=3"), "deploy", ".spec.replicas", "3"),
        (("service", "clusterip", "x", "--tcp=80:8080"), "svc", ".spec.ports[0].targetPort", "8080"),
    ],
)
def test_create_commands(kubectl: Any, arguments: tuple[str, ...], kind: str, path: str, value: str) -> None:
    kubectl("create", *arguments)
    assert kubectl("get", kind, "x", "-o", f"jsonpath={{{path}}}").out == value
    assert "Name:" in kubectl("describe", kind, "x").out
    kubectl("delete", kind, "x", "--timeout=10s")


def test_a_job_as_kubectl_shows_it(kubectl: Any) -> None:
    kubectl("create", "job", "x", "--image=busybox", "--", "date")
    assert kubectl("get", "jobs").lines == ["NAME  STATUS  COMPLETIONS  DURATION  AGE", "x  Running  0/1  AGE"]
    status = {
        "succeeded": 1,
        "startTime": "2026-01-01T00:00:00Z",
        "completionTime": "2026-01-01T00:03:20Z",
        "conditions": [{"type": "Complete", "status": "True"}],
    }
    kubectl("patch", "job", "x", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    assert kubectl("get", "jobs", "-o", "wide", "--no-headers").lines == [
        "x  Complete  1/1  3m20s  AGE  x  busybox  <none>"
    ]
    kubectl("wait", "--for=condition=complete", "job/x", "--timeout=10s")
    assert "1 Succeeded" in kubectl("describe", "job", "x").out


def test_pods_and_all(kubectl: Any) -> None:
    kubectl("run", "p", "--image=busybox", "--restart=Never", "--", "sleep", "1")
    kubectl("create", "deployment", "d", "--image=nginx")
    kubectl("scale", "deployment", "d", "--replicas=2")
    listed = kubectl("get", "all").out
    for words in ("pod/p   0/1     Pending", "deployment.apps/d   0/2"):
        assert words in listed
    kubectl("set", "image", "pod/p", "p=alpine")
    assert kubectl("get", "pod", "p", "-o", "jsonpath={.spec.containers[0].image}").out == "alpine"
    kubectl("delete", "pods,deployments", "--all", "--timeout=10s")


def test_who_one_is_and_what_one_may(kubectl: Any) -> None:
    assert "admin" in kubectl("auth", "whoami").out
    assert kubectl("auth", "can-i", "create", "fleetjobs").out == "yes\n"
    assert "*.*" in kubectl("auth", "can-i", "--list").out


def test_the_server_says_who_it_is(kubectl: Any) -> None:
    version = json.loads(kubectl("version", "-o", "json").out)["serverVersion"]
    assert version["gitVersion"].endswith("quarterdeck")
    assert kubectl("get", "--raw", "/healthz").out == "ok"
    assert "is running at" in kubectl("cluster-info").out

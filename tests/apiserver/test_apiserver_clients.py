"""The API as others' clients use it: the official ones, kopf, kubectl."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import kopf
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hub.api.resource import FLEET_JOBS
from hub.apiserver import ApiServer
from hub.apiserver.kubeconfig import write_kubeconfig
from hub.apiserver.server import serve

JOB = {
    "apiVersion": "fleet.quarterdeck.dev/v1alpha1",
    "kind": "FleetJob",
    "metadata": {"name": "j"},
    "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "busybox"}]}}},
}


def configuration(module: Any, server: ApiServer) -> Any:
    found = module.Configuration()
    found.host = server.url
    found.api_key = {"authorization": f"Bearer {server.token}", "BearerToken": f"Bearer {server.token}"}
    return found


async def test_the_official_client(api_server: ApiServer) -> None:
    from kubernetes import client, dynamic, watch

    def use() -> None:
        with client.ApiClient(configuration(client, api_server)) as connection:
            core = client.CoreV1Api(connection)
            core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="n")))
            made = core.create_namespaced_config_map(
                "n", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a"), data={"x": "1"})
            )
            made.data["x"] = "2"
            assert core.replace_namespaced_config_map("a", "n", made).data == {"x": "2"}
            with pytest.raises(client.ApiException) as refusal:
                core.replace_namespaced_config_map("a", "n", made)
            assert refusal.value.status == 409
            assert core.patch_namespaced_config_map("a", "n", {"data": {"y": "3"}}).data == {"x": "2", "y": "3"}
            listed = core.list_config_map_for_all_namespaces(label_selector="!none", limit=1)
            assert [item.metadata.name for item in listed.items] == ["a"]
            lease = client.V1Lease(
                metadata=client.V1ObjectMeta(name="l"), spec=client.V1LeaseSpec(holder_identity="me")
            )
            assert client.CoordinationV1Api(connection).create_namespaced_lease("n", lease).spec.holder_identity == "me"
            custom = client.CustomObjectsApi(connection)
            job = custom.create_namespaced_custom_object("fleet.quarterdeck.dev", "v1alpha1", "n", "fleetjobs", JOB)
            job["status"] = {"phase": "Running"}
            custom.replace_namespaced_custom_object_status(
                "fleet.quarterdeck.dev", "v1alpha1", "n", "fleetjobs", "j", job
            )
            stream = watch.Watch().stream(core.list_namespaced_config_map, "n", timeout_seconds=1)
            seen = [(event["type"], event["object"].metadata.name) for event in stream]
            assert seen == [("ADDED", "a")]
            resources = dynamic.DynamicClient(connection)
            jobs = resources.resources.get(api_version="fleet.quarterdeck.dev/v1alpha1", kind="FleetJob")
            assert jobs.get(name="j", namespace="n").status.phase == "Running"
            applied = resources.server_side_apply(
                jobs,
                {**JOB, "metadata": {"name": "k"}},
                name="k",
                namespace="n",
                field_manager="test",
            )
            assert applied.metadata.managedFields[0].manager == "test"
            core.delete_namespace("n")

    await asyncio.to_thread(use)


async def test_the_official_asynchronous_client(api_server: ApiServer) -> None:
    from kubernetes.aio import client, watch

    settings = configuration(client, api_server)
    settings.client_session_kwargs = {"trust_env": False}
    async with client.ApiClient(settings) as connection:
        core = client.CoreV1Api(connection)
        await core.create_namespaced_config_map(
            "default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a"), data={"x": "1"})
        )
        found = await core.read_namespaced_config_map("a", "default")
        assert found.data == {"x": "1"}
        async with watch.Watch().stream(core.list_namespaced_config_map, "default", timeout_seconds=1) as stream:
            seen = [(event["type"], event["object"].metadata.name) async for event in stream]
        assert seen == [("ADDED", "a")]
        await core.delete_namespaced_config_map("a", "default")
        with pytest.raises(client.ApiException) as refusal:
            await core.read_namespaced_config_map("a", "default")
        assert refusal.value.status == 404


async def test_kopf_handles_an_objects_whole_life(api_server: ApiServer) -> None:
    registry = kopf.OperatorRegistry()
    log: list[str] = []

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=api_server.url, token=api_server.token)

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = True
        settings.persistence.finalizer = "quarterdeck.test/kopf"

    @kopf.on.create("fleetjobs", registry=registry)
    def created(name: str, patch: kopf.Patch, **_: Any) -> None:
        log.append(f"create {name}")
        patch.status["phase"] = "Queued"

    @kopf.on.update("fleetjobs", field="spec.suspend", registry=registry)
    def updated(new: Any, **_: Any) -> None:
        log.append(f"suspend {new}")

    @kopf.on.delete("fleetjobs", registry=registry)
    def deleted(name: str, **_: Any) -> None:
        log.append(f"delete {name}")

    stop, ready = threading.Event(), threading.Event()

    def operate() -> None:
        asyncio.run(
            kopf.operator(registry=registry, standalone=True, clusterwide=True, stop_flag=stop, ready_flag=ready)
        )

    api = api_server.in_process()

    async def wait_for(entry: str) -> None:
        async with asyncio.timeout(20):
            while entry not in log:
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=operate)
    thread.start()
    try:
        async with asyncio.timeout(20):
            while not ready.is_set():
                await asyncio.sleep(0.02)
        await api.create(FLEET_JOBS, JOB, "default")
        await wait_for("create j")
        async with asyncio.timeout(20):
            while True:
                found = await api.get(FLEET_JOBS, "j", "default")
                if (found.get("status") or {}).get("phase") == "Queued":
                    break
                await asyncio.sleep(0.02)
        assert found["metadata"]["finalizers"] == ["quarterdeck.test/kopf"]
        await api.patch(FLEET_JOBS, "j", {"spec": {"suspend": True}}, "default")
        await wait_for("suspend True")
        await api.delete(FLEET_JOBS, "j", "default")
        await wait_for("delete j")
        async with asyncio.timeout(20):
            while (await api.list(FLEET_JOBS)).items:
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, 20)


KUBECTL = shutil.which("kubectl", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


class Kubectl:
    def __init__(self, binary: str, kubeconfig: Path, home: Path) -> None:
        self._binary = binary
        self._environment = {"KUBECONFIG": str(kubeconfig), "HOME": str(home), "PATH": os.environ.get("PATH", "")}

    async def __call__(self, *arguments: str, stdin: str = "", fails: bool = False, editor: str = "") -> str:
        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [self._binary, *arguments],
                input=stdin,
                env={**self._environment, "EDITOR": editor},
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )

        done = await asyncio.to_thread(run)
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
async def kubectl(tmp_path: Path) -> AsyncIterator[Kubectl]:
    if KUBECTL is None:
        pytest.skip("no kubectl on PATH")
    async with serve(tmp_path / "api", self_signed=True) as server:
        write_kubeconfig(tmp_path / "kubeconfig", server.url, server.token, user="admin", ca=server.authority)
        yield Kubectl(KUBECTL, tmp_path / "kubeconfig", tmp_path)


FLEET_JOB_YAML = """
apiVersion: fleet.quarterdeck.dev/v1alpha1
kind: FleetJob
metadata: {name: train, namespace: team-a}
spec:
  tasks: 3
  template: {spec: {containers: [{name: main, image: busybox, command: [date]}]}}
"""


@pytest.mark.kubectl
async def test_kubectl_installs_and_reads_kinds(kubectl: Kubectl) -> None:
    crds = str(Path(__file__).parents[2] / "manifests" / "crds")
    assert "fleetjobs.fleet.quarterdeck.dev serverside-applied" in await kubectl("apply", "--server-side", "-f", crds)
    assert "serverside-applied" in await kubectl("apply", "--server-side", "-f", crds)
    resources = await kubectl("api-resources", "--no-headers")
    assert any(line.split()[:2] == ["fleetjobs", "fj"] for line in resources.splitlines())
    await kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=10s")
    explained = await kubectl("explain", "fleetjob.spec")
    assert "tasks" in explained
    assert "<integer>" in explained
    assert "tasks" in await kubectl("explain", "fj.spec", "--recursive")


@pytest.mark.kubectl
async def test_kubectl_takes_a_job_through_its_life(kubectl: Kubectl) -> None:
    await kubectl("apply", "--server-side", "-f", str(Path(__file__).parents[2] / "manifests" / "crds"))
    await kubectl("create", "namespace", "team-a")
    assert "created" in await kubectl("apply", "-f", "-", stdin=FLEET_JOB_YAML)
    assert "unchanged" in await kubectl("apply", "-f", "-", stdin=FLEET_JOB_YAML)
    table = await kubectl("get", "managedclusters,fleetjobs,workloads,manifestworks", "-A")
    assert "NAMESPACE" in table
    assert "train" in table
    refused = await kubectl("apply", "-f", "-", stdin=FLEET_JOB_YAML.replace("tasks: 3", "tasks: many"), fails=True)
    assert "spec.tasks" in refused
    unknown = await kubectl("apply", "-f", "-", stdin=FLEET_JOB_YAML + "  nonsense: 1\n", fails=True)
    assert 'unknown field "spec.nonsense"' in unknown
    assert "configured" in await kubectl("apply", "-f", "-", stdin=FLEET_JOB_YAML + "  suspend: true\n")
    assert "+  suspend: false" in await kubectl(
        "diff", "-f", "-", stdin=FLEET_JOB_YAML + "  suspend: false\n", fails=True
    )
    editor = "sed -i s/suspend:.true/suspend:\\ false/"
    assert "edited" in await kubectl("edit", "fleetjob", "train", "-n", "team-a", editor=editor)
    assert "labeled" in await kubectl("label", "fleetjob", "train", "-n", "team-a", "a=b")
    assert "train" in await kubectl("get", "fj", "-n", "team-a", "-l", "a=b", "-o", "name")
    condition = {"type": "Succeeded", "status": "True", "reason": "Succeeded", "message": "m"}
    status = {"phase": "Succeeded", "conditions": [{**condition, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    how = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    await kubectl("patch", "fleetjob", "train", "-n", "team-a", *how)
    waited = await kubectl("wait", "--for=condition=Succeeded", "fj/train", "-n", "team-a", "--timeout=10s")
    assert "condition met" in waited
    assert "Succeeded" in await kubectl("describe", "fj", "train", "-n", "team-a")
    assert '"suspend":false' in await kubectl("get", "fj", "train", "-n", "team-a", "-o", "jsonpath={.spec}")
    watched = await kubectl("get", "fj", "-A", "--watch", "--request-timeout=2s", "-o", "name")
    assert "fleetjob.fleet.quarterdeck.dev/train" in watched
    assert "deleted" in await kubectl("delete", "fj", "train", "-n", "team-a")
    assert "deleted" in await kubectl("delete", "namespace", "team-a", "--timeout=10s")


@pytest.mark.kubectl
async def test_kubectl_with_built_in_kinds(kubectl: Kubectl) -> None:
    # These are sent as protobuf.
    await kubectl("create", "configmap", "a", "--from-literal=x=1")
    await kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    await kubectl("create", "serviceaccount", "robot")
    assert "Yg==" in await kubectl("get", "secret", "s", "-o", "yaml")
    assert await kubectl("auth", "can-i", "create", "jobs") == "yes\n"
    assert "admin" in await kubectl("auth", "whoami")
    await kubectl("create", "job", "j", "--image=busybox", "--", "date")
    assert "0/1" in await kubectl("get", "jobs")
    deployment = await kubectl("create", "deployment", "d", "--image=x", "--dry-run=client", "-o", "yaml")
    await kubectl("apply", "-f", "-", stdin=deployment)
    assert "scaled" in await kubectl("scale", "deployment", "d", "--replicas=3")
    assert "0/3" in await kubectl("get", "deployment", "d")
    dry = await kubectl("create", "configmap", "b", "--dry-run=server", "-o", "name")
    assert dry == "configmap/b\n"
    assert "NotFound" in await kubectl("get", "configmap", "b", fails=True)
    assert "annotated" in await kubectl("annotate", "configmap", "a", "k=v")
    strategic = await kubectl("patch", "configmap", "a", "-p", '{"data":{"y":"2"}}')
    assert "patched" in strategic
    replaced = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {z: '3'}}"
    assert "replaced" in await kubectl("replace", "-f", "-", stdin=replaced)
    assert await kubectl("get", "cm", "a", "-o", "jsonpath={.data}") == '{"z":"3"}'
    assert "deleted" in await kubectl("delete", "cm,secret,job,deployment", "--all")
    assert await kubectl("get", "--raw", "/readyz") == "ok"


@pytest.mark.kubectl
async def test_kubectl_with_roles_tokens_and_certificates(kubectl: Kubectl, tmp_path: Path) -> None:
    # These, too, are sent as protobuf.
    await kubectl("create", "serviceaccount", "robot")
    await kubectl("create", "role", "reader", "--verb=get,list", "--resource=configmaps", "--resource-name=a")
    await kubectl("create", "rolebinding", "reader", "--role=reader", "--serviceaccount=default:robot")
    await kubectl("create", "clusterrole", "paths", "--verb=get", "--non-resource-url=/metrics")
    await kubectl("create", "clusterrole", "all", "--aggregation-rule=a=b")
    await kubectl("create", "clusterrolebinding", "paths", "--clusterrole=paths", "--user=jane", "--group=devs")
    await kubectl("create", "configmap", "a", "--from-literal=x=1")
    robot = "--as=system:serviceaccount:default:robot"
    assert await kubectl("auth", "can-i", "get", "configmap/a", robot) == "yes\n"
    assert "no" in await kubectl("auth", "can-i", "delete", "configmap/a", robot, fails=True)
    assert await kubectl("auth", "can-i", "get", "/metrics", "--as=x", "--as-group=devs") == "yes\n"
    assert "configmaps" in await kubectl("auth", "can-i", "--list", robot)
    token = (await kubectl("create", "token", "robot", "--duration=20m")).strip()
    assert await kubectl("get", "cm", "a", "--token", token, "-o", "name") == "configmap/a\n"
    refused = await kubectl("get", "cm", "--token", token, fails=True)
    assert 'User "system:serviceaccount:default:robot" cannot list resource "configmaps"' in refused
    shown = await kubectl("get", "clusterrolebinding", "paths", "-o", "wide")
    assert [word for word in ("ClusterRole/paths", "jane", "devs") if word not in shown] == []
    assert "a: b" in await kubectl("get", "clusterrole", "all", "-o", "yaml")
    key, request = tmp_path / "key.pem", tmp_path / "request.pem"
    made = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "jane")])
    pem = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(made, SHA256()).public_bytes(Encoding.PEM)
    request.write_text(
        json.dumps(
            {
                "apiVersion": "certificates.k8s.io/v1",
                "kind": "CertificateSigningRequest",
                "metadata": {"name": "jane"},
                "spec": {
                    "request": base64.b64encode(pem).decode(),
                    "signerName": "kubernetes.io/kube-apiserver-client",
                    "usages": ["client auth"],
                },
            }
        )
    )
    await kubectl("create", "-f", str(request))
    assert "Pending" in await kubectl("get", "csr", "jane")
    assert "approved" in await kubectl("certificate", "approve", "jane")
    await kubectl("wait", "--for=jsonpath={.status.certificate}", "csr/jane", "--timeout=10s")
    assert "Approved,Issued" in await kubectl("get", "csr", "jane")
    certificate = tmp_path / "jane.pem"
    encoded = await kubectl("get", "csr", "jane", "-o", "jsonpath={.status.certificate}")
    certificate.write_bytes(base64.b64decode(encoded))
    shown_by = (f"--client-certificate={certificate}", f"--client-key={key}")
    await kubectl("config", "set-credentials", "jane", *shown_by)
    assert "jane" in await kubectl("auth", "whoami", "--user=jane")
    assert "apiserver_requests" in await kubectl("get", "--raw", "/metrics", "--user=jane")
    assert "Forbidden" in await kubectl("get", "cm", "--user=jane", fails=True)

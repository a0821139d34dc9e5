"""What is said and refused while objects are written on a real control plane, with the hub there and without it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
from cryptography import x509

from e2e.building import CannotBuildError
from e2e.installed import Installation, installation, secret_value, until
from hub.api.names import CLUSTER_SET

Json = dict[str, Any]
CLUSTER, WORK, KUEUE = "cluster.open-cluster-management.io", "work.open-cluster-management.io", "kueue.x-k8s.io"
SERVED: Final = "/apis/visibility.kueue.x-k8s.io/v1beta2"


@pytest.fixture(scope="module")
def inst() -> Iterator[Installation]:
    try:
        with installation() as found:
            found.install_hub()
            found.start_hub()
            until(lambda: authority(found), "the API server knows the hub's authority")
            yield found
    except CannotBuildError as error:
        pytest.skip(str(error))


def authority(inst: Installation) -> str:
    hook = inst.get(inst.hub, "validatingwebhookconfiguration", "quarterdeck")["webhooks"][0]
    return str(hook["clientConfig"].get("caBundle") or "")


def write(inst: Installation, obj: Json, *arguments: str) -> str:
    """What kubectl says, whether or not it is taken."""
    return inst.kubectl(inst.hub, "apply", "-f", "-", *arguments, stdin=json.dumps(obj), check=False)


def obj(api_version: str, kind: str, name: str, namespace: str = "", **content: Any) -> Json:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def job(name: str, queue: str) -> Json:
    template = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"queueName": queue, "template": template}
    return obj("fleet.quarterdeck.dev/v1alpha1", "FleetJob", name, "default", spec=spec)


def test_a_queue_that_is_not_there_is_told_and_the_job_taken(inst: Installation) -> None:
    said = write(inst, job("misspelt", "defualt"))
    assert "Warning: spec.queueName: there is no LocalQueue defualt in namespace default" in said
    assert "there are: default" in said
    assert "created" in said
    assert "Warning" not in write(inst, job("right", "default"))


def test_a_circle_of_cohorts_is_refused(inst: Installation) -> None:
    assert "created" in write(inst, obj(f"{KUEUE}/v1beta2", "Cohort", "a", spec={"parentName": "b"}))

    def refused() -> bool:
        # The hub knows of the first a moment after it was written.
        said = write(inst, obj(f"{KUEUE}/v1beta2", "Cohort", "b", spec={"parentName": "a"}), "--dry-run=server")
        return "its cohorts would go round in a circle" in said and "b > a > b" in said

    until(refused, "the circle is seen", 10)


def test_what_kueue_refuses_is_refused_by_field(inst: Installation) -> None:
    quotas = [{"name": "cpu", "nominalQuota": "1", "borrowingLimit": "1"}]
    groups = [{"coveredResources": ["cpu"], "flavors": [{"name": "default", "resources": quotas}]}]
    said = write(inst, obj(f"{KUEUE}/v1beta2", "ClusterQueue", "q", spec={"resourceGroups": groups}))
    assert "spec.resourceGroups[0].flavors[0].resources[0].borrowingLimit" in said
    assert "created" not in said


def test_a_cluster_is_filled_in(inst: Installation) -> None:
    taints = [{"key": "k", "effect": "NoSelect", "timeAdded": None}]
    assert "created" in write(inst, obj(f"{CLUSTER}/v1", "ManagedCluster", "filled", spec={"taints": taints}))
    live = inst.get(inst.hub, "managedcluster", "filled")
    assert live["metadata"]["labels"][CLUSTER_SET] == "default"
    assert live["spec"]["leaseDurationSeconds"] == 60
    assert live["spec"]["taints"][0]["timeAdded"]


def test_the_hubs_certificate_is_what_the_configurations_say(inst: Installation) -> None:
    secret = inst.get(inst.hub, "secret", "quarterdeck-hub-tls", "-n", "quarterdeck-system")
    served = x509.load_pem_x509_certificate(secret_value(secret, "tls.crt"))
    served.verify_directly_issued_by(x509.load_pem_x509_certificate(secret_value(secret, "ca.crt")))
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "quarterdeck-hub.quarterdeck-system.svc" in names.get_values_for_type(x509.DNSName)


def test_applying_the_manifests_again_leaves_the_authority(inst: Installation) -> None:
    before = authority(inst)
    inst.kubectl(inst.hub, "apply", "--server-side", "-k", "manifests/admission")
    inst.kubectl(inst.hub, "apply", "--server-side", "-k", "manifests/hub/base")
    assert authority(inst) == before
    secret = inst.get(inst.hub, "secret", "quarterdeck-hub-tls", "-n", "quarterdeck-system")
    assert secret_value(secret, "tls.key")


def test_a_client_of_kueues_v1beta1_loses_nothing(inst: Installation) -> None:
    inst.kubectl(inst.hub, "apply", "--server-side", "-k", "manifests/kueue-v1beta1")

    def known() -> bool:
        crd = inst.get(inst.hub, "crd", "clusterqueues.kueue.x-k8s.io")
        return bool(crd["spec"]["conversion"]["webhook"]["clientConfig"].get("caBundle"))

    until(known, "the API server knows by whom to have it converted", 90)
    preemption = {"reclaimWithinCohort": "Any"}
    old = obj(f"{KUEUE}/v1beta1", "ClusterQueue", "old", spec={"cohort": "all", "preemption": preemption})

    def taken() -> bool:
        said = write(inst, old)
        return "created" in said or "unchanged" in said or "configured" in said

    until(taken, "it is taken", 30)
    live = inst.get(inst.hub, "clusterqueues.v1beta2.kueue.x-k8s.io", "old")
    assert live["spec"]["cohortName"] == "all"
    assert inst.get(inst.hub, "clusterqueues.v1beta1.kueue.x-k8s.io", "old")["spec"]["cohort"] == "all"


def as_agent(inst: Installation, name: str, *arguments: str) -> str:
    groups = (f"--as-group=system:open-cluster-management:{name}", "--as-group=system:authenticated")
    user = f"--as=system:open-cluster-management:{name}:agent"
    return inst.kubectl(inst.hub, *arguments, user, *groups, check=False)


def test_an_agent_cannot_say_what_is_the_operators_to_say(inst: Installation) -> None:
    assert "created" in write(inst, obj(f"{CLUSTER}/v1", "ManagedCluster", "barn", spec={"hubAcceptsClient": True}))
    bound = ("get", "rolebinding", "quarterdeck-agent", "-n", "barn")
    until(lambda: "quarterdeck-agent" in inst.kubectl(inst.hub, *bound, "-o", "name", check=False), "it has its rights")
    cluster = ("patch", "managedcluster", "barn", "--type=merge", "-p")
    # Its labels are its own to keep …
    assert "patched" in as_agent(inst, "barn", *cluster, '{"metadata": {"labels": {"region": "eu"}}}')
    # … the set that it is in, its taints and whether it is let in are not.
    for change, why in (
        ({"metadata": {"labels": {CLUSTER_SET: "gpus"}}}, "managedclustersets/join"),
        ({"spec": {"taints": []}, "metadata": {"annotations": {"x": "y"}}}, ""),
        ({"spec": {"taints": [{"key": "k", "effect": "NoSelect"}]}}, "taints and the lease"),
        ({"spec": {"hubAcceptsClient": False}}, "managedclusters/accept"),
    ):
        said = as_agent(inst, "barn", *cluster, json.dumps(change))
        assert (why in said) if why else "patched" in said, said
        assert ("Forbidden" in said or "forbidden" in said) == bool(why), said
    work = obj(f"{WORK}/v1", "ManifestWork", "w", "barn", spec={"workload": {"manifests": [job_manifest(1)]}})
    assert "created" in write(inst, work)
    mine = ("patch", "manifestwork", "w", "-n", "barn", "--type=merge", "-p")
    assert "patched" in as_agent(inst, "barn", *mine, '{"metadata": {"finalizers": ["example.com/x"]}}')
    changed = json.dumps({"spec": {"workload": {"manifests": [job_manifest(2)]}}})
    assert "only who may create works may change what is in them" in as_agent(inst, "barn", *mine, changed)
    assert "patched" in as_agent(inst, "barn", *mine, '{"metadata": {"finalizers": null}}')
    # And outside its namespace it is nobody.
    assert "forbidden" in as_agent(inst, "barn", "get", "manifestworks", "-n", "default")
    assert "forbidden" in as_agent(inst, "barn", "get", "managedcluster", "filled")
    assert "forbidden" in as_agent(inst, "barn", "get", "secrets", "-n", "barn")


def job_manifest(parallelism: int) -> Json:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    return obj("batch/v1", "Job", "j", "default", spec={"parallelism": parallelism, "template": {"spec": pod}})


def test_the_visibility_api_knows_on_whose_behalf_it_is_asked(inst: Installation) -> None:
    by_hand = {
        **obj("discovery.k8s.io/v1", "EndpointSlice", "by-hand", "quarterdeck-system"),
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"name": "api", "port": inst.ports["api"]}],
    }
    by_hand["metadata"]["labels"] = {"kubernetes.io/service-name": "quarterdeck-leader"}
    write(inst, by_hand)
    path = f"{SERVED}/namespaces/default/localqueues/default/pendingworkloads"

    def asked(*who: str) -> str:
        return inst.kubectl(inst.hub, "get", "--raw", path, *who, check=False)

    until(lambda: "PendingWorkloadsSummary" in asked() or "items" in asked(), "the API answers", 60)
    bob = ("--as=bob", "--as-group=system:authenticated")
    assert 'User "bob" cannot get resource "localqueues/pendingworkloads"' in asked(*bob)
    inst.kubectl(inst.hub, "create", "rolebinding", "bob", "-n", "default", "--clusterrole=view", "--user=bob")
    until(lambda: "items" in asked(*bob), "who may view the namespace may see its line", 30)


def test_a_hub_that_is_down_holds_up_nobody_and_policies_hold(inst: Installation) -> None:
    inst.hub.processes.kill(["hub"])
    began = time.monotonic()
    assert "created" in write(
        inst, obj(f"{KUEUE}/v1beta2", "LocalQueue", "later", "default", spec={"clusterQueue": "x"})
    )
    assert "created" in write(inst, obj("v1", "ConfigMap", "anything", "default", data={"a": "b"}))
    assert "created" in write(inst, obj(f"{CLUSTER}/v1", "ManagedCluster", "new", spec={}))
    assert time.monotonic() - began < 15
    cluster = ("patch", "managedcluster", "barn", "--type=merge", "-p")
    if "barn" in inst.kubectl(inst.hub, "get", "managedclusters", "-o", "name"):
        said = as_agent(inst, "barn", *cluster, '{"spec": {"hubAcceptsClient": false}}')
        assert "managedclusters/accept" in said
    # What it would have filled in, it mends when it is back.
    inst.start_hub("hub-again")
    until(
        lambda: (inst.get(inst.hub, "managedcluster", "new")["metadata"].get("labels") or {}).get(CLUSTER_SET),
        "the cluster is in a set",
        60,
    )

"""What every overlay of hub and agent must be: confined, watched over, named by digest, and started as the code is."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from manifests_rendered import MANIFESTS, OVERLAYS, Objects, kustomized, workloads

from agent.options import parse as agent_options
from hub.api.installed import installed_crd
from hub.api.resource import APPLIED_MANIFEST_WORKS, NAMESPACES
from hub.controllers.bootstrap import default_objects
from hub.controllers.config import parse_config
from hub.controllers.main import _parse as hub_options
from hub.controllers.serving.conversion import CONVERTED
from hub.controllers.serving.trust import SECRET, service_names

Json = dict[str, Any]
ALL = [f"{part}/{overlay}" for part in ("hub", "agent") for overlay in OVERLAYS]


@pytest.fixture(params=ALL)
def objects(request: pytest.FixtureRequest) -> Objects:
    return kustomized(request.param)


def test_pods_are_confined(objects: Objects) -> None:
    for workload in workloads(objects):
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] >= 10000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert "/tmp" in mounted, "the root file system is read-only"


def test_pods_ask_for_what_they_need_and_have_a_limit_on_memory(objects: Objects) -> None:
    for workload in workloads(objects):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            resources = container["resources"]
            assert {"cpu", "memory", "ephemeral-storage"} <= set(resources["requests"])
            assert "memory" in resources["limits"]
            assert "cpu" not in resources["limits"], "a throttled hub holds up everything"


def test_probes_ask_what_is_served(objects: Objects) -> None:
    for workload in workloads(objects):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            listen = next(a for a in container["args"] if a.startswith("--metrics-listen="))
            assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "metrics"}
            assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
            assert listen.endswith(f":{ports['metrics']}")


def test_images_are_named_by_digest(objects: Objects) -> None:
    for workload in workloads(objects):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            assert re.fullmatch(r"[a-z0-9./-]+@sha256:[0-9a-f]{64}", container["image"])


def test_everything_has_its_namespace_and_the_label_of_all(objects: Objects) -> None:
    for (kind, namespace, name), obj in objects.items():
        assert obj["metadata"]["labels"]["app.kubernetes.io/part-of"] == "quarterdeck", (kind, name)
        assert namespace in ("", "quarterdeck-system", "quarterdeck-agent")
    spaces = [obj for (kind, _, _), obj in objects.items() if kind == "Namespace"]
    assert [s["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] for s in spaces] == ["restricted"]


def test_what_is_named_is_there(objects: Objects) -> None:
    for workload in workloads(objects):
        space, pod = workload["metadata"]["namespace"], workload["spec"]["template"]["spec"]
        assert ("ServiceAccount", space, pod["serviceAccountName"]) in objects
        assert ("PriorityClass", "", pod["priorityClassName"]) in objects
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", space, volume["configMap"]["name"]) in objects
        ports = {port["name"] for port in pod["containers"][0]["ports"]}
        for (kind, _, _), obj in objects.items():
            if kind == "Service":
                assert {port["targetPort"] for port in obj["spec"]["ports"]} <= ports
            if kind == "NetworkPolicy":
                incoming = {port["port"] for rule in obj["spec"]["ingress"] for port in rule["ports"]}
                assert incoming <= ports
    for (kind, space, name), obj in objects.items():
        if kind in ("RoleBinding", "ClusterRoleBinding"):
            ref = obj["roleRef"]
            assert (ref["kind"], space if ref["kind"] == "Role" else "", ref["name"]) in objects, name
            for subject in obj["subjects"]:
                assert ("ServiceAccount", subject["namespace"], subject["name"]) in objects, name


def test_kustomize_did_not_rename_what_rules_name(objects: Objects) -> None:
    for (kind, _, _), obj in objects.items():
        if kind in ("Role", "ClusterRole"):
            for rule in obj.get("rules") or ():
                assert not [name for name in rule.get("resourceNames", ()) if re.search(r"-[a-z0-9]{10}$", name)]


def test_no_rule_means_everything(objects: Objects) -> None:
    for (kind, _, name), obj in objects.items():
        if kind in ("Role", "ClusterRole"):
            for rule in obj.get("rules") or ():
                assert "*" not in [*rule["verbs"], *rule["apiGroups"]], name
                if name != "quarterdeck-fleet-view":
                    assert "*" not in rule["resources"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_hub_takes_its_arguments_and_settings(overlay: str) -> None:
    objects = kustomized(f"hub/{overlay}")
    (deployment,) = workloads(objects)
    options = hub_options(deployment["spec"]["template"]["spec"]["containers"][0]["args"])
    assert options.metrics_listen == "0.0.0.0:9100"
    (settings,) = (obj for (kind, _, _), obj in objects.items() if kind == "ConfigMap")
    parse_config(yaml.safe_load(settings["data"]["hub.yaml"]), overlay)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_agent_takes_its_arguments(overlay: str) -> None:
    (deployment,) = workloads(kustomized(f"agent/{overlay}"))
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    options = agent_options([argument.replace("$(CLUSTER)", "barn") for argument in arguments])
    assert options.cluster == "barn"


def test_two_hubs_never_share_a_machine_and_one_may_go_at_a_time() -> None:
    objects = kustomized("hub/overlays/ha")
    (deployment,) = workloads(objects)
    assert deployment["spec"]["replicas"] == 2
    spread = {
        part["topologyKey"]: part["whenUnsatisfiable"]
        for part in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    }
    assert spread["kubernetes.io/hostname"] == "DoNotSchedule"
    budget = objects["PodDisruptionBudget", "quarterdeck-system", "quarterdeck-hub"]
    assert budget["spec"]["maxUnavailable"] == 1


def test_the_certificates_are_for_the_services_that_lead_there() -> None:
    hub = kustomized("hub/base")
    assert ("Secret", "quarterdeck-system", SECRET) in hub
    named = set()
    for (kind, _, _), obj in (kustomized("admission") | kustomized("visibility")).items():
        parts = [hook["clientConfig"]["service"] for hook in obj.get("webhooks", ())]
        parts += [obj["spec"]["service"]] if kind == "APIService" else []
        for part in parts:
            service = hub["Service", part["namespace"], part["name"]]
            assert part["port"] in [port["port"] for port in service["spec"]["ports"]]
            named.add(f"{part['name']}.{part['namespace']}.svc")
    assert named == set(service_names())


def test_no_webhook_can_hold_up_the_cluster() -> None:
    hooks = [hook for obj in kustomized("admission").values() for hook in obj.get("webhooks", ())]
    assert len(hooks) == 2
    for hook in hooks:
        assert hook["failurePolicy"] == "Ignore"
        assert hook["timeoutSeconds"] <= 2
        assert hook["sideEffects"] == "None"
        for rule in hook["rules"]:
            assert set(rule["operations"]) <= {"CREATE", "UPDATE"}
            assert all("." in group and not group.endswith("k8s.io/") for group in rule["apiGroups"])
            assert not [name for name in rule["resources"] if "/" in name or name == "*"]


def test_webhooks_ask_about_every_kind_that_something_is_decided_about() -> None:
    from hub.admission.decide import ADMITTED, DEFAULTED

    asked: dict[str, set[tuple[str, str]]] = {}
    for (kind, _, _), obj in kustomized("admission").items():
        for hook in obj.get("webhooks", ()):
            for rule in hook["rules"]:
                asked.setdefault(kind, set()).update((g, r) for g in rule["apiGroups"] for r in rule["resources"])
    assert asked["ValidatingWebhookConfiguration"] == set(ADMITTED)
    assert asked["MutatingWebhookConfiguration"] == set(DEFAULTED)


def test_defaults_are_those_of_the_bootstrap() -> None:
    wanted = [obj for resource, obj in default_objects() if resource is not NAMESPACES]
    found = list(yaml.safe_load_all((MANIFESTS / "defaults" / "objects.yaml").read_text()))
    assert found == wanted, "run `make crds`"


def test_the_agent_brings_the_kind_of_its_records() -> None:
    found = yaml.safe_load((MANIFESTS / "agent" / "base" / "applied-manifest-works.yaml").read_text())
    assert found == installed_crd(APPLIED_MANIFEST_WORKS), "run `make crds`"


def test_versions_that_would_lose_fields_are_not_served_without_conversion() -> None:
    served = {
        name: [version["name"] for version in obj["spec"]["versions"] if version["served"]]
        for (kind, _, name), obj in kustomized("crds").items()
    }
    assert served["clusterqueues.kueue.x-k8s.io"] == ["v1beta2"]
    assert served["workloads.kueue.x-k8s.io"] == ["v1beta2"]
    assert served["resourceflavors.kueue.x-k8s.io"] == ["v1beta2", "v1beta1"]


def test_kinds_that_the_hub_converts_are_served_in_both_versions_there() -> None:
    objects = kustomized("kueue-v1beta1")
    asked = {}
    for (kind, _, name), obj in objects.items():
        if kind == "CustomResourceDefinition" and obj["spec"].get("conversion", {}).get("strategy") == "Webhook":
            assert [version["served"] for version in obj["spec"]["versions"]] == [True, True]
            asked[name] = obj["spec"]["conversion"]["webhook"]["clientConfig"]["service"]
    assert set(asked) == set(CONVERTED)
    assert {f"{service['name']}.{service['namespace']}.svc" for service in asked.values()} <= set(service_names())
    (rule,) = objects["ClusterRole", "", "quarterdeck-hub-conversion"]["rules"]
    assert set(rule["resourceNames"]) == set(CONVERTED)

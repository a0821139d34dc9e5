"""Kinds and the registry: which CRDs are acceptable, versions and their storage, discovery, OpenAPI, scale."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.errors import InvalidObjectError
from hub.api.installed import installed_crds
from hub.api.resource import KNOWN
from hub.apiserver.builtin import builtin_registry
from hub.apiserver.crds import established
from hub.apiserver.discovery import discovery
from hub.apiserver.kinds import Registry, served_from_crd, version_order
from hub.apiserver.openapi import openapi_v3
from hub.apiserver.openapi_v2 import PROTOBUF as V2_PROTOBUF
from hub.apiserver.openapi_v2 import openapi_v2
from hub.apiserver.protobuf import _fields
from hub.apiserver.scale import scale_of, scaled

ALL = builtin_registry().adding([kind for crd in installed_crds() for kind in served_from_crd(crd)])


def crd(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"]},
            "versions": [version("v1")],
            **spec,
        },
    }


def version(name: str, **more: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    return {"name": name, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **more}


REGISTRY: Registry = builtin_registry().adding(kind for c in installed_crds() for kind in served_from_crd(c))


def test_a_crd_becomes_its_served_versions() -> None:
    versions = [
        version(
            "v1",
            subresources={"status": {}},
            additionalPrinterColumns=[{"name": "N", "type": "integer", "jsonPath": ".spec.n"}],
        ),
        version("v1beta1", storage=False, deprecated=True),
        version("v1alpha1", storage=False, served=False),
    ]
    new, old = served_from_crd(crd(versions=versions))
    assert (new.singular, new.list_kind, new.short_names) == ("thing", "ThingList", ("th",))
    assert (new.has_status, old.has_status) == (True, False)
    assert [column.name for column in new.columns] == ["N"]
    assert old.storage == new.resource
    assert old.warning == "example.com/v1beta1 Thing is deprecated"
    assert old.to_storage({"apiVersion": "example.com/v1beta1", "spec": {"n": 1}})["apiVersion"] == "example.com/v1"
    assert served_from_crd(crd(versions=versions))[0] is new, "compiled once"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"group": "example"}, "spec.group"),
        ({"group": 1}, "spec.group"),
        ({"scope": "Global"}, "spec.scope"),
        ({"names": {"plural": "Things", "kind": "Thing"}}, "spec.names.plural"),
        ({"names": {"plural": "things", "kind": "thing"}}, "spec.names.kind"),
        ({"names": {"plural": "others", "kind": "Other"}}, "metadata.name"),
        ({"names": {"plural": "things", "kind": "Thing", "shortNames": "th"}}, "spec.names.shortNames"),
        ({"versions": []}, "spec.versions"),
        ({"versions": [version("v1"), version("v2")]}, "spec.versions"),
        ({"versions": [version("v1"), version("v1", storage=False)]}, "spec.versions[1].name"),
        ({"versions": [version("V1")]}, "spec.versions[0].name"),
        ({"versions": [version("v1", served="yes")]}, "spec.versions[0].served"),
        ({"versions": [version("v1", schema={})]}, "spec.versions[0].schema.openAPIV3Schema"),
        ({"versions": [version("v1", subresources={"logs": {}})]}, "spec.versions[0].subresources.logs"),
        (
            {
                "versions": [
                    version(
                        "v1",
                        subresources={"scale": {"specReplicasPath": ".status.n", "statusReplicasPath": ".status.n"}},
                    )
                ]
            },
            "spec.versions[0].subresources.scale.specReplicasPath",
        ),
        (
            {"versions": [version("v1", additionalPrinterColumns=[{"name": "N", "type": "text", "jsonPath": ".a"}])]},
            "spec.versions[0].additionalPrinterColumns[0].type",
        ),
        (
            {
                "versions": [
                    version("v1", additionalPrinterColumns=[{"name": "N", "type": "string", "jsonPath": "..a"}])
                ]
            },
            "spec.versions[0].additionalPrinterColumns[0].jsonPath",
        ),
        (
            {"versions": [version("v1"), version("v2", storage=False)], "conversion": {"strategy": "Webhook"}},
            "spec.conversion.strategy",
        ),
    ],
)
def test_a_crd_that_cannot_be_served_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        served_from_crd(crd(**change))
    assert caught.value.field == field


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from places(member, (*path, key))


WHOLE = crd(
    versions=[
        version(
            "v1",
            subresources={"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
            additionalPrinterColumns=[{"name": "N", "type": "integer", "jsonPath": ".spec.n", "priority": 1}],
            selectableFields=[{"jsonPath": ".spec.n"}],
        )
    ],
    conversion={"strategy": "None"},
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(places(WHOLE))), json_values)
def test_a_crd_with_any_mistake_is_served_or_refused(path: tuple[Any, ...], value: Any) -> None:
    broken = copy.deepcopy(WHOLE)
    at = broken
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    refused = None
    try:
        served_from_crd(broken)
    except InvalidObjectError as error:
        refused = error
    assert refused is None or refused.field


def test_an_established_crd_keeps_the_versions_it_ever_stored() -> None:
    status = established(crd(), now="2026-01-01T00:00:00Z")
    assert {(c["type"], c["status"]) for c in status["conditions"]} == {
        ("NamesAccepted", "True"),
        ("Established", "True"),
    }
    assert status["acceptedNames"]["singular"] == "thing"
    later = {**crd(versions=[version("v2")]), "status": status}
    assert established(later, now="2027-01-01T00:00:00Z")["storedVersions"] == ["v1", "v2"]
    assert established(later, now="2027-01-01T00:00:00Z")["conditions"] == status["conditions"]


def test_versions_in_kubernetes_order() -> None:
    names = ["v1alpha1", "v2", "foo", "v1beta2", "v1", "v1beta1", "v10"]
    assert sorted(names, key=version_order) == ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo"]


def test_the_registry_finds_replaces_and_forgets() -> None:
    (thing,) = served_from_crd(crd())
    more = REGISTRY.adding([thing])
    assert REGISTRY.find("example.com", "v1", "things") is None
    assert more.find("example.com", "v1", "things") is thing
    assert more.by_kind("example.com", "Thing") is thing
    assert len(more.adding([thing])) == len(more)
    assert more.without("example.com", "things").find("example.com", "v1", "things") is None
    preferred = REGISTRY.by_kind("kueue.x-k8s.io", "Workload")
    assert preferred is not None
    assert preferred.version == "v1beta2"
    assert {kind.version for kind in REGISTRY.versions_of("kueue.x-k8s.io", "workloads")} == {"v1beta1", "v1beta2"}


def test_everything_we_name_is_served_as_we_name_it() -> None:
    for resource in KNOWN:
        found = REGISTRY.of(resource)
        assert found is not None, resource
        assert found.resource == resource


def test_kueues_older_version_is_stored_as_the_newer_and_comes_back() -> None:
    old = REGISTRY.find("kueue.x-k8s.io", "v1beta1", "clusterqueues")
    assert old is not None
    queue = {
        "apiVersion": "kueue.x-k8s.io/v1beta1",
        "kind": "ClusterQueue",
        "metadata": {"name": "a"},
        "spec": {"cohort": "x"},
    }
    stored = old.to_storage(queue)
    assert (stored["apiVersion"], stored["spec"]) == ("kueue.x-k8s.io/v1beta2", {"cohortName": "x"})
    assert old.from_storage(stored) == queue


def test_events_of_both_groups_are_one() -> None:
    old, new = REGISTRY.by_kind("", "Event"), REGISTRY.by_kind("events.k8s.io", "Event")
    assert old is not None
    assert new is not None
    assert old.storage_key == new.storage_key
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {},
        "regarding": {"name": "x"},
        "note": "n",
        "reason": "r",
    }
    stored = new.to_storage(event)
    assert stored["involvedObject"] == {"name": "x"}
    assert new.from_storage(stored) == event


def document(*parts: str, accept: str = "") -> Any:
    found = discovery(REGISTRY, parts, accept)
    return None if found is None else json.loads(found[1])


def test_discovery_group_by_group() -> None:
    assert document("api")["versions"] == ["v1"]
    groups = {group["name"]: group for group in document("apis")["groups"]}
    assert groups["kueue.x-k8s.io"]["preferredVersion"]["version"] == "v1beta2"
    assert document("apis", "batch")["kind"] == "APIGroup"
    resources = {entry["name"]: entry for entry in document("apis", "fleet.quarterdeck.dev", "v1alpha1")["resources"]}
    assert resources["fleetjobs"]["shortNames"] == ["fj"]
    assert resources["fleetjobs"]["singularName"] == "fleetjob"
    assert "fleetjobs/status" in resources
    assert "clustercapacities/status" not in resources
    assert "watch" in resources["fleetjobs"]["verbs"]
    reviews = {entry["name"]: entry for entry in document("apis", "authorization.k8s.io", "v1")["resources"]}
    assert reviews["selfsubjectaccessreviews"]["verbs"] == ["create"]
    scale = {entry["name"]: entry for entry in document("apis", "apps", "v1")["resources"]}["deployments/scale"]
    assert (scale["group"], scale["kind"]) == ("autoscaling", "Scale")
    for parts in (("api", "v2"), ("apis", "nope"), ("apis", "batch", "v9"), ("apis", "", "v1"), ("api", "v1", "pods")):
        assert document(*parts) is None, parts


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json", "v2"),
        ("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList", "v2beta1"),
        ("application/json;g=apidiscovery.k8s.io;v=v9;as=APIGroupDiscoveryList,application/json", ""),
        ("application/json", ""),
        ("*/*", ""),
        ("", ""),
    ],
)
def test_aggregated_discovery_says_in_its_content_type_what_it_is(accept: str, version: str) -> None:
    found = discovery(REGISTRY, ["apis"], accept)
    assert found is not None
    body = json.loads(found[1])
    if version:
        assert found[0] == f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        assert body["apiVersion"] == f"apidiscovery.k8s.io/{version}"
        fleet = next(item for item in body["items"] if item["metadata"]["name"] == "fleet.quarterdeck.dev")
        jobs = next(r for r in fleet["versions"][0]["resources"] if r["resource"] == "fleetjobs")
        assert jobs["subresources"][0]["subresource"] == "status"
        assert jobs["responseKind"]["kind"] == "FleetJob"
    else:
        assert found[0] == "application/json"
        assert body["kind"] == "APIGroupList"


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for member in value:
            yield from references(member)


def test_openapi_documents_are_whole_and_listed() -> None:
    index = json.loads(openapi_v3(REGISTRY, []) or b"")
    assert "apis/fleet.quarterdeck.dev/v1alpha1" in index["paths"]
    for path, entry in index["paths"].items():
        assert entry["serverRelativeURL"].startswith(f"/openapi/v3/{path}?hash=")
        whole = json.loads(openapi_v3(REGISTRY, path.split("/")) or b"")
        schemas = whole["components"]["schemas"]
        for reference in references(whole):
            assert reference.removeprefix("#/components/schemas/") in schemas, reference
        for name, item in whole["paths"].items():
            declared = {parameter["name"] for parameter in item.get("parameters", ())}
            assert declared == {part.strip("{}") for part in name.split("/") if part.startswith("{")}
    for parts in (["apis", "nope", "v1"], ["api", "v2"], ["x"]):
        assert openapi_v3(REGISTRY, parts) is None


def test_openapi_tells_kubectl_what_the_server_can_do() -> None:
    whole = json.loads(openapi_v3(REGISTRY, ["apis", "fleet.quarterdeck.dev", "v1alpha1"]) or b"")
    patch = whole["paths"]["/apis/fleet.quarterdeck.dev/v1alpha1/namespaces/{namespace}/fleetjobs/{name}"]["patch"]
    assert {"dryRun", "fieldValidation", "fieldManager", "force"} <= {p["name"] for p in patch["parameters"]}
    gvk = {"group": "fleet.quarterdeck.dev", "kind": "FleetJob", "version": "v1alpha1"}
    assert patch["x-kubernetes-group-version-kind"] == gvk
    schema = next(
        s for s in whole["components"]["schemas"].values() if s.get("x-kubernetes-group-version-kind") == [gvk]
    )
    assert schema["properties"]["spec"]["properties"]["tasks"]["maximum"] == 100_000
    memory = schema["properties"]["spec"]["properties"]["gpu"]["properties"]["minMemory"]
    assert memory["allOf"][0]["$ref"].endswith("Quantity")


def test_openapi_v2_refuses_nothing_that_the_server_takes() -> None:
    content_type, body = openapi_v2(ALL, "application/json")
    document = json.loads(body)
    definitions = document["definitions"]
    assert content_type == "application/json"
    job = definitions["dev.quarterdeck.fleet.v1alpha1.FleetJob"]
    assert job["x-kubernetes-group-version-kind"][0]["kind"] == "FleetJob"
    assert job["properties"]["metadata"]["$ref"] == "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

    def walk(schema: Any) -> None:
        if isinstance(schema, list):
            for member in schema:
                walk(member)
        elif isinstance(schema, dict):
            if isinstance(schema.get("$ref"), str):
                assert schema["$ref"].removeprefix("#/definitions/") in definitions
            for name, member in schema.items():
                # What version 2 cannot say is not in it.
                if name in ("anyOf", "oneOf", "not", "allOf", "nullable") and not isinstance(member, dict):
                    pytest.fail(f"{name} in {schema}")
                walk(member)

    walk(definitions)
    path = document["paths"]["/apis/fleet.quarterdeck.dev/v1alpha1/namespaces/{namespace}/fleetjobs/{name}"]
    # Where old kubectls look whether the server runs dry.
    assert "dryRun" in [parameter["name"] for parameter in path["patch"]["parameters"]]
    assert path["patch"]["x-kubernetes-group-version-kind"]["kind"] == "FleetJob"


def test_openapi_v2_in_protobuf_is_the_same_document() -> None:
    content_type, body = openapi_v2(ALL, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
    assert content_type == V2_PROTOBUF
    document = json.loads(openapi_v2(ALL)[1])

    def parts(data: memoryview) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = {}
        for number, _, value in _fields(data):
            found.setdefault(number, []).append(value)
        return found

    top = parts(memoryview(body))
    assert bytes(top[1][0]) == b"2.0"
    definitions = {}
    for entry in parts(top[9][0])[1]:
        name, schema = (parts(entry)[number][0] for number in (1, 2))
        definitions[bytes(name).decode()] = parts(schema)
    assert definitions.keys() == document["definitions"].keys()
    for name, schema in definitions.items():
        wanted = document["definitions"][name]
        assert bytes(schema.get(4, [b""])[0]).decode() == wanted.get("description", "")
        members = [bytes(parts(member)[1][0]).decode() for member in parts(schema[25][0])[1]] if 25 in schema else []
        assert members == list(wanted.get("properties") or ())
        assert [bytes(text).decode() for text in schema.get(19, [])] == (wanted.get("required") or [])
    assert [bytes(parts(item)[1][0]).decode() for item in parts(top[8][0])[2]] == list(document["paths"])


def test_scale_shows_and_sets_replicas() -> None:
    deployments = REGISTRY.by_kind("apps", "Deployment")
    assert deployments is not None
    obj = {
        "metadata": {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "3"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "a"}}},
    }
    shown = scale_of(deployments, obj)
    assert (shown["spec"], shown["status"]) == ({"replicas": 2}, {"replicas": 0, "selector": "app=a"})
    changed, errors = scaled(deployments, obj, {"metadata": {"resourceVersion": "2"}, "spec": {"replicas": 5}})
    assert errors == []
    assert (changed["spec"]["replicas"], changed["metadata"]["resourceVersion"]) == (5, "2")
    assert obj["spec"]["replicas"] == 2
    for replicas in (-1, "3", True):
        assert scaled(deployments, obj, {"spec": {"replicas": replicas}})[1]

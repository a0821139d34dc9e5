"""Versions that differ in more than their name, by rules that the CRD declares."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api.errors import InvalidObjectError
from hub.apiserver import serve
from hub.apiserver.declared_conversion import ANNOTATION, Conversion, declared

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KEPT: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
RULES: dict[str, list[dict[str, Any]]] = {
    "v1alpha1": [
        {"here": ".spec.cohort", "stored": ".spec.cohortName"},
        {"here": ".spec.place", "stored": ".metadata.annotations['things.example.com/place']"},
        {"here": ".spec.mode", "stored": ".spec.mode", "values": {"Borrow": "MayStopSearch", "Wait": "TryNext"}},
        {"here": ".spec.parts[*].count", "stored": ".spec.parts[*].size.count"},
        {"here": ".status.usage", "stored": ".status.used"},
    ]
}


def crd(rules: Any = RULES, strategy: str = "Webhook") -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": KEPT, "status": KEPT}}}
    one = {"served": True, "schema": schema, "subresources": {"status": {}}}
    return {
        "metadata": {
            "name": "things.example.com",
            "annotations": {ANNOTATION: rules if isinstance(rules, str) else json.dumps(rules)},
        },
        "spec": {
            "group": "example.com",
            "scope": "Cluster",
            "names": {"plural": "things", "kind": "Thing"},
            "conversion": {"strategy": strategy},
            "versions": [{"name": "v1alpha1", "storage": False, **one}, {"name": "v1", "storage": True, **one}],
        },
    }


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with serve(tmp_path / "api") as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        async with aiohttp.ClientSession(server.url, headers=headers) as client:
            assert (await client.post(CRDS, json=crd())).status == 201
            yield client


OLD = "/apis/example.com/v1alpha1/things"
NEW = "/apis/example.com/v1/things"


async def test_each_version_is_read_and_written_in_its_own_words(client: aiohttp.ClientSession) -> None:
    spec = {"cohort": "c", "place": "here", "mode": "Borrow", "parts": [{"name": "a", "count": 2}, {"name": "b"}]}
    async with client.post(OLD, json={"metadata": {"name": "t"}, "spec": spec}) as answer:
        assert (answer.status, (await answer.json())["spec"]) == (201, spec)
    async with client.get(f"{NEW}/t") as answer:
        found = await answer.json()
    assert found["spec"] == {
        "cohortName": "c",
        "mode": "MayStopSearch",
        "parts": [{"name": "a", "size": {"count": 2}}, {"name": "b"}],
    }
    assert found["metadata"]["annotations"] == {"things.example.com/place": "here"}
    merge = {"Content-Type": "application/merge-patch+json"}
    changed = json.dumps({"spec": {"cohortName": "d", "mode": "TryNext"}})
    assert (await client.patch(f"{NEW}/t", data=changed, headers=merge)).status == 200
    used = json.dumps({"status": {"used": 5}})
    assert (await client.patch(f"{NEW}/t/status", data=used, headers=merge)).status == 200
    async with client.get(OLD) as answer:
        (old,) = (await answer.json())["items"]
    assert (old["spec"]["cohort"], old["spec"]["mode"], old["status"]) == ("d", "Wait", {"usage": 5})
    assert "annotations" not in old["metadata"]
    # What says nothing new is no write, in either.
    async with client.put(f"{OLD}/t", json=old) as answer:
        assert (await answer.json())["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"]
    identity = {"apiVersion": "example.com/v1alpha1", "kind": "Thing", "metadata": {"name": "t"}}
    applied = json.dumps({**identity, "spec": {"place": "there"}})
    how = {"Content-Type": "application/apply-patch+yaml"}
    assert (await client.patch(f"{OLD}/t?fieldManager=m&force=1", data=applied, headers=how)).status == 200
    async with client.get(f"{NEW}/t") as answer:
        assert (await answer.json())["metadata"]["annotations"] == {"things.example.com/place": "there"}


@pytest.mark.parametrize(
    "rules",
    [
        "{",
        "[]",
        {"v9": []},
        {"v1": []},
        {"v1alpha1": {}},
        {"v1alpha1": [{"here": ".spec.a"}]},
        {"v1alpha1": [{"here": "spec.a", "stored": ".spec.b"}]},
        {"v1alpha1": [{"here": ".kind", "stored": ".spec.b"}]},
        {"v1alpha1": [{"here": ".spec.a[*].b", "stored": ".spec.c"}]},
        {"v1alpha1": [{"here": ".spec.a[*].b", "stored": ".spec.c[*].b"}]},
        {"v1alpha1": [{"here": ".spec.a[*]", "stored": ".spec.b[*]"}]},
        {"v1alpha1": [{"here": ".spec.a", "stored": ".spec.b", "values": {"x": "z", "y": "z"}}]},
        {"v1alpha1": [{"here": ".spec.a", "stored": ".spec.b", "more": 1}]},
    ],
)
async def test_rules_that_make_no_sense_are_refused_where_they_are(client: aiohttp.ClientSession, rules: Any) -> None:
    with pytest.raises(InvalidObjectError):
        declared(crd(rules))
    async with client.put(f"{CRDS}/things.example.com", json=crd(rules)) as answer:
        assert answer.status == 422


async def test_without_rules_a_webhook_is_still_nothing_that_is_called(client: aiohttp.ClientSession) -> None:
    bare = crd("")
    del bare["metadata"]["annotations"]
    bare["metadata"]["name"] = "others.example.com"
    bare["spec"]["names"] = {"plural": "others", "kind": "Other"}
    async with client.post(CRDS, json=bare) as answer:
        assert answer.status == 422
        assert ANNOTATION in (await answer.json())["message"]


MOVES = declared(crd())["v1alpha1"]
CONVERSION = Conversion("example.com/v1alpha1", "example.com/v1", MOVES)
VALUES = st.none() | st.integers() | st.sampled_from(["Borrow", "Wait", "x"]) | st.lists(st.integers(), max_size=2)
PARTS = st.lists(st.fixed_dictionaries({"name": st.text(max_size=2)}, optional={"count": st.integers()}), max_size=3)
SPECS = st.fixed_dictionaries(
    {}, optional={"cohort": VALUES, "place": st.text(max_size=3), "mode": VALUES, "parts": PARTS, "other": VALUES}
)


@given(SPECS, st.dictionaries(st.sampled_from(["usage", "else"]), VALUES))
def test_what_a_version_says_comes_back_as_it_was(spec: dict[str, Any], status: dict[str, Any]) -> None:
    obj = {
        "apiVersion": "example.com/v1alpha1",
        "kind": "Thing",
        "metadata": {"name": "t"},
        "spec": spec,
        "status": status,
    }
    before = copy.deepcopy(obj)
    stored = CONVERSION.into_storage(obj)
    assert obj == before
    assert stored["apiVersion"] == "example.com/v1"
    back = CONVERSION.out_of_storage(stored)
    # A map that only moved things were in is as good as absent, and so is null.
    assert _plain(back) == _plain(before)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        found = {name: _plain(member) for name, member in value.items()}
        return {name: member for name, member in found.items() if member not in (None, {})}
    return [_plain(member) for member in value] if isinstance(value, list) else value

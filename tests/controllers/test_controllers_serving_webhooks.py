"""Reviews as an API server sends them, answered by kopf with what hub/admission decides."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from hub.admission.references import Look
from hub.api.errors import UsageError
from hub.api.names import CLUSTER_SET
from hub.apiserver import ApiServer
from hub.client.session import Session
from hub.controllers.serving.certificates import renewed
from hub.controllers.serving.leader_label import keep_label
from hub.controllers.serving.secure_server import server_context
from hub.controllers.serving.trust import load
from hub.controllers.serving.webhooks import Webhooks

Json = dict[str, Any]
CLUSTER, KUEUE, FLEET = "cluster.open-cluster-management.io", "kueue.x-k8s.io", "fleet.quarterdeck.dev"


class Nothing:
    """A `Look` in which there is nothing but a cohort that names another."""

    def find(self, group: str, plural: str, namespace: str, name: str) -> Json | None:
        return {"metadata": {"name": "a"}, "spec": {"parentName": "b"}} if (plural, name) == ("cohorts", "a") else None

    def all(self, group: str, plural: str, namespace: str = "") -> list[Json]:
        return []


class Reviewer:
    """Sends reviews; `look` may be taken away."""

    def __init__(self, url: str, seen: list[Look | None]) -> None:
        self.url, self.seen = url, seen

    async def __call__(
        self, path: str, group: str, version: str, kind: str, plural: str, obj: Any, **more: Any
    ) -> Json:
        request = {
            "uid": "u1",
            "kind": {"group": group, "version": version, "kind": kind},
            "resource": {"group": group, "version": version, "resource": plural},
            "operation": "UPDATE" if more.get("oldObject") else "CREATE",
            "userInfo": {"username": "ann", "groups": []},
            "object": obj,
            "oldObject": None,
            "dryRun": False,
            **more,
        }
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        client = ssl.create_default_context()
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        async with aiohttp.ClientSession() as http, http.post(f"{self.url}/{path}", json=review, ssl=client) as answer:
            assert answer.status == 200, await answer.text()
            found: Json = (await answer.json())["response"]
            assert found["uid"] == "u1"
            return found


@pytest.fixture
async def review(api_server: ApiServer) -> AsyncIterator[Reviewer]:
    context = server_context()
    load(context, renewed(None, ["127.0.0.1"], datetime.now(UTC)))
    seen: list[Look | None] = [Nothing()]
    webhooks = Webhooks(
        "127.0.0.1:0", context, lambda: Session(api_server.url, token=api_server.token), lambda: seen[0]
    )
    webhooks.start()
    for _ in range(600):
        if webhooks.port:
            break
        await asyncio.sleep(0.05)
    assert webhooks.port, "served within half a minute"
    yield Reviewer(f"https://127.0.0.1:{webhooks.port}", seen)
    webhooks.stop()
    await asyncio.to_thread(webhooks.join, 10)


async def test_reviews_are_answered_as_rules_decide(review: Reviewer) -> None:
    """One server for all of them: kopf takes a second to load."""
    job = {"metadata": {"name": "j", "namespace": "default"}, "spec": {"queueName": "q"}}
    answer = await review("check", FLEET, "v1alpha1", "FleetJob", "fleetjobs", job)
    assert answer["allowed"]
    assert "no LocalQueue q" in answer["warnings"][0]
    # What is not known yet is not spoken of.
    review.seen[0] = None
    assert "warnings" not in await review("check", FLEET, "v1alpha1", "FleetJob", "fleetjobs", job)
    review.seen[0] = Nothing()

    circle = {"metadata": {"name": "b"}, "spec": {"parentName": "a"}}
    answer = await review("check", KUEUE, "v1beta2", "Cohort", "cohorts", circle)
    assert not answer["allowed"]
    assert "b > a > b" in answer["status"]["message"]
    assert answer["status"]["code"] == 422

    cluster = {"metadata": {"name": "c"}, "spec": {"taints": [{"key": "k", "effect": "NoSelect"}]}}
    answer = await review("default", CLUSTER, "v1", "ManagedCluster", "managedclusters", cluster)
    assert answer["allowed"]
    patched = {(step["path"], step["op"]): step["value"] for step in json.loads(base64.b64decode(answer["patch"]))}
    assert patched["/metadata/labels", "add"] == {CLUSTER_SET: "default"}
    assert patched["/spec/leaseDurationSeconds", "add"] == 60
    since = patched["/spec/taints/0/timeAdded", "add"]
    assert since.endswith("Z")
    taints = [{"key": "k", "effect": "NoSelect", "timeAdded": since}]
    # Filled in, it is checked: what the hub itself wrote is not held against anybody.
    filled = {
        "metadata": {"name": "c", "labels": {CLUSTER_SET: "default"}},
        "spec": {"leaseDurationSeconds": 60, "taints": taints},
    }
    answer = await review("check", CLUSTER, "v1", "ManagedCluster", "managedclusters", filled, oldObject=cluster)
    assert answer["allowed"]

    wrong = {"metadata": {"name": "Upper"}, "spec": {}}
    answer = await review("default", CLUSTER, "v1", "ManagedCluster", "managedclusters", wrong)
    assert not answer["allowed"]
    assert "metadata.name" in answer["status"]["message"]
    # Not even shaped right: that is for the schema to say, which comes after.
    shapeless = {"metadata": {"name": "c"}, "spec": {"taints": ["x"]}}
    assert (await review("default", CLUSTER, "v1", "ManagedCluster", "managedclusters", shapeless))["allowed"]


async def test_older_versions_of_kueues_kinds_are_converted(review: Reviewer) -> None:
    kind = {"apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "ClusterQueue"}
    old = {**kind, "metadata": {"name": "q"}, "spec": {"cohort": "c"}}
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE

    async def converted(wanted: str, *objects: Json) -> Json:
        body = {"request": {"uid": "u", "desiredAPIVersion": wanted, "objects": list(objects)}}
        async with aiohttp.ClientSession() as http, http.post(f"{review.url}/convert", json=body, ssl=client) as answer:
            assert answer.status == 200
            found: Json = (await answer.json())["response"]
            assert found["uid"] == "u"
            return found

    answer = await converted("kueue.x-k8s.io/v1beta2", old)
    assert answer["result"] == {"status": "Success"}
    (new,) = answer["convertedObjects"]
    assert new["spec"] == {"cohortName": "c"}
    assert (await converted("kueue.x-k8s.io/v1beta1", new))["convertedObjects"] == [old]
    assert (await converted("batch/v1", old))["result"]["status"] == "Failure"
    async with aiohttp.ClientSession() as http, http.post(f"{review.url}/convert", json={}, ssl=client) as refused:
        assert refused.status == 400


async def test_nonsense_is_told_to_the_api_server_and_ends_nothing(review: Reviewer) -> None:
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    async with aiohttp.ClientSession() as http:
        for body in (b"", b"[]", b'{"request": {}}', b"{"):
            async with http.post(f"{review.url}/check", data=body, ssl=client) as answer:
                assert answer.status == 400
    job = {"metadata": {"name": "j", "namespace": "default"}, "spec": {"queueName": "q"}}
    assert (await review("check", FLEET, "v1alpha1", "FleetJob", "fleetjobs", job))["allowed"]


def test_an_address_that_is_none_is_said_at_once() -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        Webhooks("nowhere", server_context(), lambda: None, lambda: None)  # type: ignore[arg-type,return-value]


async def test_the_label_follows_the_lead() -> None:
    class Api:
        def __init__(self) -> None:
            self.said: list[Any] = []

        async def patch(self, resource: Any, name: str, patch: Json, namespace: str | None = None) -> Json:
            assert (resource.plural, name, namespace) == ("pods", "hub-0", "quarterdeck-system")
            self.said.append(patch["metadata"]["labels"]["fleet.quarterdeck.dev/leads"])
            return {}

    api, leads = Api(), [False]
    task = asyncio.create_task(keep_label(api, "hub-0", lambda: leads[0]))  # type: ignore[arg-type]
    for wanted, count in ((None, 1), ("true", 2), (None, 3)):
        leads[0] = wanted == "true"
        for _ in range(200):
            if len(api.said) >= count:
                break
            await asyncio.sleep(0.05)
        assert api.said[count - 1] == wanted
    task.cancel()
    assert len(api.said) == 3, "written when it changes, and at the start"

"""The hub that leads keeps certificates in a Secret and tells the API server; the others serve with what is there."""

from __future__ import annotations

import asyncio
import base64
import copy
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from hub.api.errors import ConflictError, NotFoundError, QuarterdeckError, RefusedError
from hub.api.resource import Resource
from hub.controllers.serving.certificates import AUTHORITY_RENEWED, AUTHORITY_VALID, from_data
from hub.controllers.serving.secure_server import SecureServer, server_context
from hub.controllers.serving.trust import CONFIGURATION, SECRET, Trust, service_names

Json = dict[str, Any]
HOOKS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Api:
    """Secrets and configurations by (kind, name). `refuses` are kinds that it says 403 of."""

    def __init__(self, *kinds: str, secret: bool = True) -> None:
        self.objects: dict[tuple[str, str], Json] = {}
        self.refuses: set[str] = set()
        self.writes: list[tuple[str, str]] = []
        self.version = 0
        for kind in kinds:
            hooks = [{"name": "check.example.com", "clientConfig": {"service": {"name": "s"}}}]
            self.put(kind, CONFIGURATION, {"webhooks": hooks})
        if secret:
            self.put("Secret", SECRET, {})

    def put(self, kind: str, name: str, content: Json) -> None:
        self.version += 1
        meta = {"name": name, "uid": f"{kind}/{name}", "resourceVersion": str(self.version)}
        self.objects[kind, name] = {**content, "metadata": meta}

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Json:
        if resource.kind in self.refuses:
            raise RefusedError(403, {"message": "no"})
        if (resource.kind, name) not in self.objects:
            raise NotFoundError(404, {"message": f"{resource.plural} {name} not found"})
        return copy.deepcopy(self.objects[resource.kind, name])

    async def patch(self, resource: Resource, name: str, patch: Json, namespace: str | None = None, **how: Any) -> Json:
        self.writes.append((resource.kind, name))
        live = self.objects[resource.kind, name]
        if how.get("type") == "apply":
            assert how["force"]
            for hook in patch.get("webhooks", ()):
                (mine,) = (one for one in live["webhooks"] if one["name"] == hook["name"])
                mine["clientConfig"].update(hook["clientConfig"])
            live.setdefault("spec", {}).update(patch.get("spec", {}))
        else:
            if patch["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
                raise ConflictError(409, {"message": "modified"})
            data = {**live.get("data", {}), **patch["data"]}
            self.put(resource.kind, name, {"data": {key: value for key, value in data.items() if value is not None}})
        return live

    def bundle(self, kind: str) -> str:
        return str(self.objects[kind, CONFIGURATION]["webhooks"][0]["clientConfig"].get("caBundle") or "")

    def material(self) -> Any:
        data = self.objects["Secret", SECRET].get("data") or {}
        return from_data({key: base64.b64decode(value) for key, value in data.items()})


def trust(api: Api, *, leads: bool = True, at: datetime = NOW, context: ssl.SSLContext | None = None) -> Trust:
    contexts = [context] if context is not None else []
    return Trust(api, lambda: leads, now=lambda: at, contexts=contexts)  # type: ignore[arg-type]


async def test_who_leads_makes_them_once_and_tells_who_must_know() -> None:
    api = Api(*HOOKS)
    api.put("APIService", "v1beta2.visibility.kueue.x-k8s.io", {"spec": {}})
    first = trust(api)
    await first.step()
    material = api.material()
    told = base64.b64encode(material.bundle).decode()
    assert [api.bundle(kind) for kind in HOOKS] == [told, told]
    assert api.objects["APIService", "v1beta2.visibility.kueue.x-k8s.io"]["spec"]["caBundle"] == told
    assert first.ready.is_set()
    api.writes.clear()
    await first.step()
    await trust(api).step()
    assert api.writes == [], "what is equal is not written, by this hub or the next"
    assert api.material() == material


async def test_a_standby_serves_what_is_there_and_writes_nothing() -> None:
    api, context = Api(*HOOKS), server_context()
    standby = trust(api, leads=False, context=context)
    await standby.step()
    assert not standby.ready.is_set()
    assert api.writes == []
    await trust(api).step()
    api.writes.clear()
    await standby.step()
    assert standby.ready.is_set()
    assert api.writes == []


async def test_a_new_authority_is_told_before_it_signs() -> None:
    api = Api(*HOOKS)
    await trust(api).step()
    before = api.material()
    at = NOW + AUTHORITY_VALID - AUTHORITY_RENEWED + timedelta(days=1)
    await trust(api, at=at).step()
    told = base64.b64decode(api.bundle(HOOKS[0]))
    assert len(x509.load_pem_x509_certificates(told)) == 2
    assert api.material().authority == before.authority
    await trust(api, at=at + timedelta(days=2)).step()
    assert api.material().authority != before.authority
    assert base64.b64decode(api.bundle(HOOKS[0])) == told


async def test_two_that_lead_for_a_moment_end_with_the_same() -> None:
    api = Api(*HOOKS)
    one, other = trust(api), trust(api)
    results = await asyncio.gather(one.step(), other.step(), return_exceptions=True)
    assert all(result is None or isinstance(result, ConflictError) for result in results)
    await one.step()
    await other.step()
    assert base64.b64decode(api.bundle(HOOKS[1])) == api.material().bundle


async def test_what_is_not_installed_is_not_told_and_a_missing_secret_is_named() -> None:
    api = Api()
    api.refuses = {"APIService"}
    await trust(api).step()
    assert api.writes == [("Secret", SECRET)]
    with pytest.raises(QuarterdeckError, match=f"no Secret {SECRET}"):
        await trust(Api(secret=False)).step()


async def test_what_is_installed_later_is_told_and_kinds_that_the_hub_converts() -> None:
    api = Api()
    keeper = trust(api)
    await keeper.step()
    api.put("MutatingWebhookConfiguration", CONFIGURATION, {"webhooks": [{"name": "n", "clientConfig": {}}]})
    service = {"name": "quarterdeck-hub", "namespace": "quarterdeck-system"}
    ours = {"conversion": {"strategy": "Webhook", "webhook": {"clientConfig": {"service": service}}}}
    theirs = {"conversion": {"strategy": "Webhook", "webhook": {"clientConfig": {"service": {"name": "kueue"}}}}}
    api.put("CustomResourceDefinition", "workloads.kueue.x-k8s.io", {"spec": ours})
    api.put("CustomResourceDefinition", "localqueues.kueue.x-k8s.io", {"spec": theirs})
    api.put("CustomResourceDefinition", "clusterqueues.kueue.x-k8s.io", {"spec": {"conversion": {"strategy": "None"}}})
    api.writes.clear()
    await keeper.step()
    assert api.bundle("MutatingWebhookConfiguration")
    converted = api.objects["CustomResourceDefinition", "workloads.kueue.x-k8s.io"]["spec"]["conversion"]
    assert converted["webhook"]["clientConfig"]["caBundle"] == api.bundle("MutatingWebhookConfiguration")
    assert [name for kind, name in api.writes if kind == "CustomResourceDefinition"] == ["workloads.kueue.x-k8s.io"]


async def test_what_somebody_broke_is_made_anew() -> None:
    api = Api(*HOOKS)
    await trust(api).step()
    api.put("Secret", SECRET, {"data": {"tls.crt": "bm90aGluZw=="}})
    await trust(api).step()
    assert api.material() is not None
    assert base64.b64decode(api.bundle(HOOKS[0])) == api.material().bundle


async def test_connections_are_served_with_the_newest_without_a_restart() -> None:
    api, context = Api(*HOOKS), server_context()
    keeper = trust(api, at=datetime.now(UTC), context=context)

    async def served(server: SecureServer, authority: bytes) -> bytes:
        client = ssl.create_default_context(cadata=authority.decode())
        name = service_names()[0]
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=client, server_hostname=name)
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return found

    async with SecureServer("127.0.0.1:0", "--api-listen", context, []) as server:
        with pytest.raises((ssl.SSLError, OSError)):
            await served(server, await _someone_elses())
        await keeper.step()
        before = await served(server, api.material().bundle)
        api.put("Secret", SECRET, {})
        await keeper.step()
        assert await served(server, api.material().bundle) != before


async def _someone_elses() -> bytes:
    api = Api()
    await trust(api, at=datetime.now(UTC)).step()
    found: bytes = api.material().bundle
    return found

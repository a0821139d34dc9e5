"""A decision is as good as the term of the hub that made it; everything else passes whoever leads."""

from __future__ import annotations

from typing import Any

import pytest

from hub.admission.decide import admit
from hub.admission.fencing import decides, fenced
from hub.api import names
from hub.api.errors import RefusedError
from hub.api.resource import LEASES, MANIFEST_WORKS, NAMESPACES
from hub.apiserver import ApiServer
from hub.client.patcher import Create, Delete, JsonPatch, MergePatch, Patcher, WriteKey
from hub.client.session import Session
from hub.controllers.fencing import in_term
from hub.controllers.metrics.all import HubMetrics
from hub.controllers.writes import Writes

MANIFEST = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}}
GROUP, PLURAL = MANIFEST_WORKS.group, MANIFEST_WORKS.plural


def work(term: str = "", *, slice_: bool = True, **annotations: str) -> dict[str, Any]:
    labels = {names.JOB_UID: "u", names.EPOCH: "1"} if slice_ else {}
    notes = {**annotations, **({names.TERM: term} if term else {})}
    return {
        "apiVersion": MANIFEST_WORKS.api_version,
        "kind": "ManifestWork",
        "metadata": {"name": "w", "namespace": "ash", "labels": labels, "annotations": notes},
        "spec": {"workload": {"manifests": [MANIFEST]}},
    }


def lease(term: int | None) -> dict[str, Any]:
    return {
        "apiVersion": LEASES.api_version,
        "kind": "Lease",
        "metadata": {"name": names.HUB_LEASE, "namespace": names.HUB_NAMESPACE},
        "spec": {"leaseTransitions": term} if term is not None else {},
    }


@pytest.mark.parametrize(
    ("term", "now", "passes"),
    [
        ("7", 7, True),
        ("8", 7, True),
        ("6", 7, False),
        ("", 7, True),
        ("seven", 7, False),
        ("-7", 7, False),
        ("6", None, True),
    ],
)
def test_an_older_term_is_refused_and_who_says_none_is_not_asked(term: str, now: int | None, passes: bool) -> None:
    assert (fenced(work(term), lease(now)) is None) == passes


def test_without_a_lease_nothing_is_held_against_anybody() -> None:
    assert fenced(work("1"), None) is None


def test_decisions_are_new_slices_and_slices_told_to_go() -> None:
    told = work("3", **{names.EVICTION: "{}"})
    assert decides(GROUP, PLURAL, work("3"), None)
    assert decides(GROUP, PLURAL, told, work("2"))
    assert decides(GROUP, PLURAL, work("3", **{names.RESIZE: "{}"}), work("2"))
    # What agents change, and works of other people.
    assert not decides(GROUP, PLURAL, {**work("2"), "status": {}}, work("2"))
    assert not decides(GROUP, PLURAL, told, told)
    assert not decides(GROUP, PLURAL, work("3", slice_=False), None)
    assert not decides("", "pods", work("3"), None)


def test_the_hub_puts_its_term_on_decisions_alone() -> None:
    key = WriteKey(MANIFEST_WORKS, "ash", "w")
    made = in_term(key, Create(work()), 9)
    assert isinstance(made, Create)
    assert made.obj["metadata"]["annotations"] == {names.TERM: "9"}
    told = in_term(key, MergePatch({"metadata": {"annotations": {names.EVICTION: "x"}}}), 9)
    assert isinstance(told, MergePatch)
    assert told.patch["metadata"]["annotations"] == {names.EVICTION: "x", names.TERM: "9"}
    resized = in_term(key, JsonPatch(({"op": "test"},)), 9)
    assert resized == JsonPatch(
        ({"op": "test"}, {"op": "add", "path": "/metadata/annotations/fleet.quarterdeck.dev~1term", "value": "9"})
    )
    for other in (MergePatch({"metadata": {"finalizers": None}}), Delete("u"), None):
        assert in_term(key, other, 9) is other
    lease_key = WriteKey(LEASES, "n", "l")
    assert in_term(lease_key, (create := Create(lease(1))), 9) is create


async def test_the_embedded_api_refuses_what_a_deposed_hub_had_on_its_way(api_server: ApiServer, api: Session) -> None:
    for name in (names.HUB_NAMESPACE, "ash"):
        await api.create(NAMESPACES, {"metadata": {"name": name}})
    await api.create(LEASES, lease(4))
    term = 4
    writes = Writes(Patcher(api), lambda: True, HubMetrics().writes, lambda: term)
    refused: list[Exception] = []

    async def send(name: str) -> None:
        obj = {**work(), "metadata": {**work()["metadata"], "name": name}}
        key = WriteKey(MANIFEST_WORKS, "ash", name)
        writes.submit(key, lambda: Create(obj), on_error=lambda _key, error: refused.append(error))
        await writes.patcher.idle()

    await send("in-time")
    assert refused == []
    await api.patch(LEASES, names.HUB_LEASE, {"spec": {"leaseTransitions": 5}}, names.HUB_NAMESPACE)
    await send("too-late")
    (error,) = refused
    assert isinstance(error, RefusedError)
    assert "leads no more" in str(error)
    told = {"metadata": {"annotations": {names.EVICTION: "{}", names.TERM: "4"}}}
    with pytest.raises(RefusedError, match="term 5"):
        await api.patch(MANIFEST_WORKS, "in-time", told, "ash")
    # Agents' own changes of what an earlier hub decided pass.
    await api.patch(MANIFEST_WORKS, "in-time", {"metadata": {"finalizers": [names.WORK_FINALIZER]}}, "ash")
    term = 5
    await send("the-next")
    assert len(refused) == 1
    found = {obj["metadata"]["name"] for obj in (await api.list(MANIFEST_WORKS, "ash")).items}
    assert found == {"in-time", "the-next"}


def test_a_webhook_that_does_not_know_the_lease_lets_decisions_pass() -> None:
    assert not admit(GROUP, PLURAL, work("1"), None, now="2026-01-02T03:04:05Z").errors

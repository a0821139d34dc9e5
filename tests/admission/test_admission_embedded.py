"""The embedded API decides about objects with the same functions as the webhooks."""

from __future__ import annotations

import re

import pytest

from hub.api.errors import RefusedError
from hub.api.resource import COHORTS, FLEET_JOBS, LOCAL_QUEUES
from hub.apiserver import ApiServer


async def test_a_circle_of_cohorts_is_refused_where_it_is_closed(api_server: ApiServer) -> None:
    api = api_server.in_process()
    await api.create(COHORTS, {"metadata": {"name": "a"}, "spec": {"parentName": "b"}})
    await api.create(COHORTS, {"metadata": {"name": "b"}, "spec": {"parentName": "c"}})
    with pytest.raises(RefusedError, match=re.escape("c > a > b > c")) as refusal:
        await api.create(COHORTS, {"metadata": {"name": "c"}, "spec": {"parentName": "a"}})
    assert refusal.value.status["details"]["causes"][0]["field"] == "spec.parentName"
    await api.create(COHORTS, {"metadata": {"name": "c"}, "spec": {}})
    with pytest.raises(RefusedError, match="circle"):
        await api.patch(COHORTS, "c", {"spec": {"parentName": "a"}})


async def test_a_status_is_written_without_a_look_at_others(api_server: ApiServer) -> None:
    api = api_server.in_process()
    queue = {"metadata": {"name": "q"}, "spec": {"clusterQueue": "nowhere"}}
    await api.create(LOCAL_QUEUES, queue, "default")
    job = {
        "metadata": {"name": "j"},
        "spec": {"queueName": "q", "template": {"spec": {"containers": [{"name": "c", "image": "host"}]}}},
    }
    await api.create(FLEET_JOBS, job, "default")
    patched = await api.patch(FLEET_JOBS, "j", {"status": {"phase": "Queued"}}, "default", subresource="status")
    assert patched["status"]["phase"] == "Queued"

"""When a status goes to the hub: what is followed by something better waits for it, and an end waits for nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.work import report
from agent.work.report import StatusReporter

Json = dict[str, Any]


class Reported:
    """A reporter of one work, whose status is what the test says; `written` are the feedback values that arrived."""

    def __init__(self) -> None:
        self.values: Json = {}
        self.written: list[Json] = []
        self.work: Json = {"metadata": {"uid": "u"}, "status": {}}
        self.reporter = StatusReporter(self, "ash", self, self, lambda name: (self.work, self.status()), self._seen)  # type: ignore[arg-type]

    def status(self) -> Json:
        values = [{"name": n, "fieldValue": {"type": "Integer", "integer": v}} for n, v in self.values.items()]
        synced = {"type": "StatusFeedbackSynced", "status": "True", "lastTransitionTime": str(self.values)}
        manifest = {"resourceMeta": {"name": "j"}, "conditions": [synced], "statusFeedback": {"values": values}}
        return {"conditions": [], "resourceStatus": {"manifests": [manifest]}}

    def now(self, **values: int) -> None:
        self.values = self.values | values
        self.reporter.changed("w")

    # The hub, the link to it, and the journal.

    async def patch(self, resource: Any, name: str, body: Json, namespace: str, *, subresource: str) -> Json:
        self.written.append(dict(self.values))
        return {**self.work, "status": self.status()}

    async def ready(self) -> None:
        pass

    def succeeded(self) -> None:
        pass

    async def flush(self) -> None:
        pass

    def _seen(self, answer: Json) -> None:
        self.work = answer

    async def until(self, count: int, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while len(self.written) < count:
                await asyncio.sleep(0.01)


@pytest.fixture
async def reported(monkeypatch: pytest.MonkeyPatch) -> Reported:
    """Long times, so that a slow machine does not mistake one for another."""
    for name, value in {"SETTLE": 0.01, "INTERVAL": 0.02, "FOLLOWED": 1.0, "READY": 3.0}.items():
        monkeypatch.setattr(report, name, value)
    found = Reported()
    found.values = {"active": 1}
    found.reporter.running("w")
    await found.until(1, 5)
    return found


async def test_the_steps_of_an_end_are_one_report_and_the_end_goes_at_once(reported: Reported) -> None:
    reported.now(active=0, succeeded=1)
    await asyncio.sleep(0.05)
    reported.values["complete"] = 1
    reported.reporter.ended("w")
    await reported.until(2, 0.9)
    await asyncio.sleep(1.2)
    assert reported.written == [{"active": 1}, {"active": 0, "succeeded": 1, "complete": 1}]
    assert reported.reporter.idle


async def test_news_without_an_end_go_after_a_moment(reported: Reported) -> None:
    reported.now(succeeded=1)
    await reported.until(2, 5)
    assert reported.written[-1] == {"active": 1, "succeeded": 1}


async def test_that_pods_are_ready_goes_with_what_comes_next_or_by_itself_in_the_end(reported: Reported) -> None:
    reported.now(ready=1)
    await asyncio.sleep(1.5)
    assert len(reported.written) == 1, "it can wait"
    await reported.until(2, 8)
    assert reported.written[-1] == {"active": 1, "ready": 1}
    reported.now(ready=2)
    await asyncio.sleep(0.1)
    reported.now(succeeded=1)
    await reported.until(3, 2.5)
    assert reported.written[-1] == {"active": 1, "ready": 2, "succeeded": 1}

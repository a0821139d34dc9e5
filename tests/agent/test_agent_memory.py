"""What is kept of works that are done: little in memory, all on disk, and enough for what may still come."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import until
from agent_rig import CLUSTER, DONE, FAILED, Rig, job_manifest, manifest_work

from agent.journal import Journal, Shipped
from agent.slices import slice_of
from agent.work.remembered import remembered
from hub.api.errors import CorruptStoreError
from hub.api.resource import APPLIED_MANIFEST_WORKS, JOBS, MANIFEST_WORKS

KEY = ("batch", "jobs", "team-a", "sum")


def complete_work(**status: Any) -> dict[str, Any]:
    work = manifest_work("w1", job_manifest(completions=4))
    work["metadata"] |= {"uid": "u", "resourceVersion": "7", "managedFields": [{"manager": "x"}]}
    work["status"] = {
        "conditions": [{"type": "Complete", "status": "True", "reason": "R", "message": "m" * 1000}],
        "resourceStatus": {
            "manifests": [
                {
                    "resourceMeta": {"ordinal": 0},
                    "conditions": [{"type": "Applied", "status": "True"}],
                    "statusFeedback": {
                        "values": [
                            {"name": "succeeded", "fieldValue": {"type": "Integer", "integer": 3}},
                            {"name": "failedIndexes", "fieldValue": {"type": "String", "string": "2"}},
                        ]
                    },
                }
            ]
        },
        **status,
    }
    return work


def test_of_a_complete_work_stays_what_logs_and_counts_need() -> None:
    work = complete_work()
    kept = remembered(work)
    assert slice_of(kept) == slice_of(work)
    assert kept["status"]["conditions"] == [{"type": "Complete", "status": "True"}]
    (report,) = kept["status"]["resourceStatus"]["manifests"]
    assert [value["name"] for value in report["statusFeedback"]["values"]] == ["failedIndexes"]
    assert "template" not in str(kept)
    assert "managedFields" not in kept["metadata"]


def test_of_any_other_work_stays_everything() -> None:
    running = complete_work(conditions=[{"type": "Complete", "status": "False"}])
    assert remembered(running) == {
        **running,
        "metadata": {key: value for key, value in running["metadata"].items() if key != "managedFields"},
    }
    going = complete_work()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert remembered(going)["spec"] == going["spec"]


async def test_what_happens_after_the_end_is_not_written_over_it(rig: Rig) -> None:
    await rig.deliver(manifest_work())
    await until(lambda: rig.local.peek(JOBS, "sum", "team-a"))
    rig.local.set_status(JOBS, "sum", "team-a", FAILED)
    await until(lambda: rig.condition("Complete").get("status") == "True")
    # As long as the work is not dropped yet, events still reach its reporter.
    rig.executor._new_state("w1", rig.executor.works["w1"]).generation = 1  # type: ignore[arg-type]
    rig.executor.reporter.ended("w1")
    status, writes = rig.work()["status"], rig.status_writes()  # type: ignore[index]
    rig.local.set_status(JOBS, "sum", "team-a", DONE)
    rig.local.vanish(JOBS, "sum", "team-a")
    await asyncio.sleep(0.4)
    assert rig.work()["status"] == status  # type: ignore[index]
    assert rig.status_writes() == writes


async def test_a_complete_work_can_still_be_taken_away(rig: Rig) -> None:
    await rig.deliver(manifest_work())
    await until(lambda: rig.local.peek(JOBS, "sum", "team-a"))
    rig.local.set_status(JOBS, "sum", "team-a", DONE)
    await until(lambda: rig.condition("Complete").get("status") == "True")
    await rig.stop()
    await rig.start()
    await until(lambda: rig.executor.works_synced.is_set())
    await rig.hub.delete(MANIFEST_WORKS, "w1", CLUSTER)
    await until(lambda: rig.work() is None)
    assert rig.local.peek(JOBS, "sum", "team-a") is None
    assert rig.local.peek(APPLIED_MANIFEST_WORKS, "h-w1") is None


def ended_object(number: int = 0) -> dict[str, Any]:
    return {"metadata": {"name": "sum", "managedFields": []}, "status": {"succeeded": number}}


async def test_an_end_is_read_back_before_and_after_it_is_on_disk(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    journal.record_end("w", KEY, "d", ended_object(1))
    assert journal.ended("w", KEY).object["status"] == {"succeeded": 1}  # type: ignore[union-attr]
    await journal.flush()
    assert journal._fresh == {}
    journal.record_end("w", KEY, "d", ended_object(1))
    assert journal._pending == []
    assert journal.ended("w", KEY).object == {"metadata": {"name": "sum"}, "status": {"succeeded": 1}}  # type: ignore[union-attr]
    journal.record_end("w", KEY, "d", ended_object(2))
    journal.record_shipped("w", Shipped(3, "1-2"))
    await journal.flush()
    journal.close()
    again = Journal.open(tmp_path / "journal.db")
    assert again.has_ended("w", KEY, "d")
    assert not again.has_ended("w", KEY, "other")
    assert again.ended("w", KEY).object["status"] == {"succeeded": 2}  # type: ignore[union-attr]
    assert again.shipped("w") == Shipped(3, "1-2")
    assert again.works() == {"w"}
    again.forget("w")
    assert again.ended("w", KEY) is None
    await again.flush()
    again.close()
    with sqlite3.connect(tmp_path / "journal.db") as raw:
        assert raw.execute("SELECT count(*) FROM ended").fetchone() == (0,)
        assert raw.execute("SELECT count(*) FROM shipped").fetchone() == (0,)


async def test_an_entry_that_someone_took_out_of_the_file_is_said(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    journal.record_end("w", KEY, "d", ended_object())
    await journal.flush()
    with sqlite3.connect(tmp_path / "journal.db") as raw:
        raw.execute("DELETE FROM ended")
    with pytest.raises(CorruptStoreError, match="has lost an entry of the work with uid w"):
        journal.ended("w", KEY)
    journal.close()


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(CorruptStoreError, match="is damaged") as raised:
        Journal.open(tmp_path / "journal.db")
    assert "Move it away" in raised.value.hint

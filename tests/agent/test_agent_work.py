"""The way of a ManifestWork through the executor: applied, reported, frozen, never run twice, taken away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agent_fakes import invalid, until
from agent_rig import CLUSTER, DONE, FAILED, RUNNING, Rig, job_config, job_manifest, manifest_work

from hub.api import names
from hub.api.resource import APPLIED_MANIFEST_WORKS, CONFIG_MAPS, JOBS, MANIFEST_WORKS, NAMESPACES

CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "team-a"}, "data": {"a": "1"}}


def job(rig: Rig, name: str = "sum") -> Any:
    return rig.local.peek(JOBS, name, "team-a")


async def running(rig: Rig) -> None:
    await until(lambda: job(rig), what="job created")
    rig.local.set_status(JOBS, "sum", "team-a", RUNNING)
    await until(lambda: rig.values().get("active") == 1, what="running reported")


async def test_a_work_is_applied_and_its_end_reported(rig: Rig) -> None:
    await rig.deliver(manifest_work())
    await running(rig)
    assert rig.condition("Applied")["reason"] == "AppliedManifestWorkComplete"
    assert rig.condition("Available")["status"] == "True"
    assert rig.condition("Complete") | {"lastTransitionTime": ""} == {
        "type": "Complete",
        "status": "False",
        "reason": "ConditionRulesAggregated",
        "message": "Job is not finished",
        "observedGeneration": 1,
        "lastTransitionTime": "",
    }
    rig.local.set_status(JOBS, "sum", "team-a", DONE)
    await until(lambda: rig.condition("Complete").get("status") == "True")
    assert rig.values() == {"succeeded": 1, "completedIndexes": "0"}
    assert rig.manifest()["resourceMeta"] == {
        "ordinal": 0,
        "group": "batch",
        "version": "v1",
        "kind": "Job",
        "resource": "jobs",
        "name": "sum",
        "namespace": "team-a",
    }


async def test_the_record_owns_what_was_applied(rig: Rig) -> None:
    await rig.deliver(manifest_work())
    await running(rig)
    record = rig.local.peek(APPLIED_MANIFEST_WORKS, "h-w1")
    assert record is not None
    assert record["spec"] == {"hubHash": "h", "manifestWorkName": "w1", "agentID": "agent-1"}
    assert record["status"]["appliedResources"] == [
        {
            "group": "batch",
            "version": "v1",
            "resource": "jobs",
            "namespace": "team-a",
            "name": "sum",
            "uid": job(rig)["metadata"]["uid"],
        }
    ]
    assert [ref["uid"] for ref in job(rig)["metadata"]["ownerReferences"]] == [record["metadata"]["uid"]]


async def test_a_quick_job_costs_one_status_write(rig: Rig) -> None:
    await rig.deliver(manifest_work())
    await until(lambda: job(rig))
    rig.local.set_status(JOBS, "sum", "team-a", RUNNING)
    await asyncio.sleep(0.02)
    rig.local.set_status(JOBS, "sum", "team-a", DONE)
    await until(lambda: rig.condition("Complete").get("status") == "True")
    await asyncio.sleep(0.4)
    assert rig.status_writes() == 1
    assert rig.hub.writes("ManifestWork", "") == [("create", "ManifestWork", "w1", "")]


async def test_a_large_slice_writes_a_few_times_a_second_and_its_end_at_once(rig: Rig) -> None:
    await rig.deliver(manifest_work("w1", job_manifest(completions=100)))
    await until(lambda: job(rig))
    loop = asyncio.get_running_loop()
    started = loop.time()
    for done in range(100):
        rig.local.set_status(JOBS, "sum", "team-a", {"active": 4, "succeeded": done})
        await asyncio.sleep(0.008)
    spent = loop.time() - started
    assert 2 <= rig.status_writes() <= 2 + spent / 0.25
    rig.local.set_status(JOBS, "sum", "team-a", {**DONE, "succeeded": 100})
    ended = loop.time()
    await until(lambda: rig.condition("Complete").get("status") == "True")
    assert loop.time() - ended < 0.15
    assert rig.values()["succeeded"] == 100


async def test_nothing_is_written_when_nothing_changed(rig: Rig) -> None:
    await rig.deliver(manifest_work())
    await running(rig)
    await asyncio.sleep(0.3)
    before_hub, before_local = len(rig.hub.log), len(rig.local.log)
    for _ in range(5):
        rig.local.edit(JOBS, "sum", "team-a", lambda obj: obj["metadata"].setdefault("annotations", {}).update(x="y"))
        rig.hub.edit(MANIFEST_WORKS, "w1", CLUSTER, lambda obj: obj["metadata"]["labels"].update(seen="yes"))
        await asyncio.sleep(0.06)
    await rig.stop()
    await rig.start()
    await until(lambda: "w1" in rig.executor.works)
    await asyncio.sleep(0.6)
    assert (len(rig.hub.log), len(rig.local.log)) == (before_hub, before_local)


async def test_a_status_someone_else_changed_is_put_right(rig: Rig) -> None:
    await rig.deliver(manifest_work())
    await running(rig)
    rig.hub.edit(MANIFEST_WORKS, "w1", CLUSTER, lambda obj: obj["status"].update(resourceStatus={"manifests": []}))
    await until(lambda: rig.values().get("active") == 1)


async def test_a_completed_work_is_frozen(rig: Rig) -> None:
    await rig.deliver(manifest_work())
    await until(lambda: job(rig))
    rig.local.set_status(JOBS, "sum", "team-a", DONE)
    await until(lambda: rig.condition("Complete").get("status") == "True")
    rig.local.vanish(JOBS, "sum", "team-a")
    rig.hub.edit(MANIFEST_WORKS, "w1", CLUSTER, lambda o: o["spec"]["workload"]["manifests"].append(CONFIG))
    await asyncio.sleep(0.7)
    assert job(rig) is None
    assert rig.local.peek(CONFIG_MAPS, "c", "team-a") is None
    await rig.stop()
    await rig.start()
    await asyncio.sleep(0.3)
    assert job(rig) is None
    assert rig.condition("Complete")["status"] == "True"


async def test_what_ran_to_its_end_is_not_run_again_even_if_nobody_heard_of_it(rig: Rig) -> None:
    await rig.deliver(manifest_work())
    await running(rig)
    rig.hub.cut()
    rig.local.set_status(JOBS, "sum", "team-a", DONE)
    await asyncio.sleep(0.05)
    rig.local.vanish(JOBS, "sum", "team-a")
    await asyncio.sleep(0.1)
    await rig.executor._journal.flush()
    await rig.stop()
    await rig.start()
    await asyncio.sleep(0.05)
    rig.hub.heal()
    await until(lambda: rig.condition("Complete").get("status") == "True")
    assert rig.values()["succeeded"] == 1
    assert len(rig.local.writes("Job")) == 1


async def test_a_finished_job_without_rules_is_not_made_again(rig: Rig) -> None:
    await rig.deliver(manifest_work("w1", configs=[]))
    await until(lambda: rig.condition("Applied").get("status") == "True")
    rig.local.set_status(JOBS, "sum", "team-a", FAILED)
    await asyncio.sleep(0.05)
    rig.local.vanish(JOBS, "sum", "team-a")
    await until(lambda: rig.condition("Available").get("status") == "False")
    await asyncio.sleep(0.6)
    assert job(rig) is None
    assert rig.condition("Applied")["status"] == "True"


async def test_an_unfinished_job_that_vanished_is_made_again(rig: Rig) -> None:
    await rig.deliver(manifest_work())
    await running(rig)
    uid = job(rig)["metadata"]["uid"]
    rig.local.vanish(JOBS, "sum", "team-a")
    await until(lambda: job(rig) and job(rig)["metadata"]["uid"] != uid)


async def test_one_bad_manifest_does_not_stop_the_others(rig: Rig) -> None:
    rig.local.refuse = lambda verb, kind, obj: (
        invalid("spec.bad: unknown") if kind == "Job" and obj["metadata"]["name"] == "bad" else None
    )
    nonsense = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x", "namespace": "team-a"}}
    await rig.deliver(manifest_work("w1", "text", nonsense, job_manifest("bad"), {"kind": "Job"}, job_manifest()))
    await until(lambda: rig.condition("Applied").get("status") == "False")
    await until(lambda: job(rig))
    assert rig.condition("Applied")["reason"] == "AppliedManifestWorkFailed"
    statuses = [rig.manifest_condition("Applied", n)["status"] for n in range(5)]
    assert statuses == ["False", "False", "False", "False", "True"]
    assert "serves no kind 'Thing'" in rig.manifest_condition("Applied", 1)["message"]
    assert "spec.bad: unknown" in rig.manifest_condition("Applied", 2)["message"]
    assert rig.manifest_condition("Available", 1)["reason"] == "IncompleteResourceMeta"
    assert rig.manifest_condition("Available", 2)["reason"] == "ResourceNotAvailable"
    assert rig.condition("Available")["message"] == "1 of 5 resources are not available"


async def test_a_refused_create_is_tried_again(rig: Rig) -> None:
    answers = [invalid("quota"), None]
    rig.local.refuse = lambda verb, kind, obj: answers.pop(0) if kind == "Job" and answers else None
    await rig.deliver(manifest_work())
    await until(lambda: rig.manifest_condition("Applied").get("status") == "False")
    await until(lambda: rig.manifest_condition("Applied").get("status") == "True")


async def test_kinds_are_applied_in_order(rig: Rig) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}}
    await rig.deliver(manifest_work("w1", job_manifest(), CONFIG, namespace, configs=[]))
    await until(lambda: rig.condition("Applied").get("status") == "True")
    created = [entry[1] for entry in rig.local.log if entry[0] == "create"]
    assert created == ["AppliedManifestWork", "Namespace", "ConfigMap", "Job"]


async def test_namespaces_are_made(rig: Rig) -> None:
    await rig.deliver(manifest_work())
    await until(lambda: job(rig))
    assert rig.local.peek(NAMESPACES, "team-a") is not None


async def test_update_puts_a_local_change_back_and_keeps_what_the_server_filled_in(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    await rig.start()
    await rig.deliver(manifest_work("w1", CONFIG, configs=[]))
    await until(lambda: rig.local.peek(CONFIG_MAPS, "c", "team-a"))
    await until(lambda: rig.condition("Applied").get("status") == "True")
    rig.local.edit(CONFIG_MAPS, "c", "team-a", lambda obj: obj["data"].update(a="2", filled="in"))
    await rig.stop()
    await rig.start()
    await until(lambda: rig.local.peek(CONFIG_MAPS, "c", "team-a")["data"] == {"a": "1", "filled": "in"})


async def test_update_carries_an_edit_and_a_removal(rig: Rig) -> None:
    config = {**CONFIG, "data": {"a": "1", "b": "2"}}
    await rig.deliver(manifest_work("w1", config, configs=[]))
    await until(lambda: rig.condition("Applied").get("status") == "True")

    def edit(obj: Any) -> None:
        obj["spec"]["workload"]["manifests"][0]["data"] = {"a": "1"}

    rig.hub.edit(MANIFEST_WORKS, "w1", CLUSTER, edit)
    await until(lambda: rig.local.peek(CONFIG_MAPS, "c", "team-a")["data"] == {"a": "1"})


async def test_create_only_leaves_the_object_alone(rig: Rig) -> None:
    identifier = {"group": "", "resource": "configmaps", "name": "*", "namespace": "team-*"}
    configs = [{"resourceIdentifier": identifier, "updateStrategy": {"type": "CreateOnly"}}]
    await rig.deliver(manifest_work("w1", CONFIG, configs=configs))
    await until(lambda: rig.condition("Applied").get("status") == "True")

    def edit(obj: Any) -> None:
        obj["spec"]["workload"]["manifests"][0]["data"] = {"a": "9"}

    rig.hub.edit(MANIFEST_WORKS, "w1", CLUSTER, edit)
    await until(lambda: rig.condition("Applied").get("observedGeneration") == 2)
    assert rig.local.peek(CONFIG_MAPS, "c", "team-a")["data"] == {"a": "1"}


async def test_server_side_apply_is_used_and_ignored_fields_stay(rig: Rig) -> None:
    identifier = {"group": "", "resource": "configmaps", "name": "c", "namespace": "team-a"}
    strategy = {"type": "ServerSideApply", "serverSideApply": {"ignoreFields": [{"jsonPointers": ["/data/a"]}]}}
    work = manifest_work("w1", CONFIG, configs=[{"resourceIdentifier": identifier, "updateStrategy": strategy}])
    await rig.deliver(work)
    await until(lambda: rig.condition("Applied").get("status") == "True")
    assert rig.local.peek(CONFIG_MAPS, "c", "team-a")["data"] == {"a": "1"}
    rig.local.edit(CONFIG_MAPS, "c", "team-a", lambda obj: obj["data"].update(a="local"))

    def edit(obj: Any) -> None:
        obj["spec"]["workload"]["manifests"][0]["data"] = {"a": "9", "b": "2"}

    rig.hub.edit(MANIFEST_WORKS, "w1", CLUSTER, edit)
    await until(lambda: rig.local.peek(CONFIG_MAPS, "c", "team-a")["data"] == {"a": "local", "b": "2"})


async def test_read_only_is_observed_and_never_written(rig: Rig) -> None:
    await rig.local.create(NAMESPACES, {"metadata": {"name": "team-a"}})
    await rig.local.create(JOBS, job_manifest())
    config = job_config(updateStrategy={"type": "ReadOnly"})
    await rig.deliver(manifest_work("w1", configs=[config]))
    rig.local.set_status(JOBS, "sum", "team-a", RUNNING)
    await until(lambda: rig.values().get("active") == 1)
    assert "ownerReferences" not in job(rig)["metadata"]
    rig.hub.edit(
        MANIFEST_WORKS, "w1", CLUSTER, lambda o: o["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z")
    )
    await until(lambda: rig.work() is None)
    assert job(rig) is not None


async def test_an_executor_subject_is_refused_rather_than_ignored(rig: Rig) -> None:
    subject = {"subject": {"type": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "b"}}}
    await rig.deliver(manifest_work("w1", executor=subject))
    await until(lambda: rig.condition("Applied").get("status") == "False")
    assert "spec.executor is not supported" in rig.manifest_condition("Applied")["message"]
    assert job(rig) is None


async def test_a_missing_finalizer_is_added(rig: Rig) -> None:
    work = manifest_work()
    del work["metadata"]["finalizers"]
    await rig.deliver(work)
    await until(lambda: job(rig))
    assert (rig.work() or {})["metadata"]["finalizers"] == [names.WORK_FINALIZER]


async def test_a_cel_rule_says_that_it_is_not_evaluated(rig: Rig) -> None:
    rules = [{"type": "CEL", "condition": "Ready", "celExpressions": ["true"]}]
    await rig.deliver(manifest_work("w1", configs=[job_config(conditionRules=rules)]))
    await until(lambda: rig.manifest_condition("Ready"))
    assert rig.manifest_condition("Ready")["status"] == "Unknown"
    assert rig.manifest_condition("Ready")["reason"] == "ConditionRuleInvalid"
    assert rig.condition("Ready")["status"] == "Unknown"

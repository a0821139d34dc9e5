"""`plan` and `explain` as a person or a program calls them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from plan_files import NOW, a_fleet, holding, job, queue, site, workload

from hub.api.errors import NotFoundError
from hub.api.resource import SCORE_SOURCES, Resource
from hub.api.wire import Listing
from hub.cli.main import main


@pytest.fixture
def fleet_file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump_all(a_fleet()))
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def planned(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert run("plan", "-o", "json", "--now", NOW, *arguments) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_document_for_programs(fleet_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = planned(capsys, "-f", fleet_file, "--cycles", "settle")
    assert list(document) == [
        "kind", "apiVersion", "now", "mode", "cycles", "settled", "queues", "placements", "jobs", "ignored",
    ]  # fmt: skip
    assert (document["kind"], document["now"], document["mode"], document["settled"]) == ("Plan", NOW, "fleet", True)
    assert len(document["cycles"]) == 2
    assert len(planned(capsys, "-f", fleet_file)["cycles"]) == 1
    assert len(planned(capsys, "-f", fleet_file, "--cycles", "3")["cycles"]) == 3


def test_tables_for_people(fleet_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "-f", fleet_file, "--now", NOW, "--explain", "default/train") == 0
    text = capsys.readouterr().out
    assert "default/sweep  research      cpu=default  south" in text
    assert "default/train  vision        NoClusterFits" in text
    assert "→ would start if you: allow other GPU models than H100" in text
    assert "ignored: ConfigMap" in text


def test_the_same_bytes_under_any_hash_seed(fleet_file: Path, tmp_path: Path) -> None:
    (tmp_path / "more.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": site("west", zone="z")})
    )
    command = [sys.executable, "-m", "hub.cli", "plan", "-f", str(tmp_path), "-o", "json", "--now", NOW]
    command += ["--cycles", "settle", "--explain", "default/sweep"]
    answers = {
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, check=True, capture_output=True, timeout=60
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(answers) == 1
    assert b'"default/sweep"' in answers.pop()


def test_each_file_is_a_fleet_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, cpu in (("b", 1), ("a", 3)):
        objects = [*queue("q", cpu=cpu), job("j", "q", tasks=5)]
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(objects))
    (tmp_path / "c.json").write_text(json.dumps(job("j", "q", gpu={"share": "7"})))
    (tmp_path / "notes.txt").write_text("not read")
    assert run("plan", "--each", "-f", tmp_path, "-o", "json", "--now", NOW) == 2
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["file"]).name for line in lines] == ["a.yaml", "b.yaml", "c.json"]
    counts = [line["cycles"][0]["admitted"][0]["admission"]["podSetAssignments"][0]["count"] for line in lines[:2]]
    assert counts == [3, 1]
    assert "c.json:1: FleetJob j: spec.gpu.share: 7 is not a part of one GPU" in lines[2]["error"]


def test_standard_input_and_several_files_are_one_fleet(
    fleet_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [*site("east", nodes=1, gpus=1, model="H100"), *queue("vision", cpu=4, gpus=1)]
    monkeypatch.setattr(sys, "stdin", io.StringIO(yaml.safe_dump_all(more)))
    document = planned(capsys, "-f", fleet_file, "-f", "-")
    admitted = {entry["workload"]: entry["clusters"] for entry in document["cycles"][0]["admitted"]}
    assert admitted["default/train"] == ["east"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give it files with -f, or --from-hub"),
        (["-f", "absent.yaml"], "there is no file absent.yaml"),
        (["-f", "FILE", "--mode", "kueue", "--explain", "default/nobody"], "no job, Workload or Placement is called"),
        (["-f", "FILE", "--cycles", "0"], "--cycles: '0' is neither a number of cycles from 1 nor `settle`"),
        (["-f", "FILE", "--now", "yesterday"], "'yesterday' is not a time"),
        (["-f", "FILE", "--explain", "default/nobody"], "no job, Workload or Placement is called default/nobody"),
        (["-f", "FILE", "--from-hub"], "give it files with -f, or --from-hub"),
        (["--each", "--from-hub"], "--each: is for files"),
    ],
)
def test_what_cannot_be_done_is_said(
    fleet_file: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("plan", *(str(fleet_file) if argument == "FILE" else argument for argument in arguments)) == 2
    assert said in capsys.readouterr().err


def test_malformed_objects_are_all_said_by_file_object_and_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    broken = job("one", "q", tasks="many")
    path.write_text(yaml.safe_dump_all([broken, job("two", "q", tasks=-1)]))
    assert run("plan", "-f", path) == 2
    error = capsys.readouterr().err
    line = path.read_text().splitlines().index("  tasks: many") + 1
    assert f"{path}:{line}: FleetJob one: spec.tasks: found 'many'" in error
    assert "FleetJob two: spec.tasks: found -1" in error
    path.write_text(yaml.safe_dump_all([*queue("q", cpu=-3)]))
    assert run("plan", "-f", path) == 2
    assert "ClusterQueue q: spec.resourceGroups[0].flavors[0].resources[cpu].nominalQuota: -3 is negative" in (
        capsys.readouterr().err
    )


def test_configuration(fleet_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = tmp_path / "hub.yaml"
    ours.write_text(
        "scorers: {weights: {FreeSlots: 0, FreeShare: 0, Price: 3}}\n"
        "queue: {admissionFairSharing: {usageHalfLifeTime: 1h}}"
    )
    assert (
        run("plan", "-f", fleet_file, "--now", NOW, "--config", ours, "--explain", "default/sweep", "-o", "json") == 0
    )
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    scores = document["explain"]["job"]["clusters"][0]["scores"]
    assert [(score["scorer"], score["weight"]) for score in scores] == [("Price", 3.0)]
    assert "admissionFairSharing has no effect in mode fleet yet" in captured.err

    kueues = tmp_path / "kueue.yaml"
    kueues.write_text(
        "apiVersion: config.kueue.x-k8s.io/v1beta2\nkind: Configuration\n"
        "resources: {deviceClassMappings: [{name: x}]}\n"
    )
    for arguments in (["--config", kueues], ["-f", kueues]):
        assert run("plan", "-f", fleet_file, *arguments) == 0
        assert (
            "config.kueue.x-k8s.io Configuration: resources.deviceClassMappings has no effect"
            in capsys.readouterr().err
        )

    kueues.write_text(
        "apiVersion: config.kueue.x-k8s.io/v1beta2\nkind: Configuration\nmanageJobsWithoutQueueName: true\n"
        "metrics: {bindAddress: ':8443'}\n"
    )
    assert run("plan", "-f", fleet_file, "--config", kueues) == 0
    error = capsys.readouterr().err
    assert "manageJobsWithoutQueueName: a Job without a queue name is left alone" in error
    assert "metrics" not in error
    kueues.write_text("apiVersion: config.kueue.x-k8s.io/v1beta2\nkind: Configuration\nfairSharin: {}\n")
    assert run("plan", "-f", fleet_file, "--config", kueues) == 2
    assert "fairSharin: Kueue's Configuration has no such field" in capsys.readouterr().err

    for text, said in (
        ("queue: {mode: queue}", "found 'queue'; allowed: fleet, kueue"),
        (
            "queue: {mode: kueue, fairSharing: {preemptionStrategies: [Random]}}",
            "fairSharing.preemptionStrategies: found",
        ),
        ("queue: {modus: fleet}", "queue.modus: there is no such setting; known here: mode"),
        ("shards: 3", "shards"),
        ("[1, 2]", "holds no settings"),
        ("a: {", "is not YAML"),
    ):
        ours.write_text(text)
        assert run("plan", "-f", fleet_file, "--config", ours) == 2
        assert said in capsys.readouterr().err
    assert run("plan", "-f", fleet_file, "--config", tmp_path / "absent.yaml") == 2


def test_the_mode_comes_from_the_option_or_the_configuration(
    fleet_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = tmp_path / "hub.yaml"
    ours.write_text("queue: {mode: kueue, fairSharing: {}, multiKueue: {gcInterval: 1m}}")
    document = planned(capsys, "-f", fleet_file, "--config", ours)
    assert document["mode"] == "kueue"
    assert planned(capsys, "-f", fleet_file, "--config", ours, "--mode", "fleet")["mode"] == "fleet"
    assert planned(capsys, "-f", fleet_file, "--mode", "kueue")["mode"] == "kueue"
    assert run("plan", "-f", fleet_file, "--config", ours) == 0
    captured = capsys.readouterr()
    assert "multiKueue has no effect in mode kueue" in captured.err
    assert "mode kueue decides about quota only: nothing is placed on a cluster" in captured.err
    assert "Misconfigured" in captured.out
    assert "LocalQueue default/absent does not exist" in captured.out


def test_what_has_no_effect_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    objects = [
        *queue("q", cpu=4, admissionScope={"admissionMode": "UsageBasedAdmissionFairSharing"}),
        workload("w", "q", (2, 1)),
    ]
    objects[-1]["spec"]["preemptionGates"] = [{"name": "example.com/gate"}]
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(objects))
    assert run("plan", "--each", "-f", tmp_path, "-o", "json") == 0
    error = capsys.readouterr().err
    for said in ("admissionScope of ClusterQueue q: mode fleet does not decide by it", "default/w: preemptionGates"):
        assert error.count(said) == 1


def test_who_is_sent_away_is_a_table_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = holding("q", cpu="2")
    held["conditions"].append({"type": "Admitted", "status": "True", "lastTransitionTime": NOW})
    objects = [*queue("q", cpu=4, stopPolicy="HoldAndDrain"), workload("w", "q", (4, "500m"), status=held)]
    (tmp_path / "drained.yaml").write_text(yaml.safe_dump_all(objects))
    for mode in ("kueue", "fleet"):
        assert run("plan", "-f", tmp_path, "--mode", mode) == 0
        shown = capsys.readouterr().out
        assert "EVICTED    CLUSTERQUEUE  REASON" in shown
        assert "ClusterQueue q is being drained (stopPolicy HoldAndDrain)" in shown


class _Hub:
    """A hub that serves some kinds from a list, as a Session would."""

    def __init__(self, objects: list[dict[str, Any]]) -> None:
        self.objects = objects

    async def __aenter__(self) -> _Hub:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        raise NotFoundError(404, {"message": f"{resource.plural} {name} not found"})

    async def list(self, resource: Resource, namespace: str | None = None, **_: Any) -> Listing:
        if resource is SCORE_SOURCES:
            raise NotFoundError(404, {"message": "no such kind"})
        found = [obj for obj in self.objects if obj["kind"] == resource.kind]
        # As a server does: members of a list do not repeat what they are.
        bare = [{key: value for key, value in obj.items() if key not in ("kind", "apiVersion")} for obj in found]
        return Listing(bare, "1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> _Hub:
    from hub.cli import connection

    served = _Hub(a_fleet())
    for number, obj in enumerate(served.objects):
        obj["metadata"] = {"uid": f"uid-{number}", "creationTimestamp": NOW} | obj["metadata"]
    monkeypatch.setattr(connection, "connect", lambda ctx: served)
    monkeypatch.setattr(connection, "namespace", lambda ctx: "default")
    return served


def test_the_live_hub_instead_of_files(hub: _Hub, capsys: pytest.CaptureFixture[str]) -> None:
    document = planned(capsys, "--from-hub")
    assert document["cycles"][0]["admitted"][0]["clusters"] == ["south"]
    # What is broken there is a reason, never an end.
    hub.objects.append(job("broken", "research", gpu={"share": "7"}))
    hub.objects[-1]["metadata"] |= {"uid": "uid-broken", "creationTimestamp": NOW}
    document = planned(capsys, "--from-hub")
    assert {entry["job"]: entry["reason"] for entry in document["jobs"]}["default/broken"] == "InvalidSpec"


def test_explain_a_waiting_job(hub: _Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "train") == 0
    text = capsys.readouterr().out
    assert "FleetJob default/train  Queued" in text
    assert "waits  NoClusterFits: needs 1 CPU, 1 × H100 a task; north: has A100 with 80Gi, not H100" in text
    assert "→ would start if you: allow other GPU models than H100" in text
    assert "quota, from the queue up" in text
    assert "ClusterQueue vision" in text
    assert "What only the hub knows is missing here (leases quarterdeck-hub not found)" in text.replace("\n", " ")
    assert run("explain", "train", "-o", "json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["job"]["verdict"]["reason"] == "NoClusterFits"
    assert run("explain", "train", "-o", "yaml") == 0
    again = yaml.safe_load(capsys.readouterr().out)
    # Between the two a moment has passed.
    for entry in (*again["job"]["scorers"], *record["job"]["scorers"]):
        assert entry.pop("age") > 0
    assert again == record


def test_explain_an_ended_job_by_its_attempts(hub: _Hub, capsys: pytest.CaptureFixture[str]) -> None:
    ended = job("old", "research", tasks=2, retry={"limitPerTask": 2})
    ended["metadata"] |= {"uid": "uid-old", "creationTimestamp": NOW}
    ended["status"] = {
        "phase": "Failed",
        "reason": "TasksFailed",
        "message": "1 of 2 tasks failed: 1",
        "tasks": {"total": 2, "succeeded": 1, "failed": 1, "succeededIndexes": "0", "failedIndexes": "1"},
        "finishedAt": NOW,
        "attempts": [
            {"epoch": 1, "attempt": 1, "cluster": "north", "tasks": "0-1", "state": "Failed", "succeeded": "0",
             "failed": "1", "exitCodes": "3=1", "startedAt": NOW, "finishedAt": NOW},
            {"epoch": 2, "attempt": 2, "cluster": "south", "tasks": "1", "state": "Failed", "failed": "1",
             "exitCodes": "3=1", "startedAt": NOW, "finishedAt": NOW},
        ],
    }  # fmt: skip
    hub.objects.append(ended)
    assert run("explain", "old") == 0
    text = capsys.readouterr().out
    assert "FleetJob default/old  Failed" in text
    assert "retry elsewhere after a failure on north" in text
    assert "3: 1" in text
    assert "decision" not in text


def test_explain_says_which_jobs_there_are(hub: _Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "trian") == 2
    error = capsys.readouterr().err
    assert "there is no job trian in namespace default" in error
    assert "Did you mean train?" in error
    assert run("explain", "zzz") == 2
    assert "Did you mean" not in capsys.readouterr().err


def test_explain_a_workload_of_somebody_else(hub: _Hub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.objects += [workload("theirs", "vision", (4, 1)), workload("asleep", "vision", (1, 1), active=False)]
    assert run("explain", "default/theirs") == 0
    text = capsys.readouterr().out
    assert "Workload default/theirs  Pending" in text
    assert "starts  tasks 0-3 on south, 4 at once, paid from cpu=default" in text
    assert run("explain", "asleep") == 0
    assert "spec.active is false" in capsys.readouterr().out


def test_explain_a_placement(hub: _Hub, capsys: pytest.CaptureFixture[str]) -> None:
    bound = {
        "apiVersion": "cluster.open-cluster-management.io/v1beta2", "kind": "ManagedClusterSetBinding",
        "metadata": {"name": "global", "namespace": "default", "uid": "b"}, "spec": {"clusterSet": "global"},
    }  # fmt: skip
    placed = {
        "apiVersion": "cluster.open-cluster-management.io/v1beta1", "kind": "Placement",
        "metadata": {"name": "train", "namespace": "default", "uid": "p"}, "spec": {"numberOfClusters": 1},
    }  # fmt: skip
    hub.objects += [bound, placed]
    assert run("explain", "placement", "train") == 0
    text = capsys.readouterr().out
    assert "Placement default/train" in text
    assert "FleetJob" not in text
    assert "2 clusters, 2 pass every filter, 1 chosen, 1 wanted" in text
    assert "next best: south, 0 points behind the last chosen" in text
    assert "→ south would be chosen with: numberOfClusters 2" in text
    assert "0 → 100 → 100" in text
    assert run("explain", "placement", "default/train", "-o", "json") == 0
    record = json.loads(capsys.readouterr().out)["placement"]
    assert [line["rank"] for line in record["clusters"]] == [1, 0]
    assert record["clusters"][0]["scores"][0] == {
        "scorer": "Balance", "weight": 1, "raw": 0.0, "normalised": 100, "weighted": 100,
    }  # fmt: skip
    assert [step["filter"] for step in record["filters"]] == [
        "Acceptance", "ManagedClusterSet", "Predicate", "TaintToleration", "MissingScore", "Spread",
    ]  # fmt: skip
    assert record["scorers"][0]["source"] == "how often other Placements chose the cluster"
    assert record["smallestChange"] == {"cluster": "south", "change": "numberOfClusters 2"}
    placed["spec"] = {"numberOfClusters": -1}
    assert run("explain", "placement", "train") == 0
    assert "Misconfigured: spec.numberOfClusters: -1 is not a number of clusters" in capsys.readouterr().out
    assert run("explain", "placement", "tarin") == 2
    assert "there is no placement tarin in namespace default" in capsys.readouterr().err
    assert run("explain", "job", "train") == 2

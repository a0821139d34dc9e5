"""The demo's own parts: its input is the same every time, its program is right, and its summary can say "no"."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hub.api.errors import UsageError
from hub.cli.demo import sequence_stats, tenants
from hub.cli.demo.command import refuse_foreign
from hub.cli.demo.decisions import DecisionLog
from hub.cli.demo.fasta import FILES, TRUNCATED, write_samples
from hub.cli.demo.scene import SITES, job
from hub.cli.demo.site_rows import site_rows
from hub.cli.demo.summary import print_summary, retries
from hub.cli.demo.tenants import Story
from hub.cli.invocation import command_line
from hub.fleet.changes import CapacitySeen, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import task_shape


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    size = write_samples(tmp_path / "a", seed=7, files=10)
    assert write_samples(tmp_path / "b", seed=7, files=10) == size
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    write_samples(tmp_path / "c", seed=8, files=1)
    assert (tmp_path / "a/sample-000.fasta").read_bytes() != (tmp_path / "c/sample-000.fasta").read_bytes()


def run_program(samples: Path, task: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(Path(sequence_stats.__file__).resolve()), str(samples)]
    environment = {**os.environ, "QUARTERDECK_TASK_INDEX": str(task)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)


def test_the_program_reads_its_own_file_and_counts_it(tmp_path: Path) -> None:
    (tmp_path / "sample-004.fasta").write_text(">a length=8\nACGTAC\nGT\n>b length=4\nGGGG\n")
    done = run_program(tmp_path, 4)
    assert json.loads(done.stdout) == {
        "file": "sample-004.fasta",
        "bases": 12,
        "gc": round(8 / 12, 4),
        "n50": 8,
        "kmers": 10 + 8 + 6 + 4 + 3 + 2 + 1,
        "distinct": {"2": 5, "3": 5, "4": 5, "5": 4, "6": 3, "7": 2, "8": 1, "9": 0},
        "top": ["ACGT", "CGTA", "GTAC"],
    }


def test_a_cut_file_fails_with_an_error_that_names_it(tmp_path: Path) -> None:
    write_samples(tmp_path, files=TRUNCATED[0] + 1)
    done = run_program(tmp_path, TRUNCATED[0])
    assert done.returncode == 1
    assert f"sample-{TRUNCATED[0]:03d}.fasta" in done.stderr
    assert "truncated?" in done.stderr
    assert run_program(tmp_path, 0).returncode == 0


def test_the_scene_is_what_was_asked_for(tmp_path: Path) -> None:
    models = [node["gpu"]["model"] for site in SITES for node in site["nodes"]]
    wanted = job(tmp_path)["spec"]
    assert wanted["tasks"] == FILES
    assert sum(model in wanted["gpu"]["models"] for model in models) == 2
    assert sum("busy" in site for site in SITES) == 1


def ended_job() -> dict[str, Any]:
    return {
        "metadata": {"name": "sequence-stats"},
        "status": {
            "tasks": {"total": FILES, "succeeded": 57, "failed": 3, "failedIndexes": "7,23,41"},
            "attempts": [
                {
                    "epoch": 1,
                    "attempt": 1,
                    "cluster": "harbour",
                    "tasks": "0-39",
                    "failed": "7,23",
                    "exitCodes": "1=7,23",
                },
                {"epoch": 2, "attempt": 1, "cluster": "foundry", "tasks": "40-59", "failed": "41", "exitCodes": "1=41"},
                {"epoch": 3, "attempt": 2, "cluster": "foundry", "tasks": "7,23", "failed": "7,23"},
                {"epoch": 4, "attempt": 2, "cluster": "harbour", "tasks": "41", "failed": "41"},
            ],
        },
    }


def test_retries_say_where_from_where_to_and_why() -> None:
    assert retries(ended_job()) == [
        "tasks 7,23: exit code 1 on harbour → foundry, failed there too",
        "task 41: exit code 1 on foundry → harbour, failed there too",
    ]


def story(preemptions: int = 1) -> Story:
    attempts = [{"state": "Evicted", "cluster": "orchard", "message": "research takes back what it owns"}]
    tasks = {"total": 12, "succeeded": 12}
    borrower = {"status": {"phase": "Succeeded", "tasks": tasks, "attempts": attempts, "preemptions": preemptions}}
    return Story(borrower, {"status": {"phase": "Succeeded", "tasks": {"total": 8, "succeeded": 8}}})


def test_the_tenants_tell_who_gave_what_back() -> None:
    assert story().as_it_should
    assert not story(0).as_it_should
    assert story().lines()[-1] == "teaching: 12 of 12 tasks succeeded (those that were stopped ran again)"
    assert sum(tenants.OWNED.values()) == sum(n["count"] * n["cpu"] for n in SITES[2]["nodes"])
    assert tenants.SITE_LABELS.items() <= SITES[2]["labels"].items()


@pytest.mark.parametrize("lost", [0, 1])
def test_the_summary_is_good_only_with_all_results(capsys: pytest.CaptureFixture[str], lost: int) -> None:
    result = {"bases": 10, "kmers": 7, "gc": 0.5}
    errors = {7: "truncated?", 23: "truncated?", 41: "truncated?"}
    good = print_summary(ended_job(), [result] * (57 - lost), errors, 0.05, 12.0, Path("data"), story())
    assert good is (lost == 0)
    said = capsys.readouterr().out
    assert "  preempted on orchard: research takes back what it owns" in said
    assert "57 of 60 files read" in said
    assert "submit to first task running: 50 ms" in said


def test_the_log_says_each_decision_and_each_failure_once() -> None:
    log = DecisionLog()
    queued = {"phase": "Queued", "message": "the clusters are full"}
    assert list(log.lines(queued)) == ["waits: the clusters are full"]
    assert list(log.lines(queued)) == []
    first = {"epoch": 1, "attempt": 1, "cluster": "harbour", "tasks": "0-3", "state": "Running"}
    assert list(log.lines({"phase": "Running", "attempts": [first]})) == ["tasks 0-3 → harbour (epoch 1)"]
    failed = first | {"failed": "2", "exitCodes": "1=2"}
    second = {"epoch": 2, "attempt": 2, "cluster": "foundry", "tasks": "2", "state": "Lost", "message": "cut off"}
    assert list(log.lines({"phase": "Running", "attempts": [second, failed]})) == [
        "task 2 → foundry (epoch 2, attempt 2)",
        "task 2 failed on harbour: exit code 1",
        "epoch 2 on foundry lost: cut off",
    ]
    assert list(log.lines({"phase": "Running", "attempts": [second, failed]})) == []


def test_the_table_tells_which_sites_can_run_it_and_ranks_them() -> None:
    fleet = Fleet.empty().apply(
        change
        for site in SITES
        for change in (
            ClusterSeen({"metadata": {"name": site["name"]}, "spec": {"hubAcceptsClient": True}}),
            CapacitySeen({"metadata": {"name": site["name"]}, "status": reported(site)}),
        )
    )
    spec = job(Path("samples"))["spec"]
    rows = {row.name: row for row in site_rows(fleet, task_shape(spec["template"], spec["gpu"]), 0.0)}
    assert {name: row.slots for name, row in rows.items()} == {"harbour": 4, "foundry": 4, "orchard": 0}
    assert rows["orchard"].score is None
    assert rows["foundry"].price == pytest.approx(1.35 + 0.03)
    assert all(row.simulated for row in rows.values())


def reported(site: dict[str, Any]) -> dict[str, Any]:
    groups = [
        {
            "name": f"group-{number}",
            "count": node["count"],
            "gpu": node["gpu"],
            "allocatable": {"cpu": node["cpu"], "memory": node["memory"]},
        }
        for number, node in enumerate(site["nodes"])
    ]
    return {"simulated": True, "prices": site["prices"], "nodeGroups": groups}


def test_the_demo_removes_nothing_that_is_not_its_own(tmp_path: Path) -> None:
    refuse_foreign(tmp_path / "not there yet")
    refuse_foreign(tmp_path)
    (tmp_path / "logs").mkdir()
    with pytest.raises(UsageError, match="holds something that is no demo"):
        refuse_foreign(tmp_path)
    (tmp_path / ".quarterdeck-demo").touch()
    refuse_foreign(tmp_path)


def test_what_to_try_next_can_be_typed_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "b in" / "quarterdeck"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert command_line() == "'b in/quarterdeck'"
    monkeypatch.setenv("PATH", str(program.parent))
    assert command_line() == "quarterdeck"

"""The exit code of a job, the job of a command line, and the demo's own program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hub.api.errors import UsageError
from hub.api.indexset import IndexSet
from hub.cli.demo import sequence_stats
from hub.cli.demo.fasta import TRUNCATED, write_samples
from hub.cli.demo.sequence_stats import n50
from hub.cli.demo.summary import retries
from hub.cli.jobs import exit_code
from hub.cli.run import fleet_job
from hub.jobs.attempt import Attempt
from hub.jobs.feedback import parse_exit_codes

_OPTIONS: dict[str, Any] = {
    "name": None, "queue": None, "priority": None, "gpu": 0, "gpu_model": (), "cpu": "1", "memory": "256Mi",
    "tasks": 1, "parallelism": None, "attempts": 1, "image": "host", "env": (), "workdir": None,
}  # fmt: skip


def _ended(phase: str, failed: str = "") -> dict[str, Any]:
    return {"metadata": {"name": "j"}, "status": {"phase": phase, "tasks": {"failedIndexes": failed}}}


def _attempts(*codes: str) -> list[Attempt]:
    return [
        Attempt(epoch, 1, "a", IndexSet.span(9), 9, f"w{epoch}", exit_codes=parse_exit_codes(code))
        for epoch, code in enumerate(codes, 1)
    ]


@pytest.mark.parametrize(
    ("job", "attempts", "code"),
    [
        (_ended("Succeeded"), (), 0),
        (_ended("Cancelled"), ("3=0",), 130),
        (_ended("Failed", "0"), ("3=0",), 3),
        (_ended("Failed", "0-2"), ("7=1;9=0,2",), 7),
        # Task 0 failed with 3 first and succeeded later: its code is nobody's exit code.
        (_ended("Failed", "1"), ("3=0", "9=1"), 9),
        (_ended("Failed", "0"), (), 1),
    ],
)
def test_the_exit_code_is_that_of_a_task_that_failed_in_the_end(
    job: dict[str, Any], attempts: tuple[str, ...], code: int
) -> None:
    assert exit_code(job, _attempts(*attempts)) == code


def test_what_the_shell_left_alone_reaches_the_program() -> None:
    job = fleet_job(("sh", "-c", "kill $$; echo $(QUARTERDECK_TASK_INDEX) $HOME"), **_OPTIONS)
    # Kubernetes makes one dollar of two, and replaces names in parentheses.
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[2] == "kill $$$$; echo $(QUARTERDECK_TASK_INDEX) $HOME"


def test_a_command_line_becomes_a_job() -> None:
    options = {
        **_OPTIONS,
        "gpu": 2,
        "gpu_model": ("A100",),
        "tasks": 5,
        "attempts": 3,
        "env": ("A=b=c",),
        "workdir": "/srv",
    }
    job = fleet_job(("python3", "train.py"), **options)
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert job["metadata"] == {"generateName": "python3-"}
    assert job["spec"]["gpu"] == {"count": 2, "models": ["A100"]}
    assert job["spec"]["retry"] == {"limitPerTask": 3}
    assert (container["command"], container["workingDir"]) == (["python3", "train.py"], "/srv")
    assert container["env"] == [{"name": "A", "value": "b=c"}]


@pytest.mark.parametrize(
    ("change", "field"), [({"env": ("NOVALUE",)}, "--env"), ({"gpu_model": ("A100",)}, "--gpu-model")]
)
def test_an_option_that_cannot_work_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError, match=field):
        fleet_job(("true",), **{**_OPTIONS, **change})


def test_retries_are_told_with_where_and_why() -> None:
    attempts = [
        {"epoch": 1, "attempt": 1, "cluster": "a", "tasks": "0-3", "failed": "2", "exitCodes": "3=2"},
        {"epoch": 2, "attempt": 2, "cluster": "b", "tasks": "2", "failed": "2", "exitCodes": "3=2"},
        {"epoch": 3, "attempt": 1, "cluster": "b", "tasks": "4-5"},
    ]
    assert retries({"status": {"attempts": attempts}}) == ["task 2: exit code 3 on a → b, failed there too"]


def test_the_generator_is_seeded_and_cuts_three_files(tmp_path: Path) -> None:
    write_samples(tmp_path / "a", seed=1, files=8)
    write_samples(tmp_path / "b", seed=1, files=8)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert TRUNCATED[0] == 7


@pytest.mark.parametrize(("task", "code"), [(0, 0), (7, 1)])
def test_the_program_reads_a_whole_file_and_refuses_a_cut_one(tmp_path: Path, task: int, code: int) -> None:
    write_samples(tmp_path, seed=1, files=8)
    done = subprocess.run(
        [sys.executable, "-I", "-S", sequence_stats.__file__, str(tmp_path)],
        env={"QUARTERDECK_TASK_INDEX": str(task)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == code
    if code:
        assert "truncated?" in done.stderr
    else:
        assert json.loads(done.stdout)["file"] == "sample-000.fasta"


def test_n50_is_the_length_that_covers_half() -> None:
    assert n50([2, 2, 2, 3, 3, 4, 8, 8]) == 8
    assert n50([5]) == 5
    assert n50([]) == 0

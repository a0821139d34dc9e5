"""`quarterdeck up` as a person meets it: the first command, the first mistakes, Ctrl-C, a second run."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loop_command import Home, until

SITES: list[dict[str, Any]] = [
    {
        "name": "north",
        "runtime": "process",
        "prices": {"cpuHour": "0.02", "gpuHour": {"A100": "2"}},
        "nodes": [{"count": 1, "cpu": 4, "memory": "8Gi", "gpu": {"model": "A100", "count": 2, "memory": "40Gi"}}],
    },
    {"name": "south", "runtime": "process", "nodes": [{"count": 1, "cpu": 4, "memory": "8Gi"}]},
]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One hub with two sites for all tests that leave it as they found it."""
    here = Home(tmp_path_factory.mktemp("loop"), SITES)
    with here.up():
        yield here


def fleet_job(name: str, script: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "host", "command": ["/bin/sh", "-c", script]}
    container |= {"resources": {"requests": {"cpu": "100m", "memory": "16Mi"}}}
    return {
        "apiVersion": "fleet.quarterdeck.dev/v1alpha1",
        "kind": "FleetJob",
        "metadata": {"name": name},
        "spec": {**spec, "template": {"spec": {"containers": [container]}}},
    }


def test_run_is_as_if_the_command_ran_here(home: Home) -> None:
    done = home.run("run", "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 3")
    assert done.returncode == 3, done.stderr
    assert sorted(done.stdout.split()) == ["err", "out"]


def test_a_gpu_is_handed_out_where_there_is_one(home: Home) -> None:
    done = home.run("run", "--gpu", "1", "--", "/bin/sh", "-c", 'echo "$QUARTERDECK_CLUSTER $CUDA_VISIBLE_DEVICES"')
    assert done.returncode == 0, done.stderr
    cluster, device = done.stdout.split()
    assert cluster == "north"
    assert device in ("0", "1")


def test_an_array_finds_its_indexes_and_its_logs_are_told_apart(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text(
        json.dumps(fleet_job("squares", "echo $((QUARTERDECK_TASK_INDEX * QUARTERDECK_TASK_INDEX))", tasks=7))
    )
    assert home.run("submit", str(file)).returncode == 0
    assert home.run("wait", "squares").returncode == 0
    assert home.run("logs", "squares", "--task", "5").stdout == "25\n"
    lines = home.run("logs", "squares").stdout.splitlines()
    assert sorted(line.split("│")[1].strip() for line in lines) == sorted(str(n * n) for n in range(7))
    row = home.run("get", "jobs", "squares").stdout
    assert "Succeeded" in row
    assert "7/7" in row


def test_failed_tasks_are_tried_again_alone_and_can_be_retried_by_hand(home: Home, tmp_path: Path) -> None:
    flag = tmp_path / "mended"
    script = f'[ "$QUARTERDECK_TASK_INDEX" != 2 ] || [ -e {flag} ] || {{ echo "task 2 is broken"; exit 9; }}'
    file = tmp_path / "job.json"
    file.write_text(json.dumps(fleet_job("brittle", script, tasks=4, retry={"limitPerTask": 2})))
    assert home.run("submit", str(file)).returncode == 0
    waited = home.run("wait", "brittle")
    assert waited.returncode != 0
    job = json.loads(home.run("get", "jobs", "brittle", "-o", "json").stdout)
    status = (job["items"][0] if "items" in job else job)["status"]
    assert status["tasks"]["failedIndexes"] == "2"
    assert status["tasks"]["succeededIndexes"] == "0-1,3"
    tried = [attempt["cluster"] for attempt in status["attempts"] if attempt.get("failed") == "2"]
    assert len(tried) == 2
    assert len(set(tried)) == 2, "the second attempt was to be elsewhere"
    assert "task 2 is broken" in home.run("logs", "brittle", "--failed").stdout
    assert "task 2 is broken" in home.run("describe", "job", "brittle").stdout
    flag.touch()
    assert home.run("retry", "--failed", "brittle").returncode == 0
    assert home.run("wait", "brittle").returncode == 0


def test_ctrl_c_ends_the_job_and_its_processes(home: Home) -> None:
    running = home.start("run", "--name", "endless", "--", "/bin/sh", "-c", "sleep 987 & sleep 987; wait")
    until(lambda: home.processes("QUARTERDECK_JOB=", "sleep", "987"), 20, "the task runs")
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=30)
    assert running.returncode == 130, said
    until(lambda: not home.processes("QUARTERDECK_JOB=", "987"), 45, "no process of the job is left")
    until(lambda: "Cancelled" in home.run("get", "jobs", "endless").stdout, 20, "its phase is Cancelled")


def test_a_job_that_can_never_fit_says_why_and_explain_says_more(home: Home) -> None:
    assert home.run("run", "-d", "--name", "huge", "--gpu", "3", "--", "true").returncode == 0
    until(lambda: "NoClusterFits" in home.run("get", "jobs", "huge", "-o", "wide").stdout, 20, "a reason")
    explained = home.run("explain", "huge")
    assert explained.returncode == 0, explained.stderr
    assert "north" in explained.stdout
    assert "south" in explained.stdout
    assert home.run("cancel", "huge").returncode == 0


def test_every_mistake_is_told_what_to_do_next(home: Home, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(json.dumps(fleet_job("wrong", "true", tasks=0)))
    refused = home.run("submit", str(wrong))
    assert refused.returncode in (1, 2)
    assert "spec.tasks" in refused.stderr
    unknown = home.run("logs", "squarez")
    assert unknown.returncode == 2
    assert "→" in unknown.stderr
    typo = home.run("sumbit", "x")
    assert typo.returncode == 2
    assert "submit" in typo.stderr


def test_a_second_up_says_who_holds_the_data_and_ends(home: Home) -> None:
    second = home.run("up", "--data", str(home.data))
    assert second.returncode == 1
    assert "pid" in second.stderr
    assert "→" in second.stderr


def test_declared_hardware_says_so(home: Home) -> None:
    assert "simulated" in home.said
    assert "simulated" in home.run("get", "clusters").stdout.lower()
    assert "simulated" in home.run("describe", "cluster", "north").stdout.lower()


def test_a_token_is_nowhere_but_in_the_kubeconfigs(home: Home) -> None:
    tokens = json.loads((home.data / "api" / "tokens.json").read_text())
    logs = "".join(path.read_text(errors="replace") for path in (home.data / "logs").iterdir())
    for token in tokens:
        assert token not in home.said
        assert token not in logs
    assert (home.data / "kubeconfig").stat().st_mode & 0o077 == 0


def test_stopped_and_started_again_it_goes_on_where_it_was(tmp_path: Path) -> None:
    here = Home(tmp_path, [SITES[1]])
    with here.up():
        assert here.run("run", "--name", "before", "--", "true").returncode == 0
        assert here.run("run", "-d", "--name", "later", "--gpu", "1", "--", "true").returncode == 0
    assert "stopped" in here.last_words
    assert here.processes() == []
    here = Home(tmp_path, [SITES[1], SITES[0] | {"name": "west"}])
    with here.up():
        assert "Succeeded" in here.run("get", "jobs", "before").stdout
        # What had no place before has one now that a site with GPUs is there.
        assert here.run("wait", "later", timeout=60).returncode == 0
        assert here.run("logs", "before").returncode == 0
    assert here.processes() == []


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = Home(tmp_path).run("up", "--data", str(tmp_path / "d"), "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "in use" in done.stderr


def test_a_corrupt_data_directory_is_said_and_nothing_is_thrown_away(tmp_path: Path) -> None:
    here = Home(tmp_path, [SITES[1]])
    with here.up():
        pass
    (store,) = [path for path in (here.data / "api").iterdir() if path.suffix in (".db", ".sqlite", ".sqlite3")]
    store.write_bytes(b"not a database" * 1000)
    done = here.run("up", "--data", str(here.data), "--no-prometheus")
    assert done.returncode == 1
    assert str(here.data) in done.stderr
    assert store.read_bytes().startswith(b"not a database")
    assert here.processes() == []

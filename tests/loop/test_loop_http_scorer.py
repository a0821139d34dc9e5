"""The page about scorers behind HTTP, followed by somebody who has nothing but the page."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loop_command import Home, until

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scorers" / "http.md"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Everything that the page writes, in its directory; only the port is another, because 8000 may be taken."""
    here = Home(tmp_path / "person")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    text = PAGE.read_text().replace("8000", port)
    fleet, cool = (block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[:2])
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (here.root / "fleet.yaml").write_text(fleet)
    (here.root / "cool.yaml").write_text(cool)
    (here.root / "scorer.py").write_text(program)
    here.rooms = re.findall(r"```json\n(.*?)```", text, re.DOTALL)  # type: ignore[attr-defined]
    here.commands = re.findall(r"^    quarterdeck (.+)$", text, re.MULTILINE)  # type: ignore[attr-defined]
    (here.root / "rooms.json").write_text(here.rooms[0])  # type: ignore[attr-defined]
    process = subprocess.Popen(
        [sys.executable, "scorer.py"], cwd=here.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 20
    while True:
        with socket.socket() as knock:
            if knock.connect_ex(("127.0.0.1", int(port))) == 0:
                break
        assert time.monotonic() < deadline, "the scorer does not listen"
        time.sleep(0.05)
    yield here
    process.terminate()
    process.wait(10)


def test_l_the_page_says_what_happens(home: Home) -> None:
    commands: list[str] = home.commands  # type: ignore[attr-defined]
    assert len((home.root / "scorer.py").read_text().strip().splitlines()) <= 36
    up, tried, submitted, ran, explained, scores, again, explained_again = commands
    assert up.startswith("up --fleet fleet.yaml")
    shown = home.run(*tried.split())
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"west\s+56\s+100", shown.stdout), shown.stdout
    with home.up("--fleet", str(home.root / "fleet.yaml")):
        done = home.run(*submitted.split())
        assert done.returncode == 0, done.stderr

        def scored() -> bool:
            status = _scorer(home)
            return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))

        until(scored, 30, "the scorer is Ready")
        assert _scorer(home)["clusters"] == 2
        assert home.run(*ran.split()).returncode == 0
        told = home.run(*explained.split()).stdout
        assert "Dynamic/cool 100" in told, told
        assert _place(home, "first") == ["west"]
        of_west = home.run(*scores.split(), "-o", "json")
        assert of_west.returncode == 0, of_west.stderr
        (cool,) = (row for row in json.loads(of_west.stdout)["scores"] if row["scorer"] == "Dynamic/cool")
        assert (cool["raw"], cool["normalised"], cool["rank"], cool["of"]) == (56, 100, 1, 2)
        assert cool["source"] == "DynamicScorer, score cool, over HTTP"
        assert cool["age"] < 60
        table = home.run(*scores.split()).stdout
        assert re.search(r"Dynamic/cool\s+56\s+100\s+1\s+100\s+1/2", table), table
        assert _scores(home, "west") == {"cool": 56}
        (home.root / "rooms.json").write_text(home.rooms[1])  # type: ignore[attr-defined]
        until(lambda: _scores(home, "west") == {"cool": 42}, 30, "the new scores are published")
        assert home.run(*again.split()).returncode == 0
        assert "Dynamic/cool 100" in home.run(*explained_again.split()).stdout
        assert _place(home, "second") == ["east"]


def _kubectl(home: Home, *arguments: str) -> dict[str, object]:
    kubeconfig = home.data / "kubeconfig"
    done = subprocess.run(
        [str(Path(sys.executable).parent / "kubectl"), "--kubeconfig", str(kubeconfig), *arguments, "-o", "json"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _scorer(home: Home) -> dict:  # type: ignore[type-arg]
    return _kubectl(home, "get", "dynamicscorer", "room-temperature").get("status") or {}  # type: ignore[return-value]


def _scores(home: Home, cluster: str) -> dict[str, int]:
    status = _kubectl(home, "get", "addonplacementscore", "cool", "-n", cluster).get("status") or {}
    return {score["name"]: score["value"] for score in status.get("scores", ())}  # type: ignore[attr-defined]


def _place(home: Home, job: str) -> object:
    status = _kubectl(home, "get", "fleetjob", job)["status"]
    return status["clusters"]  # type: ignore[index]

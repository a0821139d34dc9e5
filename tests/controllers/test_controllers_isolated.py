"""Plugins in processes of their own: whatever they do, the hub goes on, and what they said last counts a while."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import hostile_scorers
import numpy as np
import pytest

from hub.api.errors import PluginError
from hub.controllers.guard import Guarded, NoAnswer
from hub.controllers.isolated import Bounds, Isolated, Loader
from hub.fleet.changes import Charge, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.interface import ScoreRequest
from hub.scoring.normalise import Normaliser
from hub.scoring.plugins import GROUP, discover

TASK = TaskShape((("cpu", 10),))
FLEET = Fleet.empty().apply(ClusterSeen({"metadata": {"name": name}}) for name in "abcde")
# Long enough for a busy machine; a plugin that hangs is waited for no longer.
BOUNDS = Bounds(budget=1.5, startup=60.0, memory=256 << 20)

Start = Callable[..., Isolated]


def point(what: str = "Hostile") -> EntryPoint:
    return EntryPoint("bad", f"{hostile_scorers.__name__}:{what}", GROUP)


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Isolated] = []

    def make(what: str = "Hostile", bounds: Bounds = BOUNDS, **settings: Any) -> Isolated:
        isolated = Isolated(point(what), settings, bounds, fleet=lambda: FLEET)
        started.append(isolated)
        isolated.ready()
        return isolated

    yield make
    for isolated in started:
        isolated.close()


def ask(scorer: Any, fleet: Fleet = FLEET, now: float = 1.0) -> list[float]:
    found: list[float] = scorer.score(fleet, ScoreRequest(TASK, 1, now)).tolist()
    return found


GOOD = [10.0, 11.0, 12.0, 13.0, 14.0]


def alive(pid: int) -> bool:
    """Whether it still runs; one that has ended and is not waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def within(seconds: float, what: Callable[[], Any]) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("not in time")


def test_what_it_says_of_itself_and_of_clusters_arrives(start: Start) -> None:
    isolated = start(behave=100)
    assert (isolated.name, isolated.lower_is_better, isolated.publish, isolated.live) == ("hostile", True, True, False)
    assert isolated.normaliser == Normaliser("minMax", low=0.0)
    assert isolated.ready().weight == 2.0
    assert ask(isolated) == GOOD
    # A fleet that changes, grows and comes back.
    more = FLEET.apply([ClusterSeen({"metadata": {"name": "f"}}), Charge("k", "a", TASK, 2)])
    assert ask(isolated, more) == [*GOOD, 15.0]
    assert ask(isolated) == GOOD


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("leave", "ended by itself with code 7"),
        ("crash", "was killed by signal 11"),
        ("eat", "MemoryError"),
        ("forge", "it sent what is no answer"),
        ("shorten", r"answered shape \(4,\), expected \(5,\)"),
        ("words", "ValueError"),
        ("quit", "SystemExit: 3"),
        ("lie", "Odd"),
    ],
)
def test_what_it_does_wrong_costs_its_answer_only(start: Start, how: str, said: str) -> None:
    isolated = start(behave=1, how=how)
    assert ask(isolated) == GOOD
    with pytest.raises(PluginError, match=said):
        ask(isolated)
    # Where its process had to go, another one is there soon, and behaves as at first.
    assert within(30, lambda: isolated.pid) is not None


@pytest.mark.parametrize("how", ["spin", "sleep_in_c", "spread"])
def test_one_that_hangs_is_killed_with_all_that_it_started_and_comes_again(start: Start, how: str) -> None:
    isolated = start(bounds=Bounds(0.3, 60.0, 256 << 20), behave=1, how=how)
    assert ask(isolated) == GOOD
    before = isolated.pid
    assert before is not None
    with pytest.raises(NoAnswer, match="no answer within 300ms; its process was killed"):
        ask(isolated)
    assert not alive(before)
    with pytest.raises(PluginError, match="is being started again"):
        ask(isolated)
    again = within(30, lambda: isolated.pid)
    assert again != before
    assert ask(isolated) == GOOD


def test_what_it_prints_goes_nowhere(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    isolated = start(behave=0, how="shout")
    assert ask(isolated) == GOOD
    assert ask(isolated) == GOOD
    out, err = capfd.readouterr()
    assert "xxx" not in out + err
    assert "zzz" not in out + err


def test_it_sees_nothing_of_the_hub(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_TEST_SECRET", "geheim")
    held = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(held, True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        isolated = start("Spy", how=str(server.getsockname()[1]), file=str(tmp_path / "written"))
        secret, descriptors, written, connected, _ = ask(isolated)
    os.close(held)
    assert secret == 0
    # Standard input, output and error, the two pipes, and the one that lists them.
    assert descriptors <= 6
    assert written == 0
    assert (tmp_path / "written").exists() is False or (tmp_path / "written").read_text() == ""
    if isolated.offline:
        assert connected == 0


@pytest.mark.parametrize(
    ("what", "settings", "said"),
    [
        ("Unloadable", {"how": "leave"}, "ended by itself with code 7 while it was loaded"),
        ("Unloadable", {"how": "lie"}, "Odd"),
        ("Hostile", {"behave": "many"}, "settings: behave"),
        ("Missing", {}, "AttributeError"),
        ("Boastful", {}, "needs a name, a string of at most 200"),
    ],
)
def test_one_that_cannot_be_loaded_is_left_out_and_said(what: str, settings: Any, said: str) -> None:
    loader = Loader(["bad"], BOUNDS)
    found = discover(found=[point(what)], settings={"bad": settings}, load=loader)
    assert found.scorers == ()
    assert said in found.problems["bad"]
    assert loader.running == []


def test_one_that_does_not_end_loading_is_not_waited_for_long() -> None:
    loader = Loader(["*"], Bounds(0.2, 1.0, 256 << 20))
    found = discover(found=[point("Unloadable")], settings={"bad": {"how": "spin"}}, load=loader)
    assert "no answer in time" in found.problems["bad"]


@pytest.mark.parametrize(("how", "said"), [("spin", "it is not there within 300ms"), ("quit", "SystemExit: 3")])
def test_loading_one_here_cannot_hold_up_or_end_the_hub(how: str, said: str) -> None:
    loader = Loader([], Bounds(startup=0.3))
    found = discover(found=[point("Unloadable")], settings={"bad": {"how": how}}, load=loader)
    assert said in found.problems["bad"]


def test_those_that_are_not_named_stay_in_the_process() -> None:
    loader = Loader(["another"], BOUNDS)
    (entry,) = discover(found=[point()], load=loader).scorers
    assert isinstance(entry.scorer, hostile_scorers.Hostile)


def test_behind_the_guard_last_good_values_count_until_they_are_too_old(start: Start) -> None:
    """Spins after its first answer: killed once, left alone for ten seconds, then asked again."""
    isolated = start(bounds=Bounds(0.3, 60.0, 256 << 20), behave=1, how="spin")
    clock = [0.0]
    told: list[str] = []
    guarded = Guarded(
        isolated,
        budget=30.0,
        keep=60.0,
        clock=lambda: clock[0],
        watcher=lambda scorer, seconds, problem: told.append(problem),
    )
    assert ask(guarded, now=1.0) == GOOD
    assert ask(guarded, now=2.0) == GOOD
    assert "no answer within 300ms; its process was killed; left alone for 10s" in guarded.problem
    assert not guarded.ready
    assert ask(guarded, now=3.0) == GOOD
    assert len(told) == 2
    clock[0] = 11.0
    within(30, lambda: isolated.pid)
    assert ask(guarded, now=4.0) == GOOD
    assert (guarded.problem, told[-1]) == ("", "")
    assert ask(guarded, now=5.0) == GOOD
    clock[0] = 72.0
    isolated.close()
    with pytest.raises(PluginError):
        ask(guarded, now=6.0)


def test_a_process_ends_with_its_hub(start: Start) -> None:
    isolated = start(behave=100)
    pid = isolated.pid
    assert pid is not None
    isolated.close()
    within(10, lambda: not alive(pid))
    with pytest.raises(PluginError):
        ask(isolated)
    assert isolated._keeper.join(10) is None
    assert not isolated._keeper.is_alive()


def test_an_infinite_value_is_the_guards_to_refuse(start: Start) -> None:
    isolated = start(behave=0, how="blow_up")
    guarded = Guarded(isolated, budget=30.0)
    with pytest.raises(PluginError, match="infinite"):
        ask(guarded)
    assert np.isinf(ask(isolated)).all()

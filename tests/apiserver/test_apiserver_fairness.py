"""One client cannot starve the others, and has only so much waiting; what is done is in the audit log."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api.errors import StorageError, UsageError
from hub.apiserver import serve
from hub.apiserver.audit import AuditLog, read_policy
from hub.apiserver.fairness import MOST_WAITING, Turns

MAPS = "/api/v1/namespaces/default/configmaps"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_whoever_asks_little_waits_little() -> None:
    clock = Clock()
    turns = Turns(clock, turn=0.005)
    done: list[str] = []

    def work(who: str, seconds: float = 0.001) -> None:
        def run() -> None:
            clock.now += seconds
            done.append(who)

        assert turns.ask(who, run)

    for _ in range(500):
        work("greedy")
    work("polite")
    # What the turn had room for has run at once.
    assert done == ["greedy"] * 5
    await asyncio.sleep(0)
    assert done[5] == "polite"
    for _ in range(501):
        await asyncio.sleep(0)
    assert len(done) == 501
    assert turns.queued == 496


async def test_time_counts_not_requests() -> None:
    clock = Clock()
    turns = Turns(clock, turn=0.0)
    served: dict[str, int] = {"lists": 0, "gets": 0}

    def ask(who: str, seconds: float) -> None:
        def run() -> None:
            clock.now += seconds
            served[who] += 1

        turns.ask(who, run)

    for _ in range(100):
        ask("lists", 0.1)
        ask("gets", 0.001)
    for _ in range(110):
        await asyncio.sleep(0)
        if served["gets"] == 100:
            break
    assert served["gets"] == 100
    assert served["lists"] <= 3


async def test_who_was_away_has_saved_nothing_up() -> None:
    clock = Clock()
    turns = Turns(clock, turn=0.0)
    order: list[str] = []

    def ask(who: str) -> None:
        def run() -> None:
            clock.now += 1.0
            order.append(who)

        turns.ask(who, run)

    for _ in range(10):
        ask("early")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    for _ in range(4):
        ask("early")
        ask("late")
    for _ in range(18):
        await asyncio.sleep(0)
    assert len(order) == 18
    assert [order[10:].count(who) for who in ("early", "late")] == [4, 4]
    assert order[10:14].count("late") == 2


async def test_too_much_that_waits_is_refused() -> None:
    turns = Turns(Clock(), turn=0.0)
    assert all(turns.ask("a", lambda: None) for _ in range(MOST_WAITING))
    assert not turns.ask("a", lambda: None)
    assert turns.ask("b", lambda: None)
    assert turns.refused == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 0.01)), max_size=60))
def test_everybody_is_served_once_and_in_their_own_order(asked: list[tuple[str, float]]) -> None:
    async def play() -> list[tuple[str, int]]:
        clock = Clock()
        turns = Turns(clock, turn=0.002)
        done: list[tuple[str, int]] = []
        for number, (who, seconds) in enumerate(asked):

            def run(who: str = who, number: int = number, seconds: float = seconds) -> None:
                clock.now += seconds
                done.append((who, number))

            turns.ask(who, run)
        for _ in range(len(asked) + 1):
            await asyncio.sleep(0)
        return done

    done = asyncio.run(play())
    assert sorted(number for _, number in done) == list(range(len(asked)))
    for who in "abc":
        mine = [number for found, number in done if found == who]
        assert mine == sorted(mine)


async def test_a_flood_of_one_client_leaves_room_for_another(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    known = {name: {"user": name, "groups": ["system:masters"]} for name in ("greedy", "polite")}
    tokens.write_text(json.dumps(known))
    async with serve(tmp_path / "api", tokens=tokens) as server:
        many = aiohttp.ClientSession(
            server.url, headers={"Authorization": "Bearer greedy"}, connector=aiohttp.TCPConnector(limit=100)
        )
        async with many, aiohttp.ClientSession(server.url, headers={"Authorization": "Bearer polite"}) as one:
            for number in range(100):
                body = {"metadata": {"name": f"m{number}"}, "data": {"x": "y" * 500}}
                await (await many.post(MAPS, json=body)).read()
            answered = 0

            async def flood() -> None:
                nonlocal answered
                while True:
                    await (await many.get("/api/v1/configmaps", headers={"Accept": TABLE})).read()
                    answered += 1

            floods = [asyncio.create_task(flood()) for _ in range(100)]
            async with asyncio.timeout(60):
                while answered < 50:
                    await asyncio.sleep(0.01)
            before = answered
            for _ in range(10):
                async with one.get(f"{MAPS}/m1") as answer:
                    assert answer.status == 200
            # Taken in the order of arrival, each would have waited for about a hundred of the other's.
            # (Both ends are in this one process, so some dozens are answered while one's own answer is on its way.)
            assert answered - before < 10 * 75
            for task in floods:
                task.cancel()
            await asyncio.gather(*floods, return_exceptions=True)


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_the_audit_log_says_who_did_what_and_what_came_of_it(tmp_path: Path) -> None:
    path, policy = tmp_path / "log" / "audit.log", tmp_path / "policy.yaml"
    policy.write_text(
        """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: [quiet]}
- {level: None, nonResourceURLs: ["/api*"]}
- {level: RequestResponse, verbs: [create], resources: [{group: "", resources: [configmaps]}]}
- {level: Metadata, omitStages: [ResponseStarted]}
"""
    )
    tokens = tmp_path / "tokens.json"
    known = {name: {"user": name, "groups": ["system:masters"]} for name in ("ann", "quiet")}
    tokens.write_text(json.dumps(known | {"eve": {"user": "eve"}}))
    audit = AuditLog(path, read_policy(policy))
    async with (
        serve(tmp_path / "api", tokens=tokens, audit=audit) as server,
        aiohttp.ClientSession(server.url) as client,
    ):

        async def send(who: str, method: str, where: str, body: Any = None, **more: str) -> None:
            headers = {"Authorization": f"Bearer {who}"} | {k.replace("_", "-"): v for k, v in more.items()}
            await (await client.request(method, where, json=body, headers=headers)).read()

        await send("ann", "POST", MAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}})
        await send("quiet", "GET", MAPS)
        await send("ann", "GET", "/apis")
        await send("ann", "GET", f"{MAPS}?watch=1&timeoutSeconds=1")
        await send("eve", "DELETE", f"{MAPS}/a")
        await send("ann", "GET", f"{MAPS}/a", Impersonate_User="jane")
    created, refused, acted = lines(path)
    assert (created["verb"], created["level"], created["responseStatus"]["code"]) == ("create", "RequestResponse", 201)
    assert created["requestObject"]["data"] == {"k": "v"}
    assert created["responseObject"]["metadata"]["uid"]
    assert created["objectRef"] == {"resource": "configmaps", "namespace": "default", "apiVersion": "v1"}
    assert refused["user"]["username"] == "eve"
    assert (refused["responseStatus"]["code"], refused["responseStatus"]["reason"]) == (403, "Forbidden")
    assert (acted["user"]["username"], acted["impersonatedUser"]["username"]) == ("ann", "jane")
    assert len({entry["auditID"] for entry in (created, refused, acted)}) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_audit_logs_are_rotated_and_a_full_disk_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "audit.log"
    audit = AuditLog(path, max_mebibytes=1, keep=2)
    async with serve(tmp_path / "api", audit=audit) as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        async with aiohttp.ClientSession(server.url, headers=headers) as client:
            for _ in range(30):
                async with client.get(f"{MAPS}?x={'y' * 30_000}") as answer:
                    assert answer.status == 200
            for _ in range(100):
                await (await client.get(f"{MAPS}?x={'y' * 30_000}")).read()
            assert {found.name for found in tmp_path.glob("audit.log*")} == {"audit.log", "audit.log.1", "audit.log.2"}

            def full(*_: object) -> int:
                raise OSError(28, "No space left on device")

            monkeypatch.setattr("hub.apiserver.audit.os.write", full)
            audit.flush()
            async with client.get(f"{MAPS}?x={'y' * 30_000}") as answer:
                assert answer.status == 200
            await (await client.get(f"{MAPS}?x={'y' * 30_000}")).read()
            await (await client.get(f"{MAPS}?x={'y' * 30_000}")).read()
            audit.flush()
        monkeypatch.undo()
    assert "takes no more lines" in caplog.text


@pytest.mark.parametrize(
    "text", ["", "rules: 1", "rules: [{}]", "rules: [{level: All}]", "rules: [{level: None, omitStages: [X]}]", "{"]
)
def test_a_policy_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy"
    path.write_text(text)
    with pytest.raises(UsageError):
        read_policy(path)
    with pytest.raises(UsageError):
        read_policy(tmp_path / "missing")
    with pytest.raises(StorageError):
        AuditLog(tmp_path / "policy" / "x")

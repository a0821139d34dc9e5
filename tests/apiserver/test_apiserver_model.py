"""Random histories against a model of the rules: whatever is done in whatever order, both agree; over restarts too."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hub.api.errors import AlreadyExistsError, ConflictError, NotFoundError
from hub.api.resource import CONFIG_MAPS, NAMESPACES
from hub.api.wire import Object
from hub.apiserver import ControlPlane, InProcessApi

T = TypeVar("T")
NAMES = st.sampled_from(["a", "b", "c", "d"])
SPACES = st.sampled_from(["one", "two"])
LABELS = st.sampled_from([{}, {"team": "x"}, {"team": "y"}, {"team": "x", "odd": "1"}])
DATA = st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["", "1", "2"]), max_size=2)
SELECTORS = ("", "team=x", "team!=x", "team in (x,y),odd", "!team")


def matches(selector: str, labels: dict[str, str]) -> bool:
    return {
        "": True,
        "team=x": labels.get("team") == "x",
        "team!=x": labels.get("team") != "x",
        "team in (x,y),odd": labels.get("team") in ("x", "y") and "odd" in labels,
        "!team": "team" not in labels,
    }[selector]


class ApiServerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        # What should be there, and each informer's copy: kept by nothing but a list and then watch events.
        self.model: dict[tuple[str, str], Object] = {}
        self.copies: dict[str, dict[tuple[str, str], Object]] = {selector: {} for selector in SELECTORS}
        self.seen = ""
        self.open()

    def run_async(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def open(self) -> None:
        self.plane = ControlPlane(Path(self.directory.name))
        self.run_async(self.plane.__aenter__())
        self.api = InProcessApi(self.plane)

    def teardown(self) -> None:
        self.run_async(self.plane.__aexit__())
        self.loop.close()
        self.directory.cleanup()

    @initialize()
    def make_namespaces(self) -> None:
        for name in ("one", "two"):
            self.run_async(self.api.create(NAMESPACES, {"metadata": {"name": name}}))
        self.seen = str(self.plane.store.version)

    @rule(space=SPACES, name=NAMES, labels=LABELS, data=DATA, held=st.booleans())
    def create(self, space: str, name: str, labels: dict[str, str], data: dict[str, str], held: bool) -> None:
        metadata: Object = {"name": name, "labels": labels}
        if held:
            metadata["finalizers"] = ["x.dev/hold"]
        try:
            made = self.run_async(self.api.create(CONFIG_MAPS, {"metadata": metadata, "data": data}, space))
        except AlreadyExistsError:
            assert (space, name) in self.model
            return
        assert (space, name) not in self.model
        assert made["metadata"].get("labels", {}) == labels
        self.model[space, name] = made

    @rule(space=SPACES, name=NAMES, labels=LABELS, data=DATA)
    def patch(self, space: str, name: str, labels: dict[str, str], data: dict[str, str]) -> None:
        old = self.model.get((space, name))
        change = {"metadata": {"labels": {"team": None, "odd": None, **labels}}, "data": {"k": None, "l": None, **data}}
        try:
            new = self.run_async(self.api.patch(CONFIG_MAPS, name, change, space))
        except NotFoundError:
            assert old is None
            return
        assert old is not None
        self.check_change(old, new)
        assert new["metadata"].get("labels", {}) == labels
        assert new.get("data", {}) == data
        self.model[space, name] = new

    @rule(space=SPACES, name=NAMES, data=DATA, stale=st.booleans())
    def replace(self, space: str, name: str, data: dict[str, str], stale: bool) -> None:
        old = self.model.get((space, name))
        if old is None:
            return
        wanted = {**old, "data": data}
        if stale:
            wanted["metadata"] = {
                **old["metadata"],
                "resourceVersion": str(int(old["metadata"]["resourceVersion"]) - 1),
            }
        try:
            new = self.run_async(self.api.replace(CONFIG_MAPS, wanted))
        except ConflictError:
            assert stale
            return
        assert not stale
        self.check_change(old, new)
        self.model[space, name] = new

    @rule(space=SPACES, name=NAMES)
    def delete(self, space: str, name: str) -> None:
        old = self.model.get((space, name))
        try:
            self.run_async(self.api.delete(CONFIG_MAPS, name, space))
        except NotFoundError:
            assert old is None
            return
        assert old is not None
        if not old["metadata"].get("finalizers"):
            del self.model[space, name]
            return
        new = self.run_async(self.api.get(CONFIG_MAPS, name, space))
        assert new["metadata"]["deletionTimestamp"]
        self.check_change(old, new)
        self.model[space, name] = new

    @rule(space=SPACES, name=NAMES)
    def let_go(self, space: str, name: str) -> None:
        old = self.model.get((space, name))
        if old is None:
            return
        new = self.run_async(self.api.patch(CONFIG_MAPS, name, {"metadata": {"finalizers": None}}, space))
        if "deletionTimestamp" in old["metadata"]:
            del self.model[space, name]
        else:
            self.check_change(old, new)
            self.model[space, name] = new

    @rule()
    def restart(self) -> None:
        self.follow()
        self.run_async(self.plane.__aexit__())
        self.open()

    def check_change(self, old: Object, new: Object) -> None:
        before, after = dict(old["metadata"]), dict(new["metadata"])
        same = {**old, "metadata": {**before, "resourceVersion": ""}} == {
            **new,
            "metadata": {**after, "resourceVersion": ""},
        }
        # A new version if, and only if, something changed.
        assert (before["resourceVersion"] == after["resourceVersion"]) == same
        assert int(after["resourceVersion"]) >= int(before["resourceVersion"])
        assert (before["uid"], before["creationTimestamp"]) == (after["uid"], after["creationTimestamp"])

    def follow(self) -> None:
        for selector, copy in self.copies.items():
            self.run_async(self.catch_up(selector, copy))
        self.seen = str(self.plane.store.version)

    async def catch_up(self, selector: str, copy: dict[tuple[str, str], Object]) -> None:
        watch = self.api.watch(CONFIG_MAPS, resource_version=self.seen, label_selector=selector, timeout_seconds=0)
        async for event in watch:
            if event.type == "BOOKMARK":
                continue
            key = (event.object["metadata"]["namespace"], event.object["metadata"]["name"])
            assert (key in copy) == (event.type != "ADDED")
            if event.type == "DELETED":
                del copy[key]
            else:
                copy[key] = event.object

    @invariant()
    def what_is_listed_is_what_should_be_there(self) -> None:
        listed = self.run_async(self.api.list(CONFIG_MAPS)).items
        assert listed == [self.model[key] for key in sorted(self.model)]

    @invariant()
    def who_only_watches_knows_as_much(self) -> None:
        if not self.seen:
            return
        self.follow()
        for selector, copy in self.copies.items():
            expected = {
                key: obj for key, obj in self.model.items() if matches(selector, obj["metadata"].get("labels", {}))
            }
            assert copy == expected


TestApiServer = ApiServerMachine.TestCase
TestApiServer.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)

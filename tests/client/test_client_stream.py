"""Bytes as they come: what a pod's log is read with."""

from __future__ import annotations

from typing import Any

import pytest

from hub.api.errors import NotFoundError, UnreachableError
from hub.client.session import Session


async def test_bytes_come_unchanged_and_as_they_come(scripted: Any, streaming: Any) -> None:
    scripted.script = [streaming(b"one\n\xff", b"\x00two", pause=0.05)]
    async with Session(scripted.url) as session:
        pieces = [piece async for piece in session.stream("/api/v1/x/log", query={"follow": "true"})]
    assert b"".join(pieces) == b"one\n\xff\x00two"
    assert len(pieces) == 2
    assert scripted.requests[0][1] == "/api/v1/x/log?follow=true"


async def test_silence_ends_it(scripted: Any, streaming: Any) -> None:
    scripted.script = [streaming(b"one", hang=True)]
    async with Session(scripted.url) as session:
        pieces = session.stream("/log", silence=0.2)
        assert await anext(pieces) == b"one"
        with pytest.raises(UnreachableError):
            await anext(pieces)


async def test_a_refusal_is_what_it_always_is(scripted: Any, answering: Any) -> None:
    scripted.script = [answering({"kind": "Status", "code": 404, "reason": "NotFound", "message": "no pod"}, 404)]
    async with Session(scripted.url) as session:
        with pytest.raises(NotFoundError, match="no pod"):
            await anext(session.stream("/log"))

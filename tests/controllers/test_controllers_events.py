"""Events as a real API server takes them: once made, nothing of one may change but its series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hub.client.patcher import Create, MergePatch, Write, WriteKey
from hub.controllers.events import Events, Subject

JOB = Subject("FleetJob", "default", "train", "u-1")


class Written:
    """Writes at once, as the patcher would."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, Write]] = []

    def submit(
        self, key: WriteKey, desired: Callable[[], Write | None], *, delay: float, on_done: Callable[[Any], None]
    ) -> None:
        write = desired()
        assert write is not None
        self.writes.append((key.name, write))
        on_done(None)


def test_the_same_again_counts_and_other_words_are_another_event() -> None:
    written = Written()
    events = Events(written, "hub-1", clock=lambda: 0.0, now=lambda: 1_000_000.0)  # type: ignore[arg-type]
    for note in ("onto ash", "onto ash", "onto elm", "onto ash"):
        events.say(JOB, "Admitted", note, "Admit")
    (first, made), (again, counted), (second, other), (third, more) = written.writes
    assert isinstance(made, Create)
    assert isinstance(other, Create)
    assert (made.obj["note"], other.obj["note"]) == ("onto ash", "onto elm")
    assert first == again == third != second
    for patch, count in ((counted, 2), (more, 3)):
        assert isinstance(patch, MergePatch)
        assert set(patch.patch) == {"series"}
        assert patch.patch["series"]["count"] == count

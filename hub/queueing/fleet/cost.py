"""What it costs to send a running slice away: work that is done again, and the time to start again. Pure arithmetic."""

from __future__ import annotations


def lost_seconds(now: float, since: float, checkpoint: float | None, restart: float, slots: int) -> float:
    """Seconds of slots that are wasted if a slice that runs since `since` ends at `now` and starts anew later.

    `checkpoint`: seconds between the states that it can go on from; None: all is lost, 0: nothing ever is.
    """
    ran = max(0.0, now - since)
    if checkpoint is not None:
        ran = ran % checkpoint if checkpoint > 0 else 0.0
    return (ran + max(0.0, restart)) * slots

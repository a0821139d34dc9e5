"""What can be wrong with a scorer, each with a reason of its own, so that conditions and metrics tell them apart."""

from __future__ import annotations

from hub.api.errors import PluginError
from hub.api.reasons import Reason


class ScorerTrouble(PluginError):
    """`reason` is one of the Score reasons; `detail` is what happened, without the scorer's name.

    `endpoint`: the scorer itself did not answer as it should, so that asking it about other clusters is pointless.
    """

    def __init__(self, reason: Reason, detail: str, *, endpoint: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.endpoint = endpoint

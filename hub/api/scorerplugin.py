"""The kind by which the hub says how a plugin does: one object for each that is installed."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from hub.api import resource
from hub.api.column import AGE, Column
from hub.api.meta import Bool, Conditions, Int32, KindInfo, KubeObject, Model, Time


class ScorerPluginStatus(Model):
    scorer: str | None = Field(None, description="What the scorer calls itself: in weights, explanations and metrics.")
    source: str | None = Field(None, description="Where its code is. Example: quiet_hours.scorer:QuietHours")
    isolated: Bool = Field(False, description="Whether it runs in a process of its own.")
    weight: str | None = Field(None, description="What it counts.")
    clusters: Int32 | None = Field(None, ge=0, description="For how many clusters it last had a value.")
    lastAnswerTime: Time | None = Field(
        None, description="When it last answered; moved when something else of this status changes."
    )
    reason: str | None = Field(None, description="What is wrong with it, if anything is.")
    message: str | None = Field(None, description="The same in words.")
    conditions: Conditions = Field(
        default_factory=list,
        description="Ready: whether it is asked and answers. While it does not, its last good values count until they "
        "are too old, and then it is unknown.",
    )


class ScorerPlugin(KubeObject):
    """How a scorer that is installed as a Python package does; written by the hub, named as its entry point."""

    info: ClassVar = KindInfo(
        resource.SCORER_PLUGINS,
        categories=("fleet",),
        columns=(
            Column("SCORER", ".status.scorer"),
            Column("WEIGHT", ".status.weight"),
            Column("ISOLATED", ".status.isolated", "boolean"),
            Column("CLUSTERS", ".status.clusters", "integer"),
            Column("READY", ".status.conditions[?(@.type=='Ready')].status"),
            Column("MESSAGE", ".status.message", wide=True),
            AGE,
        ),
    )
    status: ScorerPluginStatus | None = None

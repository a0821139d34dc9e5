"""The `queue` part of the hub's configuration: how quota is decided about, checked by field before anything starts.

    queue:
      mode: fleet                      # or kueue: one head a queue and cycle, decided as Kueue decides
      fairSharing: {preemptionStrategies: [LessThanOrEqualToFinalShare, LessThanInitialShare]}
      admissionFairSharing: {usageHalfLifeTime: 168h, usageSamplingInterval: 5m, resourceWeights: {cpu: 1}}
      minimumRuntime: 5m
      preemptionBudget: 10
      notice: 30s
      backfill: true
      protectedStart: 10m
      waitForPodsReady: {timeout: 5m, recoveryTimeout: 3m, blockAdmission: false,
                         requeuingStrategy: {backoffBaseSeconds: 60, backoffMaxSeconds: 3600, backoffLimitCount: 5}}
      idle: {below: 5, for: 30m, action: warn}
      starvation: 1h

Kueue's own `Configuration` file is read, too: it becomes a queue in mode kueue. Names that both have mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from hub.api.errors import InvalidObjectError
from hub.controllers.config_parts import Part, Seconds
from hub.jobs.limits import PodsReady
from hub.queueing.fleet.policy import FleetPolicy
from hub.queueing.kueue.settings import Settings, Strategy, read_settings

CONFIG_GROUP: Final = "config.kueue.x-k8s.io"
_DECIDES: Final = ("fairSharing", "admissionFairSharing", "waitForPodsReady")
_OURS: Final = ("minimumRuntime", "preemptionBudget", "notice", "backfill", "protectedStart")
_NO_MATTER: Final = frozenset({"apiVersion", "kind", "metadata", *_DECIDES})
_KUEUE_TIMEOUT: Final = 1800.0


class FairSharing(Part):
    enable: bool = True
    preemptionStrategies: tuple[Strategy, ...] = ()  # noqa: N815 - as it is written in the file


class AdmissionFairSharing(Part):
    # 0 remembers nothing.
    usageHalfLifeTime: Seconds = 0.0  # noqa: N815 - as it is written in the file
    usageSamplingInterval: Seconds = 300.0  # noqa: N815 - as it is written in the file
    resourceWeights: dict[str, float] = Field(default_factory=dict)  # noqa: N815 - as it is written in the file


class RequeuingStrategy(Part):
    timestamp: Literal["Eviction", "Creation"] = "Eviction"
    backoffBaseSeconds: Seconds = 60.0  # noqa: N815 - as it is written in the file
    backoffMaxSeconds: Seconds = 3600.0  # noqa: N815 - as it is written in the file
    # So many times in a row; one more, and the job is deactivated. Absent: it tries for ever.
    backoffLimitCount: int | None = Field(None, ge=0)  # noqa: N815 - as it is written in the file


class WaitForPodsReady(Part):
    enable: bool = True
    # From a slice's admission until as many of its tasks run as may run at once.
    timeout: Seconds = Field(300.0, gt=0)
    # From the moment that some of them are down again; absent: as long as timeout.
    recoveryTimeout: Seconds | None = None  # noqa: N815 - as it is written in the file
    blockAdmission: bool = False  # noqa: N815 - as it is written in the file
    requeuingStrategy: RequeuingStrategy = RequeuingStrategy()  # noqa: N815 - as it is written in the file


class Idle(Part):
    # Percent of the GPUs that a slice holds, on average over `for`.
    below: float = Field(gt=0, le=100)
    for_: Seconds = Field(1800.0, ge=1, alias="for")
    action: Literal["warn", "demote", "evict"] = "warn"
    # How long after the warning it is demoted or evicted.
    patience: Seconds = 600.0
    # PromQL that gives each slice's use in percent, by the labels cluster and work.
    query: str = ""


class Queue(Part):
    mode: Literal["fleet", "kueue"] = "fleet"
    fairSharing: FairSharing | None = None  # noqa: N815 - as it is written in the file
    admissionFairSharing: AdmissionFairSharing | None = None  # noqa: N815 - as it is written in the file
    # Nobody is preempted before it ran for so long, nor more often than the budget says (null: no bound).
    minimumRuntime: Seconds = 0.0  # noqa: N815 - as it is written in the file
    preemptionBudget: int | None = Field(10, ge=0)  # noqa: N815 - as it is written in the file
    # From the decision until a victim is stopped. Absent: 30 s in mode fleet, none in mode kueue.
    notice: Seconds | None = None
    backfill: bool = True
    # How long a job without an expected duration waits at most before all that it needs is kept for it (null: never).
    protectedStart: Seconds | None = 600.0  # noqa: N815 - as it is written in the file
    waitForPodsReady: WaitForPodsReady | None = None  # noqa: N815 - as it is written in the file
    idle: Idle | None = None
    # A job that waits longer for quota that its queue owns counts as starved, in the metrics.
    starvation: Seconds = 3600.0

    @property
    def settings(self) -> Settings:
        """How mode kueue decides. Raises `InvalidObjectError` by field."""
        return read_settings(self.document())

    @property
    def policy(self) -> FleetPolicy:
        """How mode fleet decides. Raises `InvalidObjectError` by field."""
        default = 0.0 if self.mode == "kueue" else FleetPolicy().notice
        return FleetPolicy(
            strategies=self.settings.strategies,
            minimum_runtime=self.minimumRuntime,
            budget=self.preemptionBudget,
            notice=default if self.notice is None else self.notice,
            protect_after=self.protectedStart,
            backfill=self.backfill,
        )

    @property
    def ready(self) -> PodsReady | None:
        """None: nobody waits for tasks to be up."""
        part = self.waitForPodsReady
        if part is None or not part.enable:
            return None
        again = part.requeuingStrategy
        return PodsReady(
            timeout=part.timeout,
            recovery=part.timeout if part.recoveryTimeout is None else part.recoveryTimeout,
            backoff_base=again.backoffBaseSeconds,
            backoff_max=again.backoffMaxSeconds,
            limit=again.backoffLimitCount,
            block=part.blockAdmission,
            to_the_end=again.timestamp == "Eviction",
        )

    def whole(self) -> dict[str, Any]:
        """What decides, as it would be written in the file."""
        parts = self.model_dump(mode="json", include=set(_OURS), exclude_none=True)
        # None is said, where it means something.
        parts |= {name: None for name in ("preemptionBudget", "protectedStart") if getattr(self, name) is None}
        return {"mode": self.mode, **self.document(), **parts}

    def document(self) -> dict[str, Any]:
        """What Kueue's Configuration would say of the same."""
        return {
            name: _spelled(value) for name, value in self.model_dump(include=set(_DECIDES), exclude_none=True).items()
        }


def is_kueue_configuration(document: Any) -> bool:
    return (
        isinstance(document, Mapping)
        and document.get("kind") == "Configuration"
        and str(document.get("apiVersion") or "").startswith(f"{CONFIG_GROUP}/")
    )


def from_kueue(configuration: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(our `queue` section, what of it is about Kueue's own process and has no meaning here).

    In v1beta2 jobs are waited for unless the file says otherwise, in v1beta1 only where it says `enable: true`.
    """
    found: dict[str, Any] = {"mode": "kueue"}
    for name in _DECIDES:
        if configuration.get(name) is not None:
            found[name] = configuration[name]
    older = str(configuration.get("apiVersion")).endswith("/v1beta1")
    ready = found.get("waitForPodsReady")
    if ready is None and not older:
        found["waitForPodsReady"] = {"timeout": _KUEUE_TIMEOUT}
    elif isinstance(ready, Mapping):
        found["waitForPodsReady"] = {"timeout": _KUEUE_TIMEOUT, "enable": not older, **ready}
    sharing = found.get("fairSharing")
    if isinstance(sharing, Mapping) and older:
        found["fairSharing"] = {"enable": False, **sharing}
    return found, tuple(sorted(set(configuration) - _NO_MATTER))


def rules_of(parts: Mapping[str, Any], mode: str) -> tuple[FleetPolicy, PodsReady | None]:
    """Of some of the settings (with `apiVersion`: of Kueue's file), for decisions without a hub. What is not written is
    off. Raises `InvalidObjectError` by field."""
    found = {name: value for name, value in parts.items() if name != "apiVersion"}
    if parts.get("waitForPodsReady") is not None and str(parts.get("apiVersion") or "").startswith(CONFIG_GROUP):
        found["waitForPodsReady"] = from_kueue(parts)[0]["waitForPodsReady"]
    try:
        queue = Queue.model_validate({"mode": mode, **found})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidObjectError(f"found {first['input']!r}; {first['msg']}", field=f"queue.{place}") from error
    return queue.policy, queue.ready


def check(queue: Queue) -> None:
    """Raises `InvalidObjectError` with the field that the parts of it do not agree on."""
    _ = queue.settings


def _spelled(part: Any) -> Any:
    """Seconds as Go durations, as Kueue's file has them."""
    if not isinstance(part, Mapping):
        return part
    durations = ("usageHalfLifeTime", "usageSamplingInterval")
    return {
        name: f"{value:f}s" if name in durations else list(value) if isinstance(value, tuple) else _spelled(value)
        for name, value in part.items()
    }

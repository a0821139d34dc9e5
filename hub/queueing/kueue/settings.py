"""Which of Kueue's ways to decide: its Configuration, as far as it changes decisions. A value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity
from hub.api.timestamps import parse_duration
from hub.queueing.kueue.transforms import ALL, Counted, read_counted

Strategy = Literal["LessThanOrEqualToFinalShare", "LessThanInitialShare"]

FINAL: Final[Strategy] = "LessThanOrEqualToFinalShare"
INITIAL: Final[Strategy] = "LessThanInitialShare"
_LEGAL: Final[tuple[tuple[Strategy, ...], ...]] = ((FINAL, INITIAL), (FINAL,), (INITIAL,))


@dataclass(frozen=True, slots=True)
class UsageHistory:
    """How past usage fades: seconds, and weights of resources (1 where none is given).

    A half life of 0, Kueue's default, means that nothing is ever remembered.
    """

    half_life: float = 0.0
    sampling: float = 300.0
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def step(self) -> float:
        """How much of the past one sampling replaces."""
        return self.fade(self.sampling)

    def fade(self, seconds: float) -> float:
        return 1.0 - 0.5 ** (seconds / self.half_life) if self.half_life > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Settings:
    """`strategies` empty: no fair sharing. `history` None: past usage orders nothing.

    `block`: nothing is admitted while something admitted is not ready. `counted`: what pods' resources count as.
    """

    strategies: tuple[Strategy, ...] = ()
    history: UsageHistory | None = None
    block: bool = False
    by_eviction: bool = True
    counted: Counted = ALL

    @property
    def fair(self) -> bool:
        return bool(self.strategies)


def read_settings(configuration: Mapping[str, Any]) -> Settings:
    """Of Kueue's Configuration or of the queue part of ours; the names are the same.

    Fair sharing is on when `fairSharing` is there (v1beta1 also says `enable`). Raises `InvalidObjectError` by field.
    """
    ready = _part(configuration, "waitForPodsReady")
    requeuing = _part(ready, "requeuingStrategy", "waitForPodsReady.")
    timestamp = requeuing.get("timestamp") or "Eviction"
    if timestamp not in ("Eviction", "Creation"):
        raise InvalidObjectError(
            f"found {timestamp!r}; allowed: Eviction, Creation", field="waitForPodsReady.requeuingStrategy.timestamp"
        )
    return Settings(
        strategies=_strategies(configuration),
        history=_history(configuration),
        block=bool(ready.get("blockAdmission")) and ready.get("enable") is not False,
        by_eviction=timestamp == "Eviction",
        counted=read_counted(_part(configuration, "resources")),
    )


def _strategies(configuration: Mapping[str, Any]) -> tuple[Strategy, ...]:
    sharing = configuration.get("fairSharing")
    if sharing is None:
        return ()
    sharing = _part(configuration, "fairSharing")
    if sharing.get("enable") is False:
        return ()
    named = sharing.get("preemptionStrategies") or []
    if not named:
        return _LEGAL[0]
    for legal in _LEGAL:
        if list(legal) == named:
            return legal
    allowed = "; ".join(", ".join(legal) for legal in _LEGAL)
    raise InvalidObjectError(f"found {named!r}; allowed: {allowed}", field="fairSharing.preemptionStrategies")


def _history(configuration: Mapping[str, Any]) -> UsageHistory | None:
    if configuration.get("admissionFairSharing") is None:
        return None
    part = _part(configuration, "admissionFairSharing")
    weights = _part(part, "resourceWeights", "admissionFairSharing.")
    read: dict[str, float] = {}
    for name, value in sorted(weights.items()):
        place = f"admissionFairSharing.resourceWeights.{name}"
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise InvalidObjectError(f"found {value!r}; expected a number", field=place)
        read[str(name)] = Quantity(value).nano / 1e9
        if read[str(name)] < 0:
            raise InvalidObjectError(f"{value} is negative", field=place)
    sampling = _seconds(part.get("usageSamplingInterval"), "admissionFairSharing.usageSamplingInterval")
    return UsageHistory(
        half_life=_seconds(part.get("usageHalfLifeTime"), "admissionFairSharing.usageHalfLifeTime") or 0.0,
        sampling=300.0 if sampling is None else sampling,
        weights=read,
    )


def _seconds(value: Any, field: str) -> float | None:
    if value is None:
        return None
    try:
        return parse_duration(str(value)).total_seconds()
    except (InvalidObjectError, ValueError) as error:
        raise InvalidObjectError(f"found {value!r}; expected a duration such as 10m or 168h", field=field) from error


def _part(holder: Mapping[str, Any], name: str, place: str = "") -> Mapping[str, Any]:
    value = holder.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidObjectError(f"found {value!r}; expected settings", field=f"{place}{name}")
    return value

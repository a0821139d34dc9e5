"""A plugin at arm's length: one that raises, hangs or answers nonsense costs itself only, and only for a while.

A guarded scorer is called in a thread of its own and waited for no longer than its budget. After a hang, or a few
failures in a row, it is left alone for a time that doubles; meanwhile, and until they are too old, its last good values
count. Within one decision (one `now`) it is asked once a shape, unless it has a true attribute ``live``.

A thread cannot be killed. One that hangs in Python code is interrupted; one that hangs in C holds nobody up, and its
plugin is not asked again before it comes back. Code that must not be trusted at all does not belong in this process.
"""

from __future__ import annotations

import ctypes
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from hub.api.errors import PluginError
from hub.api.reasons import Reason
from hub.api.timestamps import format_duration
from hub.fleet.fleet import Fleet
from hub.scoring.interface import Scorer, ScoreRequest, lower_is_better, normaliser_of

_log = logging.getLogger(__name__)
_FAILURES: Final = 3
_FIRST_REST: Final = 10.0
_LONGEST_REST: Final = 600.0
_SHAPES: Final = 64
"""Shapes of which last values are kept; of the answers of one decision as many again."""


class NoAnswer(PluginError):
    """A scorer with a deadline of its own has passed it: nobody should ask again at once."""


class Watcher(Protocol):
    """Told about every call, for metrics: how long it took, and what was wrong (empty: nothing)."""

    def __call__(self, scorer: str, seconds: float, problem: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Good:
    """A last good answer, by cluster."""

    values: dict[str, Any]
    at: float


class _Abandoned(BaseException):
    """Raised in a thread that nobody waits for any more."""


class _Call:
    def __init__(self, work: Callable[[], NDArray[Any]]) -> None:
        self.work = work
        self.done = threading.Event()
        self.answer: NDArray[Any] | None = None
        self.error = ""
        self.late = False


class Guarded:
    """A `Scorer` that always answers in time. `budget`: seconds a call may take; `keep`: how long last values count.

    `filter`, `limit` and `concerns` are guarded as `score` is; a filter or a limit that cannot be asked, and was never
    answered, keeps out nobody. `problem`: what is wrong with it now, in words; empty: nothing.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        budget: float = 0.25,
        keep: float = 300.0,
        watcher: Watcher | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = scorer.name
        self.lower_is_better = lower_is_better(scorer)
        self.normaliser = normaliser_of(scorer)
        self.publish = bool(getattr(scorer, "publish", True))
        self.answered: float | None = None
        # Of the clusters that it was last asked about: of how many it knew something, and how many there were.
        self.known = self.asked_about = 0
        self._scorer: Any = scorer
        self._live = bool(getattr(scorer, "live", False))
        self._budget, self._keep, self._clock = budget, keep, clock
        self._watcher = watcher
        self._good: OrderedDict[tuple[object, ...], _Good] = OrderedDict()
        self._memo: OrderedDict[tuple[object, ...], NDArray[Any]] = OrderedDict()
        self._memo_of: tuple[float, tuple[str, ...]] = (0.0, ())
        # By method: how often it failed in a row, and what was wrong last.
        self._failures: dict[str, int] = {}
        self._problems: dict[str, str] = {}
        self._rests = 0
        self._rest_until = 0.0
        self._calls: queue.SimpleQueue[_Call] | None = None
        self._thread: threading.Thread | None = None
        self._hung: threading.Thread | None = None
        if callable(getattr(scorer, "filter", None)):
            self.filter = self._filter
        if callable(getattr(scorer, "limit", None)):
            self.limit = self._limit
        if callable(getattr(scorer, "concerns", None)):
            self.concerns = self._concerns

    @property
    def problem(self) -> str:
        return "; ".join(self._problems[method] for method in sorted(self._problems))

    @property
    def ready(self) -> bool:
        """Whether it is asked: it does not rest and does not hang."""
        return self._hung is None and self._clock() >= self._rest_until and not self.problem

    @property
    def coverage(self) -> float:
        return self.known / max(1, self.asked_about)

    def age(self) -> float | None:
        """Seconds since it last answered; None: never."""
        return None if self.answered is None else self._clock() - self.answered

    def score(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.float64]:
        """Raises `PluginError` where there is no answer and no last one that still counts."""
        found = self._get(
            ("score", request.shape, request.data),
            fleet,
            request.now,
            lambda: np.array(self._scorer.score(fleet, request), dtype=np.float64),
            np.nan,
        )
        if found is None:
            raise PluginError(self.problem)
        return found

    def _filter(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.bool_]:
        key = ("filter", request.shape, request.data)
        return self._mask(key, fleet, request.now, lambda: self._scorer.filter(fleet, request))

    def _limit(self, fleet: Fleet, request: ScoreRequest) -> NDArray[np.int64]:
        key = ("limit", request.shape, request.data)
        work = lambda: _as_counts(self._scorer.limit(fleet, request), len(fleet.names))  # noqa: E731
        found = self._get(key, fleet, request.now, work, _NO_LIMIT)
        return np.full(len(fleet.names), _NO_LIMIT) if found is None else found.astype(np.int64)

    def _concerns(self, fleet: Fleet) -> NDArray[np.bool_]:
        # Asked beside `score`, and as often.
        return self._mask(("concerns",), fleet, self._memo_of[0], lambda: self._scorer.concerns(fleet))

    def _mask(self, key: tuple[object, ...], fleet: Fleet, now: float, work: Callable[[], Any]) -> NDArray[np.bool_]:
        found = self._get(key, fleet, now, lambda: _as_mask(work(), len(fleet.names)), True)
        return np.ones(len(fleet.names), np.bool_) if found is None else found.astype(np.bool_)

    def _get(
        self, key: tuple[object, ...], fleet: Fleet, now: float, work: Callable[[], NDArray[Any]], missing: Any
    ) -> NDArray[Any] | None:
        if self._memo_of[0] != now or self._memo_of[1] is not fleet.names:
            self._memo.clear()
            self._memo_of = (now, fleet.names)
        known = self._memo.get(key)
        # How much more may run somewhere is another thing after each choice.
        if known is not None and not self._live and key[0] != "limit":
            return known
        answer = self._ask(str(key[0]), work, len(fleet.names)) if self._may_ask() else None
        if answer is not None:
            answer.flags.writeable = False
            _remember(self._good, key, _Good(dict(zip(fleet.names, answer.tolist(), strict=True)), self._clock()))
            if answer.dtype == np.float64:
                self.known, self.asked_about = int(np.count_nonzero(~np.isnan(answer))), len(answer)
        else:
            answer = self._last(key, fleet.names, missing)
            if answer is None:
                return None
        _remember(self._memo, key, answer)
        return answer

    def _last(self, key: tuple[object, ...], names: tuple[str, ...], missing: Any) -> NDArray[Any] | None:
        good = self._good.get(key)
        if good is None or self._clock() - good.at > self._keep:
            return None
        return np.array([good.values.get(name, missing) for name in names], dtype=type(missing))

    # Asking.

    def _may_ask(self) -> bool:
        if self._hung is not None:
            if self._hung.is_alive():
                return False
            self._hung = None
        return self._clock() >= self._rest_until

    def _ask(self, method: str, work: Callable[[], NDArray[Any]], count: int) -> NDArray[Any] | None:
        call = _Call(work)
        if self._thread is None or self._calls is None:
            self._calls = queue.SimpleQueue()
            self._thread = threading.Thread(
                target=_serve, args=(self._calls,), name=f"scorer {self.name}"[:64], daemon=True
            )
            self._thread.start()
        started = time.perf_counter()
        self._calls.put(call)
        in_time = call.done.wait(self._budget)
        seconds = time.perf_counter() - started
        problem = call.error
        if not in_time:
            problem = f"no answer within {format_duration(self._budget)}"
            self._abandon()
        elif not problem and call.answer is not None and call.answer.shape != (count,):
            problem = f"answered shape {call.answer.shape}, expected ({count},)"
        elif not problem and call.answer is not None and np.isinf(call.answer).any():
            problem = "answered an infinite value"
        if self._watcher is not None:
            self._watcher(self.name, seconds, problem)
        if problem:
            self._failed(method, problem, hung=not in_time or call.late)
            return None
        self._failures.pop(method, None)
        if self._problems.pop(method, None) is not None:
            _log.warning("%s answers again (%s)", self.name, method)
        if not self._problems:
            self._rests = 0
        self.answered = self._clock()
        return call.answer

    def _failed(self, method: str, problem: str, *, hung: bool) -> None:
        said = Reason.SCORE_PLUGIN_FAILED.message(plugin=self.name, detail=f"{method}: {problem}")
        failures = self._failures[method] = self._failures.get(method, 0) + 1
        if hung or failures >= _FAILURES:
            rest = min(_FIRST_REST * 2**self._rests, _LONGEST_REST)
            self._rests = min(self._rests + 1, 16)
            self._failures[method] = 0
            self._rest_until = self._clock() + rest
            said += f"; left alone for {format_duration(rest)}"
        if method not in self._problems or hung:
            _log.warning("%s", said)
        self._problems[method] = said

    def _abandon(self) -> None:
        """Nobody waits for this thread any more; the next call gets another one, once this one has ended."""
        thread, self._hung, self._thread = self._thread, self._thread, None
        calls, self._calls = self._calls, None
        if thread is None or calls is None or thread.ident is None:
            return
        calls.put(_LAST)
        _interrupt(thread)


_NO_LIMIT: Final = np.iinfo(np.int64).max
_LAST: Final = _Call(lambda: np.zeros(0))


def _serve(calls: queue.SimpleQueue[_Call]) -> None:
    try:
        while (call := calls.get()) is not _LAST:
            try:
                call.answer = call.work()
            except _Abandoned:
                raise
            except PluginError as error:
                call.error, call.late = str(error)[:400], isinstance(error, NoAnswer)
            # Whatever somebody else's code raises, SystemExit too, ends with the call.
            except BaseException as error:
                call.error = f"{type(error).__name__}: {str(error)[:300]}"
            call.done.set()
    except _Abandoned:
        return


def _interrupt(thread: threading.Thread) -> None:
    """Reaches Python code at its next instruction; C code never."""
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_Abandoned))


def within(seconds: float, work: Callable[[], Any], name: str) -> Any:
    """What `work` gives, or raises. Raises `NoAnswer` when it takes longer: then nobody waits for it any more."""
    found: list[Any] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        # Handed on to who waits, whatever it is.
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name=name[:64], daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        _interrupt(thread)
        raise NoAnswer(f"it is not there within {format_duration(seconds)}")
    if raised:
        error = raised[0]
        raise error if isinstance(error, Exception) else PluginError(f"{type(error).__name__}: {error}")
    return found[0]


def _as_mask(answer: Any, count: int) -> NDArray[np.bool_]:
    mask = np.array(answer)
    if mask.dtype != np.bool_:
        raise PluginError(f"answered {mask.dtype} values, expected a mask of {count} booleans")
    return mask


def _as_counts(answer: Any, count: int) -> NDArray[np.int64]:
    counts = np.array(answer)
    if counts.dtype.kind not in "iu" or (counts.size and int(counts.min()) < 0):
        raise PluginError(f"answered {counts.dtype} values, expected {count} whole numbers from 0")
    return counts.astype(np.int64)


def _remember(store: OrderedDict[tuple[object, ...], Any], key: tuple[object, ...], value: Any) -> None:
    store[key] = value
    store.move_to_end(key)
    if len(store) > _SHAPES:
        store.popitem(last=False)

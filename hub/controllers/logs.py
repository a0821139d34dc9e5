"""One line an event on stderr, with job, cluster and attempt where there are any: logfmt for people, JSON for shippers.

structlog, and everything that logs through the standard library (the client, kopf) comes out the same way. It writes
to stderr only; rotation is the business of whoever started the hub.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger, Processor

# First on every line, in this order, whatever else there is.
_ORDER = ("timestamp", "level", "event", "job", "cluster", "epoch", "attempt")


def configure(level: str, form: str) -> None:
    """`form` is ``logfmt`` or ``json``. Replaces what was configured before."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    render: Processor = (
        structlog.processors.JSONRenderer(default=str)
        if form == "json"
        else structlog.processors.LogfmtRenderer(key_order=_ORDER, drop_missing=True, bool_as_flag=False)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, _fields],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _printable, render],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("aiohttp.access", "kopf", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It says that it gets no signals, which is what we want of it.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def logger(name: str, **fields: object) -> FilteringBoundLogger:
    """A logger that puts `fields` (job, cluster, epoch, attempt, …) on every line."""
    bound: FilteringBoundLogger = structlog.get_logger(name, **fields)
    return bound


def _fields(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Fields that came through the standard library's `extra`."""
    record = event.get("_record")
    extra = getattr(record, "fields", None)
    if isinstance(extra, dict):
        event.update(extra)
    return event


def _printable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """logfmt knows text and numbers; what is empty says nothing."""
    for key, value in list(event.items()):
        if value is None or value == "":
            del event[key]
        elif not isinstance(value, str | int | float):
            event[key] = str(value)
    return event

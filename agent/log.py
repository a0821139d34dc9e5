"""One line an event, `key=value`, on stderr: readable by a person in a terminal and by any log shipper.

Fields travel in `extra={"fields": {...}}`; `bind` keeps those of one work on every line about it. It does not rotate:
whoever starts the agent owns its output.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

from hub.api import names

_QUOTED = frozenset(' "=\n\r\t\\')


def _value(value: object) -> str:
    text = str(value)
    if text and not _QUOTED.intersection(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


class LogfmtFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        parts = [f"ts={moment}Z", f"level={record.levelname.lower()}", f"msg={_value(record.getMessage())}"]
        fields: Mapping[str, object] = getattr(record, "fields", {})
        parts += [f"{key}={_value(value)}" for key, value in fields.items() if value not in (None, "")]
        if record.exc_info and record.exc_info[0] is not None:
            parts.append(f"error={_value(self.formatException(record.exc_info))}")
        return " ".join(parts)


class _Bound(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        extra = dict(kwargs.get("extra") or {})
        extra["fields"] = {**(self.extra or {}), **extra.get("fields", {})}
        kwargs["extra"] = extra
        return msg, kwargs


Log = logging.LoggerAdapter[logging.Logger]


def bind(logger: logging.Logger, **fields: object) -> Log:
    """A logger that puts `fields` on every line."""
    return _Bound(logger, fields)


def work_fields(work: Mapping[str, Any]) -> dict[str, object]:
    """What identifies a ManifestWork on a log line: work, and for a slice its job, epoch and attempt."""
    metadata = work.get("metadata", {})
    labels = metadata.get("labels") or {}
    fields: dict[str, object] = {"work": metadata.get("name", "")}
    if names.JOB_NAME in labels:
        fields["job"] = f"{labels.get(names.JOB_NAMESPACE, '')}/{labels[names.JOB_NAME]}"
        fields["epoch"] = labels.get(names.EPOCH, "")
        fields["attempt"] = (metadata.get("annotations") or {}).get(names.ATTEMPT, "")
    return fields


def configure(level: str) -> None:
    """Root logging of the process. `level` is a name such as INFO."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogfmtFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)

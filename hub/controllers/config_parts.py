"""What the sections of the configuration file are made of: strict models, durations, finite numbers."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity
from hub.api.timestamps import parse_duration


def _seconds(value: Any) -> Any:
    """A Go duration, or a plain number of seconds."""
    if isinstance(value, str):
        try:
            return parse_duration(value).total_seconds()
        except InvalidObjectError as error:
            raise ValueError(str(error)) from error
    return value


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("write a finite number")
    return value


def _bytes(value: Any) -> Any:
    """A quantity such as 512Mi, or a plain number of bytes."""
    if isinstance(value, str):
        try:
            return Quantity(value).ceil()
        except InvalidObjectError as error:
            raise ValueError(str(error)) from error
    return value


def _command(value: Any) -> Any:
    """A list of words, the first an absolute path: a name would be looked for along somebody's PATH."""
    if isinstance(value, list | tuple) and value and not str(value[0]).startswith("/"):
        raise ValueError("the first word must be an absolute path")
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]
Weight = Annotated[float, BeforeValidator(_finite)]
Command = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_command)]
Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=0)]


class Part(BaseModel):
    """A section: what it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

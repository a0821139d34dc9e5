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


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]
Weight = Annotated[float, BeforeValidator(_finite)]
Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=0)]


class Part(BaseModel):
    """A section: what it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

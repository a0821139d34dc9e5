"""The part of the hub's configuration that is about DynamicScorers (`scorers.dynamic`).

scorers: {dynamic: {sync: 30s, atOnce: 8}}
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hub.api.errors import InvalidObjectError
from hub.api.timestamps import parse_duration


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return parse_duration(value).total_seconds()
        except InvalidObjectError as error:
            raise ValueError(str(error)) from error
    return value


class Dynamic(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    # How often each scorer's own configuration, or its /healthz, is looked at.
    sync: Annotated[float, BeforeValidator(_seconds), Field(ge=0.05, allow_inf_nan=False)] = 30.0
    # Of how many clusters one scorer is asked at once.
    atOnce: int = Field(8, ge=1, le=256)  # noqa: N815 - as it is written in the file

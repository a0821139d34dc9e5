"""The shape of a rule about one object: it and its predecessor in, what is to be kept and what is wrong with it out.

Rules are pure: `now` is an RFC 3339 time, and objects are never changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hub.admission.findings import FieldError

Object = Mapping[str, Any]
Reviewed = tuple[dict[str, Any], Sequence[FieldError]]
Review = Callable[[Object, Object | None, str], Reviewed]
"""(object, predecessor or None when it is created, now)"""

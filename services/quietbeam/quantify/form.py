"""Content of JSON files held against the types that it is to have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from quietbeam.core.errors import InputError

T = TypeVar("T")


def of_form(kind: type[T], data: Mapping[str, Any]) -> T:
    """Return plain JSON types as a dataclass; keys that it does not know are ignored.

    Raises
    ------
    InputError
        A value is missing or of another type; the message names each.
    """
    try:
        found: T = TypeAdapter(kind).validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc']))}: {_words(one['type'], one['msg'])}" for one in error.errors()]
        raise InputError("; ".join(wrong[:3]) + ("; and more" if len(wrong) > 3 else "")) from error
    return found


def _words(kind: str, message: str) -> str:
    return "is missing" if kind == "missing" else message[:1].lower() + message[1:]

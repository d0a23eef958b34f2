"""What the service refuses, as errors that carry its sentence."""

from __future__ import annotations

import json

from quietbeam.core.errors import InputError, NotMeasuredError, QuietbeamError

PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Status of a service that starts, or of the proxy in front of it: try again."""


class RefusedError(QuietbeamError, PermissionError):
    """The server refuses: no key, a wrong one, or one that may not do this."""


class NotFoundError(NotMeasuredError):
    """The service answers, and has no such run, map or version."""


class ConflictError(QuietbeamError, RuntimeError):
    """The state of the run forbids it; the message says what is in the way."""


class FailedError(QuietbeamError, RuntimeError):
    """What was asked for could not be done; the message says why."""


def refusal(status: int, content: bytes, phrase: str) -> QuietbeamError:
    """Return the error of a refused request, with the server's sentence."""
    try:
        detail = str(json.loads(content)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"{status} {phrase}"
    kind = {401: RefusedError, 403: RefusedError, 404: NotFoundError, 409: ConflictError}.get(status, InputError)
    return kind(detail)

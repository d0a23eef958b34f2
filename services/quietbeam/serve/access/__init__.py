"""Who may do what: keys, sessions, scopes, and the guard in front of every address."""

from .guard import BodyLimit, Guard, SafeHeaders, check_bind
from .identity import Authenticator
from .scopes import Principal, Scope, authorize, needs, principal_of

__all__ = [
    "Authenticator",
    "BodyLimit",
    "Guard",
    "Principal",
    "SafeHeaders",
    "Scope",
    "authorize",
    "check_bind",
    "needs",
    "principal_of",
]

"""Who may do what: keys, sessions, scopes, and the guard in front of every address."""

from .guard import BodyLimit, Guard, SafeHeaders, check_bind
from .identity import Authenticator
from .scopes import Principal, Scope, authorize, closed_by_default, declared_scopes, open_to_all, principal_of

__all__ = [
    "Authenticator",
    "BodyLimit",
    "Guard",
    "Principal",
    "SafeHeaders",
    "Scope",
    "authorize",
    "check_bind",
    "closed_by_default",
    "declared_scopes",
    "open_to_all",
    "principal_of",
]

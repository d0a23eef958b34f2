"""API keys of people and programs: shown once, kept as a hash, with scopes and an expiry, as in Tiled."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
import structlog
from filelock import FileLock

from quietbeam.core.errors import InputError, NotMeasuredError, ServiceError

from .scopes import Principal, Scope

log = structlog.get_logger()

_SECRET = re.compile(r"^[0-9a-f]{72}$")
USER = r"^[A-Za-z0-9_.@+ -]{1,64}$"
_FIRST_EIGHT = re.compile(r"^[0-9a-f]{8}$")
MAX_KEYS = 1000
LONGEST_S = 10 * 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is kept of a key.

    Attributes
    ----------
    first_eight
        First eight characters: its name.
    sha256
        Hash of the whole; 32 random bytes need no slow hash.
    created, expires
        Seconds since 1970; `expires` None: never.
    """

    first_eight: str
    sha256: str
    user: str
    scopes: tuple[Scope, ...]
    created: float
    expires: float | None = None
    note: str = ""

    @property
    def expired(self) -> bool:
        """True when its time is over."""
        return self.expires is not None and self.expires <= time.time()

    def principal(self) -> Principal:
        """Return whose key it is."""
        return Principal(
            name=self.user,
            kind="api_key",
            scopes=frozenset(self.scopes),
            expires=self.expires,
            first_eight=self.first_eight,
        )


class KeyStore:
    """The keys in one file (0600), which several processes may read and change.

    Parameters
    ----------
    path
        ``data_dir/secrets/api_keys.json``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file_version: tuple[int, int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    def keys(self) -> list[ApiKey]:
        """Return every key, the oldest first."""
        return sorted(self._read().values(), key=lambda key: key.created)

    def get(self, first_eight: str) -> ApiKey | None:
        """Return a key by its name."""
        return self._read().get(first_eight)

    def find(self, secret: str) -> ApiKey | None:
        """Return the key of a secret, expired or not; None for a wrong one."""
        if not _SECRET.match(secret):
            return None
        key = self._read().get(secret[:8])
        if key is None or not hmac.compare_digest(_hash(secret), key.sha256):
            return None
        return key

    def create(
        self, user: str, scopes: Iterable[Scope], *, expires: float | None = None, note: str = ""
    ) -> tuple[str, ApiKey]:
        """Make a key; return the secret, which is kept nowhere, and what is kept.

        Raises
        ------
        InputError
            A name, scope or expiry that cannot be used, or too many keys.
        """
        wanted = tuple(sorted(set(scopes)))
        if not re.fullmatch(USER, user):
            raise InputError(f"user {user[:64]!r}: use 1 to 64 letters, digits, spaces and . @ + - _")
        if not wanted:
            raise InputError(f"a key needs at least one scope of {', '.join(Scope)}")
        now = time.time()
        if expires is not None and not now < expires <= now + LONGEST_S:
            raise InputError("a key expires in the future, within ten years; or never")
        if len(note) > 200:
            raise InputError("the note is longer than 200 characters")
        secret = secrets.token_bytes(4 + 32).hex()
        key = ApiKey(
            first_eight=secret[:8],
            sha256=_hash(secret),
            user=user,
            scopes=wanted,
            created=now,
            expires=expires,
            note=note,
        )
        with self._changing() as keys:
            if len(keys) >= MAX_KEYS:
                raise InputError(f"there are {len(keys)} keys already; revoke the ones that nobody uses")
            if key.first_eight in keys:
                raise ServiceError("a key of this name exists already, by chance; try again")
            keys[key.first_eight] = key
        return secret, key

    def revoke(self, first_eight: str) -> ApiKey:
        """Forget a key; what holds it is refused from the next request on.

        Raises
        ------
        NotMeasuredError
            No such key.
        """
        with self._changing() as keys:
            key = keys.pop(first_eight, None)
            if key is None:
                raise NotMeasuredError(
                    f"no API key begins with {first_eight[:16]!r}; `quietbeam api-key list` shows all keys"
                )
        return key

    def _read(self) -> dict[str, ApiKey]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._file_version, self._keys = None, {}
            return self._keys
        version = (found.st_mtime_ns, found.st_ino, found.st_size)
        if version != self._file_version:
            self._keys = self._parse(self._path.read_bytes())
            self._file_version = version
        return self._keys

    def _parse(self, text: bytes) -> dict[str, ApiKey]:
        try:
            entries = [
                ApiKey(**{**entry, "scopes": tuple(Scope(scope) for scope in entry["scopes"])})
                for entry in orjson.loads(text)["keys"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            log.error("key_file_unreadable", error=str(error))
            raise ServiceError(
                "the file of API keys (secrets/api_keys.json in data_dir) is damaged: nobody gets in with a key of "
                "it until it is mended or removed"
            ) from error
        return {key.first_eight: key for key in entries}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, ApiKey]]:
        """Yield the keys under a lock; write them when the block ends well."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(self._path.with_suffix(".lock"), mode=0o600):
            keys = dict(self._read())
            yield keys
            draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            draft.touch(mode=0o600)
            draft.write_bytes(
                orjson.dumps({"keys": [asdict(key) for key in keys.values()]}, option=orjson.OPT_INDENT_2)
            )
            draft.replace(self._path)


def _hash(secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(secret)).hexdigest()


def is_name(text: str) -> bool:
    """True for what could be the first eight characters of a key."""
    return bool(_FIRST_EIGHT.match(text))


def date(seconds: float | None) -> str:
    """Return a time for people."""
    return "never" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")

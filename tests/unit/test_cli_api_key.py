"""`quietbeam api-key`: what is shown, what is kept, what is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from quietbeam.cli import app
from quietbeam.cli.api_key import parse_lifetime
from quietbeam.core.errors import InputError, NotMeasuredError
from quietbeam.serve.access.api_keys import KeyStore
from quietbeam.serve.access.scopes import Scope


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(f"data_dir: {tmp_path}/data\n")
    return str(path)


def api_key(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["api-key", *arguments])


def test_a_key_is_shown_once_listed_without_its_secret_and_revoked(config: str, tmp_path: Path) -> None:
    assert "create USER" in api_key("list", "-c", config).stderr
    made = api_key(
        "create", "alice", "--scope", "write:data", "--scope", "read:data", "--expires-in", "12h", "-c", config
    )
    secret = made.stdout.strip()
    assert len(secret) == 72 and secret not in made.stderr and "read:data, write:data" in made.stderr
    store = KeyStore(tmp_path / "data" / "secrets" / "api_keys.json")
    key = store.find(secret)
    assert key is not None and key.expires == pytest.approx(time.time() + 12 * 3600, abs=60)
    listed = api_key("list", "-c", config).stdout
    assert key.first_eight in listed and "alice" in listed and secret not in listed and key.sha256 not in listed
    entry = json.loads(api_key("list", "--json", "-c", config).stdout)
    assert entry["scopes"] == ["read:data", "write:data"] and not entry["expired"]
    assert "revoked" in api_key("revoke", key.first_eight, "-c", config).stderr
    assert KeyStore(tmp_path / "data" / "secrets" / "api_keys.json").keys() == []


def test_what_nobody_asks_for_is_reading_for_a_year(config: str) -> None:
    api_key("create", "alice", "-c", config)
    entry = json.loads(api_key("list", "--json", "-c", config).stdout)
    assert entry["scopes"] == ["read:data", "read:metadata"]
    assert entry["expires"] == pytest.approx(time.time() + 365 * 86400, abs=60)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "alice", "--scope", "all"), "scopes are read:metadata"),
        (("create", "alice", "--expires-in", "soon"), "90m, 12h, 30d, or never"),
        (("create", "alice", "--expires-in", "99999d"), "within ten years"),
        (("create", ""), "1 to 64"),
        (("create", "a\nb"), "1 to 64"),
        (("create", "alice", "--note", "n" * 201), "200 characters"),
        (("revoke", "12345678"), "api-key list"),
    ],
)
def test_a_refusal_says_what_to_do(config: str, arguments: tuple[str, ...], words: str) -> None:
    error = api_key(*arguments, "-c", config).exception
    assert isinstance(error, InputError | NotMeasuredError)
    assert words in str(error)


def test_lifetimes() -> None:
    assert parse_lifetime("90m") == 5400 and parse_lifetime("30d") == 30 * 86400 and parse_lifetime("never") is None


def test_a_running_reader_sees_changes_at_once_and_writers_do_not_lose_each_others_keys(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "api_keys.json"
    reader, one, other = KeyStore(path), KeyStore(path), KeyStore(path)
    assert reader.keys() == []
    secrets = [store.create(f"user {n}", [Scope.METRICS])[0] for n, store in enumerate((one, other, one))]
    assert all(reader.find(secret) for secret in secrets)
    other.revoke(secrets[0][:8])
    assert reader.find(secrets[0]) is None and one.find(secrets[2]) is not None

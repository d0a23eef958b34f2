"""Settings: every mistake is named."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from tests import settings_page

from quietbeam.core.errors import InputError
from quietbeam.core.secrets import read_or_make
from quietbeam.core.settings import Settings, configs_dir, load_settings


@pytest.mark.parametrize("path", sorted(configs_dir().glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_configs_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(path.stem).ingest.sources


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("serve: {port: 1234}\ningest: {stale_after: PT5S}\n")
    monkeypatch.setenv("QUIETBEAM_SERVE__PORT", "9000")
    settings = load_settings(path)
    assert settings.serve.port == 9000
    assert settings.ingest.stale_after == timedelta(seconds=5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("serve: {prot: 1}", "serve.prot"),
        ("- a", "mapping"),
        ("a: [", "not YAML"),
        ("ingest: {max_pixels: -1}", "ingest.max_pixels"),
        ("data_dir: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        load_settings(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("serve: {prot: 1}", "serve.prot: there is no such key; did you mean 'port'?"),
        ("embedded: {tiled-port: 3}", "embedded.tiled-port: there is no such key; did you mean 'tiled_port'?"),
        ("device: cpu", "device: there is no such key; did you mean 'denoise.device'?"),
        ("ingest: {curve: {server: a}}", "did you mean 'server_key'?"),
        ("worker: {lease: 3}", "worker: there is no such key; there are data_dir, redis, "),
        ("denoise: {lease: soon}", "denoise.lease: found 'soon'; accepted is a duration in seconds (15), or as text"),
        ("denoise: {lease: -3}", "denoise.lease: found -3 s; accepted is a duration"),
        ("denoise: {refine: perhaps}", "denoise.refine: found 'perhaps'; accepted is true or false, for example true"),
        ("ingest: {sources: redis}", "found 'redis'; accepted is a list, each entry text, for example [\"redis\"]"),
        ("ingest: {sources: [redis, tcp://x]}", "ingest.sources, entry 2: found 'tcp://x'; accepted is text, for"),
        ("serve: 5", "serve: found a value of the type int; accepted is a section with some of the keys host, port,"),
        ("serve: {port: 99999}", "accepted is a whole number, at least 0 and at most 65535, for example 8480"),
        ("ingest: {path_map: [a]}", "found a list of 1; accepted is a mapping of names to the path of a file"),
        ("log_level: loud", "found 'loud'; accepted is one of debug, info, warning, error, for example"),
        ("serve: {oidc: {issuer: 'https://x'}}", "serve.oidc.audience: is missing; accepted is text"),
        (
            "serve: {oidc: {grants: {a: [read:all]}, issuer: 'https://x', audience: a}}",
            "serve.oidc.grants.a, entry 1: found 'read:all'; accepted is one of read:metadata",
        ),
        ("serve: {root_path: 'a b'}", "serve.root_path: found 'a b'; a prefix has letters, digits"),
        ("serve: {api_key: 31415}", "serve.api_key: found a value of the type int; accepted is text, or nothing"),
        ("5: 3", "5: there is no such key"),
        ('data_dir: "a\\0b"', "a path must not hold the character NUL"),
        ('data_dir: ""', "data_dir: found ''; a path is needed"),
        ("data_dir: " + "x" * 300, "each name in it at most 255"),
        ('ingest: {data_roots: [""]}', "ingest.data_roots, entry 1: found ''; a path is needed"),
        ("ingest: {max_pixels: 10000000000000}", "accepted is a whole number, above 0 and at most 4294967296"),
        ("ingest: {max_buffer_bytes: 1000000000000000000000000}", "ingest.max_buffer_bytes: found"),
        ("denoise: {max_live_bytes: 0}", "accepted is a whole number, above 0 and at most 1125899906842624"),
        ("ingest: {stale_after: -1}", "ingest.stale_after: found -1 s"),
    ],
)
def test_mistakes_are_said_in_plain_words(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_settings(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and said in message and "31415" not in message
    assert not any(word in message for word in ("Input should", "Extra inputs", "timedelta", "valid"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SERVE__PORT", "x", "environment variable QUIETBEAM_SERVE__PORT (serve.port): found 'x'; accepted is a whole"),
        ("SERV__PORT", "1", "QUIETBEAM_SERV__PORT: there is no section 'serv'; did you mean 'serve'?"),
        ("INGEST__SOURCES", "redis", "for example QUIETBEAM_INGEST__SOURCES='[\"redis\"]'"),
        ("INGEST", "abc", "QUIETBEAM_INGEST: found text; accepted is JSON of a section with"),
        ("INGEST__KAFKA", "sasl.password=31415", "QUIETBEAM_INGEST__KAFKA: found text; accepted is JSON of a mapping"),
    ],
)
def test_mistakes_in_the_environment_name_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"QUIETBEAM_{name}", value)
    with pytest.raises(InputError) as caught:
        load_settings()
    message = str(caught.value)
    assert said in message and ".yaml" not in message and "31415" not in message


def test_the_table_of_settings_is_current() -> None:
    remedy = "docs/reference/settings.md is out of date: python -m tests.settings_page"
    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.page(), remedy


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(InputError, match="embedded"):
        load_settings("no-such-config")


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "key"
    first = read_or_make(path)
    assert len(first) == 64 and read_or_make(path) == first
    assert path.stat().st_mode & 0o077 == 0 and path.parent.stat().st_mode & 0o077 == 0


def test_a_tilde_means_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings(data_dir="~/xrf", ingest={"data_roots": ["~/det"], "path_map": {"/det": "~/det"}})
    assert settings.data_dir == tmp_path / "xrf"
    assert settings.ingest.data_roots == (tmp_path / "det",) and settings.ingest.path_map == {"/det": tmp_path / "det"}

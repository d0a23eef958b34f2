"""Settings: every mistake is named."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

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

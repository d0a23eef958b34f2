"""Passwords in URLs are shown nowhere; folders and files are for their owner."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from quietbeam.cli import app
from quietbeam.core.process.log import configure_logging, keep_from_others
from quietbeam.core.secrets import masked, read_or_make
from quietbeam.core.settings import Settings


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:hunter2@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:hun@ter2@host", "rediss://user:***@host"),
        ("https://u:hunter2@tiled.example/api?api_key=hunter3&x=1", "https://u:***@tiled.example/api?api_key=***&x=1"),
        ("tiled+http://u:hunter2@h and redis://:hunter3@i", "tiled+http://u:***@h and redis://:***@i"),
        ("redis://host?password=hunter2", "redis://host?password=***"),
        ("http://host/a:b@c", "http://host/a:b@c"),
        ("http://[::1]:8480/", "http://[::1]:8480/"),
        ("see user:name@host", "see user:name@host"),
        ("", ""),
    ],
)
def test_passwords_of_urls_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_config_show_masks_every_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "tiled: {uri: 'https://u:hunter1@tiled/api/v1', api_key: hunter2}\n"
        "redis: {url: 'redis://:hunter3@host'}\n"
        "ingest: {sources: ['tiled+https://u:hunter4@tiled/raw'], kafka: {sasl.password: hunter5}}\n",
        encoding="utf-8",
    )
    monkeypatch.delenv("REDIS_URL", raising=False)
    shown = CliRunner().invoke(app, ["config", "show", "-c", str(config)])
    assert shown.exit_code == 0, shown.output
    assert "hunter" not in shown.output
    assert "https://u:***@tiled/api/v1" in shown.output


def test_logs_mask_them_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("test", json=True)
    try:
        try:
            raise OSError("redis://:hunter2@host does not answer")
        except OSError as error:
            structlog.get_logger().exception("away", url="https://u:hunter3@host", error=str(error))
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    line = capsys.readouterr().err
    assert "hunter" not in line
    assert json.loads(line)["url"] == "https://u:***@host"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_data_folder_is_its_owners(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        settings = Settings(data_dir=tmp_path / "deep" / "data")
        settings.serve_api_key()
        assert mode(settings.data_dir) == 0o700
        assert mode(settings.secrets_dir) == 0o700
        assert mode(settings.secrets_dir / "api_key") == 0o600
        assert mode(tmp_path / "deep") == 0o755
        keep_from_others()
        (settings.data_dir / "x").touch()
        assert mode(settings.data_dir / "x") == 0o640
    finally:
        os.umask(before)
    assert read_or_make(settings.secrets_dir / "api_key") == settings.serve_api_key()


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    assert mode(Settings(data_dir=tmp_path).make_data_dir()) == 0o750

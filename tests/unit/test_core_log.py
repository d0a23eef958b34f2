"""Logs go to the stderr of the moment, whatever it was when logging was set up."""

from __future__ import annotations

import io
import json

import pytest
import structlog

from quietbeam.core.process.log import configure_logging


def test_a_replaced_stderr_gets_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stderr", before)
    configure_logging("test", json=True)
    try:
        before.close()
        monkeypatch.setattr("sys.stderr", after)
        structlog.get_logger().info("replaced", api_key="hidden")
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    line = json.loads(after.getvalue())
    assert line["event"] == "replaced" and line["stage"] == "test" and line["api_key"] == "***"

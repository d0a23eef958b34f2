"""A real server for the dashboard's tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from quietbeam.core.settings import ServeSettings, Settings
from quietbeam.serve.server import bind, make_server

KEY = "key-of-the-test"


def until(page: Page, predicate: str | Callable[[], Any], what: str, within_s: float = 15) -> Any:
    """Wait for a JavaScript expression or a Python function to be true.

    The page's security policy forbids `eval`, which Playwright's own wait_for_function needs.
    """
    deadline = time.monotonic() + within_s
    while True:
        value = page.evaluate(predicate) if isinstance(predicate, str) else predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {within_s} s")
        page.wait_for_timeout(20)


class Dashboard:
    """The service under test; can be stopped and started again on its port."""

    def __init__(self, settings: Settings) -> None:
        listener = bind(settings.serve)
        self.port = listener.getsockname()[1]
        listener.close()
        self._settings = settings.model_copy(update={"serve": settings.serve.model_copy(update={"port": self.port})})
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        """Start serving."""
        self._server = make_server(self._settings)
        listener = bind(self._settings.serve)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving; open streams are ended."""
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def dashboard(settings: Settings) -> Iterator[Dashboard]:
    """The dashboard on a free port."""
    running = Dashboard(settings.model_copy(update={"serve": ServeSettings(port=0, api_key=KEY)}))  # type: ignore[arg-type]
    yield running
    running.stop()

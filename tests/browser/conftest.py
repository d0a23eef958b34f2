"""A real server for the dashboard's tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from quietbeam.core.settings import ServeSettings, Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.serve.render.colormaps import NOT_MEASURED_RGB
from quietbeam.serve.server import bind, make_server

from .synthetic_run import SyntheticRun

expect.set_options(timeout=15_000)  # two busy cores

KEY = "key-of-the-test"
LINES = ("Ca_Ka", "Fe_Ka", "Cu_Ka", "Zn_Ka")

PIXELS = """([line, kind, not]) => {
  const canvas = document.querySelector(`.card[data-line="${line}"] .map[data-kind="${kind}"] canvas`);
  const {width, height} = canvas;
  const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const colours = new Set();
  const rows = [];
  for (let y = 0; y < height; y++) {
    let grey = 0;
    const left = width >> 2;  // there are the numbers of the axis
    for (let x = 0; x < width; x++) {
      const i = 4 * (y * width + x);
      colours.add(data[i] * 65536 + data[i + 1] * 256 + data[i + 2]);
      if (x >= left && data[i] === not[0] && data[i + 1] === not[1] && data[i + 2] === not[2]) grey++;
    }
    rows.push(grey / (width - left));
  }
  return {width, height, colours: colours.size, grey: rows};
}"""


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

    def viewers(self) -> int:
        """Return how many event streams are open."""
        return int(self._server.config.app.state.services.hub.viewers)

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


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    """A run of 40 x 40 pixels whose first 10 rows are measured and denoised."""
    run = SyntheticRun(settings.runs_dir, redis, uid="run-1", shape=(40, 40), lines=LINES)
    run.add_rows(10)
    run.denoise()
    return run


def open_page(page: Page, dashboard: Dashboard) -> None:
    """Open the dashboard as the printed address does."""
    page.goto(f"{dashboard.url}?api_key={KEY}")
    until(page, "window.quietbeam?.connection === 'live'", "the live connection")


def drawn(page: Page) -> None:
    """Let the page draw what it has."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def wait_for_rows(page: Page, rows: int) -> None:
    """Wait until the maps of so many rows are drawn."""
    until(page, f"window.quietbeam?.run?.denoise.rows === {rows} && quietbeam.updates > 0", f"{rows} rows on the page")
    drawn(page)


def pixels(page: Page, line: str, kind: str) -> dict[str, Any]:
    """Return the number of colours of a map's canvas and the grey part of each of its rows."""
    return page.evaluate(PIXELS, [line, kind, NOT_MEASURED_RGB])


class Canvas:
    """One map on the page, in map pixels of a run of 40 x 40."""

    def __init__(self, page: Page, line: str = "Fe_Ka", kind: str = "denoised", size: int = 40) -> None:
        self._page, self._size = page, size
        self.locator = page.locator(f'.card[data-line="{line}"] [data-kind="{kind}"] canvas')

    def at(self, row: float, col: float) -> tuple[float, float]:
        """Return where the middle of a pixel lies on the screen."""
        box = self.locator.bounding_box()
        assert box
        part = [(value + 0.5) / self._size for value in (col, row)]
        return box["x"] + part[0] * box["width"], box["y"] + part[1] * box["height"]

    def drag(self, start: tuple[float, float], stop: tuple[float, float]) -> None:
        """Press at one pixel, move to the other, let go."""
        self._page.mouse.move(*self.at(*start))
        self._page.mouse.down()
        self._page.mouse.move(*self.at(*stop), steps=3)
        self._page.mouse.up()
        drawn(self._page)

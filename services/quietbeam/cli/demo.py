"""`quietbeam demo`: a simulated scan, denoised live, held against the truth at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import DEFAULT_LINES, EXIT_INTERRUPTED, Dwell, Lines, Seed, Shape, as_arguments, grouped

if TYPE_CHECKING:
    from quietbeam.app.demo import DemoLine
    from quietbeam.core.process.stop import StopRequest
    from quietbeam.core.settings import Settings
    from quietbeam.core.wire.runs import RunStatus


class Progress:
    """One bar for the rows measured, one for the rows denoised; plain lines where there is no terminal."""

    def __init__(self, console: Any) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._console = console
        self._bars = RichProgress(
            TextColumn("{task.description:<9}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows  {task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: tuple[Any, Any] | None = None
        self._last_line = ""

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, status: RunStatus) -> None:
        """Show where the run is."""
        if status.info is None:
            return
        rows = status.info.shape[0]
        if self._tasks is None:
            self._tasks = (
                self._bars.add_task("measured", total=rows, text=""),
                self._bars.add_task("denoised", total=rows, text=""),
            )
        text = _progress_text(status)
        self._bars.update(self._tasks[0], completed=status.rows_measured, text=str(status.state))
        self._bars.update(self._tasks[1], completed=status.denoise_rows, text=text)
        if not self._console.is_terminal:
            tenth = f"{10 * status.rows_measured // rows}/10 {status.state} {status.denoise_state}"
            if tenth != self._last_line:
                self._last_line = tenth
                self._console.print(
                    f"measured {status.rows_measured}/{rows}, denoised {status.denoise_rows} rows  {text}"
                )


def _progress_text(status: RunStatus) -> str:
    lines = status.evidence.lines if status.evidence else ()
    bounded = (line.dwell_gain if line.dwell_gain_high is not None else line.dwell_gain_low for line in lines)
    gains = [gain for gain in bounded if gain]
    if status.state.ended and status.denoise_state == "live":
        return "final maps"
    if not gains:
        return ""
    return f"{status.denoise_state}, dwell gain {min(gains):.1f} to {max(gains):.1f}"


def show_table(console: Any, table: list[DemoLine]) -> None:
    """Print the closing table."""
    from rich.table import Table

    from quietbeam.core.model.evidence import interval

    shown = Table(
        title="What held-out counts say, beside the truth that only the simulator knows", title_justify="left"
    )
    for column in (
        "line",
        "counts/pixel",
        "dwell gain, measured",
        "95 %",
        "dwell gain, true",
        "total ratio",
        "estimator",
        "verdict",
    ):
        shown.add_column(column, justify="left" if column in ("line", "estimator", "verdict") else "right")
    for row in table:
        e = row.evidence
        measured = "-" if e.dwell_gain is None else f"{e.dwell_gain:.1f}"
        shown.add_row(
            e.line,
            f"{e.mean_counts:.2f}",
            measured,
            interval(e),
            f"{row.true_dwell_gain:.1f}",
            f"{row.total_ratio:.3f}",
            e.estimator,
            e.verdict,
        )
    console.print(shown)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(demo)


@dataclass(frozen=True, kw_only=True)
class DemoScan:
    """What the demo scans."""

    shape: Shape = "64x64"
    specimen: Annotated[str, typer.Option(help="cell or star.")] = "cell"
    detectors: Annotated[int, typer.Option(min=2, max=16)] = 4
    lines: Lines = DEFAULT_LINES
    counts: Annotated[float, typer.Option(help="Mean counts per pixel of a typical line in the detector sum.")] = 6.0
    dwell: Dwell = 0.01
    seed: Seed = 1


@grouped
def demo(
    scan: DemoScan,
    keep: Annotated[bool, typer.Option("--keep", help="Keep dashboard, API and Tiled running until Ctrl-C.")] = False,
    data_dir: Annotated[Path, typer.Option(help="Folder for the data of the demo.")] = Path(".run/demo"),
) -> None:
    """Start everything, scan a simulated specimen, denoise it live, compare with the truth, show where to look."""
    from rich.console import Console

    from quietbeam.app.demo import compare, demo_config, forget_facility, read_from_tiled, services
    from quietbeam.beamline.truth import Truth
    from quietbeam.core.process.stop import stop_on_signals
    from quietbeam.core.settings import load_settings

    from .up import key_text

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 120
    started = time.monotonic()
    stop = stop_on_signals()
    forget_facility()
    config = demo_config(data_dir)
    settings = load_settings(config)
    console.print("starting Redis, Tiled, ingest, denoise worker, publisher, API and dashboard ...")
    with services(settings, config, stop=stop):
        address = f"http://{settings.serve.host}:{settings.serve.port}/"
        url = address + key_text(settings.serve_api_key(), settings.secrets_dir / "api_key")
        console.print(f"dashboard  {url}", soft_wrap=True)
        truth = data_dir / f"truth-{time.time_ns()}.npz"
        status = _scan(console, settings, config, truth, scan, stop)
        if status is None:
            console.print("stopping ...")
            raise typer.Exit(EXIT_INTERRUPTED)
        if status.evidence is None:
            console.print(f"no denoised map: {status.denoise_reason}")
            raise typer.Exit(1)
        show_table(console, compare(status, read_from_tiled(settings, status.uid), Truth.load(truth)))
        lag = status.denoise_lag_s
        took = f"{time.monotonic() - started:.0f} s in all, newest row denoised after {lag:.2f} s"
        console.print(f"run {status.uid}: {took}", soft_wrap=True)
        if keep and not stop.is_set():
            for text in (
                f"dashboard  {url}",
                f"maps       {address}api/v1/runs/{status.uid}/maps   (Authorization: Apikey ...)",
                f"Tiled      {settings.tiled_uri}   client['{settings.tiled.root}']['{status.uid}']['denoised']",
                "everything stays up until Ctrl-C",
            ):
                console.print(text, soft_wrap=True)
            while not stop.wait(3600):
                pass
            console.print("stopping ...")
    for text in (
        "All services are stopped; `quietbeam demo --keep` leaves them up until Ctrl-C. The run is kept:",
        f"on one page  quietbeam report {status.uid[:8]} -c '{config}'",
        f"dashboard    quietbeam up -c '{config}'",
    ):
        console.print(text, soft_wrap=True)


def _scan(
    console: Any, settings: Settings, config: Path, truth: Path, scan: DemoScan, stop: StopRequest
) -> RunStatus | None:
    """Scan and show the progress; return the final state, or None when a stop was requested."""
    from quietbeam.app.demo import known_runs, start_scan, watch

    if stop.is_set():
        return None
    known = known_runs(settings)
    process = start_scan(config, truth, [*as_arguments(scan), "--mode=snake", "--transport=redis"])
    try:
        with Progress(console) as progress:
            status = watch(settings, process, progress, known=known, stop=stop)
        if status is not None:
            process.wait(30)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(10)
    return status

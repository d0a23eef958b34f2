"""`quietbeam worker`: the denoise stage."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from .options import Config


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(worker)


def worker(
    config: Config = None,
    device: Annotated[str | None, typer.Option(help="Overrides denoise.device: cpu, cuda, cuda:1, mps, auto.")] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the worker. After a restart it resumes its runs at once."),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="CPU threads of torch. 0: all cores but one, which is left to ingest.")
    ] = 0,
    nice: Annotated[int, typer.Option(help="Value added to the niceness, so that ingest has priority.")] = 10,
) -> None:
    """Denoise runs as their rows arrive: one process per device."""
    import socket

    from quietbeam.core.process.log import configure_logging, keep_from_others
    from quietbeam.core.process.outage import build_when_possible
    from quietbeam.core.process.stage import run_stage
    from quietbeam.core.process.stop import stop_on_signals
    from quietbeam.core.settings import load_settings
    from quietbeam.core.wire.bus import connect

    settings = load_settings(config)
    if device:
        settings = settings.model_copy(update={"denoise": settings.denoise.model_copy(update={"device": device})})
    configure_logging("worker", level=settings.log_level)
    keep_from_others()
    stop = stop_on_signals()
    stop.at_once = True  # importing torch takes seconds
    import torch

    from quietbeam.denoiser.live.stage import DenoiseStage
    from quietbeam.denoiser.live.worker_name import WorkerName

    # not before the imports: on a busy machine they took more than the 90 s in which `up` expects a stage
    os.nice(nice)
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 2) - 1))
    stop.at_once = False
    connection = connect(settings.redis_url)
    claimed = WorkerName(connection, settings.data_dir, settings.denoise.lease)

    def claim() -> DenoiseStage:
        if name:
            claimed.claim(name)
        else:
            claimed.claim_free(f"{socket.gethostname()}:{settings.denoise.device}")
        return DenoiseStage(settings, connection, owner=claimed.text, stop=stop, renewed=claimed.renew)

    try:
        stage = build_when_possible(claim, "worker", stop, settings.data_dir)
        if stage is not None:
            run_stage(stage, connection, stop, trouble=stage.trouble, folder=settings.data_dir)
    finally:
        claimed.release()

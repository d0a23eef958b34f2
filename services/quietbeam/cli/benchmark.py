"""`quietbeam pretrain` and `quietbeam benchmark`: weights, and how good and how fast they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .options import Dwell, Seed, Shape, grouped, map_shape

FOLDER = Path("docs/benchmarks")


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(pretrain)
    bench = typer.Typer(help="Measure quality and speed; writes tables.", no_args_is_help=True)
    bench.command("quality")(benchmark_quality)
    bench.command("speed")(benchmark_speed)
    bench.command("live")(benchmark_live)
    bench.command("pace")(benchmark_pace)
    bench.command("viewers")(benchmark_viewers)
    bench.command("positions")(benchmark_positions)
    bench.command("fsync")(benchmark_fsync)
    bench.command("batch")(benchmark_batch)
    bench.command("faults")(benchmark_faults)
    app.add_typer(bench, name="benchmark")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How weights are trained."""

    minutes: Annotated[float, typer.Option(min=0.1, help="Training time.")] = 85.0
    parent: Annotated[
        str, typer.Option(help="Weights to start from: a shipped name, as quietbeam-4, or a .safetensors file.")
    ] = ""
    seed: Seed = 0
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto"
    devices: Annotated[str, typer.Option(help="Number of devices, for Lightning.")] = "1"
    strategy: Annotated[str, typer.Option(help="Lightning's strategy for several devices: auto, ddp ...")] = "auto"
    targets: Annotated[str, typer.Option(help="expectation, or counts (noisy targets).")] = "expectation"


@grouped
def pretrain(
    work: Annotated[Path, typer.Option(help="Folder of the checkpoint; an interrupted training resumes from it.")],
    out: Annotated[Path, typer.Option(help="Folder the weights are written to; DATA_DIR/weights to use them live.")],
    training: TrainingOptions,
    name: Annotated[str, typer.Option(help="Name of the weights.")] = "my-weights",
) -> None:
    """Make pretrained weights from procedural specimens."""
    import sys

    from quietbeam.core.errors import WeightsError
    from quietbeam_models import pretrain as pretraining
    from quietbeam_models.pretrain_config import PretrainConfig
    from quietbeam_models.weights import DamagedWeightsError

    devices = int(training.devices) if training.devices.isdigit() else training.devices
    hardware = pretraining.Hardware(device=training.device, devices=devices, strategy=training.strategy)
    config = PretrainConfig(
        budget_s=training.minutes * 60,
        seed=training.seed,
        patches=pretraining.patches_for(hardware, targets=training.targets, seed=training.seed),
    )
    try:
        pretraining.pretrain(
            config,
            work=work,
            out=out,
            name=name,
            hardware=hardware,
            command=" ".join(["quietbeam", *sys.argv[1:]]),
            parent=training.parent or None,
        )
    except DamagedWeightsError as error:
        raise WeightsError(str(error)) from error


def benchmark_quality(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of quality.md, .json and .png.")] = FOLDER,
    quick: Annotated[bool, typer.Option("--quick", help="10 cases of 4 detectors instead of 18 of all kinds.")] = False,
    full: Annotated[bool, typer.Option("--full", help="All 162 cases: hours.")] = False,
    budget: Annotated[
        float, typer.Option(help="Seconds of fine-tuning per map; below 0: the other filters only.")
    ] = 30.0,
    seed: Seed = 0,
) -> None:
    """Dwell gains on phantoms with known truth, against raw, Gaussian, median, TV, NLM and BM3D."""
    from rich.console import Console

    from quietbeam.benchmarks.quality import Extent, run_quality

    if quick and full:
        raise typer.BadParameter("choose one of --quick and --full")
    extent: Extent = "quick" if quick else "full" if full else "standard"
    console = Console(markup=False, emoji=False)
    path = run_quality(output, extent=extent, budget_s=budget, seed=seed, on_message=console.print)
    console.print(f"{path} written" if budget >= 0 else f"{path.with_suffix('.json')} written")


def benchmark_speed(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of speed.md.")] = FOLDER,
    device: Annotated[str, typer.Option(help="all, cpu, cuda, cuda:N, mps.")] = "all",
) -> None:
    """Seconds per map and per fine-tuning step, against the machine's own matrix products."""
    from quietbeam.benchmarks.speed import run_speed

    typer.echo(run_speed(output, device).read_text(encoding="utf-8"))


def benchmark_live(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of live.md.")] = FOLDER,
    shape: Shape = "128x128",
    dwell: Dwell = 0.008,
    seed: Seed = 0,
) -> None:
    """Measure the live path: from a row's last document to disk and to its denoised map, with and without learning."""
    import sys
    import tempfile

    from quietbeam.app.demo import forget_facility
    from quietbeam.benchmarks.live import LiveBenchmark, measure, report

    forget_facility()
    options = LiveBenchmark(shape=map_shape(shape), dwell_s=dwell, seed=seed)
    with tempfile.TemporaryDirectory(prefix="quietbeam-live-") as folder:
        learning = measure(options, Path(folder) / "learning", fine_tune=True)
        idle = measure(options, Path(folder) / "idle", fine_tune=False)
    text = report(options, learning, idle, " ".join(["quietbeam", *sys.argv[1:]]))
    output.mkdir(parents=True, exist_ok=True)
    (output / "live.md").write_text(text, encoding="utf-8")
    typer.echo(text)


def benchmark_pace(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of pace.md and pace.json.")] = FOLDER,
    quick: Annotated[bool, typer.Option("--quick", help="Two scans of each size: 7 minutes; all: 30.")] = False,
    seed: Seed = 0,
) -> None:
    """Measure whether the denoiser keeps up with fly scans: lag, evidence at the end, time until the final maps."""
    import sys

    from quietbeam.app.demo import forget_facility
    from quietbeam.benchmarks.pace import QUICK, STANDARD, run_pace

    forget_facility()
    command = " ".join(["quietbeam", *sys.argv[1:]])
    path = run_pace(output, QUICK if quick else STANDARD, seed=seed, command=command, on_message=typer.echo)
    typer.echo(path.read_text(encoding="utf-8"))


def benchmark_viewers(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of viewers.md.")] = FOLDER,
    shape: Shape = "96x96",
    dwell: Dwell = 0.004,
    reading: Annotated[int, typer.Option(min=1, max=120, help="Viewers that read and fetch the maps.")] = 25,
    silent: Annotated[int, typer.Option(min=0, max=120, help="Viewers that never read.")] = 25,
    rounds: Annotated[int, typer.Option(min=1, help="Scans without and with them.")] = 2,
) -> None:
    """Measure what a crowd of viewers costs: ingest's latency and the service's memory, without and with it."""
    import sys
    import tempfile

    from quietbeam.app.demo import forget_facility
    from quietbeam.benchmarks.live import LiveBenchmark
    from quietbeam.benchmarks.viewers import measure, report

    forget_facility()
    options = LiveBenchmark(shape=map_shape(shape), dwell_s=dwell)
    with tempfile.TemporaryDirectory(prefix="quietbeam-viewers-") as folder:
        parts, dropped = measure(options, Path(folder), reading=reading, silent=silent, rounds=rounds)
    text = report(options, parts, dropped, " ".join(["quietbeam", *sys.argv[1:]]))
    output.mkdir(parents=True, exist_ok=True)
    (output / "viewers.md").write_text(text, encoding="utf-8")
    typer.echo(text)


def benchmark_positions(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of positions.md.")] = FOLDER,
    shape: Shape = "100x100",
    rounds: Annotated[int, typer.Option(min=1, help="Alternating runs without and with readings.")] = 10,
) -> None:
    """CPU time that ingest takes to store the positions of a step scan and to check the order with them."""
    import logging
    import sys

    import structlog

    from quietbeam.benchmarks.positions import measure, report

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    best = measure(map_shape(shape), rounds, lambda *took: typer.echo(f"{took[0]:.3f} s, {took[1]:.3f} s"))
    text = report(map_shape(shape), rounds, best, " ".join(["quietbeam", *sys.argv[1:]]))
    output.mkdir(parents=True, exist_ok=True)
    (output / "positions.md").write_text(text, encoding="utf-8")
    typer.echo(text)


def benchmark_fsync(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of fsync.md.")] = FOLDER,
    pixels: Annotated[int, typer.Option(min=1000, help="Documents of the backlog.")] = 12_800,
    rate: Annotated[float, typer.Option(min=1, help="Pixels a second of the step scan.")] = 1000.0,
    seconds: Annotated[float, typer.Option(min=1, help="Duration of the scan in seconds.")] = 10.0,
    turns: Annotated[int, typer.Option(min=1, help="Repetitions with and without.")] = 3,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where data lie while it is measured: on the disk in question."),
    ] = None,
) -> None:
    """Measure what waiting for the disk costs: ingest with `ingest.fsync` and without."""
    import sys
    import tempfile

    from quietbeam.app.demo import forget_facility
    from quietbeam.benchmarks.durability import report, run_turns

    forget_facility()
    with tempfile.TemporaryDirectory(prefix="quietbeam-fsync-", dir=folder) as place:
        found = run_turns(Path(place), turns=turns, pixels=pixels, rate=rate, seconds=seconds)
        text = report(found, Path(place), rate, " ".join(["quietbeam", *sys.argv[1:]]))
    output.mkdir(parents=True, exist_ok=True)
    (output / "fsync.md").write_text(text, encoding="utf-8")
    typer.echo(text)
    typer.echo(f"written to {output / 'fsync.md'}", err=True)


def benchmark_faults(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of faults.md and faults.json.")] = FOLDER,
    trials: Annotated[int, typer.Option(min=1, help="Trials of each kind of fault; those in faults.json count.")] = 20,
    minutes: Annotated[float, typer.Option(min=0, help="No round begins after this time; 0: only the page.")] = 60.0,
    log: Annotated[
        list[Path] | None, typer.Option(help="A log (chaos.jsonl) of `quietbeam chaos`, whose faults count as trials.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Do every kind of fault some times in scans: what is lost or doubled, and how soon everything goes on."""
    import sys
    import tempfile

    from quietbeam.chaos.machine import own_mounts

    cannot_mount = own_mounts()
    from quietbeam.app.demo import forget_facility
    from quietbeam.benchmarks.faults import run_faults
    from quietbeam.chaos.engine import Extent

    forget_facility()
    with tempfile.TemporaryDirectory(prefix="quietbeam-faults-", ignore_cleanup_errors=True) as folder:
        page = run_faults(
            Path(folder),
            output,
            trials=trials,
            extent=Extent(minutes=minutes, seed=seed),
            cannot_mount=cannot_mount,
            say=typer.echo,
            logs=log or (),
            command=" ".join(["quietbeam", *sys.argv[1:]]),
        )
    typer.echo(page.read_text(encoding="utf-8"))


def benchmark_batch(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of batch.md.")] = FOLDER,
    files: Annotated[int, typer.Option(min=4, help="Small maps.")] = 100,
    turns: Annotated[int, typer.Option(min=1, help="Turns with one worker and with two.")] = 2,
) -> None:
    """Measure what a second worker brings to a batch, and the overhead per file."""
    import sys
    import tempfile

    from quietbeam.app.demo import forget_facility
    from quietbeam.benchmarks.batch import measure, report

    forget_facility()
    with tempfile.TemporaryDirectory(prefix="quietbeam-batch-") as place:
        found = measure(Path(place), files, turns, typer.echo)
    text = report(found, " ".join(["quietbeam", *sys.argv[1:]]))
    output.mkdir(parents=True, exist_ok=True)
    (output / "batch.md").write_text(text, encoding="utf-8")
    typer.echo(text)

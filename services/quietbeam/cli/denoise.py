"""`quietbeam denoise`, `quietbeam pretrain`, `quietbeam benchmark`: maps from files, weights, and how good they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(denoise)
    app.command()(pretrain)
    bench = typer.Typer(help="Measure quality and speed of the denoiser.", no_args_is_help=True)
    bench.command("quality")(benchmark_quality)
    bench.command("speed")(benchmark_speed)
    bench.command("live")(benchmark_live)
    app.add_typer(bench, name="benchmark")


def denoise(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="HDF5, zarr or .npz with `counts` (detector, line, row, col).")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="NeXus HDF5 file to write.")],
    lines: Annotated[str, typer.Option(help="Comma-separated lines to take; all when left out.")] = "",
    budget: Annotated[float, typer.Option(min=0, help="Most seconds of fine-tuning on this map.")] = 30.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
    no_fine_tune: Annotated[bool, typer.Option("--no-fine-tune", help="Use the pretrained network as it is.")] = False,
    seed: Annotated[int, typer.Option(help="Fixes every random draw.")] = 0,
) -> None:
    """Denoise a map from a file; prints what held-out photons say of every line."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table

    from quietbeam.core.evidence import interval
    from quietbeam.denoiser.files import read_map, write_nexus
    from quietbeam.denoiser.offline import denoise as run

    console = Console()
    file = read_map(source)
    wanted = [name.strip() for name in lines.split(",") if name.strip()]
    if wanted:
        file = file.select(wanted)
    columns = (TextColumn("{task.description:12}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("read", total=1.0)
        result = run(
            file.counts,
            file.lines,
            i0=file.i0,
            live_time_s=file.live_time_s,
            measured=file.measured,
            detectors=file.detectors,
            device=device,
            budget_s=budget,
            fine_tune=not no_fine_tune,
            seed=seed,
            progress=lambda what, share: bar.update(task, description=what, completed=share),
        )
    settings = {"input": str(source), "budget_s": budget, "device": device, "fine_tune": not no_fine_tune, "seed": seed}
    write_nexus(output, result, source=source.name, settings=settings)
    table = Table("line", "published", "dwell gain", "95 % interval", "counts / pixel", "left out")
    for line in result.evidence.lines:
        table.add_row(
            line.line,
            line.estimator,
            "" if line.dwell_gain is None else f"{line.dwell_gain:.1f}",
            interval(line),
            f"{line.mean_counts:.3g}",
            ", ".join(line.excluded_detectors),
        )
    console.print(table)
    for note in result.evidence.notes:
        console.print(f"- {note}")
    console.print(
        f"{output}: {result.denoised.shape[0]} lines, {result.evidence.fine_tune_steps} fine-tuning steps, "
        f"weights {result.evidence.model} {result.evidence.model_sha256[:12]}"
    )


def pretrain(
    work: Annotated[Path, typer.Option(help="Folder of the checkpoint; an interrupted training resumes from it.")],
    out: Annotated[Path, typer.Option(help="Folder the weights are written to.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="Training time.")] = 85.0,
    name: Annotated[str, typer.Option(help="Name of the weights.")] = "quietbeam-1",
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    devices: Annotated[str, typer.Option(help="Number of devices, for Lightning.")] = "1",
    targets: Annotated[str, typer.Option(help="expectation, or counts (noisy targets).")] = "expectation",
) -> None:
    """Make pretrained weights from procedural specimens."""
    from quietbeam_models.pretrain import main

    main(
        [
            *("--work", str(work), "--out", str(out), "--minutes", str(minutes), "--name", name),
            *("--seed", str(seed), "--device", device, "--devices", devices, "--targets", targets),
        ]
    )


def benchmark_quality(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for quality.md and quality.json.")] = Path(
        "docs/benchmarks"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Few cases, small maps.")] = False,
    budget: Annotated[float, typer.Option(help="Seconds of fine-tuning per map.")] = 30.0,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Dwell gains on phantoms with known truth, against raw, Gaussian, median, TV, NLM and BM3D."""
    from rich.console import Console

    from quietbeam.denoiser.benchmark import run_quality

    console = Console()
    path = run_quality(output, quick=quick, budget_s=budget, seed=seed, tell=console.print)
    console.print(f"{path} written")


def benchmark_speed(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Seconds per map and per fine-tuning step, against the machine's own matrix products."""
    from rich.console import Console

    from quietbeam.denoiser.benchmark import run_speed

    Console().print(run_speed(device))


def benchmark_live(
    out: Annotated[Path, typer.Option(help="Folder of the table.")] = Path("docs/benchmarks"),
    shape: Annotated[str, typer.Option(help="Map size, ROWSxCOLS.")] = "128x128",
    dwell: Annotated[float, typer.Option(help="Seconds per pixel.")] = 0.008,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Measure the live path: from a row's last document to disk and to its denoised map, with and without learning."""
    import sys
    import tempfile

    from quietbeam.app.demo import forget_facility
    from quietbeam.app.live_benchmark import LiveBenchmark, measure, report

    forget_facility()
    rows, _, cols = shape.partition("x")
    options = LiveBenchmark(shape=(int(rows), int(cols)), dwell_s=dwell, seed=seed)
    with tempfile.TemporaryDirectory(prefix="quietbeam-live-") as folder:
        learning = measure(options, Path(folder) / "learning", fine_tune=True)
        idle = measure(options, Path(folder) / "idle", fine_tune=False)
    text = report(options, learning, idle, " ".join(["quietbeam", *sys.argv[1:]]))
    out.mkdir(parents=True, exist_ok=True)
    (out / "live.md").write_text(text)
    typer.echo(text)

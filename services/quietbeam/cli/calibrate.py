"""`quietbeam calibrate`: sensitivities from a thin-film standard, for areal densities."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from quietbeam.core.errors import InputError

from .options import ChoiceAndSnakeOptions, InputOptions, grouped, split_lines

if TYPE_CHECKING:
    from quietbeam.core.settings import Settings
    from quietbeam.quantify import Calibration
    from quietbeam.quantify.standard_map import StandardCounts

_I0 = re.compile(r"I0 is ([^;\s]+)")


@dataclass(frozen=True, kw_only=True)
class StandardOptions:
    """What the standard is, and how it was measured."""

    standard: Annotated[
        Path, typer.Option(help="Areal densities of the film: PyXRF's YAML, or MAPS' maps_standardinfo.txt.")
    ]
    beam_energy: Annotated[float, typer.Option(help="In keV.")]
    serial: Annotated[str, typer.Option(help="Serial number or name of the standard, where the file has several.")] = ""
    standard_error: Annotated[
        float,
        typer.Option(min=0, max=100, help="Standard error of the film's densities, in % (makers state 5)."),
    ] = 5.0
    normalise: Annotated[
        Literal["i0", "i0_rate", "time"],
        typer.Option(help="i0: counted over each pixel; i0_rate: a current or rate; time: the flux never changes."),
    ] = "i0"
    margin: Annotated[int, typer.Option(min=0, help="Pixels at each edge of the map that are left out.")] = 1
    blank: Annotated[
        str, typer.Option(help="File or run of a blank film, whose counts are the background of windows.")
    ] = ""
    distance: Annotated[float | None, typer.Option(min=0.001, help="From sample to detector, in mm.")] = None
    beryllium: Annotated[float, typer.Option(min=0, help="Thickness of the detector's window, in um.")] = 8.0
    air: Annotated[float, typer.Option(min=0, help="Path from sample to detector in air, in mm.")] = 0.0
    silicon: Annotated[float, typer.Option(min=1, help="Thickness of the detector's chip, in um.")] = 450.0


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(calibrate)


@grouped
def calibrate(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="Map of the standard: a file, a recording, or a run (uid, latest).")
    ],
    name: Annotated[str, typer.Argument(help="Under which the calibration is kept in data_dir/calibrations.")],
    about: StandardOptions,
    reading: InputOptions,
    choice: ChoiceAndSnakeOptions,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write in place of data_dir.")] = None,
    pyxrf: Annotated[
        str, typer.Option(help="Write PyXRF's JSON of this detector (sum, or a name) to --output.", show_default=False)
    ] = "",
    config: Annotated[str | None, typer.Option("-c", "--config", help="Settings: data_dir, Tiled, profiles.")] = None,
) -> None:
    """Calibrate areal densities (ug/cm2) with the map of a thin-film standard."""
    from quietbeam.batch.source import errors_showing
    from quietbeam.core.settings import load_settings
    from quietbeam.quantify import measure as measuring
    from quietbeam.quantify import read_standards, write_calibration
    from quietbeam.quantify.calibration import check_energy
    from quietbeam.quantify.pyxrf import calibration_to_pyxrf
    from quietbeam.quantify.standards import choose_standard
    from quietbeam.quantify.store import NAME, write_json

    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name for a calibration", remedy="use letters, digits and . _ - (at most 64)")
    if pyxrf and output is None:
        raise InputError("--pyxrf writes a file of its own", remedy="name it with --output")
    check_energy(about.beam_energy)
    site = load_settings(config)
    standard = choose_standard(read_standards(about.standard), about.serial)
    conditions = _conditions(about)
    wanted = [*measuring.lines_of_standard(standard, about.beam_energy, conditions.path), *split_lines(reading.lines)]
    with errors_showing(f"quietbeam calibrate {shlex.quote(source)} {name} ...", source):
        found, i0_name = _read(source, site, list(dict.fromkeys(wanted)), about.margin, reading, choice)
        if about.blank:
            blank, _ = _read(about.blank, site, list(found.lines), about.margin, reading, choice)
            found = measuring.with_blank(found, blank, about.normalise)
    made = measuring.calibrate(found, standard, replace(conditions, i0_name=i0_name), name=name, source=source)
    path = output or site.calibrations_dir / f"{name}.json"
    if pyxrf:
        write_json(calibration_to_pyxrf(made, pyxrf), path)
    else:
        if output is None:
            site.make_data_dir()
        write_calibration(made, path)
    _show(made, path)


def _conditions(about: StandardOptions) -> Any:
    from quietbeam.quantify.cross_sections import DetectorPath
    from quietbeam.quantify.measure import Conditions

    return Conditions(
        energy_kev=about.beam_energy,
        normalised=about.normalise,
        standard_error=about.standard_error / 100,
        distance_mm=about.distance,
        path=DetectorPath(beryllium_um=about.beryllium, air_mm=about.air, silicon_um=about.silicon),
    )


def _read(
    source: str,
    site: Settings,
    wanted: Sequence[str],
    margin: int,
    reading: InputOptions,
    choice: ChoiceAndSnakeOptions,
) -> tuple[StandardCounts, str]:
    """Return the standard's counts in the `wanted` lines that it has, and the name of I0."""
    from quietbeam.batch.source import read_source
    from quietbeam.denoiser.map_input import guess_kind
    from quietbeam.files import read_spectra
    from quietbeam.quantify.standard_map import counts_of_lines, counts_of_spectra

    source = _run_folder(source, site)
    read = choice.choice(snake=choice.snake)
    path = Path(source)
    if path.exists() and not reading.fit and not _is_recording(path):
        spectra = read_spectra(path, reading.calibration, read)
        if spectra is not None:
            return counts_of_spectra(spectra, wanted, margin), _i0_name("; ".join(spectra.info.remarks))
    file, label = read_source(
        source,
        site,
        lines=list(wanted) if reading.fit else [],
        calibration=reading.calibration,
        tiled=reading.tiled,
        fit=reading.fit,
        choice=read,
    )
    there = [line for line in wanted if line in (file.lines or ())]
    if not there:
        have = ", ".join(file.lines or ()) or "none"
        raise InputError(f"{label} has none of the standard's lines {', '.join(wanted)}; it has {have}")
    names = file.detectors or tuple(f"detector_{d}" for d in range(file.counts.shape[0]))  # as denoise calls them
    counts = replace(file.select(there), detectors=names).line_map(label)
    return counts_of_lines(counts, guess_kind(counts.counts), margin), _i0_name(file.remark)


def _run_folder(source: str, site: Settings) -> str:
    """Return the folder of a run that is kept here; anything else as it is."""
    if source == "latest":
        from quietbeam.buffer import list_buffers

        runs = list_buffers(site.runs_dir)
        if not runs:
            raise InputError(f"there is no run in {site.runs_dir}")
        source = max(runs, key=lambda uid: (site.runs_dir / uid).stat().st_mtime)
    folder = site.runs_dir / source
    return str(folder) if re.fullmatch(r"[\w-]+", source) and folder.is_dir() else source


def _is_recording(path: Path) -> bool:
    from quietbeam.ingest.documents.recording import is_recording

    return path.is_file() and is_recording(path)


def _i0_name(remarks: str) -> str:
    match = _I0.search(remarks)
    return match[1] if match else ""


def _show(made: Calibration, path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False)
    table = Table("line", "standard, ug/cm2", "counts per ug/cm2 and dose, all detectors", "standard error")
    for line in made.lines:
        density = "computed" if line.density is None else f"{line.density:g}"
        table.add_row(line.line, density, f"{sum(line.sensitivity):.4g}", f"{100 * line.relative_error:.1f} %")
    console.print(table)
    for note in made.notes:
        console.print(f"- {note}")
    console.print(f"{path}: {made.standard} at {made.energy_kev:g} keV, {len(made.detectors)} detectors")

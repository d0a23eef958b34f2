"""Options that several commands share, and option groups: dataclasses whose fields become options of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from quietbeam.core.errors import InputError

if TYPE_CHECKING:
    from quietbeam.batch.offline import Writing
    from quietbeam.denoiser.options import DenoiseOptions
    from quietbeam.files import ReadChoice

Transport = Literal["redis", "zmq", "none"]

Config = Annotated[str | None, typer.Option("-c", "--config", help="YAML file or name of a shipped config.")]
Speed = Annotated[float, typer.Option(min=0, help="Speed of the scan: 1 is real time, 0 is as fast as possible.")]
TransportOption = Annotated[
    Transport, typer.Option("--transport", help="Transport for the documents; none discards them (dry run).")
]
Shape = Annotated[str, typer.Option(help="Map size, ROWSxCOLS.")]
Dwell = Annotated[float, typer.Option(help="Seconds per pixel.")]
Lines = Annotated[str, typer.Option(help="Comma-separated emission lines.")]
Seed = Annotated[int, typer.Option(min=0)]

DEFAULT_LINES = "P_Ka,S_Ka,Cl_Ka,K_Ka,Ca_Ka,Fe_Ka,Cu_Ka,Zn_Ka"
EXIT_INTERRUPTED = 130
"""Exit code of a command that Ctrl-C or SIGTERM ended early."""


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """How a file, recording or run in Tiled is read."""

    lines: Annotated[
        str, typer.Option(help="Comma-separated lines to take; all (of spectra: all with a peak) when left out.")
    ] = ""
    calibration: Annotated[
        Path | None, typer.Option(help="JSON with (offset, width) in keV for each detector, for spectra.")
    ] = None
    fit: Annotated[bool, typer.Option("--fit", help="Fit spectra (PyMca) instead of summing windows.")] = False
    tiled: Annotated[str, typer.Option(help="Tiled, or a catalog in it, that has the uid; default: as configured.")] = (
        ""
    )


@dataclass(frozen=True, kw_only=True)
class ChoiceOptions:
    """What is read of a file that leaves a choice; see :class:`quietbeam.files.ReadChoice`."""

    scan: Annotated[str, typer.Option(help="Number of the scan, as 3, in a file of several (BLISS).")] = ""
    entry: Annotated[str, typer.Option(help="Group of an HDF5 or zarr file in which to look.")] = ""
    dataset: Annotated[
        str, typer.Option(help="Array of counts or spectra in the file; several with commas: one a detector.")
    ] = ""
    axes: Annotated[
        str, typer.Option(help="Axes of the array: detector,line,row,col; also channel, point, - for one of length 1.")
    ] = ""
    shape: Annotated[str, typer.Option(help="Map size (ROWSxCOLS) of a list of points.")] = ""
    i0: Annotated[str, typer.Option(help="Name of the scaler that is I0; none: do not normalise.")] = ""
    energy: Annotated[
        str, typer.Option(help="Of spectra: keV of channel 0 and per channel, as 0,0.01; or in eV, as 0,10eV.")
    ] = ""

    def choice(self, *, snake: bool | None = None) -> ReadChoice:
        """Return the choice for the readers of files.

        Raises
        ------
        InputError
            An option cannot be understood; the message shows how it is written.
        """
        from quietbeam.files import parse_choice

        return parse_choice(
            scan=self.scan,
            entry=self.entry,
            dataset=self.dataset,
            axes=self.axes,
            shape=self.shape,
            snake=snake,
            i0=self.i0,
            energy=self.energy,
        )


@dataclass(frozen=True, kw_only=True)
class ChoiceAndSnakeOptions(ChoiceOptions):
    """The same, and the direction of rows."""

    snake: Annotated[
        bool | None,
        typer.Option(
            "--snake/--no-snake", help="Points of every second row run backwards, or do not; default: as found."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """How the maps are written."""

    format: Annotated[str, typer.Option(help="Format, where the name's ending does not say it.")] = ""
    units: Annotated[
        Literal["counts", "counts/s", "ug/cm2"], typer.Option(help="Of the maps written; ug/cm2: areal densities.")
    ] = "counts"
    areal_calibration: Annotated[
        str, typer.Option(help="For ug/cm2: a name in data_dir/calibrations or a file; else that of the settings.")
    ] = ""

    def writing(self) -> Writing:
        """Return the same for :mod:`quietbeam.batch.offline`."""
        from quietbeam.batch.offline import Writing

        return Writing(format=self.format, units=self.units, areal_calibration=self.areal_calibration)


@dataclass(frozen=True, kw_only=True)
class LearningOptions:
    """Where the network starts, and how much it learns on this map."""

    budget: Annotated[
        float,
        typer.Option(
            min=0,
            help="Fine-tuning time limit in seconds (0 disables). Results depend on the machine's speed; use --steps "
            "for reproducible results.",
        ),
    ] = 30.0
    steps: Annotated[
        int | None, typer.Option(min=0, help="Number of fine-tuning steps, in place of --budget. Reproducible.")
    ] = None
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps.")] = "auto"
    no_fine_tune: Annotated[bool, typer.Option("--no-fine-tune", help="Use the pretrained network as it is.")] = False
    seed: Annotated[
        int, typer.Option(min=0, help="Fixes every random draw, but not how many steps fit into --budget.")
    ] = 0
    weights: Annotated[
        str,
        typer.Option(
            help="Weights to start from: shipped ones or of data_dir/weights, by name, or a .safetensors file; the "
            "newest when left out."
        ),
    ] = ""

    def options(self, weights: str) -> DenoiseOptions:
        """Return the options of the denoiser, with weights that :func:`quietbeam.batch.offline.find_weights` found."""
        from quietbeam.denoiser.options import DenoiseOptions

        return DenoiseOptions(
            device=self.device,
            budget_s=self.budget,
            steps=self.steps,
            fine_tune=not self.no_fine_tune,
            seed=self.seed,
            weights=weights,
        )


def split_lines(text: str) -> list[str]:
    """Return the names in a comma-separated list of emission lines."""
    return [name for part in text.split(",") if (name := part.strip())]


def map_shape(text: str) -> tuple[int, int]:
    """Return rows and columns of a shape such as "64x48".

    Raises
    ------
    InputError
        The text has another form.
    """
    rows, _, cols = text.lower().partition("x")
    if not (rows.isdecimal() and cols.isdecimal()):
        raise InputError(f"shape {text!r}", remedy="write ROWSxCOLS, as 64x64")
    return int(rows), int(cols)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a command whose type is a dataclass by the fields of that dataclass, as options.

    The annotations of the fields (``Annotated[type, typer.Option(...)]``) and their defaults are those of the options.
    The command can still be called with the dataclass itself.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    signature = inspect.signature(command)
    options: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        if name in groups:
            kinds = get_type_hints(groups[name], include_extras=True)
            options += [_option(field, kinds[field.name]) for field in fields(groups[name])]
        else:
            options.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def run(**values: Any) -> None:
        for name, kind in groups.items():
            given = {field.name: values.pop(field.name) for field in fields(kind) if field.name in values}
            if given or name not in values:
                values[name] = kind(**given)
        command(**values)

    del run.__wrapped__
    run.__signature__ = signature.replace(parameters=options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def _option(field: Field[Any], annotation: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def as_arguments(group: Any) -> list[str]:
    """Return the command-line arguments that say the same as an option group."""
    arguments: list[str] = []
    for field in fields(group):
        option, value = f"--{field.name.replace('_', '-')}", getattr(group, field.name)
        if value is True:
            arguments.append(option)
        elif value is not None and value is not False:
            arguments.append(f"{option}={value}")
    return arguments

"""From what was found to the jobs of a batch, whose paths hold on every machine that shares the file system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from quietbeam.core.settings import Settings
from quietbeam.denoiser.estimators.networks import pretrained
from quietbeam.denoiser.options import DenoiseOptions
from quietbeam.files import FORMATS, format_of

from .found import Found
from .job import Job
from .offline import Reading, Writing, find_weights


def plan(
    found: Sequence[Found],
    output: Path,
    reading: Reading,
    writing: Writing,
    options: DenoiseOptions,
    site: Settings,
    config: str | None,
) -> list[Job]:
    """Return a job for every source.

    Parameters
    ----------
    options
        Their weights are a name or a file, as on the command line.

    Raises
    ------
    InputError
        The format or the weights are unknown, or the calibration that the unit takes cannot be read.
    WeightsError
        The weights are damaged.
    """
    writing.check(site)
    weights = _everywhere(find_weights(options.weights, site.weights_dir))
    options = replace(options, weights=weights)
    reading = replace(
        reading,
        calibration=None if reading.calibration is None else reading.calibration.resolve(),
        profiles=tuple(map(_everywhere, reading.profiles)),
    )
    writing = replace(
        writing,
        format=format_of(output, writing.format or "nexus"),
        areal_calibration=_everywhere(writing.areal_calibration),
    )
    ending = FORMATS[writing.format][0][0]
    sha256, top = pretrained(weights).sha256, output.resolve()
    return [
        Job(
            source=one.source,
            target=top / f"{one.name}_denoised{ending}",
            reading=reading,
            writing=writing,
            options=options,
            config=None if config is None else _everywhere(config),
            weights_sha256=sha256,
        )
        for one in found
    ]


def _everywhere(name: str) -> str:
    """Return the whole path of a file; a name that is no file here as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name and path.is_file() else name

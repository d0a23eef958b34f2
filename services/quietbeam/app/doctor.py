"""Is this machine ready? Every check says what it found and, when something is wrong, what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from quietbeam.core.errors import InputError, QuietbeamError
from quietbeam.core.process.lock import holder
from quietbeam.core.process.outage import disk_outage
from quietbeam.core.secrets import masked
from quietbeam.core.settings import Settings, load_correct_settings, load_settings

from .damaged_runs import examine_runs, size_of_runs
from .doctor_servers import redis_server, stages, tiled_server
from .finding import Finding
from .programs import check_ports, listeners, serves_quietbeam

_LITTLE_DISK = 1 * 2**30
_SOME_DISK = 10 * 2**30


def examine_config(config: str | Path | None, *, repair: bool = False) -> Iterator[Finding]:
    """Yield a finding for every check of a config; wrong settings are a finding, and the others are checked.

    Parameters
    ----------
    config
        Path or name, as for :func:`load_settings`.
    repair
        Mend damaged runs as far as their counts allow.
    """
    try:
        settings = load_settings(config)
    except InputError as error:
        remedy = error.remedy or "correct it; the checks below leave the wrong settings out"
        yield Finding(check="settings", verdict="failure", found=masked(error.message), remedy=remedy)
        try:
            settings = load_correct_settings(config)
        except InputError:  # no file, or a variable of the environment: the machine can be checked
            settings = Settings.model_construct()
            yield from _examine(settings, (_python, _torch, _weights))
            return
    yield from examine(settings, repair=repair)


def examine(settings: Settings, *, repair: bool = False) -> Iterator[Finding]:
    """Yield a finding for every check; a check that breaks is a failure, not an end.

    Parameters
    ----------
    repair
        Mend damaged runs as far as their counts allow.
    """

    def runs(settings: Settings) -> Iterator[Finding]:
        return examine_runs(settings, repair=repair)

    checks = (
        _python,
        _torch,
        _weights,
        _profiles,
        _calibration,
        _disk,
        _access,
        _data_roots,
        _sources,
        _ports,
        redis_server,
        stages,
        tiled_server,
        size_of_runs,
        runs,
    )
    yield from _examine(settings, checks)


def _examine(settings: Settings, checks: Sequence[Callable[[Settings], Iterator[Finding]]]) -> Iterator[Finding]:
    for check in checks:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            for finding in check(settings):
                yield replace(finding, found=masked(finding.found), remedy=masked(finding.remedy))
        except Exception as error:
            remedy = getattr(error, "remedy", "") or "see above"
            yield Finding(
                check=name, verdict="failure", found=masked(f"{type(error).__name__}: {error}"), remedy=remedy
            )


def _python(_settings: Settings) -> Iterator[Finding]:
    yield Finding(check="Python", verdict="ok", found=f"{platform.python_version()} ({sys.executable})")


def _torch(settings: Settings) -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding(check="torch", verdict="failure", found=str(error), remedy="make install")
        return
    cuda = torch.cuda.is_available()
    wanted = settings.denoise.device
    gpu = torch.cuda.get_device_name(0) if cuda else ""
    found = f"{torch.__version__}, device {wanted}, " + (f"GPU {gpu}" if cuda else f"CPU ({os.cpu_count()} cores)")
    if wanted.startswith("cuda") and not cuda:
        yield Finding(
            check="torch",
            verdict="failure",
            found=f"{found}; torch sees no GPU",
            remedy="install driver and CUDA build (make install TORCH='torch===VERSION'), or set denoise.device: auto",
        )
    elif shutil.which("nvidia-smi") and not cuda:
        yield Finding(
            check="torch",
            verdict="warning",
            found=f"{found}; the machine has a GPU that torch does not see",
            remedy="make install TORCH='torch===VERSION' installs the CUDA build",
        )
    else:
        yield Finding(check="torch", verdict="ok", found=found)


def _weights(settings: Settings) -> Iterator[Finding]:
    from quietbeam_models.weights import DEFAULT, DamagedWeightsError, installed_weights, load_weights

    name = settings.denoise.weights or DEFAULT
    there = installed_weights(settings.weights_dir)
    if name not in there:
        yield Finding(
            check="weights",
            verdict="failure",
            found=f"denoise.weights is {name!r}; there are {', '.join(there)}",
            remedy=f"name one of them, or put {name}.safetensors and its card into {settings.weights_dir}",
        )
        return
    try:
        weights = load_weights(there[name])
    except DamagedWeightsError as error:
        yield Finding(
            check="weights",
            verdict="failure",
            found=str(error),
            remedy="install quietbeam again; without weights maps are published raw",
        )
    else:
        yield Finding(check="weights", verdict="ok", found=f"{name}, sha256 {weights.sha256[:12]} as in its card")


def _profiles(settings: Settings) -> Iterator[Finding]:
    from quietbeam.ingest.profile.schema import load_profile

    for name in settings.ingest.profiles:
        try:
            profile = load_profile(name)
        except QuietbeamError as error:
            remedy = error.remedy or "mend it, or change ingest.profiles"
            yield Finding(check="profile", verdict="failure", found=error.message, remedy=remedy)
        else:
            yield Finding(check="profile", verdict="ok", found=f"{name}: {profile.description or profile.name}")


def _calibration(settings: Settings) -> Iterator[Finding]:
    from quietbeam.quantify import read_calibration

    if not (wanted := settings.quantify.calibration):
        return
    try:
        found = read_calibration(wanted, settings.calibrations_dir)
    except (QuietbeamError, OSError) as error:
        yield Finding(
            check="calibration",
            verdict="failure",
            found=f"quantify.calibration: {getattr(error, 'message', error)}",
            remedy="make it with quietbeam calibrate, or correct quantify.calibration; there is no ug/cm2 until then",
        )
        return
    about = f"{found.name}: {found.standard} at {found.energy_kev:g} keV, {', '.join(x.line for x in found.lines)}"
    yield Finding(check="calibration", verdict="ok", found=about)


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir.resolve()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(there, os.W_OK):
        yield Finding(
            check="disk", verdict="failure", found=f"{there} cannot be written", remedy="change data_dir or its owner"
        )
        return
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"x" * 4096)
            probe.flush()
    except OSError as error:
        found = f"{disk_outage(error, there) or error}. Stages that write wait for that, and retry."
        yield Finding(check="disk", verdict="failure", found=found, remedy="make room; nothing must be restarted")
        return
    free = shutil.disk_usage(there).free
    found = f"{folder}: {free / 2**30:.1f} GiB free"
    if free < _LITTLE_DISK:
        yield Finding(check="disk", verdict="failure", found=found, remedy="make room, or set data_dir elsewhere")
    elif free < _SOME_DISK:
        yield Finding(check="disk", verdict="warning", found=found, remedy="delete old runs below data_dir/runs soon")
    else:
        yield Finding(check="disk", verdict="ok", found=found)


def _access(settings: Settings) -> Iterator[Finding]:
    for folder in (settings.data_dir, settings.data_dir / "logs", settings.secrets_dir):
        if folder.is_dir() and folder.stat().st_mode & stat.S_IROTH:
            yield Finding(
                check="access",
                verdict="warning",
                found=f"{folder} can be read by every user of this machine",
                remedy=f"chmod o-rwx '{folder}'",
            )


def _data_roots(settings: Settings) -> Iterator[Finding]:
    for root in settings.ingest.data_roots:
        if os.access(root, os.R_OK | os.X_OK):
            yield Finding(check="data roots", verdict="ok", found=str(root))
        else:
            yield Finding(
                check="data roots",
                verdict="failure",
                found=f"{root} cannot be read",
                remedy="mount it, or correct ingest.data_roots; detector files there are refused until then",
            )


def _sources(settings: Settings) -> Iterator[Finding]:
    from quietbeam.ingest.transports import probe_source

    embedded_proxy = f"zmq://{settings.embedded.zmq_out}"
    for source in settings.ingest.sources:
        if source in ("redis", embedded_proxy):
            continue
        try:
            probe = probe_source(source, settings)
        except QuietbeamError as error:
            remedy = error.remedy or "correct ingest.sources"
            yield Finding(check="source", verdict="failure", found=f"{source}: {error.message}", remedy=remedy)
            continue
        found = f"{source}: {probe.found}"
        yield Finding(check="source", verdict=probe.verdict, found=found, remedy=probe.remedy)


def _ports(settings: Settings) -> Iterator[Finding]:
    where = ", ".join(f"{host}:{port}" for host, port in listeners(settings).values())
    if pid := holder(settings.data_dir / "up.lock"):
        yield Finding(check="ports", verdict="ok", found=f"{where}: used by quietbeam itself (pid {pid})")
        return
    serving = serves_quietbeam(settings)
    busy = False
    for setting in listeners(settings):
        if setting == "serve.port" and serving:
            continue
        try:
            check_ports(settings, patience_s=0, only=(setting,))
        except QuietbeamError as error:
            busy = True
            yield Finding(check="ports", verdict="failure", found=error.message, remedy=error.remedy)
    if not busy:
        state = "`quietbeam serve` answers, the others are free" if serving else "free"
        yield Finding(check="ports", verdict="ok", found=f"{where}: {state}")

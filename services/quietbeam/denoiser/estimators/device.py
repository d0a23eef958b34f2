"""Devices and CPU threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from quietbeam.core.errors import InputError


def pick_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises
    ------
    InputError
        When the device is unknown or not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:N or mps") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False) or (device.index or 0) >= max(torch.cuda.device_count(), 1):
        raise InputError(f"device {name!r} is not available here; use device='auto'")
    return device


def use_threads(device: torch.device, threads: int | None) -> None:
    """Set the number of CPU threads.

    More threads than free cores is far worse than too few: every operation waits for the thread that lost its core
    (measured: 10 times slower steps on two busy cores with two threads than with one).
    """
    if device.type != "cpu" or threads == 0:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, threads if threads is not None else min(cores - 1, 8)))


@contextmanager
def restored_threads() -> Iterator[None]:
    """Restore the caller's number of CPU threads at the end."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def free_cores(sample_s: float = 0.2) -> int:
    """Return how many cores are idle during ``sample_s`` seconds, at least 1.

    Not from the load average: that holds for a minute what a process did itself, and a second map would get one core.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    busy = psutil.cpu_percent(sample_s, percpu=True)
    return max(1, round(sum(1.0 - busy[core] / 100 for core in cores if core < len(busy))))

"""`quietbeam batch` on real Dask workers: damaged files, workers that are killed, Ctrl-C, schedulers of others."""

from __future__ import annotations

import csv
import errno
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from distributed import Client, LocalCluster
from typer.testing import CliRunner

from conftest import wait_until
from quietbeam.app.ports import free_port
from quietbeam.batch import cluster as clusters
from quietbeam.batch import job as jobs
from quietbeam.batch.cluster import check_versions, offers, workers
from quietbeam.batch.found import find
from quietbeam.batch.job import Job, Outcome
from quietbeam.batch.offline import Reading, Writing, denoise_map
from quietbeam.batch.plan import plan
from quietbeam.batch.run import LOCK, Batch, OutputFullError
from quietbeam.cli import app
from quietbeam.core.errors import InputError, MapTooLargeError, ServiceError
from quietbeam.core.process.lock import acquire
from quietbeam.core.settings import BatchSettings, Settings
from quietbeam.denoiser.options import DenoiseOptions
from quietbeam.files import FORMATS

FILES = 8


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight maps, one of them damaged."""
    folder = tmp_path_factory.mktemp("batch") / "archive"
    for i in range(FILES):
        path = folder / f"day{i % 2}" / f"map{i}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        counts = np.random.default_rng(i).poisson(4, (2, 1, 16, 16)).astype(np.uint32)
        np.savez(path, counts=counts, lines=["Fe_Ka"])
    damaged = folder / "day1" / "map7.npz"
    damaged.write_bytes(damaged.read_bytes()[:200])
    return folder


def start(archive: Path, output: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "quietbeam", "batch", str(archive), "-o", str(output), "--device", "cpu", *options]
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def config(folder: Path, **batch: Any) -> str:
    path = folder / "batch.yaml"
    path.write_text(yaml.safe_dump({"data_dir": str(folder / "data"), "batch": batch}), encoding="utf-8")
    return str(path)


def rows(output: Path) -> dict[str, dict[str, str]]:
    with (output / "report.csv").open(encoding="utf-8", newline="") as file:
        return {Path(row["file"]).stem: row for row in csv.DictReader(file)}


def results(output: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in output.rglob("*_denoised.h5.json")}


def kill_a_worker(batch: int) -> None:
    """Kill the newest worker process; those that die by themselves at this moment are no others."""
    for process in reversed(psutil.Process(batch).children(recursive=True)):
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(process.cmdline()):
                process.kill()
                return
    pytest.fail("no worker is there")


def test_an_archive_on_two_workers_with_everything_that_goes_wrong(archive: Path, tmp_path: Path) -> None:
    """Ctrl-C keeps what is finished; started again, the batch skips it, and goes on when workers are killed."""
    output, setup = tmp_path / "out", config(tmp_path, workers=2, retries=1)
    batch = start(archive, output, "-c", setup, "--no-fine-tune")
    wait_until(lambda: results(output) or batch.poll() is not None, 120, "a finished file")
    os.killpg(batch.pid, signal.SIGINT)
    text = batch.communicate(timeout=60)[0]
    assert batch.returncode == 130, text
    assert text.rstrip().endswith("what is finished is kept: run the same command again for the rest")
    assert "Traceback" not in text and not list(output.rglob(".quietbeam-*/*"))
    before = results(output)
    assert before and set(rows(output)) <= {f"map{i}" for i in range(FILES)}

    # now map1 kills its worker whenever it is tried, and one worker is killed besides
    batch = start(archive, output, "-c", setup, "--no-fine-tune", QUIETBEAM_FAILPOINT="batch_map1.npz")
    wait_until(lambda: results(output) > before or batch.poll() is not None, 120, "another finished file")
    kill_a_worker(batch.pid)
    text = batch.communicate(timeout=200)[0]
    assert batch.returncode == 1, text
    found = rows(output)
    status = {name: row["status"] for name, row in found.items()}
    assert len(found) == FILES and results(output) == {f"map{i}" for i in range(7)} - {"map1"} | (before & {"map1"})
    assert status["map7"] == "failed" and "only a part of one" in found["map7"]["error"]
    assert all(status[name] == "done before" for name in before)
    if "map1" not in before:
        assert status["map1"] == "failed" and "its worker was killed" in found["map1"]["error"]
        assert "(tried 2 times)" in found["map1"]["error"]
    others = set(found) - before - {"map1", "map7"}
    assert {status[name] for name in others} <= {"done", "done before"} and others
    assert "Traceback" not in text


def test_two_batches_never_share_a_folder(archive: Path, tmp_path: Path) -> None:
    with acquire(tmp_path / LOCK):
        done = CliRunner().invoke(app, ["batch", str(archive), "-o", str(tmp_path)])
    assert isinstance(done.exception, InputError)
    assert f"process {os.getpid()} runs a batch into {tmp_path}" in str(done.exception)


@pytest.fixture
def threads() -> Iterator[Client]:
    """Workers of Dask in this process, whose code a test can change."""
    local = LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None)
    with local as cluster, Client(cluster) as client:
        yield client


def planned(archive: Path, output: Path) -> list[Job]:
    found = [one for one in find([str(archive)], Settings(), output).found if "map7" not in one.name]
    return plan(found, output, Reading(), Writing(), DenoiseOptions(fine_tune=False, device="cpu"), Settings(), None)


@pytest.mark.usefixtures("one_thread")
def test_too_little_memory_is_tried_again_with_less(
    threads: Client, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles: dict[int, list[int]] = {}

    def hungry(file: Any, options: DenoiseOptions) -> Any:
        tiles.setdefault(int(file.counts.sum()), []).append(options.tile)
        if options.tile > 64:
            raise MapTooLargeError("this map needs 9 GiB")
        return denoise_map(file, options)

    monkeypatch.setattr(jobs, "denoise_map", hungry)
    outcomes: list[Outcome] = []
    Batch(threads, None, 2, outcomes.append).run(planned(archive, tmp_path)[:2])
    assert [one.status for one in outcomes] == ["done", "done"]
    assert sorted(tiles.values()) == [[256, 128, 64], [256, 128, 64]]
    outcomes.clear()
    Batch(threads, None, 1, outcomes.append).run(planned(archive, tmp_path / "other")[:1])
    assert [(one.status, one.error) for one in outcomes] == [("failed", "this map needs 9 GiB (tried 2 times)")]


@pytest.mark.usefixtures("one_thread")
def test_a_full_disk_ends_the_batch(
    threads: Client, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endings, write = FORMATS["nexus"]

    def full(path: Path, *rest: Any) -> None:
        if "map0" in path.name:
            write(path, *rest)
            return
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(FORMATS, "nexus", (endings, full))
    outcomes: list[Outcome] = []
    with pytest.raises(OutputFullError, match="the disk is full: make room and run the same command again"):
        Batch(threads, None, 2, outcomes.append).run(planned(archive, tmp_path))
    assert "failed" in {one.status for one in outcomes} and len(outcomes) < FILES - 1
    wait_until(lambda: not list(tmp_path.rglob(".quietbeam-*")), what="no half-written file")
    assert {path.name for path in tmp_path.rglob("*_denoised.h5")} <= {"map0.npz_denoised.h5"}


@pytest.mark.usefixtures("one_thread")
def test_a_scheduler_that_is_gone_ends_the_batch(archive: Path, tmp_path: Path) -> None:
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)
    client = Client(cluster)

    def gone(_outcome: Outcome) -> None:
        cluster.close()

    with pytest.raises(ServiceError, match=r"the Dask scheduler .*run the same command again"):
        Batch(client, None, 2, gone).run(planned(archive, tmp_path))
    client.close()
    assert results(tmp_path)


def enter(settings: BatchSettings) -> None:
    """Open and close what the settings describe."""
    with workers(settings, files=1, device="cpu", say=print):
        pass


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_ANSWERS_S", 0.5)
    for address in (f"tcp://127.0.0.1:{free_port()}", "nonsense://x"):
        with pytest.raises(ServiceError, match=f"no Dask scheduler answers at {address}"):
            enter(BatchSettings(scheduler=address))


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[str]:
    """A scheduler whose worker has quietbeam 9.9."""
    fake = tmp_path / "fake" / "quietbeam-9.9.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: quietbeam\nVersion: 9.9\n", encoding="utf-8")
    path = os.pathsep.join([str(fake.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    address = f"tcp://127.0.0.1:{free_port()}"
    common = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    host, _, port = address.removeprefix("tcp://").partition(":")
    program = str(Path(sys.executable).with_name("dask"))
    started = [
        subprocess.Popen([program, "scheduler", "--host", host, "--port", port, "--no-dashboard"], **common),  # type: ignore[call-overload]
        subprocess.Popen(
            [program, "worker", address, "--no-dashboard", "--no-nanny", "--local-directory", str(tmp_path)],
            env={**os.environ, "PYTHONPATH": path},
            **common,  # type: ignore[arg-type]
        ),
    ]
    yield address
    for process in started:
        process.kill()
        process.wait(10)


def test_workers_of_another_version_are_named(foreign: str) -> None:
    with pytest.raises(ServiceError, match=r"workers must have quietbeam .*tcp://127.0.0.1:\d+ has quietbeam 9.9"):
        enter(BatchSettings(scheduler=foreign))
    with Client(foreign) as client:
        with pytest.raises(ServiceError, match="no worker offers a GPU for --device cuda: start them with"):
            offers(client, "cuda")
        with pytest.raises(ServiceError, match=r"quietbeam 9\.9"):
            check_versions(client)


SBATCH = """#!/bin/sh
cp "$1" {folder}/job.sh
sh {folder}/job.sh > {folder}/job.log 2>&1 &
echo $! > {folder}/pid
echo "Submitted batch job 1"
"""


def test_jobs_of_a_batch_system(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program stands for SLURM's `sbatch` and runs the job on this machine; the rest is real."""
    one = BatchSettings(cluster="slurm", options={"cores": 1, "memory": "2GB", "queue": "short"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match="there is no sbatch on this machine"):
        enter(one)
    monkeypatch.undo()
    for name, text in (("sbatch", SBATCH.format(folder=tmp_path)), ("scancel", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "unraisablehook", lambda _: None)  # dask-jobqueue leaves half a cluster behind
        with pytest.raises(InputError, match=r"batch.options is wrong for SLURMCluster of dask-jobqueue: .*qeue"):
            enter(replace_options(one, qeue="short"))
        gc.collect()
    said: list[str] = []
    outcomes: list[Outcome] = []
    here = replace_options(one, interface="lo", local_directory=str(tmp_path), log_directory=str(tmp_path / "logs"))
    with workers(here, files=1, device="cpu", say=said.append) as client:
        Batch(client, None, 0, outcomes.append).run(planned(archive, tmp_path / "out")[:1])
    assert said == ["waiting for slurm to start the first job"]
    assert [one.status for one in outcomes] == ["done"], outcomes
    assert "#SBATCH -p short" in (tmp_path / "job.sh").read_text(encoding="utf-8")
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", 30, "the job's end")


def replace_options(settings: BatchSettings, **options: Any) -> BatchSettings:
    return settings.model_copy(update={"options": {**settings.options, **options}})

"""The Xspress3-like IOC: process variables as released device code finds them, files, scans by both ophyds."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from caproto.threading.client import Context
from ingest_kit import Pipe

from quietbeam.beamline.experiment import Experiment, ExperimentOptions
from quietbeam.beamline.ioc.address import Address, free_ca_port, require_epics
from quietbeam.beamline.truth import Truth
from quietbeam.core import codec
from quietbeam.core.errors import InputError
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import IngestSettings, Settings
from quietbeam.core.wire import keys
from quietbeam.core.wire.bus import Connection

OPTIONS = ExperimentOptions(
    specimen="star", lines=("P_Ka", "Ca_Ka", "Fe_Ka"), shape=(4, 5), detectors=2, counts=30, dwell_s=0.02, seed=5
)
COMMON = ("--shape", "4x5", "--detectors", "2", "--lines", "P_Ka,Ca_Ka,Fe_Ka", "--counts", "30", "--dwell", "0.02")


def start(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "quietbeam", "ioc", "--specimen", "star", "--seed", "5", *options]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_")} | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


class Client:
    """Gets and puts as any Channel Access client does, without ophyd."""

    def __init__(self, address: Address) -> None:
        self._address, self._pvs = address, {}
        self._context = Context()

    def pv(self, name: str) -> Any:
        if name not in self._pvs:
            (self._pvs[name],) = self._context.get_pvs(f"{self._address.prefix}{name}", timeout=30)
            self._pvs[name].wait_for_connection(timeout=30)
        return self._pvs[name]

    def get(self, name: str) -> Any:
        data = self.pv(name).read(timeout=30).data
        return data[0] if len(data) == 1 else data

    def text(self, name: str) -> str:
        data = self.pv(name).read(timeout=30, data_type="native").data
        value = data[0] if isinstance(data[0], bytes) else bytes(bytearray(data))
        return value.split(b"\0")[0].decode()

    def put(self, name: str, *values: Any, wait: bool = True) -> Any:
        """Write; with `wait` until the IOC says that it is done. Returns its status."""
        response = self.pv(name).write(values, wait=wait, timeout=30)
        return response.status if wait else None

    def close(self) -> None:
        self._context.disconnect()


@pytest.fixture(scope="module")
def ioc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    address = Address(prefix="QBTEST:", port=free_ca_port())
    process = start("--speed", "0", "--prefix", address.prefix, "--ca-port", str(address.port), *COMMON)
    assert process.stdout is not None
    said = "".join(process.stdout.readline() for _ in range(5))
    assert "QBTEST:XSP3: (2 channels)" in said, said + process.communicate(timeout=30)[1]
    assert f"EPICS_CA_SERVER_PORT={address.port}" in said
    yield address
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "Traceback" not in err, err


@pytest.fixture
def client(ioc: Address, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    for name, value in ioc.client_environment().items():
        monkeypatch.setenv(name, value)
    client = Client(ioc)
    yield client
    client.close()


def expose(client: Client, images: int = 1) -> None:
    client.put("XSP3:det1:TriggerMode", 1)
    client.put("XSP3:det1:NumImages", images)
    client.put("XSP3:det1:Acquire", 1)


def test_an_exposure_is_whole_when_its_put_is_done(client: Client) -> None:
    experiment = Experiment(OPTIONS)
    client.put("m1", 0.125)
    client.put("m2", -0.25)
    assert (client.get("m1.RBV"), client.get("m2.RBV"), client.get("m2.DMOV")) == (0.125, -0.25, 1)
    before = client.get("XSP3:det1:ArrayCounter_RBV")
    expose(client)
    frame = experiment.measure(2, 1)
    for d in (1, 2):
        totals = [client.get(f"XSP3:MCA{d}ROI:{n}:Total_RBV") for n in (1, 2, 3)]
        assert totals == frame.counts[d - 1].tolist()
        spectrum = client.get(f"XSP3:MCA{d}:ArrayData")
        assert len(spectrum) == 4096 and spectrum.sum() > frame.counts[d - 1].sum(), "scatter lies beside the lines"
        live = 1 - client.get(f"XSP3:C{d}SCA:10:Value_RBV") / 100
        assert live * 0.02 == pytest.approx(frame.live_time_s[d - 1])
        assert client.get(f"XSP3:C{d}SCA:9:Value_RBV") == pytest.approx(1 / live)
        assert client.get(f"XSP3:C{d}SCA:0:Value_RBV") == pytest.approx(0.02 * 80e6)
        assert client.get(f"XSP3:C{d}SCA:3:Value_RBV") == spectrum.sum()
    assert client.get("I0") == frame.i0
    assert client.get("XSP3:det1:ArrayCounter_RBV") == before + 1
    assert client.get("XSP3:det1:DetectorState_RBV") == 0 and client.get("XSP3:det1:Acquire_RBV") == 0


def test_regions_follow_their_limits(client: Client) -> None:
    expose(client)
    whole = client.get("XSP3:MCA1:ArrayData")
    client.put("XSP3:MCA1ROI:5:MinX", 100)
    client.put("XSP3:MCA1ROI:5:SizeX", 900)
    assert client.get("XSP3:MCA1ROI:5:MinX_RBV") == 100
    expose(client)
    assert client.get("XSP3:MCA1ROI:5:Total_RBV") == 0, "not used yet"
    client.put("XSP3:MCA1ROI:5:Use", 1)
    client.put("XSP3:MCA1ROI:5:Name", "mine")
    expose(client)
    spectrum = client.get("XSP3:MCA1:ArrayData")
    assert client.get("XSP3:MCA1ROI:5:Total_RBV") == spectrum[100:1000].sum() != whole[100:1000].sum()
    client.put("XSP3:det1:ERASE", 1)
    assert client.get("XSP3:MCA1:ArrayData").sum() == client.get("XSP3:MCA1ROI:5:Total_RBV") == 0


def test_a_time_series_per_region(client: Client) -> None:
    client.put("XSP3:MCA2ROI:TSNumPoints", 3)
    client.put("XSP3:MCA2ROI:TSControl", 0)
    totals = []
    for _ in range(3):
        expose(client)
        totals.append(client.get("XSP3:MCA2ROI:2:Total_RBV"))
    assert client.get("XSP3:MCA2ROI:TSCurrentPoint") == 3 and client.get("XSP3:MCA2ROI:TSAcquiring") == 0
    assert client.get("XSP3:MCA2ROI:2:TSTotal")[:3].tolist() == totals
    expose(client)
    assert client.get("XSP3:MCA2ROI:TSCurrentPoint") == 3, "a full series takes no more"


def capture(client: Client, folder: Path, name: str, frames: int) -> None:
    client.put("XSP3:HDF1:FilePath", *str(folder).encode(), 0)
    client.put("XSP3:HDF1:FileName", *name.encode(), 0)
    client.put("XSP3:HDF1:FileNumber", 7)
    client.put("XSP3:HDF1:NumCapture", frames)
    client.put("XSP3:HDF1:Capture", 1, wait=False)


def test_the_file_plugin_writes_every_frame_and_can_be_read_meanwhile(client: Client, tmp_path: Path) -> None:
    capture(client, tmp_path, "one", 4)
    expose(client, images=3)
    path = tmp_path / "one_000007.h5"
    assert client.text("XSP3:HDF1:FullFileName_RBV") == str(path)
    assert client.get("XSP3:HDF1:NumCaptured_RBV") == 3 and client.get("XSP3:HDF1:SWMRActive_RBV") == 1
    with h5py.File(path, "r", libver="latest", swmr=True) as growing:
        assert growing["entry/data/data"].shape == (3, 2, 4096)
    client.put("m2", 0.25)
    expose(client)
    assert client.get("XSP3:HDF1:Capture_RBV") == 0, "NumCapture frames are there"
    with h5py.File(path) as done:
        data = done["entry/instrument/detector/data"]
        assert data.shape == (4, 2, 4096)
        for d in (1, 2):
            assert np.array_equal(data[3, d - 1], client.get(f"XSP3:MCA{d}:ArrayData"))
        attributes = done["entry/instrument/NDAttributes"]
        assert attributes["FAST"][3] == 0.25 and attributes["I0"][3] == client.get("I0")
        assert done["entry/instrument/detector/dead_percent"][3, 0] == client.get("XSP3:C1SCA:10:Value_RBV")
    assert client.get("XSP3:HDF1:FileNumber") == 8


def test_what_cannot_be_is_refused_with_a_reason(client: Client, tmp_path: Path) -> None:
    capture(client, tmp_path / "nowhere", "x", 1)
    assert client.get("XSP3:HDF1:FilePathExists_RBV") == 0
    assert client.get("XSP3:HDF1:Capture_RBV") == 0 and client.get("XSP3:HDF1:WriteStatus") == 1
    assert "no folder" in client.text("XSP3:HDF1:WriteMessage")
    client.put("XSP3:HDF1:CreateDirectory", -1)
    client.put("XSP3:HDF1:FilePath", *str(tmp_path / "nowhere").encode(), 0)
    assert (tmp_path / "nowhere").is_dir() and client.get("XSP3:HDF1:FilePathExists_RBV") == 1
    refused = [("m1", 99.0), ("m1.VELO", 0.0), ("XSP3:det1:AcquireTime", 0.0), ("XSP3:MCA1ROI:1:MinX", 5000)]
    for name, value in refused:
        before = client.get(name)
        assert client.put(name, value).name == "ECA_PUTFAIL"
        assert client.get(name) == before
    position = client.get("m1.RBV")
    client.put("m1.RBV", 0.5, wait=False)
    assert client.get("m1.RBV") == position, "a readback is read only"


def test_an_acquisition_can_be_stopped_and_hardware_triggers_come_from_the_fast_axis(client: Client) -> None:
    client.put("m2", -0.75)
    client.put("XSP3:det1:TriggerMode", 3)
    client.put("XSP3:det1:NumImages", 4)
    waiting = threading.Event()
    seen: list[int] = []

    def look(_subscription: Any, response: Any) -> None:
        seen.append(int(response.data[0]))
        if response.data[0] == 7:
            waiting.set()

    subscription = client.pv("XSP3:det1:DetectorState_RBV").subscribe()
    subscription.add_callback(look)
    client.put("XSP3:det1:Acquire", 1, wait=False)
    assert waiting.wait(30)
    client.put("m2", 0.05)  # over the centres at -0.5, -0.25 and 0
    assert client.get("XSP3:det1:FRAME_COUNT_RBV") == 3 and client.get("XSP3:det1:Acquire_RBV") == 1
    client.put("XSP3:det1:Acquire", 0)
    assert client.get("XSP3:det1:Acquire_RBV") == 0 and client.get("XSP3:det1:DetectorState_RBV") == 10
    client.put("m2", 0.5)
    assert client.get("XSP3:det1:FRAME_COUNT_RBV") == 3, "nobody waits for triggers any more"


def documents(redis: Connection) -> list[tuple[str, Any]]:
    entries: Any = redis.xrange(keys.DOCS)
    return [(fields[b"name"].decode(), codec.unpack(fields[b"doc"])) for _, fields in entries]


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        pytest.param(
            "snake",
            "xspress3",
            marks=pytest.mark.supports("control system", "EPICS Xspress3, ophyd (EpicsSignals), step scan: regions"),
        ),
        pytest.param(
            "fly",
            "xspress3-hdf5",
            marks=pytest.mark.supports(
                "control system", "EPICS Xspress3, ophyd-async StandardDetector, fly scan: HDF5 of areaDetector"
            ),
        ),
    ],
)
def test_scans_of_the_ioc_are_ingested_bit_for_bit(
    settings: Settings, redis: Connection, tmp_path: Path, mode: str, profile: str
) -> None:
    config = tmp_path / "qb.yaml"
    values = {"data_dir": str(settings.data_dir), "redis": {"url": settings.redis_url}}
    config.write_text(yaml.safe_dump(values))
    scan = start(
        "--scan", "-c", str(config), "--mode", mode, "--speed", "0", "--truth", str(tmp_path / "t.npz"), *COMMON
    )
    out, err = scan.communicate(timeout=240)
    assert scan.returncode == 0, out + err
    assert "20 frames" in out and "Traceback" not in err
    truth = Truth.load(tmp_path / "t.npz")
    assert truth.measured.all() and (truth.counts.sum((0, 2, 3)) > 20).all()

    profiles = IngestSettings(profiles=("simulated", "xspress3", "xspress3-hdf5", "generic"))
    pipe = Pipe(settings.model_copy(update={"ingest": profiles}), redis)
    pipe.send(documents(redis))
    pipe.drain(60)
    status = pipe.status(truth.run_uid)
    assert status.state is RunState.COMPLETE, status
    assert status.info is not None and status.info.profile == profile
    assert status.info.lines == truth.lines and status.info.detectors == truth.detectors
    np.testing.assert_array_equal(pipe.counts(truth.run_uid), truth.counts)
    buffer = pipe.buffer(truth.run_uid)
    np.testing.assert_allclose(buffer.read_i0(), truth.i0)
    np.testing.assert_allclose(buffer.read_live_time_s(), truth.live_time_s, rtol=1e-5)
    pipe.stage.close()


def test_an_ioc_that_cannot_start_says_why() -> None:
    process = start("--scan", "--lines", "P_Ka,P_Kb", "--transport", "none")
    _, err = process.communicate(timeout=90)
    assert process.returncode == 2 and "Traceback" not in err, err
    assert "the windows of P_Ka and P_Kb overlap" in err and "the IOC did not start" in err


@pytest.mark.parametrize("prefix", ["XF{Xsp:1}", "", "QB.1:", "$(P)"])
def test_prefixes_that_caproto_cannot_serve(prefix: str) -> None:
    with pytest.raises(InputError, match="without braces"):
        Address(prefix=prefix)


def test_missing_packages_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    require_epics()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "caproto" else object())
    with pytest.raises(InputError, match=r"caproto not installed: pip install 'quietbeam\[epics\]'"):
        require_epics()

"""Document shapes that beamlines really write, each to exactly the counts that were measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingest_kit import Pipe
from shapes_kit import CALIBRATIONS, LINES, Run, ingested, pipe_with, profile, spectra_of, write

from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.spectra import line_energy, resolution_fwhm

ROI = r"^xs_(?P<detector>channel\d+)_mcaroi(?P<line>\d+)_total_rbv$"
NAMES = {f"{n + 1:02d}": line for n, line in enumerate(LINES)}


def roi_keys(run: Run, suffix: str) -> list[str]:
    return [
        f"xs_channel{d + 1:02d}_mcaroi{n + 1:02d}_{suffix}" for d in range(len(run.counts)) for n in range(len(LINES))
    ]


@contextmanager
def read_by(settings: Settings, connection: Connection, mine: Path, **changes: Any) -> Iterator[Pipe]:
    pipe = pipe_with(settings, connection, mine, **changes)
    yield pipe
    pipe.stage.close()


@pytest.mark.supports("document shape", "Event per row, an array per region (`xs_..._total_rbv`), also (1, n)")
@pytest.mark.parametrize("leading", [(), (1,)])
def test_rows_of_regions(settings: Settings, redis: Connection, tmp_path: Path, leading: tuple[int, ...]) -> None:
    run = Run()
    mine = profile(tmp_path, counts={"keys": ROI, "line_names": NAMES})
    keys = roi_keys(run, "total_rbv")
    descriptor = run.stream("primary", {k: {"dtype": "array", "shape": [5]} for k in keys})
    for row in range(4):
        values = run.counts[:, :, row].reshape(len(keys), *leading, -1)
        run.event(descriptor, dict(zip(keys, values, strict=True)))
    run.stop({"primary": 4})
    with read_by(settings, redis, mine) as pipe:
        np.testing.assert_array_equal(ingested(pipe, run), run.counts)
        assert pipe.status(run.uid).info.lines == LINES  # type: ignore[union-attr]


@pytest.mark.supports("document shape", "monitored time series, a stream per signal (`xs_..._ts_total`)")
def test_series_in_streams_of_their_own(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    run = Run(3, 6)
    keys = roi_keys(run, "ts_total")
    mine = profile(
        tmp_path,
        stream="DONOTSAVE_.*_monitor",
        counts={"keys": ROI.replace("total_rbv", "ts_total"), "line_names": NAMES, "index": {}},
    )
    streams = {
        key: run.stream(f"DONOTSAVE_{key}_monitor", {key: {}, "reset_count": {}, "index_count": {}}) for key in keys
    }
    other = run.stream("stream0", {"enc1": {"external": "FileStore:"}})
    for row in range(3):
        for first, stop in ((0, 2), (2, 6)):
            for key, values in zip(keys, run.counts[:, :, row].reshape(len(keys), -1), strict=True):
                part = values[first:stop].tolist()
                page = {key: part, "reset_count": [row] * len(part), "index_count": list(range(first, stop))}
                run.page(streams[key], page)
        run.event(other, {"enc1": "not-here/0"})
    run.stop({f"DONOTSAVE_{key}_monitor": 18 for key in keys})
    with read_by(settings, redis, mine) as pipe:
        np.testing.assert_array_equal(ingested(pipe, run), run.counts)
        assert pipe.status(run.uid).warnings == ()


def test_a_series_that_stops_short_is_said(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    run = Run(1, 4, detectors=1)
    keys = roi_keys(run, "ts_total")
    counts = {"keys": ROI.replace("total_rbv", "ts_total"), "line_names": NAMES, "index": {}}
    mine = profile(tmp_path, stream="DONOTSAVE_.*", counts=counts)
    streams = {key: run.stream(f"DONOTSAVE_{key}_monitor", {key: {}}) for key in keys}
    for key, values in zip(keys, run.counts[0, :, 0], strict=True):
        n = 4 if key != keys[1] else 3
        run.page(streams[key], {key: values[:n].tolist(), "reset_count": [0] * n, "index_count": list(range(n))})
    run.stop()
    with read_by(settings, redis, mine) as pipe:
        counts_there = ingested(pipe, run, state=RunState.INCOMPLETE)
        np.testing.assert_array_equal(counts_there[..., :3], run.counts[..., :3])
        assert any("1 pixels lack some of their series" in w for w in pipe.status(run.uid).warnings)


SPECTRA = {"lines": list(LINES), "calibration": [list(pair) for pair in CALIBRATIONS]}


@pytest.mark.supports("document shape", "spectra in Events: a key per detector, a pixel or a row per event")
@pytest.mark.parametrize("mode", ["pixel", "pixel (1, n)", "row"])
def test_spectra_of_each_detector(settings: Settings, redis: Connection, tmp_path: Path, mode: str) -> None:
    run = Run(3, 4, detectors=3)
    spectra = spectra_of(run.counts.transpose(2, 3, 0, 1))  # (row, col, detector, channel)
    mine = profile(tmp_path, counts={"keys": r"^fx_nano_(?P<detector>det\d+)$", "spectra": SPECTRA})
    descriptor = run.stream("primary", {f"fx_nano_det{d}": {"dtype": "array", "shape": [1024]} for d in range(3)})
    for row in range(3):
        if mode == "row":
            run.event(descriptor, {f"fx_nano_det{d}": spectra[row, :, d] for d in range(3)})
            continue
        for col in range(4):
            one = spectra[row, col, None] if "1, n" in mode else spectra[row, col]
            run.event(descriptor, {f"fx_nano_det{d}": one[..., d, :] for d in range(3)})
    run.stop({"primary": 3 if mode == "row" else 12})
    with read_by(settings, redis, mine) as pipe:
        np.testing.assert_array_equal(ingested(pipe, run), run.counts)


@pytest.mark.supports("document shape", "spectra that are fitted as they come (PyMca), peaks over a background")
def test_spectra_that_are_fitted(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    pytest.importorskip("PyMca5", reason="PyMca is an extra: pip install 'quietbeam[fit]'")
    run = Run(3, 4, detectors=3)
    energy = np.arange(1024) * 0.01
    mean = 2.0 * np.exp(-energy / 4)
    for line, area in (("Cr_Ka", 300), ("Cr_Kb", 40), ("Fe_Ka", 100), ("Fe_Kb", 13)):
        sigma = resolution_fwhm(line_energy(line)) / 2.355
        mean += area * 0.01 / sigma / 2.507 * np.exp(-0.5 * ((energy - line_energy(line)) / sigma) ** 2)
    spectra = run.rng.poisson(mean, (3, 4, 3, 1024)).astype(np.uint32)
    section = {"lines": ["Cr_Ka", "Fe_Ka"], "method": "fit"}
    dataset = {"data_key": "xs", "axes": ["frame", "detector", "channel"]}
    mine = profile(tmp_path, kind="areas", counts={"dataset": dataset, "spectra": section})
    descriptor = run.stream("primary", {"xs": {"dtype": "array", "shape": [4, 3, 1024]}})
    for row in spectra:
        run.event(descriptor, {"xs": row})
    run.stop({"primary": 3})
    with read_by(settings, redis, mine) as pipe:
        areas = ingested(pipe, run)
    assert areas.dtype == np.float32
    assert areas.mean((0, 2, 3)) == pytest.approx([340, 113], rel=0.08)


@pytest.mark.supports("document shape", "spectra in Events: one array with all detectors")
@pytest.mark.parametrize("mode", ["pixel", "row", "row (1, n)"])
def test_spectra_in_one_array(settings: Settings, redis: Connection, tmp_path: Path, mode: str) -> None:
    run = Run(3, 4, detectors=3)
    spectra = spectra_of(run.counts.transpose(2, 3, 0, 1))
    dataset = {"data_key": "xs", "axes": ["frame", "detector", "channel"]}
    mine = profile(tmp_path, counts={"dataset": dataset, "spectra": SPECTRA})
    lead = {"pixel": [], "row": [4], "row (1, n)": [1, 4]}[mode]
    descriptor = run.stream("primary", {"xs": {"dtype": "array", "shape": [*lead, 3, 1024]}})
    for row in spectra if mode != "pixel" else spectra.reshape(-1, 3, 1024):
        run.event(descriptor, {"xs": row[None] if "1, n" in mode else row})
    run.stop({"primary": 12 if mode == "pixel" else 3})
    with read_by(settings, redis, mine) as pipe:
        np.testing.assert_array_equal(ingested(pipe, run), run.counts)
        assert pipe.status(run.uid).info.detectors == ("det1", "det2", "det3")  # type: ignore[union-attr]


def test_a_row_with_another_number_of_detectors_is_left_out(
    settings: Settings, redis: Connection, tmp_path: Path
) -> None:
    run = Run(3, 4, detectors=3)
    spectra = spectra_of(run.counts.transpose(2, 3, 0, 1))
    dataset = {"data_key": "xs", "axes": ["frame", "detector", "channel"]}
    mine = profile(tmp_path, counts={"dataset": dataset, "spectra": SPECTRA})
    descriptor = run.stream("primary", {"xs": {"dtype": "array", "shape": [4, 3, 1024]}})
    for row in range(3):
        run.event(descriptor, {"xs": spectra[row, :, : 2 if row == 1 else 3], "surprise": 3})
    run.stop({"primary": 3})
    with read_by(settings, redis, mine) as pipe:
        counts = ingested(pipe, run, state=RunState.INCOMPLETE)
        np.testing.assert_array_equal(counts[:, :, [0, 2]], run.counts[:, :, [0, 2]])
        assert "event 2: 'xs': counts of 2 detectors, the run has 3" in pipe.quarantined()[0]["reason"]
        assert not pipe.buffer(run.uid).measured()[1].any()


@pytest.mark.parametrize(("n", "state"), [(5, RunState.COMPLETE), (4, RunState.INCOMPLETE), (6, RunState.COMPLETE)])
def test_rows_with_a_pulse_too_many_or_too_few(
    settings: Settings, redis: Connection, tmp_path: Path, n: int, state: RunState
) -> None:
    run = Run(2, 50)
    keys = roi_keys(run, "total_rbv")
    mine = profile(tmp_path, counts={"keys": ROI, "line_names": NAMES})
    descriptor = run.stream("primary", {k: {"dtype": "array", "shape": [50]} for k in keys})
    for row in range(2):
        values = np.pad(run.counts[:, :, row].reshape(len(keys), -1), ((0, 0), (0, 5)))[:, : 45 + n]
        run.event(descriptor, dict(zip(keys, values, strict=True)))
    run.stop({"primary": 2})
    with read_by(settings, redis, mine) as pipe:
        counts = ingested(pipe, run, state=state)
        np.testing.assert_array_equal(counts[..., :49], run.counts[..., :49])
        warnings = " ".join(pipe.status(run.uid).warnings)
        assert {5: not warnings, 4: "fewer frames than the 50 pixels" in warnings, 6: "more frames" in warnings}[n]


def srx(run: Run, folder: Path, rows: range | None = None) -> tuple[list[Path], str]:
    """SRX's fly scan: an Event per row in stream0, every value a datum of a file of that row."""
    keys = {key: {"external": "FileStore:", "dtype": "array"} for key in ("enc1", "i0", "xs_fluor")}
    keys["xs_fluor"] |= {"shape": (5, 2, 1024)}
    descriptor, files = run.stream("stream0", keys), []
    spectra = spectra_of(run.counts.transpose(2, 3, 0, 1))
    for row in rows or range(run.shape[0]):
        zebra = write(folder / f"z{row}.h5", {"enc1": np.arange(5.0), "zebra_time": np.arange(5.0)})
        sis = write(folder / f"s{row}.h5", {"i0": np.full(5, 1e4), "sis_time": np.arange(5.0)})
        xs = write(folder / f"x{row}.h5", {"entry/instrument/detector/data": spectra[row]})
        of = {n: run.resource(n, p) for n, p in (("ZEBRA_HDF51", zebra), ("SIS_HDF51", sis), ("XSP3_FLY", xs))}
        data = {"enc1": run.datum(of["ZEBRA_HDF51"], column="enc1"), "i0": run.datum(of["SIS_HDF51"], column="i0")}
        run.event(descriptor, data | {"xs_fluor": run.datum(of["XSP3_FLY"])})
        files += [zebra, sis, xs]
    return files, descriptor


def srx_profile(folder: Path) -> Path:
    return profile(
        folder,
        stream="stream0",
        i0={"key": "i0"},
        counts={"dataset": {"data_key": "xs_fluor", "axes": ["frame", "detector", "channel"]}, "spectra": SPECTRA2},
    )


SPECTRA2 = SPECTRA | {"calibration": SPECTRA["calibration"][:2]}


@pytest.mark.supports("document shape", "resource/datum: a file per row (`XSP3_FLY`, `SIS_HDF51`, `ZEBRA_HDF51`)")
def test_files_of_rows(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    run = Run()
    run.stream("baseline", {"energy": {}})
    files, _ = srx(run, tmp_path)
    late = files[5].rename(tmp_path / "late")
    run.stop({"stream0": 4, "baseline": 2})
    with read_by(settings, redis, srx_profile(tmp_path)) as pipe:
        pipe.send(run.docs)
        while pipe.stage.step():
            pass
        assert pipe.buffer(run.uid).measured().all(axis=1).tolist() == [True, False, True, True], "others do not wait"
        late.rename(files[5])
        pipe.drain()
        np.testing.assert_array_equal(pipe.counts(run.uid), run.counts)
        np.testing.assert_allclose(pipe.buffer(run.uid).read_i0(), 1e4)
        assert (pipe.state(run.uid), pipe.status(run.uid).warnings) == (RunState.COMPLETE, ())


def test_datums_come_again_with_their_event_after_a_kill(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    run = Run()
    files, _ = srx(run, tmp_path)
    run.stop({"stream0": 4})
    late = files[5].rename(tmp_path / "late")
    pipe = pipe_with(settings, redis, srx_profile(tmp_path))
    pipe.send(run.docs)
    while pipe.stage.step():
        pass
    pipe.die()
    late.rename(files[5])
    pipe = pipe.again()
    pipe.drain()
    np.testing.assert_array_equal(pipe.counts(run.uid), run.counts)
    assert pipe.state(run.uid) is RunState.COMPLETE
    pipe.stage.close()


def test_a_file_that_never_comes_costs_its_row_only(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    run = Run()
    files, _ = srx(run, tmp_path)
    files[2].write_bytes(files[2].read_bytes()[:700])  # half-written
    run.stop({"stream0": 4})
    with read_by(settings, redis, srx_profile(tmp_path), file_timeout=timedelta(seconds=0.3)) as pipe:
        counts = ingested(pipe, run, state=RunState.INCOMPLETE)
        np.testing.assert_array_equal(counts[:, :, 1:], run.counts[:, :, 1:])
        assert "x0.h5" in pipe.quarantined()[0]["reason"] and "ingest.file_timeout" in pipe.quarantined()[0]["reason"]


def test_datums_are_read_only_below_the_roots(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    run = Run()
    srx(run, tmp_path)
    run.stop({"stream0": 4})
    root = tmp_path / "root"
    root.mkdir()
    with read_by(settings, redis, srx_profile(tmp_path), data_roots=(root,)) as pipe:
        ingested(pipe, run, state=RunState.INCOMPLETE)
        assert "ingest.data_roots" in pipe.quarantined()[0]["reason"]


@pytest.mark.supports("document shape", "resource/datum: a spectrum per pixel and channel (`XSP3`)")
def test_spectra_behind_datums(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    run = Run(2, 3)
    spectra = spectra_of(run.counts.transpose(2, 3, 0, 1)).reshape(6, 2, 1024)
    path = write(tmp_path / "xs.h5", {"entry/instrument/detector/data": spectra})
    mine = profile(tmp_path, counts={"keys": r"^xs_(?P<detector>channel\d+)_fluor$", "spectra": SPECTRA2})
    keys = {f"xs_channel0{d}_fluor": {"external": "FILESTORE:", "dtype": "array", "shape": [1024]} for d in (1, 2)}
    descriptor, resource = run.stream("primary", keys), run.resource("XSP3", path)
    for frame in range(6):
        run.event(descriptor, {key: run.datum(resource, frame=frame, channel=d + 1) for d, key in enumerate(keys)})
    run.stop({"primary": 6})
    with read_by(settings, redis, mine) as pipe:
        np.testing.assert_array_equal(ingested(pipe, run), run.counts)


@pytest.mark.supports(
    "document shape", "resource/datum: area-detector HDF5 (`AD_HDF5`), datum_page, resource after its event"
)
def test_area_detector_files(settings: Settings, redis: Connection, tmp_path: Path) -> None:
    run = Run(2, 3)
    spectra = spectra_of(run.counts.transpose(2, 3, 0, 1)).reshape(6, 2, 1024)
    path = write(tmp_path / "ad.h5", {"entry/data/data": spectra})
    dataset = {"data_key": "xs_image", "axes": ["frame", "detector", "channel"]}
    mine = profile(tmp_path, counts={"dataset": dataset, "spectra": SPECTRA2})
    key = {"xs_image": {"external": "FILESTORE:", "dtype": "array", "shape": [1, 2, 1024]}}
    descriptor, resource = run.stream("primary", key), run.resource("AD_HDF5", path, frame_per_point=1)
    ids = [f"{resource}/{n}" for n in range(6)]
    page = {"resource": resource, "datum_id": ids, "datum_kwargs": {"point_number": list(range(6))}}
    for uid in ids:
        run.event(descriptor, {"xs_image": uid})
    run.docs.append(("datum_page", page))
    run.docs.append(run.docs.pop(next(i for i, (name, _) in enumerate(run.docs) if name == "resource")))
    run.stop({"primary": 6})
    with read_by(settings, redis, mine) as pipe:
        np.testing.assert_array_equal(ingested(pipe, run), run.counts)


@pytest.mark.supports(
    "document shape", "stream_resource/stream_datum: spectra, one index per pixel or per row, stacked or not"
)
@pytest.mark.parametrize("per_index", ["pixel", "row, joined", "row, stacked"])
@pytest.mark.parametrize("old", [False, True], ids=["uri", "resource_path"])
def test_streamed_spectra(settings: Settings, redis: Connection, tmp_path: Path, per_index: str, old: bool) -> None:
    run = Run(3, 4)
    spectra = spectra_of(run.counts.transpose(2, 3, 0, 1))
    path = write(tmp_path / "xs.h5", {"d": spectra if "stacked" in per_index else spectra.reshape(12, 2, 1024)})
    dataset = {"data_key": "xs", "axes": ["frame", "detector", "channel"]}
    mine = profile(tmp_path, counts={"dataset": dataset, "spectra": SPECTRA2})
    lead, n = (1, 12) if per_index == "pixel" else (4, 3)
    entry = {"xs": {"external": "STREAM:", "dtype": "array", "shape": [lead, 2, 1024]}}
    descriptor, resource = run.stream("primary", entry), run.new()
    doc = {"uid": resource, "run_start": run.uid, "data_key": "xs"}
    if old:  # event-model before 1.20
        doc |= {"spec": "AD_HDF5_SWMR_STREAM", "root": str(tmp_path), "resource_path": "xs.h5"}
        doc |= {"resource_kwargs": {"path": "d"}}
    else:
        doc |= {"uri": f"file://localhost{path}", "mimetype": "application/x-hdf5", "parameters": {"dataset": "d"}}
    run.docs.append(("stream_resource", doc))
    for first, stop in ((0, 2), (2, n)):
        seq = {"start": first + 1, "stop": stop + 1}
        datum = {"uid": f"{resource}/{first}", "stream_resource": resource, "descriptor": descriptor}
        run.docs.append(("stream_datum", datum | {"indices": {"start": first, "stop": stop}, "seq_nums": seq}))
    run.stop({"primary": n})
    with read_by(settings, redis, mine) as pipe:
        np.testing.assert_array_equal(ingested(pipe, run), run.counts)


@pytest.mark.parametrize(
    ("spectra", "words"),
    [
        ({"calibration": [[0, 10.0]]}, "10 keV per channel"),
        ({"calibration": [[0, 0.01]] * 5}, "one for each of 3 detectors"),
        ({"calibration": {"start": "nowhere"}}, "there is nothing"),
        ({"lines": {"start": "nowhere"}}, "counts.spectra.lines wants a list of distinct names"),
    ],
)
def test_what_is_wrong_with_spectra_is_said(
    settings: Settings, redis: Connection, tmp_path: Path, spectra: dict[str, Any], words: str
) -> None:
    run = Run(3, 4, detectors=3)
    mine = profile(tmp_path, counts={"keys": r"^fx_(?P<detector>det\d+)$", "spectra": SPECTRA | spectra})
    run.stream("primary", {f"fx_det{d}": {"dtype": "array", "shape": [1024]} for d in range(3)})
    run.stop()
    with read_by(settings, redis, mine) as pipe:
        pipe.send(run.docs)
        pipe.drain()
        assert pipe.state(run.uid) is RunState.UNUSABLE and words in pipe.status(run.uid).reason


@pytest.mark.parametrize(
    ("spectra", "state", "lines", "words"),
    [
        ({"incident_energy_kev": 8.0}, RunState.COMPLETE, LINES[:2], "Zn_Ka (8.63 keV) lies above the incident energy"),
        ({"lines": [*LINES, "Mn_Ka"]}, RunState.COMPLETE, (*LINES, "Mn_Ka"), "the window of Fe_Ka holds peak of Mn_Kb"),
        ({"calibration": [0.0, 0.02]}, RunState.COMPLETE, LINES, "hold 0.0% of the counts; peaks found, in keV: "),
        ({"incident_energy_kev": 1.0}, RunState.UNUSABLE, (), "no line is left"),
        (
            {"lines": ["Fe_Ka", "Nonsense"]},
            RunState.UNUSABLE,
            (),
            "counts.spectra.lines: 'Nonsense' is not an emission line",
        ),
    ],
)
def test_lines_that_cannot_be_are_named(
    settings: Settings, redis: Connection, tmp_path: Path, spectra: Any, state: RunState, lines: Any, words: str
) -> None:
    run = Run(8, 8, detectors=3)
    values = spectra_of(run.counts.transpose(2, 3, 0, 1)).reshape(64, 3, 1024)
    dataset = {"data_key": "xs", "axes": ["frame", "detector", "channel"]}
    mine = profile(tmp_path, counts={"dataset": dataset, "spectra": SPECTRA | spectra})
    descriptor = run.stream("primary", {"xs": {"dtype": "array", "shape": [3, 1024]}})
    for one in values:
        run.event(descriptor, {"xs": one})
    run.stop({"primary": 64})
    with read_by(settings, redis, mine) as pipe:
        pipe.send(run.docs)
        pipe.drain()
        status = pipe.status(run.uid)
        assert status.state is state
        assert words in " ".join([status.reason, *status.warnings]), status
        assert (status.info.lines if status.info is not None else ()) == lines
        if "peaks" in words:  # at twice the energy of P, Fe and Zn
            assert "12.8" in " ".join(status.warnings)


@pytest.mark.supports(
    "document shape", "dead time: live times, live fractions, percentages, output and input count rates"
)
@pytest.mark.parametrize(
    ("section", "values"),
    [
        ({"keys": r"^(?P<detector>det\d)_live$", "scale": 0.001}, {"det1_live": 80.0, "det2_live": 40.0}),
        ({"keys": r"^(?P<detector>det\d)_live$", "reading": "live_fraction"}, {"det1_live": 0.8, "det2_live": 0.4}),
        ({"keys": r"^(?P<detector>det\d)_dt$", "reading": "dead_percent"}, {"det1_dt": 20.0, "det2_dt": 60}),
        (
            {"keys": r"^(?P<detector>det\d)_ocr$", "over": r"^(?P<detector>det\d)_icr$", "reading": "live_fraction"},
            {"det1_ocr": 8e4, "det1_icr": 1e5, "det2_ocr": 2e4, "det2_icr": 5e4},
        ),
    ],
)
def test_dead_time(settings: Settings, redis: Connection, tmp_path: Path, section: Any, values: Any) -> None:
    run = Run(2, 3, dwell=0.1)
    geometry = {"dwell_s": {"start": "dwell"}}
    keys = {"keys": r"^(?P<detector>det\d+)_(?P<line>[A-Z]\w+)$"}
    mine = profile(tmp_path, counts=keys, live_time_s=section, geometry=geometry)
    names = [f"det{d}_{line}" for d in (1, 2) for line in LINES]
    descriptor = run.stream("primary", {name: {} for name in [*names, *values]})
    for frame in run.counts.reshape(6, 6):
        run.event(descriptor, dict(zip(names, frame.tolist(), strict=True)) | values)
    run.stop({"primary": 6})
    with read_by(settings, redis, mine) as pipe:
        ingested(pipe, run)
        live = pipe.buffer(run.uid).read_live_time_s()
        assert live is not None
        np.testing.assert_allclose(live[0], 0.08, rtol=1e-5)
        np.testing.assert_allclose(live[1], 0.04, rtol=1e-5)

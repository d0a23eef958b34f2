"""Maps and numbers in counts/s and ug/cm2 over the API, against the arrays they come from."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import h5py
import numpy as np
import pytest
from serve_kit import HEADER, KEY, make_run, problem, served, with_serve
from starlette.testclient import TestClient

from browser.synthetic_run import SyntheticRun
from quietbeam.client import Client
from quietbeam.core.settings import QuantifySettings, Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection
from quietbeam.quantify import Calibration, LineCalibration, write_calibration
from quietbeam.serve import create_app

SENSITIVITY = 0.004
BACKGROUND = 2e-6
SHARES = 0.9  # what the run's detectors add up to


def calibration(settings: Settings, **changes: Any) -> None:
    """Ca and Fe of the film; four detectors, all alike; I0 of 1e5."""
    lines = tuple(
        LineCalibration(
            line=name,
            sensitivity=(SENSITIVITY,) * 4,
            background=(BACKGROUND,) * 4,
            relative_error=0.05,
            density=1.0,
        )
        for name in ("Ca_Ka", "Fe_Ka")
    )
    found = Calibration(
        name="film",
        standard="AXO",
        energy_kev=9.0,
        detectors=("det1", "det2", "det3", "det4"),
        normalised="i0",
        kind="counts",
        lines=lines,
        i0=1e5,
        background_known=True,
    )
    write_calibration(replace(found, **changes), settings.calibrations_dir / "film.json")


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    """6 rows denoised, with the I0 and live time to which the maps are normalised."""
    run = make_run(settings, redis)
    told = run.evidence(final=False, improved=True)
    detectors = tuple(replace(one, live_time_s=0.018) for one in told.detectors)
    told = replace(told, i0=2e5, detectors=detectors)
    runs.write_status(redis, run.uid, evidence=told)
    return run


@pytest.fixture
def client(settings: Settings, run: SyntheticRun) -> Iterator[TestClient]:
    chosen = with_serve(settings).model_copy(update={"quantify": QuantifySettings(calibration="film")})
    with TestClient(create_app(chosen), headers=HEADER, raise_server_exceptions=False) as client:
        yield client


def maps(client: TestClient, kind: str, line: str = "", **query: Any) -> np.ndarray:
    address = f"/api/v1/runs/run-1/maps/{kind}" + (f"/{line}" if line else "")
    answer = client.get(address, params={"format": "npy", **query}).raise_for_status()
    return np.load(io.BytesIO(answer.content))


def data(client: TestClient, address: str) -> Any:
    return client.get(f"/api/v1/runs/run-1/{address}").raise_for_status().json()["data"]


FACTOR = 1 / (4 * SENSITIVITY * 2e5 * 0.9)
OFFSET = 4 * BACKGROUND * 2e5 * 0.9


def test_maps_become_areal_densities_with_the_standards_error(client: TestClient, settings: Settings) -> None:
    calibration(settings)
    raw, denoised, error = (maps(client, kind) for kind in ("raw", "denoised", "uncertainty"))
    density = maps(client, "denoised", units="ug/cm2")
    assert np.allclose(density[:2, :6], (denoised[:2, :6] - OFFSET) * FACTOR, rtol=1e-5, atol=1e-9)
    told = maps(client, "uncertainty", units="ug/cm2")[:2, :6]
    assert np.allclose(told, np.hypot(error[:2, :6] * FACTOR, 0.05 * density[:2, :6]), rtol=1e-4, atol=1e-9)
    residual = maps(client, "residual", "Fe_Ka", units="ug/cm2")[:6]
    assert np.allclose(residual, (raw - denoised)[1, :6] * FACTOR, rtol=1e-4, atol=1e-7)
    plain = maps(client, "raw", units="ug/cm2")
    assert np.isfinite(raw[:, 6]).all() and np.isnan(plain[:, 6:]).all(), "plain sums are no areal density"


def test_each_unit_has_its_own_tag_and_says_itself(client: TestClient, settings: Settings) -> None:
    calibration(settings)
    address = "/api/v1/runs/run-1/maps/denoised?format=npy"
    plain, rate, density = (client.get(address, params={"units": u}) for u in ("counts", "counts/s", "ug/cm2"))
    assert len({answer.headers["etag"] for answer in (plain, rate, density)}) == 3
    assert [answer.headers["x-units"] for answer in (plain, rate, density)] == ["counts", "counts/s", "ug/cm2"]
    again = client.get(address, params={"units": "ug/cm2"}, headers={"If-None-Match": density.headers["etag"]})
    assert again.status_code == 304
    calibration(settings, name="film", distance_mm=20.0)
    calibration(settings, lines=tuple(replace(one, sensitivity=(0.008,) * 4) for one in _lines(settings)))
    again = client.get(address, params={"units": "ug/cm2"}, headers={"If-None-Match": density.headers["etag"]})
    assert again.status_code == 200, "another calibration is another map"
    file = client.get("/api/v1/runs/run-1/maps/denoised?format=hdf5&units=counts/s").raise_for_status()
    with h5py.File(io.BytesIO(file.content)) as nexus:
        assert nexus["entry/denoised/data"].attrs["units"] == "counts/s" == nexus["entry/raw/data"].attrs["units"]
        raw = maps(client, "raw")[:, :6]
        assert np.allclose(nexus["entry/raw/data"][:, :6], raw * SHARES / 0.018, rtol=1e-3)


def _lines(settings: Settings) -> tuple[LineCalibration, ...]:
    from quietbeam.quantify import read_calibration

    return read_calibration("film", settings.calibrations_dir).lines


def test_pixel_region_and_profile(client: TestClient, settings: Settings) -> None:
    calibration(settings)
    for address in ("pixel?row=2&col=3", "roi?rows=1:4&cols=2:6"):
        counts, density = (data(client, f"{address}&units={unit}") for unit in ("counts", "ug/cm2"))
        assert density["units"] == "ug/cm2" and counts["units"] == "counts"
        for line in ("Ca_Ka", "Fe_Ka"):
            one, other = counts["lines"][line], density["lines"][line]
            assert other["raw"] == pytest.approx((one["raw"] - OFFSET) * FACTOR)
            assert other["raw_error"] == pytest.approx(np.hypot(one["raw_error"] * FACTOR, 0.05 * other["raw"]))
            assert other["denoised"] == pytest.approx((one["denoised"] - OFFSET) * FACTOR)
    profile = data(client, "profile?from=0,0&to=0,9&units=counts/s")
    assert profile["units"] == "counts/s"
    assert profile["lines"]["Fe_Ka"]["raw"] == pytest.approx(list(maps(client, "raw")[1, 0] * SHARES / 0.018), rel=1e-3)


def test_units_say_factors_limits_and_warnings(client: TestClient, settings: Settings) -> None:
    calibration(settings)
    rate, density = data(client, "units")
    assert rate["units"] == "counts/s" and rate["available"] and density["available"]
    ca, fe, zn = density["lines"]
    assert ca["factor"] == pytest.approx(FACTOR) and ca["background"] == pytest.approx(OFFSET)
    assert fe["limit_raw"] > 0 and fe["limit_denoised"] > 0
    assert zn["factor"] is None and "does not excite Zn_Ka" in zn["reason"]
    assert any("beam energy of this run is not recorded" in note for note in density["notes"])
    assert density["notes"][-1].startswith("Self-absorption is not corrected")
    assert "Zn_Ka has no ug/cm2: a beam of 9 keV does not excite" in problem(
        client.get("/api/v1/runs/run-1/maps/denoised/Zn_Ka?units=ug/cm2"), 400
    )
    assert np.isnan(maps(client, "denoised", units="ug/cm2")[2]).all()


def test_what_cannot_be_converted_says_why(client: TestClient, settings: Settings, redis: Connection) -> None:
    none = data(client, "units")[1]
    assert not none["available"] and "calibration 'film' of the settings is not there" in none["reason"]
    assert "quietbeam calibrate makes one" in problem(client.get("/api/v1/runs/run-1/maps/raw?units=ug/cm2"), 400)
    (settings.calibrations_dir).mkdir(parents=True, exist_ok=True)
    (settings.calibrations_dir / "film.json").write_text("{", encoding="utf-8")
    assert "cannot be read" in data(client, "units")[1]["reason"]
    calibration(settings, detectors=("a", "b", "c", "d"))
    assert "this run has det1" in data(client, "units")[1]["reason"]
    calibration(settings)
    for query, words in {
        "maps/chi2?units=ug/cm2": "chi2 has no unit",
        "maps/denoised?units=ug/cm2&version=0": "units= is for the newest maps",
        "maps/denoised?units=kg": "units",
    }.items():
        assert words in problem(client.get(f"/api/v1/runs/run-1/{query}"), 422 if "kg" in query else 400)
    runs.write_status(redis, "run-1", evidence=None)
    assert not any(one["available"] for one in data(client, "units"))


def test_the_report_has_a_table_of_areal_densities(client: TestClient, settings: Settings) -> None:
    assert "Areal densities" not in client.get("/api/v1/runs/run-1/report").text, "there is no calibration"
    calibration(settings)
    page = client.get("/api/v1/runs/run-1/report").text
    assert "<h2>Areal densities</h2>" in page and "Calibration film: AXO at 9 keV" in page
    mean = data(client, "roi?rows=0:6&units=ug/cm2")["lines"]["Ca_Ka"]["denoised"]
    assert f"{mean:.3g} ±" in page and "does not excite Zn_Ka" in page
    assert "Self-absorption is not corrected" in page


def test_the_client_reads_areal_densities(settings: Settings, run: SyntheticRun) -> None:
    calibration(settings)
    chosen = with_serve(settings, port=0).model_copy(update={"quantify": QuantifySettings(calibration="film")})
    with served(chosen) as address, Client(f"http://{address}", KEY) as connection:
        run_of_client = connection.run("run-1")
        density, counts = (run_of_client.maps("denoised", "Fe_Ka", units=unit) for unit in ("ug/cm2", "counts"))
        assert density.attrs["units"] == "ug/cm2" and counts.attrs["units"] == "counts"
        assert np.allclose(density[:6], (counts[:6] - OFFSET) * FACTOR, rtol=1e-4, atol=1e-8)
        assert run_of_client.units()["ug/cm2"]["lines"][1]["factor"] == pytest.approx(FACTOR)


@pytest.mark.parametrize(
    "changes",
    [
        {"energy_kev": None},
        {"distance_mm": [1]},
        {"path": {"air_mm": -1e6}},
        {"element_lines": {"Fe_K": 5}, "incident_energy": 10, "scaler_name": "i0"},
        {"element_lines": {}, "incident_energy": [1]},
    ],
)
def test_a_malformed_calibration_costs_areal_densities_alone(
    client: TestClient, settings: Settings, changes: dict[str, Any]
) -> None:
    calibration(settings)
    path = settings.calibrations_dir / "film.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    rate, density = data(client, "units")
    assert rate["available"] and not density["available"] and "cannot be read" in density["reason"]
    problem(client.get("/api/v1/runs/run-1/maps/denoised?format=npy&units=ug/cm2"), 400)
    problem(client.get("/api/v1/runs/run-1/pixel?row=1&col=1&units=ug/cm2"), 400)

"""`quietbeam doctor` goes on after a mistake, and is not misled by servers of others."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from quietbeam.app.doctor import _calibration, _examine, examine, examine_config
from quietbeam.app.finding import Finding
from quietbeam.core.settings import (
    EmbeddedSettings,
    QuantifySettings,
    RedisSettings,
    ServeSettings,
    Settings,
    TiledSettings,
)
from quietbeam.quantify import Calibration, write_calibration
from quietbeam.quantify.calibration import LineCalibration

Requests = list[dict[str, str]]


@pytest.fixture
def stranger() -> Iterator[tuple[int, Requests]]:
    """A web server of somebody else, which answers everything and keeps the headers that it got."""
    got: Requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            got.append(dict(self.headers))
            self.send_response(200)
            self.send_header("X-Quietbeam-Version", "9.9")
            self.end_headers()
            self.wfile.write(b"<html>a wiki</html>")

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, got
        server.shutdown()
        thread.join()


def failures(found: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in found if finding.verdict == "failure"}


def test_wrong_settings_are_named_and_the_rest_is_checked(
    tmp_path: Path, stranger: tuple[int, Requests], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    config = tmp_path / "c.yaml"
    wrong = {
        "data_dir": str(tmp_path / "data"),
        "serve": {"port": stranger[0], "hots": "127.0.0.1"},
        "ingset": {},
        "ingest": {"data_roots": [str(tmp_path / "missing")], "keep_runs": "soon"},
    }
    config.write_text(yaml.safe_dump(wrong), encoding="utf-8")
    found = failures(examine_config(config))
    assert all(name in found["settings"].found for name in ("serve.hots", "ingset", "ingest.keep_runs"))
    assert str(tmp_path / "missing") in found["data roots"].found, "what is right in a wrong section is used"
    assert str(stranger[0]) in found["ports"].found


def test_a_config_that_is_not_there_leaves_the_machine_to_check(tmp_path: Path) -> None:
    found = list(examine_config(tmp_path / "missing.yaml"))
    assert found[0].check == "settings" and "missing.yaml" in found[0].found
    assert [f.check for f in found[1:]] == ["Python", "torch", "weights"]


def test_every_busy_port_is_named_and_our_keys_go_to_nobody(settings: Settings, stranger: tuple[int, Requests]) -> None:
    port, got = stranger
    mine = settings.model_copy(
        update={
            "serve": ServeSettings(port=port),
            "embedded": EmbeddedSettings(tiled_port=port),
            "tiled": TiledSettings(),
        }
    )
    busy = [f for f in examine(mine) if f.check == "ports"]
    assert [f.verdict for f in busy] == ["failure", "failure"]
    assert "serve.port" in busy[0].remedy and "embedded.tiled_port" in busy[1].remedy
    tiled = failures(examine(mine))["Tiled"]
    assert "another program listens" in tiled.found and "embedded.tiled_port" in tiled.remedy
    assert not any(headers.get("Authorization") for headers in got)


def test_a_server_that_is_no_tiled_and_no_redis_is_said_to_be_another(
    settings: Settings, stranger: tuple[int, Requests], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, got = stranger
    monkeypatch.delenv("REDIS_URL", raising=False)
    elsewhere = {
        "tiled": TiledSettings(uri=f"http://127.0.0.1:{port}", api_key="secret"),
        "redis": RedisSettings(url=f"redis://127.0.0.1:{port}"),
    }
    found = failures(examine(settings.model_copy(update=elsewhere)))
    assert "is no Tiled" in found["Tiled"].found and "tiled.uri" in found["Tiled"].remedy
    assert "not a Redis" in found["Redis"].found
    assert not any("secret" in value for headers in got for value in headers.values())


def test_a_calibration_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "calibrations"
    settings = Settings(data_dir=tmp_path, quantify=QuantifySettings(calibration="june"))

    def of_calibration() -> list[Finding]:
        return [finding for finding in _examine(settings, (_calibration,)) if finding.check == "calibration"]

    [missing] = of_calibration()
    assert missing.verdict == "failure" and "quantify.calibration: there is no calibration 'june'" in missing.found
    assert str(folder) in missing.found and "quietbeam calibrate" in missing.remedy
    line = LineCalibration(line="Fe_Ka", sensitivity=(1.0,), background=(0.0,), relative_error=0.1, density=1.0)
    june = Calibration(
        name="june",
        standard="film",
        energy_kev=10.0,
        detectors=("sum",),
        normalised="time",
        kind="counts",
        lines=(line,),
    )
    write_calibration(june, folder / "june.json")
    [there] = of_calibration()
    assert (there.verdict, there.found) == ("ok", "june: film at 10 keV, Fe_Ka")
    (folder / "june.json").write_text("[]", encoding="utf-8")
    [broken] = of_calibration()
    assert broken.verdict == "failure" and "cannot be read as a calibration" in broken.found
    settings = Settings(data_dir=tmp_path)
    assert of_calibration() == []

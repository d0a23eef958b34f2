"""Runs over the API, and every refusal: over ASGI, with a real Valkey and real zarr buffers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from serve_kit import HEADER, LINES, attributes, make_run, problem, with_serve
from starlette.testclient import TestClient

from browser.synthetic_run import SyntheticRun
from quietbeam.buffer.run_buffer import run_path
from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import keys, runs
from quietbeam.core.wire.bus import Connection
from quietbeam.serve import create_app
from quietbeam.serve.render import formats
from quietbeam.serve.state.maps import MapReader


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_serve(settings)


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    return make_run(settings, redis)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=HEADER, raise_server_exceptions=False) as client:
        yield client


def test_about_leads_to_everything(client: TestClient, run: SyntheticRun) -> None:
    body = client.get("/api/v1/").json()
    assert set(body) == {"data", "links", "meta"}
    for name, link in body["links"].items():
        if name != "events":
            assert client.get(link).status_code == 200, link


def test_a_run_tells_its_state_geometry_and_progress(client: TestClient, run: SyntheticRun, redis: Connection) -> None:
    found = attributes(client, "run-1")
    assert found == attributes(client) | {"data_age_s": found["data_age_s"]}
    assert found["state"] == "running"
    assert not found["ended"]
    assert found["lines"] == list(LINES)
    assert found["shape"] == [12, 10]
    assert found["step"] == [0.25, 0.25]
    assert found["progress"]["rows_measured"] == 7
    assert found["progress"]["pixels_measured"] == 74
    assert found["progress"]["eta_s"] > 0
    assert 0 <= found["data_age_s"] < 20
    denoise = {"state": "live", "reason": "", "refined": False, "rows": 6, "lag_s": 0.21, "model": "quietbeam-1"}
    assert found["denoise"] == {**denoise, "unrefined": ""}
    assert found["evidence"]["lines"][0]["line"] == "Ca_Ka"
    assert found["sample"] == "frozen cell 7"
    for sample, name in (({"name": "rock", "formula": "SiO2"}, "rock"), ({}, ""), (7, "7")):
        runs.write_status(redis, "run-1", info=replace(run.info, metadata={"sample": sample}))
        assert attributes(client, "run-1")["sample"] == name


def test_runs_are_listed_newest_first_in_pages_and_by_state(
    client: TestClient, settings: Settings, redis: Connection
) -> None:
    for n in range(5):
        made = SyntheticRun(settings.runs_dir, redis, uid=f"r{n}", shape=(2, 3), lines=LINES[:1], time_start=1000.0 + n)
        if n % 2:
            made.finish(RunState.ABORTED, "stopped by hand")
    body = client.get("/api/v1/runs?page[limit]=2").json()
    assert [run["id"] for run in body["data"]] == ["r4", "r3"]
    assert body["meta"]["count"] == 5
    assert body["links"]["prev"] is None
    pages = ["r4", "r3"]
    while body["links"]["next"]:
        body = client.get(body["links"]["next"]).json()
        pages += [run["id"] for run in body["data"]]
    assert pages == ["r4", "r3", "r2", "r1", "r0"]
    body = client.get("/api/v1/runs?state=aborted,failed").json()
    assert [(run["id"], run["attributes"]["reason"]) for run in body["data"]] == [
        ("r3", "stopped by hand"),
        ("r1", "stopped by hand"),
    ]
    assert client.get("/api/v1/runs?page[offset]=99").json()["data"] == []
    oldest = client.get("/api/v1/runs?sort=time_start&page[limit]=2").json()
    assert [run["id"] for run in oldest["data"]] == ["r0", "r1"]
    assert [run["id"] for run in client.get(oldest["links"]["next"]).json()["data"]] == ["r2", "r3"]


@pytest.mark.parametrize("sort", ["-time_start", "time_start"])
def test_pages_stay_where_they_are_while_runs_start_and_go(
    client: TestClient, settings: Settings, redis: Connection, sort: str
) -> None:
    def start(uid: str, at: float) -> None:
        SyntheticRun(settings.runs_dir, redis, uid=uid, shape=(2, 3), lines=LINES[:1], time_start=at)

    for n in range(6):
        start(f"r{n}", 1000.0 + n // 2)  # two at the same time
    body = client.get(f"/api/v1/runs?page[limit]=2&sort={sort}&state=running").json()
    first = [run["id"] for run in body["data"]]
    second = client.get(body["links"]["next"]).json()
    assert [run["id"] for run in client.get(second["links"]["prev"]).json()["data"]] == first
    seen: list[str] = []
    for turn in range(20):
        seen += [run["id"] for run in body["data"]]
        if turn < 3:
            start(f"new{turn}", 2000.0 + turn)
        if turn == 0:
            redis.zrem(keys.RUNS, seen[-1])  # the last of the page is deleted
            shutil.rmtree(run_path(settings.runs_dir, seen[-1]))
        if not body["links"]["next"]:
            break
        body = client.get(body["links"]["next"]).json()
    assert len(seen) == len(set(seen))
    original = [uid for uid in seen if uid.startswith("r")]
    assert original == sorted((f"r{n}" for n in range(6)), reverse=sort == "-time_start")
    for wrong in ("x", "1", "1-1:r", "nan:r"):
        assert client.get(f"/api/v1/runs?page[after]={wrong}").status_code in (400, 422)


def test_evidence_is_told_with_its_tag_or_with_a_reason(
    client: TestClient, run: SyntheticRun, redis: Connection
) -> None:
    answer = client.get("/api/v1/runs/latest/evidence")
    assert answer.json()["data"]["lines"][1]["dwell_gain"] > 1
    again = client.get("/api/v1/runs/latest/evidence", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    run.denoise()
    assert (
        client.get("/api/v1/runs/latest/evidence", headers={"If-None-Match": answer.headers["etag"]}).status_code == 200
    )
    redis.hdel(keys.run("run-1"), "evidence")
    body = client.get("/api/v1/runs/latest/evidence").json()
    assert body["data"] is None
    assert "no evidence yet" in body["meta"]["reason"]


def test_a_run_without_a_usable_geometry_says_why(client: TestClient, redis: Connection) -> None:
    reason = "no shape in the start document; set geometry.shape in the profile"
    redis.hset(keys.run("odd"), mapping={"state": "unusable", "reason": reason})
    redis.zadd(keys.RUNS, {"odd": 5.0})
    found = attributes(client, "odd")
    assert (found["state"], found["reason"], found["shape"]) == ("unusable", reason, None)
    assert client.get("/api/v1/runs").json()["meta"]["count"] == 1
    assert reason in problem(client.get("/api/v1/runs/odd/maps"), 404)
    assert reason in problem(client.get("/api/v1/runs/odd/maps/raw"), 404)


def test_runs_that_are_no_map_are_listed_and_are_not_the_latest(
    client: TestClient, settings: Settings, redis: Connection
) -> None:
    count = {"state": RunState.UNUSABLE, "reason": "no map shape", "plan": "count"}
    for n in range(25):
        runs.register_run(redis, f"count-{n}", 9e9 + n)
        runs.write_status(redis, f"count-{n}", **count, scan_id=70 + n, time_start=9e9 + n)
    assert attributes(client, "latest")["uid"] == "count-24", "there is no map"
    listed = client.get("/api/v1/runs?plan=count&scan_id=71").json()["data"]
    assert [run["attributes"]["uid"] for run in listed] == ["count-1"]
    found = listed[0]["attributes"]
    assert (found["scan_id"], found["plan"], found["time_start"]) == (71, "count", 9e9 + 1)
    make_run(settings, redis)
    assert attributes(client, "latest")["uid"] == "run-1", "older than all of them, but a map"
    runs.register_run(redis, "begun", 9.1e9)
    runs.write_status(redis, "begun", state=RunState.RUNNING)
    assert attributes(client, "latest")["uid"] == "begun", "it may become a map"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("runs/nobody", 404, "no run 'nobody'"),
        ("runs/..%2f..%2fetc", 404, "nothing is served"),
        ("runs/%2e%2e", 404, ""),
        ("runs/a b", 404, "no run"),
        ("runs/" + "x" * 500, 404, "no run"),
        ("runs/nobody/maps/raw", 404, "no run"),
        ("runs/nobody/evidence", 404, "no run"),
        ("runs/nobody/events", 404, "no run"),
        ("runs/nobody/advice", 404, "no run"),
        ("runs/latest/advice?snr=0", 422, "snr"),
        ("runs/latest/advice?snr=-3", 422, "snr"),
        ("runs/latest/advice?snr=1001", 422, "snr"),
        ("runs/latest/advice?snr=nan", 422, "snr"),
        ("runs/latest/advice?snr=inf", 422, "snr"),
        ("runs/latest/advice?snr=", 422, "snr"),
        ("runs/latest/advice?snr=ten", 422, "snr"),
        ("runs?page[limit]=0", 422, "page[limit]"),
        ("runs?page[limit]=1000", 422, "page[limit]"),
        ("runs?page[offset]=-1", 422, "page[offset]"),
        ("runs?state=finished", 400, "states are running"),
        ("runs/latest/maps/spectra", 404, "there are raw, denoised"),
        ("runs/latest/maps/raw/Pb_La", 404, "it has Ca_Ka, Fe_Ka, Zn_Ka"),
        ("runs/latest/maps/raw?format=png", 406, "octet-stream"),
        ("runs/latest/maps/raw/Fe_Ka?format=pdf", 406, "tiff (image/tiff)"),
        ("runs/latest/maps/raw/Fe_Ka?slice=a", 400, "START:STOP:STEP"),
        ("runs/latest/maps/raw/Fe_Ka?slice=50", 400, "outside the map"),
        ("runs/latest/maps/raw?slice=0,0,0,0", 400, "3 axes"),
        ("runs/latest/maps/raw/Fe_Ka?format=png&cmap=jet", 400, "viridis"),
        ("runs/latest/maps/raw/Fe_Ka?format=png&scale=cubic", 422, "scale"),
        ("runs/latest/maps/raw/Fe_Ka?format=png&zoom=99", 422, "zoom"),
        ("runs/latest/maps/raw/Fe_Ka?format=png&vmin=5&vmax=1", 400, "larger than vmin"),
        ("runs/latest/maps/raw/Fe_Ka?format=png&vmin=nan", 400, "larger than vmin"),
        ("runs/latest/maps/raw/Fe_Ka?format=png&vmin=inf", 400, "larger than vmin"),
        ("runs?since=nan", 422, "since"),
        ("runs?until=inf", 422, "until"),
        ("runs?since=yesterday", 422, "since"),
        ("runs?scan_id=first", 422, "scan_id"),
        ("runs?sort=-size", 422, "time_start"),
        ("runs?metadata=sample", 400, "KEY:VALUE"),
        (
            "runs?plan_name=snake",
            422,
            "plan_name: no such parameter here; there are page[offset], page[limit], page[after]",
        ),
        ("models?x=1", 422, "there are none"),
        ("runs/latest/maps/raw/Fe_Ka?formt=npy", 422, "formt"),
        ("runs?plan=" + "x" * 101, 422, "plan"),
        ("runs/latest/maps/denoised?version=77", 404, "is not kept"),
        ("runs/latest/maps/denoised?version=-1", 422, "version"),
        ("runs/latest/maps/raw?version=0", 404, "kept of denoised"),
        ("runs/latest/maps/raw?format=hdf5&slice=0", 400, "leave slice= out"),
        ("runs/latest/maps/raw/Fe_Ka?filename=../x", 422, "filename"),
        ("runs/latest/maps/raw/Fe_Ka?filename=a%22%0d%0ab", 422, "filename"),
        ("runs/latest/pixel?row=12&col=0", 400, "12 is outside the map"),
        ("runs/latest/pixel?row=0&col=-1", 422, "col"),
        ("runs/latest/pixel?row=0", 422, "col"),
        ("runs/latest/roi?rows=5:5", 400, "selects nothing"),
        ("runs/latest/roi?rows=a:b", 400, "START:STOP"),
        ("runs/latest/profile?from=0,0&to=0,10", 400, "col 10 is outside"),
        ("runs/latest/profile?from=0;0&to=1,1", 400, "ROW,COL"),
        ("runs/latest/profile?from=0,0&to=1,1&width=0", 422, "width"),
        ("runs/nobody/report", 404, "no run"),
        ("runs/nobody/history", 404, "no run"),
        ("runs/nobody/detectors", 404, "no run"),
        ("actions/nothing", 404, "no action"),
        ("auth/apikeys/00000000", 404, "no API key"),
        ("auth/apikeys/short", 422, "first_eight"),
        ("nothing", 404, "api/v1/"),
    ],
)
def test_a_refusal_is_a_sentence_that_helps(
    client: TestClient, run: SyntheticRun, path: str, status: int, words: str
) -> None:
    assert words in problem(client.get(f"/api/v1/{path}"), status)


def test_accept_that_cannot_be_met_is_406(client: TestClient, run: SyntheticRun) -> None:
    answer = client.get("/api/v1/runs/latest/maps/raw", headers={"Accept": "text/html"})
    assert "npy" in problem(answer, 406)


def test_latest_without_any_run_says_what_to_do(client: TestClient) -> None:
    assert "start a scan" in problem(client.get("/api/v1/runs/latest"), 404)


def test_a_map_too_large_for_an_answer_is_refused_before_it_is_read(
    client: TestClient, run: SyntheticRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "MAX_TEXT_VALUES", 100)
    monkeypatch.setattr(MapReader, "read", lambda *_: pytest.fail("it was read"))
    assert "format=npy" in problem(client.get("/api/v1/runs/latest/maps/raw/Ca_Ka"), 400)
    monkeypatch.setattr(formats, "MAX_BYTES", 1000)
    assert "slice=" in problem(client.get("/api/v1/runs/latest/maps/raw?format=npy"), 400)
    assert "slice=" in problem(client.get("/api/v1/runs/latest/maps/raw/Ca_Ka?format=png&zoom=9"), 400)
    monkeypatch.undo()
    assert client.get("/api/v1/runs/latest/maps/raw/Ca_Ka?slice=::4,::4").status_code == 200


def test_a_run_cannot_be_written_to(client: TestClient, run: SyntheticRun) -> None:
    for method in ("POST", "PUT", "PATCH"):
        problem(client.request(method, "/api/v1/runs/run-1"), 405)


def test_advice_says_what_a_wanted_snr_takes(client: TestClient, redis: Connection, run: SyntheticRun) -> None:
    evidence = run.evidence(final=False, improved=True)
    lines = tuple(replace(line, mean_counts=mean) for line, mean in zip(evidence.lines, (6.25, 25.0, 4.0), strict=True))
    lines = (replace(lines[0], dwell_gain=10.0, dwell_gain_low=8.0), *lines[1:])
    runs.write_status(redis, "run-1", evidence=replace(evidence, lines=lines))
    answer = client.get("/api/v1/runs/latest/advice?snr=5")
    body = answer.json()
    assert body["data"]["snr"] == 5
    assert body["data"]["dwell_s"] == 0.02
    calcium, iron, zinc = body["data"]["lines"]
    assert calcium["line"] == "Ca_Ka"
    assert calcium["snr_raw"] == 2.5
    assert calcium["snr_denoised"] == pytest.approx(2.5 * 10**0.5)
    assert calcium["factor_raw"] == calcium["passes_raw"] == 4
    assert calcium["factor_denoised"] == 0.5
    assert calcium["dwell_denoised_s"] == pytest.approx(0.01)
    assert iron["passes_raw"] == 1
    assert zinc["factor_raw"] == 6.25
    assert zinc["snr_denoised"] is None
    assert "no estimate proved better" in zinc["reason"]
    assert client.get(body["links"]["self"]).json() == body
    assert client.get(body["links"]["evidence"]).status_code == 200
    again = client.get("/api/v1/runs/latest/advice?snr=5", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    other = client.get("/api/v1/runs/latest/advice", headers={"If-None-Match": answer.headers["etag"]})
    assert other.json()["data"]["snr"] == 10
    redis.hdel(keys.run("run-1"), "evidence")
    body = client.get("/api/v1/runs/latest/advice").json()
    assert body["data"] is None
    assert "no evidence yet" in body["meta"]["reason"]

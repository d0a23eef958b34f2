"""Who gets in, and what they may do there: keys, cookies, scopes, over ASGI with the real key file."""

from __future__ import annotations

import re
import stat
import time
from collections.abc import Iterator

import httpx
import pytest
from serve_kit import HEADER, KEY, make_run, problem, served, with_serve
from starlette.testclient import TestClient

from browser.synthetic_run import SyntheticRun
from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.serve import create_app
from quietbeam.serve.access import Scope
from quietbeam.serve.access.api_keys import KeyStore


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_serve(settings)


@pytest.fixture
def run(settings: Settings, redis: Connection) -> SyntheticRun:
    return make_run(settings, redis)


@pytest.fixture
def store(settings: Settings) -> KeyStore:
    return KeyStore(settings.secrets_dir / "api_keys.json")


# --- keys and cookies -----------------------------------------------------------------------------------------------


@pytest.fixture
def stranger(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), follow_redirects=False) as client:
        yield client


def test_nothing_but_health_is_open(stranger: TestClient) -> None:
    for path in (
        "/api/v1/",
        "/api/v1/runs",
        "/api/v1/runs/latest/advice",
        "/api/v1/events",
        "/api/v1/openapi.json",
        "/metrics",
        "/api/v1/nothing",
    ):
        answer = stranger.get(path)
        assert "Authorization: Apikey" in problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Apikey")
    assert stranger.get("/healthz").json() == {"status": "ready"}
    assert stranger.get("/readyz").status_code in (200, 503)
    page = stranger.get("/")
    assert page.status_code == 401
    assert "API key" in page.text


@pytest.mark.parametrize("header", [f"Apikey {KEY}", f"ApiKey {KEY}", f"Bearer {KEY}", f"bearer  {KEY}"])
def test_the_key_opens_as_apikey_or_bearer(stranger: TestClient, header: str) -> None:
    assert stranger.get("/api/v1/runs", headers={"Authorization": header}).status_code == 200


@pytest.mark.parametrize("header", ["Apikey wrong", "Bearer ", "Apikey", "Basic eDp5", "", "Apikey k\u00e9y"])
def test_a_wrong_key_does_not(stranger: TestClient, header: str) -> None:
    assert stranger.get("/api/v1/runs", headers={"Authorization": header.encode("latin-1")}).status_code == 401


def test_a_key_in_the_address_works_once_on_the_page_only_and_leaves_the_address(stranger: TestClient) -> None:
    assert stranger.get(f"/api/v1/runs?api_key={KEY}").status_code == 401
    answer = stranger.get(f"/?wall=1&api_key={KEY}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?wall=1"
    cookie = answer.headers["set-cookie"]
    assert KEY not in cookie
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert stranger.get("/").status_code == 200
    assert stranger.get("/api/v1/runs").status_code == 200
    assert problem(stranger.post("/api/v1/runs"), 403)
    stranger.cookies.clear()
    assert stranger.get("/").status_code == 401


def test_a_forged_cookie_opens_nothing(stranger: TestClient) -> None:
    name = stranger.get(f"/?api_key={KEY}").headers["set-cookie"].partition("=")[0]
    stranger.cookies.clear()
    for value in ("1", f"{int(time.time()) + 999}.{'0' * 64}", "a.b.c"):
        assert stranger.get("/api/v1/runs", headers={"Cookie": f"{name}={value}"}).status_code == 401


def test_guessing_is_limited_and_an_open_session_goes_on(stranger: TestClient) -> None:
    stranger.get(f"/?api_key={KEY}")
    session = dict(stranger.cookies)
    stranger.cookies.clear()
    codes = [stranger.get("/api/v1/runs", headers={"Authorization": f"Apikey {n}"}).status_code for n in range(12)]
    assert codes == [401] * 10 + [429] * 2
    answer = stranger.get("/?api_key=guess")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert stranger.get("/api/v1/runs", headers=HEADER).status_code == 200, "the right key is not locked out"
    stranger.cookies.update(session)
    assert stranger.get("/api/v1/runs").status_code == 200


@pytest.mark.parametrize("trusted", [False, True])
def test_only_a_configured_proxy_is_believed(settings: Settings, run: SyntheticRun, trusted: bool) -> None:
    proxies = ("127.0.0.0/8",) if trusted else ()
    with served(with_serve(settings, port=0, trusted_proxies=proxies)) as host:

        def guess(client: str, key: str) -> int:
            headers = {"Authorization": f"Apikey {key}", "X-Forwarded-For": client}
            return httpx.get(f"http://{host}/api/v1/runs", headers=headers).status_code

        codes = [guess(f"10.0.0.{n}", str(n)) for n in range(12)]
        assert codes == ([401] * 12 if trusted else [401] * 10 + [429] * 2)
        assert guess("10.0.0.1", KEY) == 200
        headers = {"X-Forwarded-Proto": "https"}
        answer = httpx.get(f"http://{host}/?api_key={KEY}", headers=headers)
        assert ("secure" in answer.headers["set-cookie"].lower()) is trusted


def test_a_wrong_key_in_the_address_is_not_shown_again(stranger: TestClient) -> None:
    answer = stranger.get("/?api_key=<script>alert(1)</script>")
    assert answer.status_code == 401
    assert "wrong" in answer.text
    assert "alert(" not in answer.text


def test_anonymous_reading_only_when_configured(settings: Settings, run: SyntheticRun) -> None:
    open_settings = with_serve(settings, anonymous_read=True)
    with TestClient(create_app(open_settings)) as client:
        assert client.get("/api/v1/runs").status_code == 200
        assert client.get("/").status_code == 200
        assert client.post("/api/v1/runs").status_code == 401
        assert client.get("/api/v1/runs", headers={"Authorization": "Apikey wrong"}).status_code == 401


# --- keys of people and programs ------------------------------------------------------------------------------------


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Apikey {secret}"}


def test_a_key_opens_what_its_scopes_say_until_it_is_revoked(
    stranger: TestClient, store: KeyStore, run: SyntheticRun
) -> None:
    secret, key = store.create("alice", [Scope.READ_METADATA])
    assert stranger.get("/api/v1/runs", headers=bearer(secret)).status_code == 200
    detail = problem(stranger.get("/api/v1/runs/latest/maps/raw", headers=bearer(secret)), 403)
    assert "read:data" in detail and "alice has read:metadata" in detail
    who = stranger.get("/api/v1/auth/whoami", headers=bearer(secret)).json()["data"]
    assert (who["id"], who["attributes"]["name"], who["attributes"]["scopes"]) == (
        key.first_eight,
        "alice",
        ["read:metadata"],
    )
    assert who["attributes"]["csrf"] is None
    store.revoke(key.first_eight)
    assert "wrong" in problem(stranger.get("/api/v1/runs", headers=bearer(secret)), 401)


def test_an_expired_key_is_told_so_and_does_not_count_as_a_guess(
    stranger: TestClient, store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, _ = store.create("bob", [Scope.READ_METADATA], expires=time.time() + 60)
    assert stranger.get("/api/v1/runs", headers=bearer(secret)).status_code == 200
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    for _ in range(12):
        answer = stranger.get("/api/v1/runs", headers=bearer(secret))
        assert "expired on 2" in problem(answer, 401) and "quietbeam api-key create" in problem(answer, 401)


def test_only_the_hash_is_kept_and_only_its_owner_may_read_it(store: KeyStore, settings: Settings) -> None:
    secret, key = store.create("carol", [Scope.READ_DATA], note="notebook")
    path = settings.secrets_dir / "api_keys.json"
    assert secret[8:] not in path.read_text() and key.first_eight in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.secrets_dir.stat().st_mode) == 0o700
    assert KeyStore(path).find(secret) == key
    for wrong in (secret[:-1] + ("0" if secret[-1] != "0" else "1"), secret[:8], secret.upper() + "x", "", "g" * 72):
        assert store.find(wrong) is None


def test_keys_are_made_over_http_by_admins_and_never_exceed_their_maker(stranger: TestClient, store: KeyStore) -> None:
    limit = time.time() + 3600
    admin, _ = store.create("admin", [Scope.ADMIN_KEYS, Scope.READ_METADATA], expires=limit)
    body = {"user": "student", "scopes": ["read:metadata"], "note": "summer", "expires_in_s": 1e6}
    made = stranger.post("/api/v1/auth/apikeys", json=body, headers=bearer(admin))
    assert made.status_code == 201
    attributes = made.json()["data"]["attributes"]
    assert attributes["expires"] == pytest.approx(limit), "it does not outlive the key that made it"
    assert stranger.get("/api/v1/runs", headers=bearer(attributes["secret"])).status_code == 200
    there = made.headers["location"]
    again = stranger.get(there, headers=bearer(admin)).json()["data"]["attributes"]
    assert again["user"] == "student" and "secret" not in again
    listed = stranger.get("/api/v1/auth/apikeys", headers=bearer(admin))
    assert listed.json()["meta"]["count"] == 2 and attributes["secret"] not in listed.text
    beyond = {**body, "scopes": ["read:metadata", "delete:data"]}
    detail = problem(stranger.post("/api/v1/auth/apikeys", json=beyond, headers=bearer(admin)), 403)
    assert "delete:data" in detail
    assert stranger.delete(there, headers=bearer(admin)).json()["meta"] == {"revoked": True}
    problem(stranger.get("/api/v1/runs", headers=bearer(attributes["secret"])), 401)
    assert "api-key list" in problem(stranger.delete(there, headers=bearer(admin)), 404)
    for bad in ({"user": "x", "scopes": []}, {"user": "x", "scopes": ["all"]}, {**body, "expires_in_s": -1}, {}, []):
        problem(stranger.post("/api/v1/auth/apikeys", json=bad, headers=bearer(admin)), 422)
    named = {**body, "user": "<b>"}
    assert "1 to 64" in problem(stranger.post("/api/v1/auth/apikeys", json=named, headers=bearer(admin)), 400)


def test_a_damaged_key_file_lets_nobody_in_but_the_single_user(
    stranger: TestClient, store: KeyStore, settings: Settings
) -> None:
    secret, _ = store.create("dave", [Scope.READ_METADATA])
    (settings.secrets_dir / "api_keys.json").write_text("{")
    assert "damaged" in problem(stranger.get("/api/v1/runs", headers=bearer(secret)), 503)
    assert stranger.get("/api/v1/runs", headers=HEADER).status_code == 200


# --- the table: every address, every scope --------------------------------------------------------------------------

TABLE = {
    ("GET", "/api/v1/"): set(),
    ("GET", "/api/v1/auth/whoami"): set(),
    ("GET", "/api/v1/auth/apikeys"): {"admin:apikeys"},
    ("POST", "/api/v1/auth/apikeys"): {"admin:apikeys"},
    ("GET", "/api/v1/auth/apikeys/{first_eight}"): {"admin:apikeys"},
    ("DELETE", "/api/v1/auth/apikeys/{first_eight}"): {"admin:apikeys"},
    ("GET", "/api/v1/models"): {"read:metadata"},
    ("GET", "/api/v1/runs"): {"read:metadata"},
    ("GET", "/api/v1/runs/{uid}"): {"read:metadata"},
    ("GET", "/api/v1/runs/{uid}/evidence"): {"read:metadata"},
    ("GET", "/api/v1/runs/{uid}/advice"): {"read:metadata"},
    ("GET", "/api/v1/runs/{uid}/history"): {"read:metadata"},
    ("GET", "/api/v1/runs/{uid}/detectors"): {"read:metadata"},
    ("GET", "/api/v1/runs/{uid}/report"): {"read:metadata", "read:data"},
    ("GET", "/api/v1/runs/{uid}/maps"): {"read:metadata"},
    ("GET", "/api/v1/runs/{uid}/maps/{kind}"): {"read:data"},
    ("GET", "/api/v1/runs/{uid}/maps/{kind}/{line:path}"): {"read:data"},
    ("GET", "/api/v1/runs/{uid}/pixel"): {"read:data"},
    ("GET", "/api/v1/runs/{uid}/profile"): {"read:data"},
    ("GET", "/api/v1/runs/{uid}/roi"): {"read:data"},
    ("GET", "/api/v1/runs/{uid}/units"): {"read:data"},
    ("GET", "/api/v1/runs/{uid}/correlation"): {"read:data"},
    ("POST", "/api/v1/runs/{uid}/clusters"): {"write:data"},
    ("GET", "/api/v1/runs/{uid}/regions"): {"read:data"},
    ("GET", "/api/v1/runs/{uid}/regions/{name}"): {"read:data"},
    ("PUT", "/api/v1/runs/{uid}/regions/{name}"): {"write:data"},
    ("DELETE", "/api/v1/runs/{uid}/regions/{name}"): {"write:data"},
    ("GET", "/api/v1/runs/{uid}/events"): {"read:metadata"},
    ("GET", "/api/v1/events"): {"read:metadata"},
    ("POST", "/api/v1/runs/{uid}/denoise"): {"write:data"},
    ("PUT", "/api/v1/runs/{uid}/pin"): {"write:data"},
    ("DELETE", "/api/v1/runs/{uid}/pin"): {"write:data"},
    ("DELETE", "/api/v1/runs/{uid}"): {"delete:data"},
    ("PUT", "/api/v1/models/chosen"): {"write:data"},
    ("GET", "/api/v1/actions/{action_id}"): {"read:metadata"},
    ("WEBSOCKET", "/api/v1/runs/{uid}/stream"): {"read:data"},
    ("WEBSOCKET", "/api/v1/stream/single/{path:path}"): {"read:data"},
    ("GET", "/metrics"): {"metrics"},
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
}


def test_every_address_is_in_the_table(settings: Settings) -> None:
    app = create_app(settings)
    assert app.state.scopes == TABLE
    described = {
        (method.upper(), path): {frozenset(scheme[name]) for scheme in operation["security"] for name in scheme}
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    }
    for place, scopes in TABLE.items():
        if place[0] != "WEBSOCKET":
            documented = (place[0], place[1].replace(":path}", "}"))
            assert described[documented] == (set() if scopes is None else {frozenset(scopes)}), place


@pytest.mark.parametrize(
    "place", [place for place, scopes in TABLE.items() if scopes and place[0] != "WEBSOCKET"], ids=" ".join
)
def test_an_address_is_closed_to_every_key_that_lacks_its_scope(
    stranger: TestClient, store: KeyStore, run: SyntheticRun, place: tuple[str, str]
) -> None:
    method, path = place
    wanted = {Scope(scope) for scope in TABLE[place] or ()}
    path = re.sub(
        r"\{(\w+)(?::path)?\}",
        lambda found: {"uid": "run-1", "kind": "raw", "line": "Fe_Ka"}.get(found[1], "0" * 8),
        path,
    )
    for lacking in wanted:
        secret, _ = store.create("almost", set(Scope) - {lacking})
        assert lacking in problem(stranger.request(method, path, headers=bearer(secret)), 403)
    if path.endswith("/events"):
        return  # it never ends
    secret, _ = store.create("just enough", wanted)
    assert stranger.request(method, path, headers=bearer(secret)).status_code not in (401, 403)


def test_an_address_that_names_no_scope_is_closed(settings: Settings) -> None:
    app = create_app(settings)
    app.add_api_route("/forgotten", lambda: "secret")
    with TestClient(app, headers=HEADER) as client:
        assert "names no scope" in problem(client.get("/forgotten"), 403)


# --- sessions of pages ----------------------------------------------------------------------------------------------


def test_a_page_may_change_something_only_with_the_token_of_its_session(stranger: TestClient) -> None:
    stranger.get(f"/?api_key={KEY}")
    body = {"user": "page", "scopes": ["read:data"]}

    def attempt(**headers: str) -> int:
        return stranger.post("/api/v1/auth/apikeys", json=body, headers=headers).status_code

    token = stranger.get("/api/v1/auth/whoami").json()["data"]["attributes"]["csrf"]
    assert attempt() == 403
    assert attempt(**{"X-CSRF": "0" * 64}) == 403
    assert attempt(**{"X-CSRF": token}) == 201
    name = next(name for name in stranger.cookies if name.endswith("_csrf"))
    assert stranger.cookies[name] == token
    del stranger.cookies[name]
    assert attempt(**{"X-CSRF": token}) == 403, "the header alone is not enough"
    stranger.cookies.set(name, "forged")
    assert attempt(**{"X-CSRF": "forged"}) == 403, "two equal values are not enough, they must be ours"
    assert attempt(**HEADER) == 201, "a program with its key needs no token"


def test_a_session_has_the_scopes_of_its_key_and_ends_with_it(
    stranger: TestClient, store: KeyStore, run: SyntheticRun
) -> None:
    secret, key = store.create("erin", [Scope.READ_METADATA], expires=time.time() + 1000)
    answer = stranger.get(f"/?api_key={secret}")
    assert answer.status_code == 303 and secret not in answer.headers["set-cookie"]
    assert stranger.get("/api/v1/runs").status_code == 200
    assert stranger.get("/api/v1/auth/whoami").json()["data"]["attributes"]["name"] == "erin"
    problem(stranger.get("/api/v1/runs/latest/maps/raw"), 403)
    store.revoke(key.first_eight)
    problem(stranger.get("/api/v1/runs"), 401)
    assert stranger.get("/").status_code == 401


def test_a_request_has_an_id_and_says_how_long_it_took(stranger: TestClient) -> None:
    answer = stranger.get("/api/v1/", headers={**HEADER, "X-Request-ID": "scan-7"})
    assert answer.headers["x-request-id"] == "scan-7"
    assert re.fullmatch(r"app;dur=\d+\.\d", answer.headers["server-timing"])
    assert answer.headers["x-api-version"] == answer.json()["data"]["api_version"]
    forged = stranger.get("/api/v1/", headers={**HEADER, "X-Request-ID": "a b\x7f"}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", forged)


def test_a_body_that_is_too_large_is_refused(stranger: TestClient) -> None:
    body = b'{"user": "' + b"x" * 100_000 + b'"}'
    answer = stranger.post("/api/v1/auth/apikeys", content=body, headers=HEADER)
    assert "65536" in problem(answer, 413)
    answer = stranger.post("/api/v1/auth/apikeys", content=iter([body[:50_000], body[50_000:]]), headers=HEADER)
    assert "65536" in problem(answer, 413), "nor when its size is not announced"

"""Bearer tokens against a small real issuer: discovery and keys over HTTP, tokens signed with real keys."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from pydantic import ValidationError
from serve_kit import HEADER, make_run, problem, with_serve
from starlette.testclient import TestClient

from quietbeam.core.settings import OidcSettings, Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.serve import create_app
from quietbeam.serve.access import Scope, oidc

AUDIENCE = "quietbeam"


class IssuerServer:
    """An identity provider as far as we need one."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.other = rsa.generate_private_key(65537, 2048)
        self.asked: list[str] = []
        self.name: str | None = None
        self.keys = [self._public("one", self.rsa), self._public("curve", self.ec)]
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                about = {"issuer": provider.name or provider.url, "jwks_uri": f"{provider.url}/keys"}
                body = json.dumps(about if "configuration" in self.path else {"keys": provider.keys}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @staticmethod
    def _public(key_id: str, key: Any) -> dict[str, Any]:
        algorithm: Any = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": key_id, "use": "sig"}

    def add_key(self, key_id: str, key: Any) -> None:
        self.keys.append(self._public(key_id, key))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def token(self, *, key: Any = None, algorithm: str = "RS256", key_id: str | None = "one", **changes: Any) -> str:
        """Return a good token, with some claims changed (None: left out)."""
        now = time.time()
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "u123", "exp": now + 300, "iat": now}
        claims |= {"preferred_username": "fred", "groups": ["users"]} | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        headers = {} if key_id is None else {"kid": key_id}
        return jwt.encode(claims, self.rsa if key is None else key, algorithm, headers=headers)


@pytest.fixture
def issuer() -> Iterator[IssuerServer]:
    server = IssuerServer()
    yield server
    server.close()


@pytest.fixture
def client(settings: Settings, redis: Connection, issuer: IssuerServer) -> Iterator[TestClient]:
    make_run(settings, redis)
    grants = {"beamline-staff": ["write:data", "metrics"]}
    provider = {"issuer": issuer.url, "audience": AUDIENCE, "grants": grants}
    with TestClient(create_app(with_serve(settings, oidc=provider))) as client:
        yield client


def get(client: TestClient, token: str, path: str = "runs") -> Any:
    return client.get(f"/api/v1/{path}", headers={"Authorization": f"Bearer {token}"})


def test_a_token_opens_what_its_groups_may(client: TestClient, issuer: IssuerServer) -> None:
    assert get(client, issuer.token()).status_code == 200
    who = get(client, issuer.token(), "auth/whoami").json()["data"]["attributes"]
    assert (who["name"], who["kind"], who["scopes"]) == ("fred", "oidc", ["read:data", "read:metadata"])
    assert who["expires"] == pytest.approx(time.time() + 300, abs=30)
    staff = issuer.token(groups=["beamline-staff", "users"])
    assert get(client, staff, "auth/whoami").json()["data"]["attributes"]["scopes"] == [
        "metrics",
        "read:data",
        "read:metadata",
        "write:data",
    ]
    headers = {"Authorization": f"Bearer {issuer.token()}"}
    assert "write:data" in problem(client.put("/api/v1/runs/run-1/pin", headers=headers), 403)
    answer = client.put("/api/v1/runs/run-1/pin", headers={"Authorization": f"Bearer {staff}"})
    assert answer.status_code == 202 and answer.json()["data"]["attributes"]["by"] == "fred"
    assert client.get("/api/v1/runs", headers=HEADER).status_code == 200, "API keys work beside it"
    for scopes, groups in (("beamline-staff other", "text"), (None, "absent")):
        assert get(client, issuer.token(groups=scopes)).status_code == 200, groups


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda i: i.token(aud="another-service"), "Audience"),
        (lambda i: i.token(aud=["a", "b"]), "Audience"),
        (lambda i: i.token(aud=None), "aud"),
        (lambda i: i.token(iss="https://evil.example"), "issuer"),
        (lambda i: i.token(iss=None), "iss"),
        (lambda i: i.token(exp=time.time() - 60), "has expired"),
        (lambda i: i.token(exp=None), "exp"),
        (lambda i: i.token(sub=None), "sub"),
        (lambda i: i.token(nbf=time.time() + 600), "not yet valid"),
        (lambda i: i.token(key=i.other), "Signature"),
        (lambda i: i.token(key=i.other, key_id="unknown"), "no such key"),
        (lambda i: i.token(key_id=None), "no such key"),
        (lambda i: i.token(key="", algorithm="none"), "'none' is not allowed"),
        (lambda i: i.token(key="s" * 32, algorithm="HS256"), "'HS256' is not allowed"),
        (lambda i: i.token(key=i.ec, algorithm="ES256"), "token is refused"),
        (lambda i: i.token()[:-4] + "AAAA", "token is refused"),
        (lambda i: "a.b.c", "no JSON web token"),
        (lambda i: "..", "no JSON web token"),
    ],
)
def test_a_token_that_is_not_for_us_is_refused_with_the_reason(
    client: TestClient, issuer: IssuerServer, make: Callable[[IssuerServer], str], words: str
) -> None:
    detail = problem(get(client, make(issuer)), 401)
    assert words in detail and "identity provider" in detail


def test_other_algorithms_with_public_keys_are_taken(client: TestClient, issuer: IssuerServer) -> None:
    assert get(client, issuer.token(key=issuer.ec, algorithm="ES256", key_id="curve")).status_code == 200
    assert get(client, issuer.token(algorithm="PS256")).status_code == 200
    issuer.keys.clear()
    assert get(client, issuer.token(algorithm="RS512")).status_code == 200, "keys are kept for a while"


def test_a_new_key_is_looked_up_but_forged_names_make_no_traffic(
    client: TestClient, issuer: IssuerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert get(client, issuer.token()).status_code == 200
    asked = len(issuer.asked)
    for n in range(5):
        problem(get(client, issuer.token(key=issuer.other, key_id=f"forged-{n}")), 401)
    assert len(issuer.asked) == asked
    issuer.add_key("two", issuer.other)
    monkeypatch.setattr(oidc, "REFETCH_S", 0.0)
    assert get(client, issuer.token(key=issuer.other, key_id="two")).status_code == 200


def test_wrong_tokens_are_counted_as_wrong_keys_are(client: TestClient, issuer: IssuerServer) -> None:
    codes = [get(client, issuer.token(aud="x")).status_code for _ in range(12)]
    assert codes == [401] * 10 + [429] * 2


def test_an_issuer_that_is_away_or_not_itself_is_told_and_keys_still_work(
    client: TestClient, issuer: IssuerServer
) -> None:
    issuer.name = "https://somebody.else"
    assert "must be equal" in problem(get(client, issuer.token()), 503)
    issuer.name = None
    token = issuer.token()
    issuer.close()
    assert "cannot be asked" in problem(get(client, token), 503)
    assert client.get("/api/v1/runs", headers=HEADER).status_code == 200


@pytest.mark.parametrize("url", ["http://sso.example.org", "ftp://sso", "http://localhost.evil.example/", ""])
def test_an_issuer_without_tls_is_refused_but_on_this_machine(url: str) -> None:
    with pytest.raises(ValidationError):
        OidcSettings(issuer=url, audience=AUDIENCE)
    OidcSettings(issuer="http://localhost:8080/realms/x", audience=AUDIENCE)


def test_settings_know_the_scopes_that_there_are() -> None:
    every = tuple(Scope)
    assert OidcSettings(issuer="https://sso", audience="x", everyone=every).everyone == every  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        OidcSettings(issuer="https://sso", audience="x", grants={"staff": ("all",)})  # type: ignore[dict-item]

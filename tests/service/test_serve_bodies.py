"""A body that cannot be read is answered in plain words, at every address that takes one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serve_kit import HEADER, make_run, with_serve
from starlette.testclient import TestClient

from quietbeam.core.settings import Settings
from quietbeam.core.wire.bus import Connection
from quietbeam.serve import create_app


@pytest.fixture
def client(settings: Settings, redis: Connection) -> Iterator[TestClient]:
    make_run(settings, redis)
    with TestClient(create_app(with_serve(settings)), headers=HEADER, raise_server_exceptions=False) as client:
        yield client


def places(client: TestClient) -> list[tuple[str, str]]:
    """Every method and address that takes a body, by the OpenAPI document."""
    paths = client.get("/api/v1/openapi.json").json()["paths"]
    return [
        (method.upper(), path.replace("{uid}", "run-1").replace("{name}", "nucleus"))
        for path, methods in paths.items()
        for method, what in methods.items()
        if "requestBody" in what
    ]


@pytest.mark.parametrize(
    ("headers", "content", "status", "words"),
    [
        ({}, b'{"kind": "rectangle"}', 422, "header Content-Type: application/json; it is missing"),
        ({"content-type": "text/plain"}, b"{}", 422, "header Content-Type: application/json; it is 'text/plain'"),
        ({"content-type": "application/json"}, b'{"a": 1,}', 422, "the body is not JSON: "),
        ({"content-type": "application/json"}, b"[1]", 422, "the body must be a JSON object"),
        ({"content-type": "application/json"}, b'{"a": "\xff"}', 400, "the body is not JSON in UTF-8"),
    ],
)
def test_a_body_that_cannot_be_read(
    client: TestClient, headers: dict[str, str], content: bytes, status: int, words: str
) -> None:
    found = places(client)
    assert len(found) >= 5
    for method, path in found:
        answer = client.request(method, path, content=content, headers=headers)
        assert answer.status_code == status and words in answer.json()["detail"], (method, path, answer.text)


def test_where_json_is_broken_and_where_a_body_is_missing(client: TestClient) -> None:
    place = "/api/v1/runs/run-1/regions/nucleus"
    broken = client.put(place, content=b'{"kind" 1}', headers={"content-type": "application/json"}).json()
    assert broken["detail"] == "the body is not JSON: Expecting ':' delimiter at character 9"
    assert broken["errors"][0]["msg"] == broken["detail"]
    missing = client.put(place)
    assert missing.status_code == 422 and "the request has no body: send a JSON object" in missing.json()["detail"]
    field = client.put(place, json={"kind": "rectangle", "rows": [1]}).json()
    assert field["detail"].startswith("rows: "), "a wrong field is named as before"

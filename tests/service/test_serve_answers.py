"""Every JSON answer has a schema with fields, and real answers have exactly the fields of their schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from serve_kit import HEADER, make_run, with_serve
from starlette.testclient import TestClient

from quietbeam.core.model.types import RunState
from quietbeam.core.settings import Settings
from quietbeam.core.wire import runs
from quietbeam.core.wire.bus import Connection
from quietbeam.serve import create_app
from quietbeam.serve.app import openapi_json

DOCUMENT: dict[str, Any] = json.loads(openapi_json())
JSON_ANSWERS = [
    (method, path, status)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    for status, response in operation["responses"].items()
    if status.startswith("2") and "application/json" in response.get("content", {})
]
ADDRESSES = [
    *("/api/v1/", "/api/v1/auth/whoami", "/api/v1/auth/apikeys", "/api/v1/models", "/api/v1/runs", "/healthz"),
    *(
        f"/api/v1/runs/{uid}{below}"
        for uid in ("run-1", "run-2", "run-3")
        for below in ("", "/evidence", "/advice?snr=5", "/history", "/detectors")
    ),
    *(
        f"/api/v1/runs/run-1/{below}"
        for below in (
            "maps",
            "maps/raw",
            "maps/measured",
            "maps/denoised/Fe_Ka?slice=0:2",
            "pixel?row=2&col=3",
            "profile?from=1,2&to=5,2",
            "roi?rows=1:3&cols=:",
        )
    ),
]


def schema_of(method: str, path: str, status: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][method]["responses"][status]["content"]["application/json"][
        "schema"
    ]
    return found


def fields(schema: dict[str, Any]) -> set[str]:
    """Return the names of an object's fields: of the items of a list, of every alternative but null."""
    if "$ref" in schema:
        return fields(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if schema.get("type") == "array":
        return fields(schema["items"])
    found = set(schema.get("properties", {}))
    for other in schema.get("anyOf", ()):
        found |= fields(other)
    return found


def below(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the schema of one field of an object."""
    if "$ref" in schema:
        return below(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]], name)
    found: dict[str, Any] = schema["properties"][name]
    return found


def test_there_are_answers_to_look_at() -> None:
    assert len(JSON_ANSWERS) > 25


@pytest.mark.parametrize(("method", "path", "status"), JSON_ANSWERS)
def test_every_json_answer_documents_its_fields(method: str, path: str, status: str) -> None:
    schema = schema_of(method, path, status)
    if path in ("/healthz", "/readyz"):
        assert "status" in fields(schema)
        return
    assert {"data", "links", "meta"} == fields(schema)
    data = below(schema, "data")
    assert fields(data)
    if "attributes" in fields(data):
        assert fields(below(data.get("items", data), "attributes"))


def test_real_answers_are_as_documented(settings: Settings, redis: Connection) -> None:
    settings = with_serve(settings)
    make_run(settings, redis)
    ended = make_run(settings, redis, uid="run-2")
    ended.denoise(final=True)
    ended.finish(RunState.INCOMPLETE)
    runs.register_run(redis, "run-3", 1.0)
    runs.write_status(redis, "run-3", state=RunState.UNUSABLE, reason="no map")
    closed = {"$defs": DOCUMENT["components"]["schemas"]}
    for schema in closed["$defs"].values():
        if "properties" in schema and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
    text = json.dumps(closed).replace("#/components/schemas/", "#/$defs/")
    with TestClient(create_app(settings), headers=HEADER) as client:
        for address in ADDRESSES:
            answer = client.get(address).raise_for_status()
            template = next(path for path in DOCUMENT["paths"] if _matches(path, address.partition("?")[0]))
            schema = json.dumps(schema_of("get", template, "200")).replace("#/components/schemas/", "#/$defs/")
            Draft202012Validator({**json.loads(schema), **json.loads(text)}).validate(answer.json())


def _matches(template: str, path: str) -> bool:
    wanted, found = template.split("/"), path.split("/")
    return len(wanted) == len(found) and all(a == b or a.startswith("{") for a, b in zip(wanted, found, strict=True))

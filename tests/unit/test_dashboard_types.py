"""The types with which the dashboard reads answers are those of the API."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from quietbeam.serve.render.colormaps import DASHBOARD

SCHEMAS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "docs" / "reference" / "openapi.json").read_text()
)["components"]["schemas"]
TYPES = (DASHBOARD / "types.d.ts").read_text()
SCHEMA_OF = {
    "Progress": "Progress",
    "Denoise": "DenoiseState",
    "Publish": "PublishState",
    "LineEvidence": "LineEvidence",
    "RunEvidence": "RunEvidence",
    "LineAdvice": "LineAdvice",
    "RunAdvice": "RunAdvice",
    "RunSummary": "RunSummary",
    "Run": "RunDetail",
    "Action": "ActionInfo",
    "Principal": "Caller",
    "MapState": "MapState",
    "Detector": "DetectorInfo",
    "UnitLine": "UnitLine",
    "UnitInfo": "UnitInfo",
}
ADDED = {"Run": {"links", "actions", "advice", "unit"}, "MapState": {"uid"}, "Detector": {"name"}}
"""What the page adds to the attributes of an answer."""


def fields_of(interface: str) -> dict[str, str]:
    """Return the fields of an interface of types.d.ts with their types, ``?`` after the name included."""
    body = re.search(rf"^interface {interface} (?:extends \w+ )?{{\n(.*?)^}}", TYPES, re.MULTILINE | re.DOTALL)
    assert body, interface
    return dict(re.findall(r"^  (\w+\??): (.*);$", body[1], re.MULTILINE))


def may_be_null(schema: dict[str, Any]) -> bool:
    return any(part.get("type") == "null" for part in schema.get("anyOf", ()))


@pytest.mark.parametrize(("interface", "schema"), SCHEMA_OF.items())
def test_fields_are_those_of_the_api_and_null_where_it_may_be_null(interface: str, schema: str) -> None:
    properties = SCHEMAS[schema]["properties"]
    for field, kind in fields_of(interface).items():
        name = field.rstrip("?")
        if name in ADDED.get(interface, ()):
            continue
        assert name in properties, f"{interface}.{name} is no attribute of {schema}"
        if may_be_null(properties[name]):
            assert "null" in kind, f"{interface}.{name} may be null in an answer"

"""The OpenAPI document, as it is served and as it is kept in ``docs/reference/openapi.json``."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .routes.envelope import ERRORS, Problem


def make_document(app: FastAPI, version: str) -> dict[str, Any]:
    """Return the document of `app`: FastAPI's, with our errors, and with the scope that each address needs."""
    schema = get_openapi(title=app.title, version=version, description=app.description, routes=app.routes)
    components = schema["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["schemas"]["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components["securitySchemes"] = {
        "ApiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Authorization: Apikey KEY`",
        },
        "Bearer": {"type": "http", "scheme": "bearer"},
    }
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            _complete(operation, app.state.scopes[method.upper(), path])
    return schema


def _complete(operation: dict[str, Any], scopes: frozenset[str] | None) -> None:
    """Add what every operation has in common: security, its refusals, and 422 in the form that we send."""
    responses = operation["responses"]
    common = [503]
    if scopes is None:
        operation["security"] = []
    else:
        wanted = sorted(scopes)
        operation["security"] = [{"ApiKey": wanted}, {"Bearer": wanted}]
        common += [401, 403, 429]
        responses["422"] = ERRORS[422]
    if "requestBody" in operation:
        common += [413]
    for status in common:
        responses.setdefault(str(status), ERRORS[status])

"""The OpenAPI document, as it is served and as it is kept in ``docs/reference/openapi.json``."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .routes.envelope import ERRORS, Problem


def make_document(app: FastAPI, version: str) -> dict[str, Any]:
    """Return the document of `app`: FastAPI's, with the errors in the form that is sent."""
    schema = get_openapi(title=app.title, version=version, description=app.description, routes=app.routes)
    components = schema["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["schemas"]["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    for model in components["schemas"].values():
        _describe(model)
    for operations in schema["paths"].values():
        for operation in operations.values():
            _complete(operation)
    return schema


def _describe(model: dict[str, Any]) -> None:
    """Move the section "Attributes" of a docstring to the properties that it describes."""
    about, found, attributes = str(model.get("description", "")).partition("\n\nAttributes\n----------\n")
    if not found:
        return
    model["description"] = about
    for names, text in re.findall(r"^(\S[^\n]*)\n((?:[ \t]+[^\n]*(?:\n|$))+)", attributes, re.MULTILINE):
        for name in names.split(", "):
            if name in model["properties"]:
                model["properties"][name].setdefault("description", " ".join(text.split()).replace("``", "`"))


def _complete(operation: dict[str, Any]) -> None:
    """Add the errors that every operation has in common."""
    responses = operation["responses"]
    common = [503]
    if operation.setdefault("security", []):  # an empty list: open to all
        common += [401, 403, 429]
        responses["422"] = ERRORS[422]
    if "requestBody" in operation:
        common += [413]
    for status in common:
        responses.setdefault(str(status), ERRORS[status])

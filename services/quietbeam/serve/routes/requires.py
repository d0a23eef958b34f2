"""What an address of the API requires: scopes of the key, and parameters that it has."""

from __future__ import annotations

from fastapi import Depends, Security, params
from fastapi.exceptions import RequestValidationError
from starlette.requests import HTTPConnection

from quietbeam.serve.access import Scope, authorize
from quietbeam.serve.services import API


def requires(*scopes: Scope) -> list[params.Depends]:
    """Return the dependencies of an address: the caller's scopes (none: any key), then known parameters only."""
    return [Security(authorize, scopes=sorted(scopes)), Depends(refuse_unknown_parameters)]


def refuse_unknown_parameters(connection: HTTPConnection) -> None:
    """Refuse query parameters that the document does not name: a filter with a misspelt name would not filter.

    Raises
    ------
    RequestValidationError
        422, with the names of all parameters.
    """
    if connection.scope["type"] == "websocket":
        return
    path = f"{API}{connection.scope['route'].path_format}"
    operation = connection.app.openapi()["paths"][path][connection.scope["method"].lower()]
    names = [parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"]
    unknown = [name for name in connection.query_params if name not in names]
    if unknown:
        there_are = f"there are {', '.join(names)}" if names else "there are none"
        raise RequestValidationError(
            [
                {"loc": ("query", name[:60]), "msg": f"no such parameter here; {there_are}", "type": "extra_forbidden"}
                for name in unknown[:10]
            ]
        )

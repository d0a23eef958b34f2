"""The few calls to Tiled's HTTP API that publishing needs, with short time limits and no retries of their own.

Tiled's Python client retries inside each call for up to a minute. A stage that must stop when asked and serve other
runs meanwhile retries itself, so this speaks HTTP directly.

::

    TiledError (ServiceError)
    +-- TiledAwayError       nobody answers; everything waits
    +-- TiledBusyError       an answer that may be better later (5xx, 429); this run waits
    +-- TiledRefusedError    an answer that will stay (4xx); the message says what to do
        +-- TiledMissingError    no such node
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import orjson

from quietbeam.core.errors import ServiceError
from quietbeam.core.settings import NetworkSettings
from quietbeam.core.wire.web import client_options

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}
_BYTES = "application/octet-stream"


class TiledError(ServiceError):
    """A call to Tiled failed."""


class TiledAwayError(TiledError):
    """Nobody answers at the address of Tiled."""


class TiledBusyError(TiledError):
    """Tiled could not do it now."""


class TiledRefusedError(TiledError):
    """Tiled will not do it."""


class TiledMissingError(TiledRefusedError):
    """Tiled has no such node."""


class TiledApi:
    """One Tiled server.

    Parameters
    ----------
    uri
        Base of the API, ``http://127.0.0.1:8481/api/v1``.
    api_key
        Key with the scopes create, read:data, read:metadata, write:data and write:metadata; to delete runs also
        delete:node and delete:revision.
    network
        Certificates and proxy.
    transport
        Replaces the network (tests put faults between here and a real server).
    """

    def __init__(
        self,
        uri: str,
        api_key: str,
        *,
        transport: httpx.BaseTransport | None = None,
        network: NetworkSettings | None = None,
    ) -> None:
        base = httpx.URL(uri)
        path = base.path.rstrip("/")
        self.uri = str(base.copy_with(query=None, path=path if path.endswith("/api/v1") else f"{path}/api/v1"))
        self._http = httpx.Client(
            base_url=f"{self.uri}/",
            headers={"Authorization": f"Apikey {api_key}"},
            timeout=TIMEOUT,
            transport=transport,
            **client_options(network or NetworkSettings()),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _call(self, method: str, url: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, url, **options)
        except httpx.TransportError as error:
            what = str(error) or type(error).__name__
            raise TiledAwayError(f"Tiled at {self.uri} does not answer ({what})") from error
        code = response.status_code
        if code < 300:
            return response
        answer = f"{method} {url.split('?')[0]}: {code} {_detail(response)}"
        if code >= 500 or code == httpx.codes.TOO_MANY_REQUESTS:
            raise TiledBusyError(f"Tiled could not do {answer}")
        if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise TiledRefusedError(
                f"Tiled at {self.uri} refuses the key ({answer})",
                remedy="set QUIETBEAM_TILED__API_KEY to one that may create nodes and write data and metadata",
            )
        if code == httpx.codes.NOT_FOUND:
            raise TiledMissingError(f"Tiled has no such node ({answer})")
        raise TiledRefusedError(f"Tiled refuses {answer}")

    def is_other_server(self) -> str:
        """Return what answers instead of Tiled, in a sentence; '' when it is Tiled. The key is not sent.

        Raises
        ------
        TiledAwayError
            Nobody answers.
        """
        try:
            answer = self._http.get(f"{self.uri}/", headers={"Authorization": "", "Accept": "application/json"})
            about = orjson.loads(answer.content)
        except httpx.TransportError as error:
            raise TiledAwayError(f"Tiled at {self.uri} does not answer ({error or type(error).__name__})") from error
        except ValueError:
            about = None
        if isinstance(about, dict) and {"api_version", "formats"} <= about.keys():
            return ""
        return f"the server at {self.uri} is no Tiled (it answers {answer.status_code} {answer.reason_phrase})"

    # --- nodes --------------------------------------------------------------------------------------------------

    def node(self, path: str) -> dict[str, Any]:
        """Return the attributes (metadata, specs, structure) of a node."""
        attributes: dict[str, Any] = self._call("GET", f"metadata/{path}", headers=_JSON).json()["data"]["attributes"]
        return attributes

    def ensure(self, parent: str, key: str, body: Mapping[str, Any]) -> bool:
        """Create a node unless it is there; True when it was created by this call, as far as the answer tells.

        A create can be answered with 500 and yet be done, and a repeated one with 409: both mean "look".
        """
        try:
            self._call("POST", f"metadata/{parent}", headers=_JSON, content=orjson.dumps({**body, "id": key}))
        except (TiledBusyError, TiledRefusedError) as error:
            if isinstance(error, TiledMissingError):
                raise
            try:
                self.node(f"{parent}/{key}" if parent else key)
            except TiledMissingError:
                raise error from None
            return False
        return True

    def replace_metadata(self, path: str, metadata: Mapping[str, Any]) -> None:
        """Replace the metadata of a node, without keeping the old as a revision."""
        body = orjson.dumps({"metadata": metadata}, option=orjson.OPT_SERIALIZE_NUMPY)
        self._call("PUT", f"metadata/{path}", headers=_JSON, content=body, params={"drop_revision": "true"})

    def delete(self, path: str) -> bool:
        """Delete a node with everything below it; False when there is none."""
        try:
            self._call(
                "DELETE", f"metadata/{path}", headers=_JSON, params={"recursive": "true", "external_only": "false"}
            )
        except TiledMissingError:
            return False
        return True

    # --- arrays -------------------------------------------------------------------------------------------------

    def write(self, path: str, values: npt.NDArray[Any]) -> None:
        """Overwrite a whole array; subscribers get its bytes."""
        self._call("PUT", f"array/full/{path}", content=_bytes(values), headers={"Content-Type": _BYTES})

    def patch(self, path: str, values: npt.NDArray[Any], offset: Sequence[int]) -> None:
        """Overwrite a part of an array from index `offset`; subscribers get its bytes."""
        place = {"offset": ",".join(map(str, offset)), "shape": ",".join(map(str, values.shape)), "extend": "false"}
        self._call(
            "PATCH", f"array/full/{path}", content=_bytes(values), params=place, headers={"Content-Type": _BYTES}
        )

    def read(self, path: str, like: npt.NDArray[Any], rows: slice) -> npt.NDArray[Any]:
        """Return rows (second last axis) of an array with the axes and dtype of `like`."""
        where = ",".join([*["::"] * (like.ndim - 2), f"{rows.start}:{rows.stop}"])
        content = self._call(
            "GET", f"array/full/{path}", params={"slice": where, "format": _BYTES}, headers={"Accept": _BYTES}
        ).content
        shape = (*like.shape[:-2], rows.stop - rows.start, like.shape[-1])
        return np.frombuffer(content, dtype=like.dtype).reshape(shape)

    def close_stream(self, path: str) -> None:
        """Tell subscribers of an array that nothing more comes."""
        self._call("DELETE", f"stream/close/{path}")


def array_body(
    shape: Sequence[int], dims: Sequence[str], chunks: Sequence[int], dtype: npt.DTypeLike, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what creates an array node that Tiled stores itself; `chunks` is the largest chunk on each axis."""
    kind = np.dtype(dtype)
    structure = {
        "data_type": {
            "endianness": "not_applicable" if kind.itemsize == 1 else "little",
            "kind": kind.kind,
            "itemsize": kind.itemsize,
            "dt_units": None,
        },
        "chunks": [[min(c, n - start) for start in range(0, n, c)] for n, c in zip(shape, chunks, strict=True)],
        "shape": list(shape),
        "dims": list(dims),
        "resizable": False,
    }
    source = {"structure_family": "array", "structure": structure, "management": "writable"}
    return {"structure_family": "array", "metadata": metadata, "specs": [], "data_sources": [source]}


def _bytes(values: npt.NDArray[Any]) -> bytes:
    little = values.dtype.newbyteorder("<") if values.dtype.itemsize > 1 else values.dtype
    return np.ascontiguousarray(values, dtype=little).tobytes()


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json().get("detail", "")
    except (ValueError, AttributeError):
        detail = response.text
    return str(detail)[:300]

"""One HTTP connection to the REST API, with its key."""

from __future__ import annotations

from typing import Any, Self

import httpx

from quietbeam.core.errors import NotMeasuredError

from .errors import refusal


class Session:
    """Requests below ``api/v1/`` of a running quietbeam.

    Parameters
    ----------
    url
        As of the dashboard: ``http://127.0.0.1:8480``.
    api_key
        Key; not needed where everybody may read.
    timeout_s
        Seconds until a request fails.
    """

    def __init__(self, url: str, api_key: str = "", *, timeout_s: float = 30.0) -> None:
        headers = {"Authorization": f"Apikey {api_key}"} if api_key else {}
        base = url.rstrip("/").removesuffix("/api/v1")
        self.http = httpx.Client(base_url=f"{base}/api/v1/", headers=headers, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.http.close()

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON at an address below ``api/v1/``; errors carry the server's sentence."""
        return self.answer(path, **query).json()

    def answer(self, path: str, **query: Any) -> httpx.Response:
        """Return the answer at an address below ``api/v1/``."""
        return self.send("GET", path, params=query)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Return the answer to any request; a refusal is raised as an error with the server's sentence."""
        try:
            answer = self.http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise NotMeasuredError(f"{self.http.base_url} does not answer: {error or type(error).__name__}") from error
        if answer.is_success:
            return answer
        raise refusal(answer.status_code, answer.content, answer.reason_phrase)

    def socket_address(self, path: str) -> tuple[str, dict[str, str]]:
        """Return URL and headers of a websocket at an address below ``api/v1/``."""
        url = self.http.base_url
        scheme = "wss" if url.scheme == "https" else "ws"
        key = self.http.headers.get("authorization")
        return str(url.copy_with(scheme=scheme)) + path, {"Authorization": key} if key else {}

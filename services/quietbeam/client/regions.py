"""Named regions of a run, two lines against each other, clusters: as the REST API gives them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .session import Session


class RegionsOfRun:
    """The part of a run that is about regions."""

    _client: Session
    uid: str

    def regions(self) -> list[dict[str, Any]]:
        """Return the named regions: name, kind, definition, pixels."""
        return list(self._client.get(f"runs/{self.uid}/regions")["data"])

    def region(self, name: str, *, units: str = "counts") -> dict[str, Any]:
        """Return what every line shows in a named region: ``["lines"][LINE]["raw" or "denoised"]``."""
        found: dict[str, Any] = self._client.get(f"runs/{self.uid}/regions/{quote(name, safe='')}", units=units)["data"]
        return found

    def keep_region(self, name: str, **definition: Any) -> None:
        """Make a named region, or replace it: ``kind``, and ``rows`` and ``cols``, ``points``, or ``line``, ``low``."""
        self._client.send("PUT", f"runs/{self.uid}/regions/{quote(name, safe='')}", json=definition)

    def find_clusters(self, **wanted: Any) -> dict[str, Any]:
        """Divide the map into clusters, which become regions: ``method``, ``number``, ``name``; return scores."""
        return dict(self._client.send("POST", f"runs/{self.uid}/clusters", json=wanted).json()["meta"])

    def delete_region(self, name: str) -> None:
        """Delete a named region."""
        self._client.send("DELETE", f"runs/{self.uid}/regions/{quote(name, safe='')}")

    def correlation(self, x: str, y: str, **query: Any) -> dict[str, Any]:
        """Return how two lines go together; ``region``, ``map`` and ``units`` as in the REST API."""
        return dict(self._client.get(f"runs/{self.uid}/correlation", x=x, y=y, **query)["data"])

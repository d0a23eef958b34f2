"""Runs and their maps over REST, as xarray."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np

from quietbeam._extras import extra
from quietbeam.core.errors import QuietbeamError

from .action import ActionHandle
from .errors import FailedError, NotFoundError
from .events import follow_events
from .regions import RegionsOfRun
from .session import Session
from .stream import stream_maps

if TYPE_CHECKING:
    import xarray as xr


class Client(Session):
    """A running quietbeam.

    Parameters
    ----------
    url
        As of the dashboard: ``http://127.0.0.1:8480``.
    api_key
        Key; not needed where everybody may read.
    """

    def run(self, uid: str = "latest") -> Run:
        """Return a run; ``latest`` is the one that started last.

        Raises
        ------
        NotMeasuredError
            No such run.
        """
        return Run(self, self.get(f"runs/{uid}")["data"]["attributes"])

    def runs(self, limit: int = 50, **search: Any) -> list[Run]:
        """Return runs, the newest first.

        Parameters
        ----------
        search
            ``state``, ``since``, ``until``, ``plan``, ``scan_id``, ``metadata`` (``"KEY:VALUE"`` or a list of them).
        """
        found: list[Run] = []
        place: dict[str, str] = {}
        while len(found) < limit:
            page = self.get("runs", **{**search, **place, "page[limit]": min(300, limit - len(found))})
            found += [Run(self, item["attributes"]) for item in page["data"]]
            following = parse_qs(urlsplit(page["links"].get("next") or "").query)
            place = {name: values[-1] for name, values in following.items() if name in ("page[after]", "page[offset]")}
            if not place:
                break
        return found

    def request_action(self, method: str, path: str, body: dict[str, Any] | None = None) -> ActionHandle:
        """Ask for a change; return how it goes, see :class:`ActionHandle`."""
        answer = self.send(method, path, **({} if body is None else {"json": body}))
        data = answer.json()["data"]
        return (
            ActionHandle(self, data["id"], data["attributes"])
            if answer.status_code == 202
            else ActionHandle(self, "", {})
        )

    def models(self) -> list[str]:
        """Return the names of the weights that are installed."""
        return [item["id"] for item in self.get("models")["data"]]

    def choose_weights(self, name: str) -> ActionHandle:
        """Take other weights for the runs that follow; ``""``: the newest."""
        return self.request_action("PUT", "models/chosen", {"id": name})

    def whoami(self) -> dict[str, Any]:
        """Return whose key this is, and its scopes."""
        found: dict[str, Any] = self.get("auth/whoami")["data"]["attributes"]
        return found

    def events(self, uid: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield what happens (``type`` and the event's fields), of one run or of all, until the caller stops.

        After a break, such as a restart of the service, it goes on after the last event. ``type`` is ``reset`` where
        events are lost: read the states again then.

        Raises
        ------
        NotMeasuredError
            No such run, or the service stays away for minutes.
        """
        return follow_events(self, f"runs/{uid}/events" if uid else "events")


class Run(RegionsOfRun):
    """One run, as it was when it was asked for.

    Attributes
    ----------
    attributes
        What ``/runs/{uid}`` says: state, geometry, progress, evidence, metadata.
    """

    _client: Client

    def __init__(self, client: Client, attributes: dict[str, Any]) -> None:
        self._client = client
        self.attributes = attributes
        self.uid: str = attributes["uid"]

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.attributes["shape"] or ()))
        return f"<Run {self.uid} {self.attributes['state']} {shape} {', '.join(self.attributes['lines'])}>"

    def refresh(self) -> Run:
        """Return the run as it is now."""
        return self._client.run(self.uid)

    def maps(
        self, kind: str = "denoised", line: str | None = None, *, version: int | None = None, units: str = "counts"
    ) -> xr.DataArray:
        """Return maps (line, row, col), or (row, col) of one line; NaN is not measured.

        Coordinates are positions where the step is known, else pixels. ``attrs`` say run, kind, units and version.

        Parameters
        ----------
        kind
            ``raw``, ``denoised``, ``uncertainty``, ``residual``, ``chi2``, ``measured``.
        version
            An earlier state, from :meth:`history`.
        units
            ``counts``, ``counts/s`` or ``ug/cm2``; see :meth:`units`.
        """
        path = f"runs/{self.uid}/maps/{kind}" + (f"/{quote(line, safe='')}" if line else "")
        query = {"units": units, **({} if version is None else {"version": version})}
        answer = self._client.answer(path, format="npy", **query)
        values = np.load(io.BytesIO(answer.content), allow_pickle=False)
        about = self._client.run(self.uid).attributes if "step" not in self.attributes else self.attributes
        found = self._labelled(values, kind, line, int(answer.headers["x-version"]), about)
        return found if units == "counts" else found.assign_attrs(units=units)

    def _labelled(
        self, values: np.ndarray[Any, Any], kind: str, line: str | None, version: int, about: dict[str, Any]
    ) -> xr.DataArray:
        step, origin = about["step"] or (1.0, 1.0), about["origin"] or (0.0, 0.0)
        units = about["units"] if about["step"] else "pixel"
        dims = ("line", "row", "col")[-values.ndim :]
        coords: dict[str, Any] = {"line": list(about["lines"])} if values.ndim == 3 else {}
        for axis, count, start, size in zip(("row", "col"), values.shape[-2:], origin, step, strict=True):
            coords[axis] = (axis, start + size * np.arange(count), {"units": units})
        attrs = {
            "run": self.uid,
            "kind": kind,
            "units": "counts" if about["kind"] == "counts" else "fitted area",
            "version": version,
        }
        with extra("client", "maps as xarray"):
            import xarray as xr  # it brings pandas, which stop_at_snr does without
        return xr.DataArray(values, dims=dims, coords=coords, name=f"{line or ''} {kind}".strip(), attrs=attrs)

    def units(self) -> dict[str, dict[str, Any]]:
        """Return how counts become other units, by unit: factors, detection limits, warnings, or why there is none."""
        return {one["units"]: one for one in self._client.get(f"runs/{self.uid}/units")["data"]}

    def evidence(self) -> dict[str, dict[str, Any]]:
        """Return the evidence (verdict, dwell gain, checks) by line; empty before the first rows."""
        data = self._client.get(f"runs/{self.uid}/evidence")["data"]
        return {line["line"]: line for line in data["lines"]} if data else {}

    def advice(self, snr: float = 10.0) -> dict[str, dict[str, Any]]:
        """Return how long to count for a wanted SNR, by line."""
        data = self._client.get(f"runs/{self.uid}/advice", snr=snr)["data"]
        return {line["line"]: line for line in data["lines"]} if data else {}

    def history(self) -> list[dict[str, Any]]:
        """Return earlier states of the maps, oldest first."""
        return [item["attributes"] for item in self._client.get(f"runs/{self.uid}/history")["data"]]

    def wait(self, *, refined: bool = False, timeout_s: float = 600.0, every_s: float = 0.5) -> Run:
        """Return the run as it is when it has its final maps.

        Parameters
        ----------
        refined
            Wait for the refined maps, which are made when no run is live.

        Raises
        ------
        FailedError
            The run has no such maps in time, or has ended without them; the message says why.
        """
        limit, now = time.monotonic() + timeout_s, self.refresh()
        while True:
            if now._has_maps(refined):
                return now
            if time.monotonic() > limit:
                denoise, wanted = now.attributes["denoise"], "refined" if refined else "final"
                why = f"the denoiser is {denoise['state']!r}" + (f", {denoise['reason']}" if denoise["reason"] else "")
                raise FailedError(f"run {self.uid} has no {wanted} maps after {timeout_s:g} s: {why}")
            time.sleep(every_s)
            now = self.refresh()

    def _has_maps(self, refined: bool) -> bool:
        """Return whether the wanted maps are there; raise when they do not come by waiting."""
        denoise, damage = self.attributes["denoise"], self.attributes.get("damage")
        if damage:
            raise FailedError(f"run {self.uid} has no maps to wait for: {damage}")
        if self.attributes["state"] == "unusable":
            raise FailedError(f"run {self.uid} has no maps: {self.attributes['reason']}")
        if not self.attributes["ended"]:  # what failed is tried again while rows come
            return False
        if denoise["state"] == "failed":
            raise FailedError(f"run {self.uid} has no denoised maps: {denoise['reason']}")
        if refined and denoise["state"] == "final" and not denoise["refined"] and denoise.get("unrefined"):
            raise FailedError(f"run {self.uid} has no refined maps: {denoise['unrefined']}")
        return denoise["state"] == "final" and (denoise["refined"] or not refined)

    def follow(self) -> Iterator[dict[str, Any]]:
        """Yield the events of this run until it has its final maps or is deleted; fetch :meth:`maps` on ``map``.

        Over a restart of the service it goes on after the last event.
        """
        over: bool | None = None
        for event in self._client.events(self.uid):
            yield event
            if event["type"] in ("hello", "map", "run", "reset") or over is None:
                over = self._is_over()
            if over:
                return

    def _is_over(self) -> bool | None:
        """Return whether nothing more comes; None when the service does not answer at the moment."""
        try:
            now = self.refresh().attributes
        except NotFoundError:
            return True
        except QuietbeamError:
            return None
        return now["ended"] and now["denoise"]["state"] in ("final", "failed")

    def stream(self, kind: str = "denoised", *, start: int | None = None) -> Iterator[xr.DataArray]:
        """Yield maps (line, row, col) as they change, over a websocket, until the run has its final ones.

        Parameters
        ----------
        start
            First version that is wanted; 0: all that are kept; None: from now on.
        """
        about = self.refresh().attributes
        start = about["maps_version"] + 1 if start is None else start
        for version, values in stream_maps(self._client, self.uid, kind, start):
            yield self._labelled(values, kind, None, version, about)

    def denoise_again(self, *, weights: str | None = None, budget_s: float | None = None) -> ActionHandle:
        """Denoise a finished run again: with other weights, or with more seconds of fine-tuning."""
        return self._client.request_action(
            "POST", f"runs/{self.uid}/denoise", {"weights": weights, "budget_s": budget_s}
        )

    def pin(self) -> ActionHandle:
        """Keep the run from being deleted."""
        return self._client.request_action("PUT", f"runs/{self.uid}/pin")

    def unpin(self) -> ActionHandle:
        """Unpin the run: allow its automatic deletion."""
        return self._client.request_action("DELETE", f"runs/{self.uid}/pin")

    def delete(self) -> ActionHandle:
        """Delete the run for good, in Tiled too."""
        return self._client.request_action("DELETE", f"runs/{self.uid}")

"""What must hold of a run when everything is calm: every count, and one version of its maps everywhere."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from quietbeam.beamline.truth import Truth
from quietbeam.buffer import RunBuffer
from quietbeam.core.errors import QuietbeamError
from quietbeam.core.model.types import RunState
from quietbeam.core.wire import runs

from .site import Site

KINDS = ("raw", "denoised", "uncertainty")
PATIENCE_S = 60.0
Maps = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What became of the pixels of runs.

    Attributes
    ----------
    pixels
        Measured by the simulator.
    lost, extra, wrong
        Of these: not there; there although they were never measured; there with other counts, as doubled ones have.
    """

    pixels: int = 0
    lost: int = 0
    extra: int = 0
    wrong: int = 0

    def __add__(self, other: Compared) -> Compared:
        return Compared(
            pixels=self.pixels + other.pixels,
            lost=self.lost + other.lost,
            extra=self.extra + other.extra,
            wrong=self.wrong + other.wrong,
        )

    def violations(self) -> list[str]:
        """Return sentences; empty when every count is as it was measured."""
        found = {"lost": self.lost, "there, and never measured": self.extra, "with other counts": self.wrong}
        return [f"{n} pixels {what}" for what, n in found.items() if n]


class Verifier:
    """Compares runs of an installation with what was measured, and zarr with REST and Tiled."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._tiled = httpx.Client(
            base_url=site.settings.tiled_uri,
            headers={"Authorization": f"Apikey {site.settings.tiled_api_key()}"},
            timeout=30,
            trust_env=False,
        )
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{site.settings.serve.port}/api/v1",
            headers={"Authorization": f"Apikey {site.settings.serve_api_key()}"},
            timeout=30,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._tiled.close()

    def compare(self, uid: str) -> tuple[list[str], Compared]:
        """Return what is wrong with a run, waiting for its final maps, and what became of its pixels."""
        try:
            truth = Truth.load(self._site.truths / f"{uid}.npz")
        except QuietbeamError as error:
            return [f"run {uid}: {error}"], Compared()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                wrong = self._state(uid) or self._maps(uid)
            except (QuietbeamError, httpx.HTTPError, OSError, KeyError, ValueError) as error:
                wrong = [f"cannot be read: {type(error).__name__}: {error}"]
            if not wrong or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        compared = Compared()
        try:
            compared = compare_counts(RunBuffer.open(self._site.settings.runs_dir, uid), truth)
        except QuietbeamError as error:
            wrong.append(f"counts cannot be read: {error}")
        return [f"run {uid}: {text}" for text in (*wrong, *compared.violations())], compared

    def _state(self, uid: str) -> list[str]:
        status = runs.read_status(self._site.redis, uid)
        if status is None:
            return ["Redis does not know it"]
        found = []
        if status.state is not RunState.COMPLETE:
            found.append(f"is {status.state.value}, not complete: {status.reason}")
        if status.denoise_state != "final":
            found.append(f"maps are {status.denoise_state}, not final: {status.denoise_reason}")
        if status.publish_state != "final":
            found.append(f"in Tiled it is {status.publish_state}, not final: {status.publish_reason}")
        return found

    def _maps(self, uid: str) -> list[str]:
        buffer = RunBuffer.open(self._site.settings.runs_dir, uid)
        before = buffer.map_attributes()
        zarr = {kind: buffer.read_map(kind) for kind in KINDS}  # type: ignore[arg-type]
        tiled = {kind: self._in_tiled(uid, kind, zarr[kind].shape) for kind in KINDS}
        rest = {kind: self._rest(uid, kind) for kind in KINDS}
        status = runs.read_status(self._site.redis, uid) or runs.RunStatus(uid=uid)
        published = self._get(self._tiled, f"/metadata/{self._site.settings.tiled.root}/{uid}").json()
        published = published["data"]["attributes"]["metadata"].get("published", {})
        versions = {
            "zarr": before.get("version"),
            "Redis": status.maps_version,
            "Tiled": published.get("version"),
            "zarr a moment later": buffer.map_attributes().get("version"),
        }
        found = []
        if len(set(versions.values())) != 1:
            found.append("versions differ: " + ", ".join(f"{name} {number}" for name, number in versions.items()))
        if not before.get("final") or not published.get("final"):
            found.append(f"final is {before.get('final')} in zarr and {published.get('final')} in Tiled")
        return found + maps_differ(zarr, tiled, "Tiled") + maps_differ(zarr, rest, "REST")

    def _rest(self, uid: str, kind: str) -> npt.NDArray[Any]:
        answer = self._get(self._http, f"/runs/{uid}/maps/{kind}", format="npy")
        values: npt.NDArray[Any] = np.load(io.BytesIO(answer.content), allow_pickle=False)
        return values

    def _in_tiled(self, uid: str, kind: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        path = f"/array/full/{self._site.settings.tiled.root}/{uid}/{kind}"
        answer = self._get(self._tiled, path, format="application/octet-stream")
        return np.frombuffer(answer.content, np.dtype("<f4")).reshape(shape)

    @staticmethod
    def _get(client: httpx.Client, path: str, **parameters: str) -> httpx.Response:
        answer = client.get(path, params=parameters)
        answer.raise_for_status()
        return answer


def compare_counts(buffer: RunBuffer, truth: Truth) -> Compared:
    """Compare the counts of a run with what was measured.

    Raises
    ------
    DamagedRunError
        They cannot be read.
    """
    if (buffer.info.lines, buffer.info.detectors) != (truth.lines, truth.detectors):
        return Compared(lost=int(truth.measured.sum()))
    measured, counts = buffer.measured(), buffer.read_counts()
    return Compared(
        pixels=int(truth.measured.sum()),
        lost=int(np.count_nonzero(truth.measured & ~measured)),
        extra=int(np.count_nonzero(measured & ~truth.measured)),
        wrong=int(np.count_nonzero((counts != truth.counts).any((0, 1)) & measured & truth.measured)),
    )


def maps_differ(zarr: Maps, other: Maps, where: str) -> list[str]:
    """Return which maps differ between zarr and another place; not measured is 0 or NaN."""
    return [
        f"{kind} in {where} is not that in zarr"
        for kind in zarr
        if not np.array_equal(np.nan_to_num(zarr[kind]), np.nan_to_num(other[kind]))
    ]


def copy_evidence(site: Site, uids: list[str], target: Path) -> None:
    """Keep the logs, and the files of runs in which something is wrong."""
    import shutil

    shutil.copytree(site.settings.data_dir / "logs", target / "logs", dirs_exist_ok=True)
    for uid in uids:
        if (site.settings.runs_dir / uid).is_dir():
            shutil.copytree(site.settings.runs_dir / uid, target / "runs" / uid, dirs_exist_ok=True)

"""Pictures of maps that go wrong: one scan, sent through ingest with what beamlines leave out, as the API draws it."""

from __future__ import annotations

import io
import tempfile
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image, ImageDraw

from quietbeam.beamline.specimen import make_specimen
from quietbeam.core.model.display import orientation_of
from quietbeam.files import read_map
from quietbeam.ingest.offline import ingest_recorded
from quietbeam.ingest.profile import load_profile
from quietbeam.serve.render.colormaps import Colouring, draw_png

SHAPE = (48, 64)
ZOOM, MARGIN, CAPTION = 5, 14, 118
PANELS_IN_A_ROW = 3


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way in which a scan arrives.

    Attributes
    ----------
    title
        What the picture shows.
    start
        Entries of the start document that differ.
    geometry
        Entries of the beamline profile that differ.
    readings
        False: no positions come with the counts.
    bad
        (row, col) where the detector gave NaN.
    rows
        Rows that were measured.
    """

    title: str
    start: Mapping[str, Any] = field(default_factory=dict)
    geometry: Mapping[str, Any] = field(default_factory=dict)
    readings: bool = True
    bad: tuple[tuple[int, int], ...] = ()
    rows: int = SHAPE[0]


CASES = (
    Case(title="The scan snakes, the plan says so"),
    Case(title="The plan does not say so, no positions", start={"snaking": [False, False]}, readings=False),
    Case(title="The plan does not say so, motors are read", start={"snaking": [False, False]}),
    Case(title="Rows and columns exchanged, no positions", start={"shape": SHAPE[::-1]}, readings=False),
    Case(title="geometry.display: {vertical: up}", geometry={"display": {"vertical": "up"}}),
    Case(
        title="NaN in some pixels, stopped in row 36",
        bad=tuple((r, c) for r in range(6, 30, 6) for c in range(5, 60, 9)),
        rows=37,
    ),
)


def counts() -> npt.NDArray[np.int64]:
    """Return counts (row, col) of a specimen without any symmetry."""
    density = make_specimen("cell", ("Zn_Ka",), SHAPE, seed=2).areal_density[0]
    rng = np.random.default_rng(0)
    return rng.poisson(4 + 120 * density / density.max())


def documents(case: Case, picture: npt.NDArray[np.int64]) -> list[tuple[str, dict[str, Any]]]:
    """Return the documents of the scan, an Event for each row."""
    start = {
        "uid": "run",
        "time": 0.0,
        "shape": list(SHAPE),
        "snaking": [False, True],
        "extents": [[0, SHAPE[0] - 1], [0, SHAPE[1] - 1]],
        "hints": {"dimensions": [[["sample_y"], "primary"], [["sample_x"], "primary"]]},
        **case.start,
    }
    keys = ["det1_Zn_Ka", *(["sample_y", "sample_x"] if case.readings else [])]
    entry = {"dtype": "array", "shape": [SHAPE[1]], "source": "example", "units": "um"}
    descriptor = {"uid": "d", "run_start": "run", "name": "primary", "time": 0.0}
    docs: list[tuple[str, dict[str, Any]]] = [
        ("start", start),
        ("descriptor", descriptor | {"data_keys": dict.fromkeys(keys, entry)}),
    ]
    number = 0
    for row in range(case.rows):
        cols = np.arange(SHAPE[1])[:: -1 if row % 2 else 1]
        for col in cols[: SHAPE[1] // 2] if row == case.rows - 1 < SHAPE[0] - 1 else cols:
            number += 1
            value = np.nan if (row, int(col)) in case.bad else float(picture[row, col])
            data = {"det1_Zn_Ka": value, "sample_y": float(row), "sample_x": float(col)}
            event = {"uid": str(number), "descriptor": "d", "seq_num": number, "time": 0.0}
            docs.append(("event", event | {"data": {key: data[key] for key in keys}}))
    status = "success" if case.rows == SHAPE[0] else "abort"
    return [*docs, ("stop", {"uid": "s", "run_start": "run", "time": 1.0, "exit_status": status, "num_events": {}})]


def panel(case: Case, picture: npt.NDArray[np.int64]) -> Image.Image:
    """Return the map as dashboard and API draw it, above what the run says."""
    geometry = {"shape": {"start": "shape"}, "snake": {"start": "snaking"}, "extents": {"start": "extents"}}
    profile = {"name": "example", "counts": {"keys": r"^(?P<detector>det\d)_(?P<line>\w+)$"}}
    with tempfile.TemporaryDirectory(prefix="qb-order-") as folder:
        path = Path(folder) / "example.yaml"
        path.write_text(yaml.safe_dump(profile | {"geometry": geometry | dict(case.geometry)}))
        run, _ = ingest_recorded(documents(case, picture), "run", [load_profile(path)], [], Path(folder))
        assert run.buffer is not None
        assert run.info is not None
        found = read_map(run.buffer.path)
    measured = np.ones(run.info.shape, bool) if found.measured is None else found.measured
    raw = orientation_of(run.info).apply(np.where(measured, found.counts[0, 0], np.nan))
    high = float(np.nanpercentile(raw, 99.5))
    drawn = Image.open(
        io.BytesIO(draw_png(raw, Colouring(cmap="viridis", scale="linear", vmin=0, vmax=high, zoom=ZOOM)))
    )
    size = SHAPE[1] * ZOOM, SHAPE[0] * ZOOM
    sheet = Image.new("RGB", (size[0] + 2 * MARGIN, size[1] + MARGIN + CAPTION), "white")
    drawn.thumbnail(size, Image.Resampling.NEAREST)
    sheet.paste(drawn.convert("RGB"), (MARGIN + (size[0] - drawn.width) // 2, MARGIN))
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, size[1] + MARGIN + 8), case.title, fill="black", font_size=16)
    warning = f"; {run.warnings[-1]}" if run.warnings else ""
    told = textwrap.wrap(f"order: {run.info.order.value}, {run.state.value}{warning}", 52)[:4]
    pen.text((MARGIN, size[1] + MARGIN + 32), "\n".join(told), fill="#444", font_size=13)
    return sheet


def main(images: Path) -> None:
    """Lay the cases on one sheet."""
    picture = counts()
    panels = [panel(case, picture) for case in CASES]
    width, height = panels[0].size
    sheet = Image.new("RGB", (PANELS_IN_A_ROW * width, -(-len(panels) // PANELS_IN_A_ROW) * height), "white")
    for number, drawn in enumerate(panels):
        row, col = divmod(number, PANELS_IN_A_ROW)
        sheet.paste(drawn, (col * width, row * height))
    sheet.quantize(192).save(images / "order.png", optimize=True)
